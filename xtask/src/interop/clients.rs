//! What each client does.

use super::proxy::Proxy;
use super::{Outcome, Scene, Server, streams, url};
use crate::running::free_port;
use anyhow::{Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};

/// How long one client may take.
const CLIENT_SECONDS_MAX: &str = "170";
/// Cuts that a stream of eight parts must have seen when it is cut at every event.
const CUTS_MIN: usize = 9;
/// A key for servers that want one.
pub(super) const KEY: &str = "interop-key-c0a1b2c3d4e5f60718293a4b5c6d7e8f";
/// What callbacks are signed with.
const SECRETS: [&str; 2] = [
    "whsec_aW50ZXJvcC1zZWNyZXQtb2YtdG9kYXktMDEyMzQ1Njc=",
    "whsec_aW50ZXJvcC1zZWNyZXQtYmVmb3JlLWl0LTAxMjM0NTY=",
];
/// Cases per operation; with it the run takes well below a minute.
const EXAMPLES_MAX: &str = "30";

type Part = fn(&Scene) -> Result<Outcome>;

/// All of them, in this order.
pub(super) const PARTS: [(&str, Part); 11] = [
    ("npm eventsource, cut at every event", eventsource),
    ("PyPI httpx-sse, cut at every event", httpx_sse),
    ("chromium by playwright-core, cut at every event", browser),
    ("random events, read by npm eventsource-parser and PyPI httpx-sse", wire),
    ("topics by npm ws, eventsource and cloudevents", topics_by_npm),
    ("topics by PyPI websockets, wsproto, httpx-sse and cloudevents", topics_by_pypi),
    ("npm standardwebhooks", webhooks_by_npm),
    ("PyPI standardwebhooks", webhooks_by_pypi),
    ("npm @durable-streams/client", streams::client),
    ("npm @durable-streams/server-conformance-tests", streams::suite),
    ("schemathesis", schemathesis),
];

fn eventsource(scene: &Scene) -> Result<Outcome> {
    if let Err(why) = &scene.clients.node {
        return Ok(Outcome::NotRun(why.clone()));
    }
    let server = Server::start(scene, &[])?;
    cut(&server, |proxy| finish(Command::new("node").args(["eventsource.mjs", &server.url(), proxy]), scene))
}

fn httpx_sse(scene: &Scene) -> Result<Outcome> {
    let python = match &scene.clients.python {
        Ok(python) => python,
        Err(why) => return Ok(Outcome::NotRun(why.clone())),
    };
    let server = Server::start(scene, &[])?;
    cut(&server, |proxy| finish(Command::new(python).args(["httpx_cut.py", &server.url(), proxy]), scene))
}

