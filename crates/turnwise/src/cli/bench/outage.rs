//! `turnwise bench outage`: what others feel of an outage: a host of callbacks
//! that is down, one that answers a byte a second, readers that have stopped
//! reading, and an agent that is down. Each is measured beside the same load
//! without the outage, in one run against one server; compare the ratios.

use super::fairness::{UNREAD_READERS_MAX, measured, stopped_readers};
use super::load::{Kind, Measured, Worker, paced, paced_by};
use super::table::{self, Goal, Row};
use super::{AgentThread, step};
use crate::child::{ServerProcess, Setup};
use crate::cli::{Context, Outcome, print};
use crate::failure::Failure;
use crate::rlimits;
use clap::Args;
use serde_json::json;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use turnwise_mock::{AgentConfig, CallbackReceiver, Host};

/// Milliseconds the agent takes for an answer.
const AGENT_MS: u64 = 20;
/// Clients whose turns have callbacks, and how often each sends one.
const HOOKED_CLIENTS: usize = 4;
const HOOKED_PERIOD: Duration = Duration::from_millis(100);
/// Clients that only submit, while the agent is up and while it is down.
const SUBMITTERS: usize = 4;
const SUBMIT_PERIOD: Duration = Duration::from_millis(50);
/// Between two bytes of the slow host's answer.
const DRIP: Duration = Duration::from_secs(1);
/// Bytes of a request that the slow host reads at once.
const REQUEST_BYTES: usize = 64 * 1024;
/// What others may feel: a fifth more.
const OTHERS: Goal = Goal::Most(1.2);
const SECRET: &str = "whsec_dHVybndpc2UtYmVuY2gtb3V0YWdlLXNlY3JldC0wMDE=";

#[derive(Debug, Args)]
pub(crate) struct OutageArgs {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Readers that stop reading
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u16).range(1..=UNREAD_READERS_MAX))]
    readers: u16,
}

pub(super) async fn outage(context: &Context, arguments: &OutageArgs) -> Outcome {
    rlimits::raise();
    let folder = tempfile::Builder::new().prefix("turnwise-bench-").tempdir()?;
    let agent = AgentThread::with(AgentConfig {
        delay_ms: AGENT_MS,
        journal_calls_max: 0,
        ..AgentConfig::default()
    })?;
    let env = vec![
        ("TURNWISE_CALLBACKS_SECRET", SECRET.to_owned()),
        ("TURNWISE_CALLBACKS_ALLOW_PRIVATE_HOSTS", "127.0.0.1".to_owned()),
    ];
    let setup = Setup {
        folder: folder.path().to_owned(),
        agent: Some(agent.url.clone()),
        env,
        arguments: Vec::new(),
    };
    let mut server = ServerProcess::start(setup).await?;
    let run = Run { url: server.url(), seconds: Duration::from_secs(arguments.seconds) };
    let mut rows = run.callbacks().await?;
    rows.extend(run.readers(usize::from(arguments.readers)).await?);
    rows.extend(run.agent(agent).await?);
    server.kill().await?;
    if context.json {
        print::json(&json!({
            "seconds": arguments.seconds, "readers": arguments.readers, "agent_ms": AGENT_MS,
            "optimised": !cfg!(debug_assertions), "rows": rows,
        }));
        return Ok(());
    }
    print::line(&format!("an agent of {AGENT_MS} ms, {} s each\n", arguments.seconds));
    print::text(&table::render(&rows));
    Ok(())
}

struct Run {
    url: String,
    seconds: Duration,
}

impl Run {
    /// Answers to one organisation beside turns of another whose callbacks go to `hook`.
    async fn beside(&self, hook: &str, name: &str) -> Result<Measured, Failure> {
        let until = Instant::now() + self.seconds + Duration::from_secs(1);
        let worker = |number| {
            Worker::new(Kind::Async, &self.url, format!("{name}-{number}")).in_org("hooked").with_hook(hook)
        };
        let hooked = paced_by(worker, HOOKED_CLIENTS, HOOKED_PERIOD, until);
        let (hooked, measured) = tokio::join!(hooked, measured(&self.url, self.seconds, name));
        hooked?;
        measured
    }

    async fn callbacks(&self) -> Result<Vec<Row>, Failure> {
        let willing = CallbackReceiver::willing(Some(SECRET)).await?;
        // Nobody listens on this port, and nobody else gets it.
        let taken = tokio::net::TcpSocket::new_v4()?;
        taken.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let slow = dripping().await?;
        step("beside callbacks that are taken");
        let healthy = self.beside(&willing.url("/"), "healthy").await?;
        step("while the host of callbacks is down");
        let down = self.beside(&format!("http://{}/", taken.local_addr()?), "down").await?;
        step("while the host of callbacks answers one byte a second");
        let dripped = self.beside(&slow.url("/"), "slow").await?;
        step("beside callbacks that are taken, once more");
        let again = self.beside(&willing.url("/"), "again").await?;
        let base = healthy.millis(0.99);
        Ok(vec![
            Row::new("hooks_p50_ms", "beside callbacks that are taken, p50", healthy.millis(0.5), "ms"),
            Row::new("hooks_p99_ms", "  p99 (hooks)", base, "ms"),
            Row::new("hooks_again_p99_ms", "  the same once more, p99", again.millis(0.99), "ms")
                .over("hooks", base),
            Row::new("hook_down_p99_ms", "their host is down, p99", down.millis(0.99), "ms")
                .over("hooks", base)
                .goal(OTHERS),
            Row::new(
                "hook_slow_p99_ms",
                "their host answers a byte a second, p99",
                dripped.millis(0.99),
                "ms",
            )
            .over("hooks", base)
            .goal(OTHERS),
        ])
    }

    async fn readers(&self, readers: usize) -> Result<Vec<Row>, Failure> {
        step("alone");
        let alone = measured(&self.url, self.seconds, "alone").await?;
        step("while readers have stopped reading");
        let unread = stopped_readers(&self.url, readers).await?;
        let beside = measured(&self.url, self.seconds, "readers").await?;
        drop(unread);
        Ok(vec![
            Row::new("alone_p99_ms", "no outage, p99 (alone)", alone.millis(0.99), "ms"),
            Row::new("readers_p99_ms", "readers have stopped reading, p99", beside.millis(0.99), "ms")
                .over("alone", alone.millis(0.99))
                .goal(OTHERS),
        ])
    }

    /// With the agent down no turn is answered: what must go on is accepting.
    async fn agent(&self, agent: AgentThread) -> Result<Vec<Row>, Failure> {
        let submissions = |name| {
            let until = Instant::now() + self.seconds;
            paced(Kind::Async, &self.url, name, SUBMITTERS, SUBMIT_PERIOD, until)
        };
        step("submissions while the agent is up");
        let up = submissions("up").await?;
        agent.stop();
        step("submissions while the agent is down");
        let down = submissions("down").await?;
        Ok(vec![
            Row::new("accepted_p99_ms", "agent up: a submission, p99 (up)", up.millis(0.99), "ms"),
            Row::new("accepted_down_p99_ms", "agent down: a submission, p99", down.millis(0.99), "ms")
                .over("up", up.millis(0.99))
                .goal(OTHERS),
        ])
    }
}

/// A host that takes every request and answers it one byte a second.
async fn dripping() -> Result<Host, Failure> {
    let serve = |mut socket: TcpStream| async move {
        let mut request = vec![0; REQUEST_BYTES];
        let _ = socket.read(&mut request).await;
        for byte in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" {
            if socket.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(DRIP).await;
        }
    };
    Ok(Host::start(serve).await?)
}
