//! Secrets are planted everywhere one can be given, every route is asked in
//! right and wrong ways with everything logged, and none may come out again.

use crate::support::{PATIENCE, Running, json_lines, run, turnwise};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use turnwise_gateway::{RouteInfo, routes};
use turnwise_mock::{Conn, FakeAgent};

/// What a message says; its text is as secret as a key.
const TEXT: &str = "planted-message-text";
/// Where a callback would go.
const CALLBACK: &str = "https://planted-callback-host.example/planted-callback-path";
/// A key that nobody knows.
const WRONG_KEY: &str = "planted-wrong-key";
/// In the form of a callback secret.
const SIGNING_SECRET: &str = "whsec_cGxhbnRlZC1zaWduaW5nLXNlY3JldC1mb3ItdGVzdHM=";
/// How the fake agent fails, one way a message.
const FAULTS: [&str; 6] = ["", "[[status=500]]", "[[status=422]]", "[[garbage]]", "[[error]]", "[[cut]]"];

/// Every setting that is a secret, with something to plant.
async fn settings(folder: &Path) -> Vec<(String, String)> {
    let output = run(turnwise(folder).args(["config", "reference", "--json"])).await;
    let all = json_lines(&output.stdout)[0]["settings"].clone();
    let secret = |setting: &&Value| setting["secret"] == true;
    let planted = |setting: &Value| {
        let name = setting["env"].as_str().unwrap().to_owned();
        let text = match name.contains("_SECRET") {
            true => SIGNING_SECRET.to_owned(),
            false => format!("planted-{}", name.to_lowercase()),
        };
        (name, text)
    };
    all.as_array().unwrap().iter().filter(secret).map(planted).collect()
}

/// A server that logs everything, and all it says on stderr.
struct Watched {
    server: Running,
    log: JoinSet<String>,
    key: String,
    planted: Vec<String>,
}

async fn watched(folder: &Path, agent: &str, format: &str) -> Watched {
    let settings = settings(folder).await;
    let made = run(turnwise(folder).args(["keys", "new", "--json"])).await;
    let made = json_lines(&made.stdout)[0].clone();
    std::fs::write(folder.join("turnwise.toml"), made["toml"].as_str().unwrap()).unwrap();
    let mut planted: Vec<String> = settings.iter().map(|(_, text)| text.clone()).collect();
    planted.push(made["key"].as_str().unwrap().to_owned());
    planted.extend(
        [TEXT, CALLBACK, "planted-callback-host", "planted-callback-path", WRONG_KEY].map(str::to_owned),
    );
    let mut command = turnwise(folder);
    command.args(["serve", "--json", "--port", "0", "--data-dir", "data"]).envs(settings.iter().cloned());
    command.env("TURNWISE_CALLBACKS_TOKEN_HEADER", "X-Token");
    command.env("LOG_LEVEL", "TRACE").env("TURNWISE_LOG_FORMAT", format).env("WORKER_BASE_URL", agent);
    let mut server = Running::start(command.stderr(Stdio::piped())).await;
    let mut stderr = BufReader::new(server.process.stderr.take().unwrap());
    let mut log = JoinSet::new();
    log.spawn(async move {
        let mut text = String::new();
        stderr.read_to_string(&mut text).await.unwrap();
        text
    });
    Watched {
        server,
        log,
        key: settings.into_iter().find(|(name, _)| name == "BROKER_API_KEY").unwrap().1,
        planted,
    }
}

impl Watched {
    fn conn(&self, key: &str) -> Conn {
        Conn::new(self.server.url()).with_header("x-api-key", key)
    }

    /// No answer that is an error repeats a secret, and no answer at all a key.
    fn look(&self, asked: &str, status: u16, body: &str) {
        for secret in &self.planted {
            let is_own = secret == TEXT && status < 400;
            assert!(is_own || !body.contains(secret), "{asked}: {status} shows {secret}: {body}");
        }
    }

    async fn ask(&self, key: &str, method: &Method, path: &str, body: &str) -> String {
        let headers = [("content-type", "application/json"), ("prefer", "respond-async")];
        let ask = async { self.conn(key).call(method.clone(), path, &headers, body.to_owned().into()).await };
        let answer = timeout(PATIENCE, ask).await.expect("it answers").unwrap();
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        self.look(&format!("{method} {path}"), answer.status.as_u16(), &text);
        text
    }

    /// Sends a message and waits until its turn is over, well or badly.
    async fn turn(&self, text: &str) -> String {
        let message = message(text).to_string();
        let accepted: Value =
            serde_json::from_str(&self.ask(&self.key, &Method::POST, "/api/v1/message", &message).await)
                .unwrap();
        let id = accepted["message_id"].as_str().unwrap().to_owned();
        let path = format!("/api/v1/stream?user_id=alice&message_id={id}");
        let mut stream = self.conn(&self.key).sse(Method::GET, &path, &[], Bytes::new()).await.unwrap();
        let events = timeout(PATIENCE, stream.rest()).await.expect("the turn ends").unwrap();
        let last = events.last().unwrap();
        if last.event == "error" {
            self.look(&path, 500, &last.data);
        }
        self.ask(&self.key, &Method::GET, &format!("/api/v1/message/{id}"), "").await;
        id
    }

