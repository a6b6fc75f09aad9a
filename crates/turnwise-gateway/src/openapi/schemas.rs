//! The shapes, as `turnwise-api` derives them, and examples made of them.

use crate::limits::{TICKET_FIRST_USE_MAX, TICKET_LIFETIME};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use turnwise_api::{
    CallbackAnswer, CallbackList, CallbackPhase, ChatType, Code, FieldError, Health, HealthStatus,
    MessageAnswer, MessageFields, MessageStatus, MessageType, NodeStatus, Part, ProblemForm, QueueAnswer,
    QueueConversation, Readiness, RedriveAnswer, RedriveRequest, Rfc3339, StoreCheck, StorePart, StreamError,
    TailStep, TicketAnswer, TicketRequest, TimelineStep, TurnAnswer, TurnCallback, TurnFailure, TurnNumbers,
    TurnStep,
};
use utoipa::ToSchema;

/// 2026-11-21, 12:00 in UTC, in microseconds.
pub(super) const NOON: i64 = 1_795_262_400_000_000;
pub(super) const SECOND: i64 = 1_000_000;
/// How long a turn of the examples is kept.
const KEPT: i64 = 24 * 3_600 * SECOND;
/// A place in a stream.
const PLACE: &str = "^[0-9]{1,19}-[0-9]{1,19}$";
pub(super) const TURN: &str = "00000000-0000-8002-b7a8-9a72b3e316c8";

/// Where a schema stands in the document.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// Every schema, by name.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    add::<CallbackAnswer>(&mut all);
    add::<CallbackList>(&mut all);
    add::<CallbackPhase>(&mut all);
    add::<RedriveAnswer>(&mut all);
    add::<RedriveRequest>(&mut all);
    add::<TurnCallback>(&mut all);
    add::<ChatType>(&mut all);
    super::sockets::schemas(&mut all);
    super::topics::schemas(&mut all);
    add::<FieldError>(&mut all);
    add::<Health>(&mut all);
    add::<HealthStatus>(&mut all);
    add::<MessageAnswer<'_>>(&mut all);
    add::<MessageFields<'_>>(&mut all);
    add::<MessageStatus>(&mut all);
    add::<MessageType>(&mut all);
    add::<ProblemForm>(&mut all);
    add::<QueueAnswer<'_>>(&mut all);
    add::<QueueConversation<'_>>(&mut all);
    add::<Readiness>(&mut all);
    add::<StoreCheck>(&mut all);
    add::<StreamError<'_>>(&mut all);
    add::<TicketAnswer<'_>>(&mut all);
    add::<TicketRequest<'_>>(&mut all);
    add::<NodeStatus>(&mut all);
    add::<Part>(&mut all);
    add::<StorePart>(&mut all);
    add::<TailStep<'_>>(&mut all);
    add::<TimelineStep>(&mut all);
    add::<TurnAnswer<'_>>(&mut all);
    add::<TurnFailure<'_>>(&mut all);
    add::<TurnNumbers>(&mut all);
    add::<TurnStep>(&mut all);
    super::queues::schemas(&mut all);
    super::bus::schemas(&mut all);
    all.insert("StreamEvent".to_owned(), json!({
        "type": "object",
        "description": "Each of the server-sent events (WHATWG HTML, section 9.2); `x-turnwise-events` lists them.",
        "required": ["event", "data"],
        "properties": {
            "id": { "type": "string", "pattern": PLACE, "description": "Where to go on after it; not every event has one." },
            "event": { "type": "string", "minLength": 1, "description": "Its name." },
            "data": { "type": "string", "contentMediaType": "application/json", "description": "JSON, unless the agent wrote something else." },
        },
    }));
    all.insert("StreamTurn".to_owned(), of_strings(&[("message_id", "The turn.")]));
    all.insert(
        "StreamGap".to_owned(),
        of_strings(&[("resume", "The place from which events are still kept.")]),
    );
    all.insert("StreamPosition".to_owned(), json!({
        "type": "object", "required": ["position"], "properties": {
            "position": { "type": "integer", "minimum": 1, "description": "The turn's place now, counting the one in progress." },
        },
    }));
    plain(&mut all);
    let mut all = Value::Object(all);
    super::callbacks::conditions(&mut all);
    super::topics::conditions(&mut all);
    if let Some(message) = all.pointer_mut("/MessageRequest").and_then(Value::as_object_mut) {
        message.insert("allOf".to_owned(), conditions());
    }
    if let Some(code) = all.pointer_mut("/Problem/properties/code").and_then(Value::as_object_mut) {
        code.insert("enum".to_owned(), Code::ALL.map(Code::name).as_slice().into());
    }
    all
}

