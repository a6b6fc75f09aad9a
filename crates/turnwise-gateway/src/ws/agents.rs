//! An agent's connection: what it is handed, and what it sends to others.

use super::frames;
use super::framing::CloseCode;
use super::requests::{Answer, Asked};
use super::session::About;
use crate::error::Failure;
use crate::limits::{
    BUS_ATTEMPTS_MAX, BUS_CONTENT_BYTES_MAX, BUS_EXCLUDED_MAX, BUS_METADATA_BYTES_MAX, BUS_REPLY_WAIT_MAX,
    BUS_TTL_MAX, REASON_BYTES_MAX,
};
use crate::rest::bus::{MODES, TYPES};
use crate::rest::rules::{self, Errors};
use crate::scope::Access;
use bytes::Bytes;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use serde_json::value::RawValue;
use std::time::Duration;
use turnwise_api::{AgentFrame, AgentMessage, Code, Rfc3339, ServerFrame, Shallow};
use turnwise_broker::{
    AgentHello, AgentLink, Broker, BrokerError, BusEvent, BusMessage, BusMessageId, BusMessageType,
    BusOutcome, BusReceipt, BusSend, BusSent, BusSettled, BusState, BusTo, LinkHandle,
};
use turnwise_core::Timestamp;
use turnwise_core::limits::{PRIORITY_MAX, RETRY_DELAY_MAX};

/// Time for the answer to a request unless it is said otherwise.
const TIMEOUT_USUAL: Duration = Duration::from_secs(30);

/// The types of frames that are read here.
pub(super) const KINDS: [&str; 9] =
    ["send", "broadcast", "request", "reply", "ack", "nack", "reject", "receipt", "presence"];

/// A connection as an agent.
pub(super) struct Agent {
    pub(super) events: BoxStream<'static, BusEvent>,
    pub(super) handle: LinkHandle,
}

impl Agent {
    pub(super) fn new(link: AgentLink) -> Agent {
        let handle = link.handle();
        // It has no end; what comes behind the last event is not asked for.
        let events = unfold(link, async |mut link| Some((link.next().await, link))).boxed();
        Agent { events, handle }
    }
}

/// Connects as the agent that the connection is to be, if it is one.
pub(super) fn join(about: &About) -> Option<BoxFuture<'static, Answer>> {
    let identity = about.entry.identity().clone();
    let hello = AgentHello {
        workspace: identity.workspace,
        user: identity.user,
        sharing: about.manner.sharing,
        presence: about.manner.presence,
        ..AgentHello::new(identity.agent?)
    };
    let broker = about.app.broker.clone();
    Some(Box::pin(async move {
        match broker.connect_agent(&identity.org, hello).await {
            Ok(link) => Answer::Joined(Box::new(Agent::new(link))),
            Err(BrokerError::Bus(_) | BrokerError::OrgsFull { .. }) => {
                Answer::NotJoined(CloseCode::Full, "full")
            }
            Err(error) => {
                tracing::warn!(%error, "an agent could not be connected");
                Answer::NotJoined(CloseCode::Internal, "store_unavailable")
            }
        }
    }))
}

/// What is shown of an event; none of the last one.
pub(super) fn shown(event: &BusEvent) -> Option<Bytes> {
    Some(match event {
        BusEvent::Message(delivery) => frames::bytes(&ServerFrame::AgentMessage {
            data: message(&delivery.message)?,
            queued: true,
            attempt: Some(delivery.attempt),
            lease_expires_at: Some(time(delivery.lease_expires_at)),
        }),
        BusEvent::Live(message) => message.wire.get_or_init(|| live(message)).clone(),
        BusEvent::Receipt(receipt) => told(receipt, None),
        BusEvent::Presence(presence) => frames::bytes(&ServerFrame::Presence {
            agent_id: &presence.agent,
            online: presence.is_online,
            since: presence.since.map(time),
            id: None,
        }),
        BusEvent::Closed(_) => return None,
    })
}

