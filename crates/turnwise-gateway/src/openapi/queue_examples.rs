//! Examples of what is said about work queues.

use super::schemas::{NOON, SECOND, examples, value};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use turnwise_api::{
    LeaseAnswer, LeaseAnswers, LeaseState, QueueDeliveries, QueueDelivery, QueueDepth, QueueError, QueueList,
    QueueMessageAnswer, QueueMessageInfo, QueueMessageList, QueuePolicy, QueueRates, QueueRedriven,
    QueueRemoved, QueueSent, QueueSentBatch, QueueStage, QueueState, QueueTotals, Rfc3339,
};

pub(super) const MESSAGE: &str = "00000000-0000-8004-b7a8-9a72b3e316c8";
pub(super) const RECEIPT: &str = "00000000000000040b7a89a72b3e316c000645e0f1c3a4000000000165a3c1f0";

pub(super) fn send_examples() -> Value {
    let one = json!({
        "payload": { "to": "alice@example.org" }, "ordering_key": "alice", "priority": 7, "delay_seconds": 1.5,
        "ttl_seconds": 3600, "max_attempts": 5, "dedup_key": "mail-17", "headers": { "kind": "welcome" },
    });
    let batch = json!({ "items": [{ "payload": 1 }, { "payload": "two", "deliver_at": Rfc3339(NOON) }] });
    examples(&[("one", one), ("batch", batch)])
}

fn sent(duplicate: bool) -> QueueSent {
    let position = (!duplicate).then_some(1);
    QueueSent { message_id: Some(MESSAGE.to_owned()), duplicate, position, error: None }
}

pub(super) fn sent_examples() -> Value {
    let batch = QueueSentBatch { results: vec![sent(false), sent(true)] };
    examples(&[("one", value(&sent(false))), ("batch", value(&batch))])
}

pub(super) fn repeated_examples() -> Value {
    examples(&[("repeated", value(&sent(true)))])
}

pub(super) fn claim_examples() -> Value {
    examples(&[("wait", json!({ "limit": 10, "lease_seconds": 60, "wait_seconds": 20 })), ("one", json!({}))])
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("the examples are JSON")
}

pub(super) fn deliveries_examples() -> Value {
    let payload = raw(r#"{"to":"alice@example.org"}"#);
    let delivery = QueueDelivery {
        message_id: MESSAGE.to_owned(),
        receipt: RECEIPT.to_owned(),
        attempt: 1,
        ordering_key: Some("alice"),
        priority: 7,
        headers: BTreeMap::from([("kind", "welcome")]),
        payload: Some(&payload),
        enqueued_at: Rfc3339(NOON),
        lease_expires_at: Rfc3339(NOON + 60 * SECOND),
    };
    let none = QueueDeliveries { deliveries: Vec::new() };
    examples(&[("one", value(&QueueDeliveries { deliveries: vec![delivery] })), ("none", value(&none))])
}

pub(super) fn settle_examples() -> Value {
    let retry = json!({ "receipt": RECEIPT, "outcome": "retry", "reason": "the mail server is away" });
    let batch = json!({ "items": [{ "receipt": RECEIPT, "outcome": "ack" }] });
    examples(&[("retry", retry), ("batch", batch)])
}

fn lease(status: LeaseState) -> LeaseAnswer {
    let until = (status == LeaseState::Extended).then_some(Rfc3339(NOON + 60 * SECOND));
    LeaseAnswer { message_id: MESSAGE.to_owned(), status, lease_expires_at: until, error: None }
}

pub(super) fn settled_examples() -> Value {
    let batch = LeaseAnswers { results: vec![lease(LeaseState::Done), lease(LeaseState::LeaseLost)] };
    examples(&[("one", value(&lease(LeaseState::Done))), ("batch", value(&batch))])
}

pub(super) fn extend_examples() -> Value {
    let batch = json!({ "items": [{ "receipt": RECEIPT }], "lease_seconds": 60 });
    examples(&[("one", json!({ "receipt": RECEIPT })), ("batch", batch)])
}

pub(super) fn extended_examples() -> Value {
    examples(&[("one", value(&lease(LeaseState::Extended)))])
}

pub(super) fn redrive_examples() -> Value {
    let filter = json!({ "filter": { "reason_contains": "mail server" }, "dry_run": true });
    examples(&[("some", json!({ "ids": [MESSAGE] })), ("all", json!({ "all": true })), ("filter", filter)])
}

pub(super) fn redriven_examples() -> Value {
    examples(&[("done", value(&QueueRedriven { redriven: 1, more: false, dry_run: false }))])
}

pub(super) fn purge_examples() -> Value {
    examples(&[("dead", json!({ "stage": "dead" }))])
}

pub(super) fn removed_examples() -> Value {
    examples(&[("done", value(&QueueRemoved { removed: 1, more: false, dry_run: false }))])
}

pub(super) fn policy_examples() -> Value {
    examples(&[("slow", json!({ "retry_base_seconds": 5, "retry_factor": 3, "max_attempts": 8 }))])
}

fn state() -> QueueState {
    QueueState {
        queue: "jobs".to_owned(),
        org_id: "acme".to_owned(),
        paused: false,
        paused_since: None,
        depth: QueueDepth { ready: 12, scheduled: 3, leased: 4, dead: 1 },
        oldest_waiting_seconds: Some(0.25),
        rates: Some(QueueRates { enqueued_per_second: 20.0, acked_per_second: 19.5 }),
        totals: QueueTotals { enqueued: 1_020, acked: 1_000, removed: 0, expired: 0 },
        policy: QueuePolicy {
            retry_base_seconds: 1.0,
            retry_factor: 2.0,
            retry_cap_seconds: 600.0,
            retry_jitter: 0.2,
            max_attempts: 12,
            ttl_seconds: None,
            concurrency: Some(10),
            rate_per_second: None,
            messages_max: None,
            dead_seconds: 1_209_600.0,
        },
    }
}

pub(super) fn state_examples() -> Value {
    examples(&[("busy", value(&state()))])
}

pub(super) fn list_examples() -> Value {
    examples(&[("one", value(&QueueList { items: vec![state()], next: None }))])
}

fn info() -> QueueMessageInfo<'static> {
    QueueMessageInfo {
        message_id: MESSAGE.to_owned(),
        stage: QueueStage::Dead,
        ordering_key: Some("alice"),
        priority: 7,
        attempts: 5,
        max_attempts: 5,
        enqueued_at: Rfc3339(NOON),
        not_before: None,
        lease_expires_at: None,
        expires_at: None,
        reason: Some("attempts used up (5): the mail server is away"),
        headers: BTreeMap::from([("kind", "welcome")]),
        payload_bytes: 26,
    }
}

pub(super) fn message_list_examples() -> Value {
    examples(&[("dead", value(&QueueMessageList { items: vec![info()], next: None }))])
}

pub(super) fn message_examples() -> Value {
    let payload = raw(r#"{"to":"alice@example.org"}"#);
    let error = |attempt: i64| QueueError {
        at: Rfc3339(NOON + attempt * SECOND),
        attempt: u32::try_from(attempt).unwrap_or(0),
        reason: "the mail server is away".to_owned(),
    };
    let dead = QueueMessageAnswer {
        info: info(),
        first_error: Some(error(1)),
        last_error: Some(error(5)),
        payload: Some(&payload),
    };
    examples(&[("dead", value(&dead))])
}
