//! Clauses Q3 to Q6 and Q18: leases, fencing, lapse, stop requests.

use crate::harness::Harness;
use crate::trial::{LEASE, PAGE, Trial, Verdict, event, message, publish, queue, retry, secs, texts, topic};
use crate::{Broken, hold, same};
use std::time::Duration;
use turnwise_core::{
    Claim, Delivery, Effect, Extended, LeaseToken, OrderingKey, Outcome, Receipt, Settled, Stage,
    StopRequested,
};

const TICK: Duration = Duration::from_micros(1);

pub(super) async fn q03_one_live_lease_per_key(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    for (key, name) in [("k", "k1"), ("k", "k2"), ("", "u1"), ("", "u2")] {
        trial.put(&jobs, key, name).await?;
    }
    let held = trial.claim(&jobs, PAGE).await?;
    same!(texts(&held), ["k1", "u1", "u2"], "one per key, each unkeyed one");
    for delivery in &held {
        same!(delivery.expires_at, harness.clock().now().after(LEASE), "the end of the lease");
    }
    trial.expect_none(&jobs, "right after").await?;
    trial.crash().await;
    trial.expect_none(&jobs, "after a crash, the lease being durable").await?;
    harness.clock().advance(LEASE - TICK);
    trial.expect_none(&jobs, "just before the lease ends").await?;
    let head = held.first().ok_or_else(|| Broken("no head".into()))?;
    let extended = trial.store.extend(vec![head.receipt.clone()], secs(60)).await?;
    let until = harness.clock().now().after(secs(60));
    same!(extended, [Ok(Extended::Until(until))], "extending a live lease");
    harness.clock().advance(TICK);
    let back = trial.claim(&jobs, PAGE).await?;
    same!(texts(&back), ["u1", "u2"], "at the end of the lease only what was not extended");
    trial.crash().await;
    harness.clock().advance(secs(60) - TICK - TICK);
    same!(texts(&trial.claim(&jobs, PAGE).await?), ["u1", "u2"], "the extension holds across a crash");
    harness.clock().advance(TICK);
    same!(texts(&trial.claim(&jobs, PAGE).await?), ["k1"], "at the end of the extension");
    let lane = trial.store.lane(&jobs, &OrderingKey("k".into()), None).await?;
    same!((lane.length, lane.in_flight), (2, Some(head.receipt.id)), "the lane tells who is in flight");
    Ok(())
}

pub(super) async fn q04_tokens_only_rise(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    trial.put(&jobs, "k", "m").await?;
    let mut last = LeaseToken(0);
    let store_time = u64::try_from(harness.clock().now().0).unwrap_or(0);
    for round in 0..24_u32 {
        let durable = round % 3 != 0;
        let claim = Claim { queue: jobs.clone(), limit: 1, lease: LEASE, durable };
        let mut got = trial.store.claim(claim).await?;
        hold!(!got.is_empty(), "nothing to claim in round {round}");
        let delivery = got.remove(0);
        let token = delivery.receipt.token;
        hold!(token > last, "round {round}: {token:?} after {last:?}");
        hold!(token.0 >= store_time, "{token:?} is below the store time {store_time}");
        last = token;
        match round % 6 {
            0 => trial.settle(&delivery, Outcome::Release).await?,
            1 => trial.settle(&delivery, retry(secs(0), "again")).await?,
            2 => harness.clock().advance(LEASE),
            3 => {
                trial.settle(&delivery, Outcome::Dead { reason: "dead".into() }).await?;
                same!(trial.store.redrive(&jobs, vec![delivery.receipt.id]).await?, 1, "redriven");
            }
            4 => {
                trial.crash().await;
                harness.clock().advance(LEASE);
            }
            _ => {
                trial.ack(&delivery).await?;
                trial.crash().await;
                harness.clock().step_back(secs(600));
                trial.put(&jobs, "k", "m").await?;
            }
        }
    }
    Ok(())
}

/// The settlements and the extension of a lease that is over, none of which may do anything.
async fn refused(trial: &Trial<'_>, receipt: &Receipt, why: &str) -> Verdict {
    let (notes, side) = (topic("effects"), queue("side"));
    let seen = trial.get(&receipt.queue, receipt.id).await?;
    let outcomes =
        [Outcome::Ack, Outcome::Release, retry(secs(9), "stale"), Outcome::Dead { reason: "stale".into() }];
    for outcome in outcomes {
        let effects = vec![publish(&notes, "stale"), Effect::Enqueue(message(&side, "", "stale"))];
        let settled = trial.settle_with(receipt, outcome.clone(), effects).await?;
        same!(settled, Settled::LeaseLost, "{why}: {outcome:?}");
    }
    let appended = trial.store.append_held(receipt, vec![event(&notes, "stale")]).await?;
    same!(appended, None, "{why}: append");
    let extended = trial.store.extend(vec![receipt.clone()], secs(99)).await?;
    same!(extended, [Ok(Extended::LeaseLost)], "{why}: extend");
    let now = trial.get(&receipt.queue, receipt.id).await?;
    let key = |info: &Option<turnwise_core::MessageInfo>| {
        info.as_ref().map(|info| (info.attempt, info.not_before, info.payload.clone()))
    };
    same!(key(&now), key(&seen), "{why}: the message");
    let reason = now.and_then(|info| info.reason).unwrap_or_default();
    hold!(!reason.contains("stale"), "{why}: the reason was taken");
    hold!(trial.notes(&notes).await?.is_empty(), "{why}: an event was published");
    trial.expect_none(&side, why).await
}