/// A live message's frame, the same for all who get it.
fn live(of: &BusMessage) -> Bytes {
    let Some(data) = message(of) else { return Bytes::new() };
    frames::bytes(&ServerFrame::AgentMessage { data, queued: false, attempt: None, lease_expires_at: None })
}

/// None for content that is damaged.
fn message(of: &BusMessage) -> Option<AgentMessage<'_>> {
    let word = |words: &[(&'static str, BusMessageType)]| {
        words.iter().find(|(_, own)| *own == of.message_type).map_or("request", |(word, _)| *word)
    };
    Some(AgentMessage {
        from_agent: &of.from,
        to_agent: of.to.as_deref(),
        workspace_id: of.workspace.as_deref(),
        topic: of.topic.as_deref(),
        content: serde_json::from_slice(&of.content).ok()?,
        message_type: word(&TYPES),
        message_id: of.id.as_str(),
        timestamp: of.sent_at.0 as f64 / 1e6,
        priority: of.priority,
        metadata: json_of(of.metadata.as_deref().unwrap_or(b"{}"))?,
        delivery_mode: MODES.iter().find(|(_, mode)| *mode == of.mode).map_or("queue", |(word, _)| *word),
        correlation_id: of.correlation_id.as_deref(),
        in_reply_to: of.in_reply_to.as_ref().map(BusMessageId::as_str),
        expires_at: of.expires_at.map(time),
    })
}

fn json_of(bytes: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(bytes).ok()
}

fn time(at: Timestamp) -> Rfc3339 {
    Rfc3339(at.0)
}

fn told(receipt: &BusReceipt, id: Option<&str>) -> Bytes {
    frames::bytes(&ServerFrame::Receipt {
        message_id: receipt.message_id.as_str(),
        agent_id: &receipt.agent,
        state: receipt.state.name(),
        at: time(receipt.at),
        offline_since: receipt.state.offline_since().map(time),
        reason: receipt.state.reason(),
        id,
    })
}

/// Does what a frame asks for, or begins to.
pub(super) fn follow(
    about: &About,
    agent: Option<&Agent>,
    kind: &str,
    text: &[u8],
    id: Option<&str>,
) -> Result<Asked, Failure> {
    let invalid = |detail: &'static str| Failure::new(Code::InvalidContent, detail);
    let Some(agent) = agent else { return Err(invalid("Not authenticated as an agent")) };
    about.caller.require(Access::Bus)?;
    let frame: AgentFrame<'_> =
        serde_json::from_slice(text).map_err(|_| invalid("A field of the frame is not of its type"))?;
    let context =
        Ask { broker: about.app.broker.clone(), handle: agent.handle.clone(), id: id.map(str::to_owned) };
    match kind {
        "ack" | "nack" | "reject" => return context.settle(kind, &frame),
        "receipt" => return context.receipt(message_id(&frame)?),
        "presence" => return context.presence(&frame),
        _ => about.app.require_serving()?,
    }
    match kind {
        "broadcast" => {
            let own = agent.handle.workspace().map(str::to_owned);
            let workspace = frame.workspace_id.as_deref().map(str::to_owned).or(own);
            let workspace = workspace.ok_or_else(|| invalid("Missing workspace_id"))?;
            context.broadcast(send(&frame, &agent.handle, BusTo::Workspace(workspace))?)
        }
        "reply" => {
            let request = message_id(&frame)?;
            let mut reply = send(&frame, &agent.handle, BusTo::Requester)?;
            reply.in_reply_to = Some(request);
            context.send(reply)
        }
        "request" => {
            let Some(to) = frame.to_agent.as_deref() else { return Err(invalid("Missing to_agent")) };
            let timeout = seconds(frame.timeout, "timeout", BUS_REPLY_WAIT_MAX)?.unwrap_or(TIMEOUT_USUAL);
            context.request(send(&frame, &agent.handle, BusTo::Agent(to.to_owned()))?, timeout)
        }
        _ => {
            let to = match (frame.to_agent.as_deref(), frame.to_topic.as_deref()) {
                (Some(to), None) => BusTo::Agent(to.to_owned()),
                (None, Some(topic)) => BusTo::Topic(topic.to_owned()),
                (None, None) => return Err(invalid("Missing to_agent")),
                (Some(_), Some(_)) => return Err(invalid("Either to_agent or to_topic")),
            };
            context.send(send(&frame, &agent.handle, to)?)
        }
    }
}

