//! `turnwise status`: one look at a server, or one every few seconds.

use super::server::ServerArgs;
use super::{Context, Outcome, StopSignals, print, runtime};
use crate::client::Server;
use crate::failure::{Exit, Failure};
use clap::Args;
use serde_json::Value;
use std::time::Duration;

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Look again every so many seconds, until Ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    watch: Option<u64>,
}

pub(crate) fn run(context: &Context, arguments: &StatusArgs) -> Outcome {
    runtime(1)?.block_on(status(context, arguments))
}

async fn status(context: &Context, arguments: &StatusArgs) -> Outcome {
    let server = arguments.server.server()?;
    let Some(seconds) = arguments.watch else {
        return look(context, &server, arguments.server.url()).await;
    };
    let mut signals = StopSignals::catch()?;
    loop {
        // What is wrong is shown, and looked at again: it may pass.
        if let Err(failure) = look(context, &server, arguments.server.url()).await {
            failure.print(context.json);
        }
        tokio::select! {
            () = signals.next() => return Ok(()),
            () = tokio::time::sleep(Duration::from_secs(seconds)) => {}
        }
    }
}

/// Prints the state; a node that takes no work is a failed check.
async fn look(context: &Context, server: &Server, url: &str) -> Outcome {
    let status = server.get("/api/v1/status").await?;
    if context.json {
        print::json(&status);
    } else {
        shown(&status, url).iter().for_each(|line| print::line(line));
    }
    let takes_work = status.get("status").and_then(Value::as_str) != Some("unhealthy")
        && status.get("draining").and_then(Value::as_bool) != Some(true);
    match takes_work {
        true => Ok(()),
        false => Err(Failure::new(Exit::Check, "the server takes no new work", "see its log")),
    }
}

fn shown(status: &Value, url: &str) -> Vec<String> {
    let text = |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or("?");
    let number = |pointer: &str| status.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    let float = |pointer: &str| status.pointer(pointer).and_then(Value::as_f64);
    let part = |name: &str| {
        let latency = float(&format!("/{name}/latency_ms")).map(|ms| format!("  {ms:.1} ms"));
        format!("{}{}", text(&format!("/{name}/state")), latency.unwrap_or_default())
    };
    let oldest = float("/turns/oldest_waiting_seconds")
        .map(|seconds| format!(", the oldest for {}", duration(seconds)))
        .unwrap_or_default();
    let mut ended = String::new();
    for (outcome, count) in status.pointer("/turns/ended").and_then(Value::as_object).into_iter().flatten() {
        if let Some(count) = count.as_u64().filter(|count| *count > 0) {
            ended.push_str(&format!(", {count} {outcome}"));
        }
    }
    let draining =
        if status.get("draining").and_then(Value::as_bool) == Some(true) { ", draining" } else { "" };
    let up = duration(float("/uptime_seconds").unwrap_or_default());
    let mut lines = vec![
        format!("turnwise {}  {url}  {}{draining}, up {up}", text("/version"), text("/status")),
        format!("  store    {}", part("store")),
        format!("  agent    {}", part("agent")),
        format!(
            "  turns    {} waiting{oldest}; {} in flight; {} conversations; {} dead",
            number("/turns/waiting"),
            number("/turns/in_flight"),
            number("/turns/conversations"),
            number("/turns/dead"),
        ),
        format!("  so far   {} accepted{ended}", number("/turns/accepted")),
        format!("  readers  {} streams, {} connections", number("/streams_open"), number("/connections")),
    ];
    // Only where something is wrong.
    if let Some(weakness) = status.pointer("/store/weakness").and_then(Value::as_str) {
        lines.insert(2, format!("           {weakness}"));
    }
    if number("/store/losses") > 0 {
        let times = number("/store/losses");
        lines.insert(2, format!("           it came back {times} times without what it had acknowledged"));
    }
    lines
}

/// For people: the two largest units.
fn duration(seconds: f64) -> String {
    if seconds < 60.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    match (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60) {
        (0, 0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (0, hours, minutes, _) => format!("{hours} h {minutes} min"),
        (days, hours, _, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let check = |seconds, text: &str| assert_eq!(duration(seconds), text);
        check(0.04, "0.0 s");
        check(59.9, "59.9 s");
        check(61.0, "1 min 1 s");
        check(7_260.0, "2 h 1 min");
        check(90_061.0, "1 d 1 h");
    }
}
