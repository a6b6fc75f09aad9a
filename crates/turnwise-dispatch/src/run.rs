//! The claim loop: free slots are filled with turns, one task each; at
//! shutdown turns finish or are given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper_util::client::legacy::connect::Connect;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnwise_broker::Broker;
use turnwise_metrics::Source;

use crate::agent::{Agent, tcp};
use crate::config::{ConfigError, DispatchConfig};
use crate::limits::{
    CLAIM_PAUSE, CLAIM_TURNS_MAX, CLOSE_TIME_MAX, HEALTH_INTERVAL, HEALTH_TIME_MAX, RELEASE_TIME_MAX,
};
use crate::tls::tls;
use crate::turn::{Context, attend, give_back};

/// Whether the agent could be reached when it was last tried. Costs nothing to ask.
pub type AgentStatus = Arc<dyn Fn() -> Option<bool> + Send + Sync>;

/// How long the agent took to answer when its health was last asked. Costs nothing to ask.
pub type AgentProbe = Arc<dyn Fn() -> Option<Duration> + Send + Sync>;

/// Takes turns from the broker and calls the agent.
pub struct Dispatcher {
    context: Context,
}

impl Dispatcher {
    /// Checks the settings; calls nothing yet. The agent is reached over TCP,
    /// with TLS if its address says https.
    pub fn new(broker: Broker, config: DispatchConfig) -> Result<Dispatcher, ConfigError> {
        if config.target()?.is_https() {
            let connector = tls(&config)?;
            return Dispatcher::with_connector(broker, config, connector);
        }
        let connector = tcp(&config);
        Dispatcher::with_connector(broker, config, connector)
    }

    /// The same over connections of another kind.
    pub fn with_connector<C>(
        broker: Broker,
        config: DispatchConfig,
        connector: C,
    ) -> Result<Dispatcher, ConfigError>
    where
        C: Connect + Clone + Send + Sync + 'static,
    {
        let agent = Agent::new(&config, connector)?;
        let agent_up = Arc::new(AtomicBool::new(false));
        Ok(Dispatcher {
            context: Context {
                broker,
                agent,
                config,
                abandon: CancellationToken::new(),
                agent_up,
                counts: Arc::default(),
            },
        })
    }

    /// A cheap way to ask whether the agent is up; always `Some`.
    #[must_use]
    pub fn status(&self) -> AgentStatus {
        let agent_up = Arc::clone(&self.context.agent_up);
        Arc::new(move || Some(agent_up.load(Ordering::Relaxed)))
    }

    /// A cheap way to ask how long the agent takes to answer.
    #[must_use]
    pub fn probe(&self) -> AgentProbe {
        let counts = Arc::clone(&self.context.counts);
        Arc::new(move || counts.probe())
    }

    /// What it counts, for a scraper.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Source> {
        Arc::clone(&self.context.counts) as Arc<dyn Source>
    }

    /// Works until `shutdown`, then drains: turns in progress get the grace
    /// period, then they are given back.
    pub async fn run(self, shutdown: CancellationToken) {
        let context = Arc::new(self.context);
        let mut probe = JoinSet::new();
        probe.spawn(watch_health(Arc::clone(&context)));
        let mut turns = JoinSet::new();
        claim_until(&context, &mut turns, &shutdown).await;
        drain(&context, &mut turns).await;
        probe.shutdown().await;
        if let Some(context) = Arc::into_inner(context) {
            context.agent.close(CLOSE_TIME_MAX).await;
        }
    }
}

async fn claim_until(context: &Arc<Context>, turns: &mut JoinSet<()>, shutdown: &CancellationToken) {
    let slots = usize::try_from(context.config.concurrency).unwrap_or(usize::MAX);
    while !shutdown.is_cancelled() {
        while let Some(done) = turns.try_join_next() {
            note_panic(done);
        }
        let free = u32::try_from(slots.saturating_sub(turns.len())).unwrap_or(u32::MAX);
        if free == 0 {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(done) = turns.join_next() => note_panic(done),
            }
            continue;
        }
        // Not raced against shutdown: what is leased here must be attended to.
        let pause = match context.broker.claim_turns(free.min(CLAIM_TURNS_MAX)).await {
            Ok(claimed) if claimed.is_empty() => None,
            Ok(claimed) => {
                // Told to stop meanwhile: no call is begun any more.
                let begin = !shutdown.is_cancelled();
                for turn in claimed {
                    let context = Arc::clone(context);
                    turns.spawn(async move {
                        match begin {
                            true => attend(&context, turn).await,
                            false => give_back(&context, turn).await,
                        }
                    });
                }
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "no turns could be claimed");
                Some(CLAIM_PAUSE)
            }
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            Some(done) = turns.join_next(), if pause.is_none() => note_panic(done),
            () = rest(context, pause) => {}
        }
    }
}

async fn rest(context: &Context, pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => context.broker.wake().await,
    }
}

async fn drain(context: &Context, turns: &mut JoinSet<()>) {
    if tokio::time::timeout(context.config.drain_grace, join_all(turns)).await.is_ok() {
        return;
    }
    tracing::info!(turns = turns.len(), "giving back the turns still in progress");
    context.abandon.cancel();
    if tokio::time::timeout(RELEASE_TIME_MAX, join_all(turns)).await.is_err() {
        tracing::warn!(turns = turns.len(), "some turns could not be given back; their leases will run out");
        turns.shutdown().await;
    }
}

async fn join_all(turns: &mut JoinSet<()>) {
    while let Some(done) = turns.join_next().await {
        note_panic(done);
    }
}

/// A turn whose task died keeps its lease until that runs out; then it is tried again.
fn note_panic(done: Result<(), JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        tracing::error!("the task of a turn died; the turn will be tried again");
    }
}

/// Keeps the agent's state known while nothing is sent to it.
async fn watch_health(context: Arc<Context>) {
    loop {
        let asked = Instant::now();
        let up = context.agent.is_up(HEALTH_TIME_MAX).await;
        context.counts.probed(up.then(|| asked.elapsed()));
        if context.agent_up.swap(up, Ordering::Relaxed) != up {
            tracing::info!(up, "the agent's state changed");
        }
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}
