//! A fixed number of connections to the server that holds the namespace, each made again when it broke; and the
//! history this node has seen (clause X5).

use super::config::{Address, PAUSE_MAX, PAUSE_MIN, RedisConfig, TRIES_MAX};
use super::link::{Again, Failure, Link, text};
use super::scripts::{ALL, JOIN, Script, as_sent};
use super::start::{self, Found};
use crate::clock::{Clock, Moment};
use crate::counts::Counts;
use crate::embedded::Durability;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use turnwise_core::{Result, StoreError, Timestamp};

type Tried<T> = std::result::Result<T, Failure>;

/// What this node has seen of the store.
#[derive(Clone, Debug, Default)]
struct Seen {
    epoch: u64,
    /// Of the server's process that `writes` was told by.
    run: String,
    writes: i64,
    sequence: i64,
    token: i64,
}

/// The answer to a script.
pub(super) struct Reply {
    pub(super) epoch: u64,
    pub(super) now: Timestamp,
    /// When something that this operation stored falls due.
    pub(super) soonest: Option<Timestamp>,
    pub(super) hints: Vec<u8>,
    pub(super) answer: Value,
}

/// One connection, or the pause until it is tried again.
#[derive(Default)]
struct Slot {
    link: Option<Link>,
    failed: Option<Failed>,
}

/// The last try to connect.
struct Failed {
    at: Moment,
    /// Until the next one.
    pause: Duration,
    what: String,
}

pub(super) struct Pool {
    address: Address,
    prefix: String,
    /// Who this node is among those that share the store.
    pub(super) node: String,
    call_timeout: Duration,
    pub(super) silence_max: Duration,
    clock: Option<Clock>,
    slots: Vec<tokio::sync::Mutex<Slot>>,
    next: AtomicUsize,
    /// The node of a cluster that owns the namespace.
    owner: Mutex<Option<(String, u16)>>,
    next_host: AtomicUsize,
    /// When the last connection was made, and who waits for that.
    made: Mutex<Option<Moment>>,
    back: Notify,
    shas: Mutex<Vec<String>>,
    /// How often the scripts were loaded anew, and who does it just now.
    loads: AtomicU64,
    loading: tokio::sync::Mutex<()>,
    seen: Mutex<Seen>,
    epoch: AtomicU64,
    pub(super) counts: Arc<Counts>,
    durability: Durability,
    /// How the server said that it keeps what it acknowledges, each time it was connected to.
    found: Mutex<Option<Found>>,
    is_closed: AtomicBool,
    drivers: Mutex<JoinSet<()>>,
}

/// A number that nobody else has.
fn random() -> u64 {
    RandomState::new().hash_one(0)
}

fn pause_after(last: Option<Duration>) -> Duration {
    let doubled = last.map_or(PAUSE_MIN, |last| last * 2).min(PAUSE_MAX);
    // Nodes that lost the same server come back apart.
    let jitter = u32::try_from(random() % 1_000).unwrap_or_default();
    doubled.mul_f64(0.75 + f64::from(jitter) / 2_000.0)
}

