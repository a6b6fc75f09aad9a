//! Durable streams from outside: what the protocol promises, and what is
//! promised beside it. The suite of those who publish the protocol is run by
//! `cargo xtask interop`.

mod bad_input;
mod forks;
mod orgs;
mod producers;
mod reading;

use crate::client::{Call, Reply, call};
use crate::node::Node;

const TEXT: (&str, &str) = ("Content-Type", "text/plain");
const JSON: (&str, &str) = ("Content-Type", "application/json");

/// A request about a stream.
fn ask(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Call {
    let mut call = call(method, &format!("/streams/{path}"));
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        call = call.header("Content-Length", &body.len().to_string());
    }
    for (name, value) in headers {
        call = call.header(name, value);
    }
    call.wire_body(body.as_bytes().to_vec())
}

impl Node {
    async fn put(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.send(&ask("PUT", path, headers, body)).await
    }

    async fn append(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        self.send(&ask("POST", path, headers, body)).await
    }

    async fn read(&self, path: &str) -> Reply {
        self.send(&ask("GET", path, &[], "")).await
    }

    async fn look(&self, path: &str) -> Reply {
        self.send(&ask("HEAD", path, &[], "")).await
    }
}

fn next(reply: &Reply) -> String {
    reply.header("stream-next-offset").expect("it says where to read on").to_owned()
}
