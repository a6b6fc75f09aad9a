//! The topic of a stream as a log that everybody writes to by compare-and-set:
//! a step is written for one slot, the next one after all that its writer has
//! seen. If another writer was faster, the step does not count, wherever it
//! ended up, and its writer looks again. So what is decided from the state of
//! a stream holds, on any engine and whichever node decides.

use super::life::{Life, Told};
use super::record::{self, FORM, Head, Step};
use crate::broker::Inner;
use crate::error::BrokerError;
use crate::limits::{
    SETTLE_BACKOFF, STREAM_CONFIRM_TRIES, STREAM_GRACE, STREAM_KNOWN_FOR, STREAM_SLOT_WINDOW,
    STREAM_STEPS_PAGE, STREAM_TRIES_MAX, STREAM_VOIDS_MAX, STREAM_WHOLE_BYTES, STREAM_WHOLE_EVERY,
    STREAMS_KNOWN_MAX,
};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::time::{Instant, sleep};
use turnwise_core::{
    Dedup, Epoch, NewEvent, Offset, Position, Read, ReadFrom, StoreError, Timestamp, TopicName,
};

/// What this node remembers of streams.
#[derive(Default)]
pub(crate) struct Logs(Mutex<Known>);

#[derive(Default)]
struct Known {
    logs: HashMap<TopicName, Arc<Log>>,
    /// In the order they became known.
    order: VecDeque<TopicName>,
}

/// One of them. Whoever holds the lock is alone on this node.
#[derive(Default)]
struct Log(tokio::sync::Mutex<Option<Seen>>);

/// What was seen of a log.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) epoch: Epoch,
    pub(super) told: Told,
    /// When it was read to its end.
    at: Instant,
}

impl Seen {
    pub(super) fn life(&self) -> Option<&Life> {
        self.told.life.as_ref()
    }
}

/// What is to be done with a stream.
pub(super) enum Decision<T> {
    /// Nothing.
    Answer(T),
    /// This step, with these bytes; the life after it.
    Take(Step, Bytes, Option<Box<Life>>, T),
}

impl Logs {
    fn log(&self, topic: &TopicName) -> Arc<Log> {
        let mut known = self.0.lock();
        if let Some(log) = known.logs.get(topic) {
            return Arc::clone(log);
        }
        while known.order.len() >= STREAMS_KNOWN_MAX {
            // Whoever uses it goes on with its own; two then meet at the store.
            if let Some(oldest) = known.order.pop_front() {
                known.logs.remove(&oldest);
            }
        }
        let log = Arc::<Log>::default();
        known.logs.insert(topic.clone(), Arc::clone(&log));
        known.order.push_back(topic.clone());
        log
    }
}

impl Inner {
    /// What a stream is now, or was at some time after `since`.
    pub(super) async fn look(&self, topic: &TopicName, since: Instant) -> Result<Seen, BrokerError> {
        let log = self.streams.logs.log(topic);
        let mut seen = log.0.lock().await;
        match seen.as_ref().filter(|seen| seen.at >= since) {
            Some(seen) => Ok(seen.clone()),
            None => Ok(self.catch_up(topic, &mut seen).await?.clone()),
        }
    }

    /// Decides what to do with a stream, and does it: in one step, or not at all. `decide` is asked again when
    /// somebody else was faster; its answer counts only if it has seen all there was.
    pub(super) async fn transact<T>(
        &self,
        topic: &TopicName,
        mut decide: impl FnMut(&Told, u64, Timestamp) -> Decision<T>,
    ) -> Result<T, BrokerError> {
        let log = self.streams.logs.log(topic);
        let mut seen = log.0.lock().await;
        let mut is_fresh = false;
        for _try in 0..STREAM_TRIES_MAX {
            let known = match seen.as_ref() {
                Some(known) if is_fresh || known.at.elapsed() < STREAM_KNOWN_FOR => known.clone(),
                _ => {
                    is_fresh = true;
                    self.catch_up(topic, &mut seen).await?.clone()
                }
            };
            match decide(&known.told, known.told.last + 1, self.now()) {
                Decision::Answer(answer) if is_fresh => return Ok(answer),
                Decision::Answer(_) => {}
                Decision::Take(step, payload, after, answer) => {
                    // If this is given up in between, what was seen is not all there is.
                    *seen = None;
                    if let Some(next) = self.take(topic, known, step, payload, after).await? {
                        *seen = Some(next);
                        return Ok(answer);
                    }
                }
            }
            is_fresh = true;
            self.catch_up(topic, &mut seen).await?;
        }
        Err(StoreError::Unavailable("other writers of the stream were always faster".to_owned()).into())
    }

