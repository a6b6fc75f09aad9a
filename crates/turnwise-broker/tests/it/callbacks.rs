//! Clause C10 as far as the broker keeps it: every turn with a callback has
//! its last word, in order, and what becomes of it can be seen.

use crate::bench::{Bench, submission};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use turnwise_broker::*;
use turnwise_core::{MessageId, QueueStore};

const URL: &str = "https://hooks.example/secret-path?token=secret";

fn config() -> BrokerConfig {
    let callbacks = CallbackRules { accepted: true, attempts_max: 3, ..CallbackRules::default() };
    BrokerConfig { callbacks, ..BrokerConfig::default() }
}

fn with_callback(org: &str, user: &str, own_id: Option<&str>, url: &str) -> Submission {
    let target = config().callbacks.check(url).unwrap();
    let mut submission = submission(org, user, "hi");
    submission.callback = Some(target);
    submission.client_message_id = own_id.map(str::to_owned);
    submission
}

impl Bench {
    async fn send_with_callback(&self, user: &str) -> MessageId {
        self.broker.submit(with_callback("acme", user, None, URL)).await.unwrap().id
    }

    async fn claim_callbacks(&self) -> Vec<Callback> {
        self.pass(Duration::from_secs(1));
        self.broker.claim_callbacks(10).await.unwrap()
    }

    async fn claim_callback(&self) -> Callback {
        let mut callbacks = self.claim_callbacks().await;
        assert_eq!(callbacks.len(), 1, "one callback to claim");
        callbacks.pop().unwrap()
    }

    async fn settle(&self, callback: &Callback, outcome: CallbackOutcome) -> CallbackOutcome {
        self.broker.settle_callback(callback, outcome).await.unwrap()
    }

    /// Answers what became of it.
    async fn fail(&self, callback: &Callback) -> CallbackOutcome {
        let delay = Duration::from_secs(1);
        let reason = "the host answered 500".to_owned();
        self.settle(callback, CallbackOutcome::Failed { status: Some(500), reason, delay }).await
    }

    async fn callback_of(&self, turn: MessageId) -> CallbackView {
        self.view(turn).await.callback.expect("it has one")
    }
}

const DELIVERED: CallbackOutcome = CallbackOutcome::Delivered { status: 204 };

#[tokio::test]
async fn callbacks_of_a_conversation_come_one_at_a_time_and_in_order() {
    let bench = Bench::with(config()).await;
    let mut turns = Vec::new();
    for _ in 0..3 {
        turns.push(bench.send_with_callback("ann").await);
        let turn = bench.claim_one().await;
        bench.answer(&turn, "x").await;
    }
    let other = bench.send_with_callback("bob").await;
    bench.answer(&bench.claim_one().await, "y").await;
    let first = bench.claim_callbacks().await;
    let told: Vec<_> = first.iter().map(|callback| callback.turn).collect();
    assert_eq!(told, [turns[0], other]);
    let tried = bench.broker.callback(&OrgScope::All, first[0].id).await.unwrap().expect("known");
    assert_eq!(tried.state, CallbackState::Delivering);
    let of_turn = bench.callback_of(turns[0]).await;
    assert_eq!((of_turn.state, of_turn.id), (CallbackState::Delivering, Some(first[0].id)));
    bench.fail(&first[0]).await;
    assert_eq!(bench.broker.claim_callbacks(10).await.unwrap().len(), 0, "the retry holds its lane");
    for turn in &turns {
        let callback = bench.claim_callback().await;
        assert_eq!(callback.turn, *turn);
        bench.settle(&callback, DELIVERED).await;
        assert_eq!(bench.callback_of(*turn).await.state, CallbackState::Delivered);
    }
    assert_eq!(bench.callback_of(turns[0]).await.attempts, 2);
    assert_eq!(bench.callback_of(other).await.attempts, 0);
}

#[tokio::test]
async fn a_turn_that_the_store_ends_has_its_callback() {
    let bench = Bench::with(config()).await;
    let turn = bench.send_with_callback("ann").await;
    bench.pass(bench.broker.config().retention + Duration::from_secs(1));
    while bench.store.sweep(1_000).await.unwrap() > 0 {}
    let callback = bench.claim_callback().await;
    assert_eq!((callback.turn, callback.user.as_str()), (turn, "ann"));
    let answer = bench.broker.callback_answer(&callback).await.unwrap().expect("kept");
    assert_eq!(answer.end.error.map(|error| error.code).as_deref(), Some("expired"));
    bench.settle(&callback, DELIVERED).await;
    assert_eq!(bench.callback_of(turn).await.state, CallbackState::Delivered);
}

