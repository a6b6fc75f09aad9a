//! `/asyncapi.json`: the frames of `/ws/connect` described (AsyncAPI 3.0), put together from a table of them.

mod frames;

use crate::error::Failure;
use crate::openapi;
use axum::response::Response;
use bytes::Bytes;
use frames::{AGENT, AGENT_MESSAGE, Field, Form, Frame, OF_CLIENTS, OF_SERVER};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const ABOUT: &str = "\
One WebSocket for topics and the agents' bus. Every frame is a JSON text with a type. A client's frame may carry an id, \
which comes back in the answer; a frame that cannot be followed is answered with an error frame, and the connection \
goes on. The HTTP API is described in /openapi.json.";

/// GET `/asyncapi.json`.
pub(crate) async fn show() -> Result<Response, Failure> {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(text()));
    Ok(openapi::served(TEXT.clone()))
}

/// The document as it is served: indented, keys in order, so that two versions can be compared.
#[must_use]
pub fn text() -> String {
    let text = serde_json::to_string_pretty(&document()).expect("a tree of JSON values is JSON");
    text + "\n"
}

fn document() -> Value {
    let mut messages = Map::new();
    for (side, frames) in [("client", OF_CLIENTS), ("server", OF_SERVER)] {
        messages.extend(frames.iter().map(|frame| (key(side, frame.name), message(side, frame))));
    }
    let in_channel =
        |side: &str, name: &str| json!({ "$ref": format!("#/channels/ws/messages/{}", key(side, name)) });
    let refer = |name: &String| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") }));
    let of_channel: Map<String, Value> = messages.keys().map(refer).collect();
    let channel = json!({ "$ref": "#/channels/ws" });
    let mut operations = Map::new();
    for frame in OF_CLIENTS {
        let mut operation = json!({
            "action": "receive",
            "channel": channel,
            "summary": frame.about,
            "messages": [in_channel("client", frame.name)],
        });
        if !frame.answers.is_empty() {
            let answers = frame.answers.iter().chain(&["error"]);
            let answers: Vec<Value> = answers.map(|name| in_channel("server", name)).collect();
            if let Some(operation) = operation.as_object_mut() {
                operation.insert("reply".to_owned(), json!({ "channel": channel, "messages": answers }));
            }
        }
        operations.insert(key("client", frame.name), operation);
    }
    let told: Vec<Value> = OF_SERVER.iter().map(|frame| in_channel("server", frame.name)).collect();
    let told = json!({ "action": "send", "channel": channel, "summary": "What the server tells.", "messages": told });
    operations.insert("server".to_owned(), told);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Turnwise",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "here": {
                "host": "127.0.0.1:8000",
                "protocol": "ws",
                "security": [{ "$ref": "#/components/securitySchemes/key" }],
            },
        },
        "channels": { "ws": channel_of(of_channel) },
        "operations": operations,
        "components": {
            "messages": messages,
            "schemas": { "AgentMessage": schema(None, AGENT_MESSAGE) },
            "securitySchemes": {
                "key": { "type": "httpApiKey", "in": "header", "name": "X-API-Key" },
            },
        },
    })
}

/// The address, and what may be said on the handshake.
fn channel_of(messages: Map<String, Value>) -> Value {
    let query = [
        ("org_id", "The organisation; may be left out with a key for only one."),
        ("agent_id", "The agent that the connection is; without one it only follows topics."),
        ("user_id", "The user it is for."),
        ("workspace_id", "The workspace of the agent."),
        ("sharing", "all or compete: how connections of one agent share its inbox."),
        ("presence", "true: be told which agents of the workspace come and go."),
        ("ticket", "In the place of a key, from POST /api/v1/tickets."),
    ];
    let properties: Map<String, Value> = query
        .iter()
        .map(|(name, about)| ((*name).to_owned(), json!({ "type": "string", "description": about })))
        .collect();
    json!({
        "address": "/ws/connect",
        "messages": messages,
        "bindings": {
            "ws": { "method": "GET", "query": { "type": "object", "properties": properties }, "bindingVersion": "0.1.0" },
        },
    })
}

/// How a frame is called in the document.
fn key(side: &str, name: &str) -> String {
    format!("{side}.{name}")
}

fn message(side: &str, frame: &Frame) -> Value {
    let kind = if frame.name == AGENT { "message" } else { frame.name };
    json!({
        "name": kind,
        "title": format!("{} ({side})", frame.name),
        "summary": frame.about,
        "payload": schema(Some(kind), frame.fields),
    })
}

fn schema(kind: Option<&str>, fields: &[Field]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some(kind) = kind {
        properties.insert("type".to_owned(), json!({ "type": "string", "const": kind }));
        required.push("type");
    }
    for field in fields {
        properties.insert(field.name.to_owned(), form(field));
    }
    required.extend(fields.iter().filter(|field| field.is_required).map(|field| field.name));
    json!({ "type": "object", "properties": properties, "required": required })
}

