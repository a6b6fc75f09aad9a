//! A store that refuses, or whose answers get lost: what clients are told is
//! true, and the next request after its recovery works (clauses X2, C7).

use crate::client::{Call, Open, delete, get, post};
use crate::node::{Node, answered, body, node_on};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use turnwise_broker::{BrokerConfig, BrokerError, TurnState};
use turnwise_core::{Kind, Name, StoreError};
use turnwise_store::memory::MemoryStore;
use turnwise_store::system_clock;
use turnwise_testkit::faulty::{Fault, FaultyStore, Op};

const PATIENCE: Duration = Duration::from_secs(60);

async fn node() -> (Node, Arc<FaultyStore>) {
    let store = FaultyStore::new(MemoryStore::new(system_clock()));
    let broker = BrokerConfig { poll_interval: Duration::from_millis(20), ..BrokerConfig::default() };
    (node_on(store.clone(), broker, |_| {}).await, store)
}

fn send(text: &str) -> Call {
    post(&body(text)).header("Prefer", "respond-async")
}

fn send_as(client_message_id: &str) -> Call {
    let body = body("m").replacen('{', &format!("{{\"client_message_id\":\"{client_message_id}\","), 1);
    post(&body).header("Prefer", "respond-async")
}

/// Messages ever stored, whatever clients were told.
async fn stored(store: &FaultyStore) -> u64 {
    store.inner().depth(&Name::new("o", Kind::Turns, "turns").unwrap()).await.unwrap().enqueued
}

