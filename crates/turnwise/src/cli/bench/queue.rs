//! `turnwise bench queue`: messages through the queue of any store, in this process: stored, handed out in order,
//! acknowledged. On a shared server it uses a namespace of its own.

use super::cycle::{self, Cycled, KEYS_EACH, PAYLOAD_BYTES, Plan};
use super::load::millis;
use super::table::{Goal, Row};
use super::{Context, Outcome, print, show_rows, step};
use crate::config::{self, Config, StoreKind};
use crate::failure::{Exit, Failure};
use crate::node::{embedded, nonce, open_store};
use clap::Args;
use serde_json::json;
use std::time::Duration;
use turnwise_core::{Kind, Name, QueueName};
use turnwise_store::embedded::raw;

/// Keeps a measurement apart from the messages that a server holds.
const NAMESPACE: &str = "turnwise_bench";
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
}

pub(super) async fn queue(context: &Context, arguments: &QueueArgs) -> Outcome {
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let mut flags = vec![
        ("store.namespace", NAMESPACE.to_owned()),
        ("store.data_dir", folder.path().display().to_string()),
    ];
    flags.extend(arguments.store.iter().map(|url| ("store.url", url.clone())));
    let config = Config::load(context.config.as_deref(), &config::environment(), &flags)?;
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
    let plan = Plan {
        queue: fresh_queue()?,
        producers: usize::from(arguments.producers),
        consumers: usize::from(arguments.consumers),
        batch: arguments.batch,
        length,
    };
    cycle::run(store.store(), plan).await.map_err(failed)
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
    let keys = usize::from(arguments.producers) * KEYS_EACH;
    if context.json {
        print::json(&json!({
            "store": engine, "seconds": arguments.seconds, "producers": arguments.producers,
            "consumers": arguments.consumers, "batch": arguments.batch, "keys": keys,
            "message_bytes": PAYLOAD_BYTES, "messages": cycled.count,
            "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return;
    }
    print::line(&format!(
        "store {engine}: {} messages of {PAYLOAD_BYTES} bytes, {} producers, {keys} keys, {} consumers of up to {} \
         at once; the order of every key was kept\n",
        cycled.count, arguments.producers, arguments.consumers, arguments.batch
    ));
    show_rows(&rows);
}