    /// A route with right and wrong keys and bodies.
    async fn crawl(&self, route: &RouteInfo, id: &str) {
        let path = route.path.replace("{message_id}", id).replace("{user_id}", "alice");
        let path = match path.as_str() {
            "/api/v1/stream" => format!("{path}?user_id=alice&message_id={id}"),
            // Without a mistake it would have no end.
            "/api/v1/tail" => format!("{path}?user_id=%0A"),
            _ => path,
        };
        let bodies = match route.method == Method::POST {
            false => vec![String::new()],
            true => vec![
                message("hello").to_string(),
                format!("{{\"message\": \"{TEXT}\""),
                format!("{TEXT} {CALLBACK}"),
                json!({"user_id": TEXT, "message": [TEXT], TEXT: TEXT, "callback_url": 5}).to_string(),
                json!({"user_id": 5, "org_id": CALLBACK, "callback_url": "http://planted-callback-host"})
                    .to_string(),
                json!({"stream": {"user_id": TEXT, "message_id": TEXT}}).to_string(),
            ],
        };
        for body in bodies {
            for key in [&self.key, WRONG_KEY, ""] {
                self.ask(key, &route.method, &path, &body).await;
            }
        }
        let and = if path.contains('?') { '&' } else { '?' };
        self.ask("", &route.method, &format!("{path}{and}api_key={WRONG_KEY}"), "").await;
        self.ask("", &route.method, &format!("{path}{and}ticket={WRONG_KEY}"), "").await;
    }

    /// Ends it and looks through what it wrote.
    async fn end(mut self, folder: &Path) {
        assert_eq!(self.server.terminate().await, Some(0));
        let log = self.log.join_next().await.unwrap().unwrap();
        assert!(log.contains("invalid_key") && log.lines().count() > 20, "little was logged: {log}");
        for secret in &self.planted {
            let line = log.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "the log shows {secret}");
        }
        // The store keeps texts, that is what it is for; it keeps no key.
        let keys = self.planted.iter().filter(|secret| **secret != TEXT && !secret.contains("callback-"));
        for secret in keys {
            for entry in std::fs::read_dir(folder.join("data")).unwrap() {
                let path = entry.unwrap().path();
                let bytes = std::fs::read(&path).unwrap();
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{} holds {secret}", path.display());
            }
        }
    }
}

fn message(text: &str) -> Value {
    json!({"user_id": "alice", "org_id": "acme", "client_id": "web", "message": format!("{TEXT} {text}")})
}

/// A ticket for this turn: a secret from now on.
async fn with_ticket(watched: &mut Watched, id: &str) {
    let asks = json!({"stream": {"user_id": "alice", "message_id": id}}).to_string();
    let made = watched.ask(&watched.key, &Method::POST, "/api/v1/tickets", &asks).await;
    let made: Value = serde_json::from_str(&made).unwrap();
    let ticket = made["ticket"].as_str().unwrap().to_owned();
    watched.planted.push(ticket.clone());
    for user in ["alice", "bob"] {
        let path = format!("/api/v1/stream?user_id={user}&message_id={id}&ticket={ticket}");
        watched.ask("", &Method::GET, &path, "").await;
    }
}

#[tokio::test]
async fn planted_secrets_never_come_out_of_any_route() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    let mut watched = watched(folder.path(), &agent.base_url(), "text").await;
    let mut id = String::new();
    for fault in FAULTS {
        id = watched.turn(fault).await;
    }
    let callback = {
        let mut message = message("");
        message["callback_url"] = CALLBACK.into();
        message.to_string()
    };
    watched.ask(&watched.key, &Method::POST, "/api/v1/message", &callback).await;
    for route in routes() {
        watched.crawl(&route, &id).await;
    }
    with_ticket(&mut watched, &id).await;
    watched.end(folder.path()).await;
}

/// An agent that sends all it got back, as an error.
async fn telltale(listener: TcpListener, status: &'static str) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut got = vec![0; 64 * 1024];
        let read = stream.read(&mut got).await.unwrap_or(0);
        let body = String::from_utf8_lossy(&got[..read]).into_owned();
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
        let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await;
    }
}

#[tokio::test]
async fn an_agent_that_tells_what_it_was_sent_is_not_repeated() {
    for (status, format) in
        [("500 Oops", "json"), ("400 Bad", "text"), ("200 OK", "json"), ("302 Found", "text")]
    {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let agent = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(telltale(listener, status));
        let watched = watched(folder.path(), &agent, format).await;
        let id = watched.turn("").await;
        for route in routes() {
            watched.crawl(&route, &id).await;
        }
        watched.end(folder.path()).await;
    }
}

#[tokio::test]
async fn a_crash_leaves_no_memory_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = tokio::process::Command::new("sh");
    let program = env!("CARGO_BIN_EXE_turnwise");
    command.args([
        "-c",
        "ulimit -S -c $(ulimit -H -c) && exec \"$0\" \"$@\"",
        program,
        "serve",
        "--json",
        "--port",
        "0",
    ]);
    command.current_dir(folder.path()).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    let server = Running::start(&mut command).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.process.id().unwrap())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
    assert_eq!(server.terminate().await, Some(0));
}
