// An agent that streams: POST /api/v1/chat answers JSON, POST /api/v1/chat/stream answers SSE.
import { createServer } from "node:http";

createServer(async (request, response) => {
  if (request.method === "GET") return response.end(); // /health: Turnwise asks whether the agent is up
  const chat = JSON.parse(Buffer.concat(await request.toArray()));
  const answer = { responses: [`You said: ${chat.message}`], response_language: "en" };
  if (request.url !== "/api/v1/chat/stream") {
    response.setHeader("Content-Type", "application/json");
    return response.end(JSON.stringify(answer));
  }
  response.setHeader("Content-Type", "text/event-stream");
  const parts = answer.responses[0].split(" ").map((word) => ({ text: `${word} ` }));
  for (const part of [...parts, { type: "complete", response: answer }]) {
    response.write(`data: ${JSON.stringify(part)}\n\n`);
  }
  response.end();
}).listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
