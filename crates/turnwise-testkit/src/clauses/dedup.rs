//! Clause Q11: a repeat within the window is the same message.

use crate::harness::Harness;
use crate::trial::{Trial, Verdict, message, queue};
use crate::{Broken, hold, same};
use std::time::Duration;
use turnwise_core::{Dedup, Enqueued, MessageId, NewMessage, QueueName};

const WINDOW: Duration = Duration::from_secs(100);

fn once(queue: &QueueName, key: &str, text: &str, dedup: &str, hash: u8) -> NewMessage {
    let dedup = Dedup { key: dedup.to_owned().into(), window: WINDOW, content_hash: [hash; 16] };
    NewMessage { dedup: Some(dedup), ..message(queue, key, text) }
}

fn new_id(answer: &Enqueued) -> Result<MessageId, Broken> {
    match answer {
        Enqueued::New { id, .. } => Ok(*id),
        other => Err(Broken(format!("should be new: {other:?}"))),
    }
}

pub(super) async fn q11_a_repeat_within_the_window_is_one_message(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, other) = (queue("jobs"), queue("other"));
    let first = new_id(&trial.enqueue(once(&jobs, "k", "one", "d", 1)).await?)?;
    same!(trial.enqueue(once(&jobs, "k", "one", "d", 1)).await?, Enqueued::Duplicate(first), "a repeat");
    same!(
        trial.enqueue(once(&jobs, "k", "two", "d", 2)).await?,
        Enqueued::DedupConflict(first),
        "other content"
    );
    same!(
        trial.enqueue(once(&jobs, "x", "one", "d", 1)).await?,
        Enqueued::Duplicate(first),
        "the hash decides"
    );
    let elsewhere = new_id(&trial.enqueue(once(&other, "k", "one", "d", 2)).await?)?;
    hold!(elsewhere != first, "two queues share an id");
    trial.crash().await;
    same!(trial.enqueue(once(&jobs, "k", "one", "d", 1)).await?, Enqueued::Duplicate(first), "after a crash");
    same!(trial.store.depth(&jobs).await?.ready, 1, "stored once");

    // The window outlives the message, and counts from the first success.
    let delivery = trial.expect(&jobs, "one").await?;
    trial.ack(&delivery).await?;
    trial.crash().await;
    harness.clock().advance(WINDOW - Duration::from_micros(1));
    trial.sweep().await?;
    same!(
        trial.enqueue(once(&jobs, "k", "one", "d", 1)).await?,
        Enqueued::Duplicate(first),
        "to the end of the window"
    );
    trial.expect_none(&jobs, "a repeat stores nothing").await?;
    harness.clock().advance(Duration::from_micros(1));
    let second = new_id(&trial.enqueue(once(&jobs, "k", "one", "d", 2)).await?)?;
    hold!(second != first, "an id was used twice");
    same!(
        trial.enqueue(once(&jobs, "k", "one", "d", 2)).await?,
        Enqueued::Duplicate(second),
        "a window of its own"
    );
    harness.clock().advance(WINDOW);
    trial.crash().await;
    trial.sweep().await?;
    let third = new_id(&trial.enqueue(once(&jobs, "k", "one", "d", 1)).await?)?;

    // Within one batch, and beside a full lane, which remembers nothing.
    let mut full = once(&jobs, "k", "full", "f", 1);
    full.lane_max = Some(2);
    let batch = vec![once(&jobs, "b", "b", "e", 1), once(&jobs, "b", "b", "e", 1), full.clone()];
    let answers = trial.store.enqueue(batch).await?;
    let [Ok(fresh), Ok(repeat), Ok(refused)] = answers.as_slice() else {
        return Err(Broken(format!("answers of a batch: {answers:?}")));
    };
    let fresh = new_id(fresh)?;
    same!(*repeat, Enqueued::Duplicate(fresh), "a repeat within the batch");
    same!(*refused, Enqueued::LaneFull, "a full lane");
    let removed = trial.store.remove(&jobs, vec![(third, Vec::new())]).await?;
    hold!(removed.iter().all(Result::is_ok), "remove failed");
    let id = new_id(&trial.enqueue(full.clone()).await?)?;
    same!(trial.enqueue(full).await?, Enqueued::Duplicate(id), "a repeat is known before a full lane");
    trial.conserve(&jobs).await?;
    Ok(())
}
