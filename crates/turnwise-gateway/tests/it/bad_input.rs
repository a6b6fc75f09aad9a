//! Every way to be refused before anything is stored.

use crate::client::{Call, call, get, post};
use crate::node::{Node, body, node};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn check(call: Call, status: u16, code: &str, mentions: &str) {
    let node = node(|config| config.body_bytes_max = 1024).await;
    let reply = node.send(&call).await;
    reply.assert_problem(status, code);
    assert!(reply.text().contains(mentions), "{mentions} in {}", reply.text());
    let queue = node.send(&get("/api/v1/queue/u")).await.json();
    assert_eq!(queue["queue_length"], 0, "something was stored: {queue}");
}

#[tokio::test]
async fn bodies_that_are_not_json_or_not_announced_as_it() {
    check(post("{"), 400, "not_json", "line 1, column 1").await;
    check(post(""), 400, "not_json", "").await;
    check(post("user_id=u"), 400, "not_json", "").await;
    check(
        post(&body("x")).header("Content-Type", "text/plain"),
        415,
        "unsupported_media_type",
        "application/json",
    )
    .await;
    check(
        post(&body("x")).header("Content-Type", "application/x-www-form-urlencoded"),
        415,
        "unsupported_media_type",
        "",
    )
    .await;
}

#[tokio::test]
async fn bodies_that_are_too_large() {
    let long = body(&"x".repeat(2000));
    check(post(&long), 413, "body_too_large", "1024").await;
    // By its announced length, before anything of it comes.
    check(post("").header("Content-Length", "50000000"), 413, "body_too_large", "1024").await;
    // By count, when it comes in chunks.
    let mut chunks = Vec::new();
    for chunk in long.as_bytes().chunks(300) {
        chunks.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
        chunks.extend_from_slice(b"\r\n");
    }
    chunks.extend_from_slice(b"0\r\n\r\n");
    let chunked = post("").header("Content-Length", "").header("Transfer-Encoding", "chunked");
    check(chunked.wire_body(chunks), 413, "body_too_large", "1024").await;
}

/// What comes back for a POST with these headers and this body, and a second request behind it.
async fn two_on_one_connection(node: &Node, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(node.address).await.unwrap();
    let first = format!("POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}");
    let second = "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all((first + second).as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    answers
}

#[tokio::test]
async fn a_connection_ends_with_a_body_that_broke_off_and_not_with_one_that_is_wrong() {
    let node = node(|_| {}).await;
    let (whole, key) = (body("x"), "k".repeat(300));
    let headers = format!("Content-Length: {}\r\nIdempotency-Key: {key}\r\n", whole.len());
    let answers = two_on_one_connection(&node, &headers, &whole).await;
    let (first, second) = answers.split_once("HTTP/1.1 200 ").unwrap_or_else(|| panic!("{answers}"));
    assert!(first.starts_with("HTTP/1.1 400 ") && first.contains("bad_request"), "{first}");
    assert!(!first.contains("connection: close") && second.contains("connection: close"), "{answers}");
    let answers = two_on_one_connection(&node, "Transfer-Encoding: chunked\r\n", "zz\r\n").await;
    assert!(answers.starts_with("HTTP/1.1 400 ") && answers.contains("bad_request"), "{answers}");
    assert!(answers.contains("connection: close") && !answers.contains("HTTP/1.1 200 "), "{answers}");
}

#[tokio::test]
async fn content_that_breaks_a_rule() {
    check(post("{}"), 422, "invalid_content", r#"{"pointer":"/user_id","detail":"is required"}"#).await;
    check(post("[]"), 422, "invalid_content", "must be one JSON object").await;
    check(post(&body(" ")), 422, "invalid_content", "/message").await;
    check(post(&body("x").replace("web", "Web")), 422, "invalid_content", "/client_id").await;
    check(post(&body("x").replace("\"u\"", "\"u\\n\"")), 422, "invalid_content", "/user_id").await;
    check(
        post(&body("x").replace("{", "{\"message\":\"y\",")),
        422,
        "invalid_content",
        "must not be given twice",
    )
    .await;
    let callback = body("x").replace("{", "{\"callback_url\":\"https://example.org/\",");
    check(post(&callback), 422, "callbacks_unsupported", "/callback_url").await;
    let audio =
        body("").replace("{", "{\"message_type\":\"audio\",\"audio_base64\":\"!\",\"audio_format\":\"ogg\",");
    check(post(&audio), 422, "invalid_content", "/audio_base64").await;
    check(
        post(&body("x")).header("Idempotency-Key", &"k".repeat(257)),
        400,
        "bad_request",
        "Idempotency-Key must have 1 to 256",
    )
    .await;
}

#[tokio::test]
async fn routes_and_methods_that_are_not_there() {
    check(get("/"), 404, "not_found", "\"detail\":\"Not Found\"").await;
    check(get("/api/v1/message/"), 404, "not_found", "").await;
    check(get("/api/v1/message/none"), 404, "not_found", "").await;
    check(get("/api/v1/message/%ff"), 404, "not_found", "").await;
    check(get("/api/v1/queue/a%0ab"), 422, "invalid_content", "user_id").await;
    check(get("/api/v1/stream?user_id=u"), 422, "invalid_content", "?message_id").await;
    check(get("/api/v1/stream?user_id=u&message_id=x"), 404, "not_found", "").await;
    check(get("/health?api_key=secret"), 400, "key_in_query", "").await;
    for (path, allow) in
        [("/api/v1/message", "POST"), ("/api/v1/stream", "GET,HEAD"), ("/health", "GET,HEAD")]
    {
        let node = node(|_| {}).await;
        let reply = node.send(&call("PATCH", path)).await;
        reply.assert_problem(405, "method_not_allowed");
        assert_eq!(reply.json()["detail"], "Method Not Allowed");
        assert_eq!(reply.header("allow"), Some(allow));
    }
}

#[tokio::test]
async fn what_the_original_let_in_is_let_in() {
    let node = node(|_| {}).await;
    let check = async |call: Call| {
        let reply = node.send(&call.header("Prefer", "respond-async")).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    };
    check(post(&body("x")).header("Content-Type", "")).await;
    check(post(&body("x")).header("Content-Type", "Application/JSON; charset=utf-8")).await;
    check(post(&body("x").replace("{", "{\"callback_url\":null,\"else\":{\"a\":[1]},"))).await;
    check(post(&body("x").replace("org_id", "org").replace("web", "signal-gateway"))).await;
    check(post(&body("\\ud83d\\ude00 \\u0000"))).await;
}