/// What has no form of its own.
fn plain(all: &mut Map<String, Value>) {
    all.insert("Document".to_owned(), json!({ "type": "object", "description": "An OpenAPI document." }));
    all.insert("Text".to_owned(), json!({ "type": "string" }));
    all.insert("StreamBytes".to_owned(), json!({ "description": "Bytes of the stream's own type." }));
}

pub(super) fn add<T: ToSchema>(all: &mut Map<String, Value>) {
    let schema = serde_json::to_string(&T::schema()).expect("a schema is JSON");
    // Descriptions come from the code, where names are links.
    let schema = schema.replace("[`crate::", "`").replace("[`", "`").replace("`]", "`");
    all.insert(
        T::name().into_owned(),
        serde_json::from_str(&schema).expect("backquotes mean nothing in JSON"),
    );
}

fn of_strings(fields: &[(&str, &str)]) -> Value {
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let properties: Map<String, Value> = fields
        .iter()
        .map(|(name, about)| ((*name).to_owned(), json!({ "type": "string", "description": about })))
        .collect();
    json!({ "type": "object", "required": names, "properties": properties })
}

/// What depends on `message_type` and `chat_type`.
fn conditions() -> Value {
    let text = json!({ "type": "string" });
    json!([
        {
            "if": { "required": ["message_type"], "properties": { "message_type": { "const": "audio" } } },
            "then": {
                "required": ["audio_base64", "audio_format"],
                "properties": { "audio_base64": text, "audio_format": text },
            },
            "else": { "required": ["message"], "properties": { "message": { "type": "string", "pattern": "\\S" } } },
        },
        {
            "if": { "required": ["chat_type"], "properties": { "chat_type": { "enum": ["group", "supergroup"] } } },
            "then": { "required": ["chat_id"], "properties": { "chat_id": text } },
        },
    ])
}

/// The events of a stream: their names, whether they have an id, and their data.
pub(super) fn events() -> Value {
    let event = |name: &str, about: &str, id: bool, ends: bool, data: Value| json!({ "event": name, "description": about, "id": id, "ends": ends, "data": data });
    let turn = || reference("StreamTurn");
    json!([
        event("queued", "The turn is stored. First, unless the reader resumes.", false, false, turn()),
        event(
            "position",
            "The turn's place has changed; live only, at most once a second.",
            false,
            false,
            reference("StreamPosition")
        ),
        event(
            "processing",
            "The agent has it. Once; with an id if it is stored already.",
            true,
            false,
            turn()
        ),
        event(
            "message",
            "An event of the agent, its data unchanged; under its own name if that is none of these.",
            true,
            false,
            json!({})
        ),
        event(
            "gap",
            "Events that followed the place are no longer kept; reading goes on from `resume`.",
            true,
            false,
            reference("StreamGap")
        ),
        event("done", "The turn is answered.", true, true, turn()),
        event("error", "The turn ended without an answer.", true, true, reference("StreamError")),
        event("cancelled", "The turn was cancelled.", true, true, turn()),
    ])
}

/// No examples.
pub(super) fn none() -> Value {
    Value::Null
}

pub(super) fn examples(named: &[(&str, Value)]) -> Value {
    let named = named.iter().map(|(name, value)| ((*name).to_owned(), json!({ "value": value })));
    named.collect::<Map<String, Value>>().into()
}

pub(super) fn value(shape: &impl serde::Serialize) -> Value {
    serde_json::to_value(shape).expect("the shapes are JSON")
}