#[tokio::test]
async fn a_cancelled_turn_has_its_callback_waiting_or_running() {
    let bench = Bench::with(config()).await;
    let running = bench.send_with_callback("ann").await;
    let waiting = bench.send_with_callback("ann").await;
    assert_eq!(bench.callback_of(waiting).await.state, CallbackState::Waiting);
    let turn = bench.claim_one().await;
    assert_eq!(bench.broker.cancel(&OrgScope::All, waiting).await.unwrap(), Cancel::Cancelled);
    bench.broker.finish(&turn, TurnOutcome::Cancelled).await.unwrap();
    for expected in [waiting, running] {
        let callback = bench.claim_callback().await;
        assert_eq!(callback.turn, expected);
        let answer = bench.broker.callback_answer(&callback).await.unwrap().expect("kept");
        assert_eq!(answer.end.state, TurnState::Cancelled);
        bench.settle(&callback, DELIVERED).await;
    }
}

#[tokio::test]
async fn turns_without_a_callback_have_none() {
    let bench = Bench::with(config()).await;
    let turn = bench.send("ann", "hi").await.id;
    bench.answer(&bench.claim_one().await, "x").await;
    assert_eq!(bench.view(turn).await.callback, None);
    assert_eq!(bench.claim_callbacks().await.len(), 0);
}

/// Waiting for a slot, and a lost process, are no tries.
#[tokio::test]
async fn only_tries_are_counted() {
    let mut bench = Bench::with(config()).await;
    let turn = bench.send_with_callback("ann").await;
    bench.answer(&bench.claim_one().await, "x").await;
    for _ in 0..5 {
        let callback = bench.claim_callback().await;
        assert_eq!(callback.attempt, 1);
        bench.settle(&callback, CallbackOutcome::Deferred { delay: Duration::from_millis(1) }).await;
    }
    bench.claim_callback().await;
    bench.restart().await;
    bench.pass(bench.broker.config().callback_lease);
    for attempt in 1..=3 {
        let callback = bench.claim_callback().await;
        assert_eq!(callback.attempt, attempt);
        let given_up = matches!(bench.fail(&callback).await, CallbackOutcome::Dead { status: Some(500), .. });
        assert_eq!(given_up, attempt == 3);
        bench.pass(Duration::from_secs(1));
    }
    let dead = bench.callback_of(turn).await;
    assert_eq!((dead.state, dead.attempts), (CallbackState::Dead, 3));
    assert_eq!(
        dead.last.and_then(|last| last.reason).as_deref(),
        Some("given up after 3 tries: the host answered 500")
    );
    assert_eq!(bench.claim_callbacks().await.len(), 0);
}

/// On its first try, of which nothing is stored yet.
#[tokio::test]
async fn a_callback_that_is_tried_is_found_by_its_turn_also_when_a_former_holder_lets_go() {
    let bench = Bench::with(config()).await;
    let turn = bench.send_with_callback("ann").await;
    bench.answer(&bench.claim_one().await, "x").await;
    let former = bench.claim_callback().await;
    bench.pass(bench.broker.config().callback_lease);
    let holder = bench.claim_callback().await;
    drop(former);
    let view = bench.callback_of(turn).await;
    assert_eq!((view.state, view.id), (CallbackState::Delivering, Some(holder.id)));
    drop(holder);
    assert_eq!(bench.callback_of(turn).await.id, None, "forgotten with its last holder");
}

#[tokio::test]
async fn the_same_message_with_another_callback_url_is_refused() {
    let bench = Bench::with(config()).await;
    let submit = async |url: &str| bench.broker.submit(with_callback("acme", "ann", Some("m1"), url)).await;
    let first = submit(URL).await.unwrap();
    let again = submit(URL).await.unwrap();
    assert_eq!((again.id, again.duplicate), (first.id, true));
    assert_eq!(submit("https://hooks.example/other").await, Err(BrokerError::DedupConflict(first.id)));
}

