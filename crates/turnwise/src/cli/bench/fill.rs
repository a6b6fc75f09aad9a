//! Fills a data folder through broker and store in this process: many
//! submissions share a commit, and the records are those of a server.

use super::load::text;
use crate::failure::{Exit, Failure};
use crate::node::nonce;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use turnwise_broker::{Broker, BrokerConfig, Conversation, Submission, Turn, TurnOutcome};
use turnwise_store::embedded::{Durability, EmbeddedConfig, EmbeddedStore};
use turnwise_store::system_clock;

/// Operations under way at once; they share commits.
const AT_ONCE: usize = 1_000;
/// Turns claimed at a time.
const CLAIMED_AT_ONCE: u32 = 256;

/// What was put into a folder.
#[derive(Default)]
pub(crate) struct Filled {
    pub(crate) turns: u64,
    pub(crate) seconds: f64,
    pub(crate) live_bytes: u64,
}

/// A folder that is being filled.
pub(crate) struct Filler {
    store: Arc<EmbeddedStore>,
    started: Instant,
}

impl Filler {
    /// The data folder of a server that will run in `folder`.
    pub(crate) fn open(folder: &Path) -> Result<Filler, Failure> {
        let config = EmbeddedConfig { durability: Durability::Relaxed, ..EmbeddedConfig::default() };
        let data = folder.join("data");
        let store = EmbeddedStore::open(&data, config, system_clock()).map_err(failed)?;
        Ok(Filler { store, started: Instant::now() })
    }

    /// Turns that wait, the head of every conversation on Retry-After.
    pub(crate) async fn waiting(
        self,
        turns: u64,
        conversations: u64,
        one_conversation: u64,
        heads_wait: Duration,
    ) -> Result<Filled, Failure> {
        let broker = self.broker().await?;
        let conversations = conversations.min(turns);
        let many = (0..turns).map(|turn| (format!("user-{}", turn % conversations), turn));
        let one = (0..one_conversation).map(|turn| ("one-for-all".to_owned(), turns + turn));
        submit_all(&broker, many.chain(one)).await?;
        let heads = conversations + u64::from(one_conversation > 0);
        each_claimed(&broker, heads, |broker, turn| async move {
            broker.finish(&turn, TurnOutcome::RetryAfter(heads_wait)).await
        })
        .await?;
        Ok(self.close(turns + one_conversation))
    }

    /// Turns that were answered.
    pub(crate) async fn ended(self, turns: u64) -> Result<Filled, Failure> {
        let broker = self.broker().await?;
        submit_all(&broker, (0..turns).map(|turn| (format!("user-{turn}"), turn))).await?;
        each_claimed(&broker, turns, |broker, turn| async move {
            let answer = Some(Bytes::from(text()));
            broker.finish(&turn, TurnOutcome::Completed { answer, unsaved: Vec::new() }).await
        })
        .await?;
        Ok(self.close(turns))
    }

    async fn broker(&self) -> Result<Broker, Failure> {
        let config = BrokerConfig {
            depth_max: u32::MAX,
            turns_waiting_max: u64::MAX,
            org_turns_waiting_max: u64::MAX,
            retry_after_total_max: Duration::from_secs(86_400),
            ..BrokerConfig::default()
        };
        let store = Arc::clone(&self.store);
        Broker::start(store, config, Arc::new(nonce), system_clock()).await.map_err(failed)
    }

    fn close(self, turns: u64) -> Filled {
        self.store.close();
        let live_bytes = self.store.live_bytes();
        Filled { turns, seconds: self.started.elapsed().as_secs_f64(), live_bytes }
    }
}

async fn submit_all(broker: &Broker, turns: impl Iterator<Item = (String, u64)>) -> Result<(), Failure> {
    let request = text();
    let submissions = turns.map(|(user, turn)| {
        let submission = Submission {
            org: "bench".to_owned(),
            client: "bench".to_owned(),
            conversation: Conversation::User { user: user.clone() },
            client_message_id: Some(format!("{turn:032}")),
            request: Bytes::from(body(&user, &request)),
            user,
            prefer_stream: false,
            traceparent: None,
            callback: None,
            redrive_of: None,
        };
        let broker = broker.clone();
        async move { broker.submit(submission).await.map(drop).map_err(failed) }
    });
    stream::iter(submissions).buffer_unordered(AT_ONCE).try_collect::<()>().await
}

/// What the gateway would send to the agent.
fn body(user: &str, message: &str) -> String {
    serde_json::json!({"client_id": "bench", "user_id": user, "message": message,
        "message_type": "text", "org": "bench"})
    .to_string()
}

async fn each_claimed<F, E>(
    broker: &Broker,
    turns: u64,
    mut each: impl FnMut(Broker, Turn) -> F,
) -> Result<(), Failure>
where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut left = turns;
    while left > 0 {
        let claimed = broker.claim_turns(CLAIMED_AT_ONCE).await.map_err(failed)?;
        if claimed.is_empty() {
            return Err(failed(format!("{left} turns could not be claimed")));
        }
        left = left.saturating_sub(claimed.len() as u64);
        let ends = claimed.into_iter().map(|turn| each(broker.clone(), turn));
        stream::iter(ends).buffer_unordered(AT_ONCE).try_collect::<()>().await.map_err(failed)?;
    }
    Ok(())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, "the folder could not be filled", error.to_string())
}
