//! `turnwise send`: submits a message and prints the answer as it comes.

use super::server::ServerArgs;
use super::{Context, Outcome, print, runtime};
use crate::client::{Message, Server};
use crate::failure::{Exit, Failure};
use clap::Args;
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_mock::SseEvent;

/// How long a server that restarts is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Args)]
pub(crate) struct SendArgs {
    /// Who writes
    #[arg(long)]
    user: String,
    /// In which organisation
    #[arg(long, default_value = "default")]
    org: String,
    /// With what kind of client
    #[arg(long, default_value = "cli")]
    client: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Seconds to wait for the end of the answer
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
    /// The message
    text: String,
}

pub(crate) fn run(context: &Context, arguments: SendArgs) -> Outcome {
    runtime(1)?.block_on(send(context, arguments))
}

async fn send(context: &Context, arguments: SendArgs) -> Outcome {
    let server = arguments.server.server()?;
    let limit = Duration::from_secs(arguments.timeout);
    tokio::time::timeout(limit, submit_and_follow(context, &server, &arguments)).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Exit::Unreachable,
            "no answer in time",
            format!(
                "the turn was not over after {} s; if it was accepted it stays in its queue",
                limit.as_secs()
            ),
        )
        .hint("no agent is configured or it is busy: `turnwise serve --mock-agent` brings one"))
    })
}

async fn submit_and_follow(context: &Context, server: &Server, arguments: &SendArgs) -> Outcome {
    let message = Message {
        org: &arguments.org,
        user: &arguments.user,
        client: &arguments.client,
        text: &arguments.text,
        client_message_id: None,
    };
    let id = server.submit(&mut server.conn(), &message, Duration::ZERO).await?;
    if !context.json {
        eprintln!("{id}");
    }
    let mut stream = server.follow(&arguments.user, &id, PATIENCE);
    let mut printer = Printer::default();
    while let Some(event) = stream.next().await? {
        if context.json {
            let data: Value = serde_json::from_str(&event.data).unwrap_or_else(|_| event.data.clone().into());
            print::json(&json!({ "message_id": id, "id": event.id, "event": event.event, "data": data }));
        } else {
            printer.show(&event);
        }
        match event.event.as_str() {
            "error" => return Err(failed_turn(&event.data)),
            "cancelled" => {
                return Err(Failure::new(
                    Exit::Conflict,
                    "cancelled",
                    "the turn was taken back before its answer",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The failure that an `error` event tells of.
fn failed_turn(data: &str) -> Failure {
    let parsed: Value = serde_json::from_str(data).unwrap_or_default();
    let text = |name: &str| parsed.get(name).and_then(Value::as_str);
    let status = parsed.get("status").and_then(Value::as_u64).and_then(|status| u16::try_from(status).ok());
    Failure::new(
        status.map_or(Exit::Failure, Exit::of_status),
        format!("the turn failed: {}", text("code").unwrap_or("error")),
        text("detail").or_else(|| text("error")).unwrap_or(data),
    )
}

/// Turns the agent's events into text: parts as they come, at the end what the whole answer adds to them.
/// A line that was begun is ended in any case.
#[derive(Default)]
struct Printer {
    in_line: bool,
    /// What was printed in parts.
    parts: String,
}

impl Printer {
    fn show(&mut self, event: &SseEvent) {
        match event.event.as_str() {
            "queued" | "done" | "error" | "cancelled" | "gap" => {}
            "processing" => eprintln!("processing"),
            "position" => {
                let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
                if let Some(place) =
                    data.get("position").or_else(|| data.get("place")).and_then(Value::as_u64)
                {
                    eprintln!("waiting, place {place}");
                }
            }
            _ => self.show_answer(&event.data),
        }
    }

    fn show_answer(&mut self, data: &str) {
        let parsed: Value = serde_json::from_str(data).unwrap_or_default();
        let whole = parsed.get("response").unwrap_or(&parsed).get("responses").and_then(Value::as_array);
        if let Some(texts) = whole {
            let texts: Vec<&str> = texts.iter().filter_map(Value::as_str).collect();
            self.finish();
            if adds_something(&texts, &self.parts) {
                texts.iter().for_each(|text| print::line(text));
            }
        } else if let Some(part) = ["text", "delta"].iter().find_map(|name| parsed.get(name)?.as_str()) {
            print::text(part);
            self.parts.push_str(part);
            self.in_line = true;
        }
    }

    fn finish(&mut self) {
        if std::mem::take(&mut self.in_line) {
            print::line("");
        }
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Whether a whole answer says more than its parts did. Spaces between the texts do not count.
fn adds_something(texts: &[&str], parts: &str) -> bool {
    let words = |text: &str| text.split_whitespace().collect::<String>();
    words(&texts.concat()) != words(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(texts: &[&str], parts: &str, adds: bool) {
        assert_eq!(adds_something(texts, parts), adds, "{texts:?} after {parts:?}");
    }

    #[test]
    fn a_whole_answer_is_new_only_if_its_parts_said_something_else() {
        check(&["Hello there."], "Hello there.", false);
        check(&["Hello", "there."], "Hello\nthere. ", false);
        check(&["You said: hello"], "part 1 part 2 ", true);
        check(&["Hello there."], "Hello", true);
        check(&["Hello"], "", true);
        check(&[], "", false);
    }
}
