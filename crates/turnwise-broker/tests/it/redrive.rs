//! Clause C4: a failed turn's message once more.

use crate::bench::{Bench, submission};
use crate::failed;
use turnwise_broker::*;
use turnwise_core::MessageId;

async fn redrive(bench: &Bench, id: MessageId) -> Redriven {
    bench.broker.redrive_turn(&OrgScope::All, id).await.unwrap()
}

#[tokio::test]
async fn c4_a_redrive_makes_one_new_turn_that_names_the_failed_one() {
    let bench = Bench::new().await;
    let mut submission = submission("acme", "ann", "what was said");
    submission.conversation = Conversation::Group { chat: "g".into(), thread: Some("t".into()) };
    let failed_id = bench.broker.submit(submission).await.unwrap().id;
    assert_eq!(redrive(&bench, failed_id).await, Redriven::NotFailed(TurnState::Queued));
    let turn = bench.claim_one().await;
    assert_eq!(redrive(&bench, failed_id).await, Redriven::NotFailed(TurnState::Processing));
    bench.broker.finish(&turn, failed("agent_error")).await.unwrap();
    let Redriven::Submitted(new) = redrive(&bench, failed_id).await else { panic!("it has failed") };
    let Redriven::Submitted(again) = redrive(&bench, failed_id).await else { panic!("it has failed") };
    assert_eq!((again.id, new.duplicate, again.duplicate), (new.id, false, true));
    assert_eq!(bench.view(new.id).await.redrive_of, Some(failed_id));
    let turn = bench.claim_one().await;
    assert_eq!((turn.id, &turn.request[..], turn.user.as_str()), (new.id, &b"what was said"[..], "ann"));
    bench.answer(&turn, "x").await;
    assert_eq!(bench.view(new.id).await.redrive_of, Some(failed_id), "also when it is over");
    assert_eq!(bench.view(failed_id).await.state, TurnState::Failed);
    assert_eq!(redrive(&bench, new.id).await, Redriven::NotFailed(TurnState::Completed));
}

#[tokio::test]
async fn c9_a_redrive_of_another_orgs_turn_finds_nothing() {
    let bench = Bench::new().await;
    let id = bench.send("ann", "hi").await.id;
    let turn = bench.claim_one().await;
    bench.broker.finish(&turn, failed("agent_error")).await.unwrap();
    let other = OrgScope::These(vec!["other".to_owned()]);
    assert_eq!(bench.broker.redrive_turn(&other, id).await.unwrap(), Redriven::NotFound);
    assert_eq!(bench.claim().await.len(), 0);
}
