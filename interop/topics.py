"""PyPI `websockets`, `wsproto`, `httpx-sse` and `cloudevents` on topics: what CloudEvents publish, the others read."""
import json
import socket
import sys
from urllib.parse import urlsplit

import httpx
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent
from httpx_sse import connect_sse
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, Request, TextMessage

SERVER = sys.argv[1]
HOST = urlsplit(SERVER).netloc
COUNT = 40
TEXT = "é€😀" * 5_000


def publish() -> list[str]:
    ids = []
    for n in range(COUNT):
        attributes = {"id": f"p-{n}", "source": "/interop", "type": "com.example.order", "specversion": "1.0"}
        event = CloudEvent(attributes=attributes, data={"n": n, "text": TEXT})
        message = (to_binary_event if n % 2 else to_structured_event)(event)
        answer = httpx.post(f"{SERVER}/api/v1/topics/shop.orders/events?org_id=acme",
                            headers=message.headers, content=message.body)
        assert answer.status_code == 201, answer.text
        ids.append(attributes["id"])
    return ids


def by_websockets(ids: list[str]) -> list[str]:
    places = []
    with connect(f"ws://{HOST}/ws/connect?org_id=acme", max_size=None) as ws:
        assert ws.protocol.extensions == [], "it offered compression and nothing was agreed on"
        assert json.loads(ws.recv())["type"] == "connected"
        # In parts, cut inside a character.
        text = json.dumps({"type": "subscribe", "topics": ["shop.*"], "after": "earliest", "id": "é"}, ensure_ascii=False)
        ws.send([part for part in text])
        subscribed = json.loads(ws.recv())
        assert (subscribed["type"], subscribed["id"]) == ("subscribed", "é"), subscribed
        for n, wanted in enumerate(ids):
            frame = json.loads(ws.recv())
            assert frame["type"] == "message" and "cloudevent" in frame, frame
            event = frame["cloudevent"]
            assert (event["id"], event["data"]) == (wanted, {"n": n, "text": TEXT}), frame
            places.append(frame["place"])
        assert ws.ping(b"x").wait(30), "a pong comes"
        ws.send(b"\x01\x02")
        try:
            ws.recv()
            raise AssertionError("it is closed")
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1003, closed
    return places


def by_wsproto(places: list[str]) -> None:
    """Without input or output of its own: every byte goes through here, one at a time."""
    protocol = WSConnection(ConnectionType.CLIENT)
    host, port = HOST.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        def send(event) -> None:
            for byte in protocol.send(event):
                stream.sendall(bytes([byte]))

        def events():
            texts = []
            while True:
                protocol.receive_data(stream.recv(1000) or None)
                for event in protocol.events():
                    if isinstance(event, TextMessage):
                        texts.append(event.data)
                        if event.message_finished:
                            yield json.loads("".join(texts))
                            texts.clear()
                    else:
                        yield event

        send(Request(host=HOST, target="/ws/connect?org_id=acme"))
        seen = events()
        assert isinstance(next(seen), AcceptConnection)
        assert next(seen)["type"] == "connected"
        send(TextMessage(data=json.dumps({"type": "resume", "topic": "shop.orders", "after": places[-5]})))
        assert next(seen)["type"] == "subscribed"
        assert [next(seen)["place"] for _ in range(4)] == places[-4:]
        send(Ping(payload=b"x"))
        pong = next(seen)
        assert isinstance(pong, Pong) and bytes(pong.payload) == b"x", pong
        send(CloseConnection(code=1000, reason="done"))
        closed = next(seen)
        assert isinstance(closed, CloseConnection) and closed.code == 1000, closed


def by_httpx_sse(ids: list[str], places: list[str]) -> None:
    client = httpx.Client(timeout=30)
    url = f"{SERVER}/api/v1/subscribe?org_id=acme&topics=shop.*"
    with connect_sse(client, "GET", url, headers={"Last-Event-ID": places[9]}) as source:
        seen = (event for event in source.iter_sse() if event.event == "com.example.order")
        for n in range(10, COUNT):
            event = next(seen)
            assert (event.id, event.json()["cloudevent"]["id"]) == (places[n], ids[n]), event


published = publish()
found = by_websockets(published)
by_wsproto(found)
by_httpx_sse(published, found)
print(f"{COUNT} CloudEvents by websockets, wsproto and httpx-sse")
