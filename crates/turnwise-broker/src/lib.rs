//! Conversations on top of the storage contract: turns are queued, handed to
//! dispatch one at a time per conversation, and their answers are kept as
//! replayable events. Beside them, topics and work queues for everybody. The only crate that calls the storage traits.

mod broker;
mod bus;
mod callback;
mod cancel;
mod checks;
mod claim;
mod config;
mod confirm;
mod conversation;
mod counters;
mod counts;
mod duty;
mod error;
mod finish;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod lease;
mod limits;
mod local;
mod news;
mod orgs;
mod pages;
mod record;
mod recount;
mod redrive;
mod sizes;
mod status;
mod streams;
mod submit;
mod sweeper;
mod timeline;
mod topics;
mod turn;
mod wait;
mod work;

pub use broker::{Broker, Clock, Nonce};
pub use bus::{
    AgentHello, AgentLink, BusAgentView, BusAnswer, BusClaim, BusClosed, BusDelivery, BusEvent, BusMessage,
    BusMessageId, BusMessageType, BusMode, BusOutcome, BusPresence, BusReceipt, BusReceiptView, BusRecipient,
    BusRefused, BusReply, BusSend, BusSent, BusSettled, BusState, BusTo, LinkHandle, Sharing,
};
pub use callback::{
    Callback, CallbackAnswer, CallbackAttempt, CallbackOutcome, CallbackPage, CallbackPlace, CallbackRedrive,
    CallbackRules, CallbackStage, CallbackState, CallbackTarget, CallbackView, DropCallback,
};
pub use cancel::Cancel;
pub use checks::{CheckKind, CheckState, CheckView};
pub use config::BrokerConfig;
pub use conversation::Conversation;
pub use counts::Numbers;
pub use duty::Housekeeping;
pub use error::BrokerError;
pub use follow::{Follow, Followed, StreamPosition, TurnEvent};
pub use lease::{AgentEvent, Renewed, Turn, TurnOutcome};
pub use news::{News, Onlooker, Seen};
pub use orgs::OrgScope;
pub use redrive::Redriven;
pub use status::{ConversationView, QueueView, StoreHealth};
pub use streams::{
    StreamAppend, StreamAppended, StreamCreated, StreamDeleted, StreamFork, StreamFrom, StreamOffset,
    StreamPage, StreamProducer, StreamReader, StreamRefusal, StreamRequest, StreamView,
};
pub use submit::{Submission, Submitted};
pub use timeline::{Step, StepKind};
pub use topics::{
    EventBody, Publication, PublishedBatch, PublishedEvent, Retention, SubscribeFrom, Subscribed,
    Subscription, SubscriptionChanges, SubscriptionPlace, TopicEvent, TopicPage, TopicView,
};
pub use turn::{TurnEnd, TurnError, TurnState, TurnView};
pub use work::{
    WorkClaim, WorkDedup, WorkDelivery, WorkError, WorkExtended, WorkFilter, WorkFull, WorkMended,
    WorkMessage, WorkMessageView, WorkOutcome, WorkPolicy, WorkQueue, WorkQueueView, WorkRates, WorkReceipt,
    WorkRedrive, WorkSent, WorkSettled, WorkSettlement, WorkTime,
};
