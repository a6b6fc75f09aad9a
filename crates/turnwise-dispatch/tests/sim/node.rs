//! One node: the real broker and the real dispatcher on a seat at the store,
//! and the requests of clients that it is serving.

use crate::pipe::Pipes;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{Broker, BrokerConfig};
use turnwise_dispatch::{DispatchConfig, Dispatcher};
use turnwise_testkit::Prng;
use turnwise_testkit::turns::{Agents, Seat, Shared, Weather};

/// How long a node that could not read the store waits before it tries again.
const START_PAUSE: Duration = Duration::from_millis(100);
/// Turns one conversation may hold.
pub(crate) const DEPTH_MAX: u32 = 5;

fn broker_config() -> BrokerConfig {
    BrokerConfig {
        turn_lease: Duration::from_secs(2),
        depth_max: DEPTH_MAX,
        retry_after_total_max: Duration::from_secs(12),
        poll_interval: Duration::from_millis(500),
        ..BrokerConfig::default()
    }
}

fn dispatch_config() -> DispatchConfig {
    DispatchConfig {
        base_url: "http://agents:1".to_owned(),
        timeout: Duration::from_secs(4),
        concurrency: 4,
        drain_grace: Duration::from_millis(700),
        ..DispatchConfig::default()
    }
}

/// Dropping it ends everything it runs.
pub(crate) struct Node {
    pub(crate) weather: Arc<Weather>,
    broker: Arc<Mutex<Option<Broker>>>,
    tasks: JoinSet<()>,
    requests: JoinSet<()>,
    shutdown: CancellationToken,
}

impl Node {
    /// Starts a node; it is up when it has read the store.
    pub(crate) fn start(shared: &Arc<Shared>, agents: &Arc<Agents>, random: Prng) -> Node {
        let weather = Arc::new(Weather::default());
        let shutdown = CancellationToken::new();
        let broker = Arc::new(Mutex::new(None));
        let mut tasks = JoinSet::new();
        let pipes = Pipes { agents: Arc::clone(agents), weather: Arc::clone(&weather) };
        let (seat_of, slot, stop) = (Arc::clone(shared), Arc::clone(&broker), shutdown.clone());
        tasks.spawn(live(seat_of, pipes, random, slot, stop));
        Node { weather, broker, tasks, requests: JoinSet::new(), shutdown }
    }

    /// Its broker, once it is up.
    pub(crate) fn broker(&self) -> Option<Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs a client's request on this node: it ends with the node at the latest.
    pub(crate) fn serve(&mut self, request: impl Future<Output = ()> + Send + 'static) {
        while self.requests.try_join_next().is_some() {}
        self.requests.spawn(request);
    }

    /// Whether a client's request is still on its way.
    pub(crate) fn is_serving(&mut self) -> bool {
        while self.requests.try_join_next().is_some() {}
        !self.requests.is_empty()
    }

    /// Asks it to finish what it does and end.
    pub(crate) fn drain(&self) {
        self.shutdown.cancel();
    }

    /// Ends it in the middle of everything.
    pub(crate) async fn kill(&mut self) {
        self.weather.die();
        self.requests.shutdown().await;
        self.tasks.shutdown().await;
        *self.broker.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

async fn live(
    shared: Arc<Shared>,
    pipes: Pipes,
    random: Prng,
    slot: Arc<Mutex<Option<Broker>>>,
    stop: CancellationToken,
) {
    let seat = Arc::new(Seat::new(Arc::clone(&shared), Arc::clone(&pipes.weather)));
    let random = Arc::new(Mutex::new(random));
    let broker = loop {
        let (clock, random) = (Arc::clone(&shared.clock), Arc::clone(&random));
        let nonce = Arc::new(move || random.lock().unwrap_or_else(PoisonError::into_inner).bits());
        let clock = Arc::new(move || clock.now());
        match Broker::start(Arc::clone(&seat) as _, broker_config(), nonce, clock).await {
            Ok(broker) => break broker,
            Err(_) => tokio::time::sleep(START_PAUSE).await,
        }
    };
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(broker.clone());
    let dispatcher = Dispatcher::with_connector(broker.clone(), dispatch_config(), pipes)
        .expect("the settings above are in order");
    tokio::join!(dispatcher.run(stop.clone()), broker.run_sweeper(stop));
}
