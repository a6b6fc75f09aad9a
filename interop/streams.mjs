// npm `@durable-streams/client` with a key for one organisation: a producer writes in batches, a reader that knows
// only the protocol goes on from where it was, and what was forked reads as one.
import assert from "node:assert/strict";
import { DurableStream, IdempotentProducer, stream } from "@durable-streams/client";

const [server, key] = process.argv.slice(2);
const headers = { Authorization: `Bearer ${key}` };
const url = (name) => `${server}/streams/interop/${name}`;
const COUNT = 500;

const handle = await DurableStream.create({ url: url("numbers"), contentType: "application/json", headers });
const wrong = [];
const producer = new IdempotentProducer(handle, "interop", { onError: (error) => wrong.push(error) });
for (let n = 0; n < COUNT; n += 1) producer.append(JSON.stringify({ n }));
await producer.flush();
assert.deepEqual(wrong, []);

// Half of it, then on from there with another reader, as it comes.
const numbers = [];
const first = await stream({ url: url("numbers"), headers, live: false, offset: "-1" });
const items = await first.json();
numbers.push(...items.map((item) => item.n));
const offset = first.offset;
const rest = (live) =>
  new Promise((resolve, reject) => {
    const seen = [];
    stream({ url: url("numbers"), headers, live, offset }).then((response) => {
      response.subscribeJson(async (batch) => {
        seen.push(...batch.items.map((item) => item.n));
        if (seen.length >= COUNT) {
          response.cancel();
          resolve(seen);
        }
      });
    }, reject);
  });
const readers = [rest("long-poll"), rest("sse")];
for (let n = COUNT; n < 2 * COUNT; n += 1) producer.append(JSON.stringify({ n }));
await producer.flush();
assert.deepEqual(wrong, []);
const second = Array.from({ length: COUNT }, (_, n) => COUNT + n);
for (const seen of await Promise.all(readers)) assert.deepEqual(seen, second);
assert.deepEqual(numbers, Array.from({ length: COUNT }, (_, n) => n));

// A second producer of the same name takes over; the first is told.
const successor = new IdempotentProducer(handle, "interop", { epoch: 1, onError: (error) => wrong.push(error) });
successor.append(JSON.stringify({ n: 2 * COUNT }));
await successor.flush();
assert.deepEqual(wrong, []);
producer.append(JSON.stringify({ n: -1 }));
await producer.flush().catch(() => {});
assert.equal(wrong[0]?.constructor.name, "StaleEpochError");

await DurableStream.create({
  url: url("fork"),
  contentType: "application/json",
  headers: { ...headers, "Stream-Forked-From": "/streams/interop/numbers", "Stream-Fork-Offset": offset },
});
const fork = await DurableStream.connect({ url: url("fork"), headers });
await fork.append(JSON.stringify({ n: "mine" }));
const forked = await (await fork.stream({ live: false })).json();
assert.deepEqual([forked.length, forked.at(-1).n], [COUNT + 1, "mine"]);
await fork.delete();

await handle.close();
const closed = await DurableStream.head({ url: url("numbers"), headers });
assert.equal(closed.streamClosed, true);
console.log(`${2 * COUNT + 1} values written and read on by long-poll and SSE`);
