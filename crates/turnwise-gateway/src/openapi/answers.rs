//! The answers of an operation: what it answers when it works, and a problem
//! per status with every code that may be in it.

use super::operations::Operation;
use super::schemas::{self, reference};
use crate::scope::Access;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use turnwise_api::problem::PROBLEM_JSON;
use turnwise_api::{Code, Problem};

/// What an operation answers when it works.
pub(super) struct Success {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// Empty for an answer without a body.
    pub(super) media: &'static str,
    pub(super) schema: &'static str,
    /// Names in `components.headers`, besides the one that all have.
    pub(super) headers: &'static [&'static str],
    pub(super) examples: fn() -> Value,
    /// Operations that go on from here with the turn's id.
    pub(super) links: &'static [&'static str],
}

/// What every request may get.
const ANY: [Code; 8] = [
    Code::BadRequest,
    Code::KeyInQuery,
    Code::HostForbidden,
    Code::OriginForbidden,
    Code::UriTooLong,
    Code::HeadersTooLarge,
    Code::Internal,
    Code::HttpVersionUnsupported,
];
/// What a request may get where a key is asked for.
const KEYED: [Code; 4] = [Code::MissingKey, Code::InvalidKey, Code::ScopeMissing, Code::RateLimited];

/// Every code an operation may answer.
pub(super) fn codes(operation: &Operation, access: Access) -> impl Iterator<Item = Code> {
    let keyed: &[Code] = if access == Access::Open { &[] } else { &KEYED };
    ANY.iter().chain(keyed).chain(operation.codes).copied()
}

/// The `responses` of an operation.
pub(super) fn of(operation: &Operation, access: Access) -> Value {
    let mut responses = Map::new();
    for success in operation.successes {
        responses.insert(success.status.to_string(), success_answer(success, access));
    }
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes(operation, access) {
        if code == Code::AgentRejected {
            // The one code whose status is somebody else's choice.
            responses.insert("4XX".to_owned(), problem_answer(None, &[code]));
        } else {
            by_status.entry(code.status()).or_default().push(code);
        }
    }
    for (status, codes) in by_status {
        responses.insert(status.to_string(), problem_answer(Some(status), &codes));
    }
    Value::Object(responses)
}

/// The headers of an answer that counts against a rate.
const RATED: [&str; 2] = ["RateLimit", "RateLimit-Policy"];

fn success_answer(success: &Success, access: Access) -> Value {
    let rated: &[&str] = if access == Access::Open { &[] } else { &RATED };
    let headers = [success.headers, rated].concat();
    let mut answer = json!({ "description": success.description, "headers": header_references(&headers) });
    let Some(fields) = answer.as_object_mut() else { return answer };
    if !success.media.is_empty() {
        let mut content = json!({ "schema": reference(success.schema) });
        let examples = (success.examples)();
        if let (false, Some(content)) = (examples.is_null(), content.as_object_mut()) {
            content.insert("examples".to_owned(), examples);
        }
        if success.schema == "StreamEvent" {
            fields.insert("x-turnwise-events".to_owned(), schemas::events());
        }
        fields.insert("content".to_owned(), json!({ success.media: content }));
    }
    if !success.links.is_empty() {
        let links: Map<String, Value> =
            success.links.iter().map(|target| ((*target).to_owned(), link(target))).collect();
        fields.insert("links".to_owned(), links.into());
    }
    answer
}

/// Where one can go with the turn's id from the answer.
fn link(target: &str) -> Value {
    let (id, user) = ("$response.body#/message_id", "$request.body#/user_id");
    let parameters = match target {
        "followStream" => json!({ "message_id": id, "user_id": user }),
        "showQueue" => json!({ "user_id": user }),
        _ => json!({ "message_id": id }),
    };
    json!({ "operationId": target, "parameters": parameters })
}

fn problem_answer(status: Option<u16>, codes: &[Code]) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    let lines: Vec<String> =
        codes.iter().map(|code| format!("`{}`: {}. {}", code.name(), code.title(), code.hint())).collect();
    let mut narrowed = json!({ "code": { "enum": names } });
    if let (Some(status), Some(narrowed)) = (status, narrowed.as_object_mut()) {
        narrowed.insert("status".to_owned(), json!({ "const": status }));
    }
    let examples: Map<String, Value> = names
        .iter()
        .map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/examples/{name}") })))
        .collect();
    let mut headers = Vec::new();
    if codes.contains(&Code::MissingKey) {
        headers.push("WWW-Authenticate");
    }
    if codes.contains(&Code::RateLimited) {
        headers.extend(RATED);
    }
    if codes.iter().any(|code| *code == Code::RateLimited || code.retry_after().is_some()) {
        headers.push("Retry-After");
    }
    json!({
        "description": lines.join("\n\n"),
        "headers": header_references(&headers),
        "content": { PROBLEM_JSON: {
            "schema": { "allOf": [reference("Problem"), { "properties": narrowed }] },
            "examples": examples,
        }},
    })
}

/// A problem of every code but one, by name.
pub(super) fn examples() -> Value {
    let shown = Code::ALL.into_iter().filter(|code| *code != Code::MethodNotAllowed);
    let named = shown.map(|code| (code.name().to_owned(), json!({ "value": example(code) })));
    named.collect::<Map<String, Value>>().into()
}

fn example(code: Code) -> Value {
    let mut problem = Problem::new(code, code.title());
    problem.request_id = Some("00c0ffee00c0ffee-1f".to_owned());
    serde_json::to_value(problem).expect("a problem holds only strings and numbers")
}

fn header_references(names: &[&str]) -> Value {
    let all = names.iter().chain(&["X-Request-Id"]);
    all.map(|name| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") })))
        .collect::<Map<String, Value>>()
        .into()
}

/// Every header of an answer, by name.
pub(super) fn headers() -> Value {
    let mut all = common_headers();
    if let Some(all) = all.as_object_mut() {
        super::streams::headers(all);
    }
    all
}

fn common_headers() -> Value {
    let text = |description: &str, example: &str| json!({ "description": description, "schema": { "type": "string" }, "example": example });
    let mut id =
        text("The request's id: the client's own if it sent one, else a new one.", "00c0ffee00c0ffee-1f");
    if let Some(id) = id.as_object_mut() {
        id.insert("required".to_owned(), true.into());
    }
    json!({
        "X-Request-Id": id,
        "Retry-After": {
            "description": "Seconds after which the same request may succeed. Not there when waiting does not help.",
            "schema": { "type": "integer", "minimum": 0 }, "example": 5,
        },
        "RateLimit": text(
            "What is left of each rate, and in how many seconds all of it is there again. Only where rates are set.",
            "\"key\";r=3;t=1",
        ),
        "RateLimit-Policy": text("The rates: so many requests in so many seconds.", "\"key\";q=4;w=2"),
        "WWW-Authenticate": text("How to send a key.", "ApiKey header=\"X-API-Key\", Bearer"),
        "Preference-Applied": text("Which preference was heeded (RFC 7240).", "respond-async"),
        "Cache-Control": text("Answers are private and soon old.", "no-store"),
        "Content-Security-Policy": text("What the page may load: only its own files.", "default-src 'none'"),
    })
}
