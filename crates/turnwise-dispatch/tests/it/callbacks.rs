//! Clause C10: callbacks between a real broker and receivers that take them,
//! refuse them, or are slow.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{
    BrokerConfig, CallbackRules, CallbackState, CallbackView, OrgScope, Submitted, TurnState,
};
use turnwise_core::{Kind, MessageId, Name, NewEvent, Store};
use turnwise_dispatch::{CallbackConfig, CallbackWorker, Resolve, Secret, SystemResolver};
use turnwise_mock::{AgentConfig, Answering, CallbackReceiver, Received};
use turnwise_store::memory::MemoryStore;
use turnwise_store::{Clock, system_clock};

use crate::{ORG, Stage};

pub(crate) const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
pub(crate) const OTHER_SECRET: &str = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// A stage that also sends callbacks once it is told to.
pub(crate) struct Post {
    pub(crate) stage: Stage,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: CallbackConfig,
    pub(crate) resolver: Arc<dyn Resolve>,
    workers: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Post {
    /// The agent is called; callbacks are not sent yet. These hosts may be private.
    pub(crate) async fn new(hosts: &[&str]) -> Post {
        Post::at(system_clock(), hosts).await
    }

    /// The same by this clock.
    pub(crate) async fn at(clock: Clock, hosts: &[&str]) -> Post {
        let store: Arc<dyn Store> = MemoryStore::new(Arc::clone(&clock));
        let callbacks = CallbackRules {
            accepted: true,
            allow_private_hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            attempts_max: 3,
        };
        let broker = BrokerConfig {
            callbacks,
            poll_interval: Duration::from_millis(20),
            // Longer than any request of these tests may take.
            callback_lease: Duration::from_secs(70),
            ..BrokerConfig::default()
        };
        let mut stage = Stage::on(Arc::clone(&store), clock, AgentConfig::default(), broker).await;
        stage.start();
        let config = CallbackConfig {
            secrets: vec![Secret::parse(SECRET).unwrap()],
            timeout: Duration::from_secs(5),
            ..CallbackConfig::default()
        };
        let resolver = Arc::new(SystemResolver);
        Post { stage, store, config, resolver, workers: JoinSet::new(), shutdown: CancellationToken::new() }
    }

    /// The same for local receivers, and sending.
    pub(crate) async fn sending() -> Post {
        let mut post = Post::new(&["127.0.0.1"]).await;
        post.send();
        post
    }

    pub(crate) fn send(&mut self) {
        // No jitter: waits are those of the curve.
        let random = Arc::new(|| u64::MAX / 2);
        let broker = self.stage.broker.clone();
        let worker =
            CallbackWorker::new(broker, self.config.clone(), Arc::clone(&self.resolver), random).unwrap();
        self.workers.spawn(worker.run(self.shutdown.clone()));
    }

    pub(crate) async fn submit(&self, user: &str, text: &str, url: &str) -> Submitted {
        let mut submission = self.stage.submission(user, text, false);
        submission.callback = Some(self.stage.broker.config().callbacks.check(url).unwrap());
        submission.client_message_id = Some(format!("own-{text}"));
        self.stage.broker.submit(submission).await.unwrap()
    }

    pub(crate) async fn callback(&self, turn: MessageId) -> CallbackView {
        let view = self.stage.broker.turn(&OrgScope::All, turn).await.unwrap().expect("a known turn");
        view.callback.expect("a turn with a callback")
    }

    /// Waits until the turn's callback is as wanted.
    pub(crate) async fn until(
        &self,
        turn: MessageId,
        wanted: impl Fn(&CallbackView) -> bool,
    ) -> CallbackView {
        let wait = async {
            loop {
                let view = self.callback(turn).await;
                if wanted(&view) {
                    return view;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        match tokio::time::timeout(Duration::from_secs(30), wait).await {
            Ok(view) => view,
            Err(_) => panic!("it stays so: {:?}", self.callback(turn).await),
        }
    }

    pub(crate) async fn until_state(&self, turn: MessageId, state: CallbackState) -> CallbackView {
        self.until(turn, |view| view.state == state).await
    }
}

pub(crate) async fn answering(
    answer: impl Fn(&[Received], &Received) -> u16 + Send + Sync + 'static,
) -> CallbackReceiver {
    let answering: Answering =
        Arc::new(move |before, one| StatusCode::from_u16(answer(before, one)).unwrap());
    CallbackReceiver::start(([127, 0, 0, 1], 0).into(), Some(SECRET), answering).await.unwrap()
}

fn body(received: &Received) -> Value {
    serde_json::from_slice(&received.body).unwrap()
}

#[tokio::test]
async fn the_end_of_a_turn_is_posted_signed_and_once() {
    let post = Post::sending().await;
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let turn = post.submit("u", "hello", &receiver.url("/hook?x=1")).await;
    let view = post.until_state(turn.id, CallbackState::Delivered).await;
    assert_eq!((view.attempts, view.last.and_then(|last| last.status)), (1, Some(200)));
    let received = receiver.received();
    assert_eq!(received.len(), 1);
    let one = &received[0];
    assert_eq!((one.path.as_str(), one.signed), ("/hook?x=1", true));
    let expected = json!({
        "message_id": turn.id.to_string(), "user_id": "u", "client_message_id": "own-hello",
        "status": "completed", "responses": body(one)["responses"], "response_language": body(one)["response_language"],
        "voice_audio_base64": null,
    });
    assert_eq!(body(one), expected);
    assert!(body(one)["responses"][0].is_string(), "{}", body(one));
    // Nothing that came in, and nothing of the agent's, goes out.
    let names: Vec<_> = one.headers.iter().map(|(name, _)| name.as_str()).collect();
    for name in &names {
        let known = [
            "host",
            "content-type",
            "content-length",
            "connection",
            "user-agent",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        ];
        assert!(known.contains(name), "{names:?}");
    }
}

#[tokio::test]
async fn a_failed_and_a_cancelled_turn_are_told_too() {
    let post = Post::sending().await;
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let failed = post.submit("u", "x [[status=500]]", &receiver.url("/")).await;
    post.until_state(failed.id, CallbackState::Delivered).await;
    let slow = post.submit("v", "y [[delay=60000]]", &receiver.url("/")).await;
    let waiting = post.submit("v", "z", &receiver.url("/")).await;
    post.stage.broker.cancel(&OrgScope::All, waiting.id).await.unwrap();
    post.until_state(waiting.id, CallbackState::Delivered).await;
    post.stage.broker.cancel(&OrgScope::All, slow.id).await.unwrap();
    post.until_state(slow.id, CallbackState::Delivered).await;
    let told: HashMap<String, Value> =
        receiver.received().iter().map(|one| (one.message_id.clone(), body(one))).collect();
    for (id, code) in [(failed.id, "agent_error"), (waiting.id, "cancelled"), (slow.id, "cancelled")] {
        let body = &told[&id.to_string()];
        assert_eq!((&body["status"], &body["code"]), (&json!("error"), &json!(code)), "{body}");
        assert!(body["error"].is_string() && body.get("responses").is_none(), "{body}");
    }
}

/// The verifiers of the specification's own crate.
#[tokio::test]
async fn signatures_verify_with_standardwebhooks_during_rotation_and_not_when_replayed_late() {
    let mut post = Post::new(&["127.0.0.1"]).await;
    post.config.secrets = vec![Secret::parse(SECRET).unwrap(), Secret::parse(OTHER_SECRET).unwrap()];
    post.config.token = CallbackConfig::token("X-Engine-Token", "t0ken").unwrap();
    post.send();
    let receiver = answering(|before, _| if before.is_empty() { 503 } else { 200 }).await;
    let turn = post.submit("u", "hello", &receiver.url("/")).await;
    post.until_state(turn.id, CallbackState::Delivered).await;
    let received = receiver.received();
    assert_eq!(received.len(), 2);
    assert_eq!(received[0].webhook_id, received[1].webhook_id, "the same id on every try");
    assert_eq!(received[0].body, received[1].body);
    for one in &received {
        let mut headers = HeaderMap::new();
        for (name, value) in &one.headers {
            headers.insert(HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        assert_eq!(headers["x-engine-token"], "t0ken");
        for secret in [SECRET, OTHER_SECRET] {
            let verifier = standardwebhooks::Webhook::new(secret).unwrap();
            verifier.verify(&one.body, &headers).unwrap();
            assert!(verifier.verify(b"{}", &headers).is_err(), "another body");
            let mut late = headers.clone();
            let sent: i64 = late["webhook-timestamp"].to_str().unwrap().parse().unwrap();
            late.insert("webhook-timestamp", (sent - 301).into());
            assert!(verifier.verify(&one.body, &late).is_err(), "replayed after five minutes");
        }
    }
}

#[tokio::test]
async fn a_retry_holds_up_its_own_conversation_and_no_other() {
    let post = Post::sending().await;
    let receiver = answering(|before, one| {
        let first = !before.iter().any(|it| it.message_id == one.message_id);
        if one.user_id == "held" && first && before.iter().filter(|it| it.user_id == "held").count() == 0 {
            503
        } else {
            200
        }
    })
    .await;
    let mut held = Vec::new();
    for n in 0..3 {
        held.push(post.submit("held", &format!("m{n}"), &receiver.url("/")).await.id);
    }
    let failed = |view: &CallbackView| view.attempts == 1 && view.state == CallbackState::Waiting;
    post.until(held[0], failed).await;
    let other = post.submit("other", "hello", &receiver.url("/")).await;
    post.until_state(other.id, CallbackState::Delivered).await;
    assert_eq!(post.callback(held[0]).await.attempts, 1, "the other did not wait for it");
    post.until_state(held[2], CallbackState::Delivered).await;
    let came: Vec<_> = receiver
        .received()
        .iter()
        .filter(|it| it.user_id == "held")
        .map(|it| it.message_id.clone())
        .collect();
    let expected: Vec<_> = [held[0], held[0], held[1], held[2]].iter().map(ToString::to_string).collect();
    assert_eq!(came, expected);
}

#[tokio::test]
async fn a_refusal_is_final_and_what_may_pass_is_tried_again() {
    let post = Post::sending().await;
    let receiver = answering(|_, one| one.path.trim_start_matches('/').parse().unwrap()).await;
    for status in [400, 401, 404, 410, 422] {
        let turn = post.submit(&format!("u{status}"), "m", &receiver.url(&format!("/{status}"))).await;
        let view = post.until_state(turn.id, CallbackState::Dead).await;
        let last = view.last.unwrap();
        assert_eq!((view.attempts, last.status), (1, Some(status)));
        assert_eq!(last.reason, Some(format!("refused: the host answered {status}")));
    }
    for status in [301, 302, 307, 308, 408, 425, 429, 500, 502, 503] {
        let turn = post.submit(&format!("u{status}"), "m", &receiver.url(&format!("/{status}"))).await;
        let view = post.until(turn.id, |view| view.attempts == 1).await;
        assert_eq!(view.state, CallbackState::Waiting, "{status}");
        assert!(view.next_attempt_at.is_some(), "{status}");
    }
    assert_eq!(receiver.received().iter().filter(|it| it.path == "/410").count(), 1);
}

#[tokio::test]
async fn a_callback_that_was_given_up_on_can_be_redriven() {
    let mut post = Post::new(&["127.0.0.1"]).await;
    post.send();
    let receiver = answering(|before, _| if before.is_empty() { 410 } else { 200 }).await;
    let turn = post.submit("u", "m", &receiver.url("/")).await;
    let dead = post.until_state(turn.id, CallbackState::Dead).await;
    let broker = &post.stage.broker;
    let (here, there) = (OrgScope::These(vec![ORG.to_owned()]), OrgScope::These(vec!["p".to_owned()]));
    let all = || turnwise_broker::CallbackRedrive::All;
    assert_eq!(broker.redrive_callbacks(&there, all(), false).await.unwrap(), 0);
    assert_eq!(broker.redrive_callbacks(&here, all(), true).await.unwrap(), 1);
    assert_eq!(post.callback(turn.id).await, dead, "a dry run changes nothing");
    assert_eq!(broker.redrive_callbacks(&here, all(), false).await.unwrap(), 1);
    let view = post.until_state(turn.id, CallbackState::Delivered).await;
    assert_eq!(view.attempts, 1, "counted anew");
    let received = receiver.received();
    assert_eq!((received.len(), &received[0].webhook_id), (2, &received[1].webhook_id));
}

#[tokio::test]
async fn after_the_last_try_a_callback_is_a_dead_letter() {
    let post = Post::sending().await;
    let receiver = answering(|_, _| 500).await;
    let turn = post.submit("u", "m", &receiver.url("/")).await;
    let view = post.until_state(turn.id, CallbackState::Dead).await;
    assert_eq!(view.attempts, 3);
    assert_eq!(view.last.unwrap().reason.as_deref(), Some("given up after 3 tries: the host answered 500"));
    assert_eq!(receiver.received().len(), 3);
}

/// C3 says that a turn ends as one thing only: nothing else is made up for a callback.
#[tokio::test]
async fn a_callback_whose_answer_is_gone_dies_and_says_so() {
    gives_up_without(None, "answer_gone").await;
}

#[tokio::test]
async fn a_callback_whose_answer_cannot_be_read_dies_and_says_so() {
    gives_up_without(Some("no record"), "answer_damaged").await;
}

/// The end of a turn is replaced by this, or by nothing.
async fn gives_up_without(end: Option<&'static str>, reason: &str) {
    let mut post = Post::new(&["127.0.0.1"]).await;
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let turn = post.submit("u", "m", &receiver.url("/")).await;
    assert_eq!(post.stage.end(turn.id).await.state, TurnState::Completed);
    let reply = Name::new(ORG, Kind::Reply, &format!("{:016x}", turn.id.nonce())).unwrap();
    assert_eq!(post.store.drop_topics(vec![reply.clone()]).await.unwrap(), 1);
    if let Some(data) = end {
        let (event_type, data) = ("turn.done".to_owned(), data.into());
        let event = NewEvent { topic: reply, event_type, data, dedup: None, keep_until: None };
        for answer in post.store.append(vec![event]).await.unwrap() {
            answer.unwrap();
        }
    }
    post.send();
    let page = async || {
        let stage = turnwise_broker::CallbackStage::Dead;
        post.stage.broker.callbacks(&OrgScope::All, stage, None, 10).await.unwrap()
    };
    let wait = async {
        while page().await.items.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("it is given up");
    let dead = page().await.items.remove(0);
    assert_eq!(dead.turn, turn.id);
    let told = dead.last.unwrap().reason.unwrap();
    assert!(told.starts_with(reason), "{told}");
    assert!(receiver.received().is_empty());
}