fn message_id(frame: &AgentFrame<'_>) -> Result<BusMessageId, Failure> {
    let id = frame.message_id.as_deref().and_then(|id| id.parse().ok());
    id.ok_or_else(|| Failure::new(Code::InvalidContent, "message_id: must be the id of a message"))
}

fn seconds(value: Option<f64>, name: &str, most: Duration) -> Result<Option<Duration>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let time = Duration::try_from_secs_f64(value).ok().filter(|time| *time <= most);
    let detail = || format!("{name}: must be a number from 0 to {}", most.as_secs());
    time.map(Some).ok_or_else(|| Failure::new(Code::InvalidContent, detail()))
}

/// The word's meaning; the frame is refused if it has none.
fn word<T: Copy>(
    value: Option<&str>,
    name: &'static str,
    words: &[(&str, T)],
    errors: &mut Errors,
) -> Option<T> {
    let value = value?;
    let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        errors.add(name, format!("must be one of {}", known.join(", ")));
    }
    found
}

/// A message as it was asked for.
fn send(frame: &AgentFrame<'_>, handle: &LinkHandle, to: BusTo) -> Result<BusSend, Failure> {
    let mut errors = Errors::default();
    let usual = match &to {
        BusTo::Agent(_) => BusMessageType::Request,
        BusTo::Requester => BusMessageType::Response,
        BusTo::Topic(_) | BusTo::Workspace(_) => BusMessageType::Notification,
    };
    let bad_name = match &to {
        BusTo::Agent(agent) => rules::id(agent).map(|detail| ("to_agent", detail)),
        BusTo::Workspace(workspace) => rules::id(workspace).map(|detail| ("workspace_id", detail)),
        BusTo::Topic(topic) => rules::topic(topic).map(|detail| ("to_topic", detail)),
        BusTo::Requester => None,
    };
    if let Some((name, detail)) = bad_name {
        errors.add(name, detail);
    }
    for (name, value) in [("dedup_key", &frame.dedup_key), ("correlation_id", &frame.correlation_id)] {
        if let Some(detail) = value.as_deref().and_then(rules::id) {
            errors.add(name, detail);
        }
    }
    let content = json(frame.content, "content", BUS_CONTENT_BYTES_MAX, &mut errors);
    let metadata = frame.metadata.map(|raw| json(Some(raw), "metadata", BUS_METADATA_BYTES_MAX, &mut errors));
    if metadata.as_ref().is_some_and(|metadata| !metadata.starts_with(b"{")) {
        errors.add("metadata", "must be an object");
    }
    if frame.priority.is_some_and(|priority| priority > PRIORITY_MAX) {
        errors.add("priority", format!("must be a whole number from 0 to {PRIORITY_MAX}"));
    }
    if frame.max_attempts.is_some_and(|attempts| !(1..=BUS_ATTEMPTS_MAX).contains(&attempts.into())) {
        errors.add("max_attempts", format!("must be a whole number from 1 to {BUS_ATTEMPTS_MAX}"));
    }
    let message_type = word(frame.message_type.as_deref(), "message_type", &TYPES, &mut errors);
    let mode = word(frame.delivery_mode.as_deref(), "delivery_mode", &MODES, &mut errors);
    let exclude = excluded(frame, handle.agent(), &to, &mut errors);
    let ttl = seconds(frame.ttl_seconds, "ttl_seconds", BUS_TTL_MAX)?;
    if ttl.is_some_and(|ttl| ttl.is_zero()) {
        errors.add("ttl_seconds", "must be more than 0");
    }
    errors.into_result()?;
    Ok(BusSend {
        message_type: message_type.unwrap_or(usual),
        priority: frame.priority,
        mode: mode.unwrap_or_default(),
        ttl,
        max_attempts: frame.max_attempts,
        dedup_key: frame.dedup_key.as_deref().map(str::to_owned),
        correlation_id: frame.correlation_id.as_deref().map(str::to_owned),
        metadata,
        exclude,
        ..BusSend::new(handle.agent(), to, content)
    })
}

