//! The parts of one process, started and stopped in order: store, broker,
//! dispatcher, gateway. Nothing else knows them all.

use crate::config::{AgentStream, Config, StoreKind};
use crate::failure::{Exit, Failure};
use crate::process::Process;
use crate::reload::{self, Reload};
use crate::rlimits;
use std::fmt::Display;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use turnwise_broker::{Broker, BrokerConfig, CallbackRules, Housekeeping};
use turnwise_core::StoreError;
use turnwise_dispatch::{
    CallbackConfig, CallbackWorker, DispatchConfig, Dispatcher, StreamMode, SystemResolver,
};
use turnwise_gateway::{AgentProbe, AgentStatus, Drain, Gateway, GatewayConfig, StoreReport, StoreStatus};
use turnwise_metrics::{Source, Spans};
use turnwise_store::embedded::{Durability, EmbeddedConfig};
use turnwise_store::open::{self, Opened};
use turnwise_store::postgres::PostgresConfig;
use turnwise_store::redis::RedisConfig;
use turnwise_store::system_clock;

/// Connections to PostgreSQL for each that is asked for: one carries one operation at a time.
const POSTGRES_CONNECTIONS: usize = 4;
/// Room after the drain time for the rest: answers on their way, connections that end.
const STOP_MARGIN: Duration = Duration::from_secs(1);
/// Part of the drain time that is kept for giving turns back: a fifth, and this at most.
const RELEASE_SHARE_MAX: Duration = Duration::from_secs(1);
/// A store that does not close by then is left as it is: what was acknowledged is on disk.
const STORE_CLOSE_MAX: Duration = Duration::from_secs(5);

/// How much longer than a try of a callback its lease lasts: it is held, read and settled, too. Not long: after
/// a crash its line waits for it.
const CALLBACK_LEASE_MARGIN: Duration = Duration::from_secs(5);

/// A running node.
pub(crate) struct Node {
    parts: Parts,
    drain: Drain,
    failed: CancellationToken,
    store: Arc<Opened>,
    drain_time: Duration,
    linger: Duration,
}

/// By the order in which they stop.
#[derive(Default)]
struct Parts {
    /// They start work of their own: told first, waited for until it is over or given back.
    working: JoinSet<()>,
    /// They answer those who wait for that work: told when there is nothing more to tell.
    serving: JoinSet<()>,
}

/// Whether nobody but this machine reaches any of them.
pub(crate) fn is_loopback(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| address.ip().is_loopback())
}