#[tokio::test]
async fn lists_page_through_organisations_and_show_no_secret() {
    let bench = Bench::with(config()).await;
    let mut expected = Vec::new();
    for (org, user) in [("acme", "a"), ("acme", "b"), ("acme", "c"), ("beta", "d"), ("gamma", "e")] {
        bench.broker.submit(with_callback(org, user, None, URL)).await.unwrap();
        bench.answer(&bench.claim_one().await, "x").await;
        let callback = bench.claim_callback().await;
        let dead = CallbackOutcome::Dead { status: Some(410), reason: "refused".to_owned() };
        bench.settle(&callback, dead).await;
        expected.push(callback.id);
    }
    let list = async |scope: &OrgScope, limit: u32| {
        let (mut seen, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = bench.broker.callbacks(scope, CallbackStage::Dead, after, limit).await.unwrap();
            assert!(page.items.len() <= limit as usize);
            for view in &page.items {
                assert!(!format!("{view:?}").contains("secret"), "{view:?}");
                assert_eq!(view.origin.as_deref(), Some("https://hooks.example"));
            }
            seen.extend(page.items.iter().filter_map(|view| view.id));
            pages += 1;
            match page.next {
                Some(next) => after = Some(next),
                None => return (seen, pages),
            }
        }
    };
    for limit in 1..=6 {
        assert_eq!(list(&OrgScope::All, limit).await.0, expected, "{limit} at a time");
    }
    let beta = OrgScope::These(vec!["beta".to_owned()]);
    assert_eq!(list(&beta, 10).await, (vec![expected[3]], 1));
    assert_eq!(bench.broker.callback(&beta, expected[0]).await.unwrap(), None);
    assert_eq!(bench.broker.drop_callback(&beta, expected[0]).await.unwrap(), DropCallback::NotFound);
    let named = CallbackRedrive::These(vec![expected[0]]);
    assert_eq!(bench.broker.redrive_callbacks(&beta, named, false).await.unwrap(), 0);
    assert_eq!(list(&OrgScope::All, 10).await.0, expected, "nothing of others was touched");
}

#[tokio::test]
async fn a_callback_can_be_dropped_unless_it_is_being_tried() {
    let bench = Bench::with(config()).await;
    let turn = bench.send_with_callback("ann").await;
    bench.answer(&bench.claim_one().await, "x").await;
    let callback = bench.claim_callback().await;
    let drop_it = async || bench.broker.drop_callback(&OrgScope::All, callback.id).await.unwrap();
    assert_eq!(drop_it().await, DropCallback::InProgress);
    bench.fail(&callback).await;
    assert_eq!(drop_it().await, DropCallback::Dropped);
    assert_eq!(drop_it().await, DropCallback::NotFound);
    assert_eq!(bench.callback_of(turn).await.state, CallbackState::Dropped);
    assert_eq!(bench.claim_callbacks().await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn dead_callbacks_are_forgotten_after_twice_the_retention() {
    let bench = Bench::with(config()).await;
    bench.send_with_callback("ann").await;
    bench.answer(&bench.claim_one().await, "x").await;
    let callback = bench.claim_callback().await;
    bench.settle(&callback, CallbackOutcome::Dead { status: None, reason: "no".to_owned() }).await;
    let there = async || bench.broker.callback(&OrgScope::All, callback.id).await.unwrap().is_some();
    let sweep = async || {
        let shutdown = CancellationToken::new();
        let run = bench.broker.run_sweeper(shutdown.clone());
        let passes = async {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_secs(2)).await;
                bench.pass(Duration::from_secs(61));
            }
            shutdown.cancel();
        };
        tokio::join!(run, passes);
    };
    bench.pass(bench.broker.config().retention * 2 - Duration::from_secs(600));
    sweep().await;
    assert!(there().await);
    bench.pass(Duration::from_secs(700));
    sweep().await;
    assert!(!there().await);
}

#[tokio::test(start_paused = true)]
async fn only_so_many_callbacks_are_kept_and_the_oldest_dead_go_first() {
    let bench = Bench::with(BrokerConfig { callbacks_kept_max: 2, ..config() }).await;
    let count = async || {
        let shutdown = CancellationToken::new();
        let stop = async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            shutdown.cancel();
        };
        tokio::join!(bench.broker.run_sweeper(shutdown.clone()), stop);
    };
    let mut dead = Vec::new();
    for user in ["ann", "bob", "eve"] {
        bench.send_with_callback(user).await;
        bench.answer(&bench.claim_one().await, "x").await;
        let callback = bench.claim_callback().await;
        bench.settle(&callback, CallbackOutcome::Dead { status: None, reason: "no".to_owned() }).await;
        dead.push(callback.id);
    }
    let kept = async |id| bench.broker.callback(&OrgScope::All, id).await.unwrap().is_some();
    count().await;
    assert_eq!([kept(dead[0]).await, kept(dead[1]).await, kept(dead[2]).await], [false, true, true]);
    for user in ["zoe", "kim"] {
        bench.send_with_callback(user).await;
        bench.answer(&bench.claim_one().await, "x").await;
    }
    count().await;
    assert_eq!([kept(dead[1]).await, kept(dead[2]).await], [false, false], "those that wait are worth more");
    let refused = bench.broker.submit(with_callback("acme", "late", None, URL)).await;
    assert_eq!(refused, Err(BrokerError::CallbacksFull { callbacks_kept_max: 2 }));
    bench.broker.submit(submission("acme", "late", "hi")).await.unwrap();
}
