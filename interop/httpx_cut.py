"""PyPI `httpx-sse`, its connection cut at every event: nothing is lost, nothing comes twice, and it stops."""
import sys

import httpx
from httpx_sse import connect_sse

server, proxy = sys.argv[1:]
PARTS = 8


def submit() -> str:
    body = {
        "org_id": "interop", "user_id": "httpx", "client_id": "web", "message": f"hello [[events={PARTS} gap=30]]",
    }
    answer = httpx.post(f"{server}/api/v1/message", json=body, headers={"Prefer": "respond-async"})
    answer.raise_for_status()
    return answer.json()["message_id"]


def read(base: str, message_id: str) -> list[tuple[str, str, str]]:
    """Reads until 204, coming back after every cut with the id of the last event."""
    events, last = [], ""
    with httpx.Client(timeout=30, trust_env=False) as client:
        while True:
            headers = {"Last-Event-ID": last} if last else {}
            query = {"user_id": "httpx", "message_id": message_id}
            with connect_sse(client, "GET", f"{base}/api/v1/stream", params=query, headers=headers) as source:
                if source.response.status_code == 204:
                    return events
                try:
                    for event in source.iter_sse():
                        # It also shows blocks without data, such as `retry:`, which other readers pass over.
                        if event.data and event.event in ("message", "done", "error", "cancelled", "gap"):
                            events.append((event.event, event.id, event.data))
                        last = event.id or last
                except httpx.RemoteProtocolError:
                    pass


message_id = submit()
cut, whole = read(proxy, message_id), read(server, message_id)
names = [name for name, _, _ in whole]
assert names == ["message"] * (PARTS + 1) + ["done"], names
assert len({place for _, place, _ in whole}) == len(whole), whole
assert cut == whole, f"the cut reading differs:\n{cut}\nfrom the whole one:\n{whole}"
print(f"{len(whole)} events, the same when cut at each, and an end")
