//! The conversation clauses C1 to C9 at the broker's seam, over a store whose
//! wake-ups are all lost. Time moves only when a test says so.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod bench;
mod bus;
mod callbacks;
mod checks;
mod disk;
mod health;
mod housekeeping;
mod kept;
mod left;
mod nodes;
mod redrive;
mod topics;
mod watch;
mod work;

use bench::{Bench, LEASE, event, names, position, submission};
use bytes::Bytes;
use futures_util::StreamExt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::*;
use turnwise_testkit::faulty::{Fault, Op};

fn failed(code: &str) -> TurnOutcome {
    TurnOutcome::Failed(TurnError::new(code, 502, "It failed."))
}

#[tokio::test(start_paused = true)]
async fn c1_c2_one_at_a_time_in_order_over_clients_and_restarts() {
    let mut bench = Bench::new().await;
    let first = bench.send("ann", "1").await;
    let mut other_client = submission("acme", "ann", "2");
    other_client.client = "phone".into();
    let second = bench.broker.submit(other_client).await.unwrap();
    let third = bench.send("ann", "3").await;
    assert_eq!((first.position, first.in_flight), (1, false));
    assert_eq!((second.position, third.position, third.waiting_ahead), (2, 3, 2));

    let turn = bench.claim_one().await;
    assert_eq!((turn.id, &turn.request[..], turn.attempt), (first.id, &b"1"[..], 1));
    assert!(bench.claim().await.is_empty(), "one call at a time");
    assert_eq!(bench.send("ann", "4").await.waiting_ahead, 2);
    bench.restart().await;
    assert!(bench.claim().await.is_empty(), "the lease outlives its broker");
    bench.pass(LEASE);
    let again = bench.claim_one().await;
    assert_eq!((again.id, again.attempt, again.interrupted), (first.id, 2, false));
    bench.answer(&again, "one").await;
    for id in [second.id, third.id] {
        let turn = bench.claim_one().await;
        assert_eq!(turn.id, id);
        bench.answer(&turn, "next").await;
    }
}

#[tokio::test(start_paused = true)]
async fn c3_a_turn_nobody_works_on_expires_with_a_last_word() {
    let bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    bench.pass(Duration::from_secs(24 * 3600 + 1));
    let shutdown = CancellationToken::new();
    let sweeper = bench.broker.run_sweeper(shutdown.clone());
    let end = async {
        let end = bench.end(sent.id).await;
        shutdown.cancel();
        end
    };
    let (end, ()) = tokio::join!(end, sweeper);
    assert_eq!((end.state, end.error.unwrap().code.as_str()), (TurnState::Failed, "expired"));
    assert_eq!(names(&bench.read(sent.id, None).await), ["queued", "error expired"]);
    assert_eq!(bench.view(sent.id).await.user, "ann");
}

