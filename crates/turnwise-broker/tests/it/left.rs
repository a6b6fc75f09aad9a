//! What memory and disk hold of turns whose time is over: nothing.

use crate::bench::{Bench, submission};
use crate::failed;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::*;
use turnwise_core::{MessageId, Store, Timestamp};
use turnwise_store::embedded::{Durability, EmbeddedConfig, EmbeddedStore};

const RETENTION: Duration = Duration::from_secs(60);
/// Turns before the first look, and before the second.
const FEW: u32 = 200;
const MANY: u32 = 3_000;
/// Rounds in each of which a retention passes.
const ROUNDS: u32 = 8;
const POLL: Duration = Duration::from_millis(20);

struct Kept {
    broker: Broker,
    store: Arc<EmbeddedStore>,
    clock: Arc<AtomicI64>,
    _folder: tempfile::TempDir,
}

impl Kept {
    async fn new() -> Kept {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000));
        let hand = Arc::clone(&clock);
        let read: Clock = Arc::new(move || Timestamp(hand.fetch_add(1, Ordering::SeqCst)));
        let relaxed = EmbeddedConfig { durability: Durability::Relaxed, ..EmbeddedConfig::default() };
        let store = EmbeddedStore::open(folder.path(), relaxed, Arc::clone(&read)).unwrap();
        let nonces = AtomicU64::new(1);
        let nonce = move || nonces.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst).rotate_left(23);
        let config = BrokerConfig { retention: RETENTION, poll_interval: POLL, ..BrokerConfig::default() };
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let broker = Broker::start(shared, config, Arc::new(nonce), read).await.unwrap();
        Kept { broker, store, clock, _folder: folder }
    }

    fn pass(&self, time: Duration) {
        self.clock.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }

    /// So many turns, each with something of its own: a user, a client message id, for some a group, a
    /// second turn behind it, a listener. Some are completed, some fail, some are cancelled, some nobody ends.
    async fn run(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let user = format!("user-{number}");
            let mut sent = submission("acme", &user, "1");
            sent.client_message_id = Some(format!("client-{number}"));
            if number % 5 == 0 {
                let (chat, thread) = (format!("chat-{number}"), None);
                sent.conversation = Conversation::Group { chat, thread };
            }
            let sent = self.broker.submit(sent).await.unwrap();
            if number % 10 == 9 {
                continue;
            }
            if number % 10 == 8 {
                self.broker.cancel(&OrgScope::All, sent.id).await.unwrap();
                continue;
            }
            let turn = self.claim(sent.id).await;
            let outcome = match number % 10 {
                7 => failed("agent_error"),
                _ => TurnOutcome::Completed { answer: Some(Bytes::from_static(b"{}")), unsaved: Vec::new() },
            };
            let (end, finished) =
                tokio::join!(self.broker.wait_end("acme", sent.id), self.broker.finish(&turn, outcome));
            end.unwrap();
            finished.unwrap();
        }
    }

    /// Leases turns until it is this one; the others are nobody's, and left to their time.
    async fn claim(&self, id: MessageId) -> Turn {
        loop {
            let turns = self.broker.claim_turns(1).await.unwrap();
            match turns.into_iter().next() {
                Some(turn) if turn.id == id => return turn,
                Some(_) => {}
                None => self.pass(Duration::from_secs(1)),
            }
        }
    }

    async fn sweep(&self, rounds: u32) {
        let shutdown = CancellationToken::new();
        let stop = async {
            for _round in 0..rounds {
                self.pass(RETENTION);
                tokio::time::sleep(Duration::from_millis(150)).await;
            }
            shutdown.cancel();
        };
        tokio::join!(self.broker.run_sweeper(shutdown.clone()), stop);
    }

    async fn left(&self) -> Vec<(&'static str, usize)> {
        let mut all = self.broker.sizes();
        all.extend(self.store.sizes().await.unwrap());
        all.retain(|(_, count)| *count > 0);
        all
    }
}

#[tokio::test]
async fn c6_nothing_is_left_of_turns_whose_time_is_over() {
    let kept = Kept::new().await;
    kept.run(0..FEW).await;
    assert!(kept.left().await.len() > 10, "while they are kept much is held");
    kept.sweep(ROUNDS).await;
    let (left, bytes) = (kept.left().await, kept.store.live_bytes());
    // The list of organisations stays.
    let of_orgs = ["topics", "chunks", "chunks by place", "cached bodies", "bytes of those"];
    let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, of_orgs, "{left:?}");
    assert!(left.iter().take(4).all(|(_, count)| *count == 1), "{left:?}");

    kept.run(FEW..FEW + MANY).await;
    kept.sweep(ROUNDS).await;
    assert_eq!(kept.left().await, left);
    assert_eq!(kept.store.live_bytes(), bytes);
    kept.store.close();
}

#[tokio::test(start_paused = true)]
async fn conversations_whose_turns_ended_by_time_alone_are_not_active_for_ever() {
    let retention = BrokerConfig::default().retention;
    let bench = Bench::new().await;
    for user in 0..500 {
        bench.send(&format!("user-{user}"), "1").await;
    }
    bench.pass(retention / 2);
    bench.send("late", "1").await;
    bench.pass(retention / 2);
    let shutdown = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        shutdown.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(shutdown.clone()), stop);
    let sizes = bench.broker.sizes();
    assert!(sizes.contains(&("active conversations", 1)), "the one that waits still: {sizes:?}");
}
