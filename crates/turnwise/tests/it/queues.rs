//! Work queues of the whole program, killed with signal 9 in the middle: what
//! was acknowledged is found again, as it was.

use crate::support::{PATIENCE, Running, count_of, json_lines, run, serve, turnwise};
use http::Method;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use turnwise_mock::{ClientError, Conn};
use turnwise_testkit::servers::postgres::Postgres;
use turnwise_testkit::servers::redis;

/// Kills, unless the environment says otherwise.
const CYCLES: u32 = 4;
const CYCLES_ENV: &str = "TURNWISE_QUEUE_KILL_CYCLES";
/// Ordering keys of the messages.
const KEYS: u64 = 5;

/// Asks about a queue; status and body.
async fn ask(conn: &mut Conn, method: Method, path: &str, body: Value) -> Result<(u16, Value), ClientError> {
    let path = format!("/api/v1/queues{path}?org_id=acme");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let answer = conn.call(method, &path, &[], body.into()).await?;
    Ok((answer.status.as_u16(), answer.json()?))
}

/// The same where an answer must come.
async fn told(server: &Running, method: Method, path: &str, body: Value) -> Value {
    let (status, answer) = ask(&mut Conn::new(server.url()), method, path, body).await.unwrap();
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
    answer
}

async fn restart(mut server: Running, folder: &std::path::Path) -> Running {
    let port = u16::try_from(server.ready["port"].as_u64().unwrap()).unwrap();
    server.kill().await;
    serve(folder, port, None, &[]).await
}

#[tokio::test]
async fn everything_about_a_queue_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), 0, None, &[]).await;
    let post = Method::POST;
    let send = async |server: &Running, message: Value| {
        told(server, Method::POST, "/jobs/messages", message).await["message_id"].clone()
    };
    told(&server, Method::PUT, "/jobs/policy", json!({ "max_attempts": 7, "dead_seconds": 3600 })).await;
    let dead = send(&server, json!({ "payload": "dead", "priority": 9 })).await;
    let letter = told(&server, post.clone(), "/jobs/claim", json!({})).await["deliveries"][0].clone();
    let end = json!({ "receipt": letter["receipt"], "outcome": "dead", "reason": "no good" });
    told(&server, post.clone(), "/jobs/settle", end).await;
    let held = send(&server, json!({ "payload": "held", "priority": 9, "ordering_key": "k" })).await;
    let lease = json!({ "lease_seconds": 3600 });
    let holding = told(&server, post.clone(), "/jobs/claim", lease).await["deliveries"][0].clone();
    assert_eq!(holding["message_id"], held);
    let behind = send(&server, json!({ "payload": "behind", "priority": 9, "ordering_key": "k" })).await;
    let later = send(&server, json!({ "payload": "later", "delay_seconds": 86400 })).await;
    let low = send(&server, json!({ "payload": "low", "priority": 0 })).await;
    let high = send(&server, json!({ "payload": "high", "priority": 8, "dedup_key": "d" })).await;
    told(&server, post.clone(), "/paused/pause", Value::Null).await;

    let server = restart(server, folder.path()).await;
    let jobs = told(&server, Method::GET, "/jobs", Value::Null).await;
    assert_eq!(jobs["depth"], json!({ "ready": 3, "scheduled": 1, "leased": 1, "dead": 1 }));
    assert_eq!(
        (&jobs["policy"]["max_attempts"], &jobs["policy"]["dead_seconds"]),
        (&json!(7), &json!(3600.0))
    );
    assert_eq!(told(&server, Method::GET, "/paused", Value::Null).await["paused"], true);
    let repeat = json!({ "payload": "high", "priority": 8, "dedup_key": "d" });
    assert_eq!(told(&server, post.clone(), "/jobs/messages", repeat).await["message_id"], high);
    let path = format!("/jobs/messages/{}", dead.as_str().unwrap());
    let letter = told(&server, Method::GET, &path, Value::Null).await;
    assert_eq!((&letter["reason"], &letter["first_error"]["reason"]), (&json!("no good"), &json!("no good")));
    // The lease is still its holder's: what is behind it waits, and the old receipt ends it.
    let found = told(&server, post.clone(), "/jobs/claim", json!({ "limit": 100 })).await;
    let order: Vec<&Value> =
        found["deliveries"].as_array().unwrap().iter().map(|one| &one["message_id"]).collect();
    assert_eq!(order, [&high, &low]);
    let ack = json!({ "receipt": holding["receipt"], "outcome": "ack" });
    assert_eq!(told(&server, post.clone(), "/jobs/settle", ack).await["status"], "done");
    let next = told(&server, post, "/jobs/claim", json!({})).await;
    assert_eq!(next["deliveries"][0]["message_id"], behind);
    let path = format!("/jobs/messages/{}", later.as_str().unwrap());
    assert_eq!(told(&server, Method::GET, &path, Value::Null).await["stage"], "scheduled");
    assert_eq!(server.terminate().await, Some(0));
}

