//! Reading an answer while it is written, and after (clause C6). Everything
//! with a position comes from the store; news inside the node only saves waiting.

use crate::broker::{Broker, reply_topic_of, turns_queue};
use crate::error::BrokerError;
use crate::limits::{FOLLOWED_PAGE, POSITION_PLACES_MAX};
use crate::local::{Appended, Listener, Signal};
use crate::orgs::OrgScope;
use crate::record::{Stored, TurnHeaders, kind_of, parse_terminal};
use crate::turn::{TurnError, TurnState};
use crate::wait::{Found, next_hint};
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::{empty, unfold};
use std::collections::VecDeque;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::time::sleep;
use turnwise_core::{
    Epoch, Event, MessageId, Offset, OrderingKey, Position, QueueName, Read, ReadFrom, Timestamp,
    TopicFilter, TopicName,
};

/// Shortest time between two `Position` events of one reader.
const POSITION_INTERVAL: Duration = Duration::from_secs(1);

/// The place of an event in its answer, good for resuming after it. Written
/// `<epoch>-<offset>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamPosition(pub Position);

impl fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.epoch.0, self.0.offset.0)
    }
}

impl FromStr for StreamPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<StreamPosition, ()> {
        let (epoch, offset) = text.split_once('-').ok_or(())?;
        let number = |part: &str| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse().map_err(|_| ()) } else { Err(()) }
        };
        Ok(StreamPosition(Position { epoch: Epoch(number(epoch)?), offset: Offset(number(offset)?) }))
    }
}

/// What a reader of a turn sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnEvent {
    /// The turn is accepted. First, unless the reader resumes.
    Queued,
    /// The agent has it. Comes once; without a position when it is not stored yet.
    Processing {
        /// Of the stored event.
        position: Option<StreamPosition>,
    },
    /// An event of the agent, unchanged.
    Agent {
        /// Its place.
        position: StreamPosition,
        /// The agent's own name for it.
        name: Option<String>,
        /// Its data.
        data: Bytes,
    },
    /// Answered. Last.
    Done {
        /// Its place.
        position: StreamPosition,
    },
    /// Failed. Last.
    Error {
        /// Its place.
        position: StreamPosition,
        /// Why.
        error: TurnError,
    },
    /// Taken back. Last.
    Cancelled {
        /// Its place.
        position: StreamPosition,
    },
    /// The place in the conversation changed; not stored.
    Position {
        /// 1 is the head.
        place: u64,
    },
    /// Events are missing here: the place asked for is not kept.
    Gap {
        /// Reading goes on after it.
        resume: StreamPosition,
    },
}

/// The events of one turn. Ends after the terminal event, or after an error.
/// Empty for a reader that resumes after the terminal event.
pub type Follow = BoxStream<'static, Result<TurnEvent, BrokerError>>;

/// What there is to read of a turn.
pub enum Followed {
    /// Nothing: it is unknown, outside the scope, or not this user's.
    NotFound,
    /// Nothing more: the reader has seen its last event.
    Over,
    /// These events.
    Events(Follow),
}

impl Followed {
    /// The events, none of a turn that is over; `None` when it was not found.
    #[must_use]
    pub fn events(self) -> Option<Follow> {
        match self {
            Followed::NotFound => None,
            Followed::Over => Some(empty().boxed()),
            Followed::Events(events) => Some(events),
        }
    }
}