/// JSON that can be handed on; nothing stands for an empty object.
fn json(raw: Option<&RawValue>, name: &'static str, most: usize, errors: &mut Errors) -> Bytes {
    let text = raw.map_or("{}", RawValue::get);
    if text.len() > most {
        errors.add(name, format!("must have at most {most} bytes, not {}", text.len()));
    } else if serde_json::from_str::<Shallow>(text).is_err() {
        errors.add(name, "must hold Unicode texts and finite numbers, and not nest deeply");
    }
    Bytes::copy_from_slice(text.as_bytes())
}

/// Who is left out of several: the sender, too, unless it is said otherwise.
fn excluded(frame: &AgentFrame<'_>, sender: &str, to: &BusTo, errors: &mut Errors) -> Vec<String> {
    if matches!(to, BusTo::Agent(_) | BusTo::Requester) {
        return Vec::new();
    }
    let mut excluded = frame.exclude_agents.clone().unwrap_or_default();
    excluded.extend(frame.exclude_agent.as_deref().map(str::to_owned));
    if excluded.len() > BUS_EXCLUDED_MAX {
        errors.add("exclude_agents", format!("must be at most {BUS_EXCLUDED_MAX} agents"));
    }
    if let Some(detail) = excluded.iter().find_map(|agent| rules::id(agent)) {
        errors.add("exclude_agents", detail);
    }
    if frame.exclude_sender != Some(false) {
        excluded.push(sender.to_owned());
    }
    excluded
}

/// What it takes to ask the broker, and to answer.
struct Ask {
    broker: Broker,
    handle: LinkHandle,
    id: Option<String>,
}

impl Ask {
    fn send(self, send: BusSend) -> Result<Asked, Failure> {
        Ok(Asked::Later(Box::pin(async move {
            let sent = self.broker.bus_send(self.handle.org(), send).await;
            self.answer(sent, |sent, id| {
                let offline_since = sent.state.as_ref().and_then(BusState::offline_since);
                frames::bytes(&ServerFrame::Sent {
                    message_id: sent.message_id.as_str(),
                    duplicate: sent.is_repeat,
                    recipients: sent.recipients,
                    queued: sent.queued,
                    bounced: sent.bounced,
                    state: sent.state.as_ref().map(BusState::name),
                    offline_since: offline_since.map(time),
                    id,
                })
            })
        })))
    }

    fn broadcast(self, send: BusSend) -> Result<Asked, Failure> {
        let BusTo::Workspace(workspace) = send.to.clone() else {
            return Err(Failure::new(Code::Internal, "A broadcast is to a workspace"));
        };
        Ok(Asked::Later(Box::pin(async move {
            let sent = self.broker.bus_send(self.handle.org(), send).await;
            self.answer(sent, |sent: &BusSent, id| {
                frames::bytes(&ServerFrame::Broadcast {
                    workspace_id: &workspace,
                    recipient_count: sent.recipients,
                    queued: sent.queued,
                    message_id: sent.message_id.as_str(),
                    id,
                })
            })
        })))
    }

    /// The connection goes on while the other agent thinks.
    fn request(self, send: BusSend, timeout: Duration) -> Result<Asked, Failure> {
        Ok(Asked::Beside(Box::pin(async move {
            let ended = std::future::pending();
            let answered = self.broker.bus_request(self.handle.org(), send, timeout, ended).await;
            let frame = self.frame(answered, |answer, id| {
                let reply = answer.reply.as_ref()?;
                Some(frames::bytes(&ServerFrame::Reply {
                    in_reply_to: answer.sent.message_id.as_str(),
                    message_id: reply.message_id.as_str(),
                    from_agent: &reply.from,
                    content: json_of(&reply.content)?,
                    metadata: reply.metadata.as_deref().and_then(json_of),
                    id,
                }))
            });
            frame.unwrap_or_else(|| {
                let failure = Failure::new(Code::Internal, "The answer cannot be read");
                frames::error(&failure, self.id.as_deref())
            })
        })))
    }

