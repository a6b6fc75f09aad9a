//! `turnwise bench soak`: turns at full rate that are kept for seconds only, so
//! that a day's worth of them passes in minutes. Memory, open files and the
//! store's file must not grow.

use super::fairness::resident_mib;
use super::load::{Kind, Worker};
use super::table::{self, Goal, Row};
use super::{AgentThread, disk_bytes, step};
use crate::child::{ServerProcess, Setup};
use crate::cli::{Context, Outcome, print};
use crate::failure::{Exit, Failure};
use clap::Args;
use serde_json::json;
use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use turnwise_mock::{AgentConfig, Conn};

/// Seconds an ended turn is kept.
const RETENTION_SECONDS: u64 = 20;
/// Clients, each in a closed loop.
const CLIENTS: usize = 48;
/// Between two samples.
const SAMPLE: Duration = Duration::from_secs(2);
/// Part of the run that is warm-up.
const WARM_UP: f64 = 0.3;
/// Growth between the thirds of what is left that is still called flat: a share, and so much beside.
const GROWTH_MAX: f64 = 0.05;
const GROWTH_MIB: f64 = 4.0;
const GROWTH_FILES: f64 = 4.0;
/// A shorter run is all warm-up.
const JUDGED_MINUTES: f64 = 1.0;
/// What the file takes of the disk beside the records in it. Its length says less: redb doubles it when it needs
/// more room, and what was never written takes none.
const DISK_MAX: Goal = Goal::Most(3.0);

#[derive(Debug, Args)]
pub(crate) struct SoakArgs {
    /// Minutes of load; growth is judged from one minute on
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    minutes: f64,
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes| (0.01..=600.0).contains(minutes));
    minutes.ok_or_else(|| "a number of minutes from 0.01 to 600".to_owned())
}

/// The server at one moment.
#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    resident_mib: f64,
    files: f64,
    disk_mib: f64,
    length_mib: f64,
    live_mib: f64,
}