impl Node {
    /// Starts everything; requests are answered when it returns.
    pub(crate) async fn start(
        config: &Config,
        listener: TcpListener,
        spans: Option<Arc<dyn Spans>>,
    ) -> Result<Node, Failure> {
        let store = open_store(config).await?;
        if let Some(weakness) = store.weakness() {
            tracing::warn!(weakness, "the store keeps less than it acknowledges");
        }
        let broken =
            |error: &dyn Display| Failure::new(Exit::Failure, "the store does not work", error.to_string());
        let clock = store.clock().await.map_err(|error| broken(&error))?;
        let reading = clock.reading();
        let broker = Broker::start(store.store(), broker_config(config), Arc::new(nonce), reading)
            .await
            .map_err(|error| broken(&error))?;
        let loopback = is_loopback(&[listener.local_addr()?]);
        let mut node = Node {
            parts: Parts::default(),
            drain: Drain::new(config.drain),
            failed: CancellationToken::new(),
            store: Arc::new(store),
            drain_time: config.drain,
            linger: config.drain_linger.min(config.drain),
        };
        let (store, closing) = (Arc::clone(&node.store), node.drain.closing());
        node.start_serving(async move {
            let _ended = closing.run_until_cancelled(store.keep_time(&clock)).await;
        });
        let engine = match config.store {
            StoreKind::Memory => "memory",
            StoreKind::Embedded => "embedded",
            StoreKind::Redis(_) => "redis",
            StoreKind::Postgres(_) => "postgres",
        };
        let mut metrics: Vec<Arc<dyn Source>> = vec![Arc::new(Process::new(broker.now().0, engine))];
        metrics.extend(node.store.metrics());
        let (agent, agent_probe) = node.start_dispatch(config, &broker, spans.clone(), &mut metrics)?;
        node.start_callbacks(config, &broker, &mut metrics)?;
        let (sweeper, shutdown) = (broker.clone(), node.drain.closing());
        node.start_serving(async move { sweeper.run_sweeper(shutdown).await });
        let (checker, shutdown) = (broker.clone(), node.drain.closing());
        node.start_serving(async move { checker.run_checks(shutdown).await });
        let (agents, shutdown) = (broker.clone(), node.drain.closing());
        node.start_serving(async move {
            shutdown.cancelled().await;
            agents.close_bus().await;
        });
        let told = Arc::clone(&node.store);
        let store: StoreStatus =
            Arc::new(move || StoreReport { weakness: told.weakness(), losses: told.losses() });
        let gateway_config =
            GatewayConfig { metrics, agent_probe, store, spans, ..gateway_config(config, loopback, agent) };
        let gateway = Gateway::new(broker, gateway_config);
        if let Some(file) = &config.file {
            let (reload, shutdown) =
                (Reload::prepare(file.clone(), gateway.keys(), loopback)?, node.drain.closing());
            node.start_serving(async move { reload.run(shutdown).await });
        }
        let drain = node.drain.clone();
        node.start_serving(async move { gateway.serve(listener, drain).await });
        Ok(node)
    }

    /// Starts calling the agent if there is one; answers how to ask for its state.
    fn start_dispatch(
        &mut self,
        config: &Config,
        broker: &Broker,
        spans: Option<Arc<dyn Spans>>,
        metrics: &mut Vec<Arc<dyn Source>>,
    ) -> Result<(AgentStatus, AgentProbe), Failure> {
        let Some(base_url) = config.agent_base_url.as_ref().filter(|_| config.roles.dispatch) else {
            return Ok((Arc::new(|| None), Arc::new(|| None)));
        };
        let dispatch_config = DispatchConfig { spans, ..dispatch_config(config, base_url) };
        let dispatcher = Dispatcher::new(broker.clone(), dispatch_config).map_err(|error| {
            Failure::new(Exit::Usage, "the agent's settings are wrong", error.to_string())
        })?;
        let asked = (dispatcher.status(), dispatcher.probe());
        metrics.push(dispatcher.metrics());
        let shutdown = self.drain.begun();
        self.start_working(async move { dispatcher.run(shutdown).await });
        Ok(asked)
    }

    /// Starts sending callbacks, if they may be sent: also those of a former process.
    fn start_callbacks(
        &mut self,
        config: &Config,
        broker: &Broker,
        metrics: &mut Vec<Arc<dyn Source>>,
    ) -> Result<(), Failure> {
        if !config.callbacks.accepted || !config.roles.dispatch {
            return Ok(());
        }
        if config.callbacks.are_unsigned() {
            tracing::warn!(
                "callbacks are sent UNSIGNED: receivers cannot tell them from anybody else's; set TURNWISE_CALLBACKS_SECRET"
            );
        }
        let sending = CallbackConfig { drain_grace: drain_grace(config), ..config.callbacks.sending.clone() };
        let worker = CallbackWorker::new(broker.clone(), sending, Arc::new(SystemResolver), Arc::new(nonce));
        let worker = worker.map_err(|error| {
            Failure::new(Exit::Usage, "the settings of callbacks are wrong", error.to_string())
        })?;
        metrics.push(worker.metrics());
        let shutdown = self.drain.begun();
        self.start_working(async move { worker.run(shutdown).await });
        Ok(())
    }

