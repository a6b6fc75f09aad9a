//! What is said about WebSocket connections. Their frames are not OpenAPI's:
//! they are told in words, and in docs/operations.md.

use super::answers::Success;
use super::operations::Operation;
use super::schemas::{self, NOON, add, examples, value};
use crate::limits::{CONNECTIONS_PAGE_MAX, CONNECTIONS_PAGE_USUAL, ID_BYTES_MAX};
use serde_json::{Map, Value, json};
use turnwise_api::{
    Code, ConnectionAnswer, ConnectionList, ConnectionState, ConnectionStats, Rfc3339, TicketConnection,
    TicketStream, TicketTopics,
};

pub(super) const TAG: &str = "connections";
const ID: &str = "conn_3b1f9a7c25d08e64";

pub(super) fn tag() -> Value {
    json!({ "name": TAG, "description": "WebSocket connections: topics both ways, and who is connected." })
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        id: "connect",
        method: "get",
        path: "/ws/connect",
        tag: TAG,
        summary: "Open a WebSocket",
        description: "A WebSocket handshake (RFC 6455, version 13; no subprotocol, no extension). Frames are JSON \
            texts with a `type`; an `id` in one comes back in its answer. The first from here is `connected`. \
            `subscribe {topics, after?}`, `resume {topic, after}`, `unsubscribe {topics?}`, \
            `publish {topic, event_type, data?, dedup_key?}` and `ping` are answered by `subscribed`, \
            `unsubscribed`, `published`, `pong`, or by `error {code, message}`, after which the connection goes on. \
            Events come as `message {topic, place, position, event_type, timestamp, data | cloudevent}`; `place` is \
            good for `after` on any connection. `gap {resume}` says that events are no longer kept. A ping frame \
            and `ping` come every 30 seconds; 60 seconds after the client's last frame the connection is closed. \
            Close codes: 1001 the node stops, 1002, 1003, 1007 and 1009 as in RFC 6455, 1011 the store does not \
            answer, 1013 too many connections, 4401 the ticket is not good or the key was taken away, 4403 not what \
            the ticket is for, 4408 silent, 4409 too slow. Where it may go on, the reason ends with \
            `resume=` and a place. Who shows a key is refused by an HTTP answer.",
        parameters: &["TopicOrgId", "ConnectUserId", "ConnectWorkspaceId", "ConnectAgentId", "Ticket"],
        body: None,
        successes: &[Success {
            status: 101,
            description: "The connection is a WebSocket from here on.",
            media: "",
            schema: "",
            headers: &[],
            examples: schemas::none,
            links: &[],
        }],
        codes: &[Code::OrgForbidden, Code::UpgradeRequired, Code::InvalidContent, Code::Draining],
    },
    Operation {
        id: "listConnections",
        method: "get",
        path: "/ws/connections",
        tag: TAG,
        summary: "List connections",
        description: "This node's WebSocket connections, in the order in which they came.",
        parameters: &["ConnectionsAfter", "ConnectionsLimit"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "A page of them.",
            media: "application/json",
            schema: "ConnectionList",
            headers: &[],
            examples: list_examples,
            links: &[],
        }],
        codes: &[Code::InvalidContent],
    },
    Operation {
        id: "showConnection",
        method: "get",
        path: "/ws/connections/{connection_id}",
        tag: TAG,
        summary: "Look at a connection",
        description: "One of this node's.",
        parameters: &["ConnectionId"],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The connection as it is now.",
            media: "application/json",
            schema: "ConnectionAnswer",
            headers: &[],
            examples: one_examples,
            links: &[],
        }],
        codes: &[Code::NotFound],
    },
    Operation {
        id: "showConnectionStats",
        method: "get",
        path: "/ws/stats",
        tag: TAG,
        summary: "Count connections",
        description: "This node's WebSocket connections in numbers.",
        parameters: &[],
        body: None,
        successes: &[Success {
            status: 200,
            description: "The numbers.",
            media: "application/json",
            schema: "ConnectionStats",
            headers: &[],
            examples: stats_examples,
            links: &[],
        }],
        codes: &[],
    },
];

pub(super) fn parameters(all: &mut Map<String, Value>) {
    let id = json!({ "type": "string", "minLength": 1, "maxLength": ID_BYTES_MAX });
    let query = |name: &str, about: &str, schema: &Value, example: Value| json!({ "name": name, "in": "query", "description": about, "schema": schema, "example": example });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": CONNECTIONS_PAGE_MAX, "default": CONNECTIONS_PAGE_USUAL });
    let after = json!({ "type": "string", "pattern": "^[0-9]{0,20}$" });
    let named = [
        ("ConnectUserId", query("user_id", "Whose connection it is.", &id, json!("alice"))),
        (
            "ConnectWorkspaceId",
            query("workspace_id", "The workspace it takes part in.", &id, json!("support")),
        ),
        ("ConnectAgentId", query("agent_id", "The agent it is.", &id, json!("planner"))),
        ("ConnectionsAfter", query("after", "`next` of the page before.", &after, json!("17"))),
        ("ConnectionsLimit", query("limit", "Connections on a page.", &limit, json!(10))),
        (
            "ConnectionId",
            json!({
                "name": "connection_id", "in": "path", "required": true,
                "description": "As its `connected` frame named it.",
                "schema": { "type": "string" }, "example": ID,
            }),
        ),
    ];
    all.extend(named.map(|(name, parameter)| (name.to_owned(), parameter)));
}

pub(super) fn schemas(all: &mut Map<String, Value>) {
    add::<ConnectionAnswer>(all);
    add::<ConnectionList>(all);
    add::<ConnectionState>(all);
    add::<ConnectionStats>(all);
    add::<TicketConnection>(all);
    add::<TicketStream<'_>>(all);
    add::<TicketTopics>(all);
}

fn connection() -> ConnectionAnswer {
    ConnectionAnswer {
        connection_id: ID.to_owned(),
        org_id: "acme".to_owned(),
        user_id: Some("alice".to_owned()),
        workspace_id: None,
        agent_id: Some("planner".to_owned()),
        subscriptions: vec!["orders.*".to_owned()],
        state: ConnectionState::Connected,
        connected_at: Rfc3339(NOON),
        duration_seconds: 12.5,
    }
}

fn one_examples() -> Value {
    examples(&[("connection", value(&connection()))])
}

fn list_examples() -> Value {
    let page = ConnectionList { total_connections: 1, connections: vec![connection()], next: None };
    examples(&[("one", value(&page))])
}

fn stats_examples() -> Value {
    let stats = ConnectionStats {
        total_connections: 3,
        unique_users: 2,
        unique_workspaces: 1,
        unique_agents: 2,
        active_topics: 4,
    };
    examples(&[("numbers", value(&stats))])
}
