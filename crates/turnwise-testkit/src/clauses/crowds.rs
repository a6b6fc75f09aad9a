//! Clauses Q6, Q10 and Q14 when time brings more at once than one operation
//! notices: no step does it all, and none does anything wrong meanwhile.

use crate::harness::Harness;
use crate::trial::{LEASE, PAGE, Trial, Verdict, message, notes, publish, queue, retry, secs, texts, topic};
use crate::{Broken, hold, same};
use std::collections::BTreeSet;
use turnwise_core::limits::{BATCH_ITEMS_MAX, TICK_ITEMS_MAX};
use turnwise_core::{
    Effect, Extended, MessageId, NewMessage, Outcome, QueueName, Read, ReadFrom, Removed, Settled, Stage,
    StopRequested, TopicName,
};

/// More than two steps notice.
const CROWD: usize = 3 * TICK_ITEMS_MAX + 10;
/// What one claim may end: in passing, and as heads it meets.
const ENDED_MAX: u64 = 2 * TICK_ITEMS_MAX as u64;
/// Claims after which everything must have been noticed.
const CLAIMS_MAX: usize = 20;

async fn put_all(trial: &Trial<'_>, all: Vec<NewMessage>) -> Result<Vec<MessageId>, Broken> {
    let mut ids = Vec::new();
    for batch in all.chunks(BATCH_ITEMS_MAX) {
        for answer in trial.store.enqueue(batch.to_vec()).await? {
            let turnwise_core::Enqueued::New { id, .. } = answer? else {
                return Err(Broken("a new message was not new".into()));
            };
            ids.push(id);
        }
    }
    Ok(ids)
}

async fn all_notes(trial: &Trial<'_>, topic: &TopicName) -> Result<Vec<String>, Broken> {
    let (mut all, mut from) = (Vec::new(), ReadFrom::Earliest);
    while let Read::Events { events, next } = trial.store.read(topic, from, PAGE).await? {
        if events.is_empty() {
            return Ok(all);
        }
        all.extend(notes(&events));
        from = ReadFrom::After(next);
    }
    Err(Broken("a gap".into()))
}

fn last_of(ids: &[MessageId], back: usize) -> Result<MessageId, Broken> {
    ids.iter().rev().nth(back).copied().ok_or_else(|| Broken("too few".into()))
}

async fn waiting(trial: &Trial<'_>, queue: &QueueName) -> Result<u64, Broken> {
    let depth = trial.store.depth(queue).await?;
    Ok(depth.ready + depth.leased)
}

/// A claim, which ends no more than it may.
async fn some_end(trial: &Trial<'_>, queue: &QueueName, got: &mut BTreeSet<String>) -> Verdict {
    let before = waiting(trial, queue).await?;
    got.extend(texts(&trial.claim(queue, PAGE).await?));
    let ended = before - waiting(trial, queue).await?;
    hold!(ended <= ENDED_MAX, "a claim ended {ended} messages, at most {ENDED_MAX} at once");
    Ok(())
}

pub(super) async fn q14_a_crowd_past_its_time_ends_step_by_step(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, ends, clock) = (queue("jobs"), topic("ends"), harness.clock());
    let end = clock.now().after(secs(10));
    let old = |n: usize| NewMessage {
        expires_at: Some(end),
        at_end: vec![publish(&ends, &format!("m{n}"))],
        ..message(&jobs, &format!("k{}", n % 50), &format!("m{n}"))
    };
    let ids = put_all(&trial, (0..CROWD).map(old).collect()).await?;
    let live: BTreeSet<String> = (0..50).map(|n| format!("live{n}")).collect();
    put_all(&trial, (0..50).map(|n| message(&jobs, &format!("k{n}"), &format!("live{n}"))).collect()).await?;
    clock.set(end);
    let mut got = BTreeSet::new();
    some_end(&trial, &jobs, &mut got).await?;
    let late = last_of(&ids, 0)?;
    let before = waiting(&trial, &jobs).await?;
    let removed = trial.store.remove(&jobs, vec![(late, vec![publish(&ends, "removed")])]).await?;
    same!(removed, [Ok(Removed::NotFound)], "removing what is past its time");
    let ended = before - waiting(&trial, &jobs).await?;
    hold!(ended <= ENDED_MAX, "a remove ended {ended} messages, at most {ENDED_MAX} at once");
    let stop = trial.store.request_stop(&jobs, last_of(&ids, 1)?).await?;
    same!(stop, StopRequested::NotFound, "stopping what is past its time");
    trial.crash().await;

    for _ in 0..CLAIMS_MAX {
        some_end(&trial, &jobs, &mut got).await?;
    }
    same!(got, live, "handed out");
    trial.crash().await;
    trial.conserve(&jobs).await?;
    let mut told = all_notes(&trial, &ends).await?;
    told.sort();
    let mut expected: Vec<String> = (0..CROWD).map(|n| format!("m{n}")).collect();
    expected.sort();
    same!(told.len(), expected.len(), "endings told");
    hold!(told == expected, "each message's end is told once");
    Ok(())
}

