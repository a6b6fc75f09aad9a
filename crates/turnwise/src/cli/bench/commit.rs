//! What one commit of the store takes by itself: one submission after the
//! other, in this process, with the settings of a server.

use super::load::text;
use crate::failure::{Exit, Failure};
use crate::node::nonce;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use turnwise_broker::{Broker, BrokerConfig, Conversation, Submission};
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};
use turnwise_store::system_clock;

/// Commits timed; the store remembers about as many.
const COMMITS: u64 = 300;

/// Milliseconds of a commit of one submission, p50.
pub(crate) async fn p50_ms(folder: &Path) -> Result<f64, Failure> {
    let store = EmbeddedStore::open(folder, EmbeddedConfig::default(), system_clock()).map_err(failed)?;
    let config = BrokerConfig { depth_max: u32::MAX, ..BrokerConfig::default() };
    let shared = Arc::clone(&store);
    let broker = Broker::start(shared, config, Arc::new(nonce), system_clock()).await.map_err(failed)?;
    for _ in 0..COMMITS {
        let user = "commit".to_owned();
        let submission = Submission {
            org: "bench".to_owned(),
            client: "bench".to_owned(),
            conversation: Conversation::User { user: user.clone() },
            user,
            client_message_id: None,
            request: Bytes::from(text()),
            prefer_stream: false,
            traceparent: None,
            callback: None,
            redrive_of: None,
        };
        broker.submit(submission).await.map_err(failed)?;
    }
    let p50 = store.commit_p50().unwrap_or_default();
    store.close();
    Ok(p50.as_secs_f64() * 1_000.0)
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Failure, "the store alone could not be measured", error.to_string())
}