impl Pool {
    pub(super) fn new(url: &str, config: &RedisConfig, clock: Option<Clock>) -> Result<Pool> {
        Ok(Pool {
            address: Address::parse(url)?,
            prefix: config.prefix()?,
            node: format!("{:016x}", random()),
            call_timeout: config.call_timeout,
            silence_max: config.silence_max,
            clock,
            slots: (0..config.pool.max(1)).map(|_| tokio::sync::Mutex::default()).collect(),
            next: AtomicUsize::new(0),
            owner: Mutex::new(None),
            next_host: AtomicUsize::new(0),
            made: Mutex::new(None),
            back: Notify::new(),
            shas: Mutex::new(Vec::new()),
            loads: AtomicU64::new(0),
            loading: tokio::sync::Mutex::default(),
            seen: Mutex::new(Seen::default()),
            epoch: AtomicU64::new(0),
            counts: Arc::default(),
            durability: config.durability,
            found: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            drivers: Mutex::new(JoinSet::new()),
        })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// What the server said when it was last connected to.
    pub(super) fn found(&self) -> Found {
        self.found.lock().clone().unwrap_or_default()
    }

    /// Why the server is not used, if it is not because of its settings.
    pub(super) fn refusal(&self) -> Option<String> {
        let is_refused = |found: &&Found| self.durability == Durability::Immediate && !found.is_durable();
        self.found.lock().as_ref().filter(is_refused).map(Found::refusal)
    }

    /// Connects.
    pub(super) async fn meet(&self) -> Result<()> {
        self.link().await.map(drop).map_err(|failure| failure.error(false))
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    pub(super) fn channel(&self) -> String {
        format!("{}hints", self.prefix)
    }

    /// Ends every connection.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.drivers.lock().abort_all();
    }

    /// The host to connect to.
    pub(super) fn host(&self) -> (String, u16) {
        if let Some(owner) = self.owner.lock().clone() {
            return owner;
        }
        let at = self.next_host.fetch_add(1, Ordering::Relaxed);
        let hosts = &self.address.hosts;
        hosts.get(at % hosts.len().max(1)).cloned().unwrap_or_default()
    }

    /// How long an operation may take.
    pub(super) fn call_timeout(&self) -> Duration {
        self.call_timeout
    }

    /// Runs one script and waits for its answer, no longer than this.
    pub(super) async fn run(
        &self,
        limit: Duration,
        script: Script,
        arguments: &[impl AsRef<[u8]> + Sync],
    ) -> Result<Reply> {
        let sent = Mutex::new(None);
        let tried = self.try_some_times(script, arguments, &sent);
        match tokio::time::timeout(limit, tried).await {
            Ok(answer) => answer.map_err(|failure| failure.error(script.changes)),
            Err(_) => {
                let what = format!("no answer from Redis within {:?}", self.call_timeout);
                let failure = match sent.lock().take() {
                    Some(link) => {
                        // What does not answer this does not answer the next one either, if it had time enough.
                        if limit >= self.call_timeout / 2 {
                            Link::give_up(&link);
                        }
                        Failure::Unknown(what)
                    }
                    None => Failure::NotDone(what),
                };
                Err(failure.error(script.changes))
            }
        }
    }

    /// A command outside of the scripts, for looking at the server.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value> {
        let asked = async { self.link().await?.send(command).await };
        match tokio::time::timeout(self.call_timeout, asked).await {
            Ok(answer) => answer.map_err(|failure| failure.error(false)),
            Err(_) => {
                let what = format!("no answer from Redis within {:?}", self.call_timeout);
                Err(StoreError::Unavailable(what))
            }
        }
    }

    async fn try_some_times(
        &self,
        script: Script,
        arguments: &[impl AsRef<[u8]> + Sync],
        sent: &Mutex<Option<Link>>,
    ) -> Tried<Reply> {
        let mut tries = 0;
        loop {
            let loads = self.loads.load(Ordering::Acquire);
            let waits = self.counts.waits();
            let link = self.link().await;
            drop(waits);
            let link = link?;
            *sent.lock() = Some(link.clone());
            let used = link.counted.used(&self.counts);
            let told = self.send(&link, script, arguments).await;
            drop(used);
            let failure = match told {
                Ok(reply) => return Ok(reply),
                Err(failure) => failure,
            };
            *sent.lock() = None;
            tries += 1;
            match &failure {
                Failure::Again(what, _) if tries < TRIES_MAX => match what {
                    Again::Scripts => self.load_once(&link, loads).await?,
                    Again::Join => self.join(&link).await?,
                    Again::Owner => {
                        *self.owner.lock() = None;
                        link.give_up();
                    }
                    // One more look: what answers there may be a primary again, or nothing else is there.
                    Again::Primary if tries > 1 => return Err(failure),
                    Again::Primary => {
                        *self.owner.lock() = None;
                        link.retire();
                    }
                },
                // A read is harmless to repeat.
                Failure::Unknown(_) if !script.changes && link.is_broken() && tries < TRIES_MAX => {}
                _ => return Err(failure),
            }
        }
    }

    async fn send(&self, link: &Link, script: Script, arguments: &[impl AsRef<[u8]> + Sync]) -> Tried<Reply> {
        let seen = self.seen.lock().clone();
        let sha = self.shas.lock().get(script.number).cloned().unwrap_or_default();
        let mut command = redis::cmd("EVALSHA");
        command.arg(sha).arg(1).arg(&self.prefix).arg(seen.epoch).arg(seen.writes).arg(self.time());
        command.arg(&self.node);
        for argument in arguments {
            command.arg(argument.as_ref());
        }
        let value = link.send(&command).await?;
        let reply = reply(value, seen.epoch)
            .ok_or_else(|| Failure::Unknown(format!("Redis answered {} with something else", script.name)))?;
        self.learn(&seen, link, &reply.0);
        Ok(reply.1)
    }

    fn learn(&self, sent: &Seen, link: &Link, writes: &i64) {
        let mut seen = self.seen.lock();
        if seen.epoch == sent.epoch && *seen.run == *link.run {
            seen.writes = seen.writes.max(*writes);
        }
    }

