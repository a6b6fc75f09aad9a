//! Appending, and reading again from any place, at once or as it comes.

use super::{JSON, TEXT, ask, next};
use crate::node::node;
use crate::queues::PATIENCE;
use tokio::time::timeout;

#[tokio::test]
async fn from_every_offset_that_was_told_the_rest_is_read() {
    let node = node(|_| {}).await;
    let created = node.put("chats/7", &[TEXT], "0").await;
    assert_eq!((created.status, created.header("content-type")), (201, Some("text/plain")));
    assert!(created.header("location").unwrap().ends_with("/streams/chats/7"));
    let mut offsets = vec![next(&created)];
    for n in 1..10 {
        let appended = node.append("chats/7", &[TEXT], &n.to_string()).await;
        assert_eq!(appended.status, 204, "{}", appended.text());
        offsets.push(next(&appended));
    }
    assert!(offsets.is_sorted_by(|a, b| a < b), "later is greater: {offsets:?}");
    for (n, offset) in offsets.iter().enumerate() {
        let rest = node.read(&format!("chats/7?offset={offset}")).await;
        assert_eq!((rest.status, rest.text()), (200, &"0123456789"[n + 1..]));
        assert_eq!((next(&rest), rest.header("stream-up-to-date")), (offsets[9].clone(), Some("true")));
    }
    for all in ["chats/7", "chats/7?offset=-1", "chats/7?offset=0000000000000000_0000000000000000"] {
        assert_eq!(node.read(all).await.text(), "0123456789", "{all}");
    }
    let now = node.read("chats/7?offset=now").await;
    assert_eq!((now.text(), now.header("cache-control")), ("", Some("no-store")));
    let looked = node.look("chats/7").await;
    assert_eq!((looked.status, next(&looked)), (200, offsets[9].clone()));
}

#[tokio::test]
async fn a_long_stream_is_read_page_by_page() {
    let node = node(|_| {}).await;
    node.put("long", &[TEXT], "").await;
    let piece = "x".repeat(400_000);
    for _ in 0..7 {
        assert_eq!(node.append("long", &[TEXT], &piece).await.status, 204);
    }
    let (mut offset, mut bytes, mut pages) = ("-1".to_owned(), 0, 0);
    loop {
        let page = node.read(&format!("long?offset={offset}")).await;
        assert_eq!(page.status, 200);
        assert!(page.text().len() <= 1024 * 1024, "one page is bounded");
        bytes += page.text().len();
        pages += 1;
        offset = next(&page);
        if page.header("stream-up-to-date").is_some() {
            break;
        }
        assert!(page.header("cache-control").unwrap().contains("max-age=60"), "it never changes");
    }
    assert_eq!((bytes, pages), (7 * 400_000, 4));
}

#[tokio::test]
async fn what_was_read_is_asked_for_again_by_its_tag() {
    let node = node(|_| {}).await;
    node.put("s", &[TEXT], "a").await;
    let first = node.read("s").await;
    let tag = first.header("etag").unwrap().to_owned();
    let again = node.send(&ask("GET", "s", &[("If-None-Match", &tag)], "")).await;
    assert_eq!((again.status, again.text()), (304, ""));
    node.append("s", &[("Stream-Closed", "true")], "").await;
    let closed = node.send(&ask("GET", "s", &[("If-None-Match", &tag)], "")).await;
    assert_eq!((closed.status, closed.text(), closed.header("stream-closed")), (200, "a", Some("true")));
}

#[tokio::test]
async fn json_is_kept_as_values() {
    let node = node(|_| {}).await;
    assert_eq!(node.put("j", &[JSON], "[]").await.status, 201);
    assert_eq!(node.read("j").await.text(), "[]");
    for body in ["{\"n\": 1}", "[2, [3]]", "\"four\""] {
        assert_eq!(node.append("j", &[JSON], body).await.status, 204);
    }
    assert_eq!(node.read("j").await.text(), "[{\"n\": 1},2, [3],\"four\"]");
    for (wrong, status) in [("[]", 400), ("{", 400), ("1 2", 400)] {
        node.append("j", &[JSON], wrong).await.assert_problem(status, "not_json");
    }
    node.append("j", &[TEXT], "1").await.assert_problem(409, "stream_conflict");
}