#[tokio::test]
async fn a_store_that_is_away_is_503_and_nothing_was_stored() {
    let (node, store) = node().await;
    let mut accepted = Vec::new();
    // The first time nothing is known of the organisation yet.
    for round in 0..3 {
        store.fail(&Op::ALL, Fault::Refused);
        let refused = node.send(&send("refused")).await;
        refused.assert_problem(503, "store_unavailable");
        assert_eq!(refused.json()["retryable"], true);
        assert!(refused.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
        let id = accepted.last().map_or("00000000-0000-8001-8000-000000000001", String::as_str);
        for call in [
            get(&format!("/api/v1/message/{id}")),
            delete(&format!("/api/v1/message/{id}")),
            get("/api/v1/queue/u?org_id=o"),
        ] {
            node.send(&call).await.assert_problem(503, "store_unavailable");
        }
        let stream = node.send(&get(&format!("/api/v1/stream?user_id=u&message_id={id}"))).await;
        match round {
            0 => stream.assert_problem(503, "store_unavailable"),
            // A turn this node has just accepted: its stream opens without the
            // store, then breaks off with the advice to come back.
            _ => {
                assert_eq!(stream.status, 200, "{}", stream.text());
                assert!(stream.text().ends_with(": interrupted, reconnect with Last-Event-ID\n\n"));
            }
        }
        assert_eq!(node.send(&get("/livez")).await.status, 200);
        store.recover();
        assert_eq!(stored(&store).await, round, "what was refused is not there");
        accepted.push(node.submit(&format!("after {round}")).await);
    }
    for id in accepted {
        let turn = node.claim().await;
        assert_eq!(turn.id.to_string(), id, "only what was accepted is worked on, in order");
        node.finish(&turn, answered("yes")).await;
    }
    assert_eq!(node.broker.claim_turns(10).await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_unconfirmed_message_is_outcome_unknown_and_safe_to_repeat() {
    let (node, store) = node().await;
    let (lost_answer, lost_request) = ((Fault::AnswerLost, "stored"), (Fault::RequestLost, "not-stored"));
    for (number, (fault, name)) in [lost_answer, lost_request].into_iter().enumerate() {
        store.fail(&[Op::Enqueue], fault);
        for _ in 0..2 {
            let unknown = node.send(&send_as(name)).await;
            unknown.assert_problem(500, "outcome_unknown");
            assert_eq!(unknown.header("retry-after"), None, "repeating blindly is not the way");
        }
        store.recover();
        let repeated = node.send(&send_as(name)).await;
        assert_eq!(repeated.status, 200, "{}", repeated.text());
        assert_eq!(stored(&store).await, number as u64 + 1, "{name}: one message, however often it was sent");
        let turn = node.claim().await;
        assert_eq!(repeated.json()["message_id"], turn.id.to_string());
        node.finish(&turn, answered("yes")).await;
    }
}

#[tokio::test]
async fn a_repeat_of_a_stored_message_is_never_told_that_nothing_was_stored() {
    let (node, store) = node().await;
    store.fail(&[Op::Enqueue], Fault::AnswerLost);
    node.send(&send_as("m")).await.assert_problem(500, "outcome_unknown");
    store.recover();
    store.fail(&[Op::Look], Fault::Refused);
    node.send(&send_as("m")).await.assert_problem(500, "outcome_unknown");
    store.recover();
    assert_eq!(node.send(&send_as("m")).await.status, 200);
    assert_eq!(stored(&store).await, 1);
}

#[tokio::test]
async fn a_repeat_of_an_answered_message_does_not_wait_for_the_store() {
    let (node, store) = node().await;
    node.send(&send_as("m")).await;
    let turn = node.claim().await;
    node.finish(&turn, answered("yes")).await;
    let repeat = node.send(&send_as("m")).await;
    assert_eq!(repeat.json()["responses"][0], "yes", "{}", repeat.text());
    // What the gateway asks once the repeat was found to be over.
    store.fail(&[Op::Look], Fault::Refused);
    let failed = store.failed(Op::Look);
    let end = timeout(PATIENCE, node.broker.end_of_repeat("o", turn.id)).await.expect("it does not wait");
    assert!(matches!(end, Err(BrokerError::Store(StoreError::Unknown(_)))), "it is stored: {end:?}");
    assert_eq!(store.failed(Op::Look), failed + 1, "one look");
    store.recover();
    let end = node.broker.end_of_repeat("o", turn.id).await.unwrap();
    assert!(end.is_some_and(|end| end.state == TurnState::Completed));
}

#[tokio::test]
async fn trouble_before_the_message_is_stored_is_not_outcome_unknown() {
    let (node, store) = node().await;
    // A new organisation is noted first.
    store.fail(&[Op::Append], Fault::AnswerLost);
    node.send(&send("m")).await.assert_problem(503, "store_unavailable");
    store.recover();
    assert_eq!(stored(&store).await, 0);
    node.submit("m").await;
    assert_eq!(stored(&store).await, 1);
}

#[tokio::test]
async fn who_waits_for_an_answer_gets_it_after_the_store_is_back() {
    let (node, store) = node().await;
    let waiting = node.start(post(&body("m")));
    let turn = node.claim().await;
    store.fail(&Op::ALL, Fault::Refused);
    let failed = store.failed(Op::Look);
    timeout(PATIENCE, async {
        while store.failed(Op::Look) < failed + 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("the one who waits asks the store");
    assert!(!waiting.is_finished());
    store.recover();
    node.finish(&turn, answered("late")).await;
    let reply = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(reply.json()["responses"][0], "late");
}

#[tokio::test]
async fn a_stream_that_the_store_broke_off_is_resumed_without_a_gap() {
    let (node, store) = node().await;
    let id = node.submit("m").await;
    let turn = node.claim().await;
    let path = format!("/api/v1/stream?user_id=u&message_id={id}");
    let say = async |data: &'static str| {
        let event = turnwise_broker::AgentEvent { name: None, data: data.into() };
        node.broker.append(&turn, vec![event]).await.unwrap();
    };
    let mut stream: Open = get(&path).open(node.address).await;
    say("1").await;
    let mut last = None;
    while last.is_none() {
        let event = stream.event().await.unwrap();
        last = event.id.filter(|_| event.name == "message");
    }
    store.fail(&[Op::Look], Fault::Refused);
    say("2").await;
    let rest = timeout(PATIENCE, stream.events()).await.expect("a broken stream ends");
    assert!(rest.iter().all(|event| event.name != "done" && event.name != "error"), "{rest:?}");
    store.recover();
    say("3").await;
    node.finish(&turn, answered("4")).await;
    let resumed = get(&path).header("Last-Event-ID", &last.unwrap()).open(node.address).await.events().await;
    let texts: Vec<&str> = resumed.iter().map(|event| event.data.as_str()).collect();
    assert_eq!(texts[..2], ["2", "3"]);
    assert_eq!(resumed.last().unwrap().name, "done");
}
