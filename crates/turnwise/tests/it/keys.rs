//! API keys of the running program: made, exchanged without a restart, refused.

use crate::support::{PATIENCE, Running, json_lines, run, turnwise};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::ChildStderr;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use turnwise_mock::Conn;

/// Makes a key with these arguments.
async fn new_key(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(turnwise(folder).args(["keys", "new", "--json"]).args(arguments)).await;
    json_lines(&output.stdout)[0].clone()
}

/// Writes the configuration file: these keys and nothing else.
fn write(folder: &Path, keys: &[&Value]) {
    let text: Vec<&str> = keys.iter().map(|key| key["toml"].as_str().unwrap()).collect();
    std::fs::write(folder.join("turnwise.toml"), text.join("\n\n")).unwrap();
}

fn conn(server: &Running, key: &Value) -> Conn {
    Conn::new(server.url()).with_header("x-api-key", key["key"].as_str().unwrap())
}

/// What the server answers to this key.
async fn status(server: &Running, key: &Value) -> u16 {
    conn(server, key).get("/api/v1/queue/alice").await.unwrap().status.as_u16()
}

/// Asks until it answers so.
async fn until_status(server: &Running, key: &Value, expected: u16) {
    let deadline = Instant::now() + PATIENCE;
    while status(server, key).await != expected {
        assert!(Instant::now() < deadline, "never {expected}");
        sleep(Duration::from_millis(50)).await;
    }
}

/// A server over this folder's file, and what it logs.
async fn start(folder: &Path) -> (Running, Lines<BufReader<ChildStderr>>) {
    let mut command = turnwise(folder);
    command.args(["serve", "--json", "--port", "0", "--store", "memory"]).stderr(Stdio::piped());
    let mut server = Running::start(&mut command).await;
    let log = BufReader::new(server.process.stderr.take().unwrap()).lines();
    (server, log)
}

/// Reads the log to a line with these words.
async fn logged(log: &mut Lines<BufReader<ChildStderr>>, words: &str) {
    let found = async {
        while let Some(line) = log.next_line().await.unwrap() {
            if line.contains(words) {
                return;
            }
        }
        panic!("the log ended");
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("not logged: {words}"));
}

