//! The table of operations: what is said about each route of `router.rs`.

use super::answers::Success;
use super::bus;
use super::callbacks;
use super::queues;
use super::schemas;
use super::sockets;
use super::streams;
use super::topics;
use serde_json::{Value, json};
use turnwise_api::Code;

/// One method of one path.
pub(super) struct Operation {
    pub(super) id: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    /// Names in `components.parameters`, besides the one that all have.
    pub(super) parameters: &'static [&'static str],
    pub(super) body: Option<Body>,
    pub(super) successes: &'static [Success],
    /// Besides those that every route of its access has.
    pub(super) codes: &'static [Code],
}

/// What a request carries.
#[derive(Clone, Copy)]
pub(super) struct Body {
    pub(super) schema: &'static str,
    pub(super) examples: fn() -> Value,
}

const CONVERSATIONS: &str = "conversations";
const HEALTH: &str = "health";
const WATCHING: &str = "watching";
const DESCRIPTION: &str = "description";

/// The groups of operations, in the order in which they are read.
pub(super) fn tags() -> Value {
    json!([
        { "name": CONVERSATIONS, "description": "Messages, the turns they become, and the agent's answers." },
        callbacks::tag(),
        topics::tag(),
        queues::tag(),
        sockets::tag(),
        bus::tag(),
        streams::tag(),
        { "name": HEALTH, "description": "For load balancers and monitors. Answered from counters, without a key." },
        { "name": WATCHING, "description": "For who runs the node: what it holds and does." },
        { "name": DESCRIPTION, "description": "This description, for programs and for people. Open to all." },
    ])
}

/// What is said about a route.
pub(super) fn find(method: &str, path: &str) -> Option<&'static Operation> {
    all().find(|operation| operation.method == method && operation.path == path)
}

/// All of them.
pub(super) fn all() -> impl Iterator<Item = &'static Operation> {
    OPERATIONS
        .iter()
        .chain(callbacks::OPERATIONS)
        .chain(topics::OPERATIONS)
        .chain(queues::OPERATIONS)
        .chain(sockets::OPERATIONS)
        .chain(bus::OPERATIONS)
        .chain(streams::OPERATIONS)
}

