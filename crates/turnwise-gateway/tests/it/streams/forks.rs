//! Streams that begin with another one.

use super::{JSON, TEXT, ask, next};
use crate::node::{Node, node};

async fn fork(node: &Node, from: &str, to: &str, more: &[(&str, &str)]) -> u16 {
    let headers = [&[("Stream-Forked-From", from)], more].concat();
    node.put(to, &headers, "").await.status
}

#[tokio::test]
async fn a_fork_of_a_fork_reads_as_one_stream() {
    let node = node(|_| {}).await;
    let at = next(&node.put("a", &[TEXT], "one ").await);
    node.append("a", &[TEXT], "two ").await;
    assert_eq!(fork(&node, "/streams/a", "b", &[("Stream-Fork-Offset", &at)]).await, 201);
    node.append("b", &[TEXT], "zwei ").await;
    let half = [("Stream-Fork-Offset", &*at), ("Stream-Fork-Sub-Offset", "2")];
    assert_eq!(fork(&node, "/b", "c", &half).await, 201);
    let last = next(&node.append("c", &[TEXT], "!").await);
    for (name, text) in [("a", "one two "), ("b", "one zwei "), ("c", "one zw!")] {
        assert_eq!(node.read(name).await.text(), text);
    }
    // Over the seams, from each place on.
    let rest = node.read(&format!("c?offset={at}")).await;
    assert_eq!((rest.text(), next(&rest)), ("zw!", last));
    assert_eq!(fork(&node, "a", "b", &[("Stream-Fork-Offset", &at)]).await, 200, "it is there");
    assert_eq!(fork(&node, "a", "b", &[]).await, 409, "not like this");
}

#[tokio::test]
async fn a_source_is_kept_for_its_forks_and_goes_with_the_last() {
    let node = node(|_| {}).await;
    node.put("a", &[TEXT], "one").await;
    assert_eq!(fork(&node, "a", "b", &[]).await, 201);
    assert_eq!(fork(&node, "b", "c", &[]).await, 201);
    let delete = |name: &'static str| ask("DELETE", name, &[], "");
    for name in ["a", "b"] {
        assert_eq!(node.send(&delete(name)).await.status, 204);
        node.read(name).await.assert_problem(410, "stream_gone");
        node.append(name, &[TEXT], "x").await.assert_problem(410, "stream_gone");
        node.put(name, &[TEXT], "x").await.assert_problem(409, "stream_conflict");
        assert_eq!(fork(&node, name, "d", &[]).await, 409);
    }
    assert_eq!(node.read("c").await.text(), "one");
    assert_eq!(node.send(&delete("c")).await.status, 204);
    for name in ["a", "b", "c"] {
        assert_eq!(node.read(name).await.status, 404, "{name}");
        assert_eq!(node.put(name, &[TEXT], "new").await.status, 201, "{name}");
        assert_eq!(node.read(name).await.text(), "new");
    }
}

#[tokio::test]
async fn a_fork_that_cannot_be_is_refused_and_keeps_nothing() {
    let node = node(|_| {}).await;
    node.put("a", &[JSON], "[1,2]").await;
    let beyond = [("Stream-Fork-Offset", "9999999999999999_9999999999999999")];
    assert_eq!(fork(&node, "a", "b", &beyond).await, 400);
    let start = ("Stream-Fork-Offset", "0000000000000000_0000000000000000");
    assert_eq!(fork(&node, "a", "b", &[start, ("Stream-Fork-Sub-Offset", "3")]).await, 400);
    assert_eq!(fork(&node, "a", "b", &[TEXT]).await, 409);
    assert_eq!(fork(&node, "nobody", "b", &[]).await, 404);
    assert_eq!(node.put("b", &[JSON, start], "").await.status, 400);
    assert_eq!(node.send(&ask("DELETE", "a", &[], "")).await.status, 204);
    assert_eq!(node.read("a").await.status, 404, "nobody reads on");
}
