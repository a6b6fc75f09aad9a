//! A store that is away, or whose answers get lost, while turns are in
//! progress: nothing is lost, nothing ends twice, and nobody has to help.

use turnwise_broker::TurnState;
use turnwise_mock::CallOutcome::Answered;
use turnwise_testkit::faulty::{Fault, Op};

use crate::scene::{LONG_LEASE, SHORT_LEASE, Scene};
use crate::{agent_data, until};

/// Failed settlements after which the broker's own repeats are used up and dispatch has asked again.
const BEYOND_ONE_TRY: u64 = 7;

/// The end of a turn meets this fault; the turn behind it must not start meanwhile, unless it may.
async fn check_finish(fault: Fault, stream: bool) {
    let scene = Scene::new(LONG_LEASE).await;
    scene.store.fail(&[Op::Settle], fault);
    let message = if stream { "[[events=3 gap=5]]" } else { "hello" };
    let turn = scene.stage.submit("u", message, stream).await;
    let next = scene.stage.submit("u", "and then", false).await;
    until(|| scene.store.failed(Op::Settle) >= BEYOND_ONE_TRY || fault == Fault::AnswerLost).await;
    until(|| scene.store.failed(Op::Settle) >= 1).await;
    if fault != Fault::AnswerLost {
        assert_eq!(scene.stage.agent.journal().stats().calls, 1, "the next one waits for this end");
    }
    scene.store.recover();
    assert_eq!(scene.stage.end(turn.id).await.state, TurnState::Completed, "{fault:?}");
    assert_eq!(scene.stage.end(next.id).await.state, TurnState::Completed, "{fault:?}");
    assert_eq!(scene.calls(turn.id), [(1, Some(Answered))], "{fault:?}: one call is enough");
    assert_eq!(scene.calls(next.id), [(1, Some(Answered))], "{fault:?}");
    scene.is_sound("u", turn.id).await;
    scene.is_sound("u", next.id).await;
    assert!(scene.stage.verdict().is_clean());
}

#[tokio::test]
async fn an_end_that_is_refused_is_offered_again() {
    tokio::join!(check_finish(Fault::Refused, false), check_finish(Fault::Refused, true));
}

#[tokio::test]
async fn an_end_whose_request_is_lost_is_offered_again() {
    tokio::join!(check_finish(Fault::RequestLost, false), check_finish(Fault::RequestLost, true));
}

#[tokio::test]
async fn an_end_whose_answer_is_lost_happened_once() {
    tokio::join!(check_finish(Fault::AnswerLost, false), check_finish(Fault::AnswerLost, true));
}

#[tokio::test]
async fn a_store_away_for_longer_than_the_lease_costs_a_second_call_and_nothing_else() {
    let scene = Scene::new(SHORT_LEASE).await;
    scene.store.fail(&[Op::Settle, Op::Extend], Fault::Refused);
    let turn = scene.stage.submit("u", "hello", false).await;
    let next = scene.stage.submit("u", "and then", false).await;
    until(|| scene.store.failed(Op::Settle) > 0).await;
    scene.store.fail(&[Op::Claim], Fault::Refused);
    // The only slot is free again: the first holder has given up.
    until(|| scene.store.failed(Op::Claim) > 0).await;
    assert_eq!(scene.written(turn.id).await, Vec::<String>::new());
    scene.store.recover();
    assert_eq!(scene.stage.end(turn.id).await.state, TurnState::Completed);
    assert_eq!(scene.stage.end(next.id).await.state, TurnState::Completed);
    assert_eq!(scene.calls(turn.id), [(1, Some(Answered)), (2, Some(Answered))]);
    assert_eq!(scene.calls(next.id), [(1, Some(Answered))]);
    scene.is_sound("u", turn.id).await;
}

#[tokio::test]
async fn a_store_that_is_back_before_the_lease_ends_leaves_the_call_alone() {
    let scene = Scene::new(SHORT_LEASE).await;
    // Longer than a lease, so that it lives by its renewals.
    let turn = scene.stage.submit("u", "[[delay=2500]]", false).await;
    until(|| scene.stage.agent.journal().stats().in_flight == 1).await;
    for fault in [Fault::Refused, Fault::RequestLost, Fault::AnswerLost] {
        let before = scene.store.failed(Op::Extend);
        scene.store.fail(&[Op::Extend], fault);
        until(|| scene.store.failed(Op::Extend) > before).await;
        scene.store.recover();
    }
    assert_eq!(scene.stage.end(turn.id).await.state, TurnState::Completed);
    assert_eq!(scene.calls(turn.id), [(1, Some(Answered))]);
    scene.is_sound("u", turn.id).await;
}

