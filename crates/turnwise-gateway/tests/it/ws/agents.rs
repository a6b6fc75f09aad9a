//! Agents over WebSockets: I1, I2, I4 and I5 through the public API, and the flaws of the reference.

use super::client::{Socket, connect_as, handshake};
use crate::node::{Node, key, node};
use serde_json::{Value, json};
use turnwise_gateway::{ApiKey, Scope};

/// Connected as this agent of org o.
async fn agent(node: &Node, name: &str) -> Socket {
    let mut socket = connect_as(node, &handshake(&format!("org_id=o&workspace_id=w&agent_id={name}"))).await;
    // Answered once it takes part.
    assert_eq!(socket.ask(&json!({ "type": "ping", "id": "here" })).await["id"], "here");
    socket
}

/// The next frame of this type; others in between are passed over.
async fn next(socket: &mut Socket, kind: &str) -> Value {
    loop {
        let frame = socket.json().await;
        if frame["type"] == kind {
            return frame;
        }
        assert_ne!(frame["type"], "error", "{frame}");
    }
}

async fn ask(socket: &mut Socket, frame: &Value, kind: &str) -> Value {
    socket.send(frame).await;
    next(socket, kind).await
}

/// Flaw 16 of the reference: an agent that was online got nothing, and the count was 0.
#[tokio::test]
async fn i1_a_message_reaches_an_agent_that_is_online_and_is_settled_once() {
    let node = node(|_| {}).await;
    let (mut ann, mut bob) = (agent(&node, "ann").await, agent(&node, "bob").await);
    let send = json!({ "type": "send", "to_agent": "bob", "content": { "n": 1 }, "priority": 3, "id": "s" });
    let sent = ask(&mut ann, &send, "sent").await;
    assert_eq!((&sent["recipients"], &sent["id"]), (&json!(1), &json!("s")));
    let got = next(&mut bob, "message").await;
    let data = &got["data"];
    assert_eq!((&got["queued"], &got["attempt"]), (&json!(true), &json!(1)));
    assert_eq!((&data["from_agent"], &data["to_agent"]), (&json!("ann"), &json!("bob")));
    assert_eq!((&data["content"], &data["message_type"]), (&json!({ "n": 1 }), &json!("request")));
    assert_eq!((&data["message_id"], &data["priority"]), (&sent["message_id"], &json!(3)));
    assert_eq!((&data["metadata"], &data["delivery_mode"]), (&json!({}), &json!("queue")));
    assert!(data["timestamp"].as_f64().unwrap() > 1.7e9);
    let ack = json!({ "type": "ack", "message_id": sent["message_id"] });
    assert_eq!(ask(&mut bob, &ack, "settled").await["status"], "done");
    assert_eq!(ask(&mut bob, &ack, "settled").await["status"], "lease_lost");
    // I2: the sender is told without asking.
    loop {
        let receipt = next(&mut ann, "receipt").await;
        assert_eq!((&receipt["message_id"], &receipt["agent_id"]), (&sent["message_id"], &json!("bob")));
        if receipt["state"] == "acked" {
            break;
        }
    }
}

/// Flaw 17 of the reference: what was waiting came again with every connection.
#[tokio::test]
async fn i1_what_waits_comes_at_connect_by_priority_and_not_again_once_it_is_acked() {
    let node = node(|_| {}).await;
    let mut ann = agent(&node, "ann").await;
    agent(&node, "bob").await;
    node.until(|counters| counters.connections() == 1).await;
    for (n, priority) in [(1, 4), (2, 9), (3, 4)] {
        let send = json!({ "type": "send", "to_agent": "bob", "content": n, "priority": priority });
        ask(&mut ann, &send, "sent").await;
    }
    let connected = handshake("org_id=o&agent_id=bob");
    let mut bob = connect_as(&node, &connected).await;
    let mut seen = Vec::new();
    for _ in 0..3 {
        let got = next(&mut bob, "message").await;
        let ack = json!({ "type": "ack", "message_id": got["data"]["message_id"] });
        bob.send(&ack).await;
        seen.push(got["data"]["content"].clone());
    }
    assert_eq!(seen, [json!(2), json!(1), json!(3)]);
    for _ in 0..3 {
        assert_eq!(next(&mut bob, "settled").await["status"], "done");
    }
    drop(bob);
    node.until(|counters| counters.connections() == 1).await;
    let mut again = agent(&node, "bob").await;
    let send = json!({ "type": "send", "to_agent": "bob", "content": "new" });
    ask(&mut ann, &send, "sent").await;
    assert_eq!(next(&mut again, "message").await["data"]["content"], "new", "nothing comes twice");
}