fn browser(scene: &Scene) -> Result<Outcome> {
    if let Err(why) = &scene.clients.node {
        return Ok(Outcome::NotRun(why.clone()));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(chromium) =
        std::env::split_paths(&path).map(|folder| folder.join("chromium")).find(|file| file.is_file())
    else {
        return Ok(Outcome::NotRun("chromium is not installed".to_owned()));
    };
    let page = free_port()?;
    let server = Server::start(scene, &[("TURNWISE_CORS_ORIGINS", &url(page))])?;
    cut(&server, |proxy| {
        let mut command = Command::new("node");
        command.args(["browser.mjs", &server.url(), proxy, &page.to_string()]).arg(&chromium);
        finish(&mut command, scene)
    })
}

/// Runs a client against a server and a proxy that cuts the connection at every event.
fn cut(server: &Server, client: impl FnOnce(&str) -> Result<String>) -> Result<Outcome> {
    let proxy = Proxy::start(server.port)?;
    let shown = client(&url(proxy.port()));
    let seen = proxy.stop();
    let shown = shown?;
    ensure!(seen.cuts >= CUTS_MIN, "the proxy cut only {} times", seen.cuts);
    ensure!(seen.ends == 1, "204 was answered {} times, not once", seen.ends);
    Ok(Outcome::Ran(format!("{} ({} cuts)", shown.trim(), seen.cuts)))
}

/// The client is also the agent.
fn wire(scene: &Scene) -> Result<Outcome> {
    let python = match (&scene.clients.node, &scene.clients.python) {
        (Ok(()), Ok(python)) => python,
        (Err(why), _) | (_, Err(why)) => return Ok(Outcome::NotRun(why.clone())),
    };
    let agent = free_port()?;
    let server = Server::start(scene, &[("WORKER_BASE_URL", &url(agent))])?;
    let arguments = ["wire.mjs", &server.url(), &agent.to_string()];
    Ok(Outcome::Ran(finish(Command::new("node").args(arguments).arg(python), scene)?))
}

fn topics_by_npm(scene: &Scene) -> Result<Outcome> {
    if let Err(why) = &scene.clients.node {
        return Ok(Outcome::NotRun(why.clone()));
    }
    let server = Server::start(scene, &[])?;
    Ok(Outcome::Ran(finish(Command::new("node").args(["topics.mjs", &server.url()]), scene)?))
}

fn topics_by_pypi(scene: &Scene) -> Result<Outcome> {
    let python = match &scene.clients.python {
        Ok(python) => python,
        Err(why) => return Ok(Outcome::NotRun(why.clone())),
    };
    let server = Server::start(scene, &[])?;
    Ok(Outcome::Ran(finish(Command::new(python).args(["topics.py", &server.url()]), scene)?))
}

fn webhooks_by_npm(scene: &Scene) -> Result<Outcome> {
    match &scene.clients.node {
        Ok(()) => webhooks(scene, Command::new("node").arg("webhooks.mjs")),
        Err(why) => Ok(Outcome::NotRun(why.clone())),
    }
}

fn webhooks_by_pypi(scene: &Scene) -> Result<Outcome> {
    match &scene.clients.python {
        Ok(python) => webhooks(scene, Command::new(python).arg("webhooks.py")),
        Err(why) => Ok(Outcome::NotRun(why.clone())),
    }
}

/// A receiver of callbacks, while the server signs with the secret of today and the one before it.
fn webhooks(scene: &Scene, receiver: &mut Command) -> Result<Outcome> {
    let settings = [
        ("TURNWISE_CALLBACKS_SECRET", SECRETS[0]),
        ("TURNWISE_CALLBACKS_SECRET_PREVIOUS", SECRETS[1]),
        ("TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS", "127.0.0.1"),
    ];
    let server = Server::start(scene, &settings)?;
    Ok(Outcome::Ran(finish(receiver.arg(server.url()).args(SECRETS), scene)?))
}

fn schemathesis(scene: &Scene) -> Result<Outcome> {
    let python = match &scene.clients.python {
        Ok(python) => python,
        Err(why) => return Ok(Outcome::NotRun(why.clone())),
    };
    let server = Server::start(scene, &[("BROKER_API_KEY", KEY)])?;
    let mut fetch = Command::new(python);
    let document = server.scratch.0.join("openapi.json");
    finish(fetch.args(["document.py", &server.url()]).arg(&document), scene)?;
    let key = format!("X-API-Key: {KEY}");
    let mut command = Command::new(python);
    command.args(["-m", "schemathesis.cli", "run"]).arg(&document);
    command.args(["--url", &server.url(), "-H", &key, "--seed", "1", "--max-examples", EXAMPLES_MAX]);
    command.args(["--phases", "examples,coverage,fuzzing,stateful", "--warnings", "off", "--no-color"]);
    // The one has a check of ours in its place; the other takes a cancelled turn, which stays readable, for a
    // deleted one.
    command.args(["--exclude-checks", "positive_data_acceptance,use_after_free"]);
    // They have no end, and this client waits for ends.
    command.args(["--exclude-path", "/api/v1/tail", "--exclude-path", "/api/v1/subscribe"]);
    // The same of its live reads; a suite of its own asks for the rest.
    command.args(["--exclude-path", "/streams/{path}"]);
    // It is no client of a WebSocket: every answer to it is 426.
    command.args(["--exclude-path", "/ws/connect"]);
    command.env("SCHEMATHESIS_HOOKS", "checks");
    let shown = finish(&mut command, scene)?;
    Ok(Outcome::Ran(counted(&shown).to_owned()))
}

/// The line that says how much was tried.
fn counted(shown: &str) -> &str {
    shown.lines().map(str::trim).find(|line| line.contains(" generated")).unwrap_or("no count")
}

/// Runs it to its end; what it printed.
pub(super) fn finish(command: &mut Command, scene: &Scene) -> Result<String> {
    finish_within(command, scene, CLIENT_SECONDS_MAX)
}

/// The same of one that may take longer.
pub(super) fn finish_within(command: &mut Command, scene: &Scene, seconds: &str) -> Result<String> {
    let folder: &Path = &scene.clients.folder;
    let mut limited = Command::new("timeout");
    limited.arg(seconds).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        limited.envs(value.map(|value| (name, value)));
    }
    let output = limited.current_dir(folder).stdin(Stdio::null()).output()?;
    let (shown, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "it ended with {}:\n{shown}{errors}", output.status);
    Ok(shown.into_owned())
}

#[cfg(test)]
mod tests {
    use super::counted;

    #[test]
    fn the_count_is_found() {
        let shown = "Seed: 1\nTest cases:\n  1080 generated, 1068 passed, 12 skipped\n";
        assert_eq!(counted(shown), "1080 generated, 1068 passed, 12 skipped");
    }
}
