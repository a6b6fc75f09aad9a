//! Callbacks of the whole program: what goes out and what does not, what is
//! logged, and `turnwise dead`.

use crate::support::{ORG, PATIENCE, Running, run, submit_for, turnwise};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use turnwise_mock::{Answering, CallbackReceiver, Conn};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn serve_with(folder: &Path, agent: &str, env: &[(&str, &str)], log: Stdio) -> Running {
    let mut command = turnwise(folder);
    command.args(["serve", "--json", "--data-dir", "data", "--port", "0"]).stderr(log);
    command.env("WORKER_BASE_URL", agent).env("TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS", "127.0.0.1");
    command.env("TURNWISE_CALLBACKS_SECRET", SECRET).envs(env.iter().copied());
    Running::start(&mut command).await
}

/// An agent that keeps the head of every request.
async fn noting_agent() -> (String, Arc<std::sync::Mutex<Vec<String>>>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let heads: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let noted = Arc::clone(&heads);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut bytes = vec![0; 16_384];
            let read = socket.read(&mut bytes).await.unwrap_or(0);
            noted.lock().unwrap().push(String::from_utf8_lossy(&bytes[..read]).into_owned());
            let body = r#"{"responses":["ok"]}"#;
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            // The probe of its health may have gone by now.
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, heads, tasks)
}

async fn received(receiver: &CallbackReceiver, count: usize) {
    let wait = async {
        while receiver.received().len() < count {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("callbacks come");
}

/// The operator's agent gets the message under the operator's key, wherever a client would like to send it.
#[tokio::test]
async fn nothing_of_a_request_but_its_message_goes_to_agent_or_callback_host() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, heads, _agent) = noting_agent().await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let elsewhere = format!("http://{}", trap.local_addr().unwrap());
    let receiver = CallbackReceiver::willing(Some(SECRET)).await.unwrap();
    let env = [("WORKER_API_KEY", "agents-own"), ("BROKER_API_KEY", "clients-own-key")];
    let server = serve_with(folder.path(), &agent, &env, Stdio::inherit()).await;
    let body = json!({
        "user_id": "u", "org_id": ORG, "client_id": "web", "message": "hello", "callback_url": receiver.url("/"),
        "worker_url": elsewhere, "worker_base_url": elsewhere, "base_url": elsewhere, "agent": elsewhere,
    });
    let headers = [
        ("x-api-key", "clients-own-key"),
        ("authorization", "Bearer clients-token"),
        ("cookie", "session=clients-cookie"),
        ("x-forwarded-for", "203.0.113.9"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=203.0.113.9"),
        ("proxy-authorization", "Basic clients-proxy"),
        ("te", "trailers"),
        ("x-worker-url", &elsewhere),
    ];
    let sent = Conn::new(server.url())
        .call(Method::POST, "/api/v1/message", &headers, body.to_string().into())
        .await
        .unwrap();
    assert_eq!(sent.status, 200);
    received(&receiver, 1).await;
    let calls: Vec<String> = heads
        .lock()
        .unwrap()
        .iter()
        .filter(|head| head.starts_with("POST"))
        .map(|head| head.to_ascii_lowercase())
        .collect();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].contains("authorization: bearer agents-own"), "{}", calls[0]);
    let posted = format!("{:?}", receiver.received()[0]).to_ascii_lowercase();
    for text in ["clients-", "203.0.113.9", "evil.example", "cookie", "forwarded", "\nte:", "worker-url"] {
        assert!(!calls[0].contains(text), "{text}: {}", calls[0]);
        assert!(!posted.contains(text), "{text}: {posted}");
    }
    assert!(!posted.contains("agents-own") && !posted.contains("authorization"), "{posted}");
    let touched = tokio::time::timeout(Duration::from_millis(50), trap.accept()).await;
    assert!(touched.is_err(), "a client chose where the agent is");
    assert_eq!(server.terminate().await, Some(0));
}