    fn settle(self, kind: &str, frame: &AgentFrame<'_>) -> Result<Asked, Failure> {
        let message = message_id(frame)?;
        let reason = frame.reason.as_deref().map(str::to_owned);
        if reason.as_ref().is_some_and(|reason| reason.len() > REASON_BYTES_MAX) {
            let detail = format!("reason: must have at most {REASON_BYTES_MAX} bytes");
            return Err(Failure::new(Code::InvalidContent, detail));
        }
        let outcome = match kind {
            "ack" => BusOutcome::Ack,
            "nack" => {
                let delay = seconds(frame.delay, "delay", RETRY_DELAY_MAX)?.unwrap_or_default();
                BusOutcome::Nack { delay, reason }
            }
            _ => BusOutcome::Reject { reason },
        };
        Ok(Asked::Later(Box::pin(async move {
            let settled = self.handle.settle(vec![(message.clone(), outcome)]).await;
            let settled = settled.map(|settled| settled.into_iter().next().unwrap_or(BusSettled::LeaseLost));
            let settled = settled.and_then(|settled| match settled {
                BusSettled::Done => Ok("done"),
                BusSettled::LeaseLost => Ok("lease_lost"),
                BusSettled::Failed(error) => Err(error.into()),
            });
            self.answer(settled, |status, id| {
                frames::bytes(&ServerFrame::Settled { message_id: message.as_str(), status, id })
            })
        })))
    }

    /// One frame for each recipient.
    fn receipt(self, message: BusMessageId) -> Result<Asked, Failure> {
        Ok(Asked::Later(Box::pin(async move {
            let found = self.broker.bus_receipt(self.handle.org(), &message).await;
            let own = self.handle.agent();
            let found = found.map(|view| {
                // As everywhere, what belongs to others looks like what does not exist.
                view.filter(|view| view.from == own || view.recipients.iter().any(|one| one.agent == own))
            });
            self.answer(found, |view, id| {
                let Some(view) = view else { return frames::error(&Failure::not_found(), id) };
                let of = |one: &turnwise_broker::BusRecipient| BusReceipt {
                    message_id: message.clone(),
                    agent: one.agent.clone(),
                    state: one.state.clone(),
                    at: one.at,
                };
                view.recipients.iter().flat_map(|one| told(&of(one), id)).collect()
            })
        })))
    }

    fn presence(self, frame: &AgentFrame<'_>) -> Result<Asked, Failure> {
        let agent = frame.agent_id.as_deref().unwrap_or_else(|| self.handle.agent()).to_owned();
        if let Some(detail) = rules::id(&agent) {
            return Err(Failure::new(Code::InvalidContent, format!("agent_id: {detail}")));
        }
        Ok(Asked::Later(Box::pin(async move {
            let found = self.broker.bus_agent(self.handle.org(), &agent).await;
            self.answer(found, |view, id| {
                let presence = view.as_ref().map(|view| &view.presence);
                frames::bytes(&ServerFrame::Presence {
                    agent_id: &agent,
                    online: presence.is_some_and(|presence| presence.is_online),
                    since: presence.and_then(|presence| presence.since).map(time),
                    id,
                })
            })
        })))
    }

    fn answer<T>(
        &self,
        done: Result<T, BrokerError>,
        shown: impl FnOnce(&T, Option<&str>) -> Bytes,
    ) -> Answer {
        Answer::Frame(self.frame(done, |done, id| Some(shown(done, id))).unwrap_or_default())
    }

    fn frame<T>(
        &self,
        done: Result<T, BrokerError>,
        shown: impl FnOnce(&T, Option<&str>) -> Option<Bytes>,
    ) -> Option<Bytes> {
        let id = self.id.as_deref();
        match done {
            Ok(done) => shown(&done, id),
            Err(error) => Some(frames::error(&error.into(), id)),
        }
    }
}