impl Broker {
    /// Reads a turn from its start or after a position, to its end. Any number
    /// of readers, at any time.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn follow(
        &self,
        orgs: &OrgScope,
        user: &str,
        id: MessageId,
        after: Option<StreamPosition>,
    ) -> Result<Followed, BrokerError> {
        let Some(Sought { org, key, is_over }) = self.sought(orgs, user, id, after).await? else {
            return Ok(Followed::NotFound);
        };
        if is_over {
            return Ok(Followed::Over);
        }
        let topic = reply_topic_of(&org, id)?;
        let follower = Follower {
            hints: Some(self.0.store.watch(TopicFilter::One(topic.clone()))),
            listener: self.0.local.listen(id).0,
            broker: self.clone(),
            id,
            queue: turns_queue(&org)?,
            key,
            topic,
            position: after.map(|after| after.0),
            pending: if after.is_none() { VecDeque::from([TurnEvent::Queued]) } else { VecDeque::new() },
            processing_seen: after.is_some_and(|after| after.0.offset > Offset(0)),
            place_told: None,
            caught_up: false,
            finished: false,
        };
        Ok(Followed::Events(unfold(follower, Follower::step).boxed()))
    }

    /// Where a user's turn is, for a reader who is here in it.
    async fn sought(
        &self,
        orgs: &OrgScope,
        user: &str,
        id: MessageId,
        after: Option<StreamPosition>,
    ) -> Result<Option<Sought>, BrokerError> {
        // Accepted here a moment ago: no need to wait for the store. Whoever resumes may have seen the end.
        if let (Some(fresh), None) = (self.0.local.fresh(id), after) {
            let visible = orgs.contains(&fresh.org) && fresh.user == user;
            let sought = || Sought { org: fresh.org.clone(), key: Some(fresh.key.clone()), is_over: false };
            return Ok(visible.then(sought));
        }
        let Some((org, found)) = self.find(orgs, id).await? else {
            return Ok(None);
        };
        let (owner, key, is_over) = match found {
            Found::Live(info) => (TurnHeaders::read(&info.headers, info.enqueued_at).user, info.key, false),
            Found::Over(terminal) => {
                let epoch = self.0.store.epoch();
                let has_seen = |at: Position| at.epoch == epoch && at.offset >= terminal.offset;
                (terminal.record.user, None, after.is_some_and(|after| has_seen(after.0)))
            }
        };
        Ok((owner == user).then_some(Sought { org, key, is_over }))
    }
}

/// Where a turn is that somebody reads.
struct Sought {
    org: String,
    /// Its lane while it may be in one.
    key: Option<OrderingKey>,
    /// The reader has seen its last event.
    is_over: bool,
}

struct Follower {
    broker: Broker,
    id: MessageId,
    queue: QueueName,
    /// Its lane while it is in one.
    key: Option<OrderingKey>,
    topic: TopicName,
    position: Option<Position>,
    hints: Option<BoxStream<'static, TopicName>>,
    listener: Listener,
    pending: VecDeque<TurnEvent>,
    processing_seen: bool,
    place_told: Option<(u64, Timestamp)>,
    /// All that is stored was read; signals tell what comes, or a poll does.
    caught_up: bool,
    finished: bool,
}

type Step = Option<(Result<TurnEvent, BrokerError>, Follower)>;

