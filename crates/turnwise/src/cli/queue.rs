//! `turnwise queue`: work queues of a server. A key with the scope `queues`
//! may change them, one with `queues:read` look.

use super::dead::confirm;
use super::server::ServerArgs;
use super::{Context, Outcome, print, runtime};
use crate::client::{Server, percent};
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};
use turnwise_mock::Conn;

/// Items asked for at a time.
const PAGE: u32 = 100;

#[derive(Debug, Args)]
pub(crate) struct OfOrg {
    #[command(flatten)]
    pub(super) server: ServerArgs,
    /// The organisation; may be left out with a key for only one
    #[arg(long)]
    pub(super) org: Option<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Stage {
    /// Waiting for their turn
    Ready,
    /// Waiting for their time
    Scheduled,
    /// In somebody's hands
    Leased,
    /// Given up on
    Dead,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Stage::Ready => "ready",
            Stage::Scheduled => "scheduled",
            Stage::Leased => "leased",
            Stage::Dead => "dead",
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List queues: what they hold, and for how long it has waited
    List {
        #[command(flatten)]
        of: OfOrg,
    },
    /// Everything about one queue
    Show {
        #[command(flatten)]
        of: OfOrg,
        /// Its name
        queue: String,
    },
    /// Store a message
    Send {
        #[command(flatten)]
        of: OfOrg,
        /// Where
        queue: String,
        /// Any JSON; what is none is sent as a text
        payload: String,
        /// Messages of one key come in order, one at a time
        #[arg(long = "ordering-key", value_name = "KEY")]
        ordering_key: Option<String>,
        /// 0 to 9, 9 first
        #[arg(long)]
        priority: Option<u8>,
        /// Not handed out before so many seconds have passed
        #[arg(long, value_name = "SECONDS")]
        delay: Option<f64>,
    },
    /// List messages of one stage, the oldest first
    Messages {
        #[command(flatten)]
        of: OfOrg,
        /// Of which queue
        queue: String,
        /// Which
        #[arg(long, value_enum, default_value = "ready")]
        stage: Stage,
    },
    /// Everything about one message
    Message {
        #[command(flatten)]
        of: OfOrg,
        /// Of which queue
        queue: String,
        /// Its id
        id: String,
    },
    /// Put dead letters back: they go to the tail of their key with no attempts counted
    Redrive {
        #[command(flatten)]
        of: OfOrg,
        /// Of which queue
        queue: String,
        /// Their ids
        #[arg(required_unless_present_any = ["all", "reason"], conflicts_with_all = ["all", "reason"])]
        ids: Vec<String>,
        /// All of them
        #[arg(long, conflicts_with = "reason")]
        all: bool,
        /// Those whose reason holds this text
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// So many a second
        #[arg(long, value_name = "PER_SECOND")]
        rate: Option<f64>,
        /// Only say how many there are
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Remove all messages of a stage for good
    Purge {
        #[command(flatten)]
        of: OfOrg,
        /// Of which queue
        queue: String,
        /// Which; all but those in somebody's hands if it is left out
        #[arg(long, value_enum)]
        stage: Option<Stage>,
        /// Only say how many there are
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
    /// Hand nothing out until it is resumed
    Pause {
        #[command(flatten)]
        of: OfOrg,
        /// Which
        queue: String,
    },
    /// Hand out again
    Resume {
        #[command(flatten)]
        of: OfOrg,
        /// Which
        queue: String,
    },
}

pub(crate) fn run(context: &Context, command: QueueCommand) -> Outcome {
    runtime(1)?.block_on(async {
        match command {
            QueueCommand::List { of } => list(context, &of).await,
            QueueCommand::Show { of, queue } => show(context, &of, Method::GET, &queue, "").await,
            QueueCommand::Pause { of, queue } => show(context, &of, Method::POST, &queue, "/pause").await,
            QueueCommand::Resume { of, queue } => show(context, &of, Method::POST, &queue, "/resume").await,
            QueueCommand::Message { of, queue, id } => message(context, &of, &queue, &id).await,
            QueueCommand::Messages { of, queue, stage } => messages(context, &of, &queue, stage).await,
            QueueCommand::Send { of, queue, payload, ordering_key, priority, delay } => {
                let payload = serde_json::from_str(&payload).unwrap_or(Value::String(payload));
                let message = json!({
                    "payload": payload, "ordering_key": ordering_key, "priority": priority, "delay_seconds": delay,
                });
                let sent = Api::new(&of)?.call(Method::POST, &queue, "/messages", &message).await?;
                let id = sent.get("message_id").and_then(Value::as_str).unwrap_or_default();
                told(context, &sent, id)
            }
            QueueCommand::Redrive { of, queue, ids, all, reason, rate, dry_run, yes } => {
                let mut which = match (all, reason) {
                    (true, _) => json!({ "all": true }),
                    (false, Some(reason)) => json!({ "filter": { "reason_contains": reason } }),
                    (false, None) => json!({ "ids": ids }),
                };
                if let (Some(rate), Some(fields)) = (rate, which.as_object_mut()) {
                    fields.insert("rate_per_second".to_owned(), json!(rate));
                }
                redrive(context, &of, &queue, which, (dry_run, yes)).await
            }
            QueueCommand::Purge { of, queue, stage, dry_run, yes } => {
                if let Some(Stage::Leased) = stage {
                    let detail = "what is in somebody's hands cannot be purged";
                    return Err(Failure::new(Exit::Usage, "nothing was done", detail));
                }
                let which = json!({ "stage": stage.map_or("all", Stage::name) });
                let change = Change { route: "/purge", count: "removed", done: "removed for good" };
                changed(context, &of, &queue, which, (dry_run, yes), &change).await
            }
        }
    })
}

async fn list(context: &Context, of: &OfOrg) -> Outcome {
    let mut api = Api::new(of)?;
    api.pages(context, "", "", |item| {
        let depth =
            |stage: &str| item.pointer(&format!("/depth/{stage}")).and_then(Value::as_u64).unwrap_or(0);
        let age = item.get("oldest_waiting_seconds").and_then(Value::as_f64);
        let age = age.map_or_else(|| "-".to_owned(), |age| format!("{age:.1} s"));
        let paused = if item.get("paused") == Some(&Value::Bool(true)) { "  paused" } else { "" };
        format!(
            "{}  {} ready  {} scheduled  {} leased  {} dead  oldest {age}{paused}",
            text(item, "queue"),
            depth("ready"),
            depth("scheduled"),
            depth("leased"),
            depth("dead"),
        )
    })
    .await
}

pub(super) async fn messages(context: &Context, of: &OfOrg, queue: &str, stage: Stage) -> Outcome {
    let path = format!("/{}/messages", percent(queue));
    let stage = format!("&stage={}", stage.name());
    Api::new(of)?
        .pages(context, &path, &stage, |item| {
            let attempts = item.get("attempts").and_then(Value::as_u64).unwrap_or(0);
            format!(
                "{}  {}  {}  {attempts} attempts  {}",
                text(item, "message_id"),
                text(item, "enqueued_at"),
                text(item, "ordering_key"),
                text(item, "reason"),
            )
        })
        .await
}

/// Puts dead letters back.
pub(super) async fn redrive(
    context: &Context,
    of: &OfOrg,
    queue: &str,
    which: Value,
    (dry_run, yes): (bool, bool),
) -> Outcome {
    let change = Change { route: "/redrive", count: "redriven", done: "put back" };
    changed(context, of, queue, which, (dry_run, yes), &change).await
}

/// Everything about one message.
pub(super) async fn message(context: &Context, of: &OfOrg, queue: &str, id: &str) -> Outcome {
    show(context, of, Method::GET, queue, &format!("/messages/{}", percent(id))).await
}

/// A field for people.
fn text<'v>(item: &'v Value, name: &str) -> &'v str {
    item.get(name).and_then(Value::as_str).unwrap_or("-")
}

/// Asks, and prints what comes field by field.
async fn show(context: &Context, of: &OfOrg, method: Method, queue: &str, route: &str) -> Outcome {
    let item = Api::new(of)?.call(method, queue, route, &Value::Null).await?;
    if context.json {
        print::json(&item);
        return Ok(());
    }
    for (name, value) in item.as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        print::line(&format!("{name:22} {value}"));
    }
    Ok(())
}

