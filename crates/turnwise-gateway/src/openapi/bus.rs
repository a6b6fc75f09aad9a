//! What is said about the agents' bus.

use super::answers::Success;
use super::bus_examples::{
    BUS_MESSAGE, agent_examples, agents_examples, broadcast_examples, broadcast_sent_examples,
    direct_examples, inbox_examples, receipt_examples, replied_examples, sent_examples, settle_examples,
    settled_examples,
};
use super::operations::{Body, Operation};
use super::schemas::{add, reference};
use crate::limits::{BUS_RECIPIENTS_TOLD_MAX, CLAIM_MESSAGES_MAX, CLAIM_WAIT_MAX, ID_BYTES_MAX};
use serde_json::{Map, Value, json};
use turnwise_api::{
    BusAgentAnswer, BusAgentList, BusBroadcastForm, BusDeliveryAnswer, BusDeliveryMode, BusInbox,
    BusMessageForm, BusMessageKind, BusMessageState, BusReceiptAnswer, BusRecipientAnswer, BusReplyAnswer,
    BusSentAnswer, BusSettleOutcome, BusSettledAnswer, BusSettledAnswers, BusSettledState, BusSettlementForm,
    BusSettlementsForm, Code,
};
use turnwise_core::limits::LEASE_MAX;

const TAG: &str = "bus";
const JSON: &str = "application/json";

pub(super) fn tag() -> Value {
    json!({ "name": TAG, "description":
        "Agents of an organisation (`org_id`, or the only one of the key) send to each other, to a workspace or to a \
         topic's subscribers. What must arrive waits in the inbox of each recipient until it is acknowledged; what is \
         only for those that are there is told live. Who sends can ask what became of it. A key with an `agents` list \
         is for those agents alone. Fields that are not known are refused." })
}

const LOOKING: &[Code] =
    &[Code::OrgForbidden, Code::NotFound, Code::InvalidContent, Code::OutcomeUnknown, Code::StoreUnavailable];
const TAKING: &[Code] = &[
    Code::OrgForbidden,
    Code::AgentForbidden,
    Code::InvalidContent,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Draining,
    Code::Overloaded,
];
const SENDING: &[Code] = &[
    Code::OrgForbidden,
    Code::AgentForbidden,
    Code::NotJson,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidContent,
    Code::IdempotencyConflict,
    Code::QueueDepthExceeded,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Draining,
    Code::Overloaded,
];
const ASKING: &[Code] = &[
    Code::OrgForbidden,
    Code::AgentForbidden,
    Code::NotJson,
    Code::RequestTimeout,
    Code::RequestUnanswered,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidContent,
    Code::IdempotencyConflict,
    Code::QueueDepthExceeded,
    Code::InboxFull,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Draining,
    Code::Overloaded,
    Code::ReplyTimeout,
];
const SETTLING: &[Code] = &[
    Code::OrgForbidden,
    Code::AgentForbidden,
    Code::NotJson,
    Code::RequestTimeout,
    Code::LeaseLost,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidContent,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Overloaded,
];

const fn ok(schema: &'static str, description: &'static str, examples: fn() -> Value) -> Success {
    Success { status: 200, description, media: JSON, schema, headers: &[], examples, links: &[] }
}

const fn get(
    id: &'static str,
    path: &'static str,
    (summary, description): (&'static str, &'static str),
    parameters: &'static [&'static str],
    successes: &'static [Success],
    codes: &'static [Code],
) -> Operation {
    Operation {
        id,
        method: "get",
        path,
        tag: TAG,
        summary,
        description,
        parameters,
        body: None,
        successes,
        codes,
    }
}

const fn post(
    id: &'static str,
    path: &'static str,
    (summary, description): (&'static str, &'static str),
    (parameters, body): (&'static [&'static str], Body),
    successes: &'static [Success],
    codes: &'static [Code],
) -> Operation {
    Operation {
        id,
        method: "post",
        path,
        tag: TAG,
        summary,
        description,
        parameters,
        body: Some(body),
        successes,
        codes,
    }
}

const BROADCAST: Body = Body { schema: "BusBroadcast", examples: broadcast_examples };
const TO_MANY: &[Success] = &[Success {
    status: 202,
    ..ok(
        "BusSentAnswer",
        "It is where it is to be, with the number of recipients it really has.",
        broadcast_sent_examples,
    )
}];