    /// What tokens and sequences were told: they are not given out again after a loss.
    pub(super) fn learn_numbers(&self, sequence: u64, token: u64) {
        let mut seen = self.seen.lock();
        seen.sequence = seen.sequence.max(sequence.cast_signed());
        seen.token = seen.token.max(token.cast_signed());
    }

    /// The time a test wants it to be, or nothing for the server's own.
    fn time(&self) -> String {
        self.clock.as_ref().map(|clock| clock().0.to_string()).unwrap_or_default()
    }

    /// A connection that works, as far as is known. Waits for one to be made.
    async fn link(&self) -> Tried<Link> {
        let at = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len();
        let slot = self.slots.get(at).ok_or_else(|| Failure::NotDone("no connections".into()))?;
        let came = Moment::now();
        let mut slot = slot.lock().await;
        if let Some(link) = slot.link.as_ref().filter(|link| !link.is_broken()) {
            return Ok(link.clone());
        }
        slot.link = None;
        if let Some(failed) = &slot.failed {
            if failed.at.elapsed() < came.elapsed() {
                // Somebody tried while this one waited: a crowd does not try one after another.
                return Err(Failure::NotDone(failed.what.clone()));
            }
            self.pause(failed).await;
        }
        if self.is_closed.load(Ordering::Acquire) {
            return Err(Failure::NotDone("the store is closed".into()));
        }
        // A host that is gone without a word does not use up the time of who waits: another one may be the owner now.
        // To a server without TLS the first word of a client that has it is a command that does not end.
        let hint = if self.address.tls.is_some() { ": does it speak TLS on this port?" } else { "" };
        let late = |_| Err(Failure::NotDone(format!("Redis does not answer a new connection{hint}")));
        let connected = tokio::time::timeout(self.call_timeout / 2, self.connect()).await;
        match connected.unwrap_or_else(late) {
            Ok(link) => {
                link.counted.made(&self.counts);
                *slot = Slot { link: Some(link.clone()), failed: None };
                *self.made.lock() = Some(Moment::now());
                self.back.notify_waiters();
                Ok(link)
            }
            Err(failure) => {
                self.counts.connect_failed();
                *self.owner.lock() = None;
                let pause = pause_after(slot.failed.as_ref().map(|failed| failed.pause));
                slot.failed = Some(Failed { at: Moment::now(), pause, what: failure.text().to_owned() });
                Err(failure)
            }
        }
    }

    /// Waits until it is time for another try, or until another connection was made: then the server is back.
    async fn pause(&self, failed: &Failed) {
        let back = self.back.notified();
        if self.made.lock().is_some_and(|made| made.elapsed() < failed.at.elapsed()) {
            return;
        }
        let rest = failed.pause.saturating_sub(failed.at.elapsed());
        let _ = tokio::time::timeout(rest, back).await;
    }

    async fn connect(&self) -> Tried<Link> {
        let host = self.host();
        let (mut link, is_cluster) = self.dial(&host).await?;
        if !is_cluster && self.address.hosts.len() > 1 {
            let (name, port) = host;
            return Err(Failure::NotDone(format!(
                "the URL names several hosts, which are for a cluster, but Redis at {name}:{port} is none: name one"
            )));
        }
        if is_cluster && self.owner.lock().is_none() {
            let owner = self.find_owner(&link, &host).await?;
            if owner != host {
                link = self.dial(&owner).await?.0;
            }
            *self.owner.lock() = Some(owner);
        }
        self.look_at_settings(&link).await?;
        if self.shas.lock().is_empty() {
            self.load_scripts(&link).await?;
        }
        self.join(&link).await?;
        Ok(link)
    }

    /// A server that is met again may keep less than it did, or more.
    async fn look_at_settings(&self, link: &Link) -> Tried<()> {
        let found = start::look(link).await?;
        let before = self.found.lock().replace(found.clone());
        if before.is_some_and(|before| before != found) {
            if found.is_durable() {
                tracing::info!(%found, "Redis has other settings now: it keeps what it acknowledges");
            } else {
                tracing::warn!(%found, "Redis has other settings now: a crash of it loses messages");
            }
        }
        self.refusal().map_or(Ok(()), |what| Err(Failure::NotDone(what)))
    }

    async fn dial(&self, host: &(String, u16)) -> Tried<(Link, bool)> {
        let mut link = Link::open(&self.address, host, &self.drivers).await?;
        let told = link.told().await?;
        link.run = told.run;
        Ok((link, told.is_cluster))
    }