pub(super) async fn q06_a_crowd_of_lapsed_leases_returns(harness: &dyn Harness) -> Verdict {
    let trial = Trial::new(harness).await;
    let (jobs, log, clock) = (queue("jobs"), topic("log"), harness.clock());
    put_all(&trial, (0..CROWD).map(|n| message(&jobs, "", &format!("m{n}"))).collect()).await?;
    let mut held = Vec::new();
    while held.len() < CROWD {
        let more = trial.claim(&jobs, PAGE).await?;
        hold!(!more.is_empty(), "only {} of {CROWD} are handed out", held.len());
        held.extend(more);
    }
    clock.advance(LEASE);
    let mut late = held.iter().rev();
    let (Some(first), Some(second), Some(third)) = (late.next(), late.next(), late.next()) else {
        return Err(Broken("too few".into()));
    };
    let effects = || vec![publish(&log, "late")];
    let extended = trial.store.extend(vec![first.receipt.clone()], LEASE).await?;
    same!(extended, [Ok(Extended::LeaseLost)], "extending a lease that ran out");
    let settled = trial.settle_with(&second.receipt, Outcome::Ack, effects()).await?;
    same!(settled, Settled::LeaseLost, "settling a lease that ran out");
    let stop = trial.store.request_stop(&jobs, third.receipt.id).await?;
    same!(stop, StopRequested::NotLeased, "stopping a lease that ran out");
    // X4: what was answered as lost stays lost.
    clock.step_back(secs(5));
    for delivery in [first, second, third] {
        let settled = trial.settle_with(&delivery.receipt, Outcome::Ack, effects()).await?;
        same!(settled, Settled::LeaseLost, "a lease that was seen to be over");
    }
    hold!(trial.notes(&log).await?.is_empty(), "a lost lease had an effect");
    clock.advance(secs(5));

    let mut again = BTreeSet::new();
    for _ in 0..CLAIMS_MAX {
        for delivery in trial.claim(&jobs, PAGE).await? {
            same!(delivery.attempt, 2, "the attempt");
            hold!(again.insert(delivery.receipt.id), "{} is handed out twice", delivery.receipt.id);
        }
    }
    same!(again.len(), CROWD, "handed out again, by claims alone");
    trial.conserve(&jobs).await?;
    Ok(())
}

/// A dead letter, and messages of its key that fall due after the whole crowd.
async fn late_key(trial: &Trial<'_>, side: &QueueName, ats: [u64; 3]) -> Result<MessageId, Broken> {
    let dead = trial.put(side, "k", "dead").await?;
    let delivery = trial.expect(side, "dead").await?;
    trial.settle(&delivery, Outcome::Dead { reason: "d".into() }).await?;
    for (name, at) in ["c", "a", "b"].into_iter().zip(ats) {
        let deliver_at = Some(trial.clock.now().after(secs(at)));
        trial.put_message(NewMessage { deliver_at, ..message(side, "k", name) }).await?;
    }
    Ok(dead)
}

pub(super) async fn q10_a_crowd_that_falls_due_lines_up(harness: &dyn Harness) -> Verdict {
    let trial = Trial::new(harness).await;
    let (jobs, side, clock) = (queue("jobs"), queue("side"), harness.clock());
    let dead = late_key(&trial, &side, [40, 20, 30]).await?;
    let held = trial.put(&jobs, "h", "held").await?;
    let held_now = trial.expect(&jobs, "held").await?;
    same!(held_now.receipt.id, held, "the one held");
    let due = Some(clock.now().after(secs(10)));
    let later = |n: usize| NewMessage { deliver_at: due, ..message(&jobs, "", &format!("m{n:04}")) };
    put_all(&trial, (0..CROWD).map(later).collect()).await?;
    clock.advance(LEASE - secs(1));
    let extended = trial.store.extend(vec![held_now.receipt.clone()], LEASE).await?;
    hold!(matches!(extended.as_slice(), [Ok(Extended::Until(_))]), "extend: {extended:?}");
    clock.advance(secs(20));

    // Each of these comes behind what is due in its key.
    same!(trial.store.redrive(&side, vec![dead]).await?, 1, "one is dead");
    let effect = Effect::Enqueue(message(&side, "k", "effect"));
    let settled = trial.settle_with(&held_now.receipt, retry(secs(0), "r"), vec![effect]).await?;
    same!(settled, Settled::Done, "a live lease");
    trial.put(&side, "k", "new").await?;
    for name in ["a", "b", "c", "dead", "effect", "new"] {
        let delivery = trial.expect(&side, name).await?;
        trial.ack(&delivery).await?;
    }
    let mut got = Vec::new();
    for _ in 0..CLAIMS_MAX {
        got.extend(texts(&trial.claim(&jobs, PAGE).await?));
    }
    let mut expected = vec!["held".to_owned()];
    expected.extend((0..CROWD).map(|n| format!("m{n:04}")));
    hold!(got == expected, "{} of {} came, or in another order", got.len(), expected.len());
    trial.conserve(&jobs).await?;
    same!(trial.list(&jobs, Stage::Scheduled).await?.len(), 0, "still scheduled");
    Ok(())
}