/// What producers and workers know.
#[derive(Default)]
struct Known {
    stop: AtomicBool,
    next: AtomicU64,
    /// Ids of messages that were acknowledged as stored, with their number.
    stored: Mutex<HashMap<String, u64>>,
    /// By key: when the lease of each was to end, and its number, once its ack was answered. All leases are equally
    /// long, so their ends are in the order of their beginnings.
    done: Mutex<HashMap<String, Vec<(String, u64)>>>,
    /// Ids whose ack was answered.
    acked: Mutex<HashSet<String>>,
    /// Ids whose ack was sent: a kill may have come between.
    sent: Mutex<HashSet<String>>,
}

/// Stores messages until the server is gone: one producer for each key, so that its order is known.
async fn produce(known: Arc<Known>, url: String, key: u64) {
    let mut conn = Conn::new(&url);
    while !known.stop.load(Ordering::SeqCst) {
        let number = known.next.fetch_add(1, Ordering::SeqCst);
        let message = json!({ "payload": number, "ordering_key": format!("k{key}") });
        let Ok((status, body)) = ask(&mut conn, Method::POST, "/load/messages", message).await else {
            return;
        };
        assert_eq!(status, 201, "{body}");
        known.stored.lock().unwrap().insert(body["message_id"].as_str().unwrap().to_owned(), number);
    }
}

/// Works until the server is gone, or nothing is left.
async fn work(known: Arc<Known>, url: String, until_empty: bool) {
    let mut conn = Conn::new(&url);
    loop {
        // Leases of workers that were cut off are short: the next ones get their messages.
        let claim = json!({ "limit": 3, "lease_seconds": 2, "wait_seconds": 0.2 });
        let Ok((status, found)) = ask(&mut conn, Method::POST, "/load/claim", claim).await else { return };
        assert_eq!(status, 200, "{found}");
        let deliveries = found["deliveries"].as_array().unwrap();
        if deliveries.is_empty() && until_empty && is_empty(&mut conn).await {
            return;
        }
        for one in deliveries {
            let id = one["message_id"].as_str().unwrap().to_owned();
            assert!(!known.acked.lock().unwrap().contains(&id), "{id} came again after its ack was answered");
            known.sent.lock().unwrap().insert(id.clone());
            let ack = json!({ "items": [{ "receipt": one["receipt"], "outcome": "ack" }] });
            let Ok((status, body)) = ask(&mut conn, Method::POST, "/load/settle", ack).await else { return };
            assert_eq!(status, 200, "{body}");
            if body["results"][0]["status"] == "done" {
                known.acked.lock().unwrap().insert(id);
                let key = one["ordering_key"].as_str().unwrap().to_owned();
                let lease = one["lease_expires_at"].as_str().unwrap().to_owned();
                let number = one["payload"].as_u64().unwrap();
                known.done.lock().unwrap().entry(key).or_default().push((lease, number));
            }
        }
    }
}

