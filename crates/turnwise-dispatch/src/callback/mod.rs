//! Sending callbacks (clause C10): a claim loop of its own, beside that of the
//! turns, so that neither waits for the other.

mod bodies;
pub(crate) mod config;
pub(crate) mod connect;
mod counts;
mod deliver;
mod sign;
mod slots;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turnwise_broker::{Broker, BrokerError, Callback, CallbackOutcome, CallbackTarget};
use turnwise_metrics::Source;

use self::bodies::Bodies;
use self::config::{CallbackConfig, CallbackConfigError};
use self::connect::Resolve;
use self::counts::{CallbackCounts, Mark};
use self::deliver::{Tried, deliver, later, url_refused};
use self::slots::{Admission, Slots};
use crate::limits::{CALLBACK_HELD_TIME_MAX, CALLBACKS_HELD_MAX, CLAIM_PAUSE, RELEASE_TIME_MAX};
use crate::tls::{Trust, trusting};

/// Draws random bits, for jitter.
pub type Random = Arc<dyn Fn() -> u64 + Send + Sync>;

/// What all tries of this node share.
struct Context {
    broker: Broker,
    config: CallbackConfig,
    resolver: Arc<dyn Resolve>,
    random: Random,
    /// None when there are no certificates to trust: then no https.
    tls: Option<Arc<ClientConfig>>,
    bodies: Bodies,
    /// Tries still running are to be given back.
    abandon: CancellationToken,
    counts: Arc<CallbackCounts>,
}

/// Takes callbacks from the broker and posts them.
pub struct CallbackWorker {
    context: Context,
}

impl CallbackWorker {
    /// Checks the settings and reads the trusted certificates; connects to nothing yet.
    pub fn new(
        broker: Broker,
        config: CallbackConfig,
        resolver: Arc<dyn Resolve>,
        random: Random,
    ) -> Result<CallbackWorker, CallbackConfigError> {
        config.check()?;
        let tls = match trusting(Trust::of(config.ca_file.as_deref())) {
            Ok(tls) => Some(Arc::new(tls)),
            Err(error) => {
                tracing::error!(%error, "callbacks to https URLs cannot be sent: no certificates to check hosts against");
                None
            }
        };
        let (bodies, abandon, counts) = (Bodies::new(), CancellationToken::new(), Arc::default());
        let context = Context { broker, config, resolver, random, tls, bodies, abandon, counts };
        Ok(CallbackWorker { context })
    }

    /// What it counts, for a scraper.
    #[must_use]
    pub fn metrics(&self) -> Arc<dyn Source> {
        Arc::clone(&self.context.counts) as Arc<dyn Source>
    }

    /// Works until `shutdown`; tries in progress get the grace period, then they are given back.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut desk = Desk::new(Arc::new(self.context));
        while !shutdown.is_cancelled() {
            desk.round(&shutdown).await;
        }
        desk.drain().await;
    }
}

/// A callback that waits for a slot.
struct Held {
    /// When it was leased.
    since: Instant,
    /// The host whose slot it needs.
    host: String,
    callback: Callback,
    target: CallbackTarget,
}

/// Everything in the hands of the worker.
struct Desk {
    context: Arc<Context>,
    slots: Slots,
    /// Each answers how long its host took, if it was asked.
    tries: JoinSet<Option<Duration>>,
    /// The host whose slot a try has, also of one whose task died.
    hosts: HashMap<Id, String>,
    /// Leased, and waiting for a slot of their host.
    held: VecDeque<Held>,
    /// Going back to the store.
    errands: JoinSet<()>,
}

impl Desk {
    fn new(context: Arc<Context>) -> Desk {
        let slots = Slots::new(context.config.host_concurrency);
        Desk {
            context,
            slots,
            tries: JoinSet::new(),
            hosts: HashMap::new(),
            held: VecDeque::new(),
            errands: JoinSet::new(),
        }
    }

