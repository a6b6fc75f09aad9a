//! Writers that repeat themselves, come too late, or race each other.

use super::{JSON, TEXT, next};
use crate::client::Reply;
use crate::node::{Node, node};

async fn produce(node: &Node, id: &str, epoch: u64, seq: u64, body: &str) -> Reply {
    let (epoch, seq) = (epoch.to_string(), seq.to_string());
    let own = [TEXT, ("Producer-Id", id), ("Producer-Epoch", &epoch), ("Producer-Seq", &seq)];
    node.append("s", &own, body).await
}

#[tokio::test]
async fn a_repeat_is_stored_once_and_told_how_far_it_is() {
    let node = node(|_| {}).await;
    node.put("s", &[TEXT], "").await;
    for n in 0..3 {
        let told = produce(&node, "w", 0, n, &n.to_string()).await;
        assert_eq!((told.status, told.header("producer-seq")), (200, Some(&*n.to_string())));
    }
    let again = produce(&node, "w", 0, 1, "other").await;
    assert_eq!(
        (again.status, again.header("producer-seq"), again.header("producer-epoch")),
        (204, Some("2"), Some("0"))
    );
    assert_eq!(next(&again), next(&node.look("s").await));
    let gap = produce(&node, "w", 0, 5, "5").await;
    gap.assert_problem(409, "sequence_conflict");
    assert_eq!(
        (gap.header("producer-expected-seq"), gap.header("producer-received-seq")),
        (Some("3"), Some("5"))
    );
    assert_eq!(produce(&node, "other", 0, 0, "x").await.status, 200, "each counts for itself");
    assert_eq!(node.read("s").await.text(), "012x");
}

#[tokio::test]
async fn who_was_replaced_is_told_so() {
    let node = node(|_| {}).await;
    node.put("s", &[TEXT], "").await;
    assert_eq!(produce(&node, "w", 0, 0, "a").await.status, 200);
    produce(&node, "w", 1, 3, "x").await.assert_problem(400, "bad_request");
    assert_eq!(produce(&node, "w", 1, 0, "b").await.status, 200);
    let late = produce(&node, "w", 0, 1, "x").await;
    late.assert_problem(403, "producer_fenced");
    assert_eq!(late.header("producer-epoch"), Some("1"));
    assert_eq!(node.read("s").await.text(), "ab");
}

#[tokio::test]
async fn the_writers_own_sequence_only_rises() {
    let node = node(|_| {}).await;
    node.put("s", &[TEXT], "").await;
    for (seq, status) in [("09", 204), ("10", 204), ("10", 409), ("1", 409), ("2", 204), ("10", 409)] {
        assert_eq!(node.append("s", &[TEXT, ("Stream-Seq", seq)], seq).await.status, status, "{seq}");
    }
    assert_eq!(node.read("s").await.text(), "09102");
}

#[tokio::test]
async fn of_writers_at_once_each_append_is_there_once() {
    let node = node(|_| {}).await;
    node.put("s", &[JSON], "").await;
    let calls = (0..40).map(|n| node.start(super::ask("POST", "s", &[JSON], &format!("[{n}]"))));
    let calls: Vec<_> = calls.collect();
    let mut offsets = Vec::new();
    for call in calls {
        let reply = call.await.unwrap();
        assert_eq!(reply.status, 204, "{}", reply.text());
        offsets.push(next(&reply));
    }
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), 40, "each has a place of its own");
    let read = node.read("s").await.json();
    let mut numbers: Vec<u64> = read.as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_stream_knows_so_many_producers() {
    let node = node(|_| {}).await;
    node.put("s", &[TEXT], "").await;
    for n in 0..256 {
        assert_eq!(produce(&node, &format!("p{n}"), 0, 0, "x").await.status, 200, "{n}");
    }
    produce(&node, "one-more", 0, 0, "x").await.assert_problem(429, "stream_limit");
    assert_eq!(produce(&node, "p0", 0, 1, "x").await.status, 200, "those that are known go on");
    assert_eq!(node.append("s", &[TEXT], "x").await.status, 204);
    assert_eq!(node.read("s").await.text().len(), 258);
}
