//! Clauses Q13 to Q15: counters, redrive, remove, expiry, batches.

use crate::harness::Harness;
use crate::trial::{LEASE, PAGE, Trial, Verdict, message, publish, queue, retry, secs, texts, topic};
use crate::{hold, same};
use std::time::Duration;
use turnwise_core::limits::{
    ATTEMPTS_MAX, BATCH_ITEMS_MAX, CLAIM_LIMIT_MAX, EFFECTS_MAX, ENDED_HEADER_BYTES, HEADERS_BYTES_MAX,
    KEY_BYTES_MAX, LEASE_MAX, PRIORITY_MAX, REASON_BYTES_MAX, RETRY_DELAY_MAX,
};
use turnwise_core::{
    Claim, Dedup, Enqueued, NewMessage, OrderingKey, Outcome, Priority, QueueName, Removed, Settled,
    Settlement, Stage, StoreError,
};

pub(super) async fn q13_nothing_vanishes(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, clock) = (queue("jobs"), harness.clock());
    let mut batch: Vec<NewMessage> = Vec::new();
    for n in 0..60_u32 {
        let key = if n % 4 == 0 { String::new() } else { format!("k{}", n % 7) };
        let mut message = message(&jobs, &key, &format!("m{n}"));
        message.max_attempts = 1 + n % 3;
        message.deliver_at = (n % 5 == 0).then(|| clock.now().after(secs(u64::from(n))));
        message.expires_at = (n % 6 == 0).then(|| clock.now().after(secs(u64::from(n) + 40)));
        batch.push(message);
    }
    for answer in trial.store.enqueue(batch).await? {
        answer?;
    }
    let mut totals = (0, 0, 0);
    for round in 0..12_u32 {
        for (n, delivery) in trial.claim(&jobs, 8).await?.into_iter().enumerate() {
            match n % 5 {
                0 => trial.ack(&delivery).await?,
                1 => trial.settle(&delivery, retry(secs(3), "r")).await?,
                2 => trial.settle(&delivery, Outcome::Dead { reason: "d".into() }).await?,
                3 => trial.settle(&delivery, Outcome::Release).await?,
                _ => {}
            }
        }
        if round % 4 == 1 {
            let dead: Vec<_> =
                trial.list(&jobs, Stage::Dead).await?.iter().map(|info| info.id).take(2).collect();
            let redriven = trial.store.redrive(&jobs, dead.clone()).await?;
            same!(redriven as usize, dead.len(), "redriven");
        }
        if round % 4 == 2 {
            let ready = trial.list(&jobs, Stage::Ready).await?;
            if let Some(info) = ready.last() {
                trial.store.remove(&jobs, vec![(info.id, Vec::new())]).await?;
            }
        }
        let depth = trial.conserve(&jobs).await?;
        if !harness.durable() {
            same!(depth.enqueued, 60, "ever stored");
        }
        hold!(depth.acked >= totals.0 || harness.durable(), "acked went back");
        totals = (depth.acked, depth.removed, depth.expired);
        if round == 5 {
            let kept = (depth.scheduled, depth.ready, depth.leased, depth.dead);
            trial.crash().await;
            let depth = trial.conserve(&jobs).await?;
            same!((depth.scheduled, depth.ready, depth.leased, depth.dead), kept, "after a crash");
        }
        clock.advance(secs(9));
    }
    clock.advance(secs(500));
    trial.conserve(&jobs).await?;
    for queue in trial.store.queues(None, PAGE).await? {
        same!(queue, jobs, "queues that hold messages");
    }
    Ok(())
}

async fn redriven_at_the_tail(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    let mut once = message(&jobs, "k", "dead");
    once.max_attempts = 2;
    let id = trial.put_message(once).await?;
    trial.put(&jobs, "k", "next").await?;
    for _ in 0..2 {
        let delivery = trial.expect(&jobs, "dead").await?;
        trial.settle(&delivery, retry(secs(0), "r")).await?;
    }
    same!(trial.info(&jobs, id).await?.stage, Stage::Dead, "the stage");
    trial.crash().await;
    same!(trial.store.redrive(&jobs, vec![id, id]).await?, 1, "one was dead");
    let info = trial.info(&jobs, id).await?;
    same!((info.stage, info.attempt), (Stage::Ready, 0), "a redriven message");
    trial.crash().await;
    trial.put(&jobs, "k", "last").await?;
    for (name, attempt) in [("next", 1), ("dead", 1), ("last", 1)] {
        let delivery = trial.expect(&jobs, name).await?;
        same!(delivery.attempt, attempt, "the attempt of {name}");
        trial.ack(&delivery).await?;
    }
    same!(trial.store.redrive(&jobs, vec![id]).await?, 0, "nothing is dead");
    Ok(())
}

