//! Clause X2: what an engine says while its storage hangs, and that it was true.

use crate::harness::{HangSwitch, Harness};
use crate::trial::{LEASE, Ran, Trial, Verdict, event, message, publish, queue, secs, texts, topic};
use crate::{Broken, hold, same};
use futures_util::future::{BoxFuture, join_all};
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{
    Claim, Dedup, Delivery, Enqueued, NewEvent, NewMessage, Outcome, Receipt, Result, Settled, Settlement,
    Store, StoreError,
};

/// Longest wait for an answer here; engines are opened with less.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Looks at a store that was let go on before it counts as stuck.
const LOOKS_MAX: usize = 100;
/// Messages sent into the hanging store.
const SENT: usize = 12;

async fn in_time<T>(what: &str, answer: impl Future<Output = T>) -> std::result::Result<T, Broken> {
    let answer = tokio::time::timeout(ANSWER_MAX, answer).await;
    answer.map_err(|_| Broken(format!("{what}: no answer within {ANSWER_MAX:?}")))
}

/// Whether it surely did not happen; any other answer than the two is wrong.
fn not_done<T: std::fmt::Debug>(what: &str, answer: Result<T>) -> std::result::Result<bool, Broken> {
    match answer {
        Err(StoreError::Unavailable(_)) => Ok(true),
        Err(StoreError::Unknown(_)) => Ok(false),
        other => Err(Broken(format!("{what} was answered {other:?} while nothing could be stored"))),
    }
}

fn dedup(key: String) -> Option<Dedup> {
    Some(Dedup { key: key.into(), window: secs(3_600), content_hash: [7; 16] })
}

fn send(n: usize) -> NewMessage {
    let message = message(&queue("jobs"), &format!("k{}", n % 5), &format!("m{n:02}"));
    NewMessage { dedup: dedup(format!("m{n}")), ..message }
}

fn note() -> NewEvent {
    NewEvent { dedup: dedup("note".into()), ..event(&topic("log"), "note") }
}

fn ack(receipt: &Receipt) -> Settlement {
    let effects = vec![publish(&topic("log"), "done")];
    Settlement { receipt: receipt.clone(), outcome: Outcome::Ack, effects }
}

/// What was asked of the hanging store and surely did not happen.
struct Asked {
    sends: Vec<bool>,
    settle: bool,
    append: bool,
}

/// Changes one after another and all at once, so that some wait in line
/// behind others; reads beside them.
async fn ask_everything(trial: &Trial<'_>, held: &Delivery) -> std::result::Result<Asked, Broken> {
    let (store, jobs) = (&trial.store, queue("jobs"));
    let alone = in_time("an enqueue", store.enqueue(vec![send(0)])).await?;
    let mut sends = vec![not_done("an enqueue", alone)?];
    let together = (1..SENT).map(|n| store.enqueue(vec![send(n)]));
    let claim = Claim { queue: jobs.clone(), limit: 1, lease: LEASE, durable: true };
    let reads: [BoxFuture<'_, Option<StoreError>>; 2] = [
        Box::pin(async { store.depth(&jobs).await.err() }),
        Box::pin(async { store.get(&jobs, vec![held.receipt.id]).await.err() }),
    ];
    let held_note = vec![event(&topic("held"), "held")];
    let (enqueued, settled, appended, appended_held, extended, claimed, read) =
        in_time("operations together", async {
            tokio::join!(
                join_all(together),
                store.settle(vec![ack(&held.receipt)]),
                store.append(vec![note()]),
                store.append_held(&held.receipt, held_note),
                store.extend(vec![held.receipt.clone()], LEASE),
                store.claim(claim),
                join_all(reads),
            )
        })
        .await?;
    for answer in enqueued {
        sends.push(not_done("an enqueue", answer)?);
    }
    not_done("an append of the holder", appended_held)?;
    not_done("an extend", extended)?;
    not_done("a claim", claimed)?;
    for error in read.into_iter().flatten() {
        hold!(matches!(error, StoreError::Unavailable(_)), "a read was answered {error:?}");
    }
    Ok(Asked { sends, settle: not_done("a settle", settled)?, append: not_done("an append", appended)? })
}

async fn goes_on(trial: &Trial<'_>) -> Verdict {
    for _ in 0..LOOKS_MAX {
        if in_time("a read", trial.store.depth(&queue("jobs"))).await?.is_ok() {
            return Ok(());
        }
    }
    Err(Broken("the store does not go on by itself".into()))
}

pub(super) async fn x2_a_store_that_hangs_answers_in_time(harness: &dyn Harness) -> Ran {
    match harness.open_hanging().await {
        Ok((store, hang)) => hangs_and_goes_on(harness, store, hang).await.into(),
        Err(why) => Ran::NotRun(why),
    }
}

async fn hangs_and_goes_on(harness: &dyn Harness, store: Arc<dyn Store>, hang: HangSwitch) -> Verdict {
    let trial = Trial { harness, store, clock: harness.clock() };
    let (jobs, log) = (queue("jobs"), topic("log"));
    trial.put(&jobs, "held", "held").await?;
    let held = trial.expect(&jobs, "held").await?;
    hang(true);
    let asked = ask_everything(&trial, &held).await;
    hang(false);
    let asked = asked?;
    goes_on(&trial).await?;

    let mut ids = Vec::new();
    for (n, not_stored) in asked.sends.iter().enumerate() {
        match (trial.enqueue(send(n)).await?, not_stored) {
            (Enqueued::New { id, .. }, _) | (Enqueued::Duplicate(id), false) => ids.push(id),
            (other, _) => return Err(Broken(format!("m{n} repeated, not stored {not_stored}: {other:?}"))),
        }
    }
    let settled = trial.store.settle(vec![ack(&held.receipt)]).await?.remove(0)?;
    hold!(settled == Settled::Done || !asked.settle, "a settle that was not done had an effect");
    same!(trial.get(&jobs, held.receipt.id).await?, None, "the message settled, by get");
    let before = trial.notes(&log).await?.len();
    trial.store.append(vec![note()]).await?.remove(0)?;
    let after = trial.notes(&log).await?;
    hold!(after.len() == before + 1 || !asked.append, "an append that was not done was seen");
    let mut noted = after;
    noted.sort();
    same!(noted, ["done", "note"], "effect and event, once each");

    trial.clock.advance(LEASE);
    let mut got = Vec::new();
    while got.len() < SENT {
        let held = trial.claim(&jobs, 5).await?;
        hold!(!held.is_empty(), "only {got:?} came");
        for delivery in &held {
            trial.ack(delivery).await?;
        }
        got.extend(texts(&held));
    }
    got.sort();
    same!(got, (0..SENT).map(|n| format!("m{n:02}")).collect::<Vec<_>>(), "every message, once");
    let depth = trial.conserve(&jobs).await?;
    same!((depth.enqueued, depth.acked), (SENT as u64 + 1, SENT as u64 + 1), "stored and ended");
    Ok(())
}
