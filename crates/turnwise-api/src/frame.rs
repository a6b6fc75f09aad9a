//! The JSON in the frames of `/ws/connect`.

use crate::time::Rfc3339;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What a client sends. Which fields count depends on the type; unknown ones are passed over.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ClientFrame<'a> {
    /// What it asks for.
    #[serde(rename = "type", borrow, default)]
    pub kind: Option<Cow<'a, str>>,
    /// Comes back in the answer.
    #[serde(borrow, default)]
    pub id: Option<Cow<'a, str>>,
    /// Topics and patterns.
    #[serde(default)]
    pub topics: Option<Vec<String>>,
    /// One of them.
    #[serde(borrow, default)]
    pub topic: Option<Cow<'a, str>>,
    /// A place to go on from.
    #[serde(borrow, default)]
    pub after: Option<Cow<'a, str>>,
    /// What an event is.
    #[serde(borrow, default)]
    pub event_type: Option<Cow<'a, str>>,
    /// What it says.
    #[serde(borrow, default)]
    pub data: Option<&'a RawValue>,
    /// Makes a repeat harmless.
    #[serde(borrow, default)]
    pub dedup_key: Option<Cow<'a, str>>,
}

/// What is sent to a client.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ServerFrame<'a> {
    /// The first frame.
    Connected {
        /// Names the connection.
        connection_id: &'a str,
        /// By the server's clock.
        timestamp: Rfc3339,
    },
    /// Answers `subscribe` and `resume`; what follows is behind the place.
    Subscribed {
        /// As they were asked for.
        topics: &'a [String],
        /// Where the events begin that were asked for.
        place: &'a str,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// Answers `unsubscribe`; nothing of them follows.
    Unsubscribed {
        /// As they were given, or all.
        topics: Topics<'a>,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// Answers `publish`: the event is stored.
    Published {
        /// Its topic.
        topic: &'a str,
        /// Its place in the topic.
        position: &'a str,
        /// Live subscriptions of this node that get it.
        subscribers: u64,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// An event of a topic.
    Message {
        /// Its topic.
        topic: &'a str,
        /// Good for going on behind it, with any topics.
        place: &'a str,
        /// Its place in the topic.
        position: &'a str,
        /// What it is.
        event_type: &'a str,
        /// When it was stored.
        timestamp: Rfc3339,
        /// What it says, unless it is a CloudEvent.
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        /// The whole CloudEvent, if it was published as one.
        #[serde(skip_serializing_if = "Option::is_none")]
        cloudevent: Option<&'a RawValue>,
    },
    /// A message from an agent. One out of the queue is to be settled: it comes again until it is.
    #[serde(rename = "message")]
    AgentMessage {
        /// The message.
        data: AgentMessage<'a>,
        /// Whether it came out of the queue.
        queued: bool,
        /// Which delivery of it this is.
        #[serde(skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// When it comes again, unless it is settled; while the connection lives this is put off.
        #[serde(skip_serializing_if = "Option::is_none")]
        lease_expires_at: Option<Rfc3339>,
    },
    /// Answers `send` and `reply`: the message is stored where it is to be.
    Sent {
        /// Names it.
        message_id: &'a str,
        /// Whether it is a repeat.
        duplicate: bool,
        /// Agents it goes to.
        recipients: u64,
        /// Of them, those that are offline.
        queued: u64,
        /// Of them, those that cannot get it.
        bounced: u64,
        /// Where it is, if it goes to one agent.
        #[serde(skip_serializing_if = "Option::is_none")]
        state: Option<&'a str>,
        /// Since when that agent is offline.
        #[serde(skip_serializing_if = "Option::is_none")]
        offline_since: Option<Rfc3339>,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// Answers `broadcast`.
    Broadcast {
        /// The workspace.
        workspace_id: &'a str,
        /// Agents it really goes to.
        recipient_count: u64,
        /// Of them, those that are offline.
        queued: u64,
        /// Names the message.
        message_id: &'a str,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// Answers `ack`, `nack` and `reject`.
    Settled {
        /// The message.
        message_id: &'a str,
        /// `done`, or `lease_lost`: it was too late, and nothing was changed.
        status: &'a str,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// Answers `request`.
    Reply {
        /// The request.
        in_reply_to: &'a str,
        /// The answer.
        message_id: &'a str,
        /// Who answers.
        from_agent: &'a str,
        /// What is said.
        content: &'a RawValue,
        /// Carried along.
        #[serde(skip_serializing_if = "Option::is_none")]
        metadata: Option<&'a RawValue>,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// What became of a message that was sent, for one recipient; also unasked.
    Receipt {
        /// The message.
        message_id: &'a str,
        /// The recipient.
        agent_id: &'a str,
        /// Where it is.
        state: &'a str,
        /// Since when.
        at: Rfc3339,
        /// Since when the recipient is offline.
        #[serde(skip_serializing_if = "Option::is_none")]
        offline_since: Option<Rfc3339>,
        /// Why it was not done.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// Whether an agent is there; also unasked.
    Presence {
        /// The agent.
        agent_id: &'a str,
        /// Whether it is connected.
        online: bool,
        /// Since when.
        since: Option<Rfc3339>,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// Events that followed the last place are not kept any longer.
    Gap {
        /// It goes on behind this place.
        resume: &'a str,
    },
    /// To be answered, by anything.
    Ping {
        /// By the server's clock.
        timestamp: Rfc3339,
    },
    /// Answers `ping`.
    Pong {
        /// By the server's clock.
        timestamp: Rfc3339,
        /// Of the frame that asked.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
    /// A frame could not be followed; the connection goes on.
    Error {
        /// In words.
        message: &'a str,
        /// One of the list of codes.
        code: &'a str,
        /// Seconds after which it may be tried again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after: Option<u32>,
        /// Of the frame that it is about.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    },
}

/// Some topics, or all.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
pub enum Topics<'a> {
    /// These.
    Some(&'a [String]),
    /// The word for all.
    All(&'static str),
}

/// What an agent sends to others, or says of what it got. Which fields count depends on the type; unknown ones are
/// passed over.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct AgentFrame<'a> {
    /// To this agent.
    #[serde(borrow, default)]
    pub to_agent: Option<Cow<'a, str>>,
    /// Or to the agents that subscribe to this topic.
    #[serde(borrow, default)]
    pub to_topic: Option<Cow<'a, str>>,
    /// To the agents of this workspace; left out, of the connection's.
    #[serde(borrow, default)]
    pub workspace_id: Option<Cow<'a, str>>,
    /// What is said: any JSON.
    #[serde(borrow, default)]
    pub content: Option<&'a RawValue>,
    /// What it is for.
    #[serde(borrow, default)]
    pub message_type: Option<Cow<'a, str>>,
    /// 0 to 9, higher first.
    #[serde(default)]
    pub priority: Option<u8>,
    /// `pubsub`, `queue` or `both`.
    #[serde(borrow, default)]
    pub delivery_mode: Option<Cow<'a, str>>,
    /// How long it may wait.
    #[serde(default)]
    pub ttl_seconds: Option<f64>,
    /// Deliveries before it is a dead letter.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// Makes a repeat harmless.
    #[serde(borrow, default)]
    pub dedup_key: Option<Cow<'a, str>>,
    /// Carried along.
    #[serde(borrow, default)]
    pub correlation_id: Option<Cow<'a, str>>,
    /// Carried along: an object.
    #[serde(borrow, default)]
    pub metadata: Option<&'a RawValue>,
    /// An agent that is left out.
    #[serde(borrow, default)]
    pub exclude_agent: Option<Cow<'a, str>>,
    /// Agents that are left out.
    #[serde(default)]
    pub exclude_agents: Option<Vec<String>>,
    /// Whether the sender is left out, too; true if it is not said.
    #[serde(default)]
    pub exclude_sender: Option<bool>,
    /// The message it is about.
    #[serde(borrow, default)]
    pub message_id: Option<Cow<'a, str>>,
    /// Seconds until a message that is given back is delivered again.
    #[serde(default)]
    pub delay: Option<f64>,
    /// Why it was not done.
    #[serde(borrow, default)]
    pub reason: Option<Cow<'a, str>>,
    /// Seconds to wait for the answer to a request.
    #[serde(default)]
    pub timeout: Option<f64>,
    /// The agent that is asked about.
    #[serde(borrow, default)]
    pub agent_id: Option<Cow<'a, str>>,
}

/// A message from an agent.
#[derive(Clone, Debug, Serialize)]
pub struct AgentMessage<'a> {
    /// Its sender.
    pub from_agent: &'a str,
    /// Its recipient, if it is to one.
    pub to_agent: Option<&'a str>,
    /// The workspace it is to.
    pub workspace_id: Option<&'a str>,
    /// The topic it is to.
    pub topic: Option<&'a str>,
    /// What is said.
    pub content: &'a RawValue,
    /// What it is for.
    pub message_type: &'a str,
    /// Names it.
    pub message_id: &'a str,
    /// When it was sent, in seconds since 1970.
    pub timestamp: f64,
    /// Higher first.
    pub priority: u8,
    /// Carried along.
    pub metadata: &'a RawValue,
    /// How it was sent.
    pub delivery_mode: &'a str,
    /// Carried along.
    pub correlation_id: Option<&'a str>,
    /// The request it answers.
    pub in_reply_to: Option<&'a str>,
    /// From then on it is no longer delivered.
    pub expires_at: Option<Rfc3339>,
}