pub(super) const OPERATIONS: &[Operation] = &[
    get(
        "listAgents",
        "/api/v1/bus/agents",
        (
            "List agents",
            "Those that were connected within a month or have an inbox, by name, with their presence.",
        ),
        &["QueueOrgId", "BusWorkspaceFilter", "BusAgentsAfter", "QueueLimit"],
        &[ok("BusAgentList", "One page.", agents_examples)],
        LOOKING,
    ),
    get(
        "showAgent",
        "/api/v1/bus/agents/{agent_id}",
        ("Whether an agent is there", "Over all nodes. 404 for one that was never heard of."),
        &["BusAgentId", "QueueOrgId"],
        &[ok("BusAgentAnswer", "The agent as it is now.", agent_examples)],
        LOOKING,
    ),
    post(
        "sendToAgent",
        "/api/v1/bus/agents/{agent_id}/messages",
        (
            "Send to one agent",
            "An agent that is online gets it at once; for another one it waits in its inbox, by `priority` and then \
             by age. With `wait_seconds` the answer of this request is the other agent's: a message with \
             `in_reply_to`. `Idempotency-Key` is the same as `dedup_key`.",
        ),
        (
            &["BusAgentId", "QueueOrgId", "IdempotencyKey"],
            Body { schema: "BusMessage", examples: direct_examples },
        ),
        &[
            ok("BusSentAnswer", "With `wait_seconds`: the answer to the request.", replied_examples),
            Success { status: 202, ..ok("BusSentAnswer", "It is where it is to be.", sent_examples) },
        ],
        ASKING,
    ),
    get(
        "takeFromInbox",
        "/api/v1/bus/agents/{agent_id}/inbox",
        (
            "Take messages out of an inbox",
            "Under a lease, by priority and then by age. With `wait_seconds` it waits for the first and answers as \
             soon as one is there. What is not settled before its lease is over comes again with `attempt` + 1.",
        ),
        &["BusAgentId", "QueueOrgId", "BusInboxLimit", "BusLease", "BusWait"],
        &[ok("BusInbox", "The messages; none if none came in time.", inbox_examples)],
        TAKING,
    ),
    post(
        "settleFromInbox",
        "/api/v1/bus/agents/{agent_id}/inbox/settle",
        (
            "End deliveries",
            "The sender is told in the same step. A lease that was over is `lease_lost` in a batch, and 409 for an \
             only item.",
        ),
        (&["BusAgentId", "QueueOrgId"], Body { schema: "BusSettle", examples: settle_examples }),
        &[ok("BusSettledEither", "What became of each.", settled_examples)],
        SETTLING,
    ),
    post(
        "broadcastToWorkspace",
        "/api/v1/bus/workspaces/{workspace_id}/broadcast",
        (
            "Send to the agents of a workspace",
            "Its members: the agents that are connected with its id, or were within a month. `recipients` counts \
             those that really get it.",
        ),
        (&["BusWorkspaceId", "QueueOrgId", "IdempotencyKey"], BROADCAST),
        TO_MANY,
        SENDING,
    ),
    post(
        "sendToTopic",
        "/api/v1/bus/topics/{topic}/messages",
        (
            "Send to the agents that subscribe to a topic",
            "Online are those with a connection that subscribes; another one gets it into its inbox while it has \
             not unsubscribed. It is no event of the topic: those are published.",
        ),
        (&["Topic", "QueueOrgId", "IdempotencyKey"], BROADCAST),
        TO_MANY,
        SENDING,
    ),
    get(
        "showReceipt",
        "/api/v1/bus/receipts/{bus_message_id}",
        (
            "What became of a message",
            "For each recipient. Kept for a day after it could last be delivered, and only for who may be its sender \
             or one of its recipients.",
        ),
        &["BusMessageId", "QueueOrgId", "BusAgentsAfter", "BusRecipientLimit"],
        &[ok("BusReceiptAnswer", "As it is now.", receipt_examples)],
        LOOKING,
    ),
];

