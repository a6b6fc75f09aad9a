//! What is known of a stream: told by its steps, one after the other. Pure: no
//! store, no clock.

use super::offset::StreamOffset;
use super::record::{Append, Record, Step};
use crate::limits::{STREAM_GRACE, STREAM_KEPT_FOR_EVER, STREAM_PRODUCER_IDLE, STREAM_PRODUCERS_MAX};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use turnwise_core::Timestamp;

/// Where a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Producer {
    pub(super) epoch: u64,
    /// The highest that was taken in this epoch.
    pub(super) seq: u64,
    /// When.
    #[serde(default)]
    pub(super) at: i64,
}

/// Steps of another stream that a fork begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Segment {
    /// The stream whose they are.
    pub(super) name: String,
    /// Which of this name.
    pub(super) life: u64,
    /// Its own slot before its first step.
    pub(super) begin: u64,
    /// The offset that goes with that.
    pub(super) base: u64,
    /// The last offset that belongs to the fork.
    pub(super) until: u64,
}

/// How a fork was asked for: a repeat must match it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ForkedFrom {
    pub(super) name: String,
    /// None: at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) offset: Option<StreamOffset>,
    /// Where that was.
    pub(super) at: StreamOffset,
    /// Bytes, or JSON values, of the append behind it.
    #[serde(default)]
    pub(super) sub: u64,
}

/// A fork of this stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ForkRef {
    pub(super) name: String,
    pub(super) life: u64,
    pub(super) at: i64,
}

/// A stream, from its creation to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Life {
    /// Which stream of this name.
    pub(super) id: u64,
    /// Its own slot before its first step: earlier ones are of another life.
    pub(super) begin: u64,
    pub(super) content_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ttl_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) forked_from: Option<ForkedFrom>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) segments: Vec<Segment>,
    /// Where what is inherited ends.
    pub(super) base: StreamOffset,
    /// Where what there is ends.
    pub(super) tail: StreamOffset,
    #[serde(default)]
    pub(super) closed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<String>,
    /// Last written or read.
    pub(super) touched_at: i64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) producers: BTreeMap<String, Producer>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) forks: Vec<ForkRef>,
    /// Deleted, and kept for its forks.
    #[serde(default)]
    pub(super) deleted: bool,
}

impl Life {
    /// The offset that goes with one of its own slots.
    pub(super) fn offset_of(&self, slot: u64) -> u64 {
        self.base.slot + slot.saturating_sub(self.begin)
    }

    /// The same the other way round.
    pub(super) fn slot_of(&self, offset: u64) -> u64 {
        self.begin + offset.saturating_sub(self.base.slot)
    }

    /// When it is over, if time alone ends it. A tenth more than was asked for: who reads is only now and then noted.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let ttl = self.ttl_s.map(Duration::from_secs);
        let by_ttl = ttl.map(|ttl| Timestamp(self.touched_at).after(ttl + ttl / 10));
        by_ttl.into_iter().chain(self.expires_at.map(Timestamp)).min()
    }

    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        self.deadline().is_some_and(|deadline| deadline <= now)
    }

    /// Whether a read must be noted so that it lives on.
    pub(super) fn wants_touch(&self, now: Timestamp) -> bool {
        let Some(ttl) = self.ttl_s.map(Duration::from_secs) else { return false };
        now.since(Timestamp(self.touched_at)) >= ttl / 10
    }

    /// Until when the store is to keep its topic at least. What others fork from, and what took the place of a
    /// deleted stream, is never the store's to drop.
    pub(super) fn keep_until(&self) -> Option<Timestamp> {
        let is_ours = !self.forks.is_empty() || self.deleted;
        let by_time = self.deadline().map(|deadline| deadline.after(STREAM_GRACE));
        match by_time.filter(|until| *until < STREAM_KEPT_FOR_EVER) {
            Some(until) if !is_ours => Some(until),
            None if !is_ours && self.begin == 0 => None,
            Some(_) | None => Some(STREAM_KEPT_FOR_EVER),
        }
    }

    fn append(&mut self, append: &Append, slot: u64, bytes: u64, has_payload: bool, at: Timestamp) {
        if has_payload {
            self.tail = StreamOffset { slot: self.offset_of(slot), bytes };
        }
        if let Some((id, producer)) = &append.producer {
            self.make_room(id, at);
            self.producers.insert(id.clone(), Producer { at: at.0, ..*producer });
        }
        if append.seq.is_some() {
            self.seq.clone_from(&append.seq);
        }
        self.closed |= append.close;
        self.touched_at = self.touched_at.max(at.0);
    }

    /// Whether there is room for a producer that is not known yet.
    pub(super) fn has_room(&self, id: &str, at: Timestamp) -> bool {
        self.producers.len() < STREAM_PRODUCERS_MAX
            || self.producers.contains_key(id)
            || self.idlest(at).is_some()
    }

    /// The producer that was silent for longest, if that is long enough for it to be forgotten.
    fn idlest(&self, at: Timestamp) -> Option<String> {
        let (id, idlest) = self.producers.iter().min_by_key(|(_, producer)| producer.at)?;
        (at.since(Timestamp(idlest.at)) >= STREAM_PRODUCER_IDLE).then(|| id.clone())
    }

    fn make_room(&mut self, id: &str, at: Timestamp) {
        if self.producers.len() >= STREAM_PRODUCERS_MAX
            && !self.producers.contains_key(id)
            && let Some(idlest) = self.idlest(at)
        {
            self.producers.remove(&idlest);
        }
    }
}

