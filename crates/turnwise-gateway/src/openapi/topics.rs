//! What is said about topics.

use super::answers::Success;
use super::operations::{Body, Operation};
use super::schemas::{self, NOON, add, examples, reference, value};
use crate::limits::{
    CLOUDEVENT_SOURCE_BYTES_MAX, EVENT_BYTES_MAX, EVENT_TYPE_BYTES_MAX, EVENTS_PUBLISHED_MAX, ID_BYTES_MAX,
    PATTERNS_MAX, RETENTION_AGE_SECONDS_MAX, RETENTION_SIZE_MAX, TOPIC_NAME_BYTES_MAX, TOPIC_PAGE_MAX,
    TOPIC_PAGE_USUAL,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use turnwise_api::{
    Code, EventBatch, EventRequest, ItemError, PublishAnswer, PublishResult, PublishResults, RetentionAnswer,
    RetentionRequest, Rfc3339, TopicAnswer, TopicEvent, TopicHistory, TopicList,
};

pub(super) const TAG: &str = "topics";
const PUBLISH: &str = "publishEvents";
/// A position in a topic.
const POSITION: &str = "^([0-9]{1,19}-[0-9]{1,19})?$";
/// A place over several topics.
const PLACE: &str = "^([0-9]{1,19}-[0-9]{1,19}-[0-9]{1,10}-[0-9]{1,19})?$";

pub(super) fn tag() -> Value {
    json!({ "name": TAG, "description": "Events by name: published, read again, and followed live." })
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        id: PUBLISH,
        method: "post",
        path: "/api/v1/topics/{topic}/events",
        tag: TAG,
        summary: "Publish events",
        description: "Appends one event, or several in order, each with its own outcome. They are stored when this \
            answers. CloudEvents 1.0 are taken structured, in batches and in binary mode (attributes in `ce-` headers, \
            any media type); the same source and id again is the same event.",
        parameters: &["Topic", "TopicOrgId", "IdempotencyKey"],
        body: Some(Body { schema: "EventInput", examples: event_examples }),
        successes: &[Success {
            status: 201,
            description: "One event has a position; of several each has a position or an error.",
            media: "application/json",
            schema: "Published",
            headers: &[],
            examples: published_examples,
            links: &[],
        }],
        codes: &[
            Code::NotJson,
            Code::OrgForbidden,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidContent,
            Code::IdempotencyConflict,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Draining,
            Code::Overloaded,
        ],
    },
    Operation {
        id: "readTopic",
        method: "get",
        path: "/api/v1/topics/{topic}/events",
        tag: TAG,
        summary: "Read a topic's history",
        description: "A page of events from the oldest that is kept, or after a position. A topic that nobody has \
            published to reads as empty.",
        parameters: &["Topic", "TopicOrgId", "TopicAfter", "TopicLimit"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The page. Only one without events is the end.",
            media: "application/json",
            schema: "TopicHistory",
            headers: &[],
            examples: history_examples,
            links: &[],
        }],
        codes: READS,
    },
    Operation {
        id: "listTopics",
        method: "get",
        path: "/api/v1/topics",
        tag: TAG,
        summary: "List topics",
        description: "Those that somebody has published to, by name.",
        parameters: &["TopicOrgId", "TopicFilter", "TopicCursor", "TopicLimit"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "One page.",
            media: "application/json",
            schema: "TopicList",
            headers: &[],
            examples: list_examples,
            links: &[],
        }],
        codes: READS,
    },
    Operation {
        id: "showTopic",
        method: "get",
        path: "/api/v1/topics/{topic}",
        tag: TAG,
        summary: "Look at a topic",
        description: "What is kept of it, and how many read it live on this node.",
        parameters: &["Topic", "TopicOrgId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The topic as it is now.",
            media: "application/json",
            schema: "TopicAnswer",
            headers: &[],
            examples: topic_examples,
            links: &[],
        }],
        codes: &[
            Code::NotFound,
            Code::OrgForbidden,
            Code::InvalidContent,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Overloaded,
        ],
    },
    Operation {
        id: "showRetention",
        method: "get",
        path: "/api/v1/topics/{topic}/retention",
        tag: TAG,
        summary: "See how much of a topic is kept",
        description: "The limits of its age, number and bytes: the usual ones unless others were set.",
        parameters: &["Topic", "TopicOrgId"],
        body: None,
        successes: RETENTION,
        codes: READS,
    },
    Operation {
        id: "setRetention",
        method: "put",
        path: "/api/v1/topics/{topic}/retention",
        tag: TAG,
        summary: "Say how much of a topic is kept",
        description: "Whichever limit is reached first, the oldest events go, within minutes. A limit that is left out \
            is the usual one, null is none. Also of a topic that nobody has published to.",
        parameters: &["Topic", "TopicOrgId"],
        body: Some(Body { schema: "RetentionRequest", examples: retention_request_examples }),
        successes: RETENTION,
        codes: &[
            Code::NotJson,
            Code::OrgForbidden,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidContent,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Draining,
            Code::Overloaded,
        ],
    },
    Operation {
        id: "subscribe",
        method: "get",
        path: "/api/v1/subscribe",
        tag: TAG,
        summary: "Follow topics",
        description: "Server-sent events without an end, of several topics and patterns, each event once and in the \
            order in which they were stored: under its type as name, its data a TopicEvent. Every event has an id \
            that is good for going on behind it, with these topics or with others of the organisation; an id without \
            an event tells a place in between. `gap` says that events behind the place asked for are not kept any \
            longer. While nothing happens a comment is sent every \
            15 seconds.",
        parameters: &["TopicOrgId", "Topics", "SubscribeAfter", "SubscribeLastEventId", "Ticket"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The events.",
            media: "text/event-stream",
            schema: "TopicStreamEvent",
            headers: &["Cache-Control"],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[
            Code::InvalidTicket,
            Code::OrgForbidden,
            Code::InvalidContent,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
        ],
    },
];

