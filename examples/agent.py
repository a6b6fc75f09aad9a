"""An agent: a message is posted to /api/v1/chat or /api/v1/chat/stream, and JSON answers both."""
import json, os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Agent(BaseHTTPRequestHandler):
    def do_GET(self): self.send_error(404)  # Turnwise asks /health: any answer below 500 means "up"
    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps({"responses": [f"You said: {message}"], "response_language": "en"}).encode())

ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 3000))), Agent).serve_forever()
