//! What somebody sees who watches: the timeline of a turn, the counts, and the
//! steps of turns as they happen.

use crate::bench::{Bench, LEASE, event, submission};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::StepKind::{Accepted, Busy, Claimed, Ended, FirstEvent, StopAsked};
use turnwise_broker::*;
use turnwise_core::{MessageId, Timestamp};

const PAUSE: Duration = Duration::from_secs(5);

/// Steps and numbers of calls; each step lies between the marks around it.
async fn timeline(bench: &Bench, id: MessageId, marks: &[Timestamp]) -> Vec<(StepKind, Option<u32>)> {
    let steps = bench.view(id).await.timeline;
    for (step, mark) in steps.iter().zip(marks.windows(2)) {
        assert!(mark[0] <= step.at && step.at <= mark[1], "{step:?} is not between {mark:?}");
    }
    steps.into_iter().map(|step| (step.kind, step.attempt)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_timeline_tells_every_stored_step_also_after_a_restart() {
    let mut bench = Bench::new().await;
    let mut marks = vec![bench.now()];
    let mut mark = |bench: &Bench| {
        marks.push(bench.now());
        bench.pass(PAUSE);
        marks.clone()
    };
    let id = bench.send("ann", "1").await.id;
    mark(&bench);
    let turn = bench.claim_one().await;
    mark(&bench);
    bench.broker.finish(&turn, TurnOutcome::RetryAfter(PAUSE)).await.unwrap();
    let marks_now = mark(&bench);
    let busy = [(Accepted, None), (Claimed, Some(1)), (Busy, Some(1))];
    assert_eq!(timeline(&bench, id, &marks_now).await, busy);
    bench.restart().await;
    assert_eq!(timeline(&bench, id, &marks_now).await, busy);
    let turn = bench.claim_one().await;
    mark(&bench);
    bench.broker.append(&turn, vec![event("a")]).await.unwrap();
    mark(&bench);
    bench.broker.append(&turn, vec![event("b")]).await.unwrap();
    assert_eq!(bench.broker.cancel(&OrgScope::All, id).await.unwrap(), Cancel::Stopping);
    mark(&bench);
    bench.broker.finish(&turn, TurnOutcome::Cancelled).await.unwrap();
    let marks = mark(&bench);
    let whole = [
        busy.as_slice(),
        &[(Claimed, Some(2)), (FirstEvent, None), (StopAsked, None), (Ended(TurnState::Cancelled), None)],
    ]
    .concat();
    assert_eq!(timeline(&bench, id, &marks).await, whole);
    bench.restart().await;
    assert_eq!(timeline(&bench, id, &marks).await, whole);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_a_crash_took_leaves_a_gap_and_no_invented_time() {
    let mut bench = Bench::new().await;
    let id = bench.send("ann", "1").await.id;
    bench.claim_one().await;
    bench.restart().await;
    bench.pass(LEASE);
    let turn = bench.claim_one().await;
    bench.answer(&turn, "one").await;
    let steps: Vec<_> =
        bench.view(id).await.timeline.into_iter().map(|step| (step.kind, step.attempt)).collect();
    let end = (Ended(TurnState::Completed), None);
    assert_eq!(steps, [(Accepted, None), (Claimed, Some(2)), (FirstEvent, None), end]);
}

#[tokio::test(start_paused = true)]
async fn counts_follow_what_happened() {
    let bench = Bench::new().await;
    let has = |line: &str| {
        let page = turnwise_metrics::render(&[bench.broker.metrics()]);
        assert!(page.lines().any(|is| is == line), "{line}: {page}");
    };
    bench.send("ann", "1").await;
    bench.send("bob", "1").await;
    let turn = bench.claim().await;
    let [first, second] = turn.as_slice() else { panic!("two turns") };
    bench.broker.finish(first, TurnOutcome::RetryAfter(PAUSE)).await.unwrap();
    bench.pass(LEASE);
    let lost = bench.broker.finish(second, TurnOutcome::Release).await;
    assert!(matches!(lost, Err(BrokerError::LeaseLost)), "{lost:?}");
    has("turnwise_turns_accepted_total 2");
    has("turnwise_turns_again_total{reason=\"busy\"} 1");
    has("turnwise_turns_again_total{reason=\"released\"} 0");
    has("turnwise_leases_lost_total 1");
    has("turnwise_turn_wait_seconds_count 2");
    has("turnwise_turns_ended_total{outcome=\"expired\"} 0");
    // Nobody calls again: in a day both are over. The sweeper counts what held and what expired.
    let shutdown = CancellationToken::new();
    let (sweeper, stop) = (bench.broker.clone(), shutdown.clone());
    let sweeping = tokio::spawn(async move { sweeper.run_sweeper(stop).await });
    tokio::time::sleep(2 * PAUSE).await;
    has("turnwise_turns{stage=\"waiting\"} 2.0");
    assert!(bench.broker.numbers().oldest_waiting >= Some(LEASE));
    bench.pass(Duration::from_secs(24 * 3600));
    tokio::time::sleep(2 * PAUSE).await;
    has("turnwise_turns_ended_total{outcome=\"expired\"} 2");
    has("turnwise_turns{stage=\"waiting\"} 0.0");
    assert_eq!(bench.broker.numbers().oldest_waiting, None);
    shutdown.cancel();
    sweeping.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_onlooker_sees_its_orgs_and_is_told_what_it_missed() {
    let bench = Bench::new().await;
    let ours = OrgScope::These(vec!["acme".into()]);
    let mut ann = bench.broker.look_on(ours.clone(), Some("ann".into()));
    let mut slow = bench.broker.look_on(ours, None);
    bench.broker.submit(submission("other", "ann", "foreign")).await.unwrap();
    bench.send("bob", "another").await;
    let id = bench.send("ann", "1").await.id;
    let news = async |onlooker: &mut Onlooker| match onlooker.next().await {
        Some(Seen::News(news)) => (news.id, news.org, news.step),
        other => panic!("{other:?}"),
    };
    assert_eq!(news(&mut ann).await, (id, "acme".to_owned(), Accepted));
    for turn in bench.claim().await {
        bench.answer(&turn, "one").await;
    }
    assert_eq!(news(&mut ann).await, (id, "acme".to_owned(), Claimed));
    assert_eq!(news(&mut ann).await, (id, "acme".to_owned(), Ended(TurnState::Completed)));
    for number in 0..1_100 {
        bench.send(&format!("user {number}"), "x").await;
    }
    assert_eq!(slow.next().await, Some(Seen::Missed));
}
