//! Who is let in, and how the others are told.

use super::client::{connect, connect_as, handshake, open};
use crate::node::{Node, key, node};
use serde_json::{Value, json};
use turnwise_gateway::{ApiKey, Scope};

/// The answer to a handshake that is refused.
async fn refused(node: &Node, call: &crate::client::Call, status: u16, code: &str) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    stream.write_all(&call.bytes_with(node.address, "Upgrade")).await.unwrap();
    let mut answer = Vec::new();
    let code = format!("\"code\":\"{code}\"");
    while !String::from_utf8_lossy(&answer).contains(&code) {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "{}", String::from_utf8_lossy(&answer));
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
}

#[tokio::test]
async fn what_is_no_handshake_is_told_how_to_make_one() {
    let node = node(|_| {}).await;
    let good = || handshake("org_id=o");
    connect_as(&node, &good()).await;
    connect_as(&node, &good().header("Upgrade", "h2c, WebSocket")).await;
    node.send(&good().header("Upgrade", "")).await.assert_problem(426, "upgrade_required");
    refused(&node, &good().header("Upgrade", "h2c"), 426, "upgrade_required").await;
    refused(&node, &good().header("Sec-WebSocket-Version", "8"), 426, "upgrade_required").await;
    refused(&node, &good().header("Sec-WebSocket-Version", ""), 426, "upgrade_required").await;
    for key in ["", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZQ==", "????", "dGhlIHNhbXBsZSBub25jZSE="] {
        refused(&node, &good().header("Sec-WebSocket-Key", key), 400, "bad_request").await;
    }
    refused(&node, &good().header("Content-Length", "5").wire_body(b"hello".to_vec()), 400, "bad_request")
        .await;
    refused(&node, &handshake(""), 422, "invalid_content").await;
    refused(&node, &handshake("org_id=o&agent_id=%0A"), 422, "invalid_content").await;
}

/// Flaw 26 of the reference: anybody was let in as anybody.
#[tokio::test]
async fn a_connection_needs_a_key_of_its_organisation() {
    let topics = ApiKey { scopes: vec![Scope::Topics], ..key("o") };
    let node = node(|config| config.keys = vec![topics, key("c")]).await;
    let with = |secret: &str, query: &str| handshake(query).header("X-API-Key", secret);
    refused(&node, &handshake("org_id=o"), 401, "missing_key").await;
    refused(&node, &with("wrong", "org_id=o"), 403, "invalid_key").await;
    refused(&node, &with("secret-o", "org_id=p"), 403, "org_forbidden").await;
    refused(&node, &with("secret-c", ""), 403, "scope_missing").await;
    refused(&node, &handshake("org_id=o&api_key=secret-o"), 400, "key_in_query").await;
    connect_as(&node, &with("secret-o", "")).await;
    connect_as(&node, &handshake("").header("Authorization", "Bearer secret-o")).await;
}

#[tokio::test]
async fn pages_from_elsewhere_are_refused_with_keys_and_without() {
    for keys in [vec![], vec![ApiKey { scopes: vec![Scope::Topics], ..key("o") }]] {
        let node = node(|config| {
            config.keys = keys;
            config.cors_origins = vec!["https://chat.example.org".to_owned()];
        })
        .await;
        let of =
            |origin: &str| handshake("org_id=o").header("X-API-Key", "secret-o").header("Origin", origin);
        connect_as(&node, &of(&format!("http://{}", node.address))).await;
        connect_as(&node, &of("https://chat.example.org")).await;
        for origin in
            ["https://evil.example", "null", "http://127.0.0.1:1", "https://chat.example.org.evil.example"]
        {
            refused(&node, &of(origin), 403, "origin_forbidden").await;
        }
    }
}

async fn ticket(node: &Node, key: &str, json: &Value) -> crate::client::Reply {
    node.send(&crate::client::post_to("/api/v1/tickets", &json.to_string()).header("X-API-Key", key)).await
}

