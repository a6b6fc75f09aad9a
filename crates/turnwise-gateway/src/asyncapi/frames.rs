//! The frames of `/ws/connect`, each with its fields.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    Texts,
    /// Texts, or one word for all of them.
    TextsOrAll,
    /// Any JSON.
    Any,
    Object,
    Whole,
    Number,
    Flag,
    Time,
    /// An agent's message.
    AgentMessage,
}

/// One field of a frame.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) form: Form,
    pub(super) is_required: bool,
    pub(super) about: &'static str,
}

/// One frame beside its `type`.
pub(super) struct Frame {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) fields: &'static [Field],
    /// Frames of the server that answer it; `error` always may.
    pub(super) answers: &'static [&'static str],
}

const fn must(name: &'static str, form: Form, about: &'static str) -> Field {
    Field { name, form, is_required: true, about }
}

const fn may(name: &'static str, form: Form, about: &'static str) -> Field {
    Field { name, form, is_required: false, about }
}

const ID: Field = may("id", Form::Text, "Comes back in the answer.");
const OF_ID: Field = may("id", Form::Text, "Of the frame that is answered.");
const MODE: Field = may(
    "delivery_mode",
    Form::Text,
    "pubsub: only to who is online; queue: into inboxes; both: each in its way.",
);
const CONTENT: Field = must("content", Form::Any, "What is said.");
const PRIORITY: Field = may("priority", Form::Whole, "0 to 9, higher first.");
const TTL: Field = may("ttl_seconds", Form::Number, "How long it may wait.");
const ATTEMPTS: Field = may("max_attempts", Form::Whole, "Deliveries before it is a dead letter.");
const DEDUP: Field = may("dedup_key", Form::Text, "Makes a repeat harmless.");
const CORRELATION: Field = may("correlation_id", Form::Text, "Carried along.");
const METADATA: Field = may("metadata", Form::Object, "Carried along.");
const KIND: Field = may("message_type", Form::Text, "request, response, notification or command.");
const MESSAGE_ID: Field = must("message_id", Form::Text, "The message it is about.");
const EXCLUDED: Field = may("exclude_agents", Form::Texts, "Agents that are left out.");
const EXCLUDED_ONE: Field = may("exclude_agent", Form::Text, "An agent that is left out.");
const EXCLUDED_SENDER: Field =
    may("exclude_sender", Form::Flag, "Whether the sender is left out, too; true if it is not said.");