async fn expired_and_removed(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, clock) = (queue("jobs"), harness.clock());
    let mut ids = Vec::new();
    for (key, name, life) in [
        ("k", "a", 0),
        ("k", "b", 5),
        ("k", "c", 0),
        ("z", "z", 5),
        ("", "u", 5),
        ("k", "d", 50),
        ("y", "y", 5),
    ] {
        let mut message = message(&jobs, key, name);
        message.expires_at = (life > 0).then(|| clock.now().after(secs(life)));
        message.deliver_at = (name == "y").then(|| clock.now().after(secs(5)));
        ids.push(trial.put_message(message).await?);
    }
    let held = trial.expect(&jobs, "a").await?;
    let refused = trial.store.remove(&jobs, vec![(held.receipt.id, vec![publish(&topic("t"), "x")])]).await?;
    same!(refused, [Ok(Removed::Leased)], "removing what is leased");
    hold!(trial.notes(&topic("t")).await?.is_empty(), "a refused remove had an effect");
    clock.advance(secs(5));
    trial.crash().await;
    trial.expect_none(&jobs, "past their time").await?;
    trial.ack(&held).await?;
    let next = trial.expect(&jobs, "c").await?;
    let depth = trial.conserve(&jobs).await?;
    hold!(depth.expired == 4 || harness.durable(), "four expired, told {}", depth.expired);
    trial.ack(&next).await?;
    let last = trial.expect(&jobs, "d").await?;

    // A lease may run past the end of its message; afterwards nobody gets it.
    clock.advance(LEASE - secs(1));
    let extended = trial.store.extend(vec![last.receipt.clone()], secs(40)).await?;
    hold!(matches!(extended.as_slice(), [Ok(turnwise_core::Extended::Until(_))]), "extend: {extended:?}");
    clock.advance(secs(30));
    trial.settle(&last, retry(secs(0), "late")).await?;
    trial.expect_none(&jobs, "a retry past the end").await?;
    trial.sweep().await?;
    same!(trial.store.get(&jobs, ids.clone()).await?, vec![None; ids.len()], "all are gone");

    // Remove takes what waits, what is scheduled and what is dead.
    let mut later = message(&jobs, "r", "later");
    later.deliver_at = Some(clock.now().after(secs(60)));
    let later = trial.put_message(later).await?;
    let dead = trial.put(&jobs, "r", "dead").await?;
    let delivery = trial.expect(&jobs, "dead").await?;
    trial.settle(&delivery, Outcome::Dead { reason: "d".into() }).await?;
    let ready = trial.put(&jobs, "r", "ready").await?;
    trial.put(&jobs, "r", "stays").await?;
    let refused = trial.store.remove(&jobs, vec![(dead, vec![publish(&topic("t"), "again")])]).await?;
    same!(refused, [Ok(Removed::Dead)], "a second end for a dead letter");
    trial.crash().await;
    same!(trial.info(&jobs, dead).await?.stage, Stage::Dead, "a dead letter that was not removed");
    hold!(trial.notes(&topic("t")).await?.is_empty(), "a refused remove had an effect");
    let items = [later, dead, ready, ready].map(|id| (id, Vec::new())).to_vec();
    let answers = trial.store.remove(&jobs, items).await?;
    let done = Ok(Removed::Done);
    same!(answers, [done.clone(), done.clone(), done, Ok(Removed::NotFound)], "remove");
    trial.crash().await;
    clock.advance(secs(60));
    same!(texts(&trial.claim(&jobs, PAGE).await?), ["stays"], "the neighbours are untouched");
    trial.conserve(&jobs).await?;
    Ok(())
}

pub(super) async fn q14_redrive_remove_and_expiry(harness: &dyn Harness) -> Verdict {
    redriven_at_the_tail(harness).await?;
    expired_and_removed(harness).await
}

/// Messages each of which breaks one rule.
fn malformed(jobs: &QueueName) -> Vec<(&'static str, NewMessage)> {
    let good = || message(jobs, "k", "bad");
    let long = |bytes: usize| "x".repeat(bytes);
    let dedup = |key: String, window| Dedup { key: key.into(), window, content_hash: [0; 16] };
    vec![
        ("priority", NewMessage { priority: Priority(PRIORITY_MAX + 1), ..good() }),
        ("no attempts", NewMessage { max_attempts: 0, ..good() }),
        ("attempts", NewMessage { max_attempts: ATTEMPTS_MAX + 1, ..good() }),
        ("key", NewMessage { key: Some(OrderingKey(long(KEY_BYTES_MAX + 1).into())), ..good() }),
        ("headers", NewMessage { headers: vec![("h".into(), long(HEADERS_BYTES_MAX))], ..good() }),
        ("dedup key", NewMessage { dedup: Some(dedup(long(2_049), secs(1))), ..good() }),
        ("window", NewMessage { dedup: Some(dedup(long(1), secs(31 * 86_400))), ..good() }),
        (
            "no room for the header of at_end",
            NewMessage {
                at_end: vec![turnwise_core::Effect::Enqueue(NewMessage {
                    headers: vec![("h".into(), long(HEADERS_BYTES_MAX - ENDED_HEADER_BYTES))],
                    ..good()
                })],
                ..good()
            },
        ),
        ("at_end", NewMessage { at_end: (0..9).map(|_| publish(&topic("t"), "x")).collect(), ..good() }),
    ]
}

