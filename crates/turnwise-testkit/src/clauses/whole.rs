//! Clauses Q16, Q17, X1, X2 and X4: the store as a whole.

use crate::harness::Harness;
use crate::trial::{
    LEASE, PAGE, Trial, Verdict, event, message, publish, queue, retry, secs, text, texts, topic,
};
use crate::{Broken, hold, same};
use turnwise_core::limits::BATCH_ITEMS_MAX;
use turnwise_core::{
    Dedup, Depth, Effect, Enqueued, Event, MessageInfo, NewMessage, Outcome, Position, Settled, Stage,
    TopicFilter,
};

pub(super) async fn q16_delivery_needs_no_wake_up(harness: &dyn Harness) -> Verdict {
    let trial = Trial::new(harness).await;
    let (jobs, clock) = (queue("jobs"), harness.clock());
    // One listener left at once, one that never listens.
    drop(trial.store.wakeups());
    let _deaf = (trial.store.wakeups(), trial.store.watch(TopicFilter::One(topic("t"))));
    let mut sent = Vec::new();
    for n in 0..300_u64 {
        let name = format!("m{n:03}");
        let mut message = message(&jobs, &format!("k{}", n % 17), &name);
        message.deliver_at = (n % 10 == 3).then(|| clock.now().after(secs(n)));
        trial.put_message(message).await?;
        trial.store.append(vec![event(&topic("t"), &name)]).await?;
        sent.push(name);
    }
    let mut got = Vec::new();
    for round in 0..2_000_u64 {
        let held = trial.claim(&jobs, 5).await?;
        for (n, delivery) in held.iter().enumerate() {
            match (round + n as u64) % 7 {
                3 if delivery.attempt < 4 => trial.settle(delivery, retry(secs(1), "r")).await?,
                5 if delivery.attempt < 4 => {}
                _ => {
                    got.push(text(&delivery.payload));
                    trial.ack(delivery).await?;
                }
            }
        }
        if held.is_empty() {
            clock.advance(secs(1));
        }
        if got.len() == sent.len() {
            break;
        }
    }
    got.sort();
    same!(got, sent, "every message, by asking alone");
    Ok(())
}

pub(super) async fn q17_a_backlog_delays_no_other_key(harness: &dyn Harness) -> Verdict {
    let trial = Trial::new(harness).await;
    let (jobs, mut left) = (queue("jobs"), harness.backlog());
    while left > 0 {
        let items = left.min(BATCH_ITEMS_MAX);
        let batch = vec![message(&jobs, "deep", "d"); items];
        for answer in trial.store.enqueue(batch).await? {
            hold!(matches!(answer, Ok(Enqueued::New { .. })), "{answer:?}");
        }
        left -= items;
    }
    same!(texts(&trial.claim(&jobs, 1).await?), ["d"], "the head of the backlog");
    trial.put(&jobs, "new", "n").await?;
    same!(texts(&trial.claim(&jobs, 1).await?), ["n"], "the very next claim gets the new key");
    trial.put(&jobs, "", "u").await?;
    same!(texts(&trial.claim(&jobs, PAGE).await?), ["u"], "and one without a key");
    let depth = trial.store.depth(&jobs).await?;
    same!((depth.ready, depth.leased), (harness.backlog() as u64 - 1, 3), "ready and leased");
    Ok(())
}

/// All that can be asked about a store.
#[derive(Debug, PartialEq)]
struct Picture {
    stages: Vec<Vec<MessageInfo>>,
    depth: (u64, u64, u64, u64),
    events: Vec<Event>,
    cursor: Option<Position>,
    queues: Vec<turnwise_core::QueueName>,
}

async fn picture(trial: &Trial<'_>) -> Result<Picture, Broken> {
    let (jobs, log) = (queue("jobs"), topic("log"));
    let mut stages = Vec::new();
    for stage in [Stage::Scheduled, Stage::Ready, Stage::Leased, Stage::Dead] {
        let mut found = trial.list(&jobs, stage).await?;
        for info in &mut found {
            // A delay that is over may or may not still be told.
            info.not_before = info.not_before.filter(|at| *at > trial.clock.now());
        }
        stages.push(found);
    }
    let Depth { scheduled, ready, leased, dead, .. } = trial.store.depth(&jobs).await?;
    Ok(Picture {
        stages,
        depth: (scheduled, ready, leased, dead),
        events: trial.events(&log).await?,
        cursor: trial.store.cursor(&log, "s").await?,
        queues: trial.store.queues(None, PAGE).await?,
    })
}

/// One step of a history that touches everything.
async fn step(trial: &Trial<'_>, n: u64) -> Verdict {
    let (jobs, log) = (queue("jobs"), topic("log"));
    match n % 8 {
        0 | 1 => {
            let mut message = message(&jobs, &format!("k{}", n % 3), &format!("m{n}"));
            message.max_attempts = 2;
            message.expires_at = (n % 3 == 1).then(|| trial.clock.now().after(secs(45)));
            message.deliver_at = n.is_multiple_of(9).then(|| trial.clock.now().after(secs(12)));
            message.at_end = vec![publish(&log, &format!("end {n}"))];
            trial.put_message(message).await?;
        }
        2 | 5 => {
            for delivery in trial.claim(&jobs, 2).await? {
                let effects = vec![publish(&log, &format!("effect {n}"))];
                let outcome = match n % 3 {
                    0 => Outcome::Ack,
                    1 => retry(secs(4), "r"),
                    _ => Outcome::Dead { reason: "d".into() },
                };
                let settled = trial.settle_with(&delivery.receipt, outcome, effects).await?;
                same!(settled, Settled::Done, "settling a fresh lease");
            }
        }
        3 => {
            trial.claim(&jobs, 1).await?;
        }
        4 => {
            trial.store.append(vec![event(&log, &format!("e{n}")), event(&log, "twin")]).await?;
        }
        6 => {
            let dead = trial.list(&jobs, Stage::Dead).await?;
            trial.store.redrive(&jobs, dead.iter().take(1).map(|info| info.id).collect()).await?;
        }
        _ => {
            let from = trial.store.cursor(&log, "s").await?;
            if let Some(last) = trial.events(&log).await?.last() {
                let to = Position { epoch: trial.store.epoch(), offset: last.offset };
                trial.store.advance(&log, "s", from, to).await?;
            }
            trial.clock.advance(secs(7));
            trial.sweep().await?;
        }
    }
    Ok(())
}

