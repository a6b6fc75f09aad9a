//! The words, the storage traits and the queue rules of Turnwise.
//!
//! Nothing here does I/O, reads a clock or draws a random number: time and
//! nonces are passed in, bodies are read through a trait.

pub mod error;
pub mod lease;
pub mod limits;
pub mod machine;
pub mod message;
pub mod name;
pub mod store;
pub mod surround;
pub mod time;
pub mod topic;

pub use error::{ItemResult, Result, StoreError};
pub use lease::{Claim, Delivery, Extended, LeaseToken, Outcome, Receipt, Settled, Settlement};
pub use message::{
    Dedup, ENDED_HEADER, Effect, Enqueued, Headers, MessageId, MessageInfo, NewMessage, OrderingKey,
    Priority, Stage,
};
pub use name::{Kind, Name, NameError, QueueName, TopicName};
pub use store::{Depth, LaneStatus, QueueStore, Removed, StopRequested, Store, TopicStore};
pub use surround::{Operation, Surround};
pub use time::Timestamp;
pub use topic::{
    Epoch, Event, NewEvent, Offset, Position, Read, ReadFrom, ReadMany, StorePosition, TopicFilter,
    TopicInfo, TopicPattern,
};
