//! The one list of error codes, each with its status, title and advice.
//! Names are on the wire: never reuse or rename one.

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The body is not JSON.
    NotJson,
    /// The request could not be understood.
    BadRequest,
    /// A key was put into the query string.
    KeyInQuery,
    /// No key was sent.
    MissingKey,
    /// The key is not known.
    InvalidKey,
    /// The ticket is unknown, for something else, or its time is over.
    InvalidTicket,
    /// The key is not for this organisation.
    OrgForbidden,
    /// The key is not for this agent.
    AgentForbidden,
    /// The key may not use this route.
    ScopeMissing,
    /// Without keys only this machine may ask, by a loopback name.
    HostForbidden,
    /// A web page from elsewhere asked.
    OriginForbidden,
    /// No such route or object.
    NotFound,
    /// The route has other methods.
    MethodNotAllowed,
    /// The request did not arrive in time.
    RequestTimeout,
    /// The turn has ended already.
    TurnOver,
    /// The turn has not failed, so there is nothing to redrive.
    NotFailed,
    /// The callback is being delivered.
    CallbackInProgress,
    /// The lease is over, or never was one of this queue.
    LeaseLost,
    /// The message is in somebody's hands.
    MessageLeased,
    /// A request between agents ended without an answer.
    RequestUnanswered,
    /// The stream is there and another one, or holds something else.
    StreamConflict,
    /// Nothing more is appended to the stream.
    StreamClosed,
    /// A writer's sequence has a hole, or goes back.
    SequenceConflict,
    /// Another producer took over.
    ProducerFenced,
    /// The stream, or the place in it, is no longer there.
    StreamGone,
    /// As many streams, forks or producers as may be.
    StreamLimit,
    /// The turn was cancelled while the request waited.
    Cancelled,
    /// The turn ran out of time, or is no longer kept.
    Expired,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The route is a WebSocket, and this was no handshake for one.
    UpgradeRequired,
    /// The request line is longer than allowed.
    UriTooLong,
    /// The headers are more or longer than allowed.
    HeadersTooLarge,
    /// Neither HTTP/1.1 nor HTTP/1.0.
    HttpVersionUnsupported,
    /// The body is not announced as JSON.
    UnsupportedMediaType,
    /// The content breaks a rule.
    InvalidContent,
    /// The server has nothing to sign callbacks with.
    CallbacksUnsupported,
    /// An idempotency key came again with other content.
    IdempotencyConflict,
    /// The conversation holds too many waiting turns.
    QueueDepthExceeded,
    /// The inbox of an agent is full.
    InboxFull,
    /// One key or conversation asks too often.
    RateLimited,
    /// A fault of this server.
    Internal,
    /// The store did not confirm in time.
    OutcomeUnknown,
    /// The agent refused the turn.
    AgentRejected,
    /// The agent failed or answered nonsense.
    AgentError,
    /// The agent could not be reached.
    AgentUnreachable,
    /// The agent did not answer in time.
    AgentTimeout,
    /// Another agent did not answer a request in time.
    ReplyTimeout,
    /// The agent asked to come back later, for too long.
    AgentBusy,
    /// The answer broke off after its first part.
    AnswerInterrupted,
    /// The turn was tried as often as allowed.
    AttemptsExhausted,
    /// The store does not answer.
    StoreUnavailable,
    /// The server is shutting down.
    Draining,
    /// Too much at once.
    Overloaded,
    /// A needed part is down.
    NotReady,
}

/// Everything that is fixed about one code.
struct Facts {
    name: &'static str,
    status: u16,
    title: &'static str,
    retryable: bool,
    retry_after: Option<u32>,
    hint: &'static str,
}

const fn facts(name: &'static str, status: u16, title: &'static str, hint: &'static str) -> Facts {
    Facts { name, status, title, retryable: false, retry_after: None, hint }
}

const fn again(mut facts: Facts, retry_after: Option<u32>) -> Facts {
    facts.retryable = true;
    facts.retry_after = retry_after;
    facts
}

impl Code {
    /// All of them.
    pub const ALL: [Code; 54] = [
        Code::NotJson,
        Code::BadRequest,
        Code::KeyInQuery,
        Code::MissingKey,
        Code::InvalidKey,
        Code::InvalidTicket,
        Code::OrgForbidden,
        Code::AgentForbidden,
        Code::ScopeMissing,
        Code::HostForbidden,
        Code::OriginForbidden,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::TurnOver,
        Code::CallbackInProgress,
        Code::LeaseLost,
        Code::MessageLeased,
        Code::RequestUnanswered,
        Code::StreamConflict,
        Code::StreamClosed,
        Code::SequenceConflict,
        Code::ProducerFenced,
        Code::StreamGone,
        Code::StreamLimit,
        Code::NotFailed,
        Code::Cancelled,
        Code::Expired,
        Code::BodyTooLarge,
        Code::UpgradeRequired,
        Code::UriTooLong,
        Code::HeadersTooLarge,
        Code::HttpVersionUnsupported,
        Code::UnsupportedMediaType,
        Code::InvalidContent,
        Code::CallbacksUnsupported,
        Code::IdempotencyConflict,
        Code::QueueDepthExceeded,
        Code::InboxFull,
        Code::RateLimited,
        Code::Internal,
        Code::OutcomeUnknown,
        Code::AgentRejected,
        Code::AgentError,
        Code::AgentUnreachable,
        Code::AgentTimeout,
        Code::ReplyTimeout,
        Code::AgentBusy,
        Code::AnswerInterrupted,
        Code::AttemptsExhausted,
        Code::StoreUnavailable,
        Code::Draining,
        Code::Overloaded,
        Code::NotReady,
    ];

