//! The bounds of the settings: a node starts and answers at both ends of each,
//! and the next value is refused with the setting and the bound in words.

use crate::support::{accepted, read, run, serve, turnwise};
use turnwise_mock::FakeAgent;

/// Variable, setting, and its ends; then the values beyond them.
const BOUNDS: &[(&str, &str, [&str; 2], [&str; 2])] = &[
    ("TURNWISE_BODY_BYTES_MAX", "http.body_bytes_max", ["1024", "41943040"], ["1023", "41943041"]),
    ("TURNWISE_HTTP_HEAD", "http.head_seconds", ["1", "86400"], ["0.9", "86401"]),
    ("TURNWISE_HTTP_BODY_IDLE", "http.body_idle_seconds", ["1", "86400"], ["0.9", "86401"]),
    ("TURNWISE_HTTP_BODY", "http.body_seconds", ["1", "86400"], ["0.9", "86401"]),
    ("TURNWISE_HTTP_KEEP_ALIVE", "http.keep_alive_seconds", ["1", "86400"], ["0.9", "86401"]),
    ("TURNWISE_HTTP_WRITE_STALL", "http.write_stall_seconds", ["1", "86400"], ["0.9", "86401"]),
    ("TURNWISE_CONNECTIONS_MAX", "http.connections_max", ["16", "1000000"], ["15", "1000001"]),
    (
        "TURNWISE_CONNECTIONS_PER_ADDRESS_MAX",
        "http.connections_per_address_max",
        ["1", "1000000"],
        ["0", "1000001"],
    ),
    ("TURNWISE_WS_FRAME_BYTES_MAX", "ws.frame_bytes_max", ["1024", "41943040"], ["1023", "41943041"]),
    ("TURNWISE_WS_FRAMES_PER_KEY", "ws.frames_per_key_per_second", ["0", "1000000"], ["-1", "1000001"]),
    ("TURNWISE_WS_FRAMES_PER_KEY_BURST", "ws.frames_per_key_burst", ["0", "1000000"], ["-1", "1000001"]),
    ("TURNWISE_RATE_PER_KEY", "rate.per_key_per_second", ["0", "1000000"], ["-1", "1000001"]),
    ("TURNWISE_RATE_PER_KEY_BURST", "rate.per_key_burst", ["0", "1000000"], ["-1", "1000001"]),
    (
        "TURNWISE_RATE_PER_CONVERSATION",
        "rate.per_conversation_per_second",
        ["0", "1000000"],
        ["-1", "1000001"],
    ),
    (
        "TURNWISE_RATE_PER_CONVERSATION_BURST",
        "rate.per_conversation_burst",
        ["0", "1000000"],
        ["-1", "1000001"],
    ),
    ("WORKER_TIMEOUT", "agent.timeout_seconds", ["0.001", "2592000"], ["0", "2592001"]),
    ("TURNWISE_AGENT_CONCURRENCY", "agent.concurrency", ["1", "100000"], ["0", "100001"]),
    ("TURNWISE_CALLBACKS_CONCURRENCY", "callbacks.concurrency", ["1", "10000"], ["0", "10001"]),
    ("TURNWISE_CALLBACKS_HOST_CONCURRENCY", "callbacks.host_concurrency", ["1", "10000"], ["0", "10001"]),
    ("TURNWISE_CALLBACKS_TIMEOUT", "callbacks.timeout_seconds", ["0.001", "300"], ["0", "300.1"]),
    ("TURNWISE_CALLBACKS_MAX_ATTEMPTS", "callbacks.max_attempts", ["1", "1000"], ["0", "1001"]),
    ("TURNWISE_CONVERSATION_DEPTH_MAX", "conversation.depth_max", ["1", "1000000"], ["0", "1000001"]),
    ("TURNWISE_TURN_LEASE", "turn.lease_seconds", ["1", "43200"], ["0.9", "43201"]),
    ("TURNWISE_TURN_MAX_ATTEMPTS", "turn.max_attempts", ["1", "1000"], ["0", "1001"]),
    ("TURNWISE_RETRY_AFTER_MAX", "turn.retry_after_seconds_max", ["0.001", "2592000"], ["0", "2592001"]),
    ("TURNWISE_RETENTION", "turn.retention_seconds", ["1", "2592000"], ["0.9", "2592001"]),
    (
        "TURNWISE_RETAINED_TURNS_MAX",
        "turn.retained_turns_max",
        ["1", "9223372036854775807"],
        ["0", "9223372036854775808"],
    ),
    (
        "TURNWISE_RETAINED_BYTES_MAX",
        "turn.retained_bytes_max",
        ["1", "9223372036854775807"],
        ["0", "9223372036854775808"],
    ),
    (
        "TURNWISE_TURNS_WAITING_MAX",
        "turn.waiting_max",
        ["1", "9223372036854775807"],
        ["0", "9223372036854775808"],
    ),
    (
        "TURNWISE_TURNS_WAITING_PER_ORG_MAX",
        "turn.waiting_per_org_max",
        ["1", "9223372036854775807"],
        ["0", "9223372036854775808"],
    ),
    ("TURNWISE_DRAIN", "drain.seconds", ["0.001", "86400"], ["0", "86401"]),
    ("TURNWISE_DRAIN_LINGER", "drain.linger_seconds", ["0", "300"], ["-1", "301"]),
    ("TURNWISE_RUNTIME_THREADS", "runtime.threads", ["1", "256"], ["0", "257"]),
];

#[tokio::test]
async fn a_node_starts_and_answers_at_both_ends_of_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    let agent = FakeAgent::start(([127, 0, 0, 1], 0).into(), Default::default()).await.unwrap();
    for end in [0, 1] {
        let env: Vec<(&str, &str)> = BOUNDS
            .iter()
            .map(|(name, _, ends, _)| (*name, ends[end]))
            // No answer comes within a millisecond, and nobody waits for five minutes.
            .filter(|setting| {
                !matches!(setting, ("WORKER_TIMEOUT", "0.001") | ("TURNWISE_DRAIN_LINGER", "300"))
            })
            .chain([("TURNWISE_STORE_QUICK_REPAIR", ["false", "true"][end])])
            .collect();
        let server = serve(folder.path(), 0, Some(&agent.base_url()), &env).await;
        let id = accepted(server.url(), "alice", "hello").await;
        let events = read(server.url(), "alice", &id, None).await;
        assert_eq!(events.last().unwrap().event, "done", "{env:?}: {events:?}");
        assert_eq!(server.terminate().await, Some(0));
    }
    let server = serve(folder.path(), 0, Some(&agent.base_url()), &[("WORKER_TIMEOUT", "0.001")]).await;
    assert_eq!(server.terminate().await, Some(0));
}

#[tokio::test]
async fn beyond_a_bound_the_setting_and_the_bound_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for (name, key, ends, beyond) in BOUNDS {
        for wrong in beyond {
            let output = run(turnwise(folder.path()).args(["config", "check"]).env(name, wrong)).await;
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{name}={wrong}: {text}");
            let range = format!("from {} to {}", ends[0], ends[1]);
            assert!(text.contains(key) && text.contains(&range), "{name}={wrong}: {text}");
        }
    }
}
