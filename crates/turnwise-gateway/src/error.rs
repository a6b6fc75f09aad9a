//! The one place that maps what went wrong to a status, a code and a body.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use std::borrow::Cow;
use turnwise_api::problem::PROBLEM_JSON;
use turnwise_api::{Code, FieldError, Problem};
use turnwise_broker::{BrokerError, BusRefused, TurnError, WorkFull};
use turnwise_core::{MessageId, StoreError};

/// A backlog that is full does not empty within a second.
const TURNS_FULL_RETRY_SECONDS: u32 = 5;

/// A request that ends in a problem.
#[derive(Debug)]
pub(crate) struct Failure {
    problem: Box<Problem>,
    /// What else comes is the rest of something nobody waits for.
    is_last: bool,
}

impl Failure {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Failure {
        Failure::of(Problem::new(code, detail))
    }

    fn of(problem: Problem) -> Failure {
        Failure { problem: Box::new(problem), is_last: false }
    }

    /// It ends the connection: the request was not read to its end.
    pub(crate) fn last(mut self) -> Failure {
        self.is_last = true;
        self
    }

    /// The content breaks these rules; there is at least one.
    pub(crate) fn invalid(code: Code, errors: Vec<FieldError>) -> Failure {
        let detail = errors.iter().map(|e| format!("{}: {}", e.pointer, e.detail)).collect::<Vec<_>>();
        let mut problem = Problem::new(code, detail.join("; "));
        problem.errors = errors;
        Failure::of(problem)
    }

    /// The content breaks one rule, here.
    pub(crate) fn invalid_at(
        pointer: impl Into<Cow<'static, str>>,
        detail: impl Into<Cow<'static, str>>,
    ) -> Failure {
        let error = FieldError { pointer: pointer.into(), detail: detail.into() };
        Failure::invalid(Code::InvalidContent, vec![error])
    }

    /// No such object, or somebody else's.
    pub(crate) fn not_found() -> Failure {
        Failure::new(Code::NotFound, "Not Found")
    }

    /// A turn that ended without an answer, for a request that waited for it.
    pub(crate) fn from_turn(id: MessageId, error: &TurnError) -> Failure {
        let code = Code::from_name(&error.code).unwrap_or(Code::AgentError);
        let mut problem = Problem::new(code, error.detail.clone());
        if (400..600).contains(&error.status) {
            problem.status = error.status;
        }
        Failure::of(problem).about(id)
    }

    /// When the same request may succeed.
    pub(crate) fn retry_after(mut self, seconds: u32) -> Failure {
        self.problem.retry_after = Some(seconds);
        self
    }

    /// Names the turn it is about.
    pub(crate) fn about(mut self, id: MessageId) -> Failure {
        self.problem.message_id = Some(id.to_string());
        self
    }

    /// The same for one item of a batch.
    pub(crate) fn into_item(self) -> (Code, Cow<'static, str>) {
        (self.problem.code, self.problem.detail)
    }

    /// What a frame says of it: its code, in words, and the seconds after which it may be tried again.
    pub(crate) fn told(&self) -> (Code, &str, Option<u32>) {
        (self.problem.code, &self.problem.detail, self.problem.retry_after)
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.problem.code
    }

    /// Its status and how many errors it names.
    pub(crate) fn facts(&self) -> (u16, usize) {
        (self.problem.status, self.problem.errors.len())
    }

    #[cfg(test)]
    pub(crate) fn errors(&self) -> &[FieldError] {
        &self.problem.errors
    }
}

/// The body is added by [`render`] once the request's id is known.
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if self.problem.code == Code::MissingKey {
            let schemes = HeaderValue::from_static("ApiKey header=\"X-API-Key\", Bearer");
            response.headers_mut().insert(WWW_AUTHENTICATE, schemes);
        }
        if self.is_last {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let Some(seconds) = self.problem.retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.extensions_mut().insert(Pending(self.problem));
        response
    }
}

#[derive(Clone)]
struct Pending(Box<Problem>);

/// What a client was told went wrong.
pub(crate) struct Told {
    pub(crate) code: Code,
    pub(crate) message_id: Option<String>,
}

/// Writes the body of a [`Failure`]'s response and answers what it says; others pass unchanged.
pub(crate) fn render(response: &mut Response, request_id: &HeaderValue) -> Option<Told> {
    let Pending(mut problem) = response.extensions_mut().remove::<Pending>()?;
    problem.request_id = request_id.to_str().ok().map(str::to_owned);
    let body = serde_json::to_vec(&problem).expect("a problem holds only strings and numbers");
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    *response.body_mut() = Body::from(body);
    Some(Told { code: problem.code, message_id: problem.message_id })
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        match error {
            StoreError::Unavailable(why) => {
                tracing::warn!(%why, "the store is unavailable");
                Failure::new(Code::StoreUnavailable, "Queue service unavailable")
            }
            StoreError::Unknown(why) => {
                tracing::warn!(%why, "the store did not confirm");
                Failure::new(
                    Code::OutcomeUnknown,
                    "The store did not confirm in time; the message may be stored",
                )
            }
            StoreError::Invalid(why) => Failure::new(Code::InvalidContent, why),
            StoreError::Corrupt(why) => {
                tracing::error!(%why, "the stored data is damaged");
                Failure::new(Code::StoreUnavailable, "Queue service unavailable")
            }
        }
    }
}

