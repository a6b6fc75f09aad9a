//! Topics through the API: publishing, history, lists, keys and CloudEvents.

use crate::client::{Call, Reply, get, post_to};
use crate::node::{Node, key, node, node_on};
use serde_json::{Value, json};
use turnwise_broker::BrokerConfig;
use turnwise_core::{Kind, Name, Offset, TopicStore};
use turnwise_gateway::{ApiKey, Scope};
use turnwise_store::memory::MemoryStore;
use turnwise_store::system_clock;

pub(crate) fn events_of(topic: &str) -> String {
    format!("/api/v1/topics/{topic}/events?org_id=o")
}

/// A publish of this body to a topic of org o.
pub(crate) fn publish(topic: &str, body: &Value) -> Call {
    post_to(&events_of(topic), &body.to_string())
}

/// Publishes one event with this data; its answer.
pub(crate) async fn say(node: &Node, topic: &str, data: Value) -> Value {
    let reply = node.send(&publish(topic, &json!({ "type": "said", "data": data }))).await;
    assert_eq!(reply.status, 201, "{}", reply.text());
    reply.json()
}

async fn history(node: &Node, topic: &str, query: &str) -> Value {
    let reply = node.send(&get(&format!("{}{query}", events_of(topic)))).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

fn data(page: &Value) -> Vec<Value> {
    page["items"].as_array().unwrap().iter().map(|item| item["data"].clone()).collect()
}

#[tokio::test]
async fn what_is_published_is_read_in_order_page_by_page() {
    let node = node(|_| {}).await;
    assert_eq!(history(&node, "orders", "").await["items"], json!([]), "nobody has published");
    let first = say(&node, "orders", json!({ "n": 0 })).await;
    assert_eq!(first["subscribers"], 0);
    let items: Vec<Value> = (1..8).map(|n| json!({ "type": "said", "data": { "n": n } })).collect();
    let batch = node.send(&publish("orders", &json!({ "items": items }))).await;
    assert_eq!(batch.status, 201, "{}", batch.text());
    let positions: Vec<Value> =
        batch.json()["results"].as_array().unwrap().iter().map(|result| result["position"].clone()).collect();
    node.send(&publish("orders", &json!({ "type": "last.one" }))).await;
    let whole = history(&node, "orders", "").await;
    let expected: Vec<Value> = (0..8).map(|n| json!({ "n": n })).chain([Value::Null]).collect();
    assert_eq!((data(&whole), &whole["gap"]), (expected, &json!(false)));
    assert_eq!(whole["items"][8]["type"], "last.one");
    assert_eq!(
        (&whole["items"][0]["position"], &whole["items"][0]["topic"]),
        (&first["position"], &json!("orders"))
    );
    assert!(whole["items"][0]["time"].as_str().unwrap().ends_with('Z'));
    let told: Vec<Value> = (1..8).map(|n| whole["items"][n]["position"].clone()).collect();
    assert_eq!(told, positions);
    // From every position on, and page by page, it is the same.
    for (n, item) in whole["items"].as_array().unwrap().iter().enumerate() {
        let rest = history(&node, "orders", &format!("&after={}", item["position"].as_str().unwrap())).await;
        assert_eq!(data(&rest), data(&whole)[n + 1..]);
    }
    let (mut paged, mut query) = (Vec::new(), "&limit=2".to_owned());
    loop {
        let page = history(&node, "orders", &query).await;
        assert!(data(&page).len() <= 2);
        if data(&page).is_empty() {
            break;
        }
        paged.extend(data(&page));
        query = format!("&limit=2&after={}", page["next"].as_str().unwrap());
    }
    assert_eq!(paged, data(&whole));
}

#[tokio::test]
async fn a_repeat_is_the_same_event_and_other_content_is_refused() {
    let node = node(|_| {}).await;
    let once = |n: u32| json!({ "type": "said", "data": n, "dedup_key": "k" });
    let first = node.send(&publish("t", &once(1))).await.json();
    assert_eq!(node.send(&publish("t", &once(1))).await.json()["position"], first["position"]);
    node.send(&publish("t", &once(2))).await.assert_problem(422, "idempotency_conflict");
    // The header stands for the key, and of a batch each event has its own.
    let by_header = publish("t", &json!({ "type": "said", "data": 1 })).header("Idempotency-Key", "k");
    assert_eq!(node.send(&by_header).await.json()["position"], first["position"]);
    let other = publish("t", &once(1)).header("Idempotency-Key", "other");
    node.send(&other).await.assert_problem(422, "invalid_content");
    let items = json!({ "items": [{ "type": "a" }, { "type": "b" }, { "type": "said", "data": 3, "dedup_key": "k" }] });
    let batch = publish("t", &items).header("Idempotency-Key", "batch");
    let (one, again) = (node.send(&batch).await.json(), node.send(&batch).await.json());
    assert_eq!(one["results"], again["results"]);
    assert_eq!(one["results"][2]["error"]["code"], "idempotency_conflict");
    assert!(one["results"][0]["position"].is_string() && one["results"][2]["position"].is_null());
    assert_eq!(data(&history(&node, "t", "").await), [json!(1), Value::Null, Value::Null]);
    // Another topic knows nothing of it.
    let elsewhere = node.send(&publish("u", &once(2))).await;
    assert_eq!(elsewhere.status, 201);
}

#[tokio::test]
async fn a_trimmed_place_is_told_and_history_goes_on_with_what_is_kept() {
    let store = MemoryStore::new(system_clock());
    let node = node_on(store.clone(), BrokerConfig::default(), |_| {}).await;
    let mut positions = Vec::new();
    for n in 0..5 {
        positions.push(say(&node, "t", json!(n)).await["position"].as_str().unwrap().to_owned());
    }
    let name = Name::new("o", Kind::Public, "t").unwrap();
    store.trim(&name, Offset(4)).await.unwrap();
    let page = history(&node, "t", &format!("&after={}", positions[0])).await;
    assert_eq!((&page["gap"], data(&page)), (&json!(true), vec![json!(3), json!(4)]));
    let page = history(&node, "t", &format!("&after={}", positions[2])).await;
    assert_eq!(
        (&page["gap"], data(&page)),
        (&json!(false), vec![json!(3), json!(4)]),
        "it has seen what is gone"
    );
    let shown = node.send(&get("/api/v1/topics/t?org_id=o")).await.json();
    assert_eq!((&shown["events"], shown["start"].as_str()), (&json!(2), Some(positions[2].as_str())));
    store.trim(&name, Offset(6)).await.unwrap();
    let page = history(&node, "t", &format!("&after={}", positions[0])).await;
    assert_eq!((&page["gap"], data(&page).len()), (&json!(true), 0), "all of it is gone");
    assert_eq!(page["next"].as_str(), Some(positions[4].as_str()));
}

#[tokio::test]
async fn topics_are_listed_by_name_with_their_tails() {
    let node = node(|_| {}).await;
    for topic in ["b.2", "a", "b.1", "b.1.x", "c:1"] {
        say(&node, topic, json!(topic)).await;
    }
    let last = say(&node, "a", json!(2)).await;
    let list = async |query: &str| {
        let page = node.send(&get(&format!("/api/v1/topics?org_id=o{query}"))).await.json();
        let names =
            page["items"].as_array().unwrap().iter().map(|topic| topic["name"].as_str().unwrap().to_owned());
        (names.collect::<Vec<_>>(), page["next"].clone())
    };
    let all = ["a", "b.1", "b.1.x", "b.2", "c:1"];
    assert_eq!(list("").await.0, all);
    assert_eq!(list("&topics=b.*").await.0, ["b.1", "b.2"]);
    assert_eq!(list("&topics=b.%3E").await.0, ["b.1", "b.1.x", "b.2"]);
    assert_eq!(list("&limit=2").await, (vec!["a".to_owned(), "b.1".to_owned()], json!("b.1")));
    assert_eq!(list("&limit=2&after=b.1").await.0, ["b.1.x", "b.2"]);
    assert_eq!(list("&limit=2&after=b.2").await, (vec!["c:1".to_owned()], Value::Null));
    let shown = node.send(&get("/api/v1/topics/a?org_id=o")).await.json();
    assert_eq!((&shown["last"], &shown["events"]), (&last["position"], &json!(2)));
    assert!(shown["bytes"].as_u64().unwrap() > 0);
    node.send(&get("/api/v1/topics/nobody?org_id=o")).await.assert_problem(404, "not_found");
}

#[tokio::test]
async fn orgs_share_names_and_nothing_else_and_scopes_are_kept() {
    let node = node(|config| {
        let topics = |name: &str, scope| ApiKey { scopes: vec![scope], ..key(name) };
        config.keys =
            vec![topics("a", Scope::Topics), topics("b", Scope::Topics), topics("r", Scope::TopicsRead)];
        config.keys[2].orgs = vec!["a".to_owned()];
        config.keys.push(ApiKey { scopes: vec![Scope::Topics], orgs: Vec::new(), ..key("all") });
    })
    .await;
    let path = "/api/v1/topics/t/events";
    let with = |key: &str, call: Call| call.header("X-API-Key", &format!("secret-{key}"));
    let speak = |key: &str, query: &str| {
        with(key, post_to(&format!("{path}{query}"), r#"{"type":"x","data":"of-a"}"#))
    };
    assert_eq!(node.send(&speak("a", "")).await.status, 201, "a key for one org need not name it");
    let read = async |key: &str, path: &str| node.send(&with(key, get(path))).await;
    assert_eq!(data(&read("a", path).await.json()), ["of-a"]);
    assert_eq!(data(&read("r", path).await.json()), ["of-a"]);
    for other in [path, "/api/v1/topics"] {
        assert_eq!(read("b", other).await.json()["items"], json!([]), "{other}");
    }
    read("b", "/api/v1/topics/t").await.assert_problem(404, "not_found");
    for foreign in [format!("{path}?org_id=a"), "/api/v1/subscribe?topics=t&org_id=a".to_owned()] {
        read("b", &foreign).await.assert_problem(403, "org_forbidden");
    }
    node.send(&speak("b", "?org_id=a")).await.assert_problem(403, "org_forbidden");
    node.send(&speak("r", "")).await.assert_problem(403, "scope_missing");
    read("all", path).await.assert_problem(422, "invalid_content");
    assert_eq!(data(&read("all", &format!("{path}?org_id=a")).await.json()), ["of-a"]);
    assert_eq!(read("all", &format!("{path}?org_id=b")).await.json()["items"], json!([]));
}

/// A CloudEvent with this id.
fn cloud(id: &str) -> Value {
    json!({ "specversion": "1.0", "type": "com.example.sold", "source": "/shop", "id": id, "subject": "42",
        "time": "2026-11-21T12:00:00Z", "datacontenttype": "application/json", "comexampletry": 1, "data": { "n": 7 } })
}

#[tokio::test]
async fn cloudevents_come_back_whole_in_whatever_mode_they_came() {
    let node = node(|_| {}).await;
    let send = async |media: &str, body: String, fields: &[(&str, &str)]| -> Reply {
        let mut call = post_to(&events_of("t"), &body).header("Content-Type", media);
        for (name, value) in fields {
            call = call.header(name, value);
        }
        node.send(&call).await
    };
    let structured = send("application/cloudevents+json; charset=utf-8", cloud("1").to_string(), &[]).await;
    assert_eq!(structured.status, 201, "{}", structured.text());
    let attributes = [
        ("ce-specversion", "1.0"),
        ("ce-type", "com.example.sold"),
        ("ce-source", "/shop"),
        ("ce-id", "2"),
        ("ce-subject", "Euro%20%E2%82%AC"),
    ];
    let binary = send("application/json", r#"{"n":8}"#.to_owned(), &attributes).await;
    assert_eq!(binary.status, 201, "{}", binary.text());
    let bytes = [&attributes[..3], &[("ce-id", "3")]].concat();
    assert_eq!(send("application/octet-stream", "\u{1}\u{2}".to_owned(), &bytes).await.status, 201);
    let batch = json!([cloud("4"), cloud("5"), cloud("1")]).to_string();
    let batch = send("application/cloudevents-batch+json", batch, &[]).await.json();
    assert_eq!(
        batch["results"][2]["position"],
        structured.json()["position"],
        "the same source and id again"
    );
    let page = history(&node, "t", "").await;
    let events: Vec<&Value> =
        page["items"].as_array().unwrap().iter().map(|item| &item["cloudevent"]).collect();
    assert_eq!(events.len(), 5, "{page}");
    assert_eq!((events[0], events[3], events[4]), (&cloud("1"), &cloud("4"), &cloud("5")));
    assert_eq!((&events[1]["data"]["n"], &events[1]["subject"]), (&json!(8), &json!("Euro €")));
    assert_eq!(
        (&events[1]["datacontenttype"], &events[2]["data_base64"]),
        (&json!("application/json"), &json!("AQI="))
    );
    assert!(
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|item| item["data"].is_null() && item["type"] == "com.example.sold")
    );
    // The same id with other content is no repeat.
    let mut other = cloud("1");
    other["data"] = json!(0);
    let conflict = send("application/cloudevents+json", other.to_string(), &[]).await;
    conflict.assert_problem(422, "idempotency_conflict");
    let mut without = cloud("9");
    without.as_object_mut().unwrap().remove("source");
    let refused = send("application/cloudevents+json", without.to_string(), &[]).await;
    refused.assert_problem(422, "invalid_content");
    assert_eq!(refused.json()["errors"][0]["pointer"], "/source");
    let refused =
        send("application/cloudevents-batch+json", json!([cloud("8"), without]).to_string(), &[]).await;
    assert_eq!(refused.json()["errors"][0]["pointer"], "/1/source");
    send("application/cloudevents+avro", "x".to_owned(), &[])
        .await
        .assert_problem(415, "unsupported_media_type");
    send("application/json", "{".to_owned(), &attributes).await.assert_problem(400, "not_json");
    assert_eq!(
        history(&node, "t", "").await["items"].as_array().unwrap().len(),
        5,
        "nothing of it is stored"
    );
}
