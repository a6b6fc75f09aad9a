//! What is said about callbacks, and about redrives of turns.

use super::answers::Success;
use super::operations::{Body, Operation};
use super::schemas::{self, NOON, SECOND, TURN, examples, value};
use crate::limits::{CALLBACKS_NAMED_MAX, CALLBACKS_PAGE_MAX, ID_BYTES_MAX};
use serde_json::{Map, Value, json};
use turnwise_api::{
    CallbackAnswer, CallbackList, CallbackPhase, Code, RedriveAnswer, RedriveRequest, Rfc3339,
};

const CALLBACK: &str = "00000000-0000-8003-b7a8-9a72b3e316c8";
/// A callback's id and its organisation in hexadecimal digits.
const CURSOR: &str = r"^([0-9a-f-]{36}\.([0-9a-f]{2}){1,256})?$";

pub(super) const TAG: &str = "callbacks";

pub(super) fn tag() -> Value {
    json!({ "name": TAG, "description": "Ends of turns that are posted to a URL: what waits and what was given up on." })
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        id: "redriveMessage",
        method: "post",
        path: "/api/v1/message/{message_id}/redrive",
        tag: "conversations",
        summary: "Send a failed turn's message again",
        description: "Makes a new turn at the tail of the conversation, which names the failed one in `redrive_of`. \
            Asked again, it is the same new turn. A turn that expired without a call cannot be redriven.",
        parameters: &["MessageId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The new turn.",
            media: "application/json",
            schema: "MessageAnswer",
            headers: &[],
            examples: schemas::message_answer_examples,
            links: &[],
        }],
        codes: &[
            Code::NotFound,
            Code::NotFailed,
            Code::Expired,
            Code::InvalidContent,
            Code::QueueDepthExceeded,
            Code::Cancelled,
            Code::AgentRejected,
            Code::AgentError,
            Code::AgentUnreachable,
            Code::AgentTimeout,
            Code::AgentBusy,
            Code::AnswerInterrupted,
            Code::AttemptsExhausted,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Draining,
        ],
    },
    Operation {
        id: "listCallbacks",
        method: "get",
        path: "/api/v1/callbacks",
        tag: TAG,
        summary: "List callbacks",
        description: "Those that were given up on, or those that wait, by organisation and then by age.",
        parameters: &["Stage", "CallbackOrgId", "Cursor", "Limit"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "One page.",
            media: "application/json",
            schema: "CallbackList",
            headers: &[],
            examples: list_examples,
            links: &[],
        }],
        codes: &[Code::InvalidContent, Code::OutcomeUnknown, Code::StoreUnavailable],
    },
    Operation {
        id: "showCallback",
        method: "get",
        path: "/api/v1/callbacks/{callback_id}",
        tag: TAG,
        summary: "Look at a callback",
        description: "One that waits or was given up on. Of its URL only scheme, host and port are shown.",
        parameters: &["CallbackId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The callback as it is now.",
            media: "application/json",
            schema: "CallbackAnswer",
            headers: &[],
            examples: callback_examples,
            links: &[],
        }],
        codes: &[Code::NotFound, Code::OutcomeUnknown, Code::StoreUnavailable],
    },
    Operation {
        id: "dropCallback",
        method: "delete",
        path: "/api/v1/callbacks/{callback_id}",
        tag: TAG,
        summary: "Drop a callback",
        description: "It is never delivered. One that is being delivered just now is refused with 409.",
        parameters: &["CallbackId"],
        body: None,
        successes: &[Success {
            status: 204,
            description: "It is gone.",
            media: "",
            schema: "",
            headers: &[],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[Code::NotFound, Code::CallbackInProgress, Code::OutcomeUnknown, Code::StoreUnavailable],
    },
    Operation {
        id: "redriveCallbacks",
        method: "post",
        path: "/api/v1/callbacks/redrive",
        tag: TAG,
        summary: "Try callbacks again",
        description: "Puts callbacks that were given up on to the end of their line, with no tries counted: those \
            with these `ids`, or `all`. Ids of others, and of those that were not given up on, are passed over.",
        parameters: &[],
        body: Some(Body { schema: "RedriveRequest", examples: redrive_examples }),
        successes: &[Success {
            status: 200,
            description: "How many there were.",
            media: "application/json",
            schema: "RedriveAnswer",
            headers: &[],
            examples: redriven_examples,
            links: &[],
        }],
        codes: &[
            Code::NotJson,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidContent,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Overloaded,
        ],
    },
];

/// The parameters of these operations.
pub(super) fn parameters(all: &mut Map<String, Value>) {
    let org = json!({ "type": "string", "maxLength": ID_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" });
    let mut add = |name: &str, parameter: Value| all.insert(name.to_owned(), parameter);
    add(
        "CallbackId",
        json!({
            "in": "path", "name": "callback_id", "required": true, "description": "The callback's id.",
            "schema": { "type": "string", "format": "uuid" }, "example": CALLBACK,
        }),
    );
    add(
        "Stage",
        json!({
            "in": "query", "name": "stage", "required": false, "description": "Which; `dead` if it is left out.",
            "schema": { "enum": ["dead", "waiting"] }, "example": "dead",
        }),
    );
    add(
        "CallbackOrgId",
        json!({
            "in": "query", "name": "org_id", "required": false, "description": "Only this organisation.",
            "schema": org, "example": "acme",
        }),
    );
    add(
        "Cursor",
        json!({
            "in": "query", "name": "after", "required": false,
            "description": "`next` of the page before. Another text is refused.",
            "schema": { "type": "string", "pattern": CURSOR }, "example": format!("{CALLBACK}.61636d65"),
        }),
    );
    add(
        "Limit",
        json!({
            "in": "query", "name": "limit", "required": false, "description": "Callbacks in a page.",
            "schema": { "type": "integer", "minimum": 1, "maximum": CALLBACKS_PAGE_MAX }, "example": 50,
        }),
    );
}

/// What depends on `all`, and limits that the shape does not tell.
pub(super) fn conditions(schemas: &mut Value) {
    let Some(request) = schemas.pointer_mut("/RedriveRequest").and_then(Value::as_object_mut) else { return };
    let ids = json!({ "type": "array", "items": { "type": "string" }, "maxItems": CALLBACKS_NAMED_MAX });
    let alternatives = json!([
        { "required": ["ids"], "properties": { "ids": ids, "all": { "const": false } } },
        { "required": ["all"], "properties": { "ids": { "type": "null" }, "all": { "const": true } } },
    ]);
    request.insert("oneOf".to_owned(), alternatives);
    let org = json!({ "anyOf": [
        { "type": "null" },
        { "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]+$" },
    ], "description": "Only of this organisation." });
    if let Some(properties) = request.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert("org_id".to_owned(), org);
    }
}

fn callback() -> CallbackAnswer {
    CallbackAnswer {
        id: CALLBACK.to_owned(),
        org_id: "acme".to_owned(),
        message_id: TURN.to_owned(),
        status: CallbackPhase::Dead,
        origin: Some("https://hooks.example".to_owned()),
        created_at: Some(Rfc3339(NOON)),
        attempts: 1,
        next_attempt_at: None,
        last_attempt_at: Some(Rfc3339(NOON + SECOND)),
        last_status: Some(410),
        last_error: Some("refused: the host answered 410".to_owned()),
    }
}

fn callback_examples() -> Value {
    examples(&[("dead", value(&callback()))])
}

fn list_examples() -> Value {
    let page = CallbackList { items: vec![callback()], next: None };
    examples(&[("one", value(&page))])
}

fn redrive_examples() -> Value {
    let some = RedriveRequest { ids: Some(vec![CALLBACK.to_owned()]), ..RedriveRequest::default() };
    let all = RedriveRequest { all: true, dry_run: true, ..RedriveRequest::default() };
    examples(&[("some", value(&some)), ("count all", value(&all))])
}

fn redriven_examples() -> Value {
    examples(&[("done", value(&RedriveAnswer { redriven: 1, dry_run: false }))])
}
