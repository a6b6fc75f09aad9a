//! Servers and commands for the tests.

use http::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use turnwise_mock::{ClientError, Conn, SseEvent, SseReader, TurnReceipt, conversation_of_user};

/// Longest any step of a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// The organisation the tests write in.
pub(crate) const ORG: &str = "acme";

/// The binary in an environment without settings, in an empty folder.
pub(crate) fn turnwise(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwise"));
    command.current_dir(folder).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    for name in ["PATH", "HOME", "TMPDIR", "LLVM_PROFILE_FILE"] {
        if let Some(text) = std::env::var_os(name) {
            command.env(name, text);
        }
    }
    command
}

/// Runs it to its end.
pub(crate) async fn run(command: &mut Command) -> Output {
    tokio::time::timeout(4 * PATIENCE, command.output()).await.expect("the command ends in time").unwrap()
}

/// Every line of stdout as JSON.
pub(crate) fn json_lines(output: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(output).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}")))
        .collect()
}

/// A process and the first line it printed.
pub(crate) struct Running {
    pub(crate) process: Child,
    pub(crate) ready: Value,
}

impl Running {
    /// Starts it and waits for its first line.
    pub(crate) async fn start(command: &mut Command) -> Running {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("ready in time").unwrap();
        let line = line.expect("it printed a line before it ended");
        Running { process, ready: serde_json::from_str(&line).unwrap() }
    }

    pub(crate) fn url(&self) -> &str {
        self.ready["url"].as_str().unwrap()
    }

    /// As `kill -9`.
    pub(crate) async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// As `kill`; answers the exit code.
    pub(crate) async fn terminate(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.exit().await
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let id = i32::try_from(self.process.id().unwrap()).unwrap();
        let id = rustix::process::Pid::from_raw(id).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for its end; answers the exit code.
    pub(crate) async fn exit(&mut self) -> Option<i32> {
        let status = tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it stops in time");
        status.unwrap().code()
    }
}

/// A server on a folder and port; port 0 takes a free one.
pub(crate) async fn serve(folder: &Path, port: u16, agent: Option<&str>, env: &[(&str, &str)]) -> Running {
    let mut command = turnwise(folder);
    command.args(["serve", "--json", "--data-dir", "data", "--port", &port.to_string()]);
    command.env("LOG_LEVEL", "WARN");
    command.envs(env.iter().copied());
    if let Some(agent) = agent {
        command.env("WORKER_BASE_URL", agent);
    }
    Running::start(&mut command).await
}

/// A number of the environment; not set, it is the default.
pub(crate) fn count_of(name: &str, default: u32) -> u32 {
    let parse = |text: String| text.parse().unwrap_or_else(|_| panic!("{name} is a number"));
    std::env::var(name).map_or(default, parse)
}

/// What a client knows of a turn once it is accepted: when it was sent, and when this was known.
pub(crate) fn receipt(body: &Value, user: &str, sent: u64, accepted: u64) -> TurnReceipt {
    TurnReceipt {
        message_id: body["message_id"].as_str().unwrap().to_owned(),
        conversation: conversation_of_user(ORG, user),
        sent,
        accepted,
        ends: Vec::new(),
    }
}

/// Submits to be read by stream; answers status and body.
pub(crate) async fn submit(
    conn: &mut Conn,
    user: &str,
    text: &str,
    client_message_id: Option<&str>,
) -> Result<(u16, Value), turnwise_mock::ClientError> {
    submit_for(conn, user, text, client_message_id, None).await
}

/// The same, the end to be posted to a URL.
pub(crate) async fn submit_for(
    conn: &mut Conn,
    user: &str,
    text: &str,
    client_message_id: Option<&str>,
    callback_url: Option<&str>,
) -> Result<(u16, Value), turnwise_mock::ClientError> {
    let body = json!({
        "user_id": user, "org_id": ORG, "client_id": "web", "message": text,
        "client_message_id": client_message_id, "callback_url": callback_url,
    });
    let headers = [("prefer", "respond-async")];
    let answer = conn.call(Method::POST, "/api/v1/message", &headers, body.to_string().into()).await?;
    Ok((answer.status.as_u16(), answer.json()?))
}

/// Submits and answers the id.
pub(crate) async fn accepted(url: &str, user: &str, text: &str) -> String {
    let (status, body) = submit(&mut Conn::new(url), user, text, None).await.unwrap();
    assert_eq!(status, 200, "{body}");
    body["message_id"].as_str().unwrap().to_owned()
}

/// Asks a server that may be gone for a turn's stream after an event id.
pub(crate) async fn try_open(
    url: &str,
    user: &str,
    id: &str,
    after: Option<&str>,
) -> Result<SseReader, ClientError> {
    let path = format!("/api/v1/stream?user_id={user}&message_id={id}");
    let header = after.map(|after| [("last-event-id", after)]);
    let headers = header.as_ref().map_or(&[][..], |header| &header[..]);
    Conn::new(url).sse(Method::GET, &path, headers, bytes::Bytes::new()).await
}

/// Opens a turn's stream after an event id; `None` when there is nothing more.
pub(crate) async fn open(url: &str, user: &str, id: &str, after: Option<&str>) -> Option<SseReader> {
    let reader = try_open(url, user, id, after).await.unwrap();
    if reader.status == 204 {
        return None;
    }
    assert_eq!(reader.status, 200);
    Some(reader)
}

/// Everything that comes until the stream ends.
pub(crate) async fn read(url: &str, user: &str, id: &str, after: Option<&str>) -> Vec<SseEvent> {
    let Some(mut reader) = open(url, user, id, after).await else { return Vec::new() };
    tokio::time::timeout(PATIENCE, reader.rest()).await.expect("the stream ends in time").unwrap()
}

/// What is stored: live notes without a place, and the note that work began, are not compared.
pub(crate) fn stored(events: &[SseEvent]) -> Vec<SseEvent> {
    let is_stored = |event: &&SseEvent| !event.id.is_empty() && event.event != "processing";
    events.iter().filter(is_stored).cloned().collect()
}
