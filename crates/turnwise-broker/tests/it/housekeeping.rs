//! Of many nodes on one store one keeps house.

use crate::bench::{Bench, names};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{Broker, BrokerConfig, Housekeeping, TurnState};
use turnwise_core::{Kind, MessageInfo, Name, QueueStore, Stage};

const DAY_AND_MORE: Duration = Duration::from_secs(24 * 3600 + 1);
/// Some rounds of every sweeper.
const ROUNDS: Duration = Duration::from_secs(60);

async fn one_of_many() -> (Bench, Broker) {
    let config = BrokerConfig { housekeeping: Housekeeping::OneOfMany, ..BrokerConfig::default() };
    let mut bench = Bench::with(config).await;
    let first = bench.broker.clone();
    bench.restart().await;
    (bench, first)
}

/// The message whose lease is the duty.
async fn duty(bench: &Bench) -> Vec<MessageInfo> {
    let queue = Name::new("", Kind::Sys, "housekeeping").unwrap();
    let mut all = Vec::new();
    for stage in [Stage::Leased, Stage::Ready, Stage::Dead] {
        all.extend(bench.store.list(&queue, stage, None, 10).await.unwrap());
    }
    all
}

async fn expires(bench: &Bench) {
    let sent = bench.send("ann", "too old").await;
    bench.pass(DAY_AND_MORE);
    assert_eq!(bench.end(sent.id).await.state, TurnState::Failed);
    assert_eq!(names(&bench.read(sent.id, None).await), ["queued", "error expired"]);
}

#[tokio::test(start_paused = true)]
async fn one_of_many_nodes_keeps_house_and_another_follows_it() {
    let (bench, first) = one_of_many().await;
    let (ends_first, ends_second) = (CancellationToken::new(), CancellationToken::new());
    let story = async {
        for _ in 0..ROUNDS.as_secs() {
            bench.pass(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let message = duty(&bench).await;
        assert_eq!(message.len(), 1, "it is there once");
        assert_eq!((message[0].stage, message[0].attempt), (Stage::Leased, 1), "kept, not taken in turns");
        expires(&bench).await;
        ends_first.cancel();
        expires(&bench).await;
        ends_second.cancel();
    };
    tokio::join!(first.run_sweeper(ends_first.clone()), bench.broker.run_sweeper(ends_second.clone()), story);
    let message = duty(&bench).await;
    assert_eq!(message[0].stage, Stage::Ready, "left to whoever comes");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_followed_when_its_lease_is_over() {
    let (bench, first) = one_of_many().await;
    let end = CancellationToken::new();
    let frozen = async {
        tokio::select! {
            () = first.run_sweeper(CancellationToken::new()) => {}
            () = tokio::time::sleep(ROUNDS) => {}
        }
    };
    frozen.await;
    assert_eq!(duty(&bench).await[0].stage, Stage::Leased, "it ended without a word");
    let story = async {
        expires(&bench).await;
        end.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(end.clone()), story);
    assert_eq!(duty(&bench).await[0].attempt, 1, "a second lease, given back at the end");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_it_to_others_changes_nothing() {
    let config = BrokerConfig { housekeeping: Housekeeping::Others, ..BrokerConfig::default() };
    let bench = Bench::with(config).await;
    let sent = bench.send("ann", "too old").await;
    bench.pass(DAY_AND_MORE);
    let end = CancellationToken::new();
    let story = async {
        tokio::time::sleep(ROUNDS).await;
        end.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(end.clone()), story);
    assert!(duty(&bench).await.is_empty());
    assert_ne!(bench.view(sent.id).await.state, TurnState::Failed, "nobody looked");
}
