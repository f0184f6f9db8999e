"""The six calls by a client for Python, found on PYTHONPATH.

    python3 python.py DRIVER HOST CALLS        DRIVER is segment, segment-gzip or rudder

"posting" is printed before anything is sent. A client that gives up ends the process with 1.
"""

import json
import sys

driver, host, calls_file = sys.argv[1:]
with open(calls_file, encoding="utf-8") as file:
    calls = json.load(file)
user, track, page = calls["userId"], calls["track"], calls["page"]
screen, group = calls["screen"], calls["group"]

if driver == "rudder":
    from rudderstack.analytics.client import Client
else:
    from segment.analytics.client import Client

gave_up = []
client = Client(
    calls["writeKey"],
    host=host,
    gzip=driver == "segment-gzip",
    upload_interval=0.1,
    on_error=lambda error, items: gave_up.append(error),
)
print("posting", flush=True)
client.identify(user, calls["identify"]["traits"])
client.track(user, track["event"], track["properties"], integrations=track["integrations"])
client.page(user, page["category"], page["name"], page["properties"])
client.screen(user, name=screen["name"], properties=screen["properties"])
client.group(user, group["groupId"], group["traits"])
client.alias(calls["alias"]["previousId"], user)
# Both: the queue is empty and the thread that sends has ended.
client.shutdown()
if gave_up:
    sys.exit(f"gave up: {gave_up}")
