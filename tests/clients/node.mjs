// The six calls by a client for Node: DRIVER is `segment`, `legacy` or `rudder`; it is found in the working directory.
//
//     node node.mjs DRIVER HOST CALLS
//
// "posting" is printed before anything is sent. The process ends when nothing is left to send; a client that gives up
// ends it with 1.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [driver, host, callsFile] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/`);
const calls = JSON.parse(readFileSync(callsFile, "utf8"));
const { writeKey, userId } = calls;

function gaveUp(error) {
  console.error("gave up:", error);
  process.exitCode = 1;
}

// More than the 3 of these two, whose patience would be 1.4 seconds: the machine may be busy with other tests.
const retryCount = 6;

const clients = {
  segment() {
    const { Analytics } = require("@segment/analytics-node");
    const client = new Analytics({ writeKey, host, flushInterval: 200 });
    client.on("error", gaveUp);
    return { client, end: () => client.closeAndFlush({ timeout: 50_000 }) };
  },
  legacy() {
    const Analytics = require("analytics-node");
    const client = new Analytics(writeKey, { host, flushInterval: 200, retryCount, errorHandler: gaveUp });
    return { client, end: () => client.flush() };
  },
  rudder() {
    const Analytics = require("@rudderstack/rudder-sdk-node");
    const client = new (Analytics.default ?? Analytics)(writeKey, {
      dataPlaneUrl: host,
      flushInterval: 200,
      retryCount,
      errorHandler: gaveUp,
    });
    return { client, end: () => client.flush() };
  },
};

const { client, end } = clients[driver]();
console.log("posting");
for (const call of ["identify", "track", "page", "screen", "group", "alias"]) {
  client[call]({ userId, ...calls[call] });
}
await end();
