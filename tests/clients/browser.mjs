// The six calls by the browser client in jsdom, both from the working directory. STRATEGY is `single` or `batching`.
//
//     node browser.mjs STRATEGY HOST CALLS
//
// The requests are made by Node's own fetch: what a browser's same-origin policy asks for is no part of this.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [strategy, host, callsFile] = process.argv.slice(2);
const require = createRequire(`${process.cwd()}/`);
const calls = JSON.parse(readFileSync(callsFile, "utf8"));
const { userId, identify, track, page, screen, group, alias } = calls;

const { JSDOM } = require("jsdom");
const { window } = new JSDOM("<!doctype html><title>Kurtas</title>", {
  url: "https://shop.example.com/c/kurtas",
  pretendToBeVisual: true,
});
// The client's timers would keep the process for ever: like a tab, it is closed, once all six are answered.
let answered = 0;
const send = fetch;
globalThis.fetch = window.fetch = async (url, init) => {
  const answer = await send(url, init);
  if (answer.ok) answered += JSON.parse(init.body).batch?.length ?? 1;
  if (answered === 6) setImmediate(() => process.exit(0));
  return answer;
};
for (const name of ["window", "document", "navigator", "location", "localStorage", "sessionStorage"]) {
  const value = name === "window" ? window : window[name];
  Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
}

const { AnalyticsBrowser } = require("@segment/analytics-next");
const batching = { strategy: "batching", config: { size: 6, timeout: 1_000 } };
const [client] = await AnalyticsBrowser.load({
  writeKey: calls.writeKey,
  cdnSettings: {
    // Segment's figures about the client itself, which would go to Segment.
    metrics: { sampleRate: 0 },
    integrations: {
      "Segment.io": {
        apiKey: calls.writeKey,
        apiHost: `${new URL(host).host}/v1`,
        protocol: "http",
        ...(strategy === "batching" && { deliveryStrategy: batching }),
      },
    },
  },
});

console.log("posting");
await client.identify(userId, identify.traits);
await client.track(track.event, track.properties, { integrations: track.integrations });
await client.page(page.category, page.name, page.properties);
await client.screen(screen.name, screen.properties);
await client.group(group.groupId, group.traits);
await client.alias(userId, alias.previousId);
