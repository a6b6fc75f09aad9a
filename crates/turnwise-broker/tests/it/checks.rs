//! A node checks its store by doing with it what it is for.

use crate::bench::Bench;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{Broker, BrokerConfig, CheckKind, CheckState};
use turnwise_core::{Store, Timestamp};
use turnwise_store::memory::MemoryStore;
use turnwise_testkit::faulty::{Fault, FaultyStore, Op};

/// Lets a broker check its store for so long.
async fn check(broker: &Broker, time: Duration) {
    let shutdown = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(time).await;
        shutdown.cancel();
    };
    tokio::join!(broker.run_checks(shutdown.clone()), stop);
}

fn states(broker: &Broker) -> [(CheckKind, CheckState); 4] {
    broker.checks().map(|check| (check.kind, check.state))
}

/// A store that can be heard, and brokers over it.
async fn brokers<const N: usize>() -> (Arc<FaultyStore>, [Broker; N]) {
    let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000));
    let read: turnwise_broker::Clock = Arc::new(move || Timestamp(clock.fetch_add(1, Ordering::SeqCst)));
    let store = FaultyStore::new(MemoryStore::new(Arc::clone(&read)));
    let mut brokers = Vec::new();
    for node in 0..N as u64 {
        let (store, nonce) = (Arc::clone(&store) as Arc<dyn Store>, Arc::new(move || node));
        let broker = Broker::start(store, BrokerConfig::default(), nonce, Arc::clone(&read)).await.unwrap();
        brokers.push(broker);
    }
    (store, brokers.try_into().ok().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_its_work_is_healthy_and_its_times_are_kept() {
    let (_store, [broker]) = brokers().await;
    assert_eq!(states(&broker).map(|(_, state)| state), [CheckState::Unknown; 4]);
    check(&broker, Duration::from_secs(3_600 * 2)).await;
    for view in broker.checks() {
        assert_eq!((view.state, view.measured, view.failed), (CheckState::Healthy, 100, 0), "{view:?}");
        assert!(view.min <= view.average && view.average <= view.max && view.last <= view.max, "{view:?}");
    }
    assert_eq!(broker.failed_check(), None);
}

#[tokio::test(start_paused = true)]
async fn a_check_that_fails_is_named_and_tried_again_each_second() {
    let (store, [broker]) = brokers().await;
    for (op, failing, named) in [
        (Op::Append, vec![CheckKind::WriteRead, CheckKind::PubSub], CheckKind::WriteRead),
        (Op::Enqueue, vec![CheckKind::Queue], CheckKind::Queue),
        (Op::Settle, vec![CheckKind::Queue], CheckKind::Queue),
    ] {
        store.fail(&[op], Fault::Refused);
        check(&broker, Duration::from_millis(10)).await;
        let found = states(&broker).into_iter().filter(|(_, state)| *state == CheckState::Unhealthy);
        assert_eq!(found.map(|(kind, _)| kind).collect::<Vec<_>>(), failing, "{op:?}");
        assert_eq!(broker.failed_check(), Some(named));
        let recovers = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            store.recover();
        };
        tokio::join!(check(&broker, Duration::from_millis(1_500)), recovers);
        assert_eq!(broker.failed_check(), None, "{op:?}");
    }
    let failed: usize = broker.checks().iter().map(|view| view.failed).sum();
    assert!(failed >= 8, "each was tried twice: {failed}");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_not_heard_of_fails_its_check_and_nothing_else() {
    let bench = Bench::new().await;
    check(&bench.broker, Duration::from_secs(10)).await;
    let expected = CheckKind::ALL.map(|kind| match kind {
        CheckKind::PubSub => (kind, CheckState::Unhealthy),
        _ => (kind, CheckState::Healthy),
    });
    assert_eq!(states(&bench.broker), expected);
    assert_eq!(bench.broker.failed_check(), None, "hints are hints");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_check_one_store_do_not_disturb_each_other() {
    let (_store, brokers) = brokers::<8>().await;
    let checks = brokers.each_ref().map(|broker| check(broker, Duration::from_secs(3_600)));
    futures_util::future::join_all(checks).await;
    for broker in &brokers {
        let failed = broker.checks().map(|view| view.failed);
        assert_eq!(failed, [0; 4]);
    }
}
