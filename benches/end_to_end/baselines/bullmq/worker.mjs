// node worker.mjs REDIS_PORT STAND_IN
import { Worker } from 'bullmq';
import { Pool } from 'undici';

const pool = new Pool(`http://${process.argv[3]}`, { connections: 128 });
const connection = { host: '127.0.0.1', port: Number(process.argv[2]), maxRetriesPerRequest: null };
new Worker(
  'events',
  async ({ data: event }) => {
    const { body } = await pool.request({
      method: 'POST',
      path: '/rest/v1/learn/event?org_token=made-up-org-token',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        eventName: event.event,
        eventval: event.properties ?? {},
        eventCategory: 'EXTERNAL',
        userId: event.userId ?? event.anonymousId,
        is_active: true,
        source: 'web',
      }),
    });
    await body.dump();
  },
  { connection, concurrency: 128 },
);
