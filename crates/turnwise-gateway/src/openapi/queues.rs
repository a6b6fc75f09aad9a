//! What is said about work queues.

use super::answers::Success;
use super::operations::{Body, Operation};
use super::queue_examples::{
    MESSAGE, claim_examples, deliveries_examples, extend_examples, extended_examples, list_examples,
    message_examples, message_list_examples, policy_examples, purge_examples, redrive_examples,
    redriven_examples, removed_examples, repeated_examples, send_examples, sent_examples, settle_examples,
    settled_examples, state_examples,
};
use super::schemas::{add, reference};
use crate::limits::{ID_BYTES_MAX, QUEUE_PAGE_MAX};
use serde_json::{Map, Value, json};
use turnwise_api::{
    Code, LeaseAnswer, LeaseAnswers, LeaseState, QueueClaimForm, QueueDeliveries, QueueDelivery, QueueDepth,
    QueueError, QueueExtensionForm, QueueExtensionsForm, QueueFilterForm, QueueList, QueueMessageAnswer,
    QueueMessageForm, QueueMessageInfo, QueueMessageList, QueueMessagesForm, QueueOutcome, QueuePolicy,
    QueuePurgeForm, QueueRates, QueueReceipt, QueueRedriveForm, QueueRedriven, QueueRemoved, QueueSent,
    QueueSentBatch, QueueSettlementForm, QueueSettlementsForm, QueueStage, QueueState, QueueTotals,
};

const TAG: &str = "queues";
const JSON: &str = "application/json";

pub(super) fn tag() -> Value {
    json!({ "name": TAG, "description":
        "Work that services do together: messages with priority, order per key, delay and expiry, handed out under \
         a lease, retried, kept as dead letters. A queue belongs to an organisation (`org_id`, or the only one of \
         the key) and needs no creation. Fields that are not known are refused." })
}

/// What every route about a queue may answer.
const LOOKING: &[Code] =
    &[Code::OrgForbidden, Code::NotFound, Code::InvalidContent, Code::OutcomeUnknown, Code::StoreUnavailable];
/// The same where a body is read.
const READING: &[Code] = &[
    Code::OrgForbidden,
    Code::NotJson,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidContent,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Overloaded,
];
const SENDING: &[Code] = &[
    Code::OrgForbidden,
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
const CLAIMING: &[Code] = &[
    Code::OrgForbidden,
    Code::NotJson,
    Code::RequestTimeout,
    Code::BodyTooLarge,
    Code::UnsupportedMediaType,
    Code::InvalidContent,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Draining,
    Code::Overloaded,
];
const SETTLING: &[Code] = &[
    Code::OrgForbidden,
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
const REMOVING: &[Code] = &[
    Code::OrgForbidden,
    Code::NotFound,
    Code::MessageLeased,
    Code::InvalidContent,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
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
        codes: LOOKING,
    }
}

const fn post(
    id: &'static str,
    path: &'static str,
    (summary, description): (&'static str, &'static str),
    body: Option<Body>,
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
        parameters: &["QueueName", "QueueOrgId"],
        body,
        successes,
        codes,
    }
}

