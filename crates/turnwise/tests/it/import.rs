//! Taking over the queues of the original broker, written as it writes them.

use crate::support::{Running, run, serve, turnwise};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use turnwise_mock::{AgentConfig, Conn, FakeAgent, conversation_of_user};
use turnwise_testkit::servers::{Server, redis};

/// More than a page of a scan.
const USERS: usize = 600;
/// Of the user who has most; more than a conversation holds.
const LONG: usize = 70;

/// One command, and its answer as text: a number, a word, or the only string.
fn ask(server: &Server, parts: &[&str]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
    let mut command = format!("*{}\r\n", parts.len());
    for part in parts {
        command.push_str(&format!("${}\r\n{part}\r\n", part.len()));
    }
    stream.write_all(command.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let told = line.trim_end();
    match told.strip_prefix('$') {
        Some(length) => {
            let mut text = vec![0; length.parse().unwrap_or(0)];
            reader.read_exact(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        }
        None => told.to_owned(),
    }
}

/// As the original stores a message: pushed to the user's list, and what else it knows in a hash.
fn waits(server: &Server, user: &str, number: usize, data: &str) {
    let id = format!("{user}/{number}");
    let entry = json!({"id": id, "data": data}).to_string();
    ask(server, &["RPUSH", &format!("user:{user}:queue"), &entry]);
    ask(server, &["HSET", &format!("message:{id}"), "user_id", user, "queued_at", "1", "client_id", "web"]);
}

fn body(user: &str, text: &str) -> String {
    json!({"user_id": user, "org_id": "acme", "client_id": "web", "message": text, "message_type": "text"})
        .to_string()
}

async fn import(folder: &Path, original: &Server, node: &Running, more: &[&str]) -> (Option<i32>, Value) {
    let mut command = turnwise(folder);
    command.args(["--json", "import", "original", "--redis", &redis::url(original), "--url", node.url()]);
    let output = run(command.args(more)).await;
    let told = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), told)
}

/// The texts that the agent was given for a user, in order.
async fn told(node: &Running, agent: &FakeAgent, user: &str) -> Vec<String> {
    let mut conn = Conn::new(node.url());
    let conversation = conversation_of_user("acme", user);
    let mut texts = Vec::new();
    for call in agent.journal().calls().iter().filter(|call| call.conversation == conversation) {
        let turn: Value =
            conn.get(&format!("/api/v1/message/{}", call.message_id)).await.unwrap().json().unwrap();
        texts.push(turn["answer"]["responses"][0].as_str().unwrap_or_else(|| panic!("{turn}")).to_owned());
    }
    texts
}

async fn drained(node: &Running) {
    let mut conn = Conn::new(node.url());
    loop {
        let health: Value = conn.get("/health").await.unwrap().json().unwrap();
        if health["active_queues"] == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn queues_of_the_original_are_taken_over_in_order_and_once() {
    let Some(original) = redis::start() else { return };
    let (folder, config) = (tempfile::tempdir().unwrap(), AgentConfig::default());
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), config).await.unwrap();
    let node = serve(folder.path(), 0, Some(&agent.base_url()), &[]).await;
    // Ids go into the keys as they are.
    let odd = "a:b *[?] 🙂:queue";
    for number in 0..LONG {
        waits(&original, odd, number, &body(odd, &format!("number {number}")));
    }
    for user in 0..USERS {
        let user = format!("user-{user}");
        waits(&original, &user, 0, &body(&user, "one"));
    }
    ask(&original, &["SET", "user:gone:processing", "x"]);
    let all = LONG + USERS;
    let counted = import(folder.path(), &original, &node, &["--dry-run"]).await;
    let expected = json!({"messages": all, "users": USERS + 1, "begun": 1, "dry_run": true});
    assert_eq!(counted, (Some(0), expected));
    let taken = import(folder.path(), &original, &node, &[]).await;
    assert_eq!(taken, (Some(0), json!({"messages": all, "users": USERS + 1, "begun": 1, "left": []})));
    let again = import(folder.path(), &original, &node, &[]).await;
    assert_eq!(again, (Some(0), json!({"messages": 0, "users": 0, "begun": 1, "left": []})));
    assert_eq!(ask(&original, &["DBSIZE"]), ":1", "nothing stays but what was begun");
    drained(&node).await;
    let texts = told(&node, &agent, odd).await;
    assert_eq!(texts.len(), LONG);
    for (number, text) in texts.iter().enumerate() {
        assert!(text.ends_with(&format!("number {number}")), "{number}: {text}");
    }
    assert_eq!(agent.journal().calls().len(), all);
    assert_eq!(node.terminate().await, Some(0));
}

/// A run that was cut off between the two steps has given a message that is still in the list.
#[tokio::test]
async fn a_message_that_was_given_and_not_taken_away_is_no_second_turn() {
    let Some(original) = redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let node = serve(folder.path(), 0, None, &[]).await;
    let entry = |number| waits(&original, "ann", number, &body("ann", &format!("number {number}")));
    entry(0);
    import(folder.path(), &original, &node, &[]).await;
    entry(0);
    entry(1);
    let taken = import(folder.path(), &original, &node, &[]).await;
    assert_eq!(taken.1["messages"], 2);
    let queue: Value = Conn::new(node.url()).get("/api/v1/queue/ann").await.unwrap().json().unwrap();
    assert_eq!(queue["queue_length"], 2, "{queue}");
    assert_eq!(node.terminate().await, Some(0));
}

#[tokio::test]
async fn what_is_refused_stays_with_what_was_said_after_it() {
    let Some(original) = redis::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let node = serve(folder.path(), 0, None, &[]).await;
    waits(&original, "ann", 0, &body("ann", "fine"));
    waits(&original, "ann", 1, &json!({"user_id": "ann", "message": "no org"}).to_string());
    waits(&original, "ann", 2, &body("ann", "said after it"));
    waits(&original, "bob", 0, "no json");
    ask(&original, &["RPUSH", "user:cat:queue", "broken"]);
    waits(&original, "dan", 0, &body("dan", "fine"));
    let (code, told) = import(folder.path(), &original, &node, &[]).await;
    assert_eq!((code, &told["messages"], &told["users"]), (Some(7), &json!(2), &json!(2)), "{told}");
    let mut left: Vec<_> =
        told["left"].as_array().unwrap().iter().map(|left| left["user_id"].as_str()).collect();
    left.sort_unstable();
    assert_eq!(left, [Some("ann"), Some("bob"), Some("cat")], "{told}");
    assert!(told.to_string().contains("org_id"), "it says why: {told}");
    for (user, count) in [("ann", ":2"), ("bob", ":1"), ("cat", ":1"), ("dan", ":0")] {
        assert_eq!(ask(&original, &["LLEN", &format!("user:{user}:queue")]), count, "{user}");
    }
    // Mended by hand, the rest follows.
    ask(&original, &["LPOP", "user:ann:queue"]);
    let (_, told) = import(folder.path(), &original, &node, &[]).await;
    assert_eq!(told["messages"], 1);
    assert_eq!(node.terminate().await, Some(0));
}

#[tokio::test]
async fn an_original_that_is_not_there_is_said_without_its_password() {
    let folder = tempfile::tempdir().unwrap();
    for (url, code) in [("redis://:hunter2@127.0.0.1:1", 6), ("hunter2@nothing", 2)] {
        let output = run(turnwise(folder.path()).args(["import", "original", "--redis", url])).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
