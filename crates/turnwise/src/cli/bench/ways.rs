//! The two ways to a queue that are measured: a store in this process, and a server over HTTP.

use super::cycle::{LEASE, LOOK, Way, Wrong};
use super::wire::Wire;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::sync::Arc;
use turnwise_core::{Claim, NewMessage, OrderingKey, Outcome, QueueName, Receipt, Settlement, Store};

/// The store itself.
pub(super) struct Direct {
    store: Arc<dyn Store>,
    queue: QueueName,
    wakeups: BoxStream<'static, QueueName>,
}

impl Direct {
    pub(super) fn new(store: &Arc<dyn Store>, queue: &QueueName) -> Direct {
        Direct { store: Arc::clone(store), queue: queue.clone(), wakeups: store.wakeups() }
    }
}

impl Way for Direct {
    type Receipt = Receipt;

    async fn enqueue(&mut self, messages: Vec<(Option<String>, String)>) -> Result<(), Wrong> {
        let batch = messages.into_iter().map(|(key, payload)| NewMessage {
            key: key.map(|key| OrderingKey(key.into())),
            ..NewMessage::new(self.queue.clone(), payload)
        });
        let answers = self.store.enqueue(batch.collect()).await.map_err(|error| error.to_string())?;
        answers.into_iter().try_for_each(|answer| answer.map(|_| ())).map_err(|error| error.to_string())
    }

    async fn claim(&mut self, limit: u32) -> Result<Vec<(Vec<u8>, Receipt)>, Wrong> {
        let claim = Claim { queue: self.queue.clone(), limit, lease: LEASE, durable: true };
        let deliveries = self.store.claim(claim).await.map_err(|error| error.to_string())?;
        if deliveries.is_empty() {
            let _ = tokio::time::timeout(LOOK, self.wakeups.next()).await;
        }
        Ok(deliveries.into_iter().map(|it| (it.payload.to_vec(), it.receipt)).collect())
    }

    async fn ack(&mut self, receipts: Vec<Receipt>) -> Result<(), Wrong> {
        let acks = receipts.into_iter().map(|receipt| Settlement {
            receipt,
            outcome: Outcome::Ack,
            effects: Vec::new(),
        });
        self.store.settle(acks.collect()).await.map(|_| ()).map_err(|error| error.to_string())
    }
}

/// The public API, on a connection of its own.
pub(super) struct Http(Wire);

/// A queue of one organisation.
const QUEUE: &str = "/api/v1/queues/bench";
const ORG: &str = "?org_id=bench";

#[derive(Serialize)]
struct Message<'a> {
    payload: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
}

#[derive(Deserialize)]
struct HandedOut<'a> {
    #[serde(borrow)]
    deliveries: Vec<Delivery<'a>>,
}

#[derive(Deserialize)]
struct Delivery<'a> {
    receipt: &'a str,
    #[serde(borrow)]
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct Ack {
    receipt: String,
    outcome: &'static str,
}

impl Http {
    pub(super) fn new(url: &str) -> Http {
        Http(Wire::new(url))
    }

    async fn post(&mut self, route: &str, body: Result<Vec<u8>, serde_json::Error>) -> Result<Bytes, Wrong> {
        let body = body.map_err(|error| error.to_string())?;
        let (status, body) = self.0.post(&format!("{QUEUE}/{route}{ORG}"), &body).await?;
        if !(200..300).contains(&status) {
            return Err(format!("{route} was answered {status}"));
        }
        Ok(body)
    }
}

impl Way for Http {
    type Receipt = String;

    async fn enqueue(&mut self, messages: Vec<(Option<String>, String)>) -> Result<(), Wrong> {
        let parsed: Result<Vec<Message<'_>>, _> = messages
            .iter()
            .map(|(key, payload)| {
                Ok(Message { payload: serde_json::from_str(payload)?, ordering_key: key.as_deref() })
            })
            .collect();
        let body = parsed.and_then(|messages| match messages.as_slice() {
            [alone] => serde_json::to_vec(alone),
            items => serde_json::to_vec(&serde_json::json!({ "items": items })),
        });
        let answer = self.post("messages", body).await?;
        // An answer to a batch says for each item how it went.
        match messages.len() > 1 && answer.windows(8).any(|part| part == b"\"error\":") {
            true => Err("a message was not stored".to_owned()),
            false => Ok(()),
        }
    }

    async fn claim(&mut self, limit: u32) -> Result<Vec<(Vec<u8>, String)>, Wrong> {
        let (wait, lease) = (LOOK.as_secs_f64(), LEASE.as_secs());
        let body = format!(r#"{{"limit":{limit},"wait_seconds":{wait},"lease_seconds":{lease}}}"#);
        let answer = self.post("claim", Ok(body.into_bytes())).await?;
        let handed_out: HandedOut<'_> = serde_json::from_slice(&answer).map_err(|error| error.to_string())?;
        let deliveries = handed_out.deliveries.into_iter();
        Ok(deliveries.map(|it| (it.payload.get().as_bytes().to_vec(), it.receipt.to_owned())).collect())
    }

    async fn ack(&mut self, receipts: Vec<String>) -> Result<(), Wrong> {
        let items: Vec<Ack> = receipts.into_iter().map(|receipt| Ack { receipt, outcome: "ack" }).collect();
        let answer = self.post("settle", serde_json::to_vec(&serde_json::json!({ "items": items }))).await?;
        match answer.windows(10).any(|part| part == b"lease_lost") {
            true => Err("a lease was lost".to_owned()),
            false => Ok(()),
        }
    }
}
