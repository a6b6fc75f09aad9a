"""What PyPI `httpx-sse` makes of the event stream on stdin, as JSON: id, name and data of each event."""
import json
import sys

import httpx
from httpx_sse import EventSource

wire = sys.stdin.buffer.read()
response = httpx.Response(200, headers={"Content-Type": "text/event-stream; charset=utf-8"}, content=wire)
json.dump([[event.id, event.event, event.data] for event in EventSource(response).iter_sse()], sys.stdout)