impl Follower {
    async fn step(mut self) -> Step {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some((Ok(event), self));
            }
            if self.finished {
                return None;
            }
            if let Err(error) = self.advance().await {
                self.finished = true;
                return Some((Err(error), self));
            }
        }
    }

    /// Puts what is new into `pending`, or waits until there may be something.
    async fn advance(&mut self) -> Result<(), BrokerError> {
        if self.caught_up {
            return self.wait().await;
        }
        if self.read().await? {
            return Ok(());
        }
        match self.place().await? {
            None => {
                // Out of its lane: the last word was stored in the same step.
                if !self.read().await? {
                    self.close().await?;
                }
                return Ok(());
            }
            Some((_, true)) => self.processing(),
            Some((place, false)) => self.tell(place),
        }
        self.caught_up = true;
        Ok(())
    }

    /// Reads on; whether there was anything.
    async fn read(&mut self) -> Result<bool, BrokerError> {
        let inner = &self.broker.0;
        let from = self.position.map_or(ReadFrom::Earliest, ReadFrom::After);
        match inner.store.read(&self.topic, from, FOLLOWED_PAGE).await? {
            Read::Gap { resume } => {
                if self.position == Some(resume) {
                    return Ok(false);
                }
                self.position = Some(resume);
                self.pending.push_back(TurnEvent::Gap { resume: StreamPosition(resume) });
                Ok(true)
            }
            Read::Events { events, next } => {
                // An append that still runs may not be safe yet: show it when it returned.
                let lease = inner.running.lock().get(&self.id).and_then(std::sync::Weak::upgrade);
                if let Some(lease) = lease
                    && !events.is_empty()
                {
                    drop(lease.gate.read().await);
                }
                let some = !events.is_empty();
                if some {
                    self.position = Some(next);
                }
                for event in events {
                    self.show(next.epoch, event)?;
                    if self.finished {
                        break;
                    }
                }
                Ok(some)
            }
        }
    }

    fn show(&mut self, epoch: Epoch, event: Event) -> Result<(), BrokerError> {
        let position = StreamPosition(Position { epoch, offset: event.offset });
        let shown = match kind_of(&event.event_type) {
            Stored::Busy | Stored::Other => return Ok(()),
            Stored::Processing if self.processing_seen => return Ok(()),
            Stored::Processing => {
                self.processing_seen = true;
                TurnEvent::Processing { position: Some(position) }
            }
            Stored::Agent(name) => {
                TurnEvent::Agent { position, name: name.map(str::to_owned), data: event.data }
            }
            Stored::Terminal(state) => {
                self.finished = true;
                match state {
                    TurnState::Completed => TurnEvent::Done { position },
                    TurnState::Cancelled => TurnEvent::Cancelled { position },
                    TurnState::Failed | TurnState::Queued | TurnState::Processing => {
                        let record = parse_terminal(&event.data)?;
                        let unnamed = || TurnError::new("agent_error", 502, "The turn failed.");
                        let error = record.error.map_or_else(unnamed, TurnError::from);
                        TurnEvent::Error { position, error }
                    }
                }
            }
        };
        self.pending.push_back(shown);
        Ok(())
    }

    /// The turn's place and whether it is being processed; `None` when it is over.
    async fn place(&mut self) -> Result<Option<(u64, bool)>, BrokerError> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let lane = self.broker.0.store.lane(&self.queue, key, Some(self.id)).await?;
        Ok(lane.place.map(|place| (place, lane.in_flight == Some(self.id))))
    }

    fn processing(&mut self) {
        if !self.processing_seen {
            self.processing_seen = true;
            self.pending.push_back(TurnEvent::Processing { position: None });
        }
    }

    fn tell(&mut self, place: u64) {
        if self.processing_seen || place > POSITION_PLACES_MAX {
            return;
        }
        let now = self.broker.0.now();
        let due = self
            .place_told
            .is_none_or(|(told, at)| told != place && (now < at || now.since(at) >= POSITION_INTERVAL));
        if due {
            self.place_told = Some((place, now));
            self.pending.push_back(TurnEvent::Position { place });
        }
    }

    /// Nothing to read and no turn: a reader past the end, or an answer not kept.
    async fn close(&mut self) -> Result<(), BrokerError> {
        self.finished = true;
        let terminal = self.broker.terminal(&self.topic).await?;
        let past = |at: Position| terminal.as_ref().is_some_and(|terminal| at.offset >= terminal.offset);
        if self.position.is_some_and(past) { Ok(()) } else { Err(BrokerError::Gone) }
    }

    /// Waits for news. Only news whose place fits is shown without asking the store.
    async fn wait(&mut self) -> Result<(), BrokerError> {
        // What this node appends it also signals; hints tell of other nodes.
        let runs_here = self.broker.0.running.lock().contains_key(&self.id);
        let hints = if runs_here { None } else { self.hints.as_mut() };
        tokio::select! {
            biased;
            signal = self.listener.next() => match signal {
                Signal::Leased => self.processing(),
                Signal::Appended(appended) => self.take(&appended)?,
                Signal::News | Signal::Ended(_) => self.caught_up = false,
            },
            hint = next_hint(hints) => {
                self.caught_up = false;
                if hint.is_none() {
                    self.hints = None;
                }
            }
            () = sleep(self.broker.0.config.poll_interval) => self.caught_up = false,
        }
        Ok(())
    }

    /// Shows appended events if they are the next ones; else the store is to be read.
    fn take(&mut self, appended: &Appended) -> Result<(), BrokerError> {
        let (epoch, seen) = match self.position {
            Some(position) => (position.epoch, position.offset),
            None => (appended.epoch, Offset(0)),
        };
        let fits = epoch == appended.epoch
            && appended.events.first().is_some_and(|first| first.offset.0 <= seen.0 + 1);
        if !fits {
            self.caught_up = false;
            return Ok(());
        }
        for event in appended.events.iter().filter(|event| event.offset > seen) {
            self.position = Some(Position { epoch, offset: event.offset });
            self.show(epoch, event.clone())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back_as_written() {
        let position = StreamPosition(Position { epoch: Epoch(7), offset: Offset(42) });
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "7", "7-", "-42", "7-x", "+7-42", "7-42-1"] {
            assert_eq!(text.parse::<StreamPosition>(), Err(()), "{text:?}");
        }
    }
}