#[tokio::test]
async fn a_message_that_is_given_back_comes_again_and_one_that_is_rejected_does_not() {
    let node = node(|_| {}).await;
    let (mut ann, mut bob) = (agent(&node, "ann").await, agent(&node, "bob").await);
    let sent = ask(&mut ann, &json!({ "type": "send", "to_agent": "bob", "content": 1 }), "sent").await;
    let id = &sent["message_id"];
    next(&mut bob, "message").await;
    let nack = json!({ "type": "nack", "message_id": id, "reason": "busy" });
    bob.send(&nack).await;
    let again = next(&mut bob, "message").await;
    assert_eq!((&again["data"]["message_id"], &again["attempt"]), (id, &json!(2)));
    let reject = json!({ "type": "reject", "message_id": id, "reason": "never" });
    assert_eq!(ask(&mut bob, &reject, "settled").await["status"], "done");
    let state = loop {
        let receipt = next(&mut ann, "receipt").await;
        if receipt["state"] == "failed" {
            break receipt;
        }
    };
    assert!(state["reason"].as_str().unwrap().contains("never"), "{state}");
}

/// Flaw 24 of the reference: exclusions were ignored.
#[tokio::test]
async fn i4_a_broadcast_counts_whom_it_reaches_and_leaves_out_whom_it_is_told_to() {
    let node = node(|_| {}).await;
    let mut ann = agent(&node, "ann").await;
    let (mut bob, mut cid) = (agent(&node, "bob").await, agent(&node, "cid").await);
    let mut dan = agent(&node, "dan").await;
    let broadcast = json!({ "type": "broadcast", "content": "all", "exclude_agent": "cid" });
    let answer = ask(&mut ann, &broadcast, "broadcast").await;
    assert_eq!((&answer["workspace_id"], &answer["recipient_count"]), (&json!("w"), &json!(2)));
    for socket in [&mut bob, &mut dan] {
        let got = next(socket, "message").await;
        assert_eq!((&got["data"]["content"], &got["data"]["workspace_id"]), (&json!("all"), &json!("w")));
    }
    ask(&mut ann, &json!({ "type": "send", "to_agent": "cid", "content": "only" }), "sent").await;
    assert_eq!(next(&mut cid, "message").await["data"]["content"], "only", "nothing came before");
}

#[tokio::test]
async fn i5_a_request_gets_its_own_answer_or_an_error_when_time_is_up() {
    let node = node(|_| {}).await;
    let (mut ann, mut bob) = (agent(&node, "ann").await, agent(&node, "bob").await);
    for n in ["one", "two"] {
        ann.send(&json!({ "type": "request", "to_agent": "bob", "content": n, "id": n, "timeout": 60 }))
            .await;
    }
    let mut requests = vec![next(&mut bob, "message").await, next(&mut bob, "message").await];
    // The other way round than they came.
    requests.reverse();
    for request in &requests {
        let content = request["data"]["content"].as_str().unwrap();
        let reply = json!({ "type": "reply", "message_id": request["data"]["message_id"], "content": { "to": content } });
        ask(&mut bob, &reply, "sent").await;
    }
    for _ in 0..2 {
        let reply = next(&mut ann, "reply").await;
        assert_eq!((&reply["content"]["to"], &reply["from_agent"]), (&reply["id"], &json!("bob")));
    }
    ann.send(&json!({ "type": "request", "to_agent": "bob", "content": 3, "id": "late", "timeout": 0.05 }))
        .await;
    let late = loop {
        let frame = ann.json().await;
        if frame["id"] == "late" {
            break frame;
        }
    };
    assert_eq!((&late["type"], &late["code"]), (&json!("error"), &json!("reply_timeout")));
}