pub(super) fn message_examples() -> Value {
    let text = json!({ "org_id": "acme", "user_id": "alice", "client_id": "web", "message": "hello" });
    let group = json!({
        "org_id": "acme", "user_id": "alice", "client_id": "telegram-gateway", "message": "hello, bot",
        "client_message_id": "tg-8812", "chat_type": "group", "chat_id": "-100200300", "speaker": "Alice",
        "addressed_to_bot": true, "metadata": { "reply_to": 8811 },
    });
    let audio = json!({
        "org_id": "acme", "user_id": "bob", "client_id": "web", "message_type": "audio",
        "audio_base64": "T2dnUw==", "audio_format": "ogg",
    });
    examples(&[("text", text), ("group", group), ("audio", audio)])
}

fn message_answer(status: MessageStatus, waits: bool, responses: Option<&RawValue>) -> Value {
    let language = responses.map(|_| raw("\"en\""));
    value(&MessageAnswer {
        status,
        message_id: TURN,
        queue_position: if waits { 2 } else { 1 },
        responses,
        response_language: language.as_deref(),
        voice_audio_base64: None,
        position: waits.then_some(3),
        expires_at: Rfc3339(NOON + KEPT),
    })
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("the examples are JSON")
}

pub(super) fn message_answer_examples() -> Value {
    let responses = raw(r#"["You said: hello"]"#);
    examples(&[
        ("completed", message_answer(MessageStatus::Completed, false, Some(&responses))),
        ("queued", message_answer(MessageStatus::Queued, true, None)),
    ])
}

fn turn(status: MessageStatus) -> TurnAnswer<'static> {
    TurnAnswer {
        message_id: TURN,
        org_id: "acme",
        user_id: "alice",
        client_id: "web",
        status,
        position: None,
        attempts: 1,
        accepted_at: Rfc3339(NOON),
        started_at: Some(Rfc3339(NOON + SECOND / 50)),
        finished_at: Some(Rfc3339(NOON + 2 * SECOND)),
        expires_at: Rfc3339(NOON + KEPT),
        answer: None,
        error: None,
        partial: None,
        callback: None,
        redrive_of: None,
        timeline: timeline(),
    }
}

fn timeline() -> Vec<TimelineStep> {
    let step = |step, after, attempt| TimelineStep { step, at: Rfc3339(NOON + after), attempt };
    vec![
        step(TurnStep::Accepted, 0, None),
        step(TurnStep::Claimed, SECOND / 50, Some(1)),
        step(TurnStep::FirstEvent, SECOND, None),
    ]
}

pub(super) fn status_examples() -> Value {
    examples(&[(
        "healthy",
        value(&NodeStatus {
            status: HealthStatus::Healthy,
            version: env!("CARGO_PKG_VERSION"),
            draining: false,
            uptime_seconds: 3_600.0,
            store: StorePart { state: "ok", latency_ms: Some(1.2), losses: 0, weakness: None },
            agent: Part { state: "ok", latency_ms: Some(3.4) },
            turns: TurnNumbers {
                waiting: 3,
                in_flight: 2,
                dead: 0,
                oldest_waiting_seconds: Some(0.25),
                conversations: 4,
                accepted: 120,
                ended: [("completed", 115)].into_iter().collect(),
                leases_lost: 0,
            },
            streams_open: 2,
            connections: 5,
        }),
    )])
}

pub(super) fn tail_examples() -> Value {
    let step = TailStep {
        at: Rfc3339(NOON),
        message_id: TURN,
        org_id: "acme",
        user_id: "alice",
        step: TurnStep::Claimed,
        attempt: Some(1),
        after_ms: Some(20),
        code: None,
    };
    let data = serde_json::to_string(&step).expect("strings and numbers are JSON");
    examples(&[("claimed", json!(format!("retry: 2000\n\nevent: step\ndata: {data}\n\n")))])
}