pub(super) const OPERATIONS: &[Operation] = &[
    get(
        "listQueues",
        "/api/v1/queues",
        ("List queues", "Those of an organisation that hold messages, or have something set; by name."),
        &["QueueOrgId", "QueuesAfter", "QueueLimit"],
        &[ok("QueueList", "One page.", list_examples)],
    ),
    get(
        "showWorkQueue",
        "/api/v1/queues/{queue}",
        ("Look at a queue", "One that nobody has used is empty."),
        &["QueueName", "QueueOrgId"],
        &[ok("QueueState", "The queue as it is now.", state_examples)],
    ),
    Operation {
        parameters: &["QueueName", "QueueOrgId", "IdempotencyKey", "Traceparent"],
        ..post(
            "sendToQueue",
            "/api/v1/queues/{queue}/messages",
            (
                "Store messages",
                "One message, or a batch in its order. Stored means on disk. A batch in which one message breaks a \
                 rule is refused as a whole. `Idempotency-Key` makes a repeat harmless: for one message it is its \
                 `dedup_key`, in a batch it holds for each message at its place. A `traceparent` travels with the \
                 message as a header of that name.",
            ),
            Some(Body { schema: "QueueSend", examples: send_examples }),
            &[
                Success {
                    status: 201,
                    ..ok("QueueSendAnswer", "At least one message is stored now.", sent_examples)
                },
                ok(
                    "QueueSendAnswer",
                    "None is new: they were stored before, or could not be.",
                    repeated_examples,
                ),
            ],
            SENDING,
        )
    },
    get(
        "listQueueMessages",
        "/api/v1/queues/{queue}/messages",
        ("List messages", "Those in one stage by age, without their payloads."),
        &["QueueName", "QueueOrgId", "QueueStageOf", "MessagesAfter", "QueueLimit"],
        &[ok("QueueMessageList", "One page.", message_list_examples)],
    ),
    get(
        "showQueueMessage",
        "/api/v1/queues/{queue}/messages/{id}",
        (
            "Look at a message",
            "With its payload, and what workers said first and last when they could not do their work.",
        ),
        &["QueueName", "QueueMessageId", "QueueOrgId"],
        &[ok("QueueMessageAnswer", "The message as it is now.", message_examples)],
    ),
    Operation {
        method: "delete",
        codes: REMOVING,
        ..get(
            "removeQueueMessage",
            "/api/v1/queues/{queue}/messages/{id}",
            ("Remove a message", "One that is in somebody's hands is refused with 409."),
            &["QueueName", "QueueMessageId", "QueueOrgId"],
            &[ok("QueueRemoved", "It is gone.", removed_examples)],
        )
    },
    post(
        CLAIM,
        "/api/v1/queues/{queue}/claim",
        (
            "Take messages",
            "Hands out the first messages under a lease: by priority, then by age; of one ordering key the oldest \
             alone, until it is done. With `wait_seconds` it waits for the first and answers as soon as one is \
             there. A message whose lease runs out is handed out again with `attempt` + 1. Nothing is handed out \
             while the queue is paused. The body may be left out.",
        ),
        Some(Body { schema: "QueueClaim", examples: claim_examples }),
        &[ok("QueueDeliveries", "The messages; none if none came in time.", deliveries_examples)],
        CLAIMING,
    ),
    post(
        "settleFromQueue",
        "/api/v1/queues/{queue}/settle",
        (
            "End leases",
            "Each item is done by itself: a lease that was over is `lease_lost` in a batch, and 409 for an only \
             item. After `outcome_unknown` the same request may be sent again.",
        ),
        Some(Body { schema: "QueueSettle", examples: settle_examples }),
        &[ok("QueueLeases", "What became of each.", settled_examples)],
        SETTLING,
    ),
    post(
        "extendFromQueue",
        "/api/v1/queues/{queue}/extend",
        ("Let leases go on", "For `lease_seconds` from now. A lease that was over is told as with settle."),
        Some(Body { schema: "QueueExtend", examples: extend_examples }),
        &[ok("QueueLeases", "What became of each.", extended_examples)],
        SETTLING,
    ),
    post(
        "redriveQueue",
        "/api/v1/queues/{queue}/redrive",
        (
            "Put dead letters back",
            "To the tail of their key, with no attempts counted: those with these `ids`, `all`, or those that pass \
             a `filter`. With `dry_run` they are only counted.",
        ),
        Some(Body { schema: "QueueRedrive", examples: redrive_examples }),
        &[ok("QueueRedriven", "How many there were.", redriven_examples)],
        READING,
    ),
    post(
        "purgeQueue",
        "/api/v1/queues/{queue}/purge",
        (
            "Remove all messages of a stage",
            "What is in somebody's hands stays. With `dry_run` they are only counted.",
        ),
        Some(Body { schema: "QueuePurge", examples: purge_examples }),
        &[ok("QueueRemoved", "How many there were.", removed_examples)],
        READING,
    ),
    post(
        "pauseQueue",
        "/api/v1/queues/{queue}/pause",
        (
            "Hand nothing out",
            "Messages are stored all the same, and what is in somebody's hands can be settled. On other nodes it \
             holds within a second.",
        ),
        None,
        &[ok("QueueState", "The queue as it is now.", state_examples)],
        LOOKING,
    ),
    post(
        "resumeQueue",
        "/api/v1/queues/{queue}/resume",
        ("Hand out again", "Whoever waits gets messages at once."),
        None,
        &[ok("QueueState", "The queue as it is now.", state_examples)],
        LOOKING,
    ),
    Operation {
        method: "put",
        ..post(
            "setQueuePolicy",
            "/api/v1/queues/{queue}/policy",
            (
                "Set how messages are retried and kept",
                "The whole of it: what is left out is as usual. Messages that are stored keep the attempts and the \
                 time they were given; waits are those of the policy in force when the retry is asked for.",
            ),
            Some(Body { schema: "QueuePolicyRequest", examples: policy_examples }),
            &[ok("QueueState", "The queue as it is now.", state_examples)],
            READING,
        )
    },
];

