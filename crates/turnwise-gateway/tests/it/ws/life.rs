//! How a connection is kept, and how it ends.

use super::client::{CLOSE, PING, PONG, Socket, connect, connect_as, frame, handshake};
use crate::node::{key, node};
use crate::topics::say;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, advance, pause};
use turnwise_gateway::{ApiKey, Scope};

/// Both pings, which come together.
async fn pinged(socket: &mut Socket) {
    assert_eq!(socket.frame().await.unwrap().opcode, PING);
    let ping = socket.json().await;
    assert_eq!(ping["type"], "ping");
    assert!(ping["timestamp"].as_str().unwrap().ends_with('Z'));
}

/// Flaw 28 of the reference: silent clients were never timed out.
#[tokio::test]
async fn a_silent_client_is_pinged_and_then_closed() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    pause();
    let start = Instant::now();
    pinged(&mut socket).await;
    // The connection is a little older than this clock's beginning.
    assert!((25..=30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(socket.frame().await.unwrap().closed(), (4408, "silent".to_owned()));
    assert!((55..=60).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    // It does not answer this either.
    assert_eq!(socket.frame().await, None);
    assert!(start.elapsed() <= Duration::from_secs(66));
}

#[tokio::test]
async fn any_sign_of_life_keeps_a_connection() {
    let node = node(|_| {}).await;
    let signs = [
        frame(0x80 | PONG, b""),
        frame(0x81, br#"{"type":"pong"}"#),
        frame(0x80 | PING, b"x"),
        frame(0x81, b"no"),
    ];
    for sign in signs {
        let mut socket = connect(&node).await;
        pause();
        let start = Instant::now();
        for _ in 0..4 {
            pinged(&mut socket).await;
            advance(Duration::from_secs(29)).await;
            socket.bytes(&sign).await;
            if sign[0] == 0x80 | PING || sign[1] == 0x82 {
                socket.frame().await.expect("an answer");
            }
        }
        assert!(start.elapsed() > Duration::from_secs(119));
        pinged(&mut socket).await;
        drop(socket);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn a_node_that_goes_away_says_so_and_leaves_a_place() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    let mut idle = connect(&node).await;
    socket.ask(&json!({ "type": "subscribe", "topics": ["t"] })).await;
    say(&node, "t", json!(1)).await;
    let event = socket.json().await;
    node.drain.begin();
    let publish = json!({ "type": "publish", "topic": "t", "event_type": "x" });
    assert_eq!(socket.ask(&publish).await["code"], "draining");
    node.drain.close();
    let place = event["place"].as_str().unwrap();
    assert_eq!(socket.closed().await, (1001, format!("going_away resume={place}")));
    assert_eq!(idle.closed().await, (1001, "going_away".to_owned()));
    let serving = tokio::time::timeout(Duration::from_secs(60), node.serving).await;
    serving.expect("it does not wait for who has been told").unwrap();
}

#[tokio::test]
async fn a_key_that_is_taken_away_closes_what_it_opened() {
    let of = |org: &str| ApiKey { scopes: vec![Scope::Topics], ..key(org) };
    let node = node(|config| config.keys = vec![of("o"), of("p")]).await;
    let mut gone = connect_as(&node, &handshake("").header("X-API-Key", "secret-o")).await;
    let mut stays = connect_as(&node, &handshake("").header("X-API-Key", "secret-p")).await;
    node.keys.exchange(vec![of("p")]);
    assert_eq!(gone.closed().await, (4401, "key_revoked".to_owned()));
    assert_eq!(stays.ask(&json!({ "type": "ping" })).await["type"], "pong");
}

/// Flaw 27 of the reference: a second connection took over the first one's place, and closing one closed both.
#[tokio::test]
async fn connections_of_one_agent_live_apart() {
    let node = node(|_| {}).await;
    let same = handshake("org_id=o&agent_id=a&user_id=u");
    let (mut one, mut two) = (connect_as(&node, &same).await, connect_as(&node, &same).await);
    for socket in [&mut one, &mut two] {
        socket.ask(&json!({ "type": "subscribe", "topics": ["t"] })).await;
    }
    one.bytes(&frame(0x80 | CLOSE, &[3, 232])).await;
    assert_eq!(one.closed().await.0, 1000);
    node.until(|counters| counters.connections() == 1).await;
    say(&node, "t", json!(1)).await;
    assert_eq!(two.json().await["data"], 1);
}

#[tokio::test]
async fn a_client_that_asks_and_never_reads_is_heard_no_further() {
    let node = node(|config| config.write_stall_max = Duration::from_secs(1)).await;
    let mut socket = connect(&node).await;
    let many: Vec<u8> = (0..10_000).flat_map(|_| frame(0x80 | PING, &[7; 125])).collect();
    // Until the buffers of both sides are full: whoever waits for it to be read waits in vain.
    let flood = async {
        loop {
            socket.try_bytes(&many).await
        }
    };
    tokio::select! {
        () = flood => {}
        () = node.until(|counters| counters.stalled() == 1) => {}
    }
    node.until(|counters| counters.connections() == 0).await;
}

#[tokio::test]
async fn who_leaves_without_a_word_is_forgotten() {
    let node = node(|_| {}).await;
    let mut socket = connect(&node).await;
    socket.ask(&json!({ "type": "subscribe", "topics": ["t"] })).await;
    let half = frame(0x81, br#"{"type":"ping"}"#);
    socket.bytes(&half[..5]).await;
    drop(socket);
    node.until(|counters| counters.connections() == 0).await;
    assert_eq!(say(&node, "t", json!(1)).await["subscribers"], 0);
}