/// A browser cannot see how a handshake was answered, so it is let in and told by a close code.
#[tokio::test]
async fn a_ticket_opens_one_connection_as_whom_it_says() {
    let reader = ApiKey { scopes: vec![Scope::TopicsRead, Scope::Bus], ..key("o") };
    let node = node(|config| {
        config.keys = vec![reader, key("c")];
        config.ticket_secret = Some([7; 32]);
    })
    .await;
    let who = json!({ "connect": { "agent_id": "a", "user_id": "u" } });
    ticket(&node, "secret-c", &who).await.assert_problem(403, "scope_missing");
    let foreign = json!({ "connect": { "org_id": "p" } });
    ticket(&node, "secret-o", &foreign).await.assert_problem(403, "org_forbidden");
    for wrong in [
        json!({}),
        json!({ "connect": {}, "subscribe": { "topics": ["t"] } }),
        json!({ "connect": { "agent_id": "" } }),
    ] {
        ticket(&node, "secret-o", &wrong).await.assert_problem(422, "invalid_content");
    }
    let new = async || {
        let reply = ticket(&node, "secret-o", &who).await;
        assert_eq!(
            (reply.status, reply.json()["lifetime_seconds"].as_u64()),
            (201, Some(0)),
            "{}",
            reply.text()
        );
        reply.json()["ticket"].as_str().unwrap().to_owned()
    };
    let good = new().await;
    let mut socket = connect_as(&node, &handshake(&format!("ticket={good}&agent_id=a"))).await;
    assert_eq!(socket.ask(&json!({ "type": "subscribe", "topics": ["t"] })).await["type"], "subscribed");
    let unauthorized = (4401, "invalid_ticket".to_owned());
    assert_eq!(open(&node, &handshake(&format!("ticket={good}"))).await.closed().await, unauthorized);
    assert_eq!(open(&node, &handshake("ticket=x")).await.closed().await, unauthorized);
    let forbidden = (4403, "forbidden".to_owned());
    let other = handshake(&format!("ticket={}&agent_id=b", new().await));
    assert_eq!(open(&node, &other).await.closed().await, forbidden);
    let page = handshake(&format!("ticket={}", new().await)).header("Origin", "https://evil.example");
    assert_eq!(open(&node, &page).await.closed().await, forbidden);
    node.send(&crate::client::get(&format!("/api/v1/topics?ticket={}", new().await)))
        .await
        .assert_problem(401, "missing_key");
}

#[tokio::test]
async fn a_ticket_follows_just_the_topics_it_names() {
    let reader = ApiKey { scopes: vec![Scope::TopicsRead], ..key("o") };
    let node = node(|config| {
        config.keys = vec![reader];
        config.ticket_secret = Some([7; 32]);
    })
    .await;
    let reply = ticket(&node, "secret-o", &json!({ "subscribe": { "topics": ["a.*", "b"] } })).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    let ticket = reply.json()["ticket"].as_str().unwrap().to_owned();
    let follow =
        |topics: &str| crate::client::get(&format!("/api/v1/subscribe?topics={topics}&ticket={ticket}"));
    for _again in 0..2 {
        assert_eq!(follow("b,a.*").open(node.address).await.head.status, 200);
    }
    for other in ["b", "a.*,b,c", "%3E", ""] {
        node.send(&follow(other)).await.assert_problem(403, "invalid_ticket");
    }
}

#[tokio::test]
async fn there_are_so_many_connections_in_all_and_of_a_key() {
    let of = |org: &str| ApiKey { scopes: vec![Scope::Topics], ..key(org) };
    let node = node(|config| {
        config.keys = vec![of("o"), of("p")];
        config.streams_max = 3;
        config.streams_per_key_max = 2;
    })
    .await;
    let with = |secret: &str| handshake("").header("X-API-Key", secret);
    let (one, _two) =
        (connect_as(&node, &with("secret-o")).await, connect_as(&node, &with("secret-o")).await);
    assert_eq!(open(&node, &with("secret-o")).await.closed().await, (1013, "full".to_owned()));
    let _three = connect_as(&node, &with("secret-p")).await;
    assert_eq!(open(&node, &with("secret-p")).await.closed().await, (1013, "full".to_owned()));
    drop(one);
    node.until(|counters| counters.connections() == 2).await;
    connect_as(&node, &with("secret-p")).await;
}

