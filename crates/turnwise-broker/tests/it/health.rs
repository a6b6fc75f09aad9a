//! What `/health` is told: after a restart, and right after an end.

use crate::bench::Bench;
use crate::failed;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_testkit::faulty::{Fault, Op};

/// Lets the sweeper go round a few times.
async fn sweep(bench: &Bench) {
    let shutdown = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        shutdown.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(shutdown.clone()), stop);
}

#[tokio::test(start_paused = true)]
async fn conversations_are_counted_again_after_a_restart() {
    let mut bench = Bench::new().await;
    for user in ["ann", "bob", "eve"] {
        bench.send(user, "1").await;
        bench.send(user, "2").await;
    }
    let running = bench.claim().await;
    assert_eq!(running.len(), 3);
    bench.broker.finish(&running[0], failed("agent_error")).await.unwrap();
    bench.restart().await;
    assert_eq!(bench.broker.health().active_queues, 0);
    sweep(&bench).await;
    assert_eq!((bench.broker.health().active_queues, bench.broker.health().processing), (3, 2));
    bench.pass(crate::bench::LEASE);
    for _turns_of_a_conversation in 0..2 {
        for turn in bench.claim().await {
            bench.answer(&turn, "x").await;
        }
    }
    sweep(&bench).await;
    assert_eq!((bench.broker.health().active_queues, bench.broker.health().processing), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_conversation_is_idle_as_soon_as_its_only_turn_has_ended() {
    let bench = Bench::new().await;
    sweep(&bench).await;
    bench.send("ann", "1").await;
    bench.send("ann", "2").await;
    for left in [1, 0] {
        assert_eq!(bench.broker.health().active_queues, 1);
        let turn = bench.claim_one().await;
        bench.answer(&turn, "x").await;
        assert_eq!(bench.broker.health().active_queues, left, "without a sweep");
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_no_new_work_is_not_well() {
    let bench = Bench::new().await;
    sweep(&bench).await;
    assert!(bench.broker.health().store_ok);
    bench.store.fail(&[Op::Enqueue], Fault::Refused);
    sweep(&bench).await;
    assert!(!bench.broker.health().store_ok);
    bench.store.recover();
    sweep(&bench).await;
    assert!(bench.broker.health().store_ok);
}
