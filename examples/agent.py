"""An agent: POST /api/v1/chat answers JSON, POST /api/v1/chat/stream answers SSE."""
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_POST(self):
        chat = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        words = f"You said: {chat['message']}".split()
        stream = self.path.endswith("/stream")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.end_headers()
        if not stream:
            self.wfile.write(json.dumps({"responses": [" ".join(words)], "response_language": "en"}).encode())
        for word in words if stream else []:
            self.wfile.write(f"data: {json.dumps({'text': word})}\n\n".encode())

ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 3000))), Agent).serve_forever()
