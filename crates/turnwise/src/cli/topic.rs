//! `turnwise topic`: publish to topics, list them, read them again and follow
//! them. A key with the scope `topics` may all of it, one with `topics:read`
//! all but publishing.

use super::server::ServerArgs;
use super::{Context, Outcome, StopSignals, print, runtime};
use crate::client::{SILENCE_MAX, Server, percent};
use crate::failure::{Exit, Failure};
use bytes::Bytes;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use std::time::Duration;
use turnwise_mock::{SseEvent, SseReader};

/// Events or topics asked for at a time.
const PAGE: u32 = 500;
/// Pause before a server that went away is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Times in a row, before that is given up.
const TRIES_MAX: u32 = 40;

#[derive(Debug, Args)]
pub(crate) struct Where {
    #[command(flatten)]
    server: ServerArgs,
    /// The organisation; needed unless the key is for one alone
    #[arg(long)]
    org: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TopicCommand {
    /// List topics by name
    List {
        #[command(flatten)]
        place: Where,
        /// Only those that match: `*` is one part of a name, `>` the rest
        #[arg(default_value = ">")]
        pattern: String,
    },
    /// Every event that is kept of a topic
    Read {
        #[command(flatten)]
        place: Where,
        /// Its name
        topic: String,
        /// Only what follows this position
        #[arg(long)]
        after: Option<String>,
    },
    /// Events of topics as they are published, until Ctrl-C; goes on by itself when the server comes back
    Follow {
        #[command(flatten)]
        place: Where,
        /// Topics and patterns
        #[arg(required = true)]
        topics: Vec<String>,
        /// Begin behind this event's id, or with `earliest`
        #[arg(long)]
        after: Option<String>,
    },
    /// Publish one event
    Publish {
        #[command(flatten)]
        place: Where,
        /// The topic
        topic: String,
        /// What it says: JSON
        #[arg(default_value = "null")]
        data: String,
        /// What it is
        #[arg(long = "type", value_name = "TYPE")]
        event_type: String,
        /// A repeat with the same key is the same event
        #[arg(long)]
        dedup_key: Option<String>,
    },
}

pub(crate) fn run(context: &Context, command: TopicCommand) -> Outcome {
    runtime(1)?.block_on(async {
        match command {
            TopicCommand::List { place, pattern } => list(context, &place, &pattern).await,
            TopicCommand::Read { place, topic, after } => read(context, &place, &topic, after).await,
            TopicCommand::Follow { place, topics, after } => {
                let mut signals = StopSignals::catch()?;
                tokio::select! {
                    outcome = follow(context, &place, &topics, after) => outcome,
                    () = signals.next() => Ok(()),
                }
            }
            TopicCommand::Publish { place, topic, data, event_type, dedup_key } => {
                publish(context, &place, &topic, &data, &event_type, dedup_key).await
            }
        }
    })
}

impl Where {
    /// A path with the organisation in its query, and these parameters.
    fn path(&self, path: &str, parameters: &[(&str, Option<&str>)]) -> String {
        let org = [("org_id", self.org.as_deref())];
        let given = org.iter().chain(parameters).filter_map(|(name, value)| Some((*name, (*value)?)));
        let query: Vec<String> = given.map(|(name, value)| format!("{name}={}", percent(value))).collect();
        format!("/api/v1/{path}?{}", query.join("&"))
    }
}

async fn list(context: &Context, place: &Where, pattern: &str) -> Outcome {
    let line = |topic: &Value| {
        let text = |name: &str| topic.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
        let number = |name: &str| topic.get(name).and_then(Value::as_u64).unwrap_or(0);
        format!(
            "{}  {} events  {} bytes  last {}  {} subscribers",
            text("name"),
            number("events"),
            number("bytes"),
            text("last"),
            number("subscribers")
        )
    };
    let limit = PAGE.to_string();
    let path = |after: Option<&str>| {
        place.path("topics", &[("topics", Some(pattern)), ("limit", Some(limit.as_str())), ("after", after)])
    };
    let server = place.server.server()?;
    let mut after: Option<String> = None;
    loop {
        let page = server.get(&path(after.as_deref())).await?;
        show_all(context, &page, line);
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(()),
        }
    }
}

