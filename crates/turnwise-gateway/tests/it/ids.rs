//! Ids from outside are opaque: whatever they hold, they name themselves and
//! nothing else, inside their own organisation.

use crate::client::{Call, get, post};
use crate::node::{Node, answered, key, node};
use serde_json::{Value, json};
use turnwise_gateway::{ApiKey, GatewayConfig};

/// Ids that mean something to a database, a broker, a shell, a path or an eye.
const ODD: [&str; 22] = [
    "%",
    "_",
    "a%",
    "a_ice",
    "*",
    ">",
    "a.>",
    "alice*",
    "?",
    "alice'; DROP TABLE turns; --",
    "' OR ''='",
    "alice:bob",
    "alice/../bob",
    "..",
    "/",
    "{alice}",
    "${alice}",
    "$(alice)",
    "ALICE",
    "\u{202e}ecila",
    "al\u{ed}ce",
    "ali\u{301}ce",
];

fn message(org: &str, user: &str, client: &str) -> Value {
    json!({"user_id": user, "org_id": org, "client_id": client, "message": "x", "client_message_id": "m"})
}

fn says(message: &Value) -> Call {
    post(&message.to_string()).header("Prefer", "respond-async")
}

/// Percent-encodes all but letters and digits.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

async fn accepted(node: &Node, call: &Call) -> String {
    let reply = node.send(call).await;
    assert_eq!(reply.status, 200, "{call:?}: {}", reply.text());
    reply.json()["message_id"].as_str().unwrap().to_owned()
}

async fn waiting(node: &Node, user: &str) -> u64 {
    let reply = node.send(&get(&format!("/api/v1/queue/{}", encoded(user)))).await;
    assert_eq!((reply.status, reply.json()["user_id"].as_str()), (200, Some(user)));
    reply.json()["queue_length"].as_u64().unwrap()
}

#[tokio::test]
async fn an_id_names_itself_and_matches_nothing_else() {
    let node = node(|_| {}).await;
    let alices = accepted(&node, &says(&message("o", "alice", "web"))).await;
    let mut ids = vec![alices.clone()];
    for user in ODD {
        assert_eq!(waiting(&node, user).await, 0, "{user}");
        let stream = format!("/api/v1/stream?user_id={}&message_id={alices}", encoded(user));
        node.send(&get(&stream)).await.assert_problem(404, "not_found");
        let id = accepted(&node, &says(&message("o", user, "web"))).await;
        assert!(!ids.contains(&id), "{user}");
        ids.push(id.clone());
        assert_eq!(waiting(&node, user).await, 1, "{user}");
        assert_eq!(node.send(&get(&format!("/api/v1/message/{id}"))).await.json()["user_id"], user);
    }
    assert_eq!(waiting(&node, "alice").await, 1);
}

#[tokio::test]
async fn an_org_that_looks_like_a_pattern_sees_only_itself() {
    let odd_key = |org: &str| ApiKey { orgs: vec![org.to_owned()], ..key(&encoded(org)) };
    let configure = |config: &mut GatewayConfig| {
        config.keys = ODD.iter().map(|org| odd_key(org)).collect();
        config.keys.push(key("alice"));
    };
    let node = node(configure).await;
    let own = |call: Call| call.header("X-API-Key", "secret-alice");
    let id = accepted(&node, &own(says(&message("alice", "u", "web")))).await;
    for org in ODD {
        let odd = |call: Call| call.header("X-API-Key", &format!("secret-{}", encoded(org)));
        node.send(&odd(says(&message("alice", "u", "web")))).await.assert_problem(403, "org_forbidden");
        node.send(&odd(get(&format!("/api/v1/message/{id}")))).await.assert_problem(404, "not_found");
        for query in ["", "?org_id=alice"] {
            let queue = node.send(&odd(get(&format!("/api/v1/queue/u{query}")))).await;
            assert_eq!(queue.json()["queue_length"], 0, "{org}");
        }
        assert_ne!(accepted(&node, &odd(says(&message(org, "u", "web")))).await, id);
        let theirs = format!("/api/v1/queue/u?org_id={}", encoded(org));
        assert_eq!(node.send(&odd(get(&theirs))).await.json()["queue_length"], 1, "{org}");
        assert_eq!(node.send(&own(get(&theirs))).await.json()["queue_length"], 0, "{org}");
    }
}

