//! Durable streams: the suite of those who publish the protocol, and their
//! client with a key for one organisation.

use super::clients::{KEY, finish, finish_within};
use super::{Outcome, Scene, Server};
use anyhow::Result;
use std::process::Command;

/// The SHA-256 of [`KEY`], as the settings have it.
const KEY_SHA256: &str = "f29b5dfb0cc0ec3a0cbc17a8a203074a26ea06390a4b8b3c8cf784d811974e37";
/// How long the suite may take: it waits for long-polls that nothing comes to, and for streams to run out.
const SUITE_SECONDS_MAX: &str = "420";
/// A page the suite asks for.
const ORIGIN: &str = "https://example.com";

pub(super) fn suite(scene: &Scene) -> Result<Outcome> {
    if let Err(why) = &scene.clients.node {
        return Ok(Outcome::NotRun(why.clone()));
    }
    let server = Server::start(scene, &[("TURNWISE_CORS_ORIGINS", ORIGIN)])?;
    let mut command = Command::new("node");
    command.args(["streams_suite.mjs", &server.url()]);
    Ok(Outcome::Ran(finish_within(&mut command, scene, SUITE_SECONDS_MAX)?))
}

pub(super) fn client(scene: &Scene) -> Result<Outcome> {
    if let Err(why) = &scene.clients.node {
        return Ok(Outcome::NotRun(why.clone()));
    }
    let keys = format!(
        "[[auth.keys]]\nid = \"interop\"\nsha256 = \"{KEY_SHA256}\"\norgs = [\"acme\"]\nscopes = [\"topics\"]\n"
    );
    let server = Server::start_with(scene, &[], &keys)?;
    let mut command = Command::new("node");
    command.args(["streams.mjs", &server.url(), KEY]);
    Ok(Outcome::Ran(finish(&mut command, scene)?))
}