/// What a client may send.
pub(super) const OF_CLIENTS: &[Frame] = &[
    Frame {
        name: "subscribe",
        about: "Follow topics and patterns; a trailing * stands for all that follows. Of several that match an event \
                it comes once.",
        fields: &[
            must("topics", Form::Texts, "Topics and patterns."),
            may("after", Form::Text, "A place to go on from; from now on if it is left out."),
            ID,
        ],
        answers: &["subscribed"],
    },
    Frame {
        name: "resume",
        about: "Follow one topic or pattern from a place.",
        fields: &[
            must("topic", Form::Text, "A topic or pattern."),
            must("after", Form::Text, "The place of the last event that was seen."),
            ID,
        ],
        answers: &["subscribed"],
    },
    Frame {
        name: "unsubscribe",
        about: "Follow them no longer; other connections do not notice.",
        fields: &[may("topics", Form::Texts, "As they were subscribed to; all if it is left out."), ID],
        answers: &["unsubscribed"],
    },
    Frame {
        name: "publish",
        about: "Store an event in a topic.",
        fields: &[
            must("topic", Form::Text, "Where."),
            must("event_type", Form::Text, "What it is."),
            may("data", Form::Any, "What it says."),
            DEDUP,
            ID,
        ],
        answers: &["published"],
    },
    Frame {
        name: "send",
        about: "Send a message to an agent, or to the agents that follow a topic.",
        fields: &[
            may("to_agent", Form::Text, "To this agent."),
            may("to_topic", Form::Text, "Or to those that follow this topic."),
            CONTENT,
            KIND,
            PRIORITY,
            MODE,
            TTL,
            ATTEMPTS,
            DEDUP,
            CORRELATION,
            METADATA,
            EXCLUDED_ONE,
            EXCLUDED,
            EXCLUDED_SENDER,
            ID,
        ],
        answers: &["sent"],
    },
    Frame {
        name: "broadcast",
        about: "Send a message to the agents of a workspace.",
        fields: &[
            may("workspace_id", Form::Text, "The connection's if it is left out."),
            CONTENT,
            KIND,
            PRIORITY,
            MODE,
            TTL,
            ATTEMPTS,
            DEDUP,
            CORRELATION,
            METADATA,
            EXCLUDED_ONE,
            EXCLUDED,
            EXCLUDED_SENDER,
            ID,
        ],
        answers: &["broadcast"],
    },
    Frame {
        name: "request",
        about: "Send a message to an agent and wait for its reply.",
        fields: &[
            must("to_agent", Form::Text, "Who is asked."),
            CONTENT,
            may("timeout", Form::Number, "Seconds to wait for the reply; 30 if it is left out."),
            KIND,
            PRIORITY,
            MODE,
            TTL,
            ATTEMPTS,
            DEDUP,
            CORRELATION,
            METADATA,
            ID,
        ],
        answers: &["reply"],
    },
    Frame {
        name: "reply",
        about: "Answer a request.",
        fields: &[MESSAGE_ID, CONTENT, PRIORITY, TTL, ATTEMPTS, DEDUP, CORRELATION, METADATA, ID],
        answers: &["sent"],
    },
    Frame {
        name: "ack",
        about: "The message is done: it never comes again.",
        fields: &[MESSAGE_ID, ID],
        answers: &["settled"],
    },
    Frame {
        name: "nack",
        about: "Not now: it comes again.",
        fields: &[
            MESSAGE_ID,
            may("delay", Form::Number, "Seconds until then."),
            may("reason", Form::Text, "Kept with the message."),
            ID,
        ],
        answers: &["settled"],
    },
    Frame {
        name: "reject",
        about: "Given up on: it becomes a dead letter.",
        fields: &[MESSAGE_ID, may("reason", Form::Text, "Kept with the message."), ID],
        answers: &["settled"],
    },
    Frame {
        name: "receipt",
        about: "Ask what became of a message.",
        fields: &[MESSAGE_ID, ID],
        answers: &["receipt"],
    },
    Frame {
        name: "presence",
        about: "Ask whether an agent is there.",
        fields: &[must("agent_id", Form::Text, "The agent."), ID],
        answers: &["presence"],
    },
    Frame { name: "ping", about: "Is anybody there?", fields: &[ID], answers: &["pong"] },
    Frame { name: "pong", about: "Answers the server's ping.", fields: &[ID], answers: &[] },
];

/// Its type is that of a topic's event: what it holds tells them apart.
pub(super) const AGENT: &str = "agent_message";

