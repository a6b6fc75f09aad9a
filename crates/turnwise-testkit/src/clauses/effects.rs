//! Clause Q12: what happens with the end of a message happens once or not at all.

use crate::harness::Harness;
use crate::same;
use crate::trial::{LEASE, PAGE, Trial, Verdict, message, publish, queue, retry, secs, text, texts, topic};
use turnwise_core::{ENDED_HEADER, Effect, NewMessage, Outcome, Removed, Settled, Settlement};

fn ending(queue: &turnwise_core::QueueName, key: &str, name: &str) -> NewMessage {
    let at_end = vec![
        publish(&topic("ends"), name),
        Effect::Enqueue(message(&turnwise_core::QueueName::clone(&crate::trial::queue("ended")), "", name)),
    ];
    NewMessage { at_end, max_attempts: 1, ..message(queue, key, name) }
}

async fn settlement_effects(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, side, log) = (queue("jobs"), queue("side"), topic("log"));
    let outcomes =
        [Outcome::Ack, Outcome::Release, retry(secs(0), "again"), Outcome::Dead { reason: "no".into() }];
    let mut expected = Vec::new();
    for (n, outcome) in outcomes.into_iter().enumerate() {
        trial.put(&jobs, &format!("k{n}"), "m").await?;
        let delivery = trial.take(&jobs).await?;
        let name = format!("e{n}");
        let mut follow = message(&side, "s", &name);
        follow.lane_max = Some(1);
        let effects = vec![Effect::Enqueue(follow), publish(&log, &name), publish(&log, &format!("{name}b"))];
        let settlement = Settlement { receipt: delivery.receipt, outcome, effects };
        let answers = trial.store.settle(vec![settlement.clone(), settlement.clone()]).await?;
        same!(answers, [Ok(Settled::Done), Ok(Settled::LeaseLost)], "the same receipt twice in a batch");
        trial.crash().await;
        same!(trial.store.settle(vec![settlement]).await?, [Ok(Settled::LeaseLost)], "and once more");
        expected.extend([name.clone(), format!("{name}b")]);
        same!(trial.notes(&log).await?, expected, "events, once, in order");
        // What Release and Retry gave back makes room for the next round.
        for left in trial.claim(&jobs, PAGE).await? {
            trial.ack(&left).await?;
        }
    }
    for n in 0..4 {
        let delivery = trial.expect(&side, &format!("e{n}")).await?;
        trial.ack(&delivery).await?;
    }
    trial.expect_none(&side, "each effect once").await
}

async fn end_effects(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (jobs, ends, clock) = (queue("jobs"), topic("ends"), harness.clock());
    // The store ends these three: lapse, retry at the last attempt, expiry.
    let lapsed = trial.put_message(ending(&jobs, "", "lapse")).await?;
    trial.expect(&jobs, "lapse").await?;
    trial.crash().await;
    clock.advance(LEASE);
    trial.expect_none(&jobs, "a lapse at the last attempt").await?;
    trial.sweep().await?;
    same!(trial.notes(&ends).await?, ["lapse"], "after a lapse");
    let retried = trial.put_message(ending(&jobs, "", "retry")).await?;
    let delivery = trial.expect(&jobs, "retry").await?;
    trial.settle(&delivery, retry(secs(1), "failed")).await?;
    same!(trial.notes(&ends).await?, ["lapse", "retry"], "after the last retry");
    let mut short = ending(&jobs, "k", "expiry");
    short.expires_at = Some(clock.now().after(secs(5)));
    let expired = trial.put_message(short).await?;
    clock.advance(secs(5));
    trial.crash().await;
    trial.sweep().await?;
    trial.sweep().await?;
    trial.crash().await;
    trial.sweep().await?;
    trial.expect_none(&jobs, "an expired message").await?;
    same!(trial.notes(&ends).await?, ["lapse", "retry", "expiry"], "each once");

    // Somebody else ends these: no last word of the store.
    for name in ["ack", "dead", "remove"] {
        let id = trial.put_message(ending(&jobs, "", name)).await?;
        if name == "remove" {
            let effects = vec![publish(&ends, "removed")];
            let removed = trial.store.remove(&jobs, vec![(id, effects.clone()), (id, effects)]).await?;
            same!(removed, [Ok(Removed::Done), Ok(Removed::NotFound)], "removed once");
            continue;
        }
        let delivery = trial.expect(&jobs, name).await?;
        let outcome = if name == "ack" { Outcome::Ack } else { Outcome::Dead { reason: "no".into() } };
        trial.settle(&delivery, outcome).await?;
    }
    trial.crash().await;
    trial.sweep().await?;
    same!(trial.notes(&ends).await?, ["lapse", "retry", "expiry", "removed"], "no more than that");
    let put = trial.claim(&queue("ended"), PAGE).await?;
    let mut ended = texts(&put);
    ended.sort();
    same!(ended, ["expiry", "lapse", "retry"], "messages put by the store's endings");
    for delivery in &put {
        let of = [("lapse", lapsed), ("retry", retried), ("expiry", expired)];
        let of = of.into_iter().find(|(name, _)| delivery.payload == *name).map(|(_, id)| id.to_string());
        let named = delivery.headers.iter().find(|(name, _)| name == ENDED_HEADER);
        same!(named.map(|(_, id)| id), of.as_ref(), "which message the store ended");
    }
    let dead = trial.list(&jobs, turnwise_core::Stage::Dead).await?;
    let names: Vec<_> = dead.iter().map(|info| text(&info.payload)).collect();
    same!(names, ["lapse", "retry", "dead"], "dead letters");
    trial.conserve(&queue("ended")).await?;
    trial.conserve(&jobs).await?;
    Ok(())
}

pub(super) async fn q12_effects_happen_exactly_once(harness: &dyn Harness) -> Verdict {
    settlement_effects(harness).await?;
    end_effects(harness).await
}
