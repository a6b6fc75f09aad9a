//! What a conversation keeps when its process ends and the store is opened again.

use crate::bench::{event, submission};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use turnwise_broker::*;
use turnwise_core::Store;
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};
use turnwise_store::system_clock;

static NONCES: AtomicU64 = AtomicU64::new(7);

async fn open(folder: &std::path::Path) -> (Broker, Arc<EmbeddedStore>) {
    let store = EmbeddedStore::open(folder, EmbeddedConfig::default(), system_clock()).unwrap();
    let nonce = || NONCES.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
    let config = BrokerConfig { poll_interval: Duration::from_millis(20), ..BrokerConfig::default() };
    let shared = Arc::clone(&store) as Arc<dyn Store>;
    let broker = Broker::start(shared, config, Arc::new(nonce), system_clock()).await.unwrap();
    (broker, store)
}

#[tokio::test]
async fn c3_c5_a_reopened_store_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (broker, store) = open(folder.path()).await;
    let begun = broker.submit(submission("acme", "ann", "1")).await.unwrap();
    let called = broker.submit(submission("acme", "bob", "2")).await.unwrap();
    let waiting = broker.submit(submission("other", "eve", "3")).await.unwrap();
    let turns = broker.claim_turns(2).await.unwrap();
    let half = turns.iter().find(|turn| turn.id == begun.id).unwrap();
    broker.append(half, vec![event("half")]).await.unwrap();
    store.close();
    drop((turns, broker, store));

    let (broker, store) = open(folder.path()).await;
    let mut turns = broker.claim_turns(10).await.unwrap();
    assert_eq!(turns.len(), 3, "leases of a dead process are over, no request needed");
    turns.sort_by_key(|turn| turn.id);
    let seen: Vec<_> = turns.iter().map(|turn| (turn.id, turn.interrupted)).collect();
    assert_eq!(seen, [(begun.id, true), (called.id, false), (waiting.id, false)]);
    for turn in &turns {
        let answer = Some(Bytes::from_static(b"{}"));
        broker.finish(turn, TurnOutcome::Completed { answer, unsaved: Vec::new() }).await.unwrap();
    }
    store.close();
    drop((turns, broker, store));

    let (broker, store) = open(folder.path()).await;
    assert_eq!(broker.wait_end("other", waiting.id).await.unwrap().answer.as_deref(), Some(&b"{}"[..]));
    let view = broker.turn(&OrgScope::All, called.id).await.unwrap().unwrap();
    assert_eq!((view.state, view.org.as_str()), (TurnState::Completed, "acme"));
    store.close();
}