pub(super) async fn q05_a_dead_lease_changes_nothing(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    trial.put(&jobs, "k", "one").await?;
    trial.put(&jobs, "k", "two").await?;
    let lapsed = trial.expect(&jobs, "one").await?;
    harness.clock().advance(LEASE - TICK);
    let log = topic("log");
    let appended =
        trial.store.append_held(&lapsed.receipt, vec![event(&log, "in time"), event(&log, "too")]).await?;
    same!(
        appended.map(|all| all.iter().filter(|one| one.is_ok()).count()),
        Some(2),
        "just before the end of the lease"
    );
    same!(trial.notes(&log).await?, ["in time", "too"], "what the holder appended");
    harness.clock().advance(TICK);
    refused(&trial, &lapsed.receipt, "at the very end of the lease, with nobody else about").await?;
    let second = trial.expect(&jobs, "one").await?;
    refused(&trial, &lapsed.receipt, "after the next lease").await?;
    let wrong = Receipt { token: LeaseToken(second.receipt.token.0 + 1), ..second.receipt.clone() };
    refused(&trial, &wrong, "a token from the future").await?;
    let wrong = Receipt { queue: queue("foreign"), ..second.receipt.clone() };
    refused(&trial, &wrong, "another queue").await?;
    trial.crash().await;
    refused(&trial, &lapsed.receipt, "after a crash").await?;
    trial.settle(&second, Outcome::Release).await?;
    refused(&trial, &second.receipt, "after its own release").await?;
    let third = trial.expect(&jobs, "one").await?;
    trial.ack(&third).await?;
    refused(&trial, &third.receipt, "after its own ack").await?;
    trial.crash().await;
    refused(&trial, &third.receipt, "after its own ack and a crash").await?;
    let next = trial.expect(&jobs, "two").await?;
    let mixed = Receipt { id: next.receipt.id, ..third.receipt.clone() };
    refused(&trial, &mixed, "the neighbour's token").await?;
    trial.ack(&next).await?;
    trial.expect_none(&jobs, "at the end").await
}

pub(super) async fn q06_a_lapsed_lease_returns_the_same_message(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    for (key, name) in [("k", "k1"), ("k", "k2"), ("", "u")] {
        trial.put(&jobs, key, name).await?;
    }
    let mut before: Vec<Delivery> = trial.claim(&jobs, PAGE).await?;
    for attempt in 2..=5 {
        harness.clock().advance(LEASE);
        if attempt == 4 {
            trial.crash().await;
        }
        let again = trial.claim(&jobs, PAGE).await?;
        same!(texts(&again), ["k1", "u"], "the same messages, lease {attempt}, no sweep");
        for (new, old) in again.iter().zip(&before) {
            same!(new.receipt.id, old.receipt.id, "the id");
            same!(new.attempt, attempt, "the attempt");
            hold!(new.receipt.token > old.receipt.token, "the token did not rise");
        }
        before = again;
    }
    for delivery in &before {
        trial.ack(delivery).await?;
    }
    trial.expect(&jobs, "k2").await?;
    Ok(())
}

pub(super) async fn q18_a_stop_request_reaches_the_holder(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    let id = trial.put(&jobs, "k", "m").await?;
    same!(trial.store.request_stop(&jobs, id).await?, StopRequested::NotLeased, "before any lease");
    let delivery = trial.expect(&jobs, "m").await?;
    let until = harness.clock().now().after(LEASE);
    let extended = trial.store.extend(vec![delivery.receipt.clone()], LEASE).await?;
    same!(extended, [Ok(Extended::Until(until))], "a request before the lease does not reach it");
    same!(trial.store.request_stop(&jobs, id).await?, StopRequested::Asked, "while leased");
    hold!(trial.info(&jobs, id).await?.stop_requested, "the request is not told by get");
    trial.crash().await;
    for _ in 0..2 {
        let extended = trial.store.extend(vec![delivery.receipt.clone()], LEASE).await?;
        same!(extended, [Ok(Extended::Stop(until))], "the holder is asked to stop, and extended");
    }
    same!(trial.info(&jobs, id).await?.stage, Stage::Leased, "the lease lives on");
    trial.settle(&delivery, Outcome::Release).await?;
    same!(trial.store.request_stop(&jobs, id).await?, StopRequested::NotLeased, "after the lease");
    let next = trial.expect(&jobs, "m").await?;
    let extended = trial.store.extend(vec![next.receipt.clone()], LEASE).await?;
    same!(extended, [Ok(Extended::Until(until))], "the next holder is not asked");
    trial.ack(&next).await?;
    same!(trial.store.request_stop(&jobs, id).await?, StopRequested::NotFound, "when it is gone");
    Ok(())
}