#[tokio::test]
async fn a_new_key_opens_the_server_and_no_other_does() {
    let folder = tempfile::tempdir().unwrap();
    let made = new_key(folder.path(), &["--id", "it"]).await;
    write(folder.path(), &[&made]);
    let (server, _log) = start(folder.path()).await;
    assert_eq!(server.ready["keys"], 1);
    assert_eq!(Conn::new(server.url()).get("/api/v1/queue/alice").await.unwrap().status, 401);
    assert_eq!(status(&server, &json!({"key": "wrong"})).await, 403);
    assert_eq!(status(&server, &made).await, 200);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn keys_are_rotated_by_writing_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let old = new_key(folder.path(), &["--id", "old", "--org", "acme"]).await;
    let new = new_key(folder.path(), &["--id", "new", "--org", "acme"]).await;
    write(folder.path(), &[&old]);
    let (server, _log) = start(folder.path()).await;
    let body = json!({"user_id": "alice", "org_id": "acme", "client_id": "web", "message": "hello"});
    let accepted = conn(&server, &old).post("/api/v1/message", body.to_string()).await.unwrap();
    let id = accepted.json::<Value>().unwrap()["message_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/stream?user_id=alice&message_id={id}");
    let mut stream = conn(&server, &old).sse(Method::GET, &path, &[], Bytes::new()).await.unwrap();
    assert_eq!(stream.next_within(PATIENCE).await.unwrap().unwrap().event, "queued");
    // The grace: both are valid, and what is open stays open.
    write(folder.path(), &[&old, &new]);
    until_status(&server, &new, 200).await;
    assert_eq!(status(&server, &old).await, 200);
    write(folder.path(), &[&new]);
    timeout(PATIENCE, stream.rest()).await.expect("the stream of a revoked key ends").unwrap();
    assert_eq!(status(&server, &old).await, 403);
    assert_eq!(status(&server, &new).await, 200);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn a_broken_file_leaves_the_keys_as_they_were_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("turnwise.toml");
    let key = new_key(folder.path(), &[]).await;
    let other = new_key(folder.path(), &[]).await;
    write(folder.path(), &[&key]);
    let (server, mut log) = start(folder.path()).await;
    let toml = key["toml"].as_str().unwrap();
    for wrong in
        ["[[auth.keys]", &toml.replace("sha256", "sha265"), &toml.replace("scopes = []", "scopes = ['x']")]
    {
        std::fs::write(&file, wrong).unwrap();
        logged(&mut log, "THE CONFIGURATION FILE IS WRONG").await;
        assert_eq!(status(&server, &key).await, 200);
    }
    std::fs::write(&file, "").unwrap();
    logged(&mut log, "NO API KEY ANY MORE").await;
    assert_eq!(status(&server, &key).await, 200);
    // Without a change it is not said again, unless somebody asks.
    let id = i32::try_from(server.process.id().unwrap()).unwrap();
    let process = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    logged(&mut log, "NO API KEY ANY MORE").await;
    std::fs::remove_file(&file).unwrap();
    logged(&mut log, "cannot be read").await;
    assert_eq!(status(&server, &key).await, 200);
    write(folder.path(), &[&other]);
    logged(&mut log, "the API keys were exchanged").await;
    assert_eq!(status(&server, &key).await, 403);
    assert_eq!(status(&server, &other).await, 200);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn a_hangup_takes_the_keys_as_they_are_however_the_file_changes() {
    let folder = tempfile::tempdir().unwrap();
    let key = new_key(folder.path(), &["--scope", "conversations:read", "--scope", "metrics"]).await;
    write(folder.path(), &[&key]);
    let (server, _log) = start(folder.path()).await;
    let next = new_key(folder.path(), &[]).await;
    // No two looks see the same: only who is told takes it.
    let (toml, file) = (next["toml"].as_str().unwrap().to_owned(), folder.path().join("turnwise.toml"));
    let (written, is_written) = tokio::sync::oneshot::channel();
    let mut writer = JoinSet::new();
    writer.spawn(async move {
        let (part, mut written) = (file.with_extension("part"), Some(written));
        for number in 0.. {
            std::fs::write(&part, format!("# {number}\n{toml}\n")).unwrap();
            std::fs::rename(&part, &file).unwrap();
            written.take().map(|written| written.send(()));
            sleep(Duration::from_millis(20)).await;
        }
    });
    timeout(PATIENCE, is_written).await.expect("the file is written").unwrap();
    let id = i32::try_from(server.process.id().unwrap()).unwrap();
    let process = rustix::process::Pid::from_raw(id).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    until_status(&server, &next, 200).await;
    assert_eq!(status(&server, &key).await, 403);
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn a_scope_that_is_none_is_refused_and_the_nearest_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(turnwise(folder.path()).args(["keys", "new", "--scope", "conversation"])).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("did you mean conversations?"), "{text}");
    assert!(output.stdout.is_empty());
}

#[tokio::test]
async fn a_key_that_can_be_guessed_is_refused_where_others_reach_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = turnwise(folder.path());
    serve
        .args(["serve", "--store", "memory", "--host", "0.0.0.0", "--port", "0"])
        .env("BROKER_API_KEY", "fifteen-letters");
    let output = run(&mut serve).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("can be guessed") && text.contains("turnwise keys new"), "{text}");
    assert!(!text.contains("fifteen-letters"));
}

#[cfg(unix)]
#[tokio::test]
async fn a_first_start_makes_no_key_and_files_for_nobody_else() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mut command = turnwise(folder.path());
    command.args(["serve", "--json", "--port", "0", "--data-dir", "data"]);
    let server = Running::start(&mut command).await;
    assert_eq!(server.ready["keys"], 0);
    assert!(server.url().starts_with("http://127.0.0.1:"), "{}", server.url());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data = folder.path().join("data");
    assert_eq!(mode(&data), 0o700);
    let mut files = 0;
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files += 1;
    }
    assert!(files > 0);
    assert_eq!(server.terminate().await, Some(0));
}
