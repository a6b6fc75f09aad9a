//! What is kept, for how long, and how much of it at most.

use crate::bench::{Bench, event, names, submission};
use crate::failed;
use futures_util::StreamExt;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::*;
use turnwise_core::{Kind, Name, QueueStore};

async fn dead_letters(bench: &Bench) -> u64 {
    bench.store.depth(&Name::new("acme", Kind::Turns, "turns").unwrap()).await.unwrap().dead
}

async fn fail_one(bench: &Bench, number: u32) -> Submitted {
    let sent = bench.send("ann", &number.to_string()).await;
    let turn = bench.claim_one().await;
    bench.broker.finish(&turn, failed("agent_error")).await.unwrap();
    sent
}

async fn sweep(bench: &Bench, rounds: u64) {
    let shutdown = CancellationToken::new();
    let stop = async {
        for _round in 0..rounds {
            tokio::time::sleep(Duration::from_secs(2)).await;
            bench.pass(Duration::from_secs(61));
        }
        shutdown.cancel();
    };
    tokio::join!(bench.broker.run_sweeper(shutdown.clone()), stop);
}

#[tokio::test(start_paused = true)]
async fn c6_the_oldest_failed_turns_go_with_their_dead_letters() {
    let config = BrokerConfig { retained_turns_max: 2, ..BrokerConfig::default() };
    let bench = Bench::with(config).await;
    let mut sent = Vec::new();
    for number in 0..40 {
        sent.push(fail_one(&bench, number).await.id);
    }
    assert_eq!(dead_letters(&bench).await, 40);
    sweep(&bench, 1).await;
    assert_eq!(dead_letters(&bench).await, 2);
    for (number, id) in sent.into_iter().enumerate() {
        let known = bench.broker.turn(&OrgScope::All, id).await.unwrap();
        assert_eq!(known.is_some(), number >= 38, "{number}");
        let cancelled = bench.broker.cancel(&OrgScope::All, id).await.unwrap();
        let over = if number >= 38 { Cancel::Over(TurnState::Failed) } else { Cancel::NotFound };
        assert_eq!(cancelled, over);
    }
}

