//! Line breaks where they could become fields of an event or of a head: an
//! agent's words, a client's ids.

use crate::client::{Event, get, post};
use crate::node::{body, node};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use turnwise_broker::{AgentEvent, TurnError, TurnOutcome};

const BREAKS: [&str; 9] = ["\r", "\n", "\r\n", "\n\n", "\r\n\r\n", "\0", "\u{2028}", "\u{85}", "\u{feff}"];

#[tokio::test]
async fn an_agents_words_stay_inside_their_event() {
    let node = node(|_| {}).await;
    for cut in BREAKS {
        let id = node.submit("x").await;
        let turn = node.claim().await;
        let data = format!("a{cut}event: done{cut}id: 9-9{cut}data: forged{cut}{cut}retry: 1");
        let named = AgentEvent { name: Some(format!("a{cut}data: forged")), data: Bytes::from("{}") };
        let said = AgentEvent { name: None, data: Bytes::from(data.clone()) };
        node.broker.append(&turn, vec![named, said]).await.unwrap();
        let error = TurnError {
            code: format!("a{cut}b"),
            status: 502,
            detail: format!("e{cut}data: forged{cut}{cut}event: done"),
        };
        let detail = error.detail.clone();
        node.finish(&turn, TurnOutcome::Failed(error)).await;
        let path = format!("/api/v1/stream?user_id=u&message_id={id}");
        let mut stream = get(&path).open(node.address).await;
        let events: Vec<Event> = stream.events().await;
        let names: Vec<&str> = events.iter().map(|event| event.name.as_str()).collect();
        assert_eq!(names.len(), 5, "{cut:?}: {events:?}");
        assert_eq!(
            [names[0], names[1], names[3], names[4]],
            ["queued", "processing", "message", "error"],
            "{cut:?}"
        );
        assert!(
            events[2..].iter().all(|event| event.id.as_deref().is_some_and(|id| id != "9-9")),
            "{cut:?}: {events:?}"
        );
        // The little client joins the lines of `data`; no text is lost and none is a field.
        let joined = |text: &str| text.replace(['\r', '\n'], "");
        assert_eq!(joined(&events[3].data), joined(&data), "{cut:?}");
        let told: serde_json::Value = serde_json::from_str(&events[4].data).unwrap();
        assert_eq!(told["error"], detail, "{cut:?}");
    }
    assert_eq!(node.counters.panics(), 0);
}

#[tokio::test]
async fn no_id_of_a_client_becomes_a_line_of_a_head() {
    let node = node(|_| {}).await;
    for id in ["a%0d%0aSet-Cookie: x=y", "a\u{e9}", "a\"b", "a b", "<script>", &"a".repeat(129)] {
        let reply = node.send(&get("/livez").header("X-Request-Id", id)).await;
        assert_eq!(reply.status, 200);
        let given = reply.header("x-request-id").unwrap();
        assert_ne!(given, id);
        assert!(given.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{given}");
        assert_eq!(reply.header("set-cookie"), None);
    }
    for byte in ["\r", "\n", "\0", "\u{1b}", "\r\n "] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: a{byte}b\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 400 "), "{byte:?}: {text}");
    }
    // What comes back in a body is JSON.
    let own = body("x").replace('{', "{\"client_message_id\":\"a\\r\\nb\",");
    node.send(&post(&own)).await.assert_problem(422, "invalid_content");
    let origin = get("/livez").header("Origin", "http://evil.example");
    assert_eq!(node.send(&origin).await.header("access-control-allow-origin"), None);
}
