//! `turnwise dead`: what was given up on: callbacks, and with `--queue` the messages of a work queue. A key with the
//! scope `callbacks`, or `queues`, sees them.

use super::queue::{OfOrg, Stage};
use super::server::ServerArgs;
use super::{Context, Outcome, print, queue, runtime};
use crate::client::{Server, percent};
use crate::failure::{Exit, Failure};
use bytes::Bytes;
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};
use turnwise_mock::Conn;

/// Callbacks asked for at a time.
const PAGE: u32 = 100;

#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List them, the oldest first
    List {
        #[command(flatten)]
        server: ServerArgs,
        /// Only of this organisation
        #[arg(long)]
        org: Option<String>,
        /// Messages of this work queue instead of callbacks
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// Callbacks that wait or are being tried instead
        #[arg(long, conflicts_with = "queue")]
        waiting: bool,
    },
    /// Everything about one callback or message
    Show {
        #[command(flatten)]
        server: ServerArgs,
        /// A message of this work queue
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// The organisation of the queue; may be left out with a key for only one
        #[arg(long, requires = "queue")]
        org: Option<String>,
        /// Its id
        id: String,
    },
    /// Try them again: they go to the end of their line with no tries counted
    Redrive {
        #[command(flatten)]
        server: ServerArgs,
        /// Their ids
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        ids: Vec<String>,
        /// All of them
        #[arg(long)]
        all: bool,
        /// Only of this organisation
        #[arg(long)]
        org: Option<String>,
        /// Messages of this work queue instead of callbacks
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// Only say how many there are
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Remove callbacks or messages for good: they are never delivered
    Drop {
        #[command(flatten)]
        server: ServerArgs,
        /// Messages of this work queue
        #[arg(long, value_name = "QUEUE")]
        queue: Option<String>,
        /// The organisation of the queue; may be left out with a key for only one
        #[arg(long, requires = "queue")]
        org: Option<String>,
        /// Their ids
        #[arg(required = true)]
        ids: Vec<String>,
        /// Only say how many there are
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) fn run(context: &Context, command: DeadCommand) -> Outcome {
    runtime(1)?.block_on(async {
        match command {
            DeadCommand::List { server, org, queue: Some(queue), .. } => {
                queue::messages(context, &OfOrg { server, org }, &queue, Stage::Dead).await
            }
            DeadCommand::List { server, org, queue: None, waiting } => {
                list(context, &server, org, waiting).await
            }
            DeadCommand::Show { server, queue: Some(queue), org, id } => {
                queue::message(context, &OfOrg { server, org }, &queue, &id).await
            }
            DeadCommand::Show { server, queue: None, id, .. } => show(context, &server, &id).await,
            DeadCommand::Redrive { server, ids, all, org, queue: Some(queue), dry_run, yes } => {
                let which = if all { json!({ "all": true }) } else { json!({ "ids": ids }) };
                queue::redrive(context, &OfOrg { server, org }, &queue, which, (dry_run, yes)).await
            }
            DeadCommand::Redrive { server, ids, all, org, queue: None, dry_run, yes } => {
                let body = json!({ "ids": (!all).then_some(ids), "all": all, "org_id": org });
                redrive(context, &server, body, dry_run, yes).await
            }
            DeadCommand::Drop { server, queue, org, ids, dry_run, yes } => {
                let org = org.map_or_else(String::new, |org| format!("?org_id={}", percent(&org)));
                let of = match queue {
                    Some(queue) => Discarded::Messages(queue, org),
                    None => Discarded::Callbacks,
                };
                discard(context, &server, &of, &ids, dry_run, yes).await
            }
        }
    })
}

async fn list(context: &Context, server: &ServerArgs, org: Option<String>, waiting: bool) -> Outcome {
    let mut api = Api::new(server)?;
    let stage = if waiting { "waiting" } else { "dead" };
    let org = org.map(|org| format!("&org_id={}", percent(&org))).unwrap_or_default();
    let mut after = String::new();
    loop {
        let path = format!("/api/v1/callbacks?stage={stage}&limit={PAGE}{org}{after}");
        let page = api.get(&path).await?;
        for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
            match context.json {
                true => print::json(item),
                false => print::line(&line_of(item)),
            }
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={}", percent(next)),
            None => return Ok(()),
        }
    }
}

