//! The whole program where it meets the network: too few file descriptors,
//! and what strangers manage to put into its log.

use crate::support::{PATIENCE, Running, read, serve, submit, turnwise};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::watch;
use turnwise_mock::{AgentConfig, Conn, FakeAgent, Host};

/// Files the server may have open: far fewer than the connections that come.
const FILES: u32 = 64;
const CROWD: usize = 200;
/// Conversations whose calls need more descriptors than there are.
const CALLS: usize = 100;

fn address(server: &Running) -> String {
    server.url().strip_prefix("http://").unwrap().to_owned()
}

/// Sends bytes and reads what comes until the end.
async fn exchange(address: &str, bytes: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(bytes).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A server whose log goes to a file.
async fn logged(folder: &Path, mut command: Command, format: &str) -> Running {
    let log = std::fs::File::create(folder.join("log")).unwrap();
    command.args(["serve", "--json", "--data-dir", "data", "--port", "0"]);
    command.env("TURNWISE_LOG_FORMAT", format).stderr(Stdio::from(log));
    Running::start(&mut command).await
}

/// The binary with so few files.
fn short_of_files(folder: &Path) -> Command {
    let mut shell = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_turnwise");
    shell.args(["-c", &format!("ulimit -n {FILES} && exec \"$0\" \"$@\""), program]);
    shell.current_dir(folder).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    shell.env("LOG_LEVEL", "WARN");
    shell
}

/// Whatever the log says.
fn log_of(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("log")).unwrap()
}

/// Waits until the log says this.
async fn logs(folder: &Path, words: &str) {
    let said = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !log_of(folder).contains(words) {
            look.tick().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, said).await;
    assert!(in_time.is_ok(), "the log says {words:?}: {}", log_of(folder));
}

/// A host in front of an agent that lets nothing through before it is told to.
async fn held_back(agent: SocketAddr, open: &watch::Sender<bool>) -> Host {
    let open = open.subscribe();
    let serve = move |mut socket: TcpStream| {
        let mut open = open.clone();
        async move {
            if open.wait_for(|open| *open).await.is_ok() {
                let mut agent = TcpStream::connect(agent).await.unwrap();
                let _ = copy_bidirectional(&mut socket, &mut agent).await;
            }
        }
    };
    Host::start(serve).await.unwrap()
}

#[tokio::test]
async fn calls_for_which_no_descriptor_is_left_are_made_later() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let open = watch::Sender::new(false);
    let host = held_back(agent.address(), &open).await;
    let mut command = short_of_files(folder.path());
    command.env("WORKER_BASE_URL", host.url("")).env("TURNWISE_AGENT_CONCURRENCY", CALLS.to_string());
    let server = logged(folder.path(), command, "text").await;
    // On one connection: another might find no descriptor itself.
    let mut conn = Conn::new(server.url());
    let mut turns = Vec::new();
    for user in (0..CALLS).map(|user| format!("u{user}")) {
        let (status, body) = submit(&mut conn, &user, "hello", None).await.unwrap();
        assert_eq!(status, 200, "{body}");
        turns.push((body["message_id"].as_str().unwrap().to_owned(), user));
    }
    logs(folder.path(), "no call to the agent can be opened").await;
    open.send_replace(true);
    for (id, user) in turns {
        let events = read(server.url(), &user, &id, None).await;
        assert_eq!(events.last().map(|event| event.event.as_str()), Some("done"), "{user}: {events:?}");
    }
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn too_few_descriptors_are_survived() {
    let folder = tempfile::tempdir().unwrap();
    let mut shell = short_of_files(folder.path());
    shell.env("TURNWISE_HTTP_HEAD", "1");
    let server = logged(folder.path(), shell, "text").await;
    let address = address(&server);
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(TcpStream::connect(&address).await.unwrap());
    }
    let ask = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    // The last of the crowd waits for a descriptor that the first give back.
    logs(folder.path(), "cannot accept connections").await;
    let recovered = async {
        let mut look = tokio::time::interval(Duration::from_millis(20));
        while !exchange(&address, ask).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ")) {
            look.tick().await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, recovered).await;
    assert!(in_time.is_ok(), "served again once the crowd was told to go: {}", log_of(folder.path()));
    logs(folder.path(), "is lowered to what the limit of open files allows").await;
    drop(crowd);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn nobody_writes_a_line_of_the_log() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = turnwise(folder.path());
        command.env("LOG_LEVEL", "trace");
        let server = logged(folder.path(), command, format).await;
        let address = address(&server);
        let hostile = [
            "GET /livez?x=%0aFORGED%1b[31m HTTP/1.1\r\nUser-Agent: a\u{9b}31m\u{85}FORGED\r\nX-Request-Id: a\u{9b}b",
            "GET /%0aFORGED%1b[2J HTTP/1.1\r\nX-Request-Id: \"FORGED\"",
            "GET /livez HTTP/1.1\r\nUser-Agent: a\rFORGED",
            "GET /livez HTTP/1.1\r\nUser-Agent: a\nFORGED",
            "GET /livez HTTP/1.1\r\nUser-Agent: a\u{1b}[31mFORGED",
            "GET /api/v1/queue/a%0aFORGED%1b[31m HTTP/1.1\r\nX-A: b",
            "GET /api/v1/stream?user_id=%0aFORGED&message_id=%1b[31m HTTP/1.1\r\nLast-Event-ID: \u{9b}FORGED",
            "GET /livez HTTP/1.1\r\nX-API-Key: a\u{9b}FORGED\r\nTraceparent: \u{9b}FORGED\r\nOrigin: \u{9b}FORGED",
        ];
        for head in hostile {
            let request = format!("{head}\r\nHost: localhost\r\nConnection: close\r\n\r\n");
            let answer = exchange(&address, request.as_bytes()).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 "), "{head:?}: {answer}");
        }
        let body = r#"{"user_id":"u\nFORGED","org_id":"o\u001b[31m","client_id":"\u009bFORGED","message":"\nFORGED"}"#;
        let post = format!(
            "POST /api/v1/message HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert!(exchange(&address, post.as_bytes()).await.unwrap().starts_with("HTTP/1.1 422 "));
        assert_eq!(server.terminate().await, Some(0));
        let log = String::from_utf8(std::fs::read(folder.path().join("log")).unwrap()).expect("UTF-8");
        assert!(log.contains("a request was answered"), "the requests were logged: {log}");
        for line in log.lines() {
            assert!(!line.chars().any(char::is_control), "{format}: {line:?}");
            assert!(!line.starts_with("FORGED"), "{format}: {line:?}");
            assert!(format == "text" || serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line:?}");
        }
    }
}

#[tokio::test]
async fn lowered_limits_reach_the_connections() {
    let folder = tempfile::tempdir().unwrap();
    let env =
        [("TURNWISE_HTTP_HEAD", "1"), ("TURNWISE_HTTP_KEEP_ALIVE", "3"), ("TURNWISE_CONNECTIONS_MAX", "16")];
    let server = serve(folder.path(), 0, None, &env).await;
    let address = address(&server);
    let slow = exchange(&address, b"GET /livez HTTP/1.1\r\nHost: local").await.unwrap();
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
    let idle = exchange(&address, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(
        idle.starts_with("HTTP/1.1 200 "),
        "closed after three seconds without a further request: {idle}"
    );
    assert_eq!(server.terminate().await, Some(0));
}
