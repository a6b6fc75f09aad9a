//! `turnwise bench queue`: messages through the queue of any store, stored, handed out in order, acknowledged: in this
//! process, or over the API of a server. On a shared store it uses a namespace of its own.

use super::cycle::{self, Cycled, KEYS_EACH, PAYLOAD_BYTES, Plan};
use super::load::millis;
use super::table::{Goal, Row};
use super::ways::{Direct, Http};
use super::{Context, Outcome, print, show_rows, step};
use crate::child::{ServerProcess, Setup};
use crate::config::{self, Config, StoreKind};
use crate::failure::{Exit, Failure};
use crate::node::{embedded, nonce, open_store};
use clap::Args;
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use turnwise_core::{Kind, Name, QueueName};
use turnwise_store::embedded::raw;

/// Keeps a measurement apart from the messages that a server holds.
const NAMESPACE: &str = "turnwise_bench";
/// Messages that the API hands out with one request.
const CLAIMED_MAX: u32 = 100;
/// Run and thrown away before the measurement.
const WARM_UP: Duration = Duration::from_secs(1);
/// The embedded store does at least this part of what the database below it does with one record a message, as many
/// in each commit as there are producers.
const BESIDE_REDB: Goal = Goal::Least(0.5);

#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    /// Which store: embedded, memory, redis://host:port or postgres://host/database [default: as in the settings]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Seconds in which new messages are stored
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Who store messages, each one after another
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1000))]
    producers: u16,
    /// Who are handed messages
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    consumers: u16,
    /// Messages handed out at once, and acknowledged at once
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    batch: u32,
    /// Messages stored with one request
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    together: u16,
    /// Without ordering keys: messages of one producer may be worked on side by side
    #[arg(long)]
    no_keys: bool,
    /// Over the API of a server in a process of its own
    #[arg(long)]
    http: bool,
}

impl QueueArgs {
    fn plan(&self, length: Duration) -> Plan {
        Plan {
            producers: usize::from(self.producers),
            consumers: usize::from(self.consumers),
            keyed: !self.no_keys,
            together: usize::from(self.together),
            batch: if self.http { self.batch.min(CLAIMED_MAX) } else { self.batch },
            length,
        }
    }
}

pub(super) async fn queue(context: &Context, arguments: &QueueArgs) -> Outcome {
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let mut flags = vec![
        ("store.namespace", NAMESPACE.to_owned()),
        ("store.data_dir", folder.path().display().to_string()),
    ];
    flags.extend(arguments.store.iter().map(|url| ("store.url", url.clone())));
    let config = Config::load(context.config.as_deref(), &config::environment(), &flags)?;
    if arguments.http {
        let cycled = over_http(folder.path(), arguments).await?;
        show(context, arguments, &config, &cycled, None);
        return Ok(());
    }
    let store = open_store(&config).await?;
    step("warming up");
    run(&store, arguments, WARM_UP).await?;
    step("enqueue, claim, acknowledge");
    let length = Duration::from_secs(arguments.seconds);
    let cycled = run(&store, arguments, length).await;
    store.close();
    let cycled = cycled?;
    let alone = match config.store {
        StoreKind::Embedded => {
            step("the same records through redb alone");
            let together = usize::from(arguments.producers);
            Some(
                raw::cycle(folder.path(), &embedded(&config), together, PAYLOAD_BYTES, length)
                    .map_err(failed)?,
            )
        }
        StoreKind::Memory | StoreKind::Redis(_) | StoreKind::Postgres(_) => None,
    };
    show(context, arguments, &config, &cycled, alone);
    Ok(())
}

fn failed(what: impl ToString) -> Failure {
    Failure::new(Exit::Failure, "the queue could not be measured", what.to_string())
}

async fn run(
    store: &turnwise_store::open::Opened,
    arguments: &QueueArgs,
    length: Duration,
) -> Result<Cycled, Failure> {
    let (store, queue) = (store.store(), fresh_queue()?);
    cycle::run(|| Direct::new(&store, &queue), arguments.plan(length)).await.map_err(failed)
}

/// The same with all of it but the clients in another process.
async fn over_http(folder: &Path, arguments: &QueueArgs) -> Result<Cycled, Failure> {
    let mut env = vec![("TURNWISE_STORE_NAMESPACE", NAMESPACE.to_owned())];
    env.extend(arguments.store.iter().map(|url| ("TURNWISE_STORE", url.clone())));
    let setup = Setup { folder: folder.to_owned(), agent: None, env, arguments: Vec::new() };
    let mut server = ServerProcess::start(setup).await?;
    let url = server.url();
    step("warming up");
    let mut cycled = cycle::run(|| Http::new(&url), arguments.plan(WARM_UP)).await;
    if cycled.is_ok() {
        step("enqueue, claim, acknowledge");
        let length = Duration::from_secs(arguments.seconds);
        cycled = cycle::run(|| Http::new(&url), arguments.plan(length)).await;
    }
    server.stop().await?;
    cycled.map_err(failed)
}

/// A queue that nothing is left in of another run.
fn fresh_queue() -> Result<QueueName, Failure> {
    let name = Name::new("bench", Kind::Turns, &format!("queue-{:016x}", nonce()));
    name.map_err(|error| Failure::new(Exit::Failure, "the queue has no name", error.to_string()))
}

fn show(context: &Context, arguments: &QueueArgs, config: &Config, cycled: &Cycled, alone: Option<f64>) {
    let engine = match config.store {
        StoreKind::Memory => "memory",
        StoreKind::Embedded => "embedded",
        StoreKind::Redis(_) => "redis",
        StoreKind::Postgres(_) => "postgres",
    };
    let cycle = Row::new("cycle_per_s", "messages stored, handed out, acknowledged", cycled.rate(), "/s");
    let redb =
        alone.map(|rate| Row::new("redb_per_s", "redb alone: put, leased, taken out (redb)", rate, "/s"));
    let mut rows = vec![
        match alone {
            Some(rate) => cycle.over("redb", rate).goal(BESIDE_REDB),
            None => cycle,
        },
        Row::new("enqueue_p50_ms", "  one is stored, p50", millis(&cycled.enqueues, 0.5), "ms"),
        Row::new("enqueue_p99_ms", "  one is stored, p99", millis(&cycled.enqueues, 0.99), "ms"),
        Row::new("handed_out_p50_ms", "  stored and handed out, p50", millis(&cycled.handed_out, 0.5), "ms"),
        Row::new("handed_out_p99_ms", "  stored and handed out, p99", millis(&cycled.handed_out, 0.99), "ms"),
    ];
    rows.extend(redb);
    let plan = arguments.plan(Duration::ZERO);
    let keys = if plan.keyed { plan.producers * KEYS_EACH } else { 0 };
    let order = if plan.keyed { "the order of every key was kept" } else { "each came once" };
    let over = if arguments.http { ", over HTTP" } else { "" };
    if context.json {
        print::json(&json!({
            "store": engine, "seconds": arguments.seconds, "producers": arguments.producers,
            "consumers": arguments.consumers, "batch": plan.batch, "together": plan.together, "keys": keys,
            "http": arguments.http,
            "message_bytes": PAYLOAD_BYTES, "messages": cycled.count,
            "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return;
    }
    print::line(&format!(
        "store {engine}{over}: {} messages of {PAYLOAD_BYTES} bytes, {} producers of {} at once, {keys} keys, {} \
         consumers of up to {} at once; {order}\n",
        cycled.count, plan.producers, plan.together, plan.consumers, plan.batch
    ));
    show_rows(&rows);
}
