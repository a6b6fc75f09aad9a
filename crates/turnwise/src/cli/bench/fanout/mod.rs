//! `turnwise bench fanout`: events of one topic to many readers, over WebSocket and server-sent events; beside nginx
//! with nchan where that is installed, and beside a reader that has stopped reading. All in one run, one server after
//! the other.

mod publisher;
mod readers;
mod target;

use super::load::millis;
use super::table::{Goal, Row};
use super::{Context, Outcome, print, show_rows, step};
use crate::child::{ServerProcess, Setup};
use crate::failure::{Exit, Failure};
use crate::rlimits;
use clap::Args;
use hdrhistogram::Histogram;
use readers::{Pace, Readers};
use serde_json::json;
use std::path::Path;
use std::time::Duration;
use target::{Nchan, Over, Server, Target};

/// Events that are on their way at most, when as many are published as can be.
const WINDOW: u64 = 4;
/// Events a second, when their times are measured.
const RATE: u64 = 20;
/// Bytes of an event while a reader has stopped: its buffers are full within the measurement.
const STOPPED_BYTES: usize = 4_096;
/// Deliveries for a second of the server's processor, beside nchan.
const AT_FULL_RATE: Goal = Goal::Least(2.5);
const AT_STEADY_RATE: Goal = Goal::Least(0.9);
/// Times, beside nchan, and beside those without a reader that has stopped.
const TIMES: Goal = Goal::Most(1.0);
const BESIDE_STOPPED: Goal = Goal::Most(1.2);
/// Resident with a thousand readers.
const MIB_MAX: Goal = Goal::Most(40.0);
/// Of one reader that has stopped.
const STOPPED_MIB_MAX: Goal = Goal::Most(4.0);

#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    /// Readers
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    readers: u32,
    /// Bytes of an event
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(32..=100_000))]
    bytes: u32,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Over this alone
    #[arg(long, value_enum)]
    over: Option<Over>,
}

/// One server, reached one way.
struct Measured {
    per_cpu_second: f64,
    per_second: f64,
    steady_per_cpu_second: f64,
    steady: Histogram<u64>,
    resident_mib: f64,
}

struct Stopped {
    alone: Histogram<u64>,
    beside: Histogram<u64>,
    mib: f64,
    resumed: bool,
}

pub(super) async fn fanout(context: &Context, arguments: &FanoutArgs) -> Outcome {
    rlimits::raise();
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let all =
        [Over::Ws, Over::Sse].into_iter().filter(|over| arguments.over.is_none_or(|only| only == *over));
    let mut rows = Vec::new();
    for over in all {
        let peer = match Nchan::is_installed() {
            true => {
                step(&format!("nchan, {over:?}"));
                let nchan = Nchan::start(&folder.path().join(format!("{over:?}"))).await?;
                Some(measured(&nchan.target, over, arguments).await?)
            }
            false => None,
        };
        step(&format!("turnwise, {over:?}"));
        let mut server = started(&folder.path().join(format!("turnwise-{over:?}")), arguments).await?;
        let target = Target {
            server: Server::Turnwise,
            address: server.address(),
            pids: server.pid().into_iter().collect(),
        };
        let ours = measured(&target, over, arguments).await?;
        step(&format!("turnwise, {over:?}, a reader that has stopped"));
        let stopped = beside_stopped(&target, over, arguments).await?;
        server.stop().await?;
        rows.extend(shown(over, &ours, peer.as_ref(), &stopped));
        if !stopped.resumed {
            let detail = "a reader that had stopped did not get all events when it went on from its place";
            return Err(Failure::new(Exit::Check, "an event was lost", detail));
        }
    }
    show(context, arguments, &rows);
    Ok(())
}

async fn started(folder: &Path, arguments: &FanoutArgs) -> Result<ServerProcess, Failure> {
    std::fs::create_dir_all(folder)?;
    let most = (arguments.readers * 2).max(1_024).to_string();
    let env = vec![
        ("TURNWISE_CONNECTIONS_MAX", most.clone()),
        ("TURNWISE_CONNECTIONS_PER_ADDRESS_MAX", most.clone()),
        ("TURNWISE_STREAMS_MAX", most.clone()),
        ("TURNWISE_STREAMS_PER_KEY_MAX", most),
    ];
    ServerProcess::start(Setup { folder: folder.to_owned(), agent: None, env, arguments: Vec::new() }).await
}

async fn measured(target: &Target, over: Over, arguments: &FanoutArgs) -> Result<Measured, Failure> {
    let (count, bytes) = (u64::from(arguments.readers), arguments.bytes as usize);
    let length = Duration::from_secs(arguments.seconds);
    let mut readers = Readers::open(target, over, count).await?;
    let resident_mib = target.resident_mib();
    let full = readers.run(Pace::Window(WINDOW), length, bytes).await?;
    readers.close().await?;
    let mut readers = Readers::open(target, over, count).await?;
    let steady = readers.run(Pace::Rate(RATE), length, bytes).await?;
    Ok(Measured {
        per_cpu_second: full.per_cpu_second(),
        per_second: full.per_second(),
        steady_per_cpu_second: steady.per_cpu_second(),
        steady: readers.close().await?,
        resident_mib,
    })
}

