//! The topic rules once more, as naively as can be.

use super::oracle::{Reached, hash};
use crate::trial::Verdict;
use crate::{hold, same};
use turnwise_core::limits::READ_BYTES_MAX;
use turnwise_core::{
    Epoch, Event, ItemResult, NewEvent, Offset, Position, Read, ReadFrom, StoreError, Timestamp, TopicName,
};

/// Events of topics that start so are compared as a set: the store's own
/// endings of one moment have no order among them.
pub const UNORDERED: &str = "end";

/// One topic.
#[derive(Clone, Debug)]
pub struct Log {
    /// Its name.
    pub topic: TopicName,
    /// Every event that ever was.
    pub events: Vec<Event>,
    /// The oldest kept offset.
    pub first: u64,
    cursor: Option<Position>,
}

/// A dedup key in use: topic, key, content, end of its window, the first offset.
type Repeat = (TopicName, Vec<u8>, [u8; 16], Timestamp, u64);

/// All topics.
#[derive(Clone, Debug)]
pub struct Events {
    /// By first use.
    pub logs: Vec<Log>,
    epoch: Epoch,
    dedups: Vec<Repeat>,
}

impl Events {
    /// None yet.
    #[must_use]
    pub fn new(epoch: Epoch) -> Events {
        Events { logs: Vec::new(), epoch, dedups: Vec::new() }
    }

    fn log(&mut self, topic: &TopicName) -> &mut Log {
        let at = match self.logs.iter().position(|log| log.topic == *topic) {
            Some(at) => at,
            None => {
                self.logs.push(Log { topic: topic.clone(), events: Vec::new(), first: 1, cursor: None });
                self.logs.len() - 1
            }
        };
        self.logs.get_mut(at).expect("just found or pushed")
    }

    /// An effect's event.
    pub fn publish(&mut self, now: Timestamp, event: &NewEvent) {
        let log = self.log(&event.topic);
        let offset = Offset(log.events.len() as u64 + 1);
        log.events.push(Event {
            offset,
            event_type: event.event_type.clone(),
            data: event.data.clone(),
            appended_at: now,
        });
    }

    pub(super) fn append(
        &mut self,
        now: Timestamp,
        batch: &[NewEvent],
        answers: &[ItemResult<Position>],
        reached: &mut Reached,
    ) -> Verdict {
        same!(answers.len(), batch.len(), "answers to an append");
        for (event, answer) in batch.iter().zip(answers) {
            if let Some(dedup) = &event.dedup {
                let same_key = |known: &Repeat| known.0 == event.topic && known.1 == dedup.key[..];
                self.dedups.retain(|known| !(same_key(known) && known.3 <= now));
                if let Some((_, _, hash, _, offset)) = self.dedups.iter().find(|known| same_key(known)) {
                    reached.dedup += 1;
                    let first = Position { epoch: self.epoch, offset: Offset(*offset) };
                    if *hash == dedup.content_hash {
                        same!(*answer, Ok(first), "a repeated append");
                    } else {
                        hold!(matches!(answer, Err(StoreError::Invalid(_))), "other content: {answer:?}");
                    }
                    continue;
                }
            }
            self.publish(now, event);
            let offset = self.log(&event.topic).events.len() as u64;
            same!(
                *answer,
                Ok(Position { epoch: self.epoch, offset: Offset(offset) }),
                "the place of an event"
            );
            if let Some(dedup) = &event.dedup {
                let until = now.after(dedup.window);
                self.dedups.push((
                    event.topic.clone(),
                    dedup.key.to_vec(),
                    dedup.content_hash,
                    until,
                    offset,
                ));
            }
        }
        Ok(())
    }

    pub(super) fn forget(&mut self, now: Timestamp) {
        self.dedups.retain(|known| known.3 > now);
    }