    /// Owns a part that ends when the drain begins; one that ends earlier stops the node.
    fn start_working(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        let part = self.watched(part);
        self.parts.working.spawn(part);
    }

    /// Owns a part that ends when the drain closes; one that ends earlier stops the node.
    fn start_serving(&mut self, part: impl Future<Output = ()> + Send + 'static) {
        let part = self.watched(part);
        self.parts.serving.spawn(part);
    }

    fn watched<F: Future<Output = ()> + Send + 'static>(
        &self,
        part: F,
    ) -> impl Future<Output = ()> + Send + use<F> {
        let ended = self.failed.clone().drop_guard();
        async move {
            part.await;
            drop(ended);
        }
    }

    /// Returns when a part ended that should not have.
    pub(crate) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Stops accepting and claiming, finishes or hands back, tells readers,
    /// flushes; each step bounded.
    pub(crate) async fn stop(&mut self) -> Result<(), Failure> {
        let unexpected = self.failed.is_cancelled();
        self.drain.begin();
        let limit = Instant::now() + self.drain_time + STOP_MARGIN;
        let parts = &mut self.parts;
        let linger = async {
            if !unexpected {
                tokio::time::sleep(self.linger).await;
            }
        };
        tokio::join!(ended_by(limit, &mut parts.working), linger);
        self.drain.close();
        ended_by(limit, &mut parts.serving).await;
        self.close_store().await?;
        match unexpected {
            true => Err(Failure::new(
                Exit::Failure,
                "stopped by itself",
                "a part of the server ended; see the log",
            )),
            false => Ok(()),
        }
    }

    async fn close_store(&self) -> Result<(), Failure> {
        let store = Arc::clone(&self.store);
        let closing = tokio::task::spawn_blocking(move || store.close());
        match timeout(STORE_CLOSE_MAX, closing).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the store did not close in order");
                Ok(())
            }
            Err(_) => Err(Failure::new(
                Exit::Failure,
                "the store did not close in time",
                "the disk does not answer; what was acknowledged is on it",
            )),
        }
    }
}

/// Waits for the end of parts that were told to; ends them when time is up.
async fn ended_by(limit: Instant, parts: &mut JoinSet<()>) {
    let all = async {
        while let Some(part) = parts.join_next().await {
            if let Err(error) = part {
                tracing::error!(%error, "a part ended badly");
            }
        }
    };
    if timeout_at(limit, all).await.is_err() {
        tracing::warn!("not everything ended in time");
        parts.shutdown().await;
    }
}

/// How the embedded store runs by these settings.
pub(crate) fn embedded(config: &Config) -> EmbeddedConfig {
    EmbeddedConfig { quick_repair: config.quick_repair, ..EmbeddedConfig::default() }
}

/// The store that the settings name.
pub(crate) async fn open_store(config: &Config) -> Result<Opened, Failure> {
    let not_open =
        |error: StoreError| Failure::new(Exit::Failure, "the store does not open", error.to_string());
    let url = match &config.store {
        StoreKind::Memory => "memory:".to_owned(),
        StoreKind::Embedded => format!("file:{}", config.data_dir.display()),
        StoreKind::Redis(url) => {
            let server = &config.server;
            let redis = RedisConfig {
                namespace: server.namespace.clone(),
                durability: if server.is_durable { Durability::Immediate } else { Durability::Relaxed },
                pool: server.connections as usize,
                call_timeout: server.timeout,
                ..RedisConfig::default()
            };
            return open::connect(url.text(), redis).await.map_err(not_open);
        }
        StoreKind::Postgres(url) => {
            let server = &config.server;
            let postgres = PostgresConfig {
                schema: server.namespace.clone(),
                durability: if server.is_durable { Durability::Immediate } else { Durability::Relaxed },
                connections_max: POSTGRES_CONNECTIONS * server.connections as usize,
                call_timeout: server.timeout,
                ..PostgresConfig::default()
            };
            return open::connect_postgres(url.text(), postgres).await.map_err(not_open);
        }
    };
    let embedded = embedded(config);
    open::open(&url, embedded, system_clock()).map_err(|error| {
        not_open(error).hint("one process at a time uses a folder; choose another with --data-dir")
    })
}

