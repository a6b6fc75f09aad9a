//! Spans: pieces of work that are over, for whoever follows traces. Says where each belongs and how long it took;
//! who collects them is somebody else's.

use std::borrow::Cow;
use std::time::Duration;

/// A place in a trace, as in W3C Trace Context, version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The trace.
    pub trace: u128,
    /// The span in it.
    pub span: u64,
    /// Its flags.
    pub flags: u8,
}

impl Place {
    /// Somebody earlier decided that this trace is kept.
    pub const SAMPLED: u8 = 1;

    /// What a `traceparent` says, if it is one.
    #[must_use]
    pub fn of_header(value: &str) -> Option<Place> {
        let hex = |part: &str, digits: usize| {
            part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let mut parts = value.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let ok =
            version == "00" && hex(trace, 32) && hex(span, 16) && hex(flags, 2) && parts.next().is_none();
        let place = Place {
            trace: u128::from_str_radix(trace, 16).ok()?,
            span: u64::from_str_radix(span, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (ok && place.trace != 0 && place.span != 0).then_some(place)
    }

    /// The `traceparent` of what is called from here.
    #[must_use]
    pub fn header(self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// On which side of a call the work was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// On none.
    Internal,
    /// It was asked for.
    Server,
    /// It asked somebody else.
    Client,
}

/// What an attribute holds: words of the program, ids it gave out, numbers. Nothing that people said or are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A word or an id.
    Word(Cow<'static, str>),
    /// A number.
    Number(i64),
}

/// A piece of work that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub name: Cow<'static, str>,
    /// On which side.
    pub kind: SpanKind,
    /// Where it belongs.
    pub place: Place,
    /// The span it is part of.
    pub parent: Option<u64>,
    /// How long it took.
    pub took: Duration,
    /// How long it has been over.
    pub ended_ago: Duration,
    /// It failed.
    pub failed: bool,
    /// What else is known of it.
    pub attributes: Vec<(&'static str, SpanValue)>,
}

/// Who is told of spans. Neither call waits for anything.
pub trait Spans: Send + Sync {
    /// A place for work that is part of `parent`, or begins a trace.
    fn below(&self, parent: Option<Place>) -> Place;
    /// Takes a span, or drops it when there is no room.
    fn ended(&self, span: Span);
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_header_is_read_and_written_the_same() {
        const HEADER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(Place::of_header(HEADER).map(Place::header).as_deref(), Some(HEADER));
        for wrong in [
            "",
            "4bf92f3577b34da6a3ce929d0e0e4736",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-+0f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(Place::of_header(wrong), None, "{wrong}");
        }
    }
}