/// Something that is done to many messages.
struct Change {
    route: &'static str,
    /// The field of the answer with their number.
    count: &'static str,
    done: &'static str,
}

/// Counts, asks, and does it until there is no more.
async fn changed(
    context: &Context,
    of: &OfOrg,
    queue: &str,
    mut which: Value,
    (dry_run, yes): (bool, bool),
    change: &Change,
) -> Outcome {
    let mut api = Api::new(of)?;
    let count = |answer: &Value| answer.get(change.count).and_then(Value::as_u64).unwrap_or(0);
    let set_dry_run = |which: &mut Value, dry_run: bool| {
        if let Some(fields) = which.as_object_mut() {
            fields.insert("dry_run".to_owned(), dry_run.into());
        }
    };
    set_dry_run(&mut which, true);
    let counted = api.call(Method::POST, queue, change.route, &which).await?;
    if dry_run || count(&counted) == 0 {
        return told(context, &counted, &format!("{} would be {}", count(&counted), change.done));
    }
    confirm(yes, &format!("{} messages of {queue} are to be {}?", count(&counted), change.done))?;
    set_dry_run(&mut which, false);
    let mut all = 0;
    loop {
        let answer = api.call(Method::POST, queue, change.route, &which).await?;
        all += count(&answer);
        if answer.get("more") != Some(&Value::Bool(true)) {
            break;
        }
    }
    told(context, &json!({ change.count: all, "dry_run": false }), &format!("{all} were {}", change.done))
}

