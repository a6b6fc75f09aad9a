//! Configuration errors as a user meets them, and the generated files.

use crate::support::{json_lines, run, turnwise};
use std::path::Path;

#[tokio::test]
async fn wrong_configuration_is_refused_with_the_sentence_that_fixes_it() {
    let otlp = if cfg!(feature = "otel") { "http://localhost:4318" } else { "--features otel" };
    for (env, says) in [
        (("TURNWISE_DATADIR", "x"), "did you mean TURNWISE_DATA_DIR?"),
        (("REDIS_URL", "http://:hunter2@h"), "rediss://host:port"),
        (("TURNWISE_ROLES", "gateway"), "TURNWISE_STORE to a Redis or PostgreSQL"),
        (("TURNWISE_ROLES", "gateway,cook"), "some of gateway, dispatch, worker"),
        (("HOST", "0.0.0.0"), "--insecure-no-auth"),
        (("TURNWISE_CORS_ORIGINS", "*"), "https://chat.example.org"),
        (("TURNWISE_CORS_ORIGINS", "null"), "cors.origins"),
        (("PORT", "many"), "http.port"),
        (("WORKER_BASE_URL", "ftp://h"), "http"),
        (("LOG_LEVEL", "a=b=c"), "INFO"),
        (("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://h"), otlp),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = run(turnwise(folder.path()).arg("serve").env(env.0, env.1)).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{env:?}: {text}");
        assert!(text.contains(says), "{env:?}: {text}");
        assert!(!text.contains("hunter2"));
        assert!(output.stdout.is_empty());
    }
}

#[tokio::test]
async fn an_unknown_key_in_the_file_names_the_nearest() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("turnwise.toml"), "[agent]\nbaseurl = 'http://h'\n").unwrap();
    let output = run(turnwise(folder.path()).args(["config", "check", "--json"])).await;
    assert_eq!(output.status.code(), Some(2));
    let error = &json_lines(&output.stderr)[0]["error"];
    assert!(error["hint"].as_str().unwrap().contains("agent.base_url"), "{error}");
}

#[tokio::test]
async fn secrets_are_masked() {
    let folder = tempfile::tempdir().unwrap();
    for json in [&["config", "show"][..], &["config", "show", "--json"]] {
        let output = run(turnwise(folder.path()).args(json).env("BROKER_API_KEY", "hunter2")).await;
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("********") && !text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn the_example_environment_is_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(turnwise(folder.path()).args(["config", "reference", "--env"])).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.env.example");
    let file = std::fs::read_to_string(path).unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        file,
        "write it anew: turnwise config reference --env > .env.example"
    );
}

#[tokio::test]
async fn a_taken_default_port_is_shifted_and_a_chosen_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = run(turnwise(folder.path()).args(["serve", "--port", &port])).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("--port"), "{text}");
}