#[tokio::test]
async fn parts_of_an_id_cannot_be_moved_from_one_to_the_next() {
    let node = node(|_| {}).await;
    let mut ids = Vec::new();
    for (client, user) in [("a", "b-c"), ("a-b", "c"), ("a-b-c", "-"), ("a", "b"), ("b", "a")] {
        ids.push(accepted(&node, &says(&message("o", user, client))).await);
    }
    for (chat, thread) in
        [("a", Some("b")), ("ab", None), ("a", None), ("a:b", None), ("a", Some("b:")), ("b", None)]
    {
        let mut group = message("o", "u", "web");
        (group["chat_type"], group["chat_id"]) = ("group".into(), chat.into());
        if let Some(thread) = thread {
            group["thread_id"] = thread.into();
        }
        let reply = node.send(&says(&group)).await;
        assert_eq!(reply.json()["position"], 1, "{chat} {thread:?} is a conversation of its own");
        ids.push(reply.json()["message_id"].as_str().unwrap().to_owned());
    }
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
}

#[tokio::test]
async fn ids_with_control_characters_or_too_long_are_refused() {
    let node = node(|_| {}).await;
    for wrong in [
        "a\0",
        "a\n",
        "\r\nX: y",
        "\u{1b}[31m",
        "\u{7f}",
        "\u{85}",
        "",
        &"x".repeat(257),
        &"\u{e9}".repeat(129),
    ] {
        for field in ["user_id", "org_id", "client_message_id", "chat_id", "thread_id"] {
            let mut message = message("o", "u", "web");
            message["chat_type"] = "group".into();
            message["chat_id"] = "g".into();
            message[field] = wrong.into();
            let reply = node.send(&says(&message)).await;
            reply.assert_problem(422, "invalid_content");
            assert_eq!(reply.json()["errors"][0]["pointer"], format!("/{field}"), "{wrong:?}");
            assert!(wrong.len() < 4 || !reply.text().contains(wrong));
        }
        if !wrong.is_empty() {
            let queue = node.send(&get(&format!("/api/v1/queue/{}", encoded(wrong)))).await;
            queue.assert_problem(422, "invalid_content");
            let org = node.send(&get(&format!("/api/v1/queue/u?org_id={}", encoded(wrong)))).await;
            org.assert_problem(422, "invalid_content");
        }
    }
    assert_eq!(waiting(&node, "u").await, 0);
}

#[tokio::test]
async fn places_in_a_stream_are_checked_and_show_only_that_stream() {
    let node = node(|_| {}).await;
    let mut places = Vec::new();
    for user in ["u", "v"] {
        let id = accepted(&node, &says(&message("o", user, "web"))).await;
        let turn = node.claim().await;
        node.finish(&turn, answered(&format!("for {user}"))).await;
        let path = format!("/api/v1/stream?user_id={user}&message_id={id}");
        let last = get(&path).open(node.address).await.events().await.pop().unwrap();
        places.push((path, last.id.unwrap()));
    }
    let (path, own) = places[0].clone();
    for wrong in
        ["x", "-1", "1", "1-", "-1-1", "1-1-1", "1-\u{661}", "1-18446744073709551616", "0x1-1", "1e9-1"]
    {
        let reply = node.send(&get(&format!("{path}&after={}", encoded(wrong)))).await;
        reply.assert_problem(422, "invalid_content");
        assert_eq!(reply.json()["errors"][0]["pointer"], "?after", "{wrong}");
        let header = node.send(&get(&path).header("Last-Event-ID", wrong)).await;
        header.assert_problem(422, "invalid_content");
    }
    // Another stream's place, one that is not there yet, one of another life of the store.
    for place in [places[1].1.as_str(), "0-0", "1-999999999", "18446744073709551615-18446744073709551615"] {
        let mut stream = get(&format!("{path}&after={place}")).open(node.address).await;
        let events = stream.events().await;
        assert!(stream.head.status == 200 || stream.head.status == 204, "{place}");
        assert!(events.iter().all(|event| !event.data.contains("for v")), "{place}: {events:?}");
    }
    assert_eq!(node.send(&get(&format!("{path}&after={own}"))).await.status, 204);
}