/// What the server sends.
pub(super) const OF_SERVER: &[Frame] = &[
    Frame {
        name: "connected",
        about: "The first frame.",
        fields: &[
            must("connection_id", Form::Text, "Names the connection."),
            must("timestamp", Form::Time, "By the server's clock."),
        ],
        answers: &[],
    },
    Frame {
        name: "subscribed",
        about: "Answers subscribe and resume: what follows is behind the place.",
        fields: &[
            must("topics", Form::Texts, "As they were asked for."),
            must("place", Form::Text, "Good for going on behind it."),
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "unsubscribed",
        about: "Answers unsubscribe: nothing of them follows.",
        fields: &[must("topics", Form::TextsOrAll, "As they were given, or all."), OF_ID],
        answers: &[],
    },
    Frame {
        name: "published",
        about: "The event is stored.",
        fields: &[
            must("topic", Form::Text, "Its topic."),
            must("position", Form::Text, "Its place in the topic."),
            must("subscribers", Form::Whole, "Live subscriptions of this node that get it."),
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "message",
        about: "An event of a topic.",
        fields: &[
            must("topic", Form::Text, "Its topic."),
            must("place", Form::Text, "Good for going on behind it, with any topics."),
            must("position", Form::Text, "Its place in the topic."),
            must("event_type", Form::Text, "What it is."),
            must("timestamp", Form::Time, "When it was stored."),
            may("data", Form::Any, "What it says, unless it is a CloudEvent."),
            may("cloudevent", Form::Any, "The whole CloudEvent, if it was published as one."),
        ],
        answers: &[],
    },
    Frame {
        name: AGENT,
        about: "A message from an agent. One that came out of the queue is to be settled: it comes again until it is.",
        fields: &[
            must("data", Form::AgentMessage, "The message."),
            must("queued", Form::Flag, "Whether the message came out of the queue."),
            may("attempt", Form::Whole, "Which delivery of it this is."),
            may("lease_expires_at", Form::Time, "When it comes again, unless it is settled."),
        ],
        answers: &[],
    },
    Frame {
        name: "sent",
        about: "The message is stored where it is to be.",
        fields: &[
            must("message_id", Form::Text, "Names it."),
            must("duplicate", Form::Flag, "Whether it is a repeat."),
            must("recipients", Form::Whole, "Agents it goes to."),
            must("queued", Form::Whole, "Of them, those that are offline."),
            must("bounced", Form::Whole, "Of them, those that cannot get it."),
            may("state", Form::Text, "Where it is, if it goes to one agent."),
            may("offline_since", Form::Time, "Since when that agent is offline."),
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "broadcast",
        about: "Answers broadcast.",
        fields: &[
            must("workspace_id", Form::Text, "The workspace."),
            must("recipient_count", Form::Whole, "Agents it really goes to."),
            must("queued", Form::Whole, "Of them, those that are offline."),
            must("message_id", Form::Text, "Names the message."),
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "settled",
        about: "Answers ack, nack and reject.",
        fields: &[
            MESSAGE_ID,
            must("status", Form::Text, "done; or lease_lost: it was too late, and nothing was changed."),
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "reply",
        about: "Answers request.",
        fields: &[
            must("in_reply_to", Form::Text, "The request."),
            must("message_id", Form::Text, "The reply."),
            must("from_agent", Form::Text, "Who answers."),
            CONTENT,
            METADATA,
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "receipt",
        about: "What became of a message that was sent, for one recipient; also unasked.",
        fields: &[
            MESSAGE_ID,
            must("agent_id", Form::Text, "The recipient."),
            must("state", Form::Text, "pending, delivered, queued, acked, failed, expired or bounced."),
            must("at", Form::Time, "Since when."),
            may("offline_since", Form::Time, "Since when the recipient is offline."),
            may("reason", Form::Text, "Why it was not done."),
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "presence",
        about: "Whether an agent is there; also unasked.",
        fields: &[
            must("agent_id", Form::Text, "The agent."),
            must("online", Form::Flag, "Whether it is connected."),
            may("since", Form::Time, "Since when."),
            OF_ID,
        ],
        answers: &[],
    },
    Frame {
        name: "gap",
        about: "Events that followed the last place are not kept any longer.",
        fields: &[must("resume", Form::Text, "It goes on behind this place.")],
        answers: &[],
    },
    Frame {
        name: "ping",
        about: "To be answered, by anything, within a minute.",
        fields: &[must("timestamp", Form::Time, "By the server's clock.")],
        answers: &[],
    },
    Frame {
        name: "pong",
        about: "Answers ping.",
        fields: &[must("timestamp", Form::Time, "By the server's clock."), OF_ID],
        answers: &[],
    },
    Frame {
        name: "error",
        about: "A frame could not be followed; the connection goes on.",
        fields: &[
            must("message", Form::Text, "In words."),
            must("code", Form::Text, "One of the codes of the API's errors."),
            may("retry_after", Form::Whole, "Seconds after which it may be tried again."),
            OF_ID,
        ],
        answers: &[],
    },
];

/// What an agent's message holds.
pub(super) const AGENT_MESSAGE: &[Field] = &[
    must("from_agent", Form::Text, "Its sender."),
    must("to_agent", Form::Text, "Its recipient, if it is to one."),
    must("workspace_id", Form::Text, "The workspace it is to."),
    must("topic", Form::Text, "The topic it is to."),
    CONTENT,
    must("message_type", Form::Text, "request, response, notification or command."),
    must("message_id", Form::Text, "Names it."),
    must("timestamp", Form::Number, "When it was sent, in seconds since 1970."),
    must("priority", Form::Whole, "Higher first."),
    must("metadata", Form::Object, "Carried along."),
    must("delivery_mode", Form::Text, "How it was sent."),
    must("correlation_id", Form::Text, "Carried along."),
    must("in_reply_to", Form::Text, "The request it answers."),
    must("expires_at", Form::Time, "From then on it is no longer delivered."),
];