async fn invalid_before_any_change(trial: &Trial<'_>, jobs: &QueueName) -> Verdict {
    for (what, bad) in malformed(jobs) {
        let answer = trial.store.enqueue(vec![message(jobs, "k", "good"), bad]).await;
        hold!(matches!(answer, Err(StoreError::Invalid(_))), "{what}: {answer:?}");
    }
    let many = vec![message(jobs, "k", "good"); BATCH_ITEMS_MAX + 1];
    let answer = trial.store.enqueue(many).await;
    hold!(matches!(answer, Err(StoreError::Invalid(_))), "too many items were taken");
    for (limit, lease) in [(CLAIM_LIMIT_MAX + 1, LEASE), (1, LEASE_MAX + secs(1))] {
        let answer = trial.store.claim(Claim { queue: jobs.clone(), limit, lease, durable: true }).await;
        hold!(matches!(answer, Err(StoreError::Invalid(_))), "claim {limit} {lease:?}: {answer:?}");
    }
    same!(trial.store.depth(jobs).await?, turnwise_core::Depth::default(), "after refused batches");
    Ok(())
}

async fn refused_settlements(trial: &Trial<'_>, jobs: &QueueName) -> Verdict {
    let log = topic("log");
    trial.put(jobs, "a", "a").await?;
    trial.put(jobs, "b", "b").await?;
    let held = trial.claim(jobs, PAGE).await?;
    let [first, second] = held.as_slice() else {
        return Err(crate::Broken(format!("two heads, got {:?}", texts(&held))));
    };
    let good = Settlement {
        receipt: first.receipt.clone(),
        outcome: Outcome::Ack,
        effects: vec![publish(&log, "good")],
    };
    let other = |outcome, effects| Settlement { receipt: second.receipt.clone(), outcome, effects };
    let bad_effect = NewMessage { max_attempts: 0, ..message(jobs, "", "bad") };
    let bad = [
        other(Outcome::Ack, vec![publish(&log, "x"); EFFECTS_MAX + 1]),
        other(retry(RETRY_DELAY_MAX + secs(1), ""), Vec::new()),
        other(retry(Duration::ZERO, &"r".repeat(REASON_BYTES_MAX + 1)), Vec::new()),
        other(Outcome::Ack, vec![turnwise_core::Effect::Enqueue(bad_effect)]),
    ];
    for bad in bad {
        let answer = trial.store.settle(vec![good.clone(), bad]).await;
        hold!(matches!(answer, Err(StoreError::Invalid(_))), "a malformed settlement: {answer:?}");
    }
    hold!(trial.notes(&log).await?.is_empty(), "a refused batch had effects");
    let stale = other(Outcome::Ack, Vec::new());
    let answers = trial.store.settle(vec![stale.clone(), good, stale]).await?;
    let (done, lost) = (Ok(Settled::Done), Ok(Settled::LeaseLost));
    same!(answers, [done.clone(), done, lost], "answer i is for item i");
    same!(trial.notes(&log).await?, ["good"], "effects of the good one");
    Ok(())
}

pub(super) async fn q15_batches_are_checked_first_and_answered_apart(harness: &dyn Harness) -> Verdict {
    let trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    invalid_before_any_change(&trial, &jobs).await?;
    refused_settlements(&trial, &jobs).await?;

    let dedup = Dedup { key: "d".into(), window: secs(60), content_hash: [1; 16] };
    let other = Dedup { content_hash: [2; 16], ..dedup.clone() };
    let batch = vec![
        NewMessage { dedup: Some(dedup), ..message(&jobs, "k", "one") },
        NewMessage { dedup: Some(other), ..message(&jobs, "k", "conflict") },
        NewMessage { lane_max: Some(1), ..message(&jobs, "k", "full") },
        message(&jobs, "k", "two"),
    ];
    let answers = trial.store.enqueue(batch).await?;
    let kinds: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Ok(Enqueued::New { position, .. }) => format!("new {position}"),
            Ok(Enqueued::DedupConflict(_)) => "conflict".into(),
            Ok(Enqueued::LaneFull) => "full".into(),
            other => format!("{other:?}"),
        })
        .collect();
    same!(kinds, ["new 1", "conflict", "full", "new 2"], "each item has its own answer");
    let before = trial.store.depth(&jobs).await?;
    same!(trial.store.enqueue(Vec::new()).await?.len(), 0, "answers to an empty batch");
    same!(trial.store.depth(&jobs).await?, before, "an empty batch only asks for room");
    trial.conserve(&jobs).await?;
    Ok(())
}
