//! The wire: JSON shapes and error codes of Turnwise. Knows no other crate of
//! the workspace; internal types never appear here.

pub mod agent;
pub mod bus;
pub mod callback;
pub mod code;
pub mod connection;
pub mod conversation;
pub mod frame;
pub mod health;
pub mod message;
pub mod problem;
pub mod queue;
pub mod shallow;
pub mod status;
pub mod text;
pub mod ticket;
pub mod time;
pub mod topic;

pub use agent::{ChatAnswer, ChatRequest};
pub use bus::{
    BusAgentAnswer, BusAgentList, BusBroadcastForm, BusDeliveryAnswer, BusDeliveryMode, BusInbox,
    BusMessageForm, BusMessageKind, BusMessageState, BusReceiptAnswer, BusRecipientAnswer, BusReplyAnswer,
    BusSentAnswer, BusSettleOutcome, BusSettledAnswer, BusSettledAnswers, BusSettledState, BusSettlementForm,
    BusSettlementsForm,
};
pub use callback::{
    CallbackAnswer, CallbackBody, CallbackList, CallbackPhase, CallbackStatus, RedriveAnswer, RedriveRequest,
    TurnCallback,
};
pub use code::Code;
pub use connection::{ConnectionAnswer, ConnectionList, ConnectionState, ConnectionStats};
pub use conversation::{
    QueueAnswer, QueueConversation, StreamError, TimelineStep, TurnAnswer, TurnFailure, TurnStep,
};
pub use frame::{AgentFrame, AgentMessage, ClientFrame, ServerFrame, Topics};
pub use health::{Health, HealthStatus, Readiness, StoreCheck};
pub use message::{
    ChatType, FIELDS_MAX, MessageAnswer, MessageFields, MessageRequest, MessageStatus, MessageType,
};
pub use problem::{FieldError, ItemError, Problem, ProblemForm};
pub use queue::{
    LeaseAnswer, LeaseAnswers, LeaseState, QueueClaimForm, QueueDeliveries, QueueDelivery, QueueDepth,
    QueueError, QueueExtensionForm, QueueExtensionsForm, QueueFilterForm, QueueList, QueueMessageAnswer,
    QueueMessageForm, QueueMessageInfo, QueueMessageList, QueueMessagesForm, QueueOutcome, QueuePolicy,
    QueuePurgeForm, QueueRates, QueueReceipt, QueueRedriveForm, QueueRedriven, QueueRemoved, QueueSent,
    QueueSentBatch, QueueSettlementForm, QueueSettlementsForm, QueueStage, QueueState, QueueTotals,
};
pub use shallow::Shallow;
pub use status::{NodeStatus, Part, StorePart, TailStep, TurnNumbers};
pub use text::{Field, Text};
pub use ticket::{TicketAnswer, TicketConnection, TicketRequest, TicketStream, TicketTopics};
pub use time::Rfc3339;
pub use topic::{
    EventBatch, EventRequest, PublishAnswer, PublishResult, PublishResults, RetentionAnswer,
    RetentionRequest, TopicAnswer, TopicEvent, TopicHistory, TopicList,
};
