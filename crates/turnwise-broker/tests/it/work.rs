//! Work queues at the broker's seam: over a store whose wake-ups are all lost,
//! and whose answers may be.

use crate::bench::Bench;
use bytes::Bytes;
use std::future::pending;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::*;
use turnwise_core::{Kind, Name, QueueStore, Read, ReadFrom, StoreError, TopicStore};
use turnwise_testkit::faulty::{Fault, Op};

fn queue(name: &str) -> WorkQueue {
    WorkQueue::new("acme", name).unwrap()
}

fn message(payload: &'static str) -> WorkMessage {
    WorkMessage {
        payload: Bytes::from_static(payload.as_bytes()),
        key: None,
        priority: None,
        headers: Vec::new(),
        deliver: None,
        expires: None,
        max_attempts: None,
        dedup: None,
    }
}

impl Bench {
    async fn store_work(&self, name: &str, message: WorkMessage) -> turnwise_core::MessageId {
        match self.broker.send_work(&queue(name), vec![message]).await.unwrap().pop() {
            Some(WorkSent::New { id, .. }) => id,
            other => panic!("not new: {other:?}"),
        }
    }

    async fn take_work(&self, name: &str, wait: Duration) -> Vec<WorkDelivery> {
        let claim = WorkClaim { queue: queue(name), limit: 10, lease: Duration::from_secs(30), wait };
        self.broker.claim_work(&claim, pending()).await.unwrap()
    }

    async fn end_work(&self, name: &str, receipt: WorkReceipt, outcome: WorkOutcome) -> Vec<WorkSettled> {
        let settlement = WorkSettlement { receipt, outcome };
        self.broker.settle_work(&queue(name), vec![settlement]).await.unwrap()
    }