#[tokio::test]
async fn turns_are_claimed_when_the_store_is_back_without_a_new_request() {
    let scene = Scene::new(SHORT_LEASE).await;
    scene.store.fail(&[Op::Claim], Fault::Refused);
    let refused = scene.stage.submit("a", "hello", false).await;
    until(|| scene.store.failed(Op::Claim) >= 2).await;
    scene.store.recover();
    assert_eq!(scene.stage.end(refused.id).await.state, TurnState::Completed);
    assert_eq!(scene.calls(refused.id), [(1, Some(Answered))]);
    // Leased, and nobody knows: the lease runs out by itself.
    scene.store.fail(&[Op::Claim], Fault::AnswerLost);
    let orphan = scene.stage.submit("b", "hello", false).await;
    until(|| scene.store.failed(Op::Claim) >= 3).await;
    scene.store.recover();
    assert_eq!(scene.stage.end(orphan.id).await.state, TurnState::Completed);
    assert_eq!(scene.calls(orphan.id).len(), 1, "the agent was called once");
    scene.is_sound("b", orphan.id).await;
}

/// Events that may or may not be stored end the answer; what is stored is a beginning of it.
async fn check_append(fault: Fault) {
    let scene = Scene::new(LONG_LEASE).await;
    let turn = scene.stage.submit("u", "[[events=400 gap=5]]", true).await;
    let next = scene.stage.submit("u", "and then", false).await;
    scene.until_written(turn.id, 3).await;
    scene.store.fail(&[Op::Append], fault);
    until(|| scene.store.failed(Op::Append) > 0).await;
    scene.store.recover();
    let end = scene.stage.end(turn.id).await;
    assert_eq!(end.error.map(|error| error.code).as_deref(), Some("answer_interrupted"), "{fault:?}");
    assert_eq!(scene.stage.end(next.id).await.state, TurnState::Completed);
    assert_eq!(scene.calls(turn.id).len(), 1, "{fault:?}: it is not called again");
    let parts = agent_data(&scene.stage.events("u", turn.id).await);
    for (number, part) in parts.iter().enumerate() {
        assert!(part.contains(&format!("part {} ", number + 1)), "{fault:?}: {part} is no beginning");
    }
    scene.is_sound("u", turn.id).await;
}

#[tokio::test]
async fn events_that_are_not_confirmed_end_the_answer_and_are_not_doubled() {
    tokio::join!(check_append(Fault::RequestLost), check_append(Fault::AnswerLost));
}

/// Refused parts of an answer until the store has been away for so many of them; how the turn ended.
async fn refused(times: u64) -> (Scene, turnwise_core::MessageId) {
    let scene = Scene::new(LONG_LEASE).await;
    let turn = scene.stage.submit("u", "[[events=400 gap=5]]", true).await;
    scene.until_written(turn.id, 3).await;
    scene.store.fail(&[Op::Append], Fault::Refused);
    until(|| scene.store.failed(Op::Append) >= times).await;
    scene.store.recover();
    (scene, turn.id)
}

#[tokio::test]
async fn a_store_that_is_back_soon_ends_no_answer() {
    let (scene, id) = refused(3).await;
    let end = scene.stage.end(id).await;
    assert_eq!(end.state, TurnState::Completed, "{:?}", end.error);
    assert_eq!(scene.calls(id), [(1, Some(Answered))]);
    let parts = agent_data(&scene.stage.events("u", id).await);
    let own = (1..=400).map(|number| format!("part {number} "));
    for (part, own) in parts.iter().zip(own) {
        assert!(part.contains(&own), "{part} is not {own}");
    }
    assert!(parts.len() >= 400, "{} parts", parts.len());
    scene.is_sound("u", id).await;
}

#[tokio::test]
async fn a_store_that_is_away_for_long_ends_the_answer() {
    // More tries than there is patience for.
    let (scene, id) = refused(15).await;
    let end = scene.stage.end(id).await;
    assert_eq!(end.error.map(|error| error.code).as_deref(), Some("answer_interrupted"));
    assert_eq!(scene.calls(id).len(), 1, "it is not called again");
    scene.is_sound("u", id).await;
}