/// Those about conversations, health and this description.
const OPERATIONS: &[Operation] = &[
    Operation {
        id: "submitMessage",
        method: "post",
        path: "/api/v1/message",
        tag: CONVERSATIONS,
        summary: "Submit a message",
        description: "Stores one message at the end of its conversation. When it answers depends: with `Prefer: \
            respond-async` at once; with `Prefer: wait=N` when the turn has ended, within N seconds; with neither, \
            when the turn has ended if the conversation was idle, else at once. `status` says which it was. A repeat \
            with the same `client_message_id` (or Idempotency-Key) is the same turn and answers its present state.",
        parameters: &["Prefer", "IdempotencyKey", "Traceparent"],
        body: Some(Body { schema: "MessageRequest", examples: schemas::message_examples }),
        successes: &[Success {
            status: 200,
            description: "The message is stored, and perhaps answered: see `status`.",
            media: "application/json",
            schema: "MessageAnswer",
            headers: &["Preference-Applied"],
            examples: schemas::message_answer_examples,
            links: &["showMessage", "cancelMessage", "followStream", "showQueue"],
        }],
        codes: &[
            Code::NotJson,
            Code::OrgForbidden,
            Code::RequestTimeout,
            Code::Cancelled,
            Code::Expired,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidContent,
            Code::CallbacksUnsupported,
            Code::IdempotencyConflict,
            Code::QueueDepthExceeded,
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
            Code::Overloaded,
        ],
    },
    Operation {
        id: "showMessage",
        method: "get",
        path: "/api/v1/message/{message_id}",
        tag: CONVERSATIONS,
        summary: "Look at a turn",
        description: "Where a turn is, and its answer or error once it is over, until `expires_at`.",
        parameters: &["MessageId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The turn as it is now.",
            media: "application/json",
            schema: "TurnAnswer",
            headers: &[],
            examples: schemas::turn_answer_examples,
            links: &[],
        }],
        codes: &[Code::NotFound, Code::OutcomeUnknown, Code::StoreUnavailable],
    },
    Operation {
        id: "cancelMessage",
        method: "delete",
        path: "/api/v1/message/{message_id}",
        tag: CONVERSATIONS,
        summary: "Cancel a turn",
        description: "A waiting turn is cancelled; one that is at the agent is stopped and what came of it kept. If \
            stopping takes longer than a second, `stopping` is answered, and the end can be read later.",
        parameters: &["MessageId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The turn as it is now: cancelled, stopping, or over because its answer was faster.",
            media: "application/json",
            schema: "TurnAnswer",
            headers: &[],
            examples: schemas::cancelled_examples,
            links: &[],
        }],
        codes: &[Code::NotFound, Code::TurnOver, Code::OutcomeUnknown, Code::StoreUnavailable],
    },
    Operation {
        id: "followStream",
        method: "get",
        path: "/api/v1/stream",
        tag: CONVERSATIONS,
        summary: "Read a turn's events",
        description: "Server-sent events of one turn, from the beginning or after a place: `queued`, `processing`, \
            the agent's own events with their data unchanged, and exactly one of `done`, `error` and `cancelled`, \
            after which the stream ends. Any number of readers, live or later. A reader that comes back with the id \
            of the last event gets 204, which makes an EventSource stop. While nothing happens a comment is sent \
            every 15 seconds. `x-turnwise-events` lists the events.",
        parameters: &["UserId", "StreamMessageId", "After", "LastEventId", "Ticket"],
        body: None,
        successes: &[
            Success {
                status: 200,
                description: "The events.",
                media: "text/event-stream",
                schema: "StreamEvent",
                headers: &["Cache-Control"],
                examples: schemas::stream_examples,
                links: &[],
            },
            Success {
                status: 204,
                description: "Nothing follows the place that was named: the turn is over.",
                media: "",
                schema: "",
                headers: &[],
                examples: schemas::none,
                links: &[],
            },
        ],
        codes: &[
            Code::InvalidTicket,
            Code::NotFound,
            Code::InvalidContent,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
        ],
    },
    Operation {
        id: "issueTicket",
        method: "post",
        path: "/api/v1/tickets",
        tag: CONVERSATIONS,
        summary: "Let a page read one stream, follow topics, or connect",
        description: "A ticket stands in the address in place of a key, for an EventSource or a WebSocket, which \
            cannot set headers. It opens one stream or follows the topics it names, is first used soon, and is then \
            good for reconnects until the stream's end was seen or its time is over. One for a WebSocket is good \
            once.",
        parameters: &[],
        body: Some(Body { schema: "TicketRequest", examples: schemas::ticket_request_examples }),
        successes: &[Success {
            status: 201,
            description: "The ticket; it is shown this once.",
            media: "application/json",
            schema: "TicketAnswer",
            headers: &[],
            examples: schemas::ticket_examples,
            links: &[],
        }],
        codes: &[
            Code::NotJson,
            Code::NotFound,
            Code::RequestTimeout,
            Code::BodyTooLarge,
            Code::UnsupportedMediaType,
            Code::InvalidContent,
            Code::OutcomeUnknown,
            Code::StoreUnavailable,
            Code::Overloaded,
        ],
    },
    Operation {
        id: "showQueue",
        method: "get",
        path: "/api/v1/queue/{user_id}",
        tag: CONVERSATIONS,
        summary: "Look at a user's queue",
        description: "What waits and runs for a user; zeros for one that is not known. Turns of groups are listed \
            under `conversations` and not counted above. Without `org_id`, over all organisations the key may see.",
        parameters: &["UserIdInPath", "OrgId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The queue as it is now.",
            media: "application/json",
            schema: "QueueAnswer",
            headers: &[],
            examples: schemas::queue_examples,
            links: &[],
        }],
        codes: &[Code::NotFound, Code::InvalidContent, Code::OutcomeUnknown, Code::StoreUnavailable],
    },
    Operation {
        id: "health",
        method: "get",
        path: "/health",
        tag: HEALTH,
        summary: "How the node is",
        description: "Always 200. `degraded` while the agent is away or none is configured, `unhealthy` while the \
            store is.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "How it is.",
            media: "application/json",
            schema: "Health",
            headers: &[],
            examples: schemas::health_examples,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "livez",
        method: "get",
        path: "/livez",
        tag: HEALTH,
        summary: "Whether the process answers",
        description: "Looks at nothing else.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "It does.",
            media: "application/json",
            schema: "Readiness",
            headers: &[],
            examples: schemas::live_examples,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "readyz",
        method: "get",
        path: "/readyz",
        tag: HEALTH,
        summary: "Whether work should be sent here",
        description: "503 while the store is away and from the beginning of a shutdown. The agent never makes a \
            node not ready.",
        parameters: &["Verbose"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "It should.",
            media: "application/json",
            schema: "Readiness",
            headers: &[],
            examples: schemas::ready_examples,
            links: &[],
        }],
        codes: &[Code::NotReady, Code::Draining],
    },
    Operation {
        id: "showStatus",
        method: "get",
        path: "/api/v1/status",
        tag: WATCHING,
        summary: "How the node is, for people",
        description: "From counters, at most a second old; counts are since the node started.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The node as it is now.",
            media: "application/json",
            schema: "NodeStatus",
            headers: &[],
            examples: schemas::status_examples,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "followTail",
        method: "get",
        path: "/api/v1/tail",
        tag: WATCHING,
        summary: "Watch turns",
        description: "Server-sent events without an end: `step` for each turn of the key's organisations that is \
            accepted, claimed or ended on this node from now on, and `gap` with the number of steps that came too \
            fast. Nothing is stored: a reader that comes back goes on with what happens then.",
        parameters: &["OrgId", "TailUserId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The steps; the data of `step` is a TailStep.",
            media: "text/event-stream",
            schema: "TailStep",
            headers: &["Cache-Control"],
            examples: schemas::tail_examples,
            links: &[],
        }],
        codes: &[Code::InvalidContent, Code::Overloaded],
    },
    Operation {
        id: "metrics",
        method: "get",
        path: "/metrics",
        tag: WATCHING,
        summary: "What the node has counted",
        description: "For Prometheus, in the OpenMetrics text format 1.0. No label comes from outside.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The page.",
            media: "application/openmetrics-text; version=1.0.0; charset=utf-8",
            schema: "Text",
            headers: &[],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "describe",
        method: "get",
        path: "/openapi.json",
        tag: DESCRIPTION,
        summary: "The API for programs",
        description: "This document (OpenAPI 3.1).",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The document.",
            media: "application/json",
            schema: "Document",
            headers: &[],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "describe_frames",
        method: "get",
        path: "/asyncapi.json",
        tag: DESCRIPTION,
        summary: "The WebSocket for programs",
        description: "The frames of /ws/connect (AsyncAPI 3.0).",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The document.",
            media: "application/json",
            schema: "Document",
            headers: &[],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "docs",
        method: "get",
        path: "/docs",
        tag: DESCRIPTION,
        summary: "The API for people",
        description: "A page that shows this document. It loads nothing from elsewhere.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The page.",
            media: "text/html; charset=utf-8",
            schema: "Text",
            headers: &["Content-Security-Policy"],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "docsScript",
        method: "get",
        path: "/docs/docs.js",
        tag: DESCRIPTION,
        summary: "The script of the page",
        description: "An ES module without dependencies.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The script.",
            media: "text/javascript; charset=utf-8",
            schema: "Text",
            headers: &[],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[],
    },
    Operation {
        id: "docsStyle",
        method: "get",
        path: "/docs/docs.css",
        tag: DESCRIPTION,
        summary: "The style of the page",
        description: "Light and dark.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The style sheet.",
            media: "text/css; charset=utf-8",
            schema: "Text",
            headers: &[],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[],
    },
];