fn told(context: &Context, value: &Value, line: &str) -> Outcome {
    match context.json {
        true => print::json(value),
        false => print::line(line),
    }
    Ok(())
}

/// The server's routes about queues.
struct Api {
    server: Server,
    conn: Conn,
    org: Option<String>,
}

impl Api {
    fn new(of: &OfOrg) -> Result<Api, Failure> {
        let server = of.server.server()?;
        Ok(Api { conn: server.conn(), server, org: of.org.clone() })
    }

    /// The organisation as part of a query.
    fn org(&self, before: char) -> String {
        self.org.as_deref().map_or_else(String::new, |org| format!("{before}org_id={}", percent(org)))
    }

    async fn call(
        &mut self,
        method: Method,
        queue: &str,
        route: &str,
        body: &Value,
    ) -> Result<Value, Failure> {
        let path = format!("/api/v1/queues/{}{route}{}", percent(queue), self.org('?'));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.server.call(&mut self.conn, method, &path, body.into()).await
    }

    /// Prints every item of a list.
    async fn pages(
        &mut self,
        context: &Context,
        path: &str,
        query: &str,
        line: impl Fn(&Value) -> String,
    ) -> Outcome {
        let mut after = String::new();
        loop {
            let path = format!("/api/v1/queues{path}?limit={PAGE}{query}{after}{}", self.org('&'));
            let page = self.server.call(&mut self.conn, Method::GET, &path, bytes::Bytes::new()).await?;
            for item in page.get("items").and_then(Value::as_array).into_iter().flatten() {
                match context.json {
                    true => print::json(item),
                    false => print::line(&line(item)),
                }
            }
            match page.get("next").and_then(Value::as_str) {
                Some(next) => after = format!("&after={}", percent(next)),
                None => return Ok(()),
            }
        }
    }
}