/// Random bits of ids.
pub(crate) fn nonce() -> u64 {
    getrandom::u64().expect("the system gives random numbers")
}

/// Random bytes that nobody can guess.
fn secret() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    bytes
}

fn broker_config(config: &Config) -> BrokerConfig {
    BrokerConfig {
        turn_lease: config.turn_lease,
        turn_attempts_max: config.turn_attempts_max,
        depth_max: config.depth_max,
        retention: config.retention,
        retained_turns_max: config.retained_turns_max,
        retained_bytes_max: config.retained_bytes_max,
        turns_waiting_max: config.turns_waiting_max,
        org_turns_waiting_max: config.org_turns_waiting_max,
        retry_after_total_max: config.retry_after_max,
        housekeeping: match (config.store.is_shared(), config.roles.worker) {
            (false, _) => Housekeeping::Alone,
            (true, true) => Housekeeping::OneOfMany,
            (true, false) => Housekeeping::Others,
        },
        callbacks: CallbackRules {
            accepted: config.callbacks.accepted,
            allow_private_hosts: config.callbacks.allow_private_hosts.clone(),
            attempts_max: config.callbacks.attempts_max,
        },
        callbacks_kept_max: config.callbacks.kept_max,
        callback_lease: config.callbacks.sending.timeout + CALLBACK_LEASE_MARGIN,
        ..BrokerConfig::default()
    }
}

/// How long turns and callbacks in progress may still take when the node stops.
fn drain_grace(config: &Config) -> Duration {
    config.drain - (config.drain / 5).min(RELEASE_SHARE_MAX)
}

/// How the agent is called.
pub(crate) fn dispatch_config(config: &Config, base_url: &str) -> DispatchConfig {
    DispatchConfig {
        base_url: base_url.to_owned(),
        api_key: config.agent_api_key.clone(),
        ca_file: config.agent_ca_file.clone(),
        timeout: config.agent_timeout,
        concurrency: config.agent_concurrency,
        stream: match config.agent_stream {
            AgentStream::Auto => StreamMode::Auto,
            AgentStream::Always => StreamMode::Always,
            AgentStream::Never => StreamMode::Never,
        },
        drain_grace: drain_grace(config),
        ..DispatchConfig::default()
    }
}

fn gateway_config(config: &Config, loopback: bool, agent: AgentStatus) -> GatewayConfig {
    let calls = u64::from(config.agent_concurrency) + u64::from(config.callbacks.sending.concurrency);
    let connections_max = rlimits::connections_within(config.http.connections_max, calls);
    GatewayConfig {
        keys: reload::gateway_keys(&config.keys),
        agent,
        async_default: config.message_async,
        body_bytes_max: config.body_bytes_max,
        head_time_max: config.http.head,
        keep_alive_max: config.http.keep_alive,
        body_idle_max: config.http.body_idle,
        body_time_max: config.http.body,
        write_stall_max: config.http.write_stall,
        connections_max,
        connections_per_address_max: config.http.connections_per_address_max,
        streams_max: rlimits::streams_within(config.http.streams_max, connections_max),
        streams_per_key_max: config.http.streams_per_key_max,
        ws_frame_bytes_max: config.http.ws_frame_bytes_max,
        ws_frame_rate: config.http.ws_frame_rate,
        serves_conversations: config.roles.gateway,
        loopback,
        cors_origins: config.cors_origins.clone(),
        key_rate: config.key_rate,
        conversation_rate: config.conversation_rate,
        ticket_secret: Some(secret()),
        request_id_seed: nonce(),
        ..GatewayConfig::default()
    }
}