/// What the steps of one topic have told so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// The newest slot seen, void ones included.
    pub(super) last: u64,
    /// The newest step that holds everything.
    pub(super) whole_at: u64,
    /// Steps since then, and their bytes.
    pub(super) since: (u64, usize),
    pub(super) life: Option<Life>,
    /// The last stream of this name that ended.
    pub(super) ended: Option<u64>,
}

impl Told {
    /// One more slot; `None` if what is in it does not count.
    pub(super) fn take(&mut self, slot: u64, record: Option<&Record>) {
        let is_first = self.whole_at == 0;
        self.last = slot;
        let Some(record) = record else { return };
        let head = &record.head;
        let is_of_life = self.life.as_ref().is_some_and(|life| life.id == head.life);
        let begins = matches!(&head.step, Step::Whole(life) if life.begin + 1 == slot);
        if !(is_first || is_of_life || begins) {
            // Meant for a stream that was not there any more.
            return;
        }
        let is_whole = head.after.is_some() || matches!(head.step, Step::Whole(_) | Step::End);
        match (&head.step, &head.after) {
            (Step::End, _) => {
                self.life = None;
                self.ended = Some(head.life);
            }
            (Step::Whole(life), _) | (_, Some(life)) => self.life = Some(Life::clone(life)),
            (Step::Append(append), None) => {
                if let Some(life) = &mut self.life {
                    life.append(append, slot, head.bytes, !record.payload.is_empty(), record.at);
                }
            }
            (Step::Touch, None) => {
                if let Some(life) = &mut self.life {
                    life.touched_at = life.touched_at.max(record.at.0);
                }
            }
        }
        self.since = (self.since.0 + 1, self.since.1 + record.payload.len());
        if is_whole {
            self.whole_at = slot;
            self.since = (0, 0);
        }
    }
}

/// What a life is after an append.
pub(super) fn after_append(life: &Life, append: &Append, slot: u64, payload: usize, at: Timestamp) -> Life {
    let mut after = life.clone();
    let bytes = life.tail.bytes + payload as u64;
    after.append(append, slot, bytes, payload > 0, at);
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> Life {
        let start = StreamOffset { slot: 0, bytes: 0 };
        Life {
            id: 1,
            begin: 0,
            content_type: "text/plain".to_owned(),
            ttl_s: None,
            expires_at: None,
            forked_from: None,
            segments: Vec::new(),
            base: start,
            tail: start,
            closed: false,
            seq: None,
            touched_at: 0,
            producers: BTreeMap::new(),
            forks: Vec::new(),
            deleted: false,
        }
    }

    #[test]
    fn only_the_store_drops_what_time_ends_and_nobody_else_needs() {
        let second = |n: i64| Some(Timestamp(n * 1_000_000));
        let plain = life();
        assert_eq!((plain.deadline(), plain.keep_until()), (None, None));
        let short = Life { ttl_s: Some(10), ..life() };
        assert_eq!(short.deadline(), second(11));
        assert_eq!(short.keep_until(), second(11).map(|at| at.after(STREAM_GRACE)));
        let fork = ForkRef { name: "f".to_owned(), life: 2, at: 0 };
        let forked = Life { ttl_s: Some(10), forks: vec![fork], ..life() };
        assert_eq!(forked.keep_until(), Some(STREAM_KEPT_FOR_EVER));
        let again = Life { begin: 7, ..life() };
        assert_eq!(again.keep_until(), Some(STREAM_KEPT_FOR_EVER));
        let both = Life { ttl_s: Some(10), expires_at: Some(5_000_000), ..life() };
        assert_eq!(both.deadline(), second(5));
    }

    #[test]
    fn a_producer_is_forgotten_only_for_another_and_after_long_silence() {
        let mut life = life();
        let of = |seq| Append {
            producer: Some((format!("p{seq}"), Producer { epoch: 0, seq: 0, at: 0 })),
            ..Append::default()
        };
        for n in 0..STREAM_PRODUCERS_MAX {
            assert!(life.has_room(&format!("p{n}"), Timestamp(0)));
            life = after_append(&life, &of(n), 1, 0, Timestamp(i64::try_from(n).unwrap_or(0)));
        }
        assert!(life.has_room("p0", Timestamp(0)) && !life.has_room("new", Timestamp(0)));
        let late = Timestamp(0).after(STREAM_PRODUCER_IDLE);
        assert!(life.has_room("new", late));
        life = after_append(&life, &of(STREAM_PRODUCERS_MAX), 1, 0, late);
        assert_eq!(life.producers.len(), STREAM_PRODUCERS_MAX);
        assert!(!life.producers.contains_key("p0"));
    }
}
