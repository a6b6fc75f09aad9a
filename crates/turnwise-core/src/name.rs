//! Names of queues and topics: an organisation, a kind, and a name of its own.
//! Parts from outside are kept apart, never glued together.

use crate::limits::NAME_BYTES_MAX;
use std::fmt;
use std::sync::Arc;
use thiserror::Error;

/// What a queue or topic is for. Public routes reach only [`Kind::Public`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Named and used by clients. Numbers are on disk: never reuse or renumber.
    Public = 0,
    /// Chat turns waiting for the agent.
    Turns = 1,
    /// The answer of one turn.
    Reply = 2,
    /// Answers waiting to be posted to a callback URL.
    Callbacks = 3,
    /// Messages for one agent on the bus.
    Inbox = 4,
    /// The broker's own notes.
    Sys = 5,
    /// What the agents' bus keeps beside the inboxes.
    Bus = 6,
    /// A durable stream, under the name that clients gave it.
    Stream = 7,
}

impl Kind {
    /// The kind with this number on disk.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Kind> {
        [
            Kind::Public,
            Kind::Turns,
            Kind::Reply,
            Kind::Callbacks,
            Kind::Inbox,
            Kind::Sys,
            Kind::Bus,
            Kind::Stream,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == number)
    }
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("a name has at most {NAME_BYTES_MAX} bytes")]
    TooLong,
    /// Holds a control character.
    #[error("a name holds no control characters")]
    ControlCharacter,
}

/// (organisation, kind, name). Cheap to clone; ordered by its parts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<Parts>);

#[derive(PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Parts {
    org: Box<str>,
    kind: Kind,
    name: Box<str>,
}

impl Name {
    /// A name from its parts.
    ///
    /// # Errors
    /// When a part is too long or holds a control character.
    pub fn new(org: &str, kind: Kind, name: &str) -> Result<Name, NameError> {
        for part in [org, name] {
            if part.len() > NAME_BYTES_MAX {
                return Err(NameError::TooLong);
            }
            if part.chars().any(char::is_control) {
                return Err(NameError::ControlCharacter);
            }
        }
        Ok(Name(Arc::new(Parts { org: org.into(), kind, name: name.into() })))
    }

    /// The organisation; empty for the broker's own.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.0.org
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.kind
    }

    /// The name inside organisation and kind.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}/{:?}", self.org(), self.kind(), self.name())
    }
}

/// The name of a queue.
pub type QueueName = Name;
/// The name of a topic.
pub type TopicName = Name;
