//! Posting the end of a turn to a URL (clause C10). A callback is a message in
//! a queue of its own, stored in the very step that ends its turn. It points to
//! the turn's last word and does not copy it.

mod claim;
mod inspect;
mod mend;
mod ranges;
mod record;
mod settle;
mod url;

pub use claim::Callback;
pub use inspect::{CallbackAttempt, CallbackPage, CallbackPlace, CallbackStage, CallbackState, CallbackView};
pub use mend::{CallbackRedrive, DropCallback};
pub use settle::{CallbackAnswer, CallbackOutcome};
pub use url::{CallbackRules, CallbackTarget};

pub(crate) use claim::Hands;
pub(crate) use record::fuzzing;
pub(crate) use record::{CallbackNote, effect};

use turnwise_core::{Kind, Name, NameError, QueueName, TopicName};

/// The queue of all callbacks of an org.
pub(crate) fn callbacks_queue(org: &str) -> Result<QueueName, NameError> {
    Name::new(org, Kind::Callbacks, "callbacks")
}

/// What became of the callback whose turn's end is kept here.
pub(crate) fn history_of(reply: &TopicName) -> Result<TopicName, NameError> {
    Name::new(reply.org(), Kind::Callbacks, reply.name())
}