    /// The node of a cluster that owns the slot of all our keys.
    async fn find_owner(&self, link: &Link, asked: &(String, u16)) -> Tried<(String, u16)> {
        let slot = link.prepare(redis::cmd("CLUSTER").arg("KEYSLOT").arg(&self.prefix)).await?;
        let slots = link.prepare(redis::cmd("CLUSTER").arg("SLOTS")).await?;
        let (Value::Int(slot), Value::Array(ranges)) = (slot, slots) else {
            return Err(Failure::NotDone("the cluster does not tell its slots".into()));
        };
        ranges.into_iter().find_map(|range| owner_of(slot, range, asked)).ok_or_else(|| {
            Failure::NotDone("no node of the cluster serves the slot of this namespace".into())
        })
    }

    /// Loads what the server forgot, unless somebody has since `loads` was read: a crowd that meets a server that was
    /// started again does it once.
    async fn load_once(&self, link: &Link, loads: u64) -> Tried<()> {
        let _turn = self.loading.lock().await;
        if self.loads.load(Ordering::Acquire) == loads {
            self.load_scripts(link).await?;
            self.loads.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }

    async fn load_scripts(&self, link: &Link) -> Tried<()> {
        let mut shas = Vec::with_capacity(ALL.len());
        for script in ALL {
            shas.push(text(
                link.prepare(redis::cmd("SCRIPT").arg("LOAD").arg(as_sent(script.source))).await?,
            ));
        }
        *self.shas.lock() = shas;
        Ok(())
    }

    /// Takes part in the history that the server holds, and notices that it is another one.
    async fn join(&self, link: &Link) -> Tried<()> {
        let seen = self.seen.lock().clone();
        let epoch = if seen.epoch == 0 { String::new() } else { seen.epoch.to_string() };
        let mut command = redis::cmd("EVAL");
        command.arg(JOIN).arg(1).arg(&self.prefix).arg(epoch).arg(seen.writes).arg(&seen.run);
        command.arg(seen.sequence).arg(seen.token).arg(self.time()).arg(&*link.run);
        let answer = link.prepare(&command).await?;
        let Value::Array(parts) = answer else {
            return Err(Failure::NotDone("Redis answered join with something else".into()));
        };
        let mut parts = parts.into_iter();
        let epoch = parts.next().map(text).and_then(|epoch| epoch.parse::<u64>().ok());
        let (Some(epoch), Some(Value::Int(writes))) = (epoch, parts.next()) else {
            return Err(Failure::NotDone("Redis answered join with something else".into()));
        };
        let mut now = self.seen.lock();
        if epoch < now.epoch {
            // Somebody else of this node has joined a later history meanwhile.
            return Err(Failure::Again(Again::Join, "the history of this store changed".into()));
        }
        // Whoever of this node joined it first has counted the loss.
        let is_other = now.epoch != 0 && now.epoch != epoch;
        let writes = if is_other || *now.run != *link.run { writes } else { now.writes.max(writes) };
        *now = Seen { epoch, run: link.run.to_string(), writes, ..now.clone() };
        drop(now);
        self.epoch.store(epoch, Ordering::Release);
        if is_other {
            self.counts.lost();
            tracing::error!(
                epoch,
                "Redis came back without writes it had acknowledged; readers of streams are told of the gap"
            );
        }
        Ok(())
    }
}

fn reply(value: Value, epoch: u64) -> Option<(i64, Reply)> {
    let Value::Array(parts) = value else { return None };
    let [writes, now, soonest, hints, answer] = <[Value; 5]>::try_from(parts).ok()?;
    let (Value::Int(writes), Value::Int(now), Value::Int(soonest), Value::BulkString(hints)) =
        (writes, now, soonest, hints)
    else {
        return None;
    };
    let soonest = Some(soonest).filter(|at| *at != 0).map(Timestamp);
    Some((writes, Reply { epoch, now: Timestamp(now), soonest, hints, answer }))
}

/// The first node of a range of slots, if it holds this one.
fn owner_of(slot: i64, range: Value, asked: &(String, u16)) -> Option<(String, u16)> {
    let Value::Array(parts) = range else { return None };
    let mut parts = parts.into_iter();
    let (Some(Value::Int(first)), Some(Value::Int(last)), Some(Value::Array(node))) =
        (parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let mut node = node.into_iter();
    let (host, Some(Value::Int(port))) = (text(node.next()?), node.next()) else { return None };
    let host = if host.is_empty() { asked.0.clone() } else { host };
    (first..=last).contains(&slot).then_some((host, u16::try_from(port).ok()?))
}