/// Flaw 26 of the reference: anybody could be any agent.
#[tokio::test]
async fn an_agent_is_who_its_key_says() {
    let bots = ApiKey { agents: vec!["bot-*".to_owned()], scopes: vec![Scope::Bus], ..key("o") };
    let reader = ApiKey { scopes: vec![Scope::TopicsRead], ..key("r") };
    let node = node(|config| config.keys = vec![bots, reader]).await;
    let with = |secret: &str, query: &str| handshake(query).header("X-API-Key", secret);
    let mut bot = connect_as(&node, &with("secret-o", "agent_id=bot-1")).await;
    for (secret, query) in [("secret-o", "agent_id=root"), ("secret-r", "agent_id=bot-1"), ("secret-o", "")] {
        let head = with(secret, query).bytes_with(node.address, "Upgrade");
        let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, &head).await.unwrap();
        let mut answer = [0; 12];
        tokio::io::AsyncReadExt::read_exact(&mut stream, &mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 403", "{secret} {query}");
    }
    // It is an agent and no reader of topics.
    let refused = bot.ask(&json!({ "type": "subscribe", "topics": ["t"] })).await;
    assert_eq!(refused["code"], "scope_missing");
    let mut nobody = connect_as(&node, &with("secret-r", "")).await;
    let refused = nobody.ask(&json!({ "type": "send", "to_agent": "bot-1", "content": {} })).await;
    assert_eq!(
        (&refused["type"], &refused["message"]),
        (&json!("error"), &json!("Not authenticated as an agent"))
    );
}

#[tokio::test]
async fn what_an_agent_says_wrongly_is_answered() {
    let node = node(|_| {}).await;
    let mut ann = agent(&node, "ann").await;
    let id = "msg_00000000000000000000000000000000";
    let cases = [
        (json!({ "type": "send", "content": {} }), "Missing to_agent"),
        (json!({ "type": "request", "content": {} }), "Missing to_agent"),
        (json!({ "type": "send", "to_agent": "b", "message_type": "shout" }), "message_type: must be one of"),
        (json!({ "type": "send", "to_agent": "b", "delivery_mode": "x" }), "delivery_mode: must be one of"),
        (json!({ "type": "send", "to_agent": "b", "priority": 10 }), "priority: must be"),
        (json!({ "type": "send", "to_agent": "b", "priority": "x" }), "A field of the frame"),
        (json!({ "type": "send", "to_agent": "", "content": {} }), "to_agent: must have"),
        (json!({ "type": "send", "to_agent": "b", "metadata": 1 }), "metadata: must be an object"),
        (json!({ "type": "send", "to_agent": "b", "ttl_seconds": -1 }), "ttl_seconds: must be"),
        (json!({ "type": "send", "to_agent": "b", "to_topic": "t" }), "Either"),
        (json!({ "type": "request", "to_agent": "b", "timeout": 1e9 }), "timeout: must be"),
        (json!({ "type": "ack" }), "message_id: must be"),
        (json!({ "type": "nack", "message_id": id, "delay": -1 }), "delay: must be"),
        (json!({ "type": "reply", "content": {} }), "message_id: must be"),
        (json!({ "type": "presence", "agent_id": "" }), "agent_id: must have"),
    ];
    for (frame, message) in cases {
        let answer = ann.ask(&frame).await;
        assert_eq!(
            (&answer["type"], &answer["code"]),
            (&json!("error"), &json!("invalid_content")),
            "{frame}: {answer}"
        );
        assert!(answer["message"].as_str().unwrap().starts_with(message), "{frame}: {answer}");
    }
    let unknown = ann.ask(&json!({ "type": "receipt", "message_id": id })).await;
    assert_eq!(unknown["code"], "not_found");
    let presence = ann.ask(&json!({ "type": "presence" })).await;
    assert_eq!((&presence["agent_id"], &presence["online"]), (&json!("ann"), &json!(true)));
}

/// Flaw 27 of the reference: the second connection of an agent took the first one's place.
#[tokio::test]
async fn connections_of_an_agent_share_its_inbox_and_one_that_leaves_takes_nothing_along() {
    let node = node(|_| {}).await;
    let mut ann = agent(&node, "ann").await;
    let (one, mut two) = (agent(&node, "bob").await, agent(&node, "bob").await);
    drop(one);
    node.until(|counters| counters.connections() == 2).await;
    ask(&mut ann, &json!({ "type": "send", "to_agent": "bob", "content": 1 }), "sent").await;
    assert_eq!(next(&mut two, "message").await["data"]["content"], 1);
}
