// Submits a message whose answer is streamed in many small parts.

export const PARTS = 8;
export const TEXT = `hello [[events=${PARTS} gap=30]]`;

/** Submits it; the address of its stream, at this server and at another. */
export async function submit(server, user) {
  const sent = await fetch(`${server}/api/v1/message`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Prefer: "respond-async" },
    body: JSON.stringify({ org_id: "interop", user_id: user, client_id: "web", message: TEXT }),
  });
  if (!sent.ok) throw new Error(`not accepted: ${sent.status} ${await sent.text()}`);
  const { message_id } = await sent.json();
  return (base) => `${base}/api/v1/stream?user_id=${user}&message_id=${message_id}`;
}

/** Reads a stream to its end with a class that keeps to the interface of EventSource; what is stored of it. */
export function read(EventSource, url) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(url);
    const events = [];
    const note = ({ type, lastEventId, data }) => events.push({ type, lastEventId, data });
    for (const name of ["message", "done", "cancelled", "gap"]) source.addEventListener(name, note);
    source.addEventListener("error", (event) => {
      if (event.data !== undefined) note(event);
      if (source.readyState === source.CLOSED) resolve(events);
    });
    setTimeout(() => reject(new Error(`no end after ${JSON.stringify(events)}`)), 50_000).unref?.();
  });
}

/** Fails unless both readings are the whole answer, in order, each event once. */
export function compare(cut, whole) {
  const ids = whole.map(({ lastEventId }) => lastEventId);
  const names = whole.map(({ type }) => type).join(" ");
  const expected = [...Array(PARTS + 1).fill("message"), "done"].join(" ");
  if (names !== expected) throw new Error(`not the whole answer: ${names}`);
  if (new Set(ids).size !== ids.length || ids.includes("")) throw new Error(`ids are not unique: ${ids}`);
  if (JSON.stringify(cut) !== JSON.stringify(whole)) {
    throw new Error(`the cut reading differs:\n${JSON.stringify(cut)}\nfrom the whole one:\n${JSON.stringify(whole)}`);
  }
  console.log(`${whole.length} events, the same when cut at each, and an end`);
}
