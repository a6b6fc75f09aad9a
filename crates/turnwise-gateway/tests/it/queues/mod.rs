//! Work queues from outside. Numbers of flaws are those of a message bus that
//! was looked at before this one was built: each would fail its test here.

mod bad_input;
mod ends;
mod isolation;
mod leases;
mod mend;
mod order;
mod send;
mod set;
mod waiting;

use crate::client::{Reply, call, with_json};
use crate::node::{Node, key, node_with};
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_broker::BrokerConfig;
use turnwise_gateway::{ApiKey, Scope};

/// What nobody should wait for: an answer is there long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A node with work queues, for keys of the organisations o and p.
pub(crate) async fn node() -> Node {
    node_of(BrokerConfig::default()).await
}

pub(crate) async fn node_of(broker: BrokerConfig) -> Node {
    node_with(broker, |config| {
        let may = |org: &str| ApiKey { scopes: vec![Scope::Queues, Scope::Metrics], ..key(org) };
        config.keys = vec![may("o"), may("p")];
    })
    .await
}

impl Node {
    /// Asks about a queue of o.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.ask_as("o", method, path, body).await
    }

    /// The same with another's key; null is no body.
    pub(crate) async fn ask_as(&self, org: &str, method: &str, path: &str, body: &Value) -> Reply {
        let path = format!("/api/v1/queues{path}");
        let ask =
            if body.is_null() { call(method, &path) } else { with_json(method, &path, &body.to_string()) };
        self.send(&ask.header("X-API-Key", &format!("secret-{org}"))).await
    }

    /// Stores a message in `jobs`; its id.
    pub(crate) async fn enqueue(&self, message: Value) -> String {
        let reply = self.ask("POST", "/jobs/messages", &message).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        reply.json()["message_id"].as_str().unwrap().to_owned()
    }

    /// Stores these in one batch; their ids.
    pub(crate) async fn enqueue_all(&self, items: &[Value]) -> Vec<String> {
        let reply = self.ask("POST", "/jobs/messages", &json!({ "items": items })).await;
        assert_eq!(reply.status, 201, "{}", reply.text());
        ids(&reply.json()["results"])
    }

    /// Messages of `jobs`.
    pub(crate) async fn take(&self, claim: Value) -> Vec<Value> {
        let reply = self.ask("POST", "/jobs/claim", &claim).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["deliveries"].as_array().unwrap().clone()
    }

    /// The only message that comes, within the time a claim may wait.
    pub(crate) async fn take_one(&self) -> Value {
        let mut found = self.take(json!({ "wait_seconds": 20 })).await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// Ends leases of `jobs` in one batch; what became of each.
    pub(crate) async fn settle(&self, items: &[Value]) -> Vec<String> {
        let reply = self.ask("POST", "/jobs/settle", &json!({ "items": items })).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        let results = json["results"].as_array().unwrap();
        results.iter().map(|result| result["status"].as_str().unwrap().to_owned()).collect()
    }

    /// Ends one lease.
    pub(crate) async fn end(&self, delivery: &Value, outcome: &str) {
        let item = json!({ "receipt": delivery["receipt"], "outcome": outcome });
        assert_eq!(self.settle(&[item]).await, ["done"]);
    }

    /// The queue `jobs`.
    pub(crate) async fn jobs(&self) -> Value {
        let reply = self.ask("GET", "/jobs", &Value::Null).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// What `jobs` holds: ready, scheduled, leased, dead.
    pub(crate) async fn depth(&self) -> [u64; 4] {
        let jobs = self.jobs().await;
        ["ready", "scheduled", "leased", "dead"].map(|stage| jobs["depth"][stage].as_u64().unwrap())
    }

    /// One message of `jobs`.
    pub(crate) async fn message(&self, id: &str) -> Value {
        let reply = self.ask("GET", &format!("/jobs/messages/{id}"), &Value::Null).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    /// A dead letter of `jobs` with this reason; its id.
    pub(crate) async fn dead(&self, message: Value, reason: &str) -> String {
        let id = self.enqueue(message).await;
        let delivery = self.take_one().await;
        assert_eq!(delivery["message_id"], id.as_str());
        let item = json!({ "receipt": delivery["receipt"], "outcome": "dead", "reason": reason });
        assert_eq!(self.settle(&[item]).await, ["done"]);
        id
    }

    /// Waits until somebody waits for a message of so many queues.
    pub(crate) async fn until_waited_for(&self, queues: f64) {
        let said = async {
            let mut look = tokio::time::interval(Duration::from_millis(5));
            loop {
                look.tick().await;
                let page = self.send(&call("GET", "/metrics").header("X-API-Key", "secret-o")).await;
                let line = page.text().lines().find(|line| line.starts_with("turnwise_queues_waited_for "));
                let number: f64 = line.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
                if number == queues {
                    return;
                }
            }
        };
        tokio::time::timeout(PATIENCE, said).await.expect("somebody waits");
    }
}

/// The ids of what is listed.
pub(crate) fn ids(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    list.iter().map(|item| item["message_id"].as_str().unwrap().to_owned()).collect()
}

/// The payloads of deliveries.
pub(crate) fn payloads(deliveries: &[Value]) -> Vec<Value> {
    deliveries.iter().map(|delivery| delivery["payload"].clone()).collect()
}

/// Microseconds of a point in time.
pub(crate) fn micros(time: &Value) -> i64 {
    let turnwise_api::Rfc3339(micros) = time.as_str().unwrap().parse().unwrap();
    micros
}