pub(super) fn turn_answer_examples() -> Value {
    let answer = raw(r#"{"responses":["You said: hello"],"response_language":"en"}"#);
    let completed = TurnAnswer { answer: Some(&answer), ..turn(MessageStatus::Completed) };
    let queued = TurnAnswer {
        position: Some(3),
        attempts: 0,
        started_at: None,
        finished_at: None,
        ..turn(MessageStatus::Queued)
    };
    let error = TurnFailure {
        code: Code::AnswerInterrupted.name(),
        status: Code::AnswerInterrupted.status(),
        detail: Code::AnswerInterrupted.title(),
    };
    let failed = TurnAnswer { error: Some(error), partial: Some("part 1 "), ..turn(MessageStatus::Failed) };
    examples(&[("completed", value(&completed)), ("failed", value(&failed)), ("queued", value(&queued))])
}

pub(super) fn cancelled_examples() -> Value {
    let stopped = TurnAnswer { partial: Some("part 1 "), ..turn(MessageStatus::Cancelled) };
    let stopping = TurnAnswer { position: Some(1), finished_at: None, ..turn(MessageStatus::Stopping) };
    examples(&[("cancelled", value(&stopped)), ("stopping", value(&stopping))])
}

pub(super) fn queue_examples() -> Value {
    let conversation = QueueConversation {
        org_id: "acme",
        chat_type: "private",
        chat_id: None,
        thread_id: None,
        queue_length: 1,
        is_processing: true,
        current_message_id: Some(TURN.to_owned()),
        oldest_waiting_seconds: Some(0.25),
    };
    let busy = QueueAnswer {
        user_id: "alice",
        queue_length: 1,
        is_processing: true,
        current_message_id: Some(TURN.to_owned()),
        oldest_waiting_seconds: Some(0.25),
        conversations: vec![conversation],
    };
    let idle = QueueAnswer {
        user_id: "nobody",
        queue_length: 0,
        is_processing: false,
        current_message_id: None,
        oldest_waiting_seconds: None,
        conversations: Vec::new(),
    };
    examples(&[("busy", value(&busy)), ("unknown", value(&idle))])
}

pub(super) fn stream_examples() -> Value {
    let text = format!(
        "retry: 2000\n\nevent: queued\ndata: {{\"message_id\":\"{TURN}\"}}\n\nid: 1-1\nevent: processing\n\
         data: {{\"message_id\":\"{TURN}\"}}\n\nid: 1-2\nevent: message\ndata: {{\"text\":\"part 1 \"}}\n\n\
         id: 1-3\nevent: done\ndata: {{\"message_id\":\"{TURN}\"}}\n\n"
    );
    examples(&[("answered", text.into())])
}

pub(super) fn ticket_request_examples() -> Value {
    examples(&[
        ("stream", json!({ "stream": { "user_id": "alice", "message_id": TURN } })),
        ("topics", json!({ "subscribe": { "topics": ["orders.*"], "org_id": "acme" } })),
        ("connection", json!({ "connect": { "org_id": "acme", "agent_id": "planner" } })),
    ])
}

pub(super) fn ticket_examples() -> Value {
    let ticket = TicketAnswer {
        ticket: "tkt_0000000000000000000000000000000000000000000",
        first_use_seconds: TICKET_FIRST_USE_MAX.as_secs(),
        lifetime_seconds: TICKET_LIFETIME.as_secs(),
    };
    examples(&[("ticket", value(&ticket))])
}

pub(super) fn health_examples() -> Value {
    let health = Health {
        status: HealthStatus::Healthy,
        redis_connected: true,
        active_queues: 2,
        messages_processing: 1,
        worker_connected: true,
        store_weakness: None,
    };
    examples(&[("healthy", value(&health))])
}

pub(super) fn live_examples() -> Value {
    examples(&[("live", value(&Readiness { status: "live", ..Readiness::default() }))])
}

pub(super) fn ready_examples() -> Value {
    let named = Readiness {
        status: "ready",
        store: Some("ok"),
        agent: Some("ok"),
        store_ms: Some(1.2),
        agent_ms: Some(3.4),
        checks: Some(vec![StoreCheck {
            name: "write_read",
            state: "healthy",
            latency_ms: Some(1.4),
            average_ms: Some(1.6),
            min_ms: Some(1.1),
            max_ms: Some(12.5),
            measured: 100,
            failed: 0,
        }]),
    };
    let bare = Readiness { status: "ready", ..Readiness::default() };
    examples(&[("ready", value(&bare)), ("verbose", value(&named))])
}
