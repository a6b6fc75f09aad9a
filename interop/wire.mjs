// An agent that streams random events, and npm `eventsource-parser` and PyPI `httpx-sse` that read what the broker
// makes of them: both must see what the agent meant, and nothing that it could not mean.
import { spawnSync } from "node:child_process";
import { createServer } from "node:http";
import { createParser } from "eventsource-parser";

const [server, port, python] = process.argv.slice(2);
const EVENTS = 300;

/** Numbers from a seed (mulberry32), so that a run can be repeated. */
function numbers(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

const next = numbers(20261121);
const pick = (from) => from[Math.floor(next() * from.length)];
const PIECES = ["a", " ", "\u0000", "\u2028", "\u2029", "\u0085", "\ufeff", "é", "😀", ":", "data: x", "id: 9-9", "event: done", "retry: 1", "\n", "\\n", "\t", '"', "{", "}"];
const text = (most) => Array.from({ length: Math.floor(next() * most) }, () => pick(PIECES)).join("");
const event = () => {
  const data = next() < 0.5 ? JSON.stringify({ text: text(12) }) : `x${text(12)}`;
  return { event: pick([undefined, "progress", "tool:call", "done ", "ärger"]), data };
};
const meant = Array.from({ length: EVENTS }, event);
const written = meant.map(({ event, data }) =>
  (event ? `event: ${event}\n` : "") + data.split("\n").map((line) => `data: ${line}\n`).join("") + "\n");

const agent = createServer((request, answer) => {
  request.resume();
  answer.setHeader("Content-Type", "text/event-stream");
  answer.end(`${written.join("")}data: {"type":"complete","response":{"responses":["done"]}}\n\n`);
});
await new Promise((listening) => agent.listen(Number(port), "127.0.0.1", listening));

const sent = await fetch(`${server}/api/v1/message`, {
  method: "POST",
  headers: { "Content-Type": "application/json", Prefer: "respond-async" },
  body: JSON.stringify({ org_id: "interop", user_id: "wire", client_id: "web", message: "hello" }),
});
const { message_id } = await sent.json();
const wire = await (await fetch(`${server}/api/v1/stream?user_id=wire&message_id=${message_id}`)).text();
agent.close();

const byNpm = [];
createParser({ onEvent: ({ id, event, data }) => byNpm.push([id ?? "", event ?? "message", data]) }).feed(wire);
const read = spawnSync(python, ["wire.py"], { input: wire, encoding: "utf8", maxBuffer: 1 << 28 });
if (read.status !== 0) throw new Error(read.stderr);
const byPython = JSON.parse(read.stdout);

/** The agent's events only: what the broker adds has names of its own, or is the end. */
const agents = (events) => events.filter(([, name, data]) => data && !["queued", "position", "processing", "done"].includes(name)).slice(0, EVENTS);
const expected = meant.map(({ event, data }) => [event ?? "message", data]);
for (const [name, events] of [["eventsource-parser", byNpm], ["httpx-sse", byPython]]) {
  const seen = agents(events);
  seen.forEach(([, ...rest], n) => {
    if (JSON.stringify(rest) !== JSON.stringify(expected[n])) {
      throw new Error(`${name} read event ${n} as ${JSON.stringify(rest)}, not as ${JSON.stringify(expected[n])}`);
    }
  });
  if (seen.length !== EVENTS) throw new Error(`${name} read ${seen.length} events of ${EVENTS}`);
  const ids = seen.map(([id]) => id);
  if (new Set(ids).size !== EVENTS || !ids.every((id) => /^\d+-\d+$/.test(id))) throw new Error(`${name}: ids ${ids}`);
}
console.log(`${EVENTS} random events, read alike by both and as the agent meant them`);
