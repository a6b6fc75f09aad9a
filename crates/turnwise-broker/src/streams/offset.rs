//! A place in a stream as clients keep it.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Digits of each half, so that places compare as texts do.
const DIGITS: usize = 16;
/// More than there ever are.
const NUMBER_MAX: u64 = 9_999_999_999_999_999;

/// A place between two appends: whoever reads on from it misses nothing and sees nothing twice. As text, later
/// places are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamOffset {
    /// Steps before it.
    pub(super) slot: u64,
    /// Bytes before it.
    pub(super) bytes: u64,
}

impl fmt::Display for StreamOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let StreamOffset { slot, bytes } = self;
        write!(f, "{slot:0DIGITS$}_{bytes:0DIGITS$}")
    }
}

impl FromStr for StreamOffset {
    type Err = ();

    fn from_str(text: &str) -> Result<StreamOffset, ()> {
        let (slot, bytes) = text.split_once('_').ok_or(())?;
        let number = |text: &str| {
            let is_number = text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = if is_number { text.parse().map_err(|_| ()) } else { Err(()) };
            number.and_then(|number: u64| if number <= NUMBER_MAX { Ok(number) } else { Err(()) })
        };
        Ok(StreamOffset { slot: number(slot)?, bytes: number(bytes)? })
    }
}

impl Serialize for StreamOffset {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamOffset {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StreamOffset, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|()| D::Error::custom("no offset of a stream"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_compare_as_their_texts_do() {
        let places = [(0, 0), (1, 9), (2, 10), (10, 11), (11, 100), (NUMBER_MAX, NUMBER_MAX)];
        let texts = places.map(|(slot, bytes)| StreamOffset { slot, bytes }.to_string());
        assert!(texts.is_sorted());
        for (text, (slot, bytes)) in texts.iter().zip(places) {
            assert_eq!(text.parse(), Ok(StreamOffset { slot, bytes }));
        }
        for wrong in ["", "-1", "now", "1_1", "0000000000000001", "000000000000000+_0000000000000000"] {
            assert_eq!(wrong.parse::<StreamOffset>(), Err(()), "{wrong}");
        }
    }
}
