// An agent: POST /api/v1/chat answers JSON, POST /api/v1/chat/stream answers SSE.
import { createServer } from "node:http";

const agent = async (request, response) => {
  const body = await request.toArray();
  const words = `You said: ${JSON.parse(Buffer.concat(body)).message}`.split(" ");
  if (request.url.endsWith("/stream")) {
    response.setHeader("Content-Type", "text/event-stream");
    for (const text of words) response.write(`data: ${JSON.stringify({ text })}\n\n`);
    return response.end();
  }
  response.setHeader("Content-Type", "application/json");
  response.end(JSON.stringify({ responses: [words.join(" ")], response_language: "en" }));
};

createServer(agent).listen(Number(process.env.PORT ?? 3000), "127.0.0.1");