/// The parameters of these operations.
pub(super) fn parameters(all: &mut Map<String, Value>) {
    let id = json!({
        "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$",
    });
    let message = json!({ "type": "string", "pattern": "^msg_[0-9a-f]{32}$" });
    let number = |least: Value, most: Value| json!({ "type": "number", "minimum": least, "maximum": most });
    let whole = |most: u32| json!({ "type": "integer", "minimum": 1, "maximum": most });
    let path = |name: &str, about: &str, schema: &Value, example: &str| {
        json!({
            "in": "path", "name": name, "required": true, "description": about, "schema": schema, "example": example,
        })
    };
    let query = |name: &str, about: &str, schema: &Value, example: Value| {
        json!({
            "in": "query", "name": name, "required": false, "description": about, "schema": schema, "example": example,
        })
    };
    let lease = number(json!(0.001), json!(LEASE_MAX.as_secs()));
    let wait = number(json!(0), json!(CLAIM_WAIT_MAX.as_secs()));
    let more = [
        ("BusAgentId", path("agent_id", "The agent.", &id, "writer")),
        ("BusWorkspaceId", path("workspace_id", "The workspace.", &id, "newsroom")),
        ("BusMessageId", path("bus_message_id", "The message.", &message, BUS_MESSAGE)),
        ("BusWorkspaceFilter", query("workspace_id", "Only its members.", &id, json!("newsroom"))),
        ("BusAgentsAfter", query("after", "`next` of the page before.", &id, json!("writer"))),
        (
            "BusInboxLimit",
            query("limit", "At most this many; 1 if it is left out.", &whole(CLAIM_MESSAGES_MAX), json!(10)),
        ),
        (
            "BusRecipientLimit",
            query("limit", "Recipients in a page.", &whole(BUS_RECIPIENTS_TOLD_MAX), json!(100)),
        ),
        (
            "BusLease",
            query("lease_seconds", "Nobody else's for this long; 30 if it is left out.", &lease, json!(60)),
        ),
        (
            "BusWait",
            query("wait_seconds", "How long to wait for the first; 0 if it is left out.", &wait, json!(20)),
        ),
    ];
    all.extend(more.map(|(name, parameter)| (name.to_owned(), parameter)));
}

/// Their shapes.
pub(super) fn schemas(all: &mut Map<String, Value>) {
    add::<BusAgentAnswer>(all);
    add::<BusAgentList>(all);
    add::<BusBroadcastForm>(all);
    add::<BusDeliveryAnswer<'_>>(all);
    add::<BusDeliveryMode>(all);
    add::<BusInbox<'_>>(all);
    add::<BusMessageForm>(all);
    add::<BusMessageKind>(all);
    add::<BusMessageState>(all);
    add::<BusReceiptAnswer<'_>>(all);
    add::<BusRecipientAnswer<'_>>(all);
    add::<BusReplyAnswer<'_>>(all);
    add::<BusSentAnswer<'_>>(all);
    add::<BusSettleOutcome>(all);
    add::<BusSettledAnswer>(all);
    add::<BusSettledAnswers>(all);
    add::<BusSettledState>(all);
    add::<BusSettlementForm>(all);
    add::<BusSettlementsForm>(all);
    for form in ["BusBroadcast", "BusMessage", "BusSettlement", "BusSettlements"] {
        if let Some(form) = all.get_mut(form).and_then(Value::as_object_mut) {
            form.insert("additionalProperties".to_owned(), false.into());
        }
    }
    for (name, one, batch) in [
        ("BusSettle", "BusSettlement", "BusSettlements"),
        ("BusSettledEither", "BusSettledAnswer", "BusSettledAnswers"),
    ] {
        let either = json!({
            "description": "One, or a batch; the answer has the form of the request.",
            "oneOf": [reference(one), reference(batch)],
        });
        all.insert(name.to_owned(), either);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test may stop where it fails")]
    use super::*;
    use crate::limits;
    use turnwise_core::limits::{PRIORITY_MAX, RETRY_DELAY_MAX};

    #[test]
    fn the_numbers_of_the_document_are_the_limits() {
        let mut all = Map::new();
        schemas(&mut all);
        let is = |schema: &str, field: &str, rule: &str, limit: u64| {
            let number = all[schema]["properties"][field][rule].as_f64();
            assert_eq!(number, Some(limit as f64), "{schema} {field} {rule}: {}", all[schema]);
        };
        for form in ["BusMessage", "BusBroadcast"] {
            is(form, "priority", "maximum", PRIORITY_MAX.into());
            is(form, "ttl_seconds", "maximum", limits::BUS_TTL_MAX.as_secs());
            is(form, "max_attempts", "maximum", limits::BUS_ATTEMPTS_MAX);
            is(form, "dedup_key", "maxLength", ID_BYTES_MAX as u64);
            is(form, "from_agent", "maxLength", ID_BYTES_MAX as u64);
        }
        is("BusMessage", "wait_seconds", "maximum", limits::BUS_REPLY_WAIT_MAX.as_secs());
        is("BusBroadcast", "exclude_agents", "maxItems", limits::BUS_EXCLUDED_MAX as u64);
        is("BusSettlement", "delay_seconds", "maximum", RETRY_DELAY_MAX.as_secs());
        is("BusSettlement", "reason", "maxLength", limits::REASON_BYTES_MAX as u64);
        is("BusSettlements", "items", "maxItems", limits::QUEUE_BATCH_MAX as u64);
    }
}