/// The parameters of these operations.
pub(super) fn parameters(all: &mut Map<String, Value>) {
    let id = json!({ "type": "string", "format": "uuid" });
    let name = json!({ "type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,128}$" });
    let org = json!({ "type": "string", "maxLength": ID_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": QUEUE_PAGE_MAX });
    let stage = json!({ "enum": ["ready", "scheduled", "leased", "dead"] });
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
    let behind = "`next` of the page before. Another text is refused.";
    let whose = "The organisation. May be left out with a key for only one.";
    let more = [
        ("QueueName", path("queue", "The queue.", &name, "jobs")),
        ("QueueMessageId", path("id", "The message's id.", &id, MESSAGE)),
        ("QueueOrgId", query("org_id", whose, &org, json!("acme"))),
        ("QueuesAfter", query("after", behind, &name, json!("jobs"))),
        ("MessagesAfter", query("after", behind, &id, json!(MESSAGE))),
        ("QueueStageOf", query("stage", "Which; `ready` if it is left out.", &stage, json!("dead"))),
        ("QueueLimit", query("limit", "Items in a page.", &limit, json!(50))),
    ];
    all.extend(more.map(|(name, parameter)| (name.to_owned(), parameter)));
}

/// Their shapes.
pub(super) fn schemas(all: &mut Map<String, Value>) {
    add::<LeaseAnswer>(all);
    add::<LeaseAnswers>(all);
    add::<LeaseState>(all);
    add::<QueueClaimForm>(all);
    add::<QueueDeliveries<'_>>(all);
    add::<QueueDelivery<'_>>(all);
    add::<QueueDepth>(all);
    add::<QueueError>(all);
    add::<QueueExtensionForm>(all);
    add::<QueueExtensionsForm>(all);
    add::<QueueFilterForm>(all);
    add::<QueueList>(all);
    add::<QueueMessageAnswer<'_>>(all);
    add::<QueueMessageForm>(all);
    add::<QueueMessageInfo<'_>>(all);
    add::<QueueMessageList<'_>>(all);
    add::<QueueMessagesForm>(all);
    add::<QueueOutcome>(all);
    add::<QueuePolicy>(all);
    add::<QueuePurgeForm>(all);
    add::<QueueRates>(all);
    add::<QueueReceipt>(all);
    add::<QueueRedriveForm>(all);
    add::<QueueRedriven>(all);
    add::<QueueRemoved>(all);
    add::<QueueSent>(all);
    add::<QueueSentBatch>(all);
    add::<QueueSettlementForm>(all);
    add::<QueueSettlementsForm>(all);
    add::<QueueStage>(all);
    add::<QueueState>(all);
    add::<QueueTotals>(all);
    forms(all);
    either(all);
}

/// The operation whose body may be left out.
pub(super) const CLAIM: &str = "claimFromQueue";

/// What is asked for: nothing that is not known may be there.
fn forms(all: &mut Map<String, Value>) {
    // The policy as it is asked for: nothing has to be there.
    let mut asked = all.get("QueuePolicy").cloned().unwrap_or_default();
    if let Some(asked) = asked.as_object_mut() {
        asked.remove("required");
        for field in asked.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
            // Null is as usual, as what is left out.
            if let Some(kind) = field.1.get_mut("type")
                && kind.is_string()
            {
                *kind = json!([*kind, "null"]);
            }
        }
    }
    all.insert("QueuePolicyRequest".to_owned(), asked);
    for form in [
        "QueueClaim",
        "QueueExtension",
        "QueueExtensions",
        "QueueFilter",
        "QueueMessage",
        "QueueMessages",
        "QueuePolicyRequest",
        "QueuePurge",
        "QueueReceipt",
        "QueueRedrive",
        "QueueSettlement",
        "QueueSettlements",
    ] {
        if let Some(form) = all.get_mut(form).and_then(Value::as_object_mut) {
            form.insert("additionalProperties".to_owned(), false.into());
        }
    }
}

/// One or a batch.
fn either(all: &mut Map<String, Value>) {
    for (name, one, batch) in [
        ("QueueSend", "QueueMessage", "QueueMessages"),
        ("QueueSendAnswer", "QueueSent", "QueueSentBatch"),
        ("QueueSettle", "QueueSettlement", "QueueSettlements"),
        ("QueueExtend", "QueueExtension", "QueueExtensions"),
        ("QueueLeases", "LeaseAnswer", "LeaseAnswers"),
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
    use turnwise_core::limits::{LEASE_MAX, PRIORITY_MAX, RETRY_DELAY_MAX};

    #[test]
    fn the_numbers_of_the_document_are_the_limits() {
        let mut all = Map::new();
        schemas(&mut all);
        let is = |schema: &str, field: &str, rule: &str, limit: u64| {
            let number = all[schema]["properties"][field][rule].as_f64();
            assert_eq!(number, Some(limit as f64), "{schema} {field} {rule}: {}", all[schema]);
        };
        let year = limits::QUEUE_TIME_MAX.as_secs();
        is("QueueMessage", "ordering_key", "maxLength", ID_BYTES_MAX as u64);
        is("QueueMessage", "dedup_key", "maxLength", ID_BYTES_MAX as u64);
        is("QueueMessage", "priority", "maximum", PRIORITY_MAX.into());
        is("QueueMessage", "max_attempts", "maximum", limits::QUEUE_ATTEMPTS_MAX);
        is("QueueMessage", "delay_seconds", "maximum", year);
        is("QueueMessage", "ttl_seconds", "maximum", year);
        is("QueuePolicy", "dead_seconds", "maximum", year);
        for batch in ["QueueMessages", "QueueSettlements", "QueueExtensions"] {
            is(batch, "items", "maxItems", limits::QUEUE_BATCH_MAX as u64);
        }
        is("QueueClaim", "limit", "maximum", limits::CLAIM_MESSAGES_MAX.into());
        is("QueueClaim", "lease_seconds", "maximum", LEASE_MAX.as_secs());
        is("QueueClaim", "wait_seconds", "maximum", limits::CLAIM_WAIT_MAX.as_secs());
        is("QueueSettlement", "delay_seconds", "maximum", RETRY_DELAY_MAX.as_secs());
        is("QueueSettlement", "reason", "maxLength", limits::REASON_BYTES_MAX as u64);
        is("QueuePolicy", "retry_cap_seconds", "maximum", RETRY_DELAY_MAX.as_secs());
    }

    #[test]
    fn the_example_of_a_receipt_is_one() {
        use super::super::queue_examples::RECEIPT;
        assert!(RECEIPT.parse::<turnwise_broker::WorkReceipt>().is_ok());
    }
}