impl From<BrokerError> for Failure {
    fn from(error: BrokerError) -> Failure {
        match error {
            BrokerError::Store(error) => error.into(),
            BrokerError::LaneFull { depth_max } => Failure::new(
                Code::QueueDepthExceeded,
                format!("The conversation already holds {depth_max} waiting messages"),
            ),
            BrokerError::TurnsFull { turns_waiting_max } => Failure::new(
                Code::Overloaded,
                format!(
                    "{turns_waiting_max} messages wait already and no more are taken; nothing was stored"
                ),
            )
            .retry_after(TURNS_FULL_RETRY_SECONDS),
            BrokerError::OrgTurnsFull { org_turns_waiting_max } => Failure::new(
                Code::QueueDepthExceeded,
                format!(
                    "The organisation already holds {org_turns_waiting_max} waiting messages; nothing was stored"
                ),
            )
            .retry_after(TURNS_FULL_RETRY_SECONDS),
            BrokerError::CallbacksFull { callbacks_kept_max } => Failure::new(
                Code::Overloaded,
                format!(
                    "{callbacks_kept_max} callbacks wait already; without `callback_url` the message is taken; nothing was stored"
                ),
            )
            .retry_after(TURNS_FULL_RETRY_SECONDS),
            BrokerError::WorkFull(full) => full.into(),
            BrokerError::Bus(refused) => refused.into(),
            BrokerError::OrgsFull { orgs_max } => Failure::invalid_at(
                "/org_id",
                format!("must name an organisation that is known: {orgs_max} are, and no more are taken"),
            ),
            BrokerError::TooManyOrgs { orgs_asked_max } => Failure::invalid_at(
                "?org_id",
                format!("is required when there are more than {orgs_asked_max} organisations"),
            ),
            BrokerError::DedupConflict(id) => Failure::new(
                Code::IdempotencyConflict,
                "This client_message_id was used before with other content",
            )
            .about(id),
            BrokerError::LeaseLost => Failure::new(Code::Internal, "An unexpected answer from the broker"),
            BrokerError::Gone => Failure::new(Code::Expired, "The turn is no longer kept"),
        }
    }
}

impl From<BusRefused> for Failure {
    fn from(refused: BusRefused) -> Failure {
        match refused {
            BusRefused::AgentsFull { agents_max } => Failure::new(
                Code::QueueDepthExceeded,
                format!(
                    "The organisation has {agents_max} agents and no further one is taken; nothing was stored"
                ),
            )
            .retry_after(TURNS_FULL_RETRY_SECONDS),
            BusRefused::LinksFull { links_max } => Failure::new(
                Code::RateLimited,
                format!("{links_max} connections are open and no more are taken"),
            ),
            BusRefused::TopicsFull { topics_max } => Failure::invalid_at(
                "/topics",
                format!("must come to at most {topics_max} for one connection"),
            ),
            BusRefused::InboxFull { messages_max } => Failure::new(
                Code::InboxFull,
                format!("The inbox holds {messages_max} messages and no more are taken; nothing was stored"),
            ),
            BusRefused::DedupConflict(_) => {
                Failure::new(Code::IdempotencyConflict, "This dedup_key was used before with other content")
            }
            BusRefused::RequestUnknown => Failure::invalid_at(
                "/in_reply_to",
                "must be the id of a request to this agent that is still kept".to_owned(),
            ),
            BusRefused::Unanswered(state) => Failure::new(
                Code::RequestUnanswered,
                format!("The request ended without an answer: it is {}", state.name()),
            ),
            BusRefused::TimedOut(id) => {
                Failure::new(Code::ReplyTimeout, format!("There was no answer to the request {id} in time"))
            }
        }
    }
}

impl From<WorkFull> for Failure {
    fn from(full: WorkFull) -> Failure {
        let failure = match full {
            WorkFull::QueueMessages(max) => Failure::new(
                Code::QueueDepthExceeded,
                format!(
                    "The queue holds the {max} messages that its policy allows, or would with these; nothing was stored"
                ),
            ),
            WorkFull::Messages(max) => Failure::new(
                Code::Overloaded,
                format!("All queues together hold {max} messages and no more are taken; nothing was stored"),
            ),
            WorkFull::OrgMessages(max) => Failure::new(
                Code::QueueDepthExceeded,
                format!(
                    "The queues of the organisation hold {max} messages and no more are taken; nothing was stored"
                ),
            ),
            WorkFull::Queues(max) => Failure::new(
                Code::QueueDepthExceeded,
                format!(
                    "{max} queues of the organisation hold messages and no further one is begun; nothing was stored"
                ),
            ),
            WorkFull::SetQueues(max) => {
                let detail =
                    format!("has nothing set, and {max} queues of the organisation have: no more are taken");
                return Failure::invalid_at("queue", detail);
            }
        };
        failure.retry_after(TURNS_FULL_RETRY_SECONDS)
    }
}
