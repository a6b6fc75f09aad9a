"""An agent: POST /api/v1/chat answers JSON, POST /api/v1/chat/stream answers SSE."""
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self):  # /health: Turnwise asks whether the agent is up
        self.send_response(200)
        self.end_headers()

    def do_POST(self):
        chat = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = {"responses": [f"You said: {chat['message']}"], "response_language": "en"}
        stream = self.path == "/api/v1/chat/stream"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        if not stream:
            return self.wfile.write(json.dumps(answer).encode())
        parts = [{"text": word + " "} for word in answer["responses"][0].split()]
        for part in parts + [{"type": "complete", "response": answer}]:
            self.wfile.write(f"data: {json.dumps(part)}\n\n".encode())

ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 3000))), Agent).serve_forever()
