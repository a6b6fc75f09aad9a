//! The parts of one process, started and stopped in order: store, broker,
//! dispatcher, gateway. Nothing else knows them all.

use crate::config::{AgentStream, Config, StoreKind};
use crate::failure::{Exit, Failure};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{Broker, BrokerConfig};
use turnwise_dispatch::{DispatchConfig, Dispatcher, StreamMode};
use turnwise_gateway::{AgentStatus, ApiKey, Gateway, GatewayConfig};
use turnwise_store::embedded::EmbeddedConfig;
use turnwise_store::open::{self, Opened};
use turnwise_store::system_clock;

/// Room after the drain time for the rest: answers on their way, the store's last commit.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// A running node.
pub(crate) struct Node {
    parts: Mutex<JoinSet<()>>,
    shutdown: CancellationToken,
    failed: CancellationToken,
    store: Arc<Opened>,
    drain: Duration,
}

/// Whether nobody but this machine reaches any of them.
pub(crate) fn is_loopback(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| address.ip().is_loopback())
}

impl Node {
    /// Starts everything; requests are answered when it returns.
    pub(crate) async fn start(config: &Config, listener: TcpListener) -> Result<Node, Failure> {
        let store = open_store(config)?;
        let broker = Broker::start(store.store(), broker_config(config), Arc::new(nonce), system_clock())
            .await
            .map_err(|error| Failure::new(Exit::Failure, "the store does not work", error.to_string()))?;
        let loopback = is_loopback(&[listener.local_addr()?]);
        let node = Node {
            parts: Mutex::new(JoinSet::new()),
            shutdown: CancellationToken::new(),
            failed: CancellationToken::new(),
            store: Arc::new(store),
            drain: config.drain,
        };
        let agent = node.start_dispatch(config, &broker).await?;
        let (sweeper, shutdown) = (broker.clone(), node.shutdown.clone());
        node.start_part(async move { sweeper.run_sweeper(shutdown).await }).await;
        let gateway = Gateway::new(broker, gateway_config(config, loopback, agent));
        let shutdown = node.shutdown.clone();
        node.start_part(async move { gateway.serve(listener, shutdown).await }).await;
        Ok(node)
    }

    /// Starts calling the agent if there is one; answers how to ask for its state.
    async fn start_dispatch(&self, config: &Config, broker: &Broker) -> Result<AgentStatus, Failure> {
        let Some(base_url) = &config.agent_base_url else { return Ok(Arc::new(|| None)) };
        let dispatcher =
            Dispatcher::new(broker.clone(), dispatch_config(config, base_url)).map_err(|error| {
                Failure::new(Exit::Usage, "the agent's settings are wrong", error.to_string())
            })?;
        let status = dispatcher.status();
        let shutdown = self.shutdown.clone();
        self.start_part(async move { dispatcher.run(shutdown).await }).await;
        Ok(status)
    }

    /// Owns a part; one that ends before it was told to stops the node.
    async fn start_part(&self, part: impl Future<Output = ()> + Send + 'static) {
        let ended = self.failed.clone().drop_guard();
        self.parts.lock().await.spawn(async move {
            part.await;
            drop(ended);
        });
    }

    /// Returns when a part ended that should not have.
    pub(crate) async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Stops accepting and claiming, finishes or hands back, flushes; each step bounded.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        let unexpected = self.failed.is_cancelled();
        self.shutdown.cancel();
        let mut parts = self.parts.lock().await;
        let ended = tokio::time::timeout(self.drain + STOP_MARGIN, async {
            while let Some(part) = parts.join_next().await {
                if let Err(error) = part {
                    tracing::error!(%error, "a part ended badly");
                }
            }
        });
        if ended.await.is_err() {
            tracing::warn!("not everything ended in time");
            parts.abort_all();
        }
        let store = Arc::clone(&self.store);
        let closed = tokio::task::spawn_blocking(move || store.close());
        if let Err(error) = closed.await {
            tracing::error!(%error, "the store did not close in order");
        }
        match unexpected {
            true => Err(Failure::new(
                Exit::Failure,
                "stopped by itself",
                "a part of the server ended; see the log",
            )),
            false => Ok(()),
        }
    }
}

fn open_store(config: &Config) -> Result<Opened, Failure> {
    let url = match config.store {
        StoreKind::Memory => "memory:".to_owned(),
        StoreKind::Embedded => format!("file:{}", config.data_dir.display()),
    };
    let embedded = EmbeddedConfig { quick_repair: config.quick_repair, ..EmbeddedConfig::default() };
    open::open(&url, embedded, system_clock()).map_err(|error| {
        Failure::new(Exit::Failure, "the store does not open", error.to_string())
            .hint("one process at a time uses a folder; choose another with --data-dir")
    })
}

/// Random bits of ids.
pub(crate) fn nonce() -> u64 {
    getrandom::u64().expect("the system gives random numbers")
}

fn broker_config(config: &Config) -> BrokerConfig {
    BrokerConfig {
        turn_lease: config.turn_lease,
        turn_attempts_max: config.turn_attempts_max,
        depth_max: config.depth_max,
        retention: config.retention,
        retained_turns_max: config.retained_turns_max,
        retry_after_total_max: config.retry_after_max,
        ..BrokerConfig::default()
    }
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
        drain_grace: config.drain,
    }
}

fn gateway_config(config: &Config, loopback: bool, agent: AgentStatus) -> GatewayConfig {
    let keys = config.keys.iter().map(|key| ApiKey {
        id: key.id.clone(),
        sha256: key.sha256,
        orgs: key.orgs.clone(),
        scopes: key.scopes.clone(),
    });
    GatewayConfig {
        keys: keys.collect(),
        agent,
        async_default: config.message_async,
        body_bytes_max: config.body_bytes_max,
        loopback,
        cors_origins: config.cors_origins.clone(),
        drain: config.drain,
        request_id_seed: nonce(),
        ..GatewayConfig::default()
    }
}
