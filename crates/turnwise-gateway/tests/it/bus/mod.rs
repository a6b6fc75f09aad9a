//! The agents' bus from outside. Numbers of flaws are those of a message bus
//! that was looked at before this one was built: each would fail its test here.

mod access;
mod bad_input;
mod broadcast;
mod inbox;
mod receipts;
mod requests;

use crate::client::{Call, Reply, call, with_json};
use crate::node::{Node, key, node_with};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use turnwise_broker::{AgentHello, AgentLink, BrokerConfig, BusDelivery, BusEvent, BusOutcome, BusSettled};
use turnwise_gateway::{ApiKey, Scope};

/// What nobody should wait for: an answer is there long before.
const PATIENCE: Duration = Duration::from_secs(30);

/// A node with the bus, for keys of the organisations o and p.
async fn node() -> Node {
    let may = |org: &str| ApiKey { scopes: vec![Scope::Bus], ..key(org) };
    node_with(BrokerConfig::default(), |config| config.keys = vec![may("o"), may("p")]).await
}

/// A request about the bus, with the key of this organisation; null is no body.
fn asked(org: &str, method: &str, path: &str, body: &Value) -> Call {
    let path = format!("/api/v1/bus{path}");
    let ask = if body.is_null() { call(method, &path) } else { with_json(method, &path, &body.to_string()) };
    ask.header("X-API-Key", &format!("secret-{org}"))
}

impl Node {
    async fn bus(&self, method: &str, path: &str, body: &Value) -> Reply {
        self.send(&asked("o", method, path, body)).await
    }

    /// Sends with this key; what is said to it.
    async fn bus_send(&self, path: &str, body: Value) -> Value {
        let reply = self.bus("POST", path, &body).await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.json()
    }

    /// Sends from boss to ann; the id.
    async fn say(&self, content: impl Into<Value>, more: Value) -> String {
        let mut body = json!({ "from_agent": "boss", "content": content.into() });
        body.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        let sent = self.bus_send("/agents/ann/messages", body).await;
        sent["message_id"].as_str().unwrap().to_owned()
    }

    /// Messages of ann's.
    async fn inbox(&self, query: &str) -> Vec<Value> {
        let reply = self.bus("GET", &format!("/agents/ann/inbox?{query}"), &Value::Null).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["deliveries"].as_array().unwrap().clone()
    }

    /// The only message of ann's that comes.
    async fn next_of_ann(&self) -> Value {
        let mut found = self.inbox("wait_seconds=20").await;
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    /// Ends deliveries of ann's; what became of each.
    async fn end_of_ann(&self, items: &[Value]) -> Vec<String> {
        let reply = self.bus("POST", "/agents/ann/inbox/settle", &json!({ "items": items })).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        let results = json["results"].as_array().unwrap();
        results.iter().map(|result| result["status"].as_str().unwrap().to_owned()).collect()
    }

    /// What became of a message for one recipient.
    async fn part(&self, id: &str, agent: &str) -> Value {
        let reply = self.bus("GET", &format!("/receipts/{id}"), &Value::Null).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let json = reply.json();
        let recipients = json["recipients"].as_array().unwrap();
        let part = recipients.iter().find(|part| part["agent_id"] == agent);
        part.unwrap_or_else(|| panic!("no {agent} in {json}")).clone()
    }

    /// The same once it is so.
    async fn until_part_is(&self, id: &str, agent: &str, state: &str) -> Value {
        let so = async {
            let mut look = tokio::time::interval(Duration::from_millis(5));
            loop {
                look.tick().await;
                let part = self.part(id, agent).await;
                if part["state"] == state {
                    return part;
                }
            }
        };
        tokio::time::timeout(PATIENCE, so).await.unwrap_or_else(|_| panic!("never {state}"))
    }

    /// A connection of an agent of o.
    async fn link(&self, agent: &str) -> AgentLink {
        self.link_as(AgentHello::new(agent)).await
    }

    async fn link_as(&self, hello: AgentHello) -> AgentLink {
        self.broker.connect_agent("o", hello).await.unwrap()
    }
}

fn ack(delivery: &Value) -> Value {
    json!({ "receipt": delivery["receipt"], "outcome": "ack" })
}

/// The contents of deliveries.
fn contents(deliveries: &[Value]) -> Vec<Value> {
    deliveries.iter().map(|delivery| delivery["content"].clone()).collect()
}

/// The next event of a connection that `pick` wants; others are passed over.
async fn next_of<T>(link: &mut AgentLink, mut pick: impl FnMut(BusEvent) -> Option<T>) -> T {
    let found = async {
        loop {
            match link.next().await {
                BusEvent::Closed(why) => panic!("closed: {why:?}"),
                event => {
                    if let Some(found) = pick(event) {
                        return found;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("an event")
}

async fn message(link: &mut AgentLink) -> Arc<BusDelivery> {
    next_of(link, |event| match event {
        BusEvent::Message(delivery) => Some(delivery),
        _ => None,
    })
    .await
}

async fn live(link: &mut AgentLink) -> Value {
    next_of(link, |event| match event {
        BusEvent::Live(message) => Some(serde_json::from_slice(&message.content).unwrap()),
        _ => None,
    })
    .await
}

async fn ack_of(link: &AgentLink, delivery: &BusDelivery) {
    let batch = vec![(delivery.message.id.clone(), BusOutcome::Ack)];
    assert_eq!(link.handle().settle(batch).await.unwrap(), [BusSettled::Done]);
}
