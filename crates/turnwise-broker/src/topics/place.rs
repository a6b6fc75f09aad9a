//! Where a reader of several topics is: good for going on there, with the
//! same topics or with others of the organisation.

use std::fmt;
use std::str::FromStr;
use turnwise_core::{Epoch, Offset, StorePosition};

/// Everything below step `seq` of all topics was seen, and of the events of
/// that step those up to `offset` of one topic, and topics whose hash is lower:
/// events of one step are shown in this order. Written
/// `<epoch>-<seq>-<topic>-<offset>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionPlace {
    pub(super) epoch: Epoch,
    pub(super) seq: u64,
    topic: u32,
    pub(super) offset: Offset,
}

impl SubscriptionPlace {
    /// Behind an event of this topic.
    pub(super) fn of(epoch: Epoch, seq: u64, topic: &str, offset: Offset) -> SubscriptionPlace {
        SubscriptionPlace { epoch, seq, topic: hash(topic), offset }
    }

    /// Before the event that it is behind.
    pub(super) fn before(self) -> SubscriptionPlace {
        SubscriptionPlace { offset: Offset(self.offset.0.saturating_sub(1)), ..self }
    }

    /// Behind everything up to there.
    pub(super) fn behind(position: StorePosition) -> SubscriptionPlace {
        SubscriptionPlace {
            epoch: position.epoch,
            seq: position.seq.saturating_add(1),
            topic: 0,
            offset: Offset(0),
        }
    }

    /// Before the oldest event that is kept.
    pub(super) fn earliest(epoch: Epoch) -> SubscriptionPlace {
        SubscriptionPlace::behind(StorePosition { epoch, seq: 0 })
    }

    /// Whether this topic's events below that offset were seen, as far as the place tells: it knows one topic.
    pub(super) fn has_seen_up_to(self, topic: &str, offset: Offset) -> bool {
        self.topic == hash(topic) && self.offset.0.saturating_add(1) >= offset.0
    }

    /// Where the store reads on. Of the first step some may have been seen.
    pub(super) fn read_after(self) -> StorePosition {
        StorePosition { epoch: self.epoch, seq: self.seq.saturating_sub(1) }
    }
}

/// FNV-1a over the name. Part of places that clients keep: never change it.
fn hash(topic: &str) -> u32 {
    topic.bytes().fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl fmt::Display for SubscriptionPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}-{}", self.epoch.0, self.seq, self.topic, self.offset.0)
    }
}

impl FromStr for SubscriptionPlace {
    type Err = ();

    fn from_str(text: &str) -> Result<SubscriptionPlace, ()> {
        let mut parts = text.split('-').map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { part.parse::<u64>().map_err(|_| ()) } else { Err(()) }
        });
        let mut number = || parts.next().ok_or(())?;
        let (epoch, seq, topic, offset) = (Epoch(number()?), number()?, number()?, Offset(number()?));
        let topic = u32::try_from(topic).map_err(|_| ())?;
        let place = SubscriptionPlace { epoch, seq, topic, offset };
        if parts.next().is_some() { Err(()) } else { Ok(place) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64, topic: &str, offset: u64) -> SubscriptionPlace {
        SubscriptionPlace::of(Epoch(7), seq, topic, Offset(offset))
    }

    #[test]
    fn a_place_reads_back_as_written_and_nothing_else_does() {
        let place = at(42, "a", 3);
        assert_eq!(place.to_string(), "7-42-3826002220-3");
        assert_eq!(place.to_string().parse(), Ok(place));
        let wrong = ["", "1", "1-2-3", "1-2-3-4-5", "1-2-3-", "1-2-3-+3", "a-2-3-4", "1-2-4294967296-4"];
        for wrong in wrong.into_iter().chain(["1-2-3-99999999999999999999"]) {
            assert_eq!(wrong.parse::<SubscriptionPlace>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn places_are_in_the_order_in_which_events_are_shown() {
        let place = at(5, "t", 3);
        assert!(at(4, "z", 90) < place && place < at(5, "t", 4) && place < at(6, "a", 1));
        let (one, other) = (at(5, "a", 9), at(5, "b", 1));
        assert!(one != other && (one < other) == (hash("a") < hash("b")));
        assert_eq!((place.read_after().seq, place.before()), (4, at(5, "t", 2)));
        let behind = SubscriptionPlace::behind(StorePosition { epoch: Epoch(7), seq: 5 });
        assert!(at(5, "z", u64::MAX) < behind && behind < at(6, "a", 1));
        assert_eq!(behind.read_after().seq, 5);
    }
}
