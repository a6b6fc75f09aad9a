// npm `ws`, `eventsource` and `cloudevents` on topics: what CloudEvents publish, the others read, live and again.
import assert from "node:assert/strict";
import { once } from "node:events";
import { CloudEvent, HTTP } from "cloudevents";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const [server] = process.argv.slice(2);
const events = `${server}/api/v1/topics/shop.orders/events?org_id=acme`;
const COUNT = 40;

/// A connection whose frames are read one by one.
async function connect() {
  const socket = new WebSocket(`${server.replace("http", "ws")}/ws/connect?org_id=acme`);
  const [frames, waiting] = [[], []];
  socket.on("message", (data, isBinary) => {
    assert.equal(isBinary, false);
    const frame = JSON.parse(data);
    waiting.length ? waiting.shift()(frame) : frames.push(frame);
  });
  await once(socket, "open");
  const next = () => (frames.length ? Promise.resolve(frames.shift()) : new Promise((done) => waiting.push(done)));
  assert.equal((await next()).type, "connected");
  return { socket, next, send: (frame) => socket.send(JSON.stringify(frame)) };
}

const live = await connect();
live.send({ type: "subscribe", topics: ["shop.*"], id: "1" });
const subscribed = await live.next();
assert.deepEqual([subscribed.type, subscribed.id], ["subscribed", "1"]);
const source = new EventSource(`${server}/api/v1/subscribe?org_id=acme&topics=shop.*&after=earliest`);
const bySse = [];
const enough = new Promise((done) => {
  source.addEventListener("com.example.order", (event) => {
    bySse.push([event.lastEventId, JSON.parse(event.data).cloudevent.id]);
    if (bySse.length === COUNT) done();
  });
});

const ids = [];
for (let n = 0; n < COUNT; n++) {
  const event = new CloudEvent({ id: `n-${n}`, source: "/interop", type: "com.example.order", data: { n, text: "é€😀" } });
  const { headers, body } = n % 2 ? HTTP.binary(event) : HTTP.structured(event);
  const answer = await fetch(events, { method: "POST", headers, body });
  assert.equal(answer.status, 201, await answer.clone().text());
  // Sent again, it is the same event.
  const again = await fetch(events, { method: "POST", headers, body });
  assert.deepEqual(await again.json(), await answer.json());
  ids.push(event.id);
}
const seen = [];
for (let n = 0; n < COUNT; n++) {
  const frame = await live.next();
  assert.equal(frame.type, "message");
  const event = new CloudEvent(frame.cloudevent);
  assert.deepEqual([event.data.n, event.data.text], [n, "é€😀"]);
  seen.push([frame.place, event.id]);
}
assert.deepEqual(seen.map(([, id]) => id), ids);
await enough;
source.close();
assert.deepEqual(bySse, seen, "both have the same events under the same places");

// Cut anywhere, it goes on.
const middle = await connect();
middle.send({ type: "resume", topic: "shop.*", after: seen[COUNT / 2 - 1][0] });
assert.equal((await middle.next()).type, "subscribed");
for (let n = COUNT / 2; n < COUNT; n++) assert.equal((await middle.next()).place, seen[n][0]);

// What breaks the protocol or is no JSON is told, and a close is answered.
middle.socket.send("no JSON");
assert.equal((await middle.next()).code, "not_json");
middle.socket.ping("x");
assert.equal((await once(middle.socket, "pong"))[0].toString(), "x");
middle.socket.close(4000, "done");
assert.equal((await once(middle.socket, "close"))[0], 4000);
live.socket.send(Buffer.from([1, 2, 3]));
assert.equal((await once(live.socket, "close"))[0], 1003);
console.log(`${COUNT} CloudEvents by ws and eventsource`);
process.exit(0);
