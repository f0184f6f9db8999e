// What a team writes itself in an afternoon: take the event, answer, forward it. Nothing is kept, ordered or retried.
// node server.mjs LISTEN STAND_IN
import Fastify from 'fastify';
import { Pool } from 'undici';

const [host, port] = process.argv[2].split(':');
const pool = new Pool(`http://${process.argv[3]}`, { connections: 128 });
const app = Fastify({ logger: false, bodyLimit: 8 << 20 });

const call = event => ({
  eventName: event.event,
  eventval: event.properties ?? {},
  eventCategory: 'EXTERNAL',
  userId: event.userId ?? event.anonymousId,
  is_active: true,
  source: 'web',
});

async function forward(event) {
  const { body } = await pool.request({
    method: 'POST',
    path: '/rest/v1/learn/event?org_token=made-up-org-token',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(call(event)),
  });
  await body.dump();
}

const isEvent = event => typeof event?.event === 'string' && typeof event.messageId === 'string';

app.post('/v1/track', async (request, reply) => {
  if (!isEvent(request.body)) return reply.code(400).send({ message: 'not an event' });
  forward(request.body).catch(error => console.error(error));
  return { success: true };
});
app.post('/v1/batch', async (request, reply) => {
  if (!request.body.batch.every(isEvent)) return reply.code(400).send({ message: 'not an event' });
  for (const event of request.body.batch) forward(event).catch(error => console.error(error));
  return { success: true };
});
await app.listen({ host, port: Number(port) });