#[tokio::test]
async fn a_closed_stream_ends_for_everybody() {
    let node = node(|_| {}).await;
    let start = next(&node.put("s", &[TEXT], "").await);
    let waiting = node.start(ask("GET", &format!("s?offset={start}&live=long-poll"), &[], ""));
    let mut live = ask("GET", &format!("s?offset={start}&live=sse"), &[], "").open(node.address).await;
    assert_eq!(live.head.header("content-type"), Some("text/event-stream"));
    assert!(live.event().await.unwrap().data.contains("\"upToDate\":true"));
    let last = node.append("s", &[TEXT, ("Stream-Closed", "true")], "the end").await;
    assert_eq!((last.status, last.header("stream-closed")), (204, Some("true")));
    let waited = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(
        (waited.status, waited.text(), waited.header("stream-closed")),
        (200, "the end", Some("true"))
    );
    let seen = timeout(PATIENCE, live.events()).await.unwrap();
    let seen: Vec<(&str, &str)> = seen.iter().map(|event| (&*event.name, &*event.data)).collect();
    let [("data", "the end"), ("control", control)] = seen[..] else { panic!("{seen:?}") };
    assert!(control.contains("\"streamClosed\":true") && !control.contains("streamCursor"), "{control}");
    let refused = node.append("s", &[TEXT], "more").await;
    refused.assert_problem(409, "stream_closed");
    assert_eq!((refused.header("stream-closed"), next(&refused)), (Some("true"), next(&last)));
    assert_eq!(node.append("s", &[("Stream-Closed", "true")], "").await.status, 204, "closed it is");
    let at_the_end = node.read(&format!("s?offset={}&live=long-poll", next(&last))).await;
    assert_eq!((at_the_end.status, at_the_end.header("stream-closed")), (204, Some("true")));
}

#[tokio::test]
async fn time_ends_a_stream_that_nobody_reads() {
    let node = node(|_| {}).await;
    let kept = node.put("kept", &[TEXT, ("Stream-TTL", "3600")], "a").await;
    assert_eq!(kept.status, 201);
    assert_eq!(node.look("kept").await.header("stream-ttl"), Some("3600"));
    assert_eq!(node.put("kept", &[TEXT, ("Stream-TTL", "60")], "").await.status, 409);
    assert_eq!(node.put("over", &[TEXT, ("Stream-TTL", "0")], "a").await.status, 201);
    let past = [TEXT, ("Stream-Expires-At", "2001-01-01T00:00:00Z")];
    assert_eq!(node.put("past", &past, "a").await.status, 201);
    for name in ["over", "past"] {
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            assert_eq!(node.send(&ask(method, name, &[TEXT], "b")).await.status, 404, "{method} {name}");
        }
        assert_eq!(node.put(name, &[JSON], "[1]").await.status, 201, "the name is free");
        assert_eq!(node.read(name).await.text(), "[1]");
    }
}

#[tokio::test]
async fn a_stream_in_the_place_of_another_has_offsets_of_its_own() {
    let node = node(|_| {}).await;
    let before = next(&node.put("s", &[TEXT], "before").await);
    assert_eq!(node.send(&ask("DELETE", "s", &[], "")).await.status, 204);
    assert_eq!(node.read("s").await.status, 404);
    assert_eq!(node.send(&ask("DELETE", "s", &[], "")).await.status, 404);
    assert_eq!(node.put("s", &[TEXT], "after").await.status, 201);
    assert_eq!(node.read("s?offset=-1").await.text(), "after");
    node.read(&format!("s?offset={before}")).await.assert_problem(410, "stream_gone");
}

#[tokio::test]
async fn live_readers_count_as_streams() {
    let node = node(|config| config.streams_max = 1).await;
    node.put("s", &[TEXT], "").await;
    let first = ask("GET", "s?offset=now&live=sse", &[], "").open(node.address).await;
    assert_eq!(first.head.status, 200);
    for live in ["sse", "long-poll"] {
        node.read(&format!("s?offset=now&live={live}")).await.assert_problem(429, "rate_limited");
    }
    assert_eq!(node.read("s").await.status, 200, "who does not wait is not one");
}
