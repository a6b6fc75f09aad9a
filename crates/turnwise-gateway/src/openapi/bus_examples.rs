//! Examples of what is said about the agents' bus.

use super::queue_examples::RECEIPT;
use super::schemas::{NOON, SECOND, examples, value};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use turnwise_api::{
    BusAgentAnswer, BusAgentList, BusDeliveryAnswer, BusInbox, BusMessageKind, BusMessageState,
    BusReceiptAnswer, BusRecipientAnswer, BusReplyAnswer, BusSentAnswer, BusSettledAnswer, BusSettledAnswers,
    BusSettledState, Rfc3339,
};

pub(super) const BUS_MESSAGE: &str = "msg_5d3f9a0c71e84b26af10c2d4e6b8091a";
const REPLY: &str = "msg_0b8e6d1f4a2c49375e60d9c8b7a61524";

pub(super) fn direct_examples() -> Value {
    let wait = json!({
        "from_agent": "planner", "content": { "task": "sum up" }, "priority": 7, "ttl_seconds": 3600,
        "wait_seconds": 20,
    });
    let answer = json!({ "from_agent": "writer", "content": { "text": "In short: yes." }, "in_reply_to": BUS_MESSAGE });
    let one = json!({
        "from_agent": "planner", "content": "stop", "message_type": "command", "delivery_mode": "both",
        "dedup_key": "stop-17", "correlation_id": "run-4", "metadata": { "tenant": 3 }, "max_attempts": 3,
    });
    examples(&[("request", wait), ("answer", answer), ("command", one)])
}

pub(super) fn broadcast_examples() -> Value {
    let one = json!({
        "from_agent": "planner", "content": { "phase": 2 }, "delivery_mode": "both", "exclude_agents": ["writer"],
        "exclude_sender": true,
    });
    examples(&[("both", one)])
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("the examples are JSON")
}

fn sent(state: Option<BusMessageState>) -> BusSentAnswer<'static> {
    let is_queued = state == Some(BusMessageState::Queued);
    BusSentAnswer {
        message_id: BUS_MESSAGE,
        duplicate: false,
        recipients: if state.is_some() { 1 } else { 3 },
        queued: 1,
        bounced: 0,
        state,
        offline_since: is_queued.then_some(Rfc3339(NOON)),
        reply: None,
    }
}

fn reply(content: &RawValue) -> BusReplyAnswer<'_> {
    BusReplyAnswer {
        message_id: REPLY,
        from_agent: "writer",
        content: Some(content),
        metadata: None,
        at: Rfc3339(NOON + SECOND),
    }
}

pub(super) fn sent_examples() -> Value {
    examples(&[
        ("online", value(&sent(Some(BusMessageState::Pending)))),
        ("offline", value(&sent(Some(BusMessageState::Queued)))),
    ])
}

pub(super) fn broadcast_sent_examples() -> Value {
    examples(&[("three", value(&sent(None)))])
}

pub(super) fn replied_examples() -> Value {
    let content = raw(r#"{"text":"In short: yes."}"#);
    let answered = BusSentAnswer { reply: Some(reply(&content)), ..sent(Some(BusMessageState::Pending)) };
    examples(&[("answer", value(&answered))])
}

pub(super) fn inbox_examples() -> Value {
    let content = raw(r#"{"task":"sum up"}"#);
    let delivery = BusDeliveryAnswer {
        message_id: BUS_MESSAGE,
        receipt: RECEIPT.to_owned(),
        attempt: 1,
        from_agent: "planner",
        to_agent: Some("writer"),
        workspace_id: None,
        topic: None,
        message_type: BusMessageKind::Request,
        priority: 7,
        content: Some(&content),
        correlation_id: None,
        in_reply_to: None,
        metadata: None,
        sent_at: Rfc3339(NOON),
        expires_at: Some(Rfc3339(NOON + 3_600 * SECOND)),
        lease_expires_at: Rfc3339(NOON + 30 * SECOND),
    };
    let none = BusInbox { deliveries: Vec::new() };
    examples(&[("one", value(&BusInbox { deliveries: vec![delivery] })), ("none", value(&none))])
}

pub(super) fn settle_examples() -> Value {
    let retry = json!({ "receipt": RECEIPT, "outcome": "retry", "delay_seconds": 5, "reason": "busy" });
    let batch = json!({ "items": [{ "receipt": RECEIPT, "outcome": "ack" }] });
    examples(&[("retry", retry), ("batch", batch)])
}

pub(super) fn settled_examples() -> Value {
    let one = |status| BusSettledAnswer { status, error: None };
    let batch =
        BusSettledAnswers { results: vec![one(BusSettledState::Done), one(BusSettledState::LeaseLost)] };
    examples(&[("one", value(&one(BusSettledState::Done))), ("batch", value(&batch))])
}

fn agent() -> BusAgentAnswer {
    BusAgentAnswer {
        agent_id: "writer".to_owned(),
        online: true,
        since: Some(Rfc3339(NOON)),
        connections: 2,
        workspaces: vec!["newsroom".to_owned()],
        topics: vec!["drafts.*".to_owned()],
    }
}

pub(super) fn agent_examples() -> Value {
    examples(&[("online", value(&agent()))])
}

pub(super) fn agents_examples() -> Value {
    examples(&[("one", value(&BusAgentList { items: vec![agent()], next: None }))])
}

pub(super) fn receipt_examples() -> Value {
    let acked = BusRecipientAnswer {
        agent_id: "writer",
        state: BusMessageState::Acked,
        at: Rfc3339(NOON + 2 * SECOND),
        offline_since: None,
        delivered_at: Some(Rfc3339(NOON + SECOND)),
        ended_at: Some(Rfc3339(NOON + 2 * SECOND)),
        reason: None,
    };
    let receipt = BusReceiptAnswer {
        message_id: BUS_MESSAGE,
        from_agent: "planner",
        workspace_id: None,
        topic: None,
        sent_at: Rfc3339(NOON),
        expires_at: Some(Rfc3339(NOON + 3_600 * SECOND)),
        recipients: vec![acked],
        next: None,
        reply: None,
    };
    examples(&[("acked", value(&receipt))])
}