pub(super) async fn soak(context: &Context, arguments: &SoakArgs) -> Outcome {
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let quiet = AgentConfig { markers: false, journal_calls_max: 0, ..AgentConfig::default() };
    let agent = AgentThread::with(quiet)?;
    let env = vec![("TURNWISE_RETENTION", RETENTION_SECONDS.to_string())];
    let own = folder.path().to_owned();
    let setup = Setup { folder: own, agent: Some(agent.url.clone()), env, arguments: Vec::new() };
    let mut server = ServerProcess::start(setup).await?;
    let until = Instant::now() + Duration::from_secs_f64(arguments.minutes * 60.0);
    let data = folder.path().join("data");
    step(&format!("{} minutes of load", arguments.minutes));
    let (count, samples) = load(&server, &data, until).await?;
    server.kill().await?;
    agent.stop();
    let (first, last) = thirds(&samples);
    let slope = slope_per_hour(&samples);
    let most = samples.iter().map(|sample| sample.live_mib).fold(0.0, f64::max);
    let rows = [
        Row::new("turns", "turns answered", count as f64, ""),
        Row::new("days", "  days of a turn a second", count as f64 / 86_400.0, "d"),
        Row::new("resident_first_mib", "resident, after the warm-up (first)", first.resident_mib, "MiB"),
        Row::new("resident_last_mib", "resident, at the end", last.resident_mib, "MiB")
            .over("first", first.resident_mib),
        Row::new("resident_slope_mib_h", "  slope between", slope, "MiB/h"),
        Row::new("files_last", "open files, at the end", last.files, "").over("first", first.files),
        Row::new("disk_mib", "the store's file, on the disk", last.disk_mib, "MiB")
            .over("live", last.live_mib)
            .goal(DISK_MAX),
        Row::new("disk_first_mib", "  after the warm-up", first.disk_mib, "MiB"),
        Row::new("disk_length_mib", "  its length, with what was never written", last.length_mib, "MiB"),
        Row::new("live_mib", "  records in it, at the end (live)", last.live_mib, "MiB"),
        Row::new("live_most_mib", "  most that were in it", most, "MiB"),
    ];
    if context.json {
        print::json(&json!({
            "minutes": arguments.minutes, "clients": CLIENTS, "retention_seconds": RETENTION_SECONDS,
            "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
    } else {
        print::line(&format!(
            "{CLIENTS} clients for {} minutes, turns kept for {RETENTION_SECONDS} s\n",
            arguments.minutes
        ));
        print::text(&table::render(&rows));
    }
    match grown(first, last).filter(|_| arguments.minutes >= JUDGED_MINUTES) {
        Some(what) => Err(Failure::new(Exit::Check, "the server grows", what)),
        None => Ok(()),
    }
}

/// Runs the clients and looks at the server meanwhile.
async fn load(server: &ServerProcess, data: &Path, until: Instant) -> Result<(u64, Vec<Sample>), Failure> {
    let (count, mut clients) = (Arc::new(AtomicU64::new(0)), JoinSet::new());
    for client in 0..CLIENTS {
        let mut worker = Worker::new(Kind::Sync, &server.url(), format!("soak-{client}")).rotating();
        let count = Arc::clone(&count);
        clients.spawn(async move {
            while Instant::now() < until {
                worker.once().await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), Failure>(())
        });
    }
    let (started, mut samples) = (Instant::now(), Vec::new());
    let mut conn = Conn::new(&server.url());
    while Instant::now() < until {
        tokio::time::sleep(SAMPLE).await;
        samples.push(sample(server, &mut conn, data, started).await?);
    }
    while let Some(client) = clients.join_next().await {
        client.map_err(|error| Failure::new(Exit::Failure, "a client broke", error.to_string()))??;
    }
    Ok((count.load(Ordering::Relaxed), samples))
}

async fn sample(
    server: &ServerProcess,
    conn: &mut Conn,
    data: &Path,
    started: Instant,
) -> Result<Sample, Failure> {
    let pid = server.pid().unwrap_or_default();
    let entries = |path: &Path| std::fs::read_dir(path).into_iter().flatten().flatten();
    let files: Vec<_> = entries(data).filter_map(|entry| entry.metadata().ok()).collect();
    let mib = |of: fn(&Metadata) -> u64| files.iter().map(of).sum::<u64>() as f64 / 1_048_576.0;
    Ok(Sample {
        seconds: started.elapsed().as_secs_f64(),
        resident_mib: resident_mib(server)?,
        files: entries(Path::new(&format!("/proc/{pid}/fd"))).count() as f64,
        disk_mib: mib(disk_bytes),
        length_mib: mib(Metadata::len),
        live_mib: live_mib(conn).await?,
    })
}

/// What the records take, without the file's own structure, as of the last commit.
async fn live_mib(conn: &mut Conn) -> Result<f64, Failure> {
    let strange = |why: &str| Failure::new(Exit::Failure, "/metrics is strange", why);
    let page = conn.get("/metrics").await.map_err(|error| strange(&error.to_string()))?;
    let page = String::from_utf8_lossy(&page.body);
    let value =
        page.lines().find_map(|line| line.strip_prefix("turnwise_store_live_bytes ")?.parse::<f64>().ok());
    value.map(|bytes| bytes / 1_048_576.0).ok_or_else(|| strange("it has no turnwise_store_live_bytes"))
}

fn warm(samples: &[Sample]) -> &[Sample] {
    let from = (samples.len() as f64 * WARM_UP) as usize;
    samples.get(from..).unwrap_or_default()
}

/// The means of the first and of the last third after the warm-up.
fn thirds(samples: &[Sample]) -> (Sample, Sample) {
    let warm = warm(samples);
    let third = (warm.len() / 3).max(1);
    let mean = |part: &[Sample]| {
        let of = |value: fn(&Sample) -> f64| part.iter().map(value).sum::<f64>() / part.len().max(1) as f64;
        Sample {
            seconds: of(|sample| sample.seconds),
            resident_mib: of(|sample| sample.resident_mib),
            files: of(|sample| sample.files),
            disk_mib: of(|sample| sample.disk_mib),
            length_mib: of(|sample| sample.length_mib),
            live_mib: of(|sample| sample.live_mib),
        }
    };
    let last = warm.len().saturating_sub(third);
    (mean(warm.get(..third).unwrap_or(warm)), mean(warm.get(last..).unwrap_or(warm)))
}

/// The straight line through the samples after the warm-up.
fn slope_per_hour(samples: &[Sample]) -> f64 {
    let warm = warm(samples);
    let count = warm.len().max(1) as f64;
    let x_mean = warm.iter().map(|sample| sample.seconds).sum::<f64>() / count;
    let y_mean = warm.iter().map(|sample| sample.resident_mib).sum::<f64>() / count;
    let over: f64 = warm.iter().map(|s| (s.seconds - x_mean) * (s.resident_mib - y_mean)).sum();
    let under: f64 = warm.iter().map(|s| (s.seconds - x_mean).powi(2)).sum();
    over / under.max(1e-9) * 3_600.0
}

/// What is larger at the end than it may be.
fn grown(first: Sample, last: Sample) -> Option<String> {
    let checks = [
        ("resident memory", first.resident_mib, last.resident_mib, GROWTH_MIB),
        ("the number of open files", first.files, last.files, GROWTH_FILES),
        ("the store's file", first.disk_mib, last.disk_mib, GROWTH_MIB),
    ];
    checks.into_iter().find_map(|(what, before, after, more)| {
        let grew = after > before * (1.0 + GROWTH_MAX) + more;
        grew.then(|| format!("{what} went from {before:.1} to {after:.1} after the warm-up"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(growth_per_sample: f64) -> Vec<Sample> {
        let at = |n: u32| Sample {
            seconds: f64::from(n) * 2.0,
            resident_mib: 100.0 + f64::from(n) * growth_per_sample,
            files: 60.0,
            disk_mib: 50.0,
            length_mib: 64.0,
            live_mib: 20.0,
        };
        (0..150).map(at).collect()
    }

    #[test]
    fn growth_is_seen_and_noise_is_not() {
        let (first, last) = thirds(&samples(0.01));
        assert_eq!(grown(first, last), None);
        assert!((slope_per_hour(&samples(0.01)) - 18.0).abs() < 0.1);
        let (first, last) = thirds(&samples(0.5));
        assert!(grown(first, last).is_some_and(|what| what.starts_with("resident memory")));
        let full = Sample { files: 80.0, ..first };
        assert!(grown(first, full).is_some_and(|what| what.contains("open files")));
    }
}
