// Segment's webhook actions, from the packages in the working directory (segment.md 7.2).
//
//     node actions.cjs JOBS
//
// JOBS is a JSON list of {destination, events, batch, settings, mapping}. For each, one line of JSON is printed: the
// statuses that Segment would record, one for each event, or the one status (or message) of the error for all of them.
// A job with `audience` instead of events creates that audience and looks it up; its line has both ids.

const { createRequire } = require("node:module");
const require_here = createRequire(`${process.cwd()}/`);
const { Destination } = require_here("@segment/actions-core");

async function ids({ destination, audience, settings }) {
  const action = new Destination(require_here(`./package/dist/destinations/${destination}`).default);
  const audienceSettings = { extras: '{"region":"in"}' };
  const created = await action.createAudience({ settings, audienceSettings, audienceName: audience });
  const found = await action.getAudience({ settings, audienceSettings, externalId: created.externalId });
  return [created.externalId, found.externalId];
}

async function statuses({ destination, events, batch, settings, mapping }) {
  const definition = require_here(`./package/dist/destinations/${destination}`).default;
  const subscription = { subscribe: 'type = "track"', partnerAction: "send", mapping };
  const action = new Destination(definition);
  try {
    if (!batch) {
      await action.onEvent(events[0], { ...settings, subscription });
      return [200];
    }
    const [{ multistatus }] = await action.onBatch(events, { ...settings, subscription });
    return multistatus.map((each) => each.status);
  } catch (error) {
    return [error.response?.status ?? String(error)];
  }
}

(async () => {
  for (const job of JSON.parse(process.argv[2])) {
    console.log(JSON.stringify(await (job.audience ? ids(job) : statuses(job))));
  }
})();
