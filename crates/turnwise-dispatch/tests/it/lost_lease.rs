//! A lease lost in the middle of a call: the call is cut, its holder writes
//! nothing more, and the turn goes on with its next holder (clauses C5, Q5).

use turnwise_broker::{TurnError, TurnOutcome, TurnState};
use turnwise_mock::CallOutcome::{Abandoned, Answered};
use turnwise_testkit::faulty::{Fault, Op};

use crate::scene::{SHORT_LEASE, Scene, claim};
use crate::{agent_data, until};

#[tokio::test]
async fn a_holder_that_cannot_renew_drops_its_call_and_the_turn_runs_again() {
    let scene = Scene::new(SHORT_LEASE).await;
    let turn = scene.stage.submit("u", "[[hang times=1]]", false).await;
    let next = scene.stage.submit("u", "and then", false).await;
    until(|| scene.stage.agent.journal().stats().in_flight == 1).await;
    let appended = scene.store.done(Op::Append);
    scene.store.fail(&[Op::Extend, Op::Claim], Fault::Refused);
    until(|| scene.stage.agent.journal().stats().abandoned == 1).await;
    // Its slot is free again: whatever it had to write would be written.
    until(|| scene.store.failed(Op::Claim) > 0).await;
    assert_eq!((scene.store.done(Op::Settle), scene.store.done(Op::Append)), (0, appended));
    assert_eq!(scene.written(turn.id).await, Vec::<String>::new());
    scene.store.recover();
    assert_eq!(scene.stage.end(turn.id).await.state, TurnState::Completed);
    assert_eq!(scene.stage.end(next.id).await.state, TurnState::Completed);
    assert_eq!(scene.calls(turn.id), [(1, Some(Abandoned)), (2, Some(Answered))]);
    assert_eq!(scene.calls(next.id), [(1, Some(Answered))]);
    scene.is_sound("u", turn.id).await;
    assert!(scene.stage.verdict().is_clean());
}

#[tokio::test]
async fn a_stream_whose_lease_is_lost_keeps_what_came_and_is_not_called_again() {
    let scene = Scene::new(SHORT_LEASE).await;
    let turn = scene.stage.submit("u", "[[events=3 gap=10 hang]]", true).await;
    let next = scene.stage.submit("u", "and then", false).await;
    let whole = ["turn.processing", "agent", "agent", "agent"];
    scene.until_written(turn.id, whole.len()).await;
    scene.store.fail(&[Op::Extend, Op::Claim], Fault::Refused);
    until(|| scene.stage.agent.journal().stats().abandoned == 1).await;
    until(|| scene.store.failed(Op::Claim) > 0).await;
    assert_eq!(scene.written(turn.id).await, whole, "nothing more is written");
    scene.store.recover();
    let end = scene.stage.end(turn.id).await;
    assert_eq!(end.error.unwrap().code, "answer_interrupted");
    assert_eq!(scene.stage.end(next.id).await.state, TurnState::Completed);
    assert_eq!(scene.calls(turn.id), [(1, Some(Abandoned))]);
    assert_eq!(agent_data(&scene.stage.events("u", turn.id).await).len(), 3);
    scene.is_sound("u", turn.id).await;
}

#[tokio::test]
async fn a_stream_that_goes_on_behind_its_lease_writes_nothing_behind_the_end() {
    let scene = Scene::new(SHORT_LEASE).await;
    let other = scene.other_node().await;
    let turn = scene.stage.submit("u", "[[events=5000 gap=3]]", true).await;
    scene.until_written(turn.id, 5).await;
    scene.jump();
    let taken = claim(&other).await;
    assert_eq!((taken.id, taken.attempt, taken.interrupted), (turn.id, 2, true));
    other.finish(&taken, TurnOutcome::Failed(TurnError::answer_interrupted())).await.unwrap();
    let written = scene.written(turn.id).await;
    assert_eq!(written.last().map(String::as_str), Some("turn.error"));
    until(|| scene.stage.agent.journal().stats().abandoned == 1).await;
    let next = scene.stage.submit("u", "and then", false).await;
    assert_eq!(scene.stage.end(next.id).await.state, TurnState::Completed);
    assert_eq!(scene.written(turn.id).await, written);
    assert_eq!(scene.calls(turn.id), [(1, Some(Abandoned))]);
    scene.is_sound("u", turn.id).await;
}

/// Its answer comes after another node has taken the turn, or never.
async fn check_taken_over(message: &str, answers: bool) {
    let scene = Scene::new(SHORT_LEASE).await;
    let other = scene.other_node().await;
    // It learns of its loss from its own end, or from the renewal.
    if answers {
        scene.store.fail(&[Op::Extend], Fault::Refused);
    }
    let turn = scene.stage.submit("u", message, false).await;
    until(|| scene.stage.agent.journal().stats().in_flight == 1).await;
    scene.jump();
    let taken = claim(&other).await;
    assert_eq!((taken.id, taken.attempt, taken.interrupted), (turn.id, 2, false));
    let answer = Some(bytes::Bytes::from_static(b"{\"responses\":[\"the other node's\"]}"));
    let end = TurnOutcome::Completed { answer: answer.clone(), unsaved: Vec::new() };
    other.finish(&taken, end).await.unwrap();
    let written = scene.written(turn.id).await;
    assert_eq!(written, ["turn.processing", "agent", "turn.done"]);
    let outcome = if answers { Answered } else { Abandoned };
    until(|| scene.calls(turn.id) == [(1, Some(outcome))]).await;
    let next = scene.stage.submit("u", "and then", false).await;
    assert_eq!(scene.stage.end(next.id).await.state, TurnState::Completed);
    assert_eq!(scene.written(turn.id).await, written);
    assert_eq!(scene.stage.end(turn.id).await.answer, answer);
    scene.is_sound("u", turn.id).await;
}

#[tokio::test]
async fn an_answer_that_comes_after_the_lease_is_not_stored() {
    check_taken_over("[[delay=1000]]", true).await;
}

#[tokio::test]
async fn a_call_whose_turn_was_taken_over_is_cut_at_the_next_renewal() {
    check_taken_over("[[hang]]", false).await;
}