fn line_of(item: &Value) -> String {
    let text = |name: &str| item.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let attempts = item.get("attempts").and_then(Value::as_u64).unwrap_or(0);
    format!(
        "{}  {}  {}  {attempts} tries  {}  {}",
        text("id"),
        text("created_at"),
        text("org_id"),
        text("origin"),
        text("last_error")
    )
}

async fn show(context: &Context, server: &ServerArgs, id: &str) -> Outcome {
    let item = Api::new(server)?.get(&format!("/api/v1/callbacks/{}", percent(id))).await?;
    if context.json {
        print::json(&item);
        return Ok(());
    }
    for (name, value) in item.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        print::line(&format!("{name:16} {value}"));
    }
    Ok(())
}

async fn redrive(
    context: &Context,
    server: &ServerArgs,
    mut body: Value,
    dry_run: bool,
    yes: bool,
) -> Outcome {
    let mut api = Api::new(server)?;
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
        fields.insert("dry_run".into(), true.into());
    }
    let counted = api.redrive(&body).await?;
    let count = counted.get("redriven").and_then(Value::as_u64).unwrap_or(0);
    if dry_run || count == 0 {
        return told(context, &counted, &format!("{count} would be tried again"));
    }
    confirm(yes, &format!("Try {count} callbacks again?"))?;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("dry_run");
    }
    let done = api.redrive(&body).await?;
    let count = done.get("redriven").and_then(Value::as_u64).unwrap_or(0);
    told(context, &done, &format!("{count} are tried again"))
}

/// What is removed for good.
enum Discarded {
    Callbacks,
    /// Of this queue; its organisation as a query.
    Messages(String, String),
}

impl Discarded {
    fn path(&self, id: &str) -> String {
        let id = percent(id);
        match self {
            Discarded::Callbacks => format!("/api/v1/callbacks/{id}"),
            Discarded::Messages(queue, org) => {
                format!("/api/v1/queues/{}/messages/{id}{org}", percent(queue))
            }
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Discarded::Callbacks => "callbacks",
            Discarded::Messages(..) => "messages",
        }
    }
}

async fn discard(
    context: &Context,
    server: &ServerArgs,
    of: &Discarded,
    ids: &[String],
    dry_run: bool,
    yes: bool,
) -> Outcome {
    let mut api = Api::new(server)?;
    for id in ids {
        api.get(&of.path(id)).await?;
    }
    let count = ids.len();
    if dry_run {
        return told(
            context,
            &json!({"dropped": count, "dry_run": true}),
            &format!("{count} would be dropped"),
        );
    }
    confirm(yes, &format!("Drop {count} {} for good?", of.name()))?;
    for id in ids {
        api.delete(&of.path(id)).await?;
    }
    told(context, &json!({"dropped": count, "dry_run": false}), &format!("{count} were dropped"))
}

fn told(context: &Context, value: &Value, line: &str) -> Outcome {
    match context.json {
        true => print::json(value),
        false => print::line(line),
    }
    Ok(())
}

/// Asks on the terminal; without one `--yes` is needed.
pub(super) fn confirm(yes: bool, question: &str) -> Outcome {
    if yes {
        return Ok(());
    }
    let refused =
        |detail: &str| Failure::new(Exit::Usage, "not confirmed", detail).hint("--yes answers for you");
    if !std::io::stdin().is_terminal() {
        return Err(refused("there is no terminal to ask on"));
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(refused("nothing was done")),
    }
}

/// The server's routes about callbacks.
struct Api {
    server: Server,
    conn: Conn,
}

impl Api {
    fn new(server: &ServerArgs) -> Result<Api, Failure> {
        let server = server.server()?;
        Ok(Api { conn: server.conn(), server })
    }

    async fn get(&mut self, path: &str) -> Result<Value, Failure> {
        self.server.call(&mut self.conn, Method::GET, path, Bytes::new()).await
    }

    async fn delete(&mut self, path: &str) -> Result<Value, Failure> {
        self.server.call(&mut self.conn, Method::DELETE, path, Bytes::new()).await
    }

    async fn redrive(&mut self, body: &Value) -> Result<Value, Failure> {
        let path = "/api/v1/callbacks/redrive";
        self.server.call(&mut self.conn, Method::POST, path, body.to_string().into()).await
    }
}
