// npm `standardwebhooks` verifies a callback, by the secret of today and by the one before it.
import { createServer } from "node:http";
import { Webhook } from "standardwebhooks";

const [server, ...secrets] = process.argv.slice(2);

/** The next callback: its head and its body as they came. */
function receive() {
  return new Promise((resolve) => {
    const receiver = createServer(async (request, answer) => {
      const parts = [];
      for await (const part of request) parts.push(part);
      answer.writeHead(204).end();
      receiver.close();
      resolve({ headers: request.headers, body: Buffer.concat(parts).toString() });
    });
    receiver.listen(0, "127.0.0.1", async () => {
      const sent = await fetch(`${server}/api/v1/message`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
          org_id: "interop", user_id: "npm", client_id: "web", message: "hello",
          callback_url: `http://127.0.0.1:${receiver.address().port}/answers`,
        }),
      });
      if (!sent.ok) throw new Error(`not accepted: ${sent.status} ${await sent.text()}`);
    });
  });
}

/** Fails unless the verifier refuses it. */
function refused(what, body, headers) {
  for (const secret of secrets) {
    let verified = true;
    try { new Webhook(secret).verify(body, headers); } catch { verified = false; }
    if (verified) throw new Error(`${what} was taken for good`);
  }
}

const { headers, body } = await receive();
for (const secret of secrets) {
  const { status, responses } = new Webhook(secret).verify(body, headers);
  if (status !== "completed" || responses[0] !== "You said: hello") throw new Error(`not the answer: ${body}`);
}
refused("a changed body", body.replace("hello", "hullo"), headers);
refused("another id", body, { ...headers, "webhook-id": "another" });
const hour = new Date(Date.now() - 3_600_000);
const old = secrets.map((secret) => new Webhook(secret).sign(headers["webhook-id"], hour, body)).join(" ");
const stamp = String(Math.floor(hour.getTime() / 1000));
refused("one of an hour ago", body, { ...headers, "webhook-timestamp": stamp, "webhook-signature": old });
console.log(`verified by ${secrets.length} secrets; changed, renamed and old ones refused`);
