//! Clauses Q1, Q2 and Q9: durability, order within a key, order among heads.

use crate::harness::Harness;
use crate::trial::{PAGE, Trial, Verdict, message, queue, retry, secs, texts};
use crate::{hold, same};
use turnwise_core::{Enqueued, Outcome, Priority, Removed};

pub(super) async fn q01_enqueued_messages_survive_a_crash(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, now) = (queue("jobs"), harness.clock().now());
    let mut full = message(&jobs, "k", "full");
    full.priority = Priority(8);
    full.headers = vec![("a".into(), "1".into()), ("b".into(), String::new())];
    full.expires_at = Some(now.after(secs(3600)));
    full.max_attempts = 5;
    full.nonce = 0x1234_5678_9abc;
    let mut later = message(&jobs, "k", "later");
    later.deliver_at = Some(now.after(secs(60)));
    let mut batch = vec![full, message(&jobs, "", ""), later];
    batch.extend((0..20).map(|n| message(&jobs, &format!("k{}", n % 3), &format!("m{n}"))));
    let sent = batch.clone();

    let mut ids = Vec::new();
    for answer in trial.store.enqueue(batch).await? {
        let Enqueued::New { id, .. } = answer? else { return Err(crate::Broken("not new".into())) };
        ids.push(id);
    }
    let before = trial.store.get(&jobs, ids.clone()).await?;
    for (info, sent) in before.iter().zip(&sent) {
        let Some(info) = info else { return Err(crate::Broken("an enqueued message is not there".into())) };
        same!(info.payload, sent.payload, "payload");
        same!((&info.key, &info.headers), (&sent.key, &sent.headers), "key and headers");
        same!((info.priority, info.max_attempts), (sent.priority, sent.max_attempts), "priority, attempts");
        same!((info.expires_at, info.attempt), (sent.expires_at, 0), "expiry and attempt");
        same!((info.enqueued_at, info.id.nonce()), (now, sent.nonce), "time stored and nonce");
    }
    for round in 0..3 {
        trial.crash().await;
        let after = trial.store.get(&jobs, ids.clone()).await?;
        same!(after, before, "what is known after crash {round}");
    }
    trial.conserve(&jobs).await?;
    same!(texts(&trial.claim(&jobs, 2).await?), ["full", ""], "the first two handed out");
    Ok(())
}

pub(super) async fn q02_a_key_is_first_in_first_out(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    for n in 0..3 {
        trial.put(&jobs, "k", &format!("a{n}")).await?;
    }
    let batch = (3..9).map(|n| message(&jobs, "k", &format!("a{n}"))).collect();
    for (n, answer) in trial.store.enqueue(batch).await?.into_iter().enumerate() {
        let position = match answer? {
            Enqueued::New { position, in_flight, .. } => (position, in_flight),
            other => return Err(crate::Broken(format!("not new: {other:?}"))),
        };
        same!(position, (n as u64 + 4, false), "the place told to item {n}");
    }
    trial.put(&jobs, "other", "x").await?;

    let first = trial.claim(&jobs, PAGE).await?;
    same!(texts(&first), ["a0", "x"], "one head per key");
    let head = first.into_iter().next().ok_or_else(|| crate::Broken("no head".into()))?;
    trial.expect_none(&jobs, "while the head is leased").await?;
    let Enqueued::New { position, in_flight, id } = trial.enqueue(message(&jobs, "k", "a9")).await? else {
        return Err(crate::Broken("not new".into()));
    };
    same!((position, in_flight), (10, true), "the place behind nine, one in flight");
    trial.settle(&head, retry(secs(0), "again")).await?;
    let again = trial.expect(&jobs, "a0").await?;
    trial.settle(&again, Outcome::Release).await?;
    let again = trial.expect(&jobs, "a0").await?;
    trial.ack(&again).await?;
    trial.crash().await;

    let next = trial.expect(&jobs, "a1").await?;
    trial.settle(&next, Outcome::Dead { reason: "no".into() }).await?;
    let waiting = trial.store.lane(&jobs, &turnwise_core::OrderingKey("k".into()), Some(id)).await?;
    same!((waiting.length, waiting.place, waiting.in_flight), (8, Some(8), None), "the lane");
    let second = trial.list(&jobs, turnwise_core::Stage::Ready).await?;
    let second = second.first().map(|info| info.id).ok_or_else(|| crate::Broken("nothing ready".into()))?;
    let removed = trial.store.remove(&jobs, vec![(second, Vec::new())]).await?;
    same!(removed, [Ok(Removed::Done)], "removing a2");
    for n in 3..10 {
        let delivery = trial.expect(&jobs, &format!("a{n}")).await?;
        trial.expect_none(&jobs, "while a head is leased").await?;
        trial.ack(&delivery).await?;
    }
    trial.expect_none(&jobs, "at the end").await
}

pub(super) async fn q09_priority_orders_heads_only(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let jobs = queue("jobs");
    let rank = |key: &str, text: &str, priority| {
        let mut message = message(&jobs, key, text);
        message.priority = Priority(priority);
        message
    };
    for (key, name, priority) in [
        ("a", "a-low", 1),
        ("a", "a-top", 9),
        ("b", "b-mid", 5),
        ("c", "c-mid", 5),
        ("", "u-low", 1),
        ("", "u-top", 9),
        ("d", "d-zero", 0),
        ("", "u-mid", 5),
    ] {
        trial.put_message(rank(key, name, priority)).await?;
    }
    trial.crash().await;
    let order = ["u-top", "b-mid", "c-mid", "u-mid", "a-low", "u-low", "d-zero"];
    let mut held = Vec::new();
    for name in order {
        held.push(trial.expect(&jobs, name).await?);
    }
    for delivery in &held {
        trial.settle(delivery, retry(secs(5), "back")).await?;
    }
    harness.clock().advance(secs(5));
    let all = trial.claim(&jobs, PAGE).await?;
    same!(texts(&all), order, "after a retry each has its place again, in one claim");
    for delivery in &all {
        trial.settle(delivery, Outcome::Release).await?;
    }
    let some = trial.claim(&jobs, 3).await?;
    same!(texts(&some), ["u-top", "b-mid", "c-mid"], "a limited claim takes the best");
    for delivery in trial.claim(&jobs, PAGE).await?.iter().chain(&some) {
        trial.ack(delivery).await?;
    }
    let last = trial.expect(&jobs, "a-top").await?;
    hold!(last.priority == Priority(9), "the priority was lost");
    trial.ack(&last).await?;
    trial.expect_none(&jobs, "at the end").await
}