async fn read(context: &Context, place: &Where, topic: &str, mut after: Option<String>) -> Outcome {
    let server = place.server.server()?;
    let limit = PAGE.to_string();
    loop {
        let events = format!("topics/{}/events", percent(topic));
        let path = place.path(&events, &[("limit", Some(limit.as_str())), ("after", after.as_deref())]);
        let page = server.get(&path).await?;
        if page.get("gap").and_then(Value::as_bool) == Some(true) {
            eprintln!("some events behind this position are not kept any longer");
        }
        if show_all(context, &page, line_of) == 0 {
            return Ok(());
        }
        after = page.get("next").and_then(Value::as_str).map(str::to_owned);
    }
}

/// Shows the items of a page; how many there were.
fn show_all(context: &Context, page: &Value, line: impl Fn(&Value) -> String) -> usize {
    let items = page.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    for item in items {
        match context.json {
            true => print::json(item),
            false => print::line(&line(item)),
        }
    }
    items.len()
}

fn line_of(event: &Value) -> String {
    let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("-");
    let said = event.get("data").or_else(|| event.get("cloudevent")).unwrap_or(&Value::Null);
    format!("{}  {}  {}  {}  {said}", text("time"), text("topic"), text("position"), text("type"))
}

async fn publish(
    context: &Context,
    place: &Where,
    topic: &str,
    data: &str,
    event_type: &str,
    dedup_key: Option<String>,
) -> Outcome {
    let data: Value = serde_json::from_str(data).map_err(|error| {
        Failure::new(Exit::Usage, "the data is not JSON", error.to_string())
            .hint("a text needs its own quotes: '\"hello\"'")
    })?;
    let mut body = json!({ "type": event_type, "data": data });
    if let (Some(key), Some(body)) = (dedup_key, body.as_object_mut()) {
        body.insert("dedup_key".to_owned(), key.into());
    }
    let server = place.server.server()?;
    let path = place.path(&format!("topics/{}/events", percent(topic)), &[]);
    let told = server.call(&mut server.conn(), Method::POST, &path, Bytes::from(body.to_string())).await?;
    match context.json {
        true => print::json(&told),
        false => {
            let position = told.get("position").and_then(Value::as_str).unwrap_or("-");
            let subscribers = told.get("subscribers").and_then(Value::as_u64).unwrap_or(0);
            print::line(&format!("{position}  to {subscribers} subscribers of this node"));
        }
    }
    Ok(())
}

async fn follow(context: &Context, place: &Where, topics: &[String], mut after: Option<String>) -> Outcome {
    let server = place.server.server()?;
    let topics = topics.join(",");
    let path =
        |after: Option<&str>| place.path("subscribe", &[("topics", Some(topics.as_str())), ("after", after)]);
    let mut reader = server.events(&path(after.as_deref())).await?;
    if context.json {
        print::json(&json!({ "ready": true, "url": place.server.url() }));
    }
    loop {
        match reader.next_unless_silent(SILENCE_MAX).await {
            Ok(Some(event)) => {
                show(context, &event);
                after = Some(event.id);
            }
            Ok(None) | Err(_) => {
                eprintln!("the server went away; waiting for it");
                reader = again(&server, &path(after.as_deref())).await?;
            }
        }
    }
}

/// The stream again, once the server is back. From the last event on nothing is missed.
async fn again(server: &Server, path: &str) -> Result<SseReader, Failure> {
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

fn show(context: &Context, event: &SseEvent) {
    let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
    let is_gap = event.event == "gap";
    match context.json {
        true => print::json(&json!({ "id": event.id, "event": event.event, "data": data })),
        false if is_gap => print::line("... some events are not kept any longer ..."),
        false => print::line(&line_of(&data)),
    }
}