    pub(super) fn read(
        &mut self,
        topic: &TopicName,
        from: ReadFrom,
        limit: u32,
        answer: &Read,
        reached: &mut Reached,
    ) -> Verdict {
        let epoch = self.epoch;
        let log = self.log(topic);
        let last = log.events.len() as u64;
        let after = match from {
            ReadFrom::Earliest => log.first - 1,
            ReadFrom::Latest => last,
            ReadFrom::After(position) if position.epoch == epoch && position.offset.0 + 1 >= log.first => {
                position.offset.0
            }
            ReadFrom::After(_) => {
                reached.gaps += 1;
                let resume = Position { epoch, offset: Offset(log.first - 1) };
                same!(*answer, Read::Gap { resume }, "reading a place that is gone");
                return Ok(());
            }
        };
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in log.events.iter().filter(|event| event.offset.0 > after).take(limit as usize) {
            bytes += event.event_type.len() + event.data.len();
            if bytes > READ_BYTES_MAX && !events.is_empty() {
                break;
            }
            events.push(event.clone());
        }
        let next = events.last().map_or(after, |event: &Event| event.offset.0);
        let next = Position { epoch, offset: Offset(next) };
        same!(*answer, Read::Events { events, next }, "reading {topic:?} from {from:?}");
        Ok(())
    }

    pub(super) fn trim(&mut self, topic: &TopicName, before: u64) {
        let log = self.log(topic);
        log.first = log.first.max(before.min(log.events.len() as u64 + 1));
    }

    pub(super) fn advance(
        &mut self,
        topic: &TopicName,
        from: Option<Position>,
        to: Position,
        moved: bool,
    ) -> Verdict {
        let log = self.log(topic);
        let back = log.cursor.is_some_and(|at| to.offset < at.offset);
        same!(
            moved,
            log.cursor == from && !back,
            "moving a cursor at {:?} from {from:?} to {to:?}",
            log.cursor
        );
        if moved {
            log.cursor = Some(to);
        }
        Ok(())
    }

    /// Compares all kept events of one topic.
    ///
    /// # Errors
    /// When they differ.
    pub fn compare(&mut self, topic: &TopicName, found: &[Event]) -> Verdict {
        let log = self.log(topic);
        let first = log.first;
        let mut kept: Vec<&Event> = log.events.iter().filter(|event| event.offset.0 >= first).collect();
        if topic.name().starts_with(UNORDERED) {
            let mut data: Vec<_> = found.iter().map(|event| &event.data).collect();
            let mut expected: Vec<_> = kept.iter().map(|event| &event.data).collect();
            data.sort();
            expected.sort();
            same!(data, expected, "the store's own endings");
            kept = found.iter().collect();
        }
        same!(found.iter().collect::<Vec<_>>(), kept, "all events of {topic:?}");
        for (event, offset) in found.iter().zip(first..) {
            same!(event.offset.0, offset, "offsets without holes");
        }
        Ok(())
    }

    /// See [`super::oracle::Oracle::fingerprint`].
    pub(super) fn fingerprint(&self) -> u64 {
        let event = |event: &Event| hash(&(&event.data, event.appended_at));
        let log = |log: &Log| {
            let events = log.events.iter().map(event);
            let events = match log.topic.name().starts_with(UNORDERED) {
                true => events.fold(0, u64::wrapping_add),
                false => hash(&events.collect::<Vec<_>>()),
            };
            hash(&(&log.topic, log.first, log.cursor, events))
        };
        let logs = self.logs.iter().map(log).fold(0, u64::wrapping_add);
        logs.wrapping_add(self.dedups.iter().map(hash).fold(0, u64::wrapping_add))
    }

    /// Where the cursor of a topic is.
    #[must_use]
    pub fn cursor(&self, topic: &TopicName) -> Option<Position> {
        self.logs.iter().find(|log| log.topic == *topic).and_then(|log| log.cursor)
    }

    /// The epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The number of events ever appended to a topic.
    #[must_use]
    pub fn last(&self, topic: &TopicName) -> u64 {
        self.logs.iter().find(|log| log.topic == *topic).map_or(0, |log| log.events.len() as u64)
    }
}
