//! Nodes that share a PostgreSQL database.

use crate::support::{Running, accepted, count_of, read, run, serve, stored, turnwise};
use std::time::Duration;
use tokio_postgres::{Client, NoTls};
use turnwise_mock::{AgentConfig, FakeAgent, SseEvent};
use turnwise_testkit::servers::postgres::Postgres;

/// Events of the agent in one answer, and the pause between them.
const ANSWER: &str = "hello [[events=6 gap=25]]";
/// What the broker keeps of it: six parts, the whole answer, and the end.
const STORED: usize = 8;

async fn node(folder: &tempfile::TempDir, server: &Postgres, agent: &FakeAgent) -> Running {
    serve(folder.path(), 0, Some(&agent.base_url()), &[("TURNWISE_STORE", &server.url("chat"))]).await
}

fn is_whole(events: &[SseEvent]) {
    let kept = stored(events);
    assert_eq!(kept.len(), STORED, "{kept:#?}");
    assert_eq!(kept.last().unwrap().event, "done");
}

#[tokio::test]
async fn a_turn_sent_to_one_node_is_read_whole_from_another_and_after_restarts() {
    let Some(server) = Postgres::start() else { return };
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let mut one = node(&folder, &server, &agent).await;
    let other = node(&folder, &server, &agent).await;
    let id = accepted(one.url(), "ann", ANSWER).await;
    let first = read(other.url(), "ann", &id, None).await;
    is_whole(&first);
    one.kill().await;
    server.server().restart();
    let again = read(other.url(), "ann", &id, None).await;
    assert_eq!(stored(&again), stored(&first), "a killed node and server change nothing");
    let next = accepted(other.url(), "ann", ANSWER).await;
    is_whole(&read(other.url(), "ann", &next, None).await);
    assert_eq!(other.terminate().await, Some(0));
}

#[tokio::test]
async fn a_server_that_does_not_write_before_it_answers_is_refused_until_that_is_accepted() {
    let Some(server) = Postgres::start_with(&["synchronous_commit=off"]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = server.url("chat").replace("turnwise@", "turnwise:hunter2@");
    for (url, says) in [(store.clone(), "relaxed"), (format!("{store}&sslmode=maybe"), "sslmode")] {
        let mut command = turnwise(folder.path());
        let output = run(command.args(["serve", "--port", "0"]).env("TURNWISE_STORE", &url)).await;
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }
    let relaxed = [("TURNWISE_STORE", store.as_str()), ("TURNWISE_STORE_DURABILITY", "relaxed")];
    let node = serve(folder.path(), 0, None, &relaxed).await;
    assert!(!node.ready["store"].as_str().unwrap().contains("hunter2"));
    assert_eq!(node.terminate().await, Some(0));
}

/// Conversations that nothing happens in, unless [`IDLE_ENV`] says otherwise.
const IDLE: u32 = 10_000;
const IDLE_ENV: &str = "TURNWISE_IDLE_CONVERSATIONS";
/// What the others are compared with.
const IDLE_FEW: u32 = 100;
/// For so long statements are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// Statements that one window may hold more than the next: what happens once a second, a minute or so.
const STRAYS: i64 = 15;
/// Blocks of one page of a thousand rows, which housekeeping may look at in a window.
const PAGE: i64 = 10_000;

/// A conversation that ended and one whose turn waits for a day, copied.
const COPIES: &str = "
    SET search_path = chat, public;
    CREATE TEMP TABLE c AS SELECT n, nextval('places') AS seq FROM generate_series(1, COUNT) n;
    INSERT INTO message SELECT c.seq, nonce, queue_id, key || convert_to(c.seq::text, 'UTF8'), stage, c.seq, c.seq,
            priority, max_attempts, attempt, enqueued_at, deliver_at, expires_at, reason, ended_seq, ended_nonce, body, at_end
        FROM message m, c WHERE m.seq = (SELECT head FROM lane ORDER BY id LIMIT 1);
    INSERT INTO lane SELECT c.seq, queue_id, key || convert_to(c.seq::text, 'UTF8'), length, c.seq, priority, c.seq, c.seq,
            max_attempts, expires_at, attempt, not_before + 86400000000, token, until, stop
        FROM lane l, c WHERE l.id = (SELECT min(id) FROM lane);
    INSERT INTO event SELECT nextval('places'), at_offset, position, appended_at, size, body
        FROM (SELECT * FROM event ORDER BY topic_id DESC, at_offset LIMIT 1) e, c;
    INSERT INTO topic SELECT e.topic_id, org, kind, name || '-' || e.topic_id, at_offset, at_offset, size, keep_until, t.position
        FROM event e, (SELECT * FROM topic ORDER BY id DESC LIMIT 1) t
        WHERE NOT EXISTS (SELECT FROM topic WHERE id = e.topic_id);
    DROP TABLE c;";

/// Statements that were run in one window, and blocks that they looked at.
async fn traffic(client: &Client) -> (i64, i64) {
    client.execute("SELECT pg_stat_statements_reset()", &[]).await.unwrap();
    tokio::time::sleep(WINDOW).await;
    let sums = "SELECT sum(calls)::bigint, sum(shared_blks_hit + shared_blks_read)::bigint \
        FROM pg_stat_statements WHERE query NOT LIKE '%pg_stat_statements%'";
    let row = client.query_one(sums, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test]
async fn idle_conversations_make_no_traffic() {
    let settings = ["shared_preload_libraries=pg_stat_statements", "autovacuum=off", "synchronous_commit=on"];
    let Some(server) = Postgres::start_with(&settings) else { return };
    let url = server.url("chat");
    let (client, connection) = tokio_postgres::connect(url.split('?').next().unwrap(), NoTls).await.unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute("CREATE EXTENSION pg_stat_statements").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), AgentConfig::default()).await.unwrap();
    let node = node(&folder, &server, &agent).await;
    let waiting = accepted(node.url(), "bob", "later [[status=429 retry_after=86400]]").await;
    let id = accepted(node.url(), "ann", ANSWER).await;
    is_whole(&read(node.url(), "ann", &id, None).await);
    let waits = "SELECT count(*) FROM chat.lane WHERE not_before IS NOT NULL";
    while client.query_one(waits, &[]).await.unwrap().get::<_, i64>(0) == 0 {
        tokio::task::yield_now().await;
    }
    let mut seen = Vec::new();
    for many in [IDLE_FEW, count_of(IDLE_ENV, IDLE)] {
        client.batch_execute(&COPIES.replace("COUNT", &many.to_string())).await.unwrap();
        seen.push((many, traffic(&client).await));
    }
    println!(
        "idle conversations, (statements, blocks looked at) in {WINDOW:?}: {seen:?} (one waits: {waiting})"
    );
    let [(_, few), (_, many)] = seen[..] else { panic!("two windows") };
    assert!(few.0 > 0, "it looks for what falls due");
    assert!(many.0 <= few.0 + STRAYS, "{seen:?}");
    assert!(many.1 <= 2 * few.1 + PAGE, "{seen:?}");
    assert_eq!(node.terminate().await, Some(0));
    driver.abort();
}