    /// Housekeeping for so many rounds, with this much time before each.
    async fn keep_house(&self, rounds: u32, time: Duration) {
        let shutdown = CancellationToken::new();
        let stop = async {
            for _ in 0..rounds {
                tokio::time::sleep(Duration::from_secs(2)).await;
                self.pass(time);
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
            shutdown.cancel();
        };
        tokio::join!(self.broker.run_sweeper(shutdown.clone()), stop);
    }
}

#[tokio::test(start_paused = true)]
async fn q16_a_wait_finds_its_message_without_any_hint() {
    let bench = Bench::new().await;
    let begun = tokio::time::Instant::now();
    let send = async {
        tokio::time::sleep(Duration::from_millis(4_300)).await;
        bench.store_work("jobs", message("1")).await
    };
    let (found, id) = tokio::join!(bench.take_work("jobs", Duration::from_secs(20)), send);
    assert_eq!(found.iter().map(|it| it.receipt.message_id()).collect::<Vec<_>>(), [id]);
    assert!(begun.elapsed() < Duration::from_secs(6), "a poll interval later at most: {:?}", begun.elapsed());
    let begun = tokio::time::Instant::now();
    assert_eq!(bench.take_work("jobs", Duration::from_secs(20)).await, Vec::new());
    assert_eq!(begun.elapsed().as_secs(), 20, "a wait takes its whole time");
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_when_nobody_wants_its_end_any_more() {
    let bench = Bench::new().await;
    let claim = WorkClaim {
        queue: queue("jobs"),
        limit: 1,
        lease: Duration::from_secs(30),
        wait: Duration::from_secs(20),
    };
    let begun = tokio::time::Instant::now();
    let ended = tokio::time::sleep(Duration::from_secs(3));
    assert_eq!(bench.broker.claim_work(&claim, ended).await.unwrap(), Vec::new());
    assert_eq!(begun.elapsed().as_secs(), 3);
    // What was leased for it all the same goes back as if it had never been handed out.
    bench.store_work("jobs", message("1")).await;
    for _ in 0..3 {
        let found = bench.take_work("jobs", Duration::ZERO).await;
        assert_eq!((found.len(), found[0].attempt), (1, 1));
        bench.broker.return_work(&queue("jobs"), &[found[0].receipt]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn q5_a_settlement_that_was_not_confirmed_may_be_repeated() {
    let bench = Bench::new().await;
    bench.store_work("jobs", message("1")).await;
    let receipt = bench.take_work("jobs", Duration::ZERO).await[0].receipt;
    bench.store.fail_next(Op::Settle, &[Fault::AnswerLost]);
    let settlement = WorkSettlement { receipt, outcome: WorkOutcome::Ack };
    let lost = bench.broker.settle_work(&queue("jobs"), vec![settlement]).await;
    let is_unknown = match &lost {
        Err(BrokerError::Store(StoreError::Unknown(_))) => true,
        Ok(answers) => matches!(answers[..], [WorkSettled::Failed(StoreError::Unknown(_))]),
        Err(_) => false,
    };
    assert!(is_unknown, "{lost:?}");
    assert_eq!(bench.end_work("jobs", receipt, WorkOutcome::Ack).await, [WorkSettled::LeaseLost]);
    assert_eq!(bench.broker.work_queue(&queue("jobs")).await.unwrap().depth.acked, 1);
}

#[tokio::test(start_paused = true)]
async fn q11_a_send_that_was_not_confirmed_is_stored_once() {
    let bench = Bench::new().await;
    let with_key = || WorkMessage { dedup: Some(WorkDedup::Own("k".to_owned())), ..message("1") };
    bench.broker.send_work(&queue("other"), vec![message("the organisation is known")]).await.unwrap();
    bench.store.fail_next(Op::Enqueue, &[Fault::AnswerLost]);
    let lost = bench.broker.send_work(&queue("jobs"), vec![with_key()]).await;
    assert!(!matches!(&lost, Ok(sent) if matches!(sent[..], [WorkSent::New { .. }])), "{lost:?}");
    let again = bench.broker.send_work(&queue("jobs"), vec![with_key()]).await.unwrap();
    assert!(matches!(again[..], [WorkSent::Duplicate(_)]), "{again:?}");
    assert_eq!(bench.broker.work_queue(&queue("jobs")).await.unwrap().depth.ready, 1);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_dropped_when_the_time_of_their_policy_is_over() {
    let bench = Bench::new().await;
    let policy = WorkPolicy { dead_seconds: 3_600.0, ..WorkPolicy::default() };
    bench.broker.set_work_policy(&queue("short"), Some(policy)).await.unwrap();
    let kill = async |name: &str| {
        bench.store_work(name, message("1")).await;
        let receipt = bench.take_work(name, Duration::ZERO).await[0].receipt;
        let outcome = WorkOutcome::Dead { reason: Some("no".to_owned()) };
        assert_eq!(bench.end_work(name, receipt, outcome).await, [WorkSettled::Done]);
    };
    for name in ["short", "usual"] {
        kill(name).await;
    }
    let dead = async |name: &str| bench.broker.work_queue(&queue(name)).await.unwrap().depth.dead;
    bench.keep_house(2, Duration::from_secs(120)).await;
    assert_eq!((dead("short").await, dead("usual").await), (1, 1));
    bench.pass(Duration::from_secs(3_600));
    kill("short").await;
    bench.keep_house(3, Duration::from_secs(61)).await;
    assert_eq!((dead("short").await, dead("usual").await), (1, 1), "the younger one stays");
    bench.keep_house(3, Duration::from_secs(15 * 86_400)).await;
    assert_eq!((dead("short").await, dead("usual").await), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_set_takes_little_room_however_often_it_is_changed() {
    let mut bench = Bench::new().await;
    let policy = WorkPolicy { max_attempts: 3, ..WorkPolicy::default() };
    bench.broker.set_work_policy(&queue("jobs"), Some(policy.clone())).await.unwrap();
    for round in 0..4_200 {
        bench.broker.pause_work(&queue("jobs"), round % 2 == 0).await.unwrap();
    }
    bench.broker.pause_work(&queue("other"), true).await.unwrap();
    bench.keep_house(2, Duration::from_secs(61)).await;
    let topic = Name::new("", Kind::Sys, "queues").unwrap();
    let Read::Events { events, .. } = bench.store.read(&topic, ReadFrom::Earliest, 1_000).await.unwrap()
    else {
        panic!("a gap at the beginning")
    };
    assert!(events.len() <= 4, "{} events", events.len());
    bench.restart().await;
    let jobs = bench.broker.work_queue(&queue("jobs")).await.unwrap();
    assert_eq!((jobs.paused_since, jobs.policy), (None, policy));
    assert!(bench.broker.work_queue(&queue("other")).await.unwrap().paused_since.is_some());
    bench.broker.pause_work(&queue("jobs"), true).await.unwrap();
    assert!(bench.broker.work_queue(&queue("jobs")).await.unwrap().paused_since.is_some());
}

#[tokio::test(start_paused = true)]
async fn counts_and_rates_follow_what_the_store_holds() {
    let config = BrokerConfig { org_queue_messages_max: 3, ..BrokerConfig::default() };
    let bench = Bench::with(config).await;
    for _ in 0..3 {
        bench.store_work("jobs", message("1")).await;
    }
    let full = bench.broker.send_work(&queue("jobs"), vec![message("1")]).await;
    assert_eq!(full, Err(BrokerError::WorkFull(WorkFull::OrgMessages(3))));
    for delivery in bench.take_work("jobs", Duration::ZERO).await {
        bench.end_work("jobs", delivery.receipt, WorkOutcome::Ack).await;
    }
    bench.keep_house(3, Duration::from_secs(5)).await;
    bench.store_work("jobs", message("1")).await;
    let rates = bench.broker.work_queue(&queue("jobs")).await.unwrap().rates.expect("it was watched");
    assert!(rates.enqueued > 0.0 && rates.acked >= 0.0, "{rates:?}");
    assert_eq!(bench.store.depth(&Name::new("acme", Kind::Public, "jobs").unwrap()).await.unwrap().ready, 1);
}
