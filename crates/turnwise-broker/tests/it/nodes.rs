//! Two nodes on one store, whose answers come when they like: whoever connects to one of them is never taken for gone
//! by the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tokio::task::yield_now;
use turnwise_broker::*;
use turnwise_core::{Operation, Result, Store, Surround, Timestamp};
use turnwise_store::memory::MemoryStore;

const ORG: &str = "acme";
const SEEDS: u64 = 300;
/// An operation gives way so many times at most before it is done, and as often behind it.
const GIVES_WAY_MAX: u64 = 6;

/// A store each of whose operations takes its time.
struct Unsteady {
    inner: Arc<dyn Store>,
    state: AtomicU64,
}

impl Unsteady {
    /// The next number of a sequence (SplitMix64).
    fn draw(&self) -> u64 {
        let state = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    async fn give_way(&self) {
        for _ in 0..self.draw() % (GIVES_WAY_MAX + 1) {
            yield_now().await;
        }
    }
}

impl Surround for Unsteady {
    fn surrounded(&self) -> &dyn Store {
        &*self.inner
    }

    async fn around<T: Send>(&self, _: Operation, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.give_way().await;
        let answer = work.await;
        self.give_way().await;
        answer
    }
}

async fn node(store: &Arc<Unsteady>, number: u64) -> Broker {
    let clock = AtomicI64::new(1_700_000_000_000_000);
    let nonces = AtomicU64::new(number << 32 | 1);
    let config = BrokerConfig { housekeeping: Housekeeping::OneOfMany, ..BrokerConfig::default() };
    let nonce = move || nonces.fetch_add(1, Ordering::Relaxed).rotate_left(23);
    let now = move || Timestamp(clock.fetch_add(1, Ordering::Relaxed));
    let store: Arc<dyn Store> = Arc::clone(store) as Arc<dyn Store>;
    Broker::start(store, config, Arc::new(nonce), Arc::new(now)).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn agents_that_connect_to_two_nodes_at_once_are_online_at_both() {
    for seed in 0..SEEDS {
        let clock = AtomicI64::new(1_700_000_000_000_000);
        let now = move || Timestamp(clock.fetch_add(1, Ordering::Relaxed));
        let inner: Arc<dyn Store> = MemoryStore::new(Arc::new(now));
        let store = Arc::new(Unsteady { inner, state: AtomicU64::new(seed) });
        let nodes = [node(&store, 1).await, node(&store, 2).await];
        let hello = |agent: &str| AgentHello::new(agent.to_owned());
        let (ann, bob) = tokio::join!(
            nodes[0].connect_agent(ORG, hello("ann")),
            nodes[1].connect_agent(ORG, hello("bob"))
        );
        let _links = (ann.unwrap(), bob.unwrap());
        // Looks again while the nodes' own tasks go on.
        for look in 0..8 {
            for (node, broker) in nodes.iter().enumerate() {
                for agent in ["ann", "bob"] {
                    let view = broker.bus_agent(ORG, agent).await.unwrap();
                    let is_online = view.is_some_and(|view| view.presence.is_online);
                    assert!(is_online, "{agent} at node {node}, look {look}, seed {seed}");
                }
            }
        }
        for broker in nodes {
            broker.close_bus().await;
        }
    }
}