pub(super) async fn x1_a_crash_changes_nothing(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    for n in 0..48 {
        step(&trial, n).await?;
        if !n.is_multiple_of(harness.steps_between_crashes()) {
            continue;
        }
        let before = picture(&trial).await?;
        let epoch = trial.store.epoch();
        trial.crash().await;
        same!(picture(&trial).await?, before, "the picture after a crash behind step {n}");
        same!(trial.store.epoch(), epoch, "the epoch, nothing being lost");
    }
    trial.clock.advance(LEASE);
    trial.conserve(&queue("jobs")).await?;
    Ok(())
}

pub(super) async fn x2_an_unknown_answer_is_safe_to_repeat(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, log) = (queue("jobs"), topic("log"));
    let dedup = Dedup { key: "d".into(), window: secs(3600), content_hash: [9; 16] };
    let send = NewMessage { dedup: Some(dedup), ..message(&jobs, "k", "m") };
    // The answer got lost; the caller asks again, also of the reopened store.
    let Enqueued::New { id, .. } = trial.enqueue(send.clone()).await? else {
        return Err(Broken("not new".into()));
    };
    trial.crash().await;
    for _ in 0..3 {
        same!(trial.enqueue(send.clone()).await?, Enqueued::Duplicate(id), "an enqueue repeated");
    }
    let delivery = trial.expect(&jobs, "m").await?;
    let effects = vec![publish(&log, "done"), Effect::Enqueue(message(&queue("side"), "", "follow"))];
    let first = trial.settle_with(&delivery.receipt, Outcome::Ack, effects.clone()).await?;
    same!(first, Settled::Done, "the first settle");
    same!(trial.get(&jobs, id).await?, None, "get tells that it happened");
    trial.crash().await;
    let again = trial.settle_with(&delivery.receipt, Outcome::Ack, effects).await?;
    same!(again, Settled::LeaseLost, "a settle repeated");
    same!(trial.get(&jobs, id).await?, None, "get tells that it happened, after a crash too");
    same!(trial.notes(&log).await?, ["done"], "effects once");
    same!(texts(&trial.claim(&queue("side"), PAGE).await?), ["follow"], "effects once");
    Ok(())
}

pub(super) async fn x4_a_clock_step_back_changes_no_order(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, clock) = (queue("jobs"), harness.clock());
    let names = ["a", "b", "c", "d"];
    for name in names {
        trial.put(&jobs, "k", name).await?;
        trial.put(&jobs, "", name).await?;
        trial.store.append(vec![event(&topic("log"), name)]).await?;
        clock.step_back(secs(3600));
        trial.crash().await;
    }
    same!(trial.notes(&topic("log")).await?, names, "events keep their order");
    let held = trial.claim(&jobs, PAGE).await?;
    same!(texts(&held), ["a", "a", "b", "c", "d"], "messages keep their order");

    // A lease that a claim saw lapse stays dead, whatever the clock says.
    clock.advance(LEASE);
    let again = trial.claim(&jobs, PAGE).await?;
    same!(texts(&again), texts(&held), "the lapsed leases");
    clock.step_back(secs(3600));
    for (old, new) in held.iter().zip(&again) {
        hold!(new.receipt.token > old.receipt.token, "a token went back with the clock");
        let settled = trial.settle_with(&old.receipt, Outcome::Ack, Vec::new()).await?;
        same!(settled, Settled::LeaseLost, "a lease that was replaced");
    }
    for delivery in &again {
        trial.ack(delivery).await?;
    }
    // Seen lapsed by the sweeper, not replaced.
    let delivery = trial.expect(&jobs, "b").await?;
    clock.advance(LEASE + secs(1));
    trial.sweep().await?;
    clock.step_back(LEASE);
    let settled = trial.settle_with(&delivery.receipt, Outcome::Ack, Vec::new()).await?;
    same!(settled, Settled::LeaseLost, "a lease that the sweeper saw lapse");
    trial.crash().await;
    for name in ["b", "c", "d"] {
        let delivery = trial.expect(&jobs, name).await?;
        trial.expect_none(&jobs, "while its head is leased").await?;
        trial.ack(&delivery).await?;
        clock.step_back(secs(60));
    }
    trial.conserve(&jobs).await?;

    // The end of a message that passed while it was leased stays passed.
    let mut short = message(&jobs, "end", "short");
    short.expires_at = Some(clock.now().after(secs(10)));
    trial.put_message(short).await?;
    let delivery = trial.expect(&jobs, "short").await?;
    clock.advance(secs(15));
    trial.sweep().await?;
    clock.step_back(secs(10));
    trial.settle(&delivery, Outcome::Release).await?;
    clock.advance(secs(20));
    trial.expect_none(&jobs, "past its time, behind a clock step back").await
}
