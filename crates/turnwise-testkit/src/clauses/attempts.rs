//! Clauses Q7 and Q8: counting attempts, and what a retry blocks.

use crate::harness::Harness;
use crate::trial::{LEASE, PAGE, Trial, Verdict, message, queue, retry, secs, texts};
use crate::{hold, same};
use std::time::Duration;
use turnwise_core::{Outcome, Stage};

pub(super) async fn q07_attempts_count_leases_and_end_dead(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    let limited = |key: &str, text: &str, attempts| {
        let mut message = message(&jobs, key, text);
        message.max_attempts = attempts;
        message
    };
    let poison = trial.put_message(limited("k", "poison", 3)).await?;
    trial.put(&jobs, "k", "next").await?;
    for round in 0..5 {
        let delivery = trial.expect(&jobs, "poison").await?;
        same!(delivery.attempt, 1, "release gave attempt {round} back");
        trial.settle(&delivery, Outcome::Release).await?;
        same!(trial.info(&jobs, poison).await?.attempt, 0, "told after a release");
    }
    for attempt in 1..=3 {
        let delivery = trial.expect(&jobs, "poison").await?;
        same!(delivery.attempt, attempt, "the attempt");
        trial.settle(&delivery, retry(secs(0), &format!("failed {attempt}"))).await?;
        trial.crash().await;
        let info = trial.info(&jobs, poison).await?;
        let reason = info.reason.unwrap_or_default();
        hold!(reason.contains(&format!("failed {attempt}")), "the reason kept: {reason:?}");
        same!(info.stage, if attempt == 3 { Stage::Dead } else { Stage::Ready }, "the stage");
    }
    let next = trial.expect(&jobs, "next").await?;
    trial.ack(&next).await?;

    let lost = trial.put_message(limited("", "lost", 2)).await?;
    let behind = trial.put_message(limited("k", "slow", 1)).await?;
    trial.put(&jobs, "k", "last").await?;
    same!(texts(&trial.claim(&jobs, PAGE).await?), ["lost", "slow"], "both heads");
    harness.clock().advance(LEASE);
    let again = trial.claim(&jobs, PAGE).await?;
    same!(texts(&again), ["lost", "last"], "one returns, the other is dead and its key moves on");
    harness.clock().advance(LEASE);
    trial.sweep().await?;
    for id in [lost, behind] {
        let info = trial.info(&jobs, id).await?;
        same!(info.stage, Stage::Dead, "a lapse at the last attempt");
        hold!(info.reason.is_some(), "a dead letter of the store has no reason");
    }
    trial.crash().await;
    let dead = trial.list(&jobs, Stage::Dead).await?;
    let ids: Vec<_> = dead.iter().map(|info| info.id).collect();
    same!(ids, [poison, lost, behind], "the dead letters");
    same!(texts(&trial.claim(&jobs, PAGE).await?), ["last"], "what still runs");
    trial.conserve(&jobs).await?;
    Ok(())
}

pub(super) async fn q08_a_retry_keeps_its_place(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    for (key, name) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("", "u1")] {
        trial.put(&jobs, key, name).await?;
    }
    let held = trial.claim(&jobs, PAGE).await?;
    same!(texts(&held), ["a1", "b1", "u1"], "the heads");
    let end = harness.clock().now().after(secs(10));
    for delivery in held.iter().filter(|delivery| &delivery.payload[..] != b"b1") {
        trial.settle(delivery, retry(secs(10), "busy")).await?;
        let info = trial.info(&jobs, delivery.receipt.id).await?;
        same!((info.stage, info.not_before), (Stage::Ready, Some(end)), "a waiting retry");
    }
    trial.expect_none(&jobs, "a retry delay blocks its key").await?;
    trial.put(&jobs, "c", "c1").await?;
    let other = trial.expect(&jobs, "c1").await?;
    trial.ack(&other).await?;
    for delivery in held.iter().filter(|delivery| &delivery.payload[..] == b"b1") {
        trial.ack(delivery).await?;
    }
    trial.crash().await;
    trial.put(&jobs, "a", "a3").await?;
    harness.clock().advance(secs(10) - Duration::from_micros(1));
    trial.expect_none(&jobs, "just before the delay ends").await?;
    trial.conserve(&jobs).await?;
    harness.clock().advance(Duration::from_micros(1));
    let back = trial.claim(&jobs, PAGE).await?;
    same!(texts(&back), ["a1", "u1"], "at the end of the delay, before those behind");
    for delivery in &back {
        same!(delivery.attempt, 2, "the attempt of a retry");
        trial.ack(delivery).await?;
    }
    for name in ["a2", "a3"] {
        let delivery = trial.expect(&jobs, name).await?;
        trial.ack(&delivery).await?;
    }
    Ok(())
}