fn form(field: &Field) -> Value {
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let mut form = match field.form {
        Form::Text => json!({ "type": ["string", "null"] }),
        Form::Texts => texts(),
        Form::TextsOrAll => json!({ "oneOf": [texts(), { "type": "string", "const": "all" }] }),
        Form::Any => json!({}),
        Form::Object => json!({ "type": "object" }),
        Form::Whole => json!({ "type": "integer" }),
        Form::Number => json!({ "type": "number" }),
        Form::AgentMessage => json!({ "$ref": "#/components/schemas/AgentMessage" }),
        Form::Flag => json!({ "type": "boolean" }),
        Form::Time => json!({ "type": ["string", "null"], "format": "date-time" }),
    };
    if let Some(form) = form.as_object_mut() {
        form.insert("description".to_owned(), field.about.into());
    }
    form
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use std::collections::BTreeSet;
    use turnwise_api::{AgentMessage, Rfc3339, ServerFrame, Topics};

    #[test]
    fn every_answer_is_a_frame_of_the_server_and_no_name_comes_twice() {
        let told: BTreeSet<&str> = OF_SERVER.iter().map(|frame| frame.name).collect();
        assert_eq!(told.len(), OF_SERVER.len());
        for frame in OF_CLIENTS {
            assert!(frame.answers.iter().all(|answer| told.contains(answer)), "{}", frame.name);
        }
        for frame in OF_CLIENTS.iter().chain(OF_SERVER) {
            let names: BTreeSet<&str> = frame.fields.iter().map(|field| field.name).collect();
            assert_eq!(names.len(), frame.fields.len(), "{}", frame.name);
        }
    }

    /// Of each kind of frame one with all that it may hold; those of agents are apart.
    fn whole_frames() -> Vec<ServerFrame<'static>> {
        let (id, at, word) = (Some("1"), Rfc3339(0), "x");
        let json: &'static RawValue = serde_json::from_str("{}").expect("JSON");
        let topics: &'static [String] = &[];
        vec![
            ServerFrame::Connected { connection_id: word, timestamp: at },
            ServerFrame::Subscribed { topics, place: word, id },
            ServerFrame::Unsubscribed { topics: Topics::Some(topics), id },
            ServerFrame::Published { topic: word, position: word, subscribers: 1, id },
            ServerFrame::Message {
                topic: word,
                place: word,
                position: word,
                event_type: word,
                timestamp: at,
                data: Some(json),
                cloudevent: Some(json),
            },
            ServerFrame::Gap { resume: word },
            ServerFrame::Ping { timestamp: at },
            ServerFrame::Pong { timestamp: at, id },
            ServerFrame::Error { message: word, code: word, retry_after: Some(1), id },
        ]
    }

    fn whole_agent_frames() -> Vec<ServerFrame<'static>> {
        let (id, at, word) = (Some("1"), Rfc3339(0), "x");
        let json: &'static RawValue = serde_json::from_str("{}").expect("JSON");
        let data = AgentMessage {
            from_agent: word,
            to_agent: Some(word),
            workspace_id: Some(word),
            topic: Some(word),
            content: json,
            message_type: word,
            message_id: word,
            timestamp: 0.0,
            priority: 4,
            metadata: json,
            delivery_mode: word,
            correlation_id: Some(word),
            in_reply_to: Some(word),
            expires_at: Some(at),
        };
        vec![
            ServerFrame::AgentMessage { data, queued: true, attempt: Some(1), lease_expires_at: Some(at) },
            ServerFrame::Sent {
                message_id: word,
                duplicate: false,
                recipients: 1,
                queued: 1,
                bounced: 0,
                state: Some(word),
                offline_since: Some(at),
                id,
            },
            ServerFrame::Broadcast {
                workspace_id: word,
                recipient_count: 1,
                queued: 0,
                message_id: word,
                id,
            },
            ServerFrame::Settled { message_id: word, status: word, id },
            ServerFrame::Reply {
                in_reply_to: word,
                message_id: word,
                from_agent: word,
                content: json,
                metadata: Some(json),
                id,
            },
            ServerFrame::Receipt {
                message_id: word,
                agent_id: word,
                state: word,
                at,
                offline_since: Some(at),
                reason: Some(word),
                id,
            },
            ServerFrame::Presence { agent_id: word, online: true, since: Some(at), id },
        ]
    }

    #[test]
    fn what_is_sent_is_what_is_described() {
        let keys = |value: &Value| -> BTreeSet<String> {
            value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
        };
        let told: Vec<Value> = whole_frames()
            .iter()
            .chain(&whole_agent_frames())
            .map(|frame| serde_json::to_value(frame).expect("JSON"))
            .collect();
        assert_eq!(told.len(), OF_SERVER.len());
        for frame in OF_SERVER {
            let described = schema(Some(frame.name), frame.fields);
            let kind = if frame.name == AGENT { "message" } else { frame.name };
            let is_it = |told: &&Value| {
                told.get("type").and_then(Value::as_str) == Some(kind)
                    && (kind != "message" || told.get("queued").is_some() == (frame.name == AGENT))
            };
            let sent = told.iter().find(is_it).unwrap_or_else(|| panic!("{} is never sent", frame.name));
            let properties = described.get("properties").expect("an object");
            assert_eq!(keys(sent), keys(properties), "{}", frame.name);
        }
        let agent =
            told.iter().find_map(|told| told.get("data").filter(|data| data.get("from_agent").is_some()));
        let described = schema(None, AGENT_MESSAGE);
        assert_eq!(keys(agent.expect("a message")), keys(described.get("properties").expect("an object")));
    }
}