#[tokio::test(start_paused = true)]
async fn c6_a_failed_turn_is_gone_with_its_events_after_the_retention() {
    let bench = Bench::new().await;
    let old = fail_one(&bench, 1).await;
    sweep(&bench, 1).await;
    assert_eq!(bench.view(old.id).await.state, TurnState::Failed);
    bench.pass(BrokerConfig::default().retention);
    let young = fail_one(&bench, 2).await;
    sweep(&bench, 3).await;
    assert_eq!(bench.broker.turn(&OrgScope::All, old.id).await.unwrap(), None);
    assert_eq!(bench.broker.wait_end("acme", old.id).await, Err(BrokerError::Gone));
    assert_eq!(bench.view(young.id).await.state, TurnState::Failed);
    assert_eq!(dead_letters(&bench).await, 1);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_orgs_are_known() {
    let config = BrokerConfig { orgs_max: 2, orgs_asked_max: 1, ..BrokerConfig::default() };
    let mut bench = Bench::with(config).await;
    let full = Err(BrokerError::OrgsFull { orgs_max: 2 });
    for start in 0..2 {
        for org in ["acme", "other"] {
            bench.broker.submit(submission(org, "ann", "1")).await.unwrap();
        }
        assert_eq!(bench.broker.submit(submission("third", "ann", "1")).await, full, "start {start}");
        bench.restart().await;
    }
    let all = OrgScope::All;
    let asked = bench.broker.queue(&all, "ann", None).await;
    assert_eq!(asked, Err(BrokerError::TooManyOrgs { orgs_asked_max: 1 }));
    assert_eq!(bench.broker.queue(&all, "ann", Some("acme")).await.unwrap().queue_length, 2);
    let one = OrgScope::These(vec!["other".into()]);
    assert_eq!(bench.broker.queue(&one, "ann", None).await.unwrap().queue_length, 2);
}

#[tokio::test(start_paused = true)]
async fn c6_events_too_long_to_be_handed_over_are_read_from_the_store() {
    let bench = Bench::new().await;
    let sent = bench.send("ann", "1").await;
    let live = bench.broker.follow(&OrgScope::All, "ann", sent.id, None).await.unwrap().events().unwrap();
    let long = "x".repeat(3 * 1024 * 1024);
    let work = async {
        let turn = bench.claim_one().await;
        for text in ["a", &long, "b", &long] {
            tokio::time::sleep(Duration::from_millis(10)).await;
            bench.broker.append(&turn, vec![event(text), event("short")]).await.unwrap();
        }
        bench.answer(&turn, &long).await;
    };
    let (live, ()) = tokio::join!(live.map(Result::unwrap).collect::<Vec<_>>(), work);
    let lengths: Vec<usize> = names(&live).iter().map(String::len).filter(|length| *length > 1_000).collect();
    assert_eq!(lengths, [long.len() + 11; 2], "{}", lengths.len());
    assert_eq!(names(&live).iter().filter(|name| name.contains("short")).count(), 4);
    assert_eq!(names(&live).last().unwrap(), "done");
    let end = bench.end(sent.id).await;
    assert!(end.answer.unwrap().len() > long.len(), "an answer longer than a page is found whole");
}

#[tokio::test(start_paused = true)]
async fn c6_answers_are_kept_for_so_many_bytes_the_oldest_go_first() {
    let config = BrokerConfig { retained_bytes_max: 10_000, ..BrokerConfig::default() };
    let bench = Bench::with(config).await;
    let mut sent = Vec::new();
    for number in 0..20 {
        sent.push(bench.send("ann", &number.to_string()).await.id);
        let turn = bench.claim_one().await;
        bench.answer(&turn, &"x".repeat(1_000)).await;
    }
    sweep(&bench, 2).await;
    let mut kept = Vec::new();
    for id in sent {
        kept.push(bench.broker.turn(&OrgScope::All, id).await.unwrap().is_some());
    }
    let count = kept.iter().filter(|kept| **kept).count();
    assert!((5..10).contains(&count), "{count} answers of more than 1,000 bytes in 10,000");
    assert!(kept.is_sorted(), "the oldest go first: {kept:?}");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_turns_may_wait_in_all() {
    let config = BrokerConfig { turns_waiting_max: 3, ..BrokerConfig::default() };
    let mut bench = Bench::with(config).await;
    let full = Err(BrokerError::TurnsFull { turns_waiting_max: 3 });
    for user in ["ann", "bob", "eve"] {
        bench.send(user, "1").await;
    }
    assert_eq!(bench.broker.submit(submission("acme", "zoe", "1")).await, full);
    let turns = bench.claim().await;
    assert_eq!(bench.broker.submit(submission("acme", "zoe", "1")).await, full, "those in progress count");
    bench.answer(&turns[0], "x").await;
    bench.broker.submit(submission("acme", "zoe", "1")).await.unwrap();
    bench.restart().await;
    sweep(&bench, 1).await;
    assert_eq!(
        bench.broker.submit(submission("acme", "late", "1")).await,
        full,
        "counted again after a start"
    );
}

#[tokio::test(start_paused = true)]
async fn one_org_that_fills_its_share_leaves_room_for_others() {
    let config = BrokerConfig { org_turns_waiting_max: 2, ..BrokerConfig::default() };
    let mut bench = Bench::with(config).await;
    let full = Err(BrokerError::OrgTurnsFull { org_turns_waiting_max: 2 });
    let mut first = submission("acme", "ann", "1");
    first.client_message_id = Some("m-1".to_owned());
    let stored = bench.broker.submit(first.clone()).await.unwrap();
    bench.send("bob", "1").await;
    assert_eq!(bench.broker.submit(submission("acme", "zoe", "1")).await, full);
    assert_eq!(
        bench.broker.submit(first).await.unwrap().id,
        stored.id,
        "what is stored is answered as itself"
    );
    bench.broker.submit(submission("other", "zoe", "1")).await.unwrap();
    bench.restart().await;
    sweep(&bench, 1).await;
    assert_eq!(
        bench.broker.submit(submission("acme", "zoe", "1")).await,
        full,
        "counted again after a start"
    );
    let turns = bench.claim().await;
    let own = turns.iter().find(|turn| turn.org == "acme").unwrap();
    bench.answer(own, "x").await;
    bench.broker.submit(submission("acme", "zoe", "1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_repeat_is_answered_as_itself_when_no_more_turns_are_taken() {
    let config = BrokerConfig { turns_waiting_max: 1, ..BrokerConfig::default() };
    let bench = Bench::with(config).await;
    let own = |id: &str| {
        let mut submission = submission("acme", "ann", "1");
        submission.client_message_id = Some(id.to_owned());
        submission
    };
    let full = Err(BrokerError::TurnsFull { turns_waiting_max: 1 });
    let first = bench.broker.submit(own("m-1")).await.unwrap();
    let again = bench.broker.submit(own("m-1")).await.unwrap();
    assert_eq!((again.id, again.duplicate, again.position), (first.id, true, 1));
    let mut other = own("m-1");
    other.request = bytes::Bytes::from_static(b"{}");
    assert_eq!(bench.broker.submit(other).await, Err(BrokerError::DedupConflict(first.id)));
    assert_eq!(bench.broker.submit(own("m-2")).await, full, "a new one of the same conversation");
    let mut elsewhere = own("m-3");
    elsewhere.user = "bob".to_owned();
    assert_eq!(bench.broker.submit(elsewhere).await, full, "a new one of an empty conversation");
}
