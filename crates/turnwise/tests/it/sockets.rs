//! WebSockets over two nodes on one Redis: who is connected to one gets what
//! comes in at the other, and goes on there when his node is killed.

use crate::socket::Socket;
use crate::support::serve;
use serde_json::{Value, json};
use turnwise_testkit::servers::redis;

const EVENTS: u64 = 30;

impl Socket {
    async fn publish(&mut self, n: u64) {
        let topic = format!("t.{}", n % 3);
        self.send(&json!({ "type": "publish", "topic": topic, "event_type": "said", "data": n })).await;
        self.next_of("published").await;
    }

    /// The next events' numbers, and the last one's place.
    async fn take(&mut self, count: u64) -> (Vec<u64>, Value) {
        let (mut numbers, mut place) = (Vec::new(), Value::Null);
        for _ in 0..count {
            let event = self.next_of("message").await;
            numbers.push(event["data"].as_u64().unwrap());
            place = event["place"].clone();
        }
        (numbers, place)
    }
}

#[tokio::test]
async fn two_nodes_on_redis_are_one_for_their_connections() {
    let Some(server) = redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = redis::url(&server);
    let mut one = serve(folder.path(), 0, None, &[("TURNWISE_STORE", &store)]).await;
    let other = serve(folder.path(), 0, None, &[("TURNWISE_STORE", &store)]).await;
    let mut reader = Socket::connect(&one, "").await;
    reader.send(&json!({ "type": "subscribe", "topics": ["t.*"] })).await;
    reader.next_of("subscribed").await;
    let (mut here, mut there) = (Socket::connect(&one, "").await, Socket::connect(&other, "").await);
    for n in 0..EVENTS {
        if n % 3 == 0 { here.publish(n).await } else { there.publish(n).await }
    }
    let (numbers, place) = reader.take(EVENTS).await;
    assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>());
    // An agent at one node hears from an agent at the other, and its answer finds back.
    let (mut ann, mut bob) =
        (Socket::connect(&one, "agent_id=ann").await, Socket::connect(&other, "agent_id=bob").await);
    for socket in [&mut ann, &mut bob] {
        socket.send(&json!({ "type": "presence" })).await;
        let presence = socket.next_of("presence").await;
        assert_eq!(presence["online"], true, "{presence}");
    }
    ann.send(&json!({ "type": "request", "to_agent": "bob", "content": 1, "timeout": 60 })).await;
    let request = bob.next_of("message").await;
    let id = &request["data"]["message_id"];
    bob.send(&json!({ "type": "reply", "message_id": id, "content": 2 })).await;
    let reply = ann.next_of("reply").await;
    assert_eq!((&reply["content"], &reply["from_agent"]), (&json!(2), &json!("bob")));
    bob.send(&json!({ "type": "ack", "message_id": id })).await;
    assert_eq!(bob.next_of("settled").await["status"], "done");
    // His node is gone: he goes on at the other.
    one.kill().await;
    for n in EVENTS..2 * EVENTS {
        there.publish(n).await;
    }
    let mut reader = Socket::connect(&other, "").await;
    reader.send(&json!({ "type": "resume", "topic": "t.*", "after": place })).await;
    reader.next_of("subscribed").await;
    assert_eq!(reader.take(EVENTS).await.0, (EVENTS..2 * EVENTS).collect::<Vec<_>>());
    assert_eq!(other.terminate().await, Some(0));
}
