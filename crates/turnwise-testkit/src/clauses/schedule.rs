//! Clause Q10: messages that wait for their time.

use crate::harness::Harness;
use crate::same;
use crate::trial::{PAGE, Trial, Verdict, message, queue, secs, texts};
use std::time::Duration;
use turnwise_core::{QueueName, Stage, Timestamp};

async fn later(trial: &Trial<'_>, queue: &QueueName, key: &str, text: &str, at: Timestamp) -> Verdict {
    let mut message = message(queue, key, text);
    message.deliver_at = Some(at);
    let id = trial.put_message(message).await?;
    let info = trial.info(queue, id).await?;
    same!((info.stage, info.not_before), (Stage::Scheduled, Some(at)), "a scheduled message");
    Ok(())
}

/// Acknowledges the key's messages one by one and compares their order.
async fn drain(trial: &Trial<'_>, queue: &QueueName, order: &[&str]) -> Verdict {
    for name in order {
        let delivery = trial.expect(queue, name).await?;
        trial.ack(&delivery).await?;
    }
    trial.expect_none(queue, "after the last").await
}

pub(super) async fn q10_a_due_message_joins_the_tail(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, clock) = (queue("jobs"), harness.clock());
    let due = clock.now().after(secs(10));

    later(&trial, &jobs, "k", "due", due).await?;
    trial.put(&jobs, "k", "early").await?;
    let held = trial.expect(&jobs, "early").await?;
    trial.ack(&held).await?;
    trial.expect_none(&jobs, "a scheduled message blocks nobody and is not early").await?;
    clock.advance(secs(10) - Duration::from_micros(1));
    trial.sweep().await?;
    trial.expect_none(&jobs, "just before it is due").await?;
    trial.crash().await;
    clock.advance(Duration::from_micros(1));
    trial.put(&jobs, "k", "late").await?;
    drain(&trial, &jobs, &["due", "late"]).await?;

    // It joins behind what was there when it became due.
    let start = clock.now();
    trial.put(&jobs, "k", "there").await?;
    for (name, after) in [("c30", 30), ("a10", 10), ("b20", 20), ("a10-second", 10), ("d40", 40)] {
        later(&trial, &jobs, "k", name, start.after(secs(after))).await?;
    }
    trial.crash().await;
    clock.advance(secs(30));
    trial.put(&jobs, "k", "behind").await?;
    drain(&trial, &jobs, &["there", "a10", "a10-second", "b20", "c30", "behind"]).await?;
    clock.advance(secs(10));
    drain(&trial, &jobs, &["d40"]).await?;

    // Noticed by the sweeper or by a claim alone; also without a key.
    let start = clock.now();
    for (key, name, after) in [("", "u2", 2), ("", "u1", 1), ("z", "z3", 3)] {
        later(&trial, &jobs, key, name, start.after(secs(after))).await?;
    }
    same!(trial.store.depth(&jobs).await?.scheduled, 3, "scheduled");
    clock.advance(secs(2));
    trial.sweep().await?;
    let depth = trial.store.depth(&jobs).await?;
    same!((depth.scheduled, depth.ready), (1, 2), "scheduled and ready after a sweep");
    trial.crash().await;
    clock.advance(secs(1));
    same!(texts(&trial.claim(&jobs, PAGE).await?), ["u1", "u2", "z3"], "in the order of their time");

    // A time in the past is now.
    let mut past = message(&jobs, "p", "past");
    past.deliver_at = Some(Timestamp(clock.now().0 - 1));
    trial.put_message(past).await?;
    trial.expect(&jobs, "past").await?;
    Ok(())
}