async fn beside_stopped(target: &Target, over: Over, arguments: &FanoutArgs) -> Result<Stopped, Failure> {
    let (count, length) = (u64::from(arguments.readers), Duration::from_secs(arguments.seconds));
    let mut readers = Readers::open(target, over, count).await?;
    readers.run(Pace::Rate(RATE), length, STOPPED_BYTES).await?;
    let alone = readers.close().await?;
    let mut readers = Readers::open(target, over, count).await?;
    let before = target.resident_mib();
    let (stopped, place) = readers.stopped().await?;
    let from = readers.published();
    readers.run(Pace::Rate(RATE), length, STOPPED_BYTES).await?;
    let mib = target.resident_mib() - before;
    drop(stopped);
    let resumed = match place {
        Some(place) => readers.resumes(&place, from).await?,
        None => false,
    };
    Ok(Stopped { alone, beside: readers.close().await?, mib, resumed })
}

fn shown(over: Over, ours: &Measured, peer: Option<&Measured>, stopped: &Stopped) -> Vec<Row> {
    let names = match over {
        Over::Ws => WS,
        Over::Sse => SSE,
    };
    let [full, rate, steady, p50, p99, mib, beside, stopped_mib] = names;
    let time = |of: &Histogram<u64>, quantile: f64| millis(of, quantile);
    let full_row = Row::new(full.0, full.1, ours.per_cpu_second, "/s");
    let steady_row = Row::new(steady.0, steady.1, ours.steady_per_cpu_second, "/s");
    let p50_row = Row::new(p50.0, p50.1, time(&ours.steady, 0.5), "ms");
    let p99_row = Row::new(p99.0, p99.1, time(&ours.steady, 0.99), "ms");
    let beside = Row::new(beside.0, beside.1, time(&stopped.beside, 0.99), "ms")
        .over("without it", time(&stopped.alone, 0.99))
        .goal(BESIDE_STOPPED);
    let compared = match peer {
        None => [full_row, steady_row, p50_row, p99_row],
        Some(peer) => [
            full_row.over("nchan", peer.per_cpu_second).goal(AT_FULL_RATE),
            steady_row.over("nchan", peer.steady_per_cpu_second).goal(AT_STEADY_RATE),
            p50_row.over("nchan", time(&peer.steady, 0.5)).goal(TIMES),
            p99_row.over("nchan", time(&peer.steady, 0.99)).goal(TIMES),
        ],
    };
    let mut rows = Vec::from(compared);
    rows.insert(1, Row::new(rate.0, rate.1, ours.per_second, "/s"));
    rows.push(Row::new(mib.0, mib.1, ours.resident_mib, "MiB").goal(MIB_MAX));
    rows.push(beside);
    rows.push(Row::new(stopped_mib.0, stopped_mib.1, stopped.mib, "MiB").goal(STOPPED_MIB_MAX));
    rows
}

type Names = [(&'static str, &'static str); 8];

const WS: Names = [
    ("ws_per_cpu_s", "WebSocket: deliveries for a second of the server's processor"),
    ("ws_per_s", "  deliveries a second"),
    ("ws_steady_per_cpu_s", "  at 20 events/s: deliveries for a second of processor"),
    ("ws_p50_ms", "  at 20 events/s: time to a reader, p50"),
    ("ws_p99_ms", "  at 20 events/s: time to a reader, p99"),
    ("ws_resident_mib", "  resident with all readers"),
    ("ws_beside_stopped_p99_ms", "  events of 4 KiB, one reader has stopped: the others' p99"),
    ("ws_stopped_mib", "  what the one that has stopped takes"),
];
const SSE: Names = [
    ("sse_per_cpu_s", "Server-sent events: deliveries for a second of the server's processor"),
    ("sse_per_s", "  deliveries a second"),
    ("sse_steady_per_cpu_s", "  at 20 events/s: deliveries for a second of processor"),
    ("sse_p50_ms", "  at 20 events/s: time to a reader, p50"),
    ("sse_p99_ms", "  at 20 events/s: time to a reader, p99"),
    ("sse_resident_mib", "  resident with all readers"),
    ("sse_beside_stopped_p99_ms", "  events of 4 KiB, one reader has stopped: the others' p99"),
    ("sse_stopped_mib", "  what the one that has stopped takes"),
];

fn show(context: &Context, arguments: &FanoutArgs, rows: &[Row]) {
    if context.json {
        print::json(&json!({
            "readers": arguments.readers, "bytes": arguments.bytes, "seconds": arguments.seconds,
            "window": WINDOW, "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return;
    }
    let peer = if Nchan::is_installed() {
        ""
    } else {
        "; nginx with nchan is not installed: nothing to compare with"
    };
    print::line(&format!(
        "{} readers of events of {} bytes, at most {WINDOW} events on their way{peer}\n",
        arguments.readers, arguments.bytes
    ));
    show_rows(rows);
}
