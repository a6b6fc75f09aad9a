"""PyPI `standardwebhooks` verifies a callback, by the secret of today and by the one before it."""
import datetime
import http.server
import sys

import httpx
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

server, *secrets = sys.argv[1:]
received = []


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        received.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def refused(what: str, body: str, headers: dict[str, str]) -> None:
    """Fails unless the verifier refuses it."""
    for secret in secrets:
        try:
            Webhook(secret).verify(body, headers)
        except WebhookVerificationError:
            continue
        raise AssertionError(f"{what} was taken for good")


with http.server.HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
    receiver.timeout = 30
    message = {
        "org_id": "interop", "user_id": "pypi", "client_id": "web", "message": "hello",
        "callback_url": f"http://127.0.0.1:{receiver.server_port}/answers",
    }
    answer = httpx.post(f"{server}/api/v1/message", json=message, trust_env=False)
    assert answer.is_success, answer.text
    receiver.handle_request()

headers, body = received[0]
for secret in secrets:
    told = Webhook(secret).verify(body, headers)
    assert (told["status"], told["responses"]) == ("completed", ["You said: hello"]), body
refused("a changed body", body.replace("hello", "hullo"), headers)
refused("another id", body, headers | {"webhook-id": "another"})
hour = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
old = " ".join(Webhook(secret).sign(headers["webhook-id"], hour, body) for secret in secrets)
stamp = str(int(hour.timestamp()))
refused("one of an hour ago", body, headers | {"webhook-timestamp": stamp, "webhook-signature": old})
print(f"verified by {len(secrets)} secrets; changed, renamed and old ones refused")