async fn dead(folder: &Path, url: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = turnwise(folder);
    command.arg("dead").args(arguments).args(["--url", url]);
    let output = run(&mut command).await;
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn one_json(text: &str) -> Value {
    serde_json::from_str(text.trim()).unwrap_or_else(|_| panic!("one line of JSON: {text}"))
}

#[tokio::test]
async fn dead_callbacks_are_mended_by_command_and_no_secret_is_logged() {
    let folder = tempfile::tempdir().unwrap();
    let (agent, _heads, _agent) = noting_agent().await;
    let status = Arc::new(AtomicU16::new(410));
    let answer = Arc::clone(&status);
    let answering: Answering =
        Arc::new(move |_, _| StatusCode::from_u16(answer.load(Ordering::SeqCst)).unwrap());
    let receiver =
        CallbackReceiver::start(([127, 0, 0, 1], 0).into(), Some(SECRET), answering).await.unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let env = [
        ("LOG_LEVEL", "TRACE"),
        ("TURNWISE_CALLBACKS_TOKEN_HEADER", "X-Engine-Token"),
        ("TURNWISE_CALLBACKS_TOKEN", "token-secret"),
        ("TURNWISE_CALLBACKS_SECRET_PREVIOUS", "whsec_cHJldmlvdXMtc2VjcmV0LXByZXZpb3VzLXNlY3JldA=="),
    ];
    let server = serve_with(folder.path(), &agent, &env, log.into()).await;
    let url = receiver.url("/path-secret?query=secret");
    let mut conn = Conn::new(server.url());
    for user in ["a", "b"] {
        let (status, body) = submit_for(&mut conn, user, "text-secret", None, Some(&url)).await.unwrap();
        assert_eq!(status, 200, "{body}");
    }
    received(&receiver, 2).await;
    let (url, path) = (server.url().to_owned(), folder.path());
    let ask = async |arguments: &[&str]| dead(path, &url, arguments).await;
    let listed = async || {
        let lines = ask(&["list", "--json"]).await.1;
        lines.lines().map(one_json).collect::<Vec<_>>()
    };
    let wait = async {
        while listed().await.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("both are dead");
    let items = listed().await;
    let (first, second) = (items[0]["id"].as_str().unwrap(), items[1]["id"].as_str().unwrap());
    let (code, shown) = ask(&["show", first]).await;
    assert!(code == Some(0) && shown.contains("refused: the host answered 410"), "{shown}");
    assert!(!shown.contains("secret"), "{shown}");
    assert_eq!(ask(&["show", "00000000-0000-8000-8000-000000000000"]).await.0, Some(3));
    let (_, dry) = ask(&["redrive", "--all", "--dry-run", "--json"]).await;
    assert_eq!(one_json(&dry), json!({"redriven": 2, "dry_run": true}));
    assert_eq!(ask(&["redrive", "--all"]).await.0, Some(2), "nobody is there to be asked");
    let (_, dropped) = ask(&["drop", second, "--yes", "--json"]).await;
    assert_eq!(one_json(&dropped), json!({"dropped": 1, "dry_run": false}));
    status.store(200, Ordering::SeqCst);
    let (_, redriven) = ask(&["redrive", "--all", "--yes", "--json"]).await;
    assert_eq!(one_json(&redriven), json!({"redriven": 1, "dry_run": false}));
    received(&receiver, 3).await;
    assert!(receiver.received().iter().all(|one| one.signed));
    assert_eq!(server.terminate().await, Some(0));
    let log = std::fs::read_to_string(path.join("log")).unwrap();
    assert!(log.contains("a callback was given up"), "the log was written");
    for secret in
        ["path-secret", "query=secret", "text-secret", "token-secret", "MfKQ9r8GKYqr", "cHJldmlvdXM"]
    {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
}

#[tokio::test]
async fn without_a_secret_callbacks_are_refused_and_a_wrong_one_stops_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = turnwise(folder.path());
    command.args(["serve", "--json", "--mock-agent", "--data-dir", "data", "--port", "0"]);
    let server = Running::start(&mut command).await;
    let url = Some("https://hooks.example/");
    let (status, body) = submit_for(&mut Conn::new(server.url()), "u", "m", None, url).await.unwrap();
    assert_eq!((status, &body["code"]), (422, &json!("callbacks_unsupported")), "{body}");
    assert_eq!(server.terminate().await, Some(0));
    for (name, value) in [
        ("TURNWISE_CALLBACKS_SECRET", "not-a-secret"),
        ("TURNWISE_CALLBACKS_SECRET_PREVIOUS", "whsec_short"),
        ("TURNWISE_CALLBACKS_TOKEN", "token-without-header"),
        ("TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS", "127.0.0.1:8080"),
    ] {
        let mut command = turnwise(folder.path());
        command.args(["serve", "--data-dir", "data", "--port", "0"]).env(name, value);
        let output = run(&mut command).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{name}: {told}");
        assert!(told.contains("callbacks.") && !told.contains(value), "{name}: {told}");
    }
}