async fn shown(node: &Node, path: &str) -> Value {
    let reply = node.send(&crate::client::get(path).header("X-API-Key", "secret-admin")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

/// Flaw 26 of the reference, its second half: the lists were open to everybody.
#[tokio::test]
async fn administrators_see_who_is_connected_and_nobody_else_does() {
    let admin = ApiKey { orgs: Vec::new(), scopes: vec![Scope::Admin], ..key("admin") };
    let own_admin = ApiKey { orgs: vec!["o".to_owned()], scopes: vec![Scope::Admin], ..key("own") };
    let topics = ApiKey { scopes: vec![Scope::Topics, Scope::Bus], ..key("o") };
    let node = node(|config| config.keys = vec![admin, own_admin, topics]).await;
    let who = "org_id=o&user_id=u1&workspace_id=w&agent_id=a";
    let mut one = connect_as(&node, &handshake(who).header("X-API-Key", "secret-o")).await;
    one.ask(&json!({ "type": "subscribe", "topics": ["t.*", "u"] })).await;
    let of_p = handshake("org_id=p&user_id=u1").header("X-API-Key", "secret-admin");
    let _two = connect_as(&node, &of_p).await;
    let _three = connect_as(&node, &of_p).await;
    for path in ["/ws/connections", "/ws/connections/x", "/ws/stats"] {
        node.send(&crate::client::get(path)).await.assert_problem(401, "missing_key");
        let reply = node.send(&crate::client::get(path).header("X-API-Key", "secret-o")).await;
        reply.assert_problem(403, "scope_missing");
    }
    let stats = shown(&node, "/ws/stats").await;
    let expected = json!({ "total_connections": 3, "unique_users": 2, "unique_workspaces": 1,
        "unique_agents": 1, "active_topics": 2 });
    assert_eq!(stats, expected);
    let list = shown(&node, "/ws/connections").await;
    assert_eq!((&list["total_connections"], &list["next"]), (&json!(3), &Value::Null));
    let first = list["connections"][0].clone();
    let id = first["connection_id"].as_str().unwrap();
    assert!(id.len() == 21 && id.starts_with("conn_"), "{id}");
    for (field, value) in
        [("org_id", "o"), ("user_id", "u1"), ("workspace_id", "w"), ("agent_id", "a"), ("state", "connected")]
    {
        assert_eq!(first[field], value, "{first}");
    }
    assert_eq!(first["subscriptions"], json!(["t.*", "u"]));
    assert!(first["duration_seconds"].as_f64().unwrap() >= 0.0);
    let same = shown(&node, &format!("/ws/connections/{id}")).await;
    assert_eq!(
        (&same["connection_id"], &same["connected_at"]),
        (&first["connection_id"], &first["connected_at"])
    );
    let page = shown(&node, "/ws/connections?limit=2").await;
    assert_eq!(page["connections"].as_array().unwrap().len(), 2);
    let rest =
        shown(&node, &format!("/ws/connections?limit=2&after={}", page["next"].as_str().unwrap())).await;
    assert_eq!((rest["connections"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));
    // An administrator of one organisation sees that one's.
    let own = |path: &str| crate::client::get(path).header("X-API-Key", "secret-own");
    assert_eq!(node.send(&own("/ws/stats")).await.json()["total_connections"], 1);
    let foreign = rest["connections"][0]["connection_id"].as_str().unwrap();
    node.send(&own(&format!("/ws/connections/{foreign}"))).await.assert_problem(404, "not_found");
    drop(one);
    node.until(|counters| counters.connections() == 2).await;
    assert_eq!(shown(&node, "/ws/stats").await["total_connections"], 2);
}

#[tokio::test]
async fn frames_of_a_key_have_a_rate_over_all_its_connections() {
    let node =
        node(|config| config.ws_frame_rate = Some(turnwise_gateway::Rate { per_second: 1, burst: 4 })).await;
    let (mut one, mut two) = (connect(&node).await, connect(&node).await);
    let mut answers = Vec::new();
    for n in 0..8 {
        let socket = if n % 2 == 0 { &mut one } else { &mut two };
        answers.push(socket.ask(&json!({ "type": "ping" })).await);
    }
    let refused = answers.iter().find(|answer| answer["type"] == "error").expect("some are too many");
    assert_eq!(refused["code"], "rate_limited");
    assert!(refused["retry_after"].as_u64().unwrap() >= 1);
    assert!(answers.iter().take(4).all(|answer| answer["type"] == "pong"), "{answers:?}");
}