    /// Writes a step for the next slot; `None` if somebody else was faster.
    async fn take(
        &self,
        topic: &TopicName,
        mut known: Seen,
        step: Step,
        payload: Bytes,
        after: Option<Box<Life>>,
    ) -> Result<Option<Seen>, BrokerError> {
        let told = &known.told;
        let slot = told.last + 1;
        let now = self.now();
        let is_whole = matches!(step, Step::Whole(_) | Step::End);
        let due = told.since.0 >= STREAM_WHOLE_EVERY || told.since.1 + payload.len() >= STREAM_WHOLE_BYTES;
        let of = after.as_deref().or(told.life.as_ref());
        let head = Head {
            slot,
            whole_at: if is_whole || due { slot } else { told.whole_at },
            life: of.map_or(0, |life| life.id),
            bytes: of.map_or(0, |life| life.tail.bytes),
            after: if due && !is_whole { after.clone() } else { None },
            step,
        };
        let keep_until = match &after {
            Some(life) => life.keep_until(),
            None => Some(now.after(STREAM_GRACE)),
        };
        let event = NewEvent {
            topic: topic.clone(),
            event_type: FORM.to_owned(),
            data: record::written(&head, &payload),
            dedup: Some(self.only_one(slot)),
            keep_until,
        };
        let Some(position) = self.confirmed(event).await? else { return Ok(None) };
        if position.epoch != known.epoch || position.offset != Offset(slot) {
            return Ok(None);
        }
        let record = record::Record { head, payload, at: now };
        known.told.take(slot, Some(&record));
        Ok(Some(known))
    }

    /// Whoever is first has the slot. A repeat of the same try is known; another writer's is refused.
    fn only_one(&self, slot: u64) -> Dedup {
        let mut content_hash = [0; 16];
        let draws = [(self.nonce)().to_be_bytes(), (self.nonce)().to_be_bytes()];
        for (to, from) in content_hash.iter_mut().zip(draws.into_iter().flatten()) {
            *to = from;
        }
        let key = Bytes::copy_from_slice(&slot.to_be_bytes());
        Dedup { key, window: STREAM_SLOT_WINDOW, content_hash }
    }

    /// Appends a step for which the store knows a repeat; `None` if another one has its slot.
    async fn confirmed(&self, event: NewEvent) -> Result<Option<Position>, BrokerError> {
        let mut wait = SETTLE_BACKOFF;
        let mut tries = 1;
        loop {
            let answer = self.store.append(vec![event.clone()]).await;
            let answer = answer.and_then(|answers| {
                let none = || StoreError::Unknown("the store answered nothing".to_owned());
                answers.into_iter().next().ok_or_else(none).and_then(|answer| answer)
            });
            match answer {
                Ok(position) => return Ok(Some(position)),
                // Its sizes were checked, so nothing else can be wrong with it.
                Err(StoreError::Invalid(_)) => return Ok(None),
                Err(StoreError::Unknown(why)) if tries < STREAM_CONFIRM_TRIES => {
                    tracing::warn!(%why, "a step of a stream is not confirmed yet; again");
                    sleep(wait).await;
                    wait *= 2;
                    tries += 1;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Reads what was written since.
    async fn catch_up<'s>(
        &self,
        topic: &TopicName,
        seen: &'s mut Option<Seen>,
    ) -> Result<&'s Seen, BrokerError> {
        let at = Instant::now();
        let known = seen.take().filter(|seen| seen.at.elapsed() < STREAM_KNOWN_FOR);
        let mut next = match known {
            Some(known) => known,
            None => self.begin(topic, at).await?,
        };
        if !self.read_on(topic, &mut next).await? {
            // What was remembered is of another time.
            next = self.begin(topic, at).await?;
            self.read_on(topic, &mut next).await?;
        }
        next.at = at;
        Ok(seen.insert(next))
    }

    /// To the end; false if the place to read on from is gone.
    async fn read_on(&self, topic: &TopicName, seen: &mut Seen) -> Result<bool, BrokerError> {
        loop {
            let after = Position { epoch: seen.epoch, offset: Offset(seen.told.last) };
            match self.store.read(topic, ReadFrom::After(after), STREAM_STEPS_PAGE).await? {
                Read::Events { events, .. } if events.is_empty() => return Ok(true),
                Read::Events { events, .. } => {
                    for event in &events {
                        seen.told.take(event.offset.0, record::read(event).as_ref());
                    }
                }
                Read::Gap { .. } => return Ok(false),
            }
        }
    }

    /// Before the newest step that holds all that is to be known.
    async fn begin(&self, topic: &TopicName, at: Instant) -> Result<Seen, BrokerError> {
        let (epoch, last) = match self.store.read(topic, ReadFrom::Latest, 1).await? {
            Read::Events { next, .. } | Read::Gap { resume: next } => (next.epoch, next.offset.0),
        };
        let seen = |last| Seen { epoch, told: Told { last, ..Told::default() }, at };
        let mut back = 1;
        while back <= last.min(STREAM_VOIDS_MAX) {
            let before = last - back;
            let after = Position { epoch, offset: Offset(before) };
            match self.store.read(topic, ReadFrom::After(after), STREAM_STEPS_PAGE).await? {
                // All before was trimmed: there is nothing.
                Read::Gap { resume } => return Ok(seen(resume.offset.0)),
                Read::Events { events, .. } => {
                    let newest = events.iter().rev().find_map(record::read);
                    if let Some(record) = newest {
                        return Ok(seen(record.head.whole_at.saturating_sub(1)));
                    }
                }
            }
            back *= 2;
        }
        match self.store.read(topic, ReadFrom::Earliest, 1).await? {
            Read::Events { events, .. } => Ok(seen(events.first().map_or(last, |first| first.offset.0 - 1))),
            Read::Gap { resume } => Ok(seen(resume.offset.0)),
        }
    }
}
