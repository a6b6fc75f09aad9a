//! `turnwise tail`: the steps of turns as they happen, until Ctrl-C.

use super::server::ServerArgs;
use super::{Context, Outcome, StopSignals, print, runtime};
use crate::client::{SILENCE_MAX, Server, percent};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_mock::{SseEvent, SseReader};

/// Pause before a server that went away is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Times in a row, before that is given up.
const TRIES_MAX: u32 = 40;

#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Only of this organisation
    #[arg(long)]
    org: Option<String>,
    /// Only of this user
    #[arg(long)]
    user: Option<String>,
}

pub(crate) fn run(context: &Context, arguments: &TailArgs) -> Outcome {
    runtime(1)?.block_on(async {
        let mut signals = StopSignals::catch()?;
        tokio::select! {
            outcome = follow(context, arguments) => outcome,
            () = signals.next() => Ok(()),
        }
    })
}

async fn follow(context: &Context, arguments: &TailArgs) -> Outcome {
    let server = arguments.server.server()?;
    let path = path(arguments);
    let mut reader = server.events(&path).await?;
    if context.json {
        print::json(&json!({ "ready": true, "url": arguments.server.url() }));
    }
    loop {
        // A server that restarts comes back; what happened meanwhile is not told.
        match reader.next_unless_silent(SILENCE_MAX).await {
            Ok(Some(event)) => show(context, &event),
            Ok(None) | Err(_) => {
                eprintln!("the server went away; waiting for it");
                reader = again(&server, &path).await?;
            }
        }
    }
}

async fn again(server: &Server, path: &str) -> Result<SseReader, crate::failure::Failure> {
    let mut tries = 1;
    loop {
        tokio::time::sleep(PAUSE).await;
        match server.events(path).await {
            Ok(reader) => return Ok(reader),
            Err(failure) if tries >= TRIES_MAX => return Err(failure),
            Err(_) => tries += 1,
        }
    }
}

fn path(arguments: &TailArgs) -> String {
    let mut path = "/api/v1/tail".to_owned();
    let mut separator = '?';
    for (name, value) in [("org_id", &arguments.org), ("user_id", &arguments.user)] {
        if let Some(value) = value {
            path.push_str(&format!("{separator}{name}={}", percent(value)));
            separator = '&';
        }
    }
    path
}

fn show(context: &Context, event: &SseEvent) {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    if context.json {
        print::json(&json!({ "event": event.event, "data": data }));
        return;
    }
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or("-");
    if event.event == "gap" {
        print::line("... some steps came too fast to show ...");
        return;
    }
    let number = |name: &str| data.get(name).and_then(Value::as_u64);
    let mut line = format!(
        "{}  {}  {}/{}  {}",
        text("at"),
        text("message_id"),
        text("org_id"),
        text("user_id"),
        text("step")
    );
    if let Some(attempt) = number("attempt").filter(|attempt| *attempt > 1) {
        line.push_str(&format!("  call {attempt}"));
    }
    if let Some(ms) = number("after_ms") {
        line.push_str(&format!("  {ms} ms"));
    }
    if let Some(code) = data.get("code").and_then(Value::as_str) {
        line.push_str(&format!("  {code}"));
    }
    print::line(&line);
}
