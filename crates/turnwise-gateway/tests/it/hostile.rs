//! Bodies and paths made to hurt: each is refused, quickly, by one request's
//! own answer.

use crate::client::{Call, call, get, post};
use crate::node::{Node, body, node};

async fn refused(node: &Node, name: &str, call: Call, status: u16, code: &str) {
    let reply = node.send(&call).await;
    assert_eq!(reply.status, status, "{name}: {}", reply.text());
    reply.assert_problem(status, code);
}

/// A submission with one more field.
fn with(field: &str) -> String {
    body("x").replacen('{', &format!("{{{field},"), 1)
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

#[tokio::test]
async fn json_that_would_trip_a_reader_is_refused() {
    let node = node(|_| {}).await;
    let million = 1_000_000;
    let keys: Vec<String> = (0..million).map(|n| format!("\"k{n}\":0")).collect();
    let rows = [
        ("not JSON: depth 129", with(&format!("\"a\":{}", nested(129))), 400, "not_json"),
        ("depth 10,000", with(&format!("\"a\":{}", nested(10_000))), 400, "not_json"),
        ("depth 1,000,000", with(&format!("\"a\":{}", nested(million))), 400, "not_json"),
        ("depth 1,000,000, never closed", "[".repeat(million), 422, "invalid_content"),
        ("objects 10,000 deep, never closed", "{\"a\":".repeat(10_000), 400, "not_json"),
        ("metadata of depth 129", with(&format!("\"metadata\":{}", nested(129))), 422, "invalid_content"),
        ("metadata of depth 8,000", with(&format!("\"metadata\":{}", nested(8_000))), 422, "invalid_content"),
        (
            "metadata of depth 1,000,000",
            with(&format!("\"metadata\":{}", nested(million))),
            422,
            "invalid_content",
        ),
        ("a text of depth 10,000", with(&format!("\"speaker\":{}", nested(10_000))), 422, "invalid_content"),
        ("1,000,000 keys", with(&keys.join(",")), 422, "invalid_content"),
        ("a text of 10 MiB", body(&"x".repeat(10 * 1024 * 1024)), 422, "invalid_content"),
        (
            "an id of 10 MiB",
            body("x").replace("\"u\"", &format!("\"{}\"", "u".repeat(10 * 1024 * 1024))),
            422,
            "invalid_content",
        ),
        ("1e400", with("\"a\":1e400"), 400, "not_json"),
        ("1e400 in metadata", with("\"metadata\":{\"a\":1e400}"), 422, "invalid_content"),
        ("NaN", with("\"a\":NaN"), 400, "not_json"),
        ("Infinity", with("\"a\":-Infinity"), 400, "not_json"),
        ("a number with a leading zero", with("\"a\":01"), 400, "not_json"),
        ("a lone high surrogate", body("\\ud800"), 400, "not_json"),
        ("a lone low surrogate", body("\\udc00 x"), 400, "not_json"),
        ("a lone surrogate in an unknown field", with("\"a\":\"\\ud800\""), 400, "not_json"),
        ("a lone surrogate in metadata", with("\"metadata\":\"\\ud800\""), 422, "invalid_content"),
        ("a lone surrogate in a key", with("\"\\ud800\":1"), 400, "not_json"),
        ("user_id twice", with("\"user_id\":\"u\""), 422, "invalid_content"),
        ("user_id twice, once escaped", with("\"user\\u005fid\":\"other\""), 422, "invalid_content"),
        ("org and org_id", with("\"org\":\"other\""), 422, "invalid_content"),
        ("metadata twice", with("\"metadata\":1,\"metadata\":2"), 422, "invalid_content"),
        ("something behind it", format!("{}x", body("x")), 400, "not_json"),
        ("two objects", format!("{}{}", body("x"), body("y")), 400, "not_json"),
        ("a byte order mark", format!("\u{feff}{}", body("x")), 400, "not_json"),
        ("a comment", format!("{}/* */", body("x")), 400, "not_json"),
        ("a comma at the end", body("x").replace('}', ",}"), 400, "not_json"),
        ("single quotes", body("x").replace('"', "'"), 400, "not_json"),
        ("a raw line break in a text", body("a\nb"), 400, "not_json"),
        ("half an escape", body("\\u12"), 400, "not_json"),
        ("a list", format!("[{}]", body("x")), 422, "invalid_content"),
    ];
    for (name, body, status, code) in rows {
        refused(&node, name, post(&body), status, code).await;
    }
    let mut latin = post(&body("x"));
    latin = latin.wire_body(body("\u{e9}").chars().map(|c| c as u8).collect());
    refused(&node, "Latin-1", latin.header("Content-Length", &body("x").len().to_string()), 400, "not_json")
        .await;
    let queue = node.send(&get("/api/v1/queue/u")).await.json();
    assert_eq!(queue["queue_length"], 0, "nothing was stored: {queue}");
}

#[tokio::test]
async fn packed_bodies_are_refused_unread() {
    let node = node(|_| {}).await;
    for coding in ["gzip", "br", "zstd", "deflate", "gzip, gzip", "x-gzip", "identity, gzip"] {
        let packed = post(&body("x")).header("Content-Encoding", coding);
        refused(&node, coding, packed, 415, "unsupported_media_type").await;
        let announced = post("").header("Content-Encoding", coding).header("Content-Length", "1000000");
        refused(&node, coding, announced, 415, "unsupported_media_type").await;
    }
    let plain = post(&body("x")).header("Content-Encoding", "identity").header("Prefer", "respond-async");
    assert_eq!(node.send(&plain).await.status, 200);
}

#[tokio::test]
async fn bodies_of_another_kind_are_refused() {
    let node = node(|_| {}).await;
    for kind in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
        "*/*",
        "application/json, text/plain",
        "text/json",
    ] {
        refused(&node, kind, post(&body("x")).header("Content-Type", kind), 415, "unsupported_media_type")
            .await;
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_reaches_another_route() {
    let node = node(|_| {}).await;
    let unknown = [
        "//livez",
        "/livez/",
        "/livez//",
        "/./livez",
        "/x/../livez",
        "/..%2flivez",
        "/%2e%2e/livez",
        "/livez%00",
        "/livez%0a",
        "/livez;x=y",
        "/livez%3bx",
        "/livez%20",
        "/%6civez",
        "/LIVEZ",
        "/livez%2f",
        "/livez/..",
        "/api/v1/../../livez",
        "/api//v1/message/x",
        "/api/v1/message//x",
        "/api/v1/message/x/",
        "/api/v1/message/%00",
        "/api/v1/message/..%2f..%2fhealth",
        "/api/v1/message/../queue/u",
        "/api%2fv1%2fqueue%2fu",
        "/api/v1/queue/",
        "/api/v1/queue/u/",
        "/api/v1/queue/u/..",
        "/api/v1/queue/../../../livez",
        "/api/v1/message;/x",
        "/api/v1/stream/",
        "/api/v1/%73tream?user_id=u&message_id=x",
    ];
    for path in unknown {
        refused(&node, path, get(path), 404, "not_found").await;
    }
    for path in ["/api/v1/queue/%00", "/api/v1/queue/a%0d%0ab", "/api/v1/queue/%ff", "/api/v1/queue/%1b[31m"]
    {
        refused(&node, path, get(path), 422, "invalid_content").await;
    }
    // What is a user's id here stays one, whatever it looks like.
    let reply = node.send(&get("/api/v1/queue/..%2f..%2f..%2flivez")).await;
    assert_eq!((reply.status, reply.json()["user_id"].as_str()), (200, Some("../../../livez")));
}

#[tokio::test]
async fn wrong_methods_name_the_right_ones() {
    let node = node(|_| {}).await;
    for (method, path, allow) in [
        ("GET", "/api/v1/message", "POST"),
        ("PUT", "/api/v1/message/x", "GET,HEAD,DELETE"),
        ("POST", "/api/v1/stream", "GET,HEAD"),
        ("DELETE", "/api/v1/queue/u", "GET,HEAD"),
        ("TRACE", "/livez", "GET,HEAD"),
        ("get", "/livez", "GET,HEAD"),
    ] {
        let reply = node.send(&call(method, path)).await;
        reply.assert_problem(405, "method_not_allowed");
        assert_eq!(reply.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn places_in_a_stream_that_are_none_are_refused() {
    let node = node(|_| {}).await;
    let id = node.submit("x").await;
    let path = format!("/api/v1/stream?user_id=u&message_id={id}");
    for place in [
        "-1",
        "1000000000",
        "1-",
        "-1-1",
        "1-18446744073709551616",
        "1e9-1",
        "0x1-1",
        "..",
        "1-1%00",
        &"9".repeat(1_000),
    ] {
        refused(&node, place, get(&format!("{path}&after={place}")), 422, "invalid_content").await;
        if !place.contains('%') {
            refused(&node, place, get(&path).header("Last-Event-ID", place), 422, "invalid_content").await;
        }
    }
}
