//! `/openapi.json`: the API described (OpenAPI 3.1), put together from the
//! shapes of `turnwise-api`, its list of codes and the table of operations.

mod answers;
mod bus;
mod bus_examples;
mod callbacks;
mod operations;
mod parameters;
mod queue_examples;
mod queues;
mod schemas;
mod sockets;
mod streams;
mod topics;

use crate::error::Failure;
use crate::held::Shared;
use crate::router;
use crate::scope::Access;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use operations::Operation;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// Shown at the head of the document.
const ABOUT: &str = "\
A durable queue between chat clients and an AI agent: every conversation in order, one turn at a time, answers \
streamed and resumable. Beside it, work queues for services, topics, and a bus for agents.

Every answer carries `X-Request-Id`. Every error is `application/problem+json` (RFC 9457) with a stable `code`; what \
`retryable` and `Retry-After` say may be relied on. Requests that are not HTTP/1.1 to the letter (RFC 9112) are \
answered with 400, 408, 414, 431, 503 or 505 and the connection is closed, on every path.

Unknown fields of a body and unknown query parameters are ignored, but for the fields of callbacks, queues and the bus. A known field that comes twice is refused.";

/// GET `/openapi.json`.
pub(crate) async fn show() -> Result<Response, Failure> {
    static TEXT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(text()));
    Ok(served(TEXT.clone()))
}

/// A description, as an answer.
pub(crate) fn served(text: Bytes) -> Response {
    let mut response = Response::new(Body::from(text));
    response.extensions_mut().insert(Shared);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The document as it is served: indented, keys in order, so that two versions can be compared.
#[must_use]
pub fn text() -> String {
    let text = serde_json::to_string_pretty(&document()).expect("a tree of JSON values is JSON");
    text + "\n"
}

fn document() -> Value {
    let mut paths = Map::new();
    for route in router::routes() {
        let method = route.method.as_str().to_ascii_lowercase();
        let Some(operation) = operations::find(&method, route.path) else { continue };
        // What takes up the rest of a path is a name like any other here.
        let path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(method, described(operation, route.access));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Turnwise",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": "MIT", "identifier": "MIT" },
        },
        "servers": [{ "url": "/", "description": "This server" }],
        "tags": operations::tags(),
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "parameters": parameters::all(),
            "headers": answers::headers(),
            "examples": answers::examples(),
            "securitySchemes": {
                "apiKey": {
                    "type": "apiKey", "in": "header", "name": "X-API-Key",
                    "description": "A key from `turnwise keys new`, or the value of BROKER_API_KEY.",
                },
                "bearer": {
                    "type": "http", "scheme": "bearer", "description": "The same keys, as a bearer token.",
                },
            },
        },
    })
}

fn described(operation: &Operation, access: Access) -> Value {
    let parameters: Vec<Value> = operation
        .parameters
        .iter()
        .chain(&["RequestId"])
        .map(|name| json!({ "$ref": format!("#/components/parameters/{name}") }))
        .collect();
    let mut described = json!({
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": parameters,
        "responses": answers::of(operation, access),
        "security": match access.scope() {
            None => json!([]),
            Some(scope) => json!([{ "apiKey": [scope.name()] }, { "bearer": [scope.name()] }]),
        },
    });
    if let (Some(body), Some(described)) = (operation.body, described.as_object_mut()) {
        described.insert(
            "requestBody".to_owned(),
            json!({ "required": operation.id != queues::CLAIM, "content": { "application/json": {
                "schema": schemas::reference(body.schema), "examples": (body.examples)(),
            }}}),
        );
        topics::media(operation.id, described);
    }
    if let Some(described) = described.as_object_mut() {
        streams::media(operation.id, described);
    }
    described
}

#[cfg(test)]
mod tests {
    #![expect(clippy::indexing_slicing, reason = "a test may stop where it fails")]
    use super::*;
    use crate::held::Room;
    use crate::limits;
    use std::collections::BTreeSet;
    use turnwise_api::Code;

    /// Every reference of the document and where it leads.
    fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::String(target) if key == "$ref" => drop(found.insert(target)),
                        value => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_part_is_used() {
        let document = document();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        let mut parts = BTreeSet::new();
        for kind in ["schemas", "parameters", "headers", "examples"] {
            let named = document["components"][kind].as_object().expect("an object");
            parts.extend(named.keys().map(|name| format!("#/components/{kind}/{name}")));
        }
        assert_eq!(found.into_iter().map(str::to_owned).collect::<BTreeSet<_>>(), parts);
    }

    #[tokio::test]
    async fn the_document_takes_no_room_from_answers() {
        assert!(text().len() > limits::SMALL_ANSWER_BYTES_MAX);
        let full = Room::new(0);
        let Ok(document) = show().await else { panic!("it is there") };
        assert_eq!(full.hold_answer(document).await.status(), http::StatusCode::OK);
        let other = full.hold_answer(Response::new(Body::from(text()))).await;
        assert_eq!(other.status(), http::StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn every_operation_is_said_of_a_route() {
        let routes = router::routes();
        for operation in operations::all() {
            let is_it = |route: &router::RouteInfo| {
                route.path == operation.path && route.method.as_str().eq_ignore_ascii_case(operation.method)
            };
            assert!(routes.iter().any(is_it), "{} {}", operation.method, operation.path);
        }
    }

    #[test]
    fn every_code_is_an_answer_of_some_operation() {
        let answered = |code: Code| {
            operations::all().any(|o| answers::codes(o, Access::Read).any(|other| other == code))
        };
        let missing: Vec<_> = Code::ALL
            .into_iter()
            .filter(|code| !answered(*code) && *code != Code::MethodNotAllowed)
            .map(Code::name)
            .collect();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn the_numbers_of_the_document_are_the_limits() {
        let schemas = schemas::all();
        let properties = &schemas["MessageRequest"]["properties"];
        for id in ["user_id", "org_id", "client_message_id", "chat_id", "thread_id"] {
            assert_eq!(properties[id]["maxLength"], limits::ID_BYTES_MAX, "{id}");
        }
        for label in ["audio_format", "speaker", "response_language_hint"] {
            assert_eq!(properties[label]["maxLength"], limits::LABEL_BYTES_MAX, "{label}");
        }
        let client = properties["client_id"]["pattern"].as_str().expect("a pattern");
        assert!(client.contains(&format!("{{1,{}}}", limits::CLIENT_ID_BYTES_MAX)), "{client}");
        let audio = properties["audio_base64"]["description"].as_str().expect("a description");
        assert!(audio.contains(&format!("{} MB", limits::AUDIO_BYTES_MAX / 1_000_000)), "{audio}");
        let metadata = properties["metadata"]["description"].as_str().expect("a description");
        assert!(metadata.contains(&format!("{} KiB", limits::METADATA_BYTES_MAX / 1024)), "{metadata}");
    }
}
