//! Rates: too much is refused and not stored, and nobody else feels it.

use crate::client::{Call, get, post};
use crate::node::{body_of, key, node};
use turnwise_gateway::Rate;

/// None comes back while the test runs.
const SLOW: Rate = Rate { per_second: 1, burst: 600 };
/// Enough asking to use up a burst and what comes back meanwhile.
const MANY: usize = 5_000;

fn of(key: &str, call: Call) -> Call {
    call.header("X-API-Key", key)
}

fn says(user: &str, org: &str) -> Call {
    of(&format!("secret-{org}"), post(&body_of(org, user, "x")).header("Prefer", "respond-async"))
}

#[tokio::test]
async fn one_key_that_asks_too_often_is_refused_and_others_are_not() {
    let node = node(|config| {
        config.keys = vec![key("o"), key("p")];
        config.key_rate = Some(SLOW);
    })
    .await;
    let mut asked = 0;
    let refusal = loop {
        let reply = node.send(&of("secret-o", get("/api/v1/queue/u"))).await;
        asked += 1;
        assert_eq!(reply.header("ratelimit-policy"), Some("\"key\";q=600;w=600"));
        if reply.status == 429 {
            break reply;
        }
        assert!(reply.status == 200 && asked < MANY);
    };
    assert!(asked > 600, "{asked}");
    refusal.assert_problem(429, "rate_limited");
    assert_eq!(refusal.header("retry-after"), Some("1"));
    assert_eq!(refusal.header("ratelimit"), Some("\"key\";r=0;t=600"));
    assert_eq!(refusal.json()["retryable"], true);
    let other = node.send(&of("secret-p", get("/api/v1/queue/u"))).await;
    assert_eq!((other.status, other.header("ratelimit")), (200, Some("\"key\";r=599;t=1")));
    // Probes are for everybody, and wrong keys are no key's.
    assert_eq!(node.send(&get("/livez")).await.header("ratelimit"), None);
    assert_eq!(node.send(&of("wrong", get("/api/v1/queue/u"))).await.status, 403);
}

#[tokio::test]
async fn a_conversation_that_gets_too_much_is_refused_and_others_are_not() {
    let rate = Rate { per_second: 1, burst: 40 };
    let node = node(|config| {
        config.keys = vec![key("o"), key("p")];
        config.conversation_rate = Some(rate);
    })
    .await;
    let mut accepted = 0;
    let refusal = loop {
        let reply = node.send(&says("u", "o")).await;
        if reply.status == 429 {
            break reply;
        }
        assert_eq!(reply.status, 200, "{}", reply.text());
        accepted += 1;
    };
    refusal.assert_problem(429, "rate_limited");
    assert_eq!(refusal.header("ratelimit-policy"), Some("\"conversation\";q=40;w=40"));
    assert!(refusal.header("retry-after").is_some());
    // What was refused is not stored.
    let queue = node.send(&of("secret-o", get("/api/v1/queue/u"))).await;
    assert_eq!(queue.json()["queue_length"], accepted);
    assert_eq!(queue.header("ratelimit"), None);
    // Another user, the same user of another org, and a group.
    for call in [says("v", "o"), says("u", "p")] {
        assert_eq!(node.send(&call).await.header("ratelimit"), Some("\"conversation\";r=39;t=1"));
    }
    let group =
        body_of("o", "u", "x").replace("\"web\"", "\"web\",\"chat_type\":\"group\",\"chat_id\":\"u\"");
    let group = of("secret-o", post(&group).header("Prefer", "respond-async"));
    assert_eq!(node.send(&group).await.header("ratelimit"), Some("\"conversation\";r=39;t=1"));
}

#[tokio::test]
async fn both_rates_are_told_side_by_side() {
    let node = node(|config| {
        config.keys = vec![key("o")];
        (config.key_rate, config.conversation_rate) = (Some(SLOW), Some(SLOW));
    })
    .await;
    let reply = node.send(&says("u", "o")).await;
    let told: Vec<_> = reply.sorted_headers().into_iter().filter(|(name, _)| *name == "ratelimit").collect();
    assert_eq!(told, [("ratelimit", "\"conversation\";r=599;t=1"), ("ratelimit", "\"key\";r=599;t=1")]);
}

#[tokio::test]
async fn without_a_rate_nothing_is_counted() {
    let node = node(|config| config.keys = vec![key("o")]).await;
    assert_eq!(node.send(&says("u", "o")).await.header("ratelimit"), None);
}