    /// Starts what may start, then waits for news.
    async fn round(&mut self, shutdown: &CancellationToken) {
        while let Some(done) = self.tries.try_join_next_with_id() {
            self.ended(done);
        }
        while let Some(done) = self.errands.try_join_next() {
            note_panic(done);
        }
        self.look_at_held();
        let free = self.free();
        let mut pause = None;
        if free > 0 {
            // Not raced against shutdown: what is leased here must be attended to.
            match self.context.broker.claim_callbacks(free).await {
                Ok(callbacks) if callbacks.is_empty() => {}
                Ok(callbacks) => {
                    // Told to stop meanwhile: no post is begun any more.
                    let begin = !shutdown.is_cancelled();
                    for callback in callbacks {
                        match begin {
                            true => self.place(callback),
                            false => self.send_back(callback, given_back()),
                        }
                    }
                    return;
                }
                Err(error) => {
                    tracing::warn!(%error, "no callbacks could be claimed");
                    pause = Some(CLAIM_PAUSE);
                }
            }
        }
        let context = Arc::clone(&self.context);
        let oldest = self.held.front().map(|held| held.since + CALLBACK_HELD_TIME_MAX);
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            Some(done) = self.tries.join_next_with_id() => self.ended(done),
            Some(done) = self.errands.join_next() => note_panic(done),
            () = until(oldest) => {}
            () = rest(&context, pause), if free > 0 => {}
        }
    }

    /// How many more may be claimed.
    fn free(&self) -> u32 {
        let concurrency = usize::try_from(self.context.config.concurrency).unwrap_or(usize::MAX);
        let slots = concurrency.saturating_sub(self.tries.len());
        let room = CALLBACKS_HELD_MAX.saturating_sub(self.held.len() + self.errands.len());
        u32::try_from(slots.min(room)).unwrap_or(u32::MAX)
    }

    /// Runs, holds or sends back a callback that was just leased.
    fn place(&mut self, callback: Callback) {
        match self.context.broker.config().callbacks.check(&callback.url) {
            Ok(target) => {
                let (since, host) = (Instant::now(), target.lane_part());
                self.admit(Held { since, host, callback, target });
            }
            Err(why) => self.send_back(callback, url_refused(why)),
        }
    }

    fn admit(&mut self, held: Held) {
        match self.slots.admit(&held.host) {
            Admission::Run => {
                let (context, Held { host, callback, target, .. }) = (Arc::clone(&self.context), held);
                let task = self.tries.spawn(async move { attend(&context, &callback, &target).await });
                self.hosts.insert(task.id(), host);
            }
            Admission::Hold => self.held.push_back(held),
            Admission::Defer(delay) => self.send_back(held.callback, later(delay)),
        }
    }

    /// Settles one that is not tried.
    fn send_back(&mut self, callback: Callback, end: Tried) {
        let context = Arc::clone(&self.context);
        self.errands.spawn(async move { settle(&context, &callback, end).await });
    }

    /// Gives free slots to those that are held, and sends back those that were held too long.
    fn look_at_held(&mut self) {
        let now = Instant::now();
        for held in std::mem::take(&mut self.held) {
            if now.saturating_duration_since(held.since) >= CALLBACK_HELD_TIME_MAX {
                let delay = self.slots.defer(&held.host);
                self.send_back(held.callback, later(delay));
            } else {
                self.admit(held);
            }
        }
    }

    fn ended(&mut self, done: Result<(Id, Option<Duration>), JoinError>) {
        let (id, took) = match done {
            Ok(done) => done,
            Err(error) => {
                let id = error.id();
                note_panic(Err(error));
                (id, None)
            }
        };
        if let Some(host) = self.hosts.remove(&id) {
            self.slots.ended(&host, took);
        }
    }

    /// What is only held goes back; what is being tried may end.
    async fn drain(mut self) {
        for held in std::mem::take(&mut self.held) {
            self.send_back(held.callback, given_back());
        }
        let grace = self.context.config.drain_grace;
        if tokio::time::timeout(grace, self.all_ended()).await.is_ok() {
            return;
        }
        tracing::info!(callbacks = self.tries.len(), "giving back the callbacks still in progress");
        self.context.abandon.cancel();
        if tokio::time::timeout(RELEASE_TIME_MAX, self.all_ended()).await.is_err() {
            tracing::warn!("some callbacks could not be given back; their leases will run out");
            self.tries.shutdown().await;
            self.errands.shutdown().await;
        }
    }

    async fn all_ended(&mut self) {
        while let Some(done) = self.tries.join_next_with_id().await {
            self.ended(done);
        }
        while let Some(done) = self.errands.join_next().await {
            note_panic(done);
        }
    }
}

/// A callback whose task died keeps its lease until that runs out.
fn note_panic(done: Result<(), JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        tracing::error!("the task of a callback died; the callback will be tried again");
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn rest(context: &Context, pause: Option<Duration>) {
    match pause {
        Some(pause) => tokio::time::sleep(pause).await,
        None => context.broker.wake_callbacks().await,
    }
}

/// Sees one try to its end; how long the host took, if it was asked.
async fn attend(context: &Context, callback: &Callback, target: &CallbackTarget) -> Option<Duration> {
    let begun = context.counts.begun();
    let leased = callback.lease_left(context.broker.now());
    let (tried, took) = tokio::select! {
        biased;
        tried = deliver(context, callback, target) => tried,
        // What is settled now comes too late, and is refused for that.
        () = tokio::time::sleep(leased) => (given_back(), None),
        () = context.abandon.cancelled() => (given_back(), None),
    };
    drop(begun);
    took.into_iter().for_each(|took| context.counts.tried(took));
    settle(context, callback, tried).await;
    took
}

/// Back to its place, untried.
fn given_back() -> Tried {
    (CallbackOutcome::Released, "given_back")
}

async fn settle(context: &Context, callback: &Callback, (outcome, class): Tried) {
    let may_pass = matches!(outcome, CallbackOutcome::Failed { .. });
    match context.broker.settle_callback(callback, outcome).await {
        Ok(became) => {
            report(callback, &became);
            let since = context.broker.now().since(callback.created_at);
            context.counts.settled(Mark::of(&became, class, may_pass), since);
        }
        Err(BrokerError::LeaseLost) => {
            context.counts.lost();
            tracing::warn!(callback_id = %callback.id, "lost the lease on a callback; it will be tried again");
        }
        Err(error) => {
            context.counts.not_stored();
            tracing::warn!(callback_id = %callback.id, %error, "the end of a try was not stored; it will be repeated");
        }
    }
}

/// One line per try; never the URL.
fn report(callback: &Callback, outcome: &CallbackOutcome) {
    let (callback_id, message_id, attempt) = (callback.id, callback.turn, callback.attempt);
    match outcome {
        CallbackOutcome::Delivered { status } => {
            tracing::debug!(%callback_id, %message_id, attempt, status, "a callback was delivered");
        }
        CallbackOutcome::Failed { status, reason, delay } => {
            let seconds = delay.as_secs_f64();
            tracing::info!(%callback_id, %message_id, attempt, ?status, reason, seconds, "a callback was not taken; again later");
        }
        CallbackOutcome::Dead { status, reason } => {
            tracing::warn!(%callback_id, %message_id, attempt, ?status, reason, "a callback was given up");
        }
        CallbackOutcome::Deferred { .. } | CallbackOutcome::Released => {
            tracing::debug!(%callback_id, %message_id, attempt, "a callback goes back untried");
        }
    }
}
