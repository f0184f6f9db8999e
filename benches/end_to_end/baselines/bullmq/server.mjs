// The usual durable queue of the Node world: the event is in Redis, synced to its log, before the answer.
// node server.mjs LISTEN REDIS_PORT
import { Queue } from 'bullmq';
import Fastify from 'fastify';

const [host, port] = process.argv[2].split(':');
const queue = new Queue('events', { connection: { host: '127.0.0.1', port: Number(process.argv[3]) } });
const app = Fastify({ logger: false, bodyLimit: 8 << 20 });
// No `jobId`, so no deduplication: it is the cheaper of the two.
const opts = { attempts: 5, backoff: { type: 'exponential', delay: 1000 }, removeOnComplete: true };
const isEvent = event => typeof event?.event === 'string' && typeof event.messageId === 'string';

app.post('/v1/track', async (request, reply) => {
  if (!isEvent(request.body)) return reply.code(400).send({ message: 'not an event' });
  await queue.add('event', request.body, opts);
  return { success: true };
});
app.post('/v1/batch', async (request, reply) => {
  if (!request.body.batch.every(isEvent)) return reply.code(400).send({ message: 'not an event' });
  await queue.addBulk(request.body.batch.map(data => ({ name: 'event', data, opts })));
  return { success: true };
});
await app.listen({ host, port: Number(port) });