#[tokio::test(start_paused = true)]
async fn c3_an_unconfirmed_end_is_stored_exactly_once() {
    let bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let turn = bench.claim_one().await;
    bench.store.fail_next(Op::Settle, &[Fault::Refused, Fault::Refused, Fault::AnswerLost]);
    bench.answer(&turn, "one").await;
    let seen = names(&bench.read(sent.id, None).await);
    assert_eq!(seen, ["queued", "processing", r#"{"responses":["one"]}"#, "done"]);
}

#[tokio::test(start_paused = true)]
async fn c4_a_failure_ends_the_turn_and_the_next_one_starts() {
    let bench = Bench::new().await;
    let (first, second) = (bench.send("ann", "1").await, bench.send("ann", "2").await);
    let turn = bench.claim_one().await;
    bench.broker.finish(&turn, failed("agent_timeout")).await.unwrap();
    let end = bench.end(first.id).await;
    assert_eq!((end.state, end.error.unwrap().code.as_str()), (TurnState::Failed, "agent_timeout"));
    let view = bench.view(first.id).await;
    assert_eq!((view.state, view.attempts, view.position), (TurnState::Failed, 1, None));
    assert!(view.started_at.is_some() && view.finished_at.is_some());
    assert_eq!(bench.claim_one().await.id, second.id);
}

#[tokio::test(start_paused = true)]
async fn c4_a_busy_agent_is_tried_again_from_the_head_within_a_limit() {
    let mut bench = Bench::new().await;
    let first = bench.send("ann", "1").await;
    bench.send("ann", "2").await;
    for attempt in 1..=9 {
        let turn = bench.claim_one().await;
        assert_eq!((turn.id, turn.attempt, turn.interrupted), (first.id, attempt, false));
        bench.broker.finish(&turn, TurnOutcome::RetryAfter(Duration::from_secs(60))).await.unwrap();
        assert!(bench.claim().await.is_empty(), "it keeps its place and waits");
        bench.pass(Duration::from_secs(60));
        if attempt == 4 {
            bench.restart().await;
        }
    }
    let turn = bench.claim_one().await;
    bench.broker.finish(&turn, TurnOutcome::RetryAfter(Duration::from_secs(60))).await.unwrap();
    let end = bench.end(first.id).await;
    assert_eq!(end.error.unwrap().code, "agent_busy");
    assert_eq!(names(&bench.read(first.id, None).await), ["queued", "processing", "error agent_busy"]);
}

#[tokio::test(start_paused = true)]
async fn c5_a_lost_lease_writes_nothing_more() {
    let bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let old = bench.claim_one().await;
    bench.pass(LEASE);
    let new = bench.claim_one().await;
    assert_eq!((new.id, new.attempt), (sent.id, 2));
    assert_eq!(bench.broker.append(&old, vec![event("late")]).await, Err(BrokerError::LeaseLost));
    assert_eq!(bench.broker.renew(&old).await, Ok(Renewed::Lost));
    assert_eq!(bench.broker.finish(&old, TurnOutcome::Cancelled).await, Err(BrokerError::LeaseLost));
    bench.answer(&new, "new").await;
    let seen = names(&bench.read(sent.id, None).await);
    assert_eq!(seen, ["queued", "processing", r#"{"responses":["new"]}"#, "done"]);
}

#[tokio::test(start_paused = true)]
async fn c5_a_renewed_lease_outlives_its_first_time() {
    let bench = Bench::new().await;
    bench.send("ann", "1").await;
    let turn = bench.claim_one().await;
    for _third in 0..10 {
        bench.pass(LEASE / 3);
        assert_eq!(bench.broker.renew(&turn).await, Ok(Renewed::Ok));
    }
    bench.pass(LEASE - Duration::from_secs(1));
    bench.broker.append(&turn, vec![event("renewed by the append itself")]).await.unwrap();
    bench.pass(Duration::from_secs(5));
    bench.answer(&turn, "one").await;
}

#[tokio::test(start_paused = true)]
async fn c5_crashes_use_up_the_attempts() {
    let mut bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    for attempt in 1..=3 {
        assert_eq!(bench.claim_one().await.attempt, attempt);
        bench.restart().await;
        bench.pass(LEASE);
    }
    assert!(bench.claim().await.is_empty(), "no fourth call");
    assert_eq!(bench.end(sent.id).await.error.unwrap().code, "attempts_exhausted");
}

#[tokio::test(start_paused = true)]
async fn c5_a_stored_event_forbids_a_second_call() {
    let mut bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let turn = bench.claim_one().await;
    bench.broker.append(&turn, vec![event("half an ")]).await.unwrap();
    bench.restart().await;
    bench.pass(LEASE);
    let turn = bench.claim_one().await;
    assert!(turn.interrupted);
    let outcome = TurnOutcome::Failed(TurnError::answer_interrupted());
    bench.broker.finish(&turn, outcome).await.unwrap();
    let view = bench.view(sent.id).await;
    assert_eq!(view.error.unwrap().code, "answer_interrupted");
    assert_eq!(view.partial.unwrap(), "half an ");

    let released = bench.send("ann", "2").await;
    let turn = bench.claim_one().await;
    bench.broker.append(&turn, vec![event("begun")]).await.unwrap();
    bench.broker.finish(&turn, TurnOutcome::Release).await.unwrap();
    assert_eq!(bench.end(released.id).await.error.unwrap().code, "answer_interrupted");
}

#[tokio::test(start_paused = true)]
async fn c5_a_release_gives_the_turn_back_uncounted() {
    let bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    for _again in 0..5 {
        let turn = bench.claim_one().await;
        assert_eq!((turn.id, turn.attempt), (sent.id, 1));
        bench.broker.finish(&turn, TurnOutcome::Release).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn c6_readers_get_everything_from_any_position() {
    let mut bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let live = bench.broker.follow(&OrgScope::All, "ann", sent.id, None).await.unwrap().events().unwrap();
    let work = async {
        let turn = bench.claim_one().await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        bench.broker.append(&turn, vec![event("a"), event("b")]).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let unsaved = vec![AgentEvent { name: Some("done".into()), data: Bytes::from_static(b"c") }];
        let outcome = TurnOutcome::Completed { answer: None, unsaved };
        bench.broker.finish(&turn, outcome).await.unwrap();
    };
    let (live, ()) = tokio::join!(live.map(Result::unwrap).collect::<Vec<_>>(), work);
    let agent = [r#"{"text":"a"}"#, r#"{"text":"b"}"#, "c", "done"];
    assert_eq!(names(&live), [&["queued", "position 1", "processing (early)"], &agent[..]].concat());

    bench.restart().await;
    let all = bench.read(sent.id, None).await;
    assert_eq!(names(&all), [&["queued", "processing"], &agent[..]].concat());
    let stored = &all[1..];
    for (index, after) in stored.iter().enumerate() {
        let after = position(after).unwrap();
        assert_eq!(bench.read(sent.id, Some(after)).await, stored[index + 1..]);
        let followed = bench.broker.follow(&OrgScope::All, "ann", sent.id, Some(after)).await.unwrap();
        assert_eq!(matches!(followed, Followed::Over), index + 1 == stored.len());
    }
    assert_eq!(bench.view(sent.id).await.partial.as_deref(), Some("abc"));
}

#[tokio::test(start_paused = true)]
async fn c6_a_waiting_caller_gets_the_answer_and_so_does_a_late_one() {
    let mut bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let work = async {
        let turn = bench.claim_one().await;
        bench.answer(&turn, "one").await;
    };
    let (waited, ()) = tokio::join!(bench.end(sent.id), work);
    bench.restart().await;
    let late = bench.end(sent.id).await;
    assert_eq!(waited.answer.as_deref(), Some(&br#"{"responses":["one"]}"#[..]));
    assert_eq!((late.state, late.answer, late.error), (waited.state, waited.answer, waited.error));
}

#[tokio::test(start_paused = true)]
async fn c6_a_waiting_caller_is_served_by_another_broker_on_the_same_store() {
    let mut bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let here = bench.broker.clone();
    bench.restart().await;
    let work = async {
        let turn = bench.claim_one().await;
        bench.answer(&turn, "one").await;
    };
    let (end, ()) = tokio::join!(here.wait_end("acme", sent.id), work);
    assert_eq!(end.unwrap().state, TurnState::Completed);
}

#[tokio::test(start_paused = true)]
async fn c6_the_oldest_answers_are_dropped_and_their_dedup_key_with_them() {
    let config = BrokerConfig { retained_turns_max: 2, ..BrokerConfig::default() };
    let bench = Bench::with(config).await;
    let mut sent = Vec::new();
    for number in 0..4 {
        let mut submission = submission("acme", "ann", "same");
        submission.client_message_id = Some(format!("m{number}"));
        sent.push(bench.broker.submit(submission).await.unwrap());
        let turn = bench.claim_one().await;
        bench.answer(&turn, "x").await;
    }
    let shutdown = CancellationToken::new();
    let stop = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        shutdown.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(shutdown.clone()), stop);
    let known = |id| bench.broker.turn(&OrgScope::All, id);
    assert_eq!(known(sent[0].id).await.unwrap(), None);
    assert_eq!(known(sent[1].id).await.unwrap(), None);
    assert!(known(sent[2].id).await.unwrap().is_some());
    assert_eq!(bench.broker.wait_end("acme", sent[0].id).await, Err(BrokerError::Gone));
    let mut again = submission("acme", "ann", "other");
    again.client_message_id = Some("m0".into());
    let renewed = bench.broker.submit(again.clone()).await.unwrap();
    assert!(!renewed.duplicate && renewed.id != sent[0].id);
    assert_eq!(bench.broker.submit(again).await.unwrap().id, renewed.id);
}

#[tokio::test(start_paused = true)]
async fn c7_the_same_client_message_is_the_same_turn() {
    let bench = Bench::new().await;
    let mut message = submission("acme", "ann", "1");
    message.client_message_id = Some("m1".into());
    let first = bench.broker.submit(message.clone()).await.unwrap();
    let repeat = bench.broker.submit(message.clone()).await.unwrap();
    assert_eq!((repeat.id, repeat.duplicate, repeat.position), (first.id, true, 1));
    assert_eq!(repeat.accepted_at, first.accepted_at);
    let turn = bench.claim_one().await;
    bench.answer(&turn, "one").await;
    let repeat = bench.broker.submit(message.clone()).await.unwrap();
    assert_eq!((repeat.id, repeat.duplicate, repeat.position), (first.id, true, 0));
    assert_eq!(bench.end(repeat.id).await.state, TurnState::Completed);

    let mut other_content = message.clone();
    other_content.request = Bytes::from_static(b"2");
    let refused = bench.broker.submit(other_content).await;
    assert_eq!(refused, Err(BrokerError::DedupConflict(first.id)));
    for change in [
        |it: &mut Submission| it.client = "phone".into(),
        |it: &mut Submission| it.user = "bob".into(),
        |it: &mut Submission| it.conversation = Conversation::Group { chat: "g".into(), thread: None },
        |it: &mut Submission| it.org = "other".into(),
    ] {
        let mut changed = message.clone();
        change(&mut changed);
        assert!(!bench.broker.submit(changed).await.unwrap().duplicate);
    }
}

#[tokio::test(start_paused = true)]
async fn c8_slots_go_round_robin_over_orgs_and_heads_never_wait_for_each_other() {
    let bench = Bench::new().await;
    for user in ["a", "b", "c", "d", "e", "f"] {
        bench.broker.submit(submission("big", user, user)).await.unwrap();
    }
    bench.broker.submit(submission("big", "a", "a2")).await.unwrap();
    bench.broker.submit(submission("small", "x", "x")).await.unwrap();
    bench.broker.submit(submission("tiny", "y", "y")).await.unwrap();
    let mut orgs = Vec::new();
    for _slot in 0..4 {
        let turn = bench.broker.claim_turns(1).await.unwrap().pop().unwrap();
        orgs.push(turn.org);
    }
    assert_eq!(orgs, ["big", "small", "tiny", "big"]);
    let rest = bench.broker.claim_turns(10).await.unwrap();
    assert_eq!(rest.len(), 4, "every free head at once");
}

#[tokio::test(start_paused = true)]
async fn c9_what_is_not_yours_does_not_exist() {
    let bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let foreign = OrgScope::These(vec!["other".into()]);
    assert_eq!(bench.broker.turn(&foreign, sent.id).await.unwrap(), None);
    assert_eq!(bench.broker.cancel(&foreign, sent.id).await.unwrap(), Cancel::NotFound);
    assert!(bench.broker.follow(&foreign, "ann", sent.id, None).await.unwrap().events().is_none());
    let all = OrgScope::All;
    assert!(bench.broker.follow(&all, "bob", sent.id, None).await.unwrap().events().is_none());
    assert_eq!(bench.broker.queue(&all, "bob", None).await.unwrap(), QueueView::default());
    assert_eq!(bench.broker.queue(&foreign, "ann", Some("acme")).await.unwrap(), QueueView::default());
    assert_eq!(bench.broker.queue(&all, "ann", None).await.unwrap().queue_length, 1);
    assert_eq!(bench.claim_one().await.id, sent.id, "asking changed nothing");
}

#[tokio::test(start_paused = true)]
async fn a_waiting_turn_is_cancelled_and_a_running_one_is_stopped() {
    let bench = Bench::new().await;
    let (first, second) = (bench.send("ann", "1").await, bench.send("ann", "2").await);
    let turn = bench.claim_one().await;
    let all = OrgScope::All;
    assert_eq!(bench.broker.cancel(&all, second.id).await.unwrap(), Cancel::Cancelled);
    assert_eq!(names(&bench.read(second.id, None).await), ["queued", "cancelled"]);
    assert_eq!(bench.broker.cancel(&all, second.id).await.unwrap(), Cancel::Over(TurnState::Cancelled));

    bench.broker.append(&turn, vec![event("half")]).await.unwrap();
    assert_eq!(bench.broker.cancel(&all, first.id).await.unwrap(), Cancel::Stopping);
    turn.stopped().await;
    assert_eq!(bench.broker.renew(&turn).await, Ok(Renewed::Stop));
    bench.broker.finish(&turn, TurnOutcome::Cancelled).await.unwrap();
    let view = bench.view(first.id).await;
    assert_eq!((view.state, view.partial.as_deref()), (TurnState::Cancelled, Some("half")));
    assert_eq!(bench.end(first.id).await.state, TurnState::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_conversation_holds_so_many_turns_and_no_more() {
    let bench = Bench::with(BrokerConfig { depth_max: 2, ..BrokerConfig::default() }).await;
    bench.send("ann", "1").await;
    bench.send("ann", "2").await;
    let full = bench.broker.submit(submission("acme", "ann", "3")).await;
    assert_eq!(full, Err(BrokerError::LaneFull { depth_max: 2 }));
    bench.send("bob", "1").await;
}

#[tokio::test(start_paused = true)]
async fn queue_and_health_count_what_is_there() {
    let bench = Bench::new().await;
    for text in ["1", "2", "3"] {
        bench.send("ann", text).await;
    }
    let mut group = submission("acme", "ann", "g");
    group.conversation = Conversation::Group { chat: "chat".into(), thread: Some("t".into()) };
    bench.broker.submit(group).await.unwrap();
    let turns = bench.claim().await;
    bench.pass(Duration::from_secs(7));
    let view = bench.broker.queue(&OrgScope::All, "ann", Some("acme")).await.unwrap();
    assert_eq!((view.queue_length, view.is_processing), (2, true));
    assert_eq!(view.current_message_id, Some(turns[0].id));
    assert!(view.oldest_waiting.unwrap() >= Duration::from_secs(7));
    assert_eq!(view.conversations.len(), 2);

    let shutdown = CancellationToken::new();
    let check = async {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let health = bench.broker.health();
        assert_eq!((health.store_ok, health.active_queues, health.processing), (true, 2, 2));
        for turn in &turns {
            bench.answer(turn, "x").await;
        }
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert_eq!((bench.broker.health().active_queues, bench.broker.health().processing), (1, 0));
        shutdown.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(shutdown.clone()), check);
}

#[tokio::test(start_paused = true)]
async fn an_answer_longer_than_a_settlement_is_kept_whole() {
    let bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let turn = bench.claim_one().await;
    let unsaved: Vec<_> = (0..1_500).map(|number| event(&number.to_string())).collect();
    let answer = Some(Bytes::from_static(b"{\"responses\":[\"whole\"]}"));
    bench.broker.finish(&turn, TurnOutcome::Completed { answer: answer.clone(), unsaved }).await.unwrap();
    let seen = bench.read(sent.id, None).await;
    assert_eq!(seen.len(), 1_500 + 3);
    assert_eq!(bench.view(sent.id).await.answer, answer);
    assert!(bench.now() > sent.accepted_at);
}
