//! Requests that are refused, and leave nothing behind.

use super::{TEXT, ask};
use crate::node::{Node, node};

/// A mistake in a header of a request that would be fine without it.
async fn check(node: &Node, method: &str, name: &str, value: &str) {
    let body = if method == "POST" { "x" } else { "" };
    let reply = node.send(&ask(method, "s", &[TEXT, (name, value)], body)).await;
    reply.assert_problem(400, "bad_request");
}

#[tokio::test]
async fn headers_are_read_to_the_letter() {
    let node = node(|_| {}).await;
    for wrong in ["-1", "+1", "01", "1.0", "1e3", "x", "99999999999999999999", "3153600001"] {
        check(&node, "PUT", "Stream-TTL", wrong).await;
    }
    for wrong in ["tomorrow", "2030-01-01", "1893456000"] {
        check(&node, "PUT", "Stream-Expires-At", wrong).await;
    }
    check(&node, "PUT", "Content-Type", "text").await;
    check(&node, "PUT", "Stream-Forked-From", "/streams/../x").await;
    assert_eq!(node.read("s").await.status, 404, "nothing was made");
    node.put("s", &[TEXT], "").await;
    check(&node, "POST", "Producer-Id", "w").await;
    check(&node, "POST", "Producer-Seq", "0").await;
    check(&node, "POST", "Stream-Seq", &"x".repeat(257)).await;
    let (id, seq) = (("Producer-Id", "w"), ("Producer-Seq", "0"));
    for wrong in ["-1", "0x1", "1e3", "9007199254740992", ""] {
        let reply = node.append("s", &[TEXT, id, ("Producer-Epoch", wrong), seq], "x").await;
        reply.assert_problem(400, "bad_request");
    }
    node.append("s", &[TEXT], "").await.assert_problem(400, "bad_request");
    node.append("s", &[], "x").await.assert_problem(400, "bad_request");
    assert_eq!(node.read("s").await.text(), "", "nothing was appended");
}

#[tokio::test]
async fn offsets_are_those_that_were_told() {
    let node = node(|_| {}).await;
    node.put("s", &[TEXT], "x").await;
    for wrong in ["", "0", "x", "-2", "NOW", "1_1", "0000000000000001", "0000000000000002_0000000000000001"] {
        node.read(&format!("s?offset={wrong}")).await.assert_problem(400, "bad_request");
    }
    node.read("s?offset=-1&offset=now").await.assert_problem(400, "bad_request");
    node.read("s?live=sse").await.assert_problem(400, "bad_request");
    node.read("s?live=ever&offset=-1").await.assert_problem(400, "bad_request");
}

#[tokio::test]
async fn what_is_too_long_is_refused() {
    let node = node(|_| {}).await;
    let long = "x".repeat(4 * 1024 * 1024 + 1);
    node.put("s", &[TEXT], &long).await.assert_problem(413, "body_too_large");
    assert_eq!(node.put("s", &[TEXT], &long[1..]).await.status, 201);
    node.append("s", &[TEXT], &long).await.assert_problem(413, "body_too_large");
    assert_eq!(node.read("s").await.text().len(), long.len() - 1);
    let name = "n".repeat(257);
    node.put(&name, &[TEXT], "").await.assert_problem(400, "bad_request");
    assert_eq!(node.put(&name[1..], &[TEXT], "").await.status, 201);
    node.put("a%0Ab", &[TEXT], "").await.assert_problem(400, "bad_request");
}