    #[rustfmt::skip]
    const fn facts(self) -> Facts {
        match self {
            Code::NotJson => facts("not_json", 400, "The body is not JSON", "Send one JSON object in UTF-8."),
            Code::BadRequest => facts("bad_request", 400, "The request could not be understood", "Check the request line and the headers."),
            Code::KeyInQuery => facts("key_in_query", 400, "A key was sent in the query string", "Send it in the header X-API-Key; query strings end up in logs. Replace the key, it may have been recorded."),
            Code::MissingKey => facts("missing_key", 401, "No API key was sent", "Send the header X-API-Key, or Authorization: Bearer."),
            Code::InvalidKey => facts("invalid_key", 403, "The API key is not known", "Check the key; it is shown only once, when it is made."),
            Code::InvalidTicket => facts("invalid_ticket", 403, "The ticket is not good for this", "Ask POST /api/v1/tickets for another one and go on with Last-Event-ID; a ticket opens the one stream it was made for, for a short time."),
            Code::OrgForbidden => facts("org_forbidden", 403, "The API key is not for this organisation", "Use a key whose orgs list holds this org_id."),
            Code::AgentForbidden => facts("agent_forbidden", 403, "The API key is not for this agent", "Use a key whose agents list holds this agent id, or a pattern that matches it."),
            Code::ScopeMissing => facts("scope_missing", 403, "The API key may not use this route", "Use a key with the scope this route asks for."),
            Code::HostForbidden => facts("host_forbidden", 403, "Without API keys only loopback names are served", "Ask for http://127.0.0.1 or http://localhost, or configure an API key."),
            Code::OriginForbidden => facts("origin_forbidden", 403, "Web pages of this origin are not served", "Add the origin to cors.origins, or configure an API key."),
            Code::NotFound => facts("not_found", 404, "Not found", "Check the path and the ids; what belongs to others is not found either."),
            Code::MethodNotAllowed => facts("method_not_allowed", 405, "The route does not have this method", "The header Allow lists the methods."),
            Code::RequestTimeout => again(facts("request_timeout", 408, "The request did not arrive in time", "Send head and body without pauses."), None),
            Code::TurnOver => facts("turn_over", 409, "The turn has ended", "There is nothing left to cancel; read its outcome with GET."),
            Code::NotFailed => facts("not_failed", 409, "The turn has not failed", "Send a new message instead; a turn that expired unanswered is sent again as a new message, too."),
            Code::CallbackInProgress => facts("callback_in_progress", 409, "The callback is being delivered", "Ask for it again in a few seconds."),
            Code::LeaseLost => facts("lease_lost", 409, "The lease is over", "Stop working on the message: somebody else may have it. Settle or extend before lease_expires_at."),
            Code::MessageLeased => facts("message_leased", 409, "The message is in somebody's hands", "Ask again when its lease is over, or let its holder settle it as dead."),
            Code::RequestUnanswered => facts("request_unanswered", 409, "The request ended without an answer", "Its receipt says how; send it again when the agent is back."),
            Code::StreamConflict => facts("stream_conflict", 409, "The stream is another one", "Look at it with HEAD; use its content type, or another name."),
            Code::StreamClosed => facts("stream_closed", 409, "The stream is closed", "Read it to its end; what comes after it needs a stream of its own, or a fork of this one."),
            Code::SequenceConflict => facts("sequence_conflict", 409, "The sequence of the writer does not go on here", "Send what is missing first; the answer's headers tell what is expected."),
            Code::ProducerFenced => facts("producer_fenced", 403, "Another producer of this id has taken over", "Stop; or begin an epoch greater than the one in Producer-Epoch, with Producer-Seq 0."),
            Code::StreamGone => facts("stream_gone", 410, "The stream, or the place in it, is no longer there", "Read a stream that replaced another from the offset -1; use another name for a new one."),
            Code::StreamLimit => facts("stream_limit", 429, "As many as may be", "Delete streams that are not needed any more, or use fewer forks or producers."),
            Code::Cancelled => facts("cancelled", 409, "The turn was cancelled", "Send the message again if an answer is wanted after all."),
            Code::Expired => facts("expired", 410, "The turn is no longer there", "Send the message again with a new client_message_id."),
            Code::BodyTooLarge => facts("body_too_large", 413, "The body is too large", "Send a shorter message or recording."),
            Code::UpgradeRequired => facts("upgrade_required", 426, "The route is a WebSocket", "Connect with a WebSocket client (RFC 6455, version 13)."),
            Code::UriTooLong => facts("uri_too_long", 414, "The request line is too long", "Send long values in a body."),
            Code::HeadersTooLarge => facts("headers_too_large", 431, "The headers are too large", "Send fewer or shorter headers."),
            Code::HttpVersionUnsupported => facts("http_version_unsupported", 505, "This version of HTTP is not spoken here", "Use HTTP/1.1; a proxy in front may speak others."),
            Code::UnsupportedMediaType => facts("unsupported_media_type", 415, "The body is not announced as JSON", "Send the header Content-Type: application/json."),
            Code::InvalidContent => facts("invalid_content", 422, "The content breaks a rule", "Mend what errors[] names and send it again."),
            Code::CallbacksUnsupported => facts("callbacks_unsupported", 422, "Callbacks are not configured", "Set TURNWISE_CALLBACKS_SECRET on the server; or leave callback_url out, send Prefer: respond-async and read the answer from GET /api/v1/stream or GET /api/v1/message/{message_id}."),
            Code::IdempotencyConflict => facts("idempotency_conflict", 422, "The id was used with other content", "Use a new client_message_id, dedup_key or Idempotency-Key for a new message."),
            Code::QueueDepthExceeded => again(facts("queue_depth_exceeded", 429, "Too many messages wait already", "Wait until some are done; nothing was stored."), Some(5)),
            Code::InboxFull => again(facts("inbox_full", 429, "The inbox of the agent is full", "Nothing was stored; repeat once the agent has settled some of its messages."), Some(5)),
            Code::RateLimited => again(facts("rate_limited", 429, "Too many requests", "Nothing was stored; repeat after Retry-After seconds. The headers RateLimit and RateLimit-Policy tell how much is left."), Some(1)),
            Code::Internal => again(facts("internal", 500, "A fault of this server", "Repeat with the same client_message_id; if it stays, report the request id."), None),
            Code::OutcomeUnknown => again(facts("outcome_unknown", 500, "The store did not confirm in time", "It may be done: repeat a message with the same client_message_id, dedup_key or Idempotency-Key; a settlement may be repeated as it is."), None),
            Code::AgentRejected => facts("agent_rejected", 400, "The agent refused the message", "The status is the agent's own."),
            Code::AgentError => facts("agent_error", 502, "The agent failed", "Send the message again if an answer is still wanted."),
            Code::AgentUnreachable => facts("agent_unreachable", 503, "The agent could not be reached", "Send the message again once the agent is back; this turn has ended."),
            Code::AgentTimeout => facts("agent_timeout", 504, "The agent did not answer in time", "Send the message again, or raise WORKER_TIMEOUT."),
            Code::ReplyTimeout => facts("reply_timeout", 504, "There was no answer in time", "The request stays with its agent: an answer that comes later is an ordinary message in the inbox of who asked."),
            Code::AgentBusy => facts("agent_busy", 503, "The agent stayed busy", "Send the message again later; this turn has ended."),
            Code::AnswerInterrupted => facts("answer_interrupted", 502, "The answer broke off", "What came of it is kept; send the message again for a whole answer."),
            Code::AttemptsExhausted => facts("attempts_exhausted", 502, "The turn was tried as often as allowed", "Send the message again if an answer is still wanted."),
            Code::StoreUnavailable => again(facts("store_unavailable", 503, "The store does not answer", "Nothing was stored; repeat after Retry-After seconds."), Some(5)),
            Code::Draining => again(facts("draining", 503, "The server is shutting down", "Nothing was stored; repeat, another node or the restarted one answers."), Some(1)),
            Code::Overloaded => again(facts("overloaded", 503, "Too much at once", "Nothing was stored; repeat after Retry-After seconds."), Some(1)),
            Code::NotReady => again(facts("not_ready", 503, "A needed part is down", "The node recovers unaided once the part is back."), Some(5)),
        }
    }

    /// The code as it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// Its HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.facts().status
    }

    /// What it is, in a few words.
    #[must_use]
    pub const fn title(self) -> &'static str {
        self.facts().title
    }

    /// Whether the same request may succeed later.
    #[must_use]
    pub const fn retryable(self) -> bool {
        self.facts().retryable
    }

    /// Seconds to wait before a repeat, where that is known.
    #[must_use]
    pub const fn retry_after(self) -> Option<u32> {
        self.facts().retry_after
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        self.facts().hint
    }

    /// The code with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Code> {
        Code::ALL.into_iter().find(|code| code.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::Code;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_lead_back_to_their_code() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(Code::from_name(code.name()), Some(code));
            assert!((400..600).contains(&code.status()));
            assert!(!code.hint().is_empty());
        }
    }

    #[test]
    fn what_may_have_happened_has_no_retry_after() {
        assert_eq!(Code::OutcomeUnknown.retry_after(), None);
        assert_eq!(Code::AgentUnreachable.retry_after(), None);
        assert!(Code::StoreUnavailable.retry_after().is_some());
    }
}