async fn is_empty(conn: &mut Conn) -> bool {
    let (_, load) = ask(conn, Method::GET, "/load", Value::Null).await.unwrap();
    load["depth"] == json!({ "ready": 0, "scheduled": 0, "leased": 0, "dead": 0 })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_that_was_acknowledged_is_lost_or_out_of_order_over_kills() {
    let folder = tempfile::tempdir().unwrap();
    let known = Arc::new(Known::default());
    let mut server = serve(folder.path(), 0, None, &[]).await;
    for cycle in 0..count_of(CYCLES_ENV, CYCLES) {
        let mut clients = JoinSet::new();
        for key in 0..KEYS {
            clients.spawn(produce(Arc::clone(&known), server.url().to_owned(), key));
            clients.spawn(work(Arc::clone(&known), server.url().to_owned(), false));
        }
        let wanted = known.acked.lock().unwrap().len() + 20;
        let busy = async {
            while known.acked.lock().unwrap().len() < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, busy)
            .await
            .unwrap_or_else(|_| panic!("nothing moves in cycle {cycle}"));
        server = restart(server, folder.path()).await;
        known.stop.store(true, Ordering::SeqCst);
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
        known.stop.store(false, Ordering::SeqCst);
    }
    let mut workers = JoinSet::new();
    for _ in 0..2 {
        workers.spawn(work(Arc::clone(&known), server.url().to_owned(), true));
    }
    let over = async {
        while let Some(worker) = workers.join_next().await {
            worker.unwrap();
        }
    };
    tokio::time::timeout(4 * PATIENCE, over).await.expect("everything is worked off");
    let (stored, sent) = (known.stored.lock().unwrap().clone(), known.sent.lock().unwrap().clone());
    let lost: Vec<&String> = stored.keys().filter(|id| !sent.contains(*id)).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged messages never came: {lost:?}", lost.len(), stored.len());
    assert!(stored.len() > 50, "too little happened: {}", stored.len());
    for (key, leases) in known.done.lock().unwrap().iter_mut() {
        leases.sort();
        assert!(leases.is_sorted_by_key(|(_, number)| number), "{key} is out of order: {leases:?}");
    }
    println!("{} messages stored, {} acknowledged as done", stored.len(), known.acked.lock().unwrap().len());
    assert_eq!(server.terminate().await, Some(0));
}

/// Waits until somebody waits for a message at this node.
async fn until_waited_for(server: &Running) {
    let said = async {
        loop {
            let page = Conn::new(server.url()).get("/metrics").await.unwrap();
            let page = String::from_utf8(page.body.to_vec()).unwrap();
            if page.lines().any(|line| line.starts_with("turnwise_queues_waited_for 1")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, said).await.expect("somebody waits");
}

/// A message sent to one node is handed out by another, and what is set at one holds at the other.
async fn two_nodes_share_a_queue(store: &str) {
    let folder = tempfile::tempdir().unwrap();
    let env = [("TURNWISE_STORE", store)];
    let mut one = serve(folder.path(), 0, None, &env).await;
    let other = serve(folder.path(), 0, None, &env).await;
    let url = other.url().to_owned();
    let waiting = tokio::spawn(async move {
        let claim = json!({ "wait_seconds": 20, "lease_seconds": 3600 });
        ask(&mut Conn::new(&url), Method::POST, "/jobs/claim", claim).await.unwrap()
    });
    until_waited_for(&other).await;
    let keyed = |n: u32| json!({ "payload": n, "ordering_key": "k" });
    let first = told(&one, Method::POST, "/jobs/messages", keyed(1)).await;
    told(&one, Method::POST, "/jobs/messages", keyed(2)).await;
    let (status, found) = waiting.await.unwrap();
    let delivery = &found["deliveries"][0];
    assert_eq!((status, &delivery["message_id"]), (200, &first["message_id"]), "{found}");
    // One key, one lease, whichever node is asked; and a receipt is good at each of them.
    let none = told(&one, Method::POST, "/jobs/claim", json!({ "limit": 100 })).await;
    assert_eq!(none["deliveries"], json!([]));
    let ack = json!({ "receipt": delivery["receipt"], "outcome": "ack" });
    assert_eq!(told(&one, Method::POST, "/jobs/settle", ack).await["status"], "done");
    told(&one, Method::POST, "/jobs/pause", Value::Null).await;
    assert_eq!(told(&other, Method::GET, "/jobs", Value::Null).await["paused"], true);
    assert_eq!(told(&other, Method::POST, "/jobs/claim", json!({})).await["deliveries"], json!([]));
    one.kill().await;
    told(&other, Method::POST, "/jobs/resume", Value::Null).await;
    let second = told(&other, Method::POST, "/jobs/claim", json!({ "wait_seconds": 20 })).await;
    assert_eq!(second["deliveries"][0]["payload"], 2);
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn two_nodes_on_redis_share_a_queue() {
    let Some(server) = redis::start() else { return };
    two_nodes_share_a_queue(&redis::url(&server)).await;
}

#[tokio::test]
async fn two_nodes_on_postgres_share_a_queue() {
    let Some(server) = Postgres::start() else { return };
    two_nodes_share_a_queue(&server.url("queues")).await;
}

#[tokio::test]
async fn what_was_given_up_on_is_listed_put_back_and_dropped_from_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(folder.path(), 0, None, &[]).await;
    let mut ids = Vec::new();
    for reason in ["one", "two"] {
        let sent = told(&server, Method::POST, "/jobs/messages", json!({ "payload": reason })).await;
        let taken = told(&server, Method::POST, "/jobs/claim", json!({ "wait_seconds": 20 })).await;
        let dead =
            json!({ "receipt": taken["deliveries"][0]["receipt"], "outcome": "dead", "reason": reason });
        assert_eq!(told(&server, Method::POST, "/jobs/settle", dead).await["status"], "done");
        ids.push(sent["message_id"].as_str().unwrap().to_owned());
    }
    let shell = async |words: &[&str]| {
        let mut command = turnwise(folder.path());
        command.args(["dead", "--json"]).args(words).args(["--queue", "jobs", "--org", "acme"]);
        let output = run(command.args(["--url", server.url()])).await;
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        json_lines(&output.stdout)
    };
    let list = async || {
        let items = shell(&["list"]).await.into_iter();
        items.map(|item| (item["message_id"].clone(), item["reason"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(list().await, [(json!(ids[0]), json!("one")), (json!(ids[1]), json!("two"))]);
    assert_eq!(shell(&["show", &ids[1]]).await[0]["reason"], "two");
    let redriven = shell(&["redrive", &ids[0], "--yes"]).await;
    assert_eq!(redriven[0]["redriven"], 1);
    assert_eq!(shell(&["drop", &ids[1], "--yes"]).await[0]["dropped"], 1);
    assert_eq!(list().await, []);
    let jobs = told(&server, Method::GET, "/jobs", Value::Null).await;
    assert_eq!(jobs["depth"], json!({ "ready": 1, "scheduled": 0, "leased": 0, "dead": 0 }));
    assert_eq!(server.terminate().await, Some(0));
}