const RETENTION: &[Success] = &[Success {
    status: 200,
    description: "The limits, null for none.",
    media: "application/json",
    schema: "RetentionAnswer",
    headers: &[],
    examples: retention_examples,
    links: &[],
}];

const READS: &[Code] = &[
    Code::OrgForbidden,
    Code::InvalidContent,
    Code::OutcomeUnknown,
    Code::StoreUnavailable,
    Code::Overloaded,
];

/// The parameters of these operations.
pub(super) fn parameters(all: &mut Map<String, Value>) {
    let name =
        json!({ "type": "string", "pattern": format!("^[A-Za-z0-9_.:-]{{1,{TOPIC_NAME_BYTES_MAX}}}$") });
    let cursor =
        json!({ "type": "string", "pattern": format!("^[A-Za-z0-9_.:-]{{0,{TOPIC_NAME_BYTES_MAX}}}$") });
    let filter = json!({ "type": "string", "maxLength": TOPIC_NAME_BYTES_MAX });
    let topics = json!({ "type": "string", "minLength": 1 });
    let org = json!({ "type": "string", "maxLength": ID_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f]*$" });
    let limit =
        json!({ "type": "integer", "minimum": 1, "maximum": TOPIC_PAGE_MAX, "default": TOPIC_PAGE_USUAL });
    let place = json!({ "type": "string", "pattern": PLACE });
    let from = json!({ "anyOf": [place, { "const": "earliest" }] });
    let mut add = |key: &str, kind: &str, name: &str, about: &str, schema: &Value, example: &str| {
        let parameter = json!({
            "in": kind, "name": name, "required": matches!(key, "Topic" | "Topics"), "description": about,
            "schema": schema, "example": example,
        });
        all.insert(key.to_owned(), parameter);
    };
    add("Topic", "path", "topic", "The topic's name.", &name, "orders.eu");
    let about = "The organisation; needed unless the key is for one alone.";
    add("TopicOrgId", "query", "org_id", about, &org, "acme");
    let about = format!(
        "At most {PATTERNS_MAX} topics and patterns with commas between them. `*` stands for one part between `.` or \
         `:`, `>` at the end for the rest."
    );
    add("Topics", "query", "topics", &about, &topics, "orders.eu,alerts.>");
    add("TopicFilter", "query", "topics", "Only those that match this pattern.", &filter, "orders.*");
    add("TopicCursor", "query", "after", "`next` of the page before.", &cursor, "orders.eu");
    let position = json!({ "type": "string", "pattern": POSITION });
    add("TopicAfter", "query", "after", "Begin after this position.", &position, "1-4");
    add("TopicLimit", "query", "limit", "How many in a page.", &limit, "100");
    let about = "Begin after this event; `earliest` for all that is kept. Without it, with what is published from now on.";
    add("SubscribeAfter", "query", "after", about, &from, "1-42-3826002220-4");
    let about = "Begin after this event; wins over `after`. An EventSource sends it by itself.";
    add("SubscribeLastEventId", "header", "Last-Event-ID", about, &place, "1-42-3826002220-4");
    if let Some(example) = all.get_mut("TopicLimit").and_then(|limit| limit.get_mut("example")) {
        *example = TOPIC_PAGE_USUAL.into();
    }
}

/// The shapes, and what no shape of ours tells.
pub(super) fn schemas(all: &mut Map<String, Value>) {
    add::<EventBatch<'_>>(all);
    add::<EventRequest<'_>>(all);
    add::<ItemError>(all);
    add::<PublishAnswer>(all);
    add::<PublishResult>(all);
    add::<PublishResults>(all);
    add::<RetentionAnswer>(all);
    add::<RetentionRequest>(all);
    add::<TopicAnswer>(all);
    add::<TopicEvent<'_>>(all);
    add::<TopicHistory<'_>>(all);
    add::<TopicList>(all);
    let either = |one: &str, other: &str| json!({ "oneOf": [reference(one), reference(other)] });
    all.insert("EventInput".to_owned(), either("EventRequest", "EventBatch"));
    all.insert("Published".to_owned(), either("PublishAnswer", "PublishResults"));
    all.insert(
        "CloudEvent".to_owned(),
        json!({
            "type": "object",
            "description": "A CloudEvent 1.0 in its JSON format.",
            "required": ["specversion", "type", "source", "id"],
            "properties": {
                "specversion": { "const": "1.0" },
                "type": { "type": "string", "pattern": "^[!-~]{1,120}$" },
                "source": {
                    "type": "string", "format": "uri-reference", "minLength": 1,
                    "maxLength": CLOUDEVENT_SOURCE_BYTES_MAX,
                },
                "id": {
                    "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX,
                    "pattern": "^[^\\x00-\\x1f\\x7f]+$",
                },
            },
        }),
    );
    all.insert(
        "CloudEvents".to_owned(),
        json!({ "type": "array", "items": reference("CloudEvent"), "minItems": 1 }),
    );
    all.insert(
        "TopicStreamEvent".to_owned(),
        json!({
            "type": "object",
            "description": "A server-sent event (WHATWG HTML, section 9.2).",
            "required": ["id", "event", "data"],
            "properties": {
                "id": { "type": "string", "description": "Where to go on behind it." },
                "event": { "type": "string", "description": "The event's type, or `gap`." },
                "data": {
                    "type": "string", "contentMediaType": "application/json",
                    "contentSchema": { "oneOf": [reference("TopicEvent"), reference("StreamGap")] },
                },
            },
        }),
    );
}

/// Limits that the shapes do not tell.
pub(super) fn conditions(schemas: &mut Value) {
    let mut set = |pointer: &str, rules: Value| {
        let target = schemas.pointer_mut(pointer).and_then(Value::as_object_mut);
        if let (Some(target), Value::Object(rules)) = (target, rules) {
            target.extend(rules);
        }
    };
    let of_type =
        json!({ "pattern": format!("^[!-~]{{1,{EVENT_TYPE_BYTES_MAX}}}$"), "not": { "const": "gap" } });
    set("/EventRequest/properties/type", of_type);
    let about = format!("What it says: any JSON of at most {EVENT_BYTES_MAX} bytes, null if it is left out.");
    set("/EventRequest/properties/data", json!({ "description": about }));
    for (name, most) in [
        ("max_age_seconds", RETENTION_AGE_SECONDS_MAX),
        ("max_events", RETENTION_SIZE_MAX),
        ("max_bytes", RETENTION_SIZE_MAX),
    ] {
        set(&format!("/RetentionRequest/properties/{name}"), json!({ "minimum": 1, "maximum": most }));
    }
    set("/EventBatch/properties/items", json!({ "minItems": 1, "maxItems": EVENTS_PUBLISHED_MAX }));
}

/// The other media types of a publish.
pub(super) fn media(id: &str, described: &mut Map<String, Value>) {
    let content = described.get_mut("requestBody").and_then(|body| body.get_mut("content"));
    if let (PUBLISH, Some(Value::Object(content))) = (id, content) {
        let of = |schema: &str| json!({ "schema": reference(schema) });
        content.insert("application/cloudevents+json".to_owned(), of("CloudEvent"));
        content.insert("application/cloudevents-batch+json".to_owned(), of("CloudEvents"));
    }
}

fn event_examples() -> Value {
    let one = json!({ "type": "order.created", "data": { "id": 7 }, "dedup_key": "order-7" });
    let many =
        json!({ "items": [{ "type": "order.created", "data": { "id": 7 } }, { "type": "order.paid" }] });
    examples(&[("one", one), ("several", many)])
}

fn published_examples() -> Value {
    let one = PublishAnswer { position: "1-4".to_owned(), subscribers: 2 };
    let stored = PublishResult { position: Some("1-5".to_owned()), error: None };
    let code = Code::IdempotencyConflict;
    let error = ItemError::new(code, code.title());
    let refused = PublishResult { position: None, error: Some(error) };
    let many = PublishResults { results: vec![stored, refused], subscribers: 2 };
    examples(&[("one", value(&one)), ("several", value(&many))])
}

fn history_examples() -> Value {
    let data = RawValue::from_string("{\"id\":7}".to_owned()).expect("this is JSON");
    let event = TopicEvent {
        topic: "orders.eu",
        position: "1-4".to_owned(),
        event_type: "order.created",
        time: Rfc3339(NOON),
        data: Some(&data),
        cloudevent: None,
    };
    let page = TopicHistory { items: vec![event], next: "1-4".to_owned(), gap: false };
    examples(&[("one", value(&page))])
}

fn topic() -> TopicAnswer {
    TopicAnswer {
        name: "orders.eu".to_owned(),
        start: "1-0".to_owned(),
        last: "1-4".to_owned(),
        events: 4,
        bytes: 92,
        subscribers: 2,
    }
}

fn topic_examples() -> Value {
    examples(&[("topic", value(&topic()))])
}

fn retention_request_examples() -> Value {
    examples(&[("a day", json!({ "max_age_seconds": 86_400, "max_events": null }))])
}

fn retention_examples() -> Value {
    let day = RetentionAnswer { max_age_seconds: Some(86_400), max_events: None, max_bytes: Some(1 << 30) };
    examples(&[("a day", value(&day))])
}

fn list_examples() -> Value {
    examples(&[("one", value(&TopicList { items: vec![topic()], next: None }))])
}
