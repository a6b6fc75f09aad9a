//! Requests whose sender waits (clause I5). The answer is an event of the
//! request's own topic, and so is that the sender gave up: whichever is first
//! there counts, on every node.

use super::BusRefused;
use super::message::{BusMessageId, BusSend, BusTo};
use super::receipt::{Story, keep_until};
use super::record::{self, Addressed, GAVE_UP, GaveUpRecord, Happened, REPLY, ReplyRecord, receipt_topic};
use super::room::{Room, append_all};
use super::send::{Audienced, Dispatch};
use super::view::{BusReply, BusSent, BusState};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::submit::maybe_stored;
use crate::wait::next_hint;
use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};
use turnwise_core::{StoreError, TopicFilter};

/// What was asked and what was said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BusAnswer {
    /// Of the request.
    pub sent: BusSent,
    /// The answer; none if `ended` came before.
    pub reply: Option<BusReply>,
}

impl Broker {
    /// Sends a request to one agent and waits for its answer: a message sent to [`BusTo::Requester`] with the
    /// request's id in `in_reply_to`. An answer that comes too late is an ordinary message to the requester.
    ///
    /// # Errors
    /// As [`Broker::bus_send`]; `TimedOut` when time is up; `Unanswered` when the request is known to have ended
    /// before.
    pub async fn bus_request(
        &self,
        org: &str,
        send: BusSend,
        timeout: Duration,
        ended: impl Future<Output = ()> + Send,
    ) -> Result<BusAnswer, BrokerError> {
        let room = self.bus_room_of(org).await?;
        let until = Instant::now() + timeout;
        let sent = self.send_bus(&room, send, Some(self.now().after(timeout))).await?;
        if let Some(state @ BusState::Bounced { .. }) = &sent.state {
            return Err(BusRefused::Unanswered(state.clone()).into());
        }
        let topic = receipt_topic(org, &sent.message_id)?;
        let mut hints = Some(self.0.store.watch(TopicFilter::One(topic.clone())));
        let mut story = Story::default();
        let mut ended = pin!(ended);
        loop {
            let read = story.read_on(self, org, &sent.message_id).await;
            match read {
                Ok(()) => {}
                Err(StoreError::Unavailable(_) | StoreError::Unknown(_)) => {
                    tracing::debug!("the store did not answer; waiting on");
                }
                Err(error) => return Err(error.into()),
            }
            if let Some(reply) = story.answer() {
                return Ok(BusAnswer { sent, reply: Some(reply) });
            }
            if let Some(state) = ended_without(&story) {
                return Err(BusRefused::Unanswered(state).into());
            }
            tokio::select! {
                biased;
                () = &mut ended => return Ok(BusAnswer { sent, reply: None }),
                () = sleep_until(until) => break,
                hint = next_hint(hints.as_mut()) => if hint.is_none() { hints = None },
                () = sleep(self.0.config.poll_interval) => {}
            }
        }
        let kept = keep_until(self.now(), None);
        let gave_up = record::event(topic, GAVE_UP, &GaveUpRecord {}, Some(kept));
        append_all(self, vec![gave_up]).await.map_err(|error| maybe_stored(error.into()))?;
        story.read_on(self, org, &sent.message_id).await.map_err(|error| maybe_stored(error.into()))?;
        match story.answer() {
            Some(reply) => Ok(BusAnswer { sent, reply: Some(reply) }),
            None => Err(BusRefused::TimedOut(sent.message_id).into()),
        }
    }

    /// Answers a request: the sender's name instead if it does not wait, and gets an ordinary message.
    pub(super) async fn answer(
        &self,
        room: &Room,
        id: &BusMessageId,
        send: &BusSend,
    ) -> Result<Result<BusSent, String>, BrokerError> {
        let unknown = || BusRefused::RequestUnknown;
        let request = send.in_reply_to.as_ref().ok_or_else(unknown)?;
        let mut story = Story::default();
        story.read_on(self, &room.org, request).await?;
        let Some((asked, _)) = &story.sent else { return Err(unknown().into()) };
        if !story.recipients.contains_key(&send.from) {
            return Err(unknown().into());
        }
        let requester = asked.from.clone();
        if matches!(&send.to, BusTo::Agent(agent) if *agent != requester) {
            return Err(unknown().into());
        }
        let waits = asked.awaits_until.is_some_and(|until| self.now().0 < until);
        let is_own = story.reply.as_ref().is_some_and(|(reply, ..)| reply.id == *id);
        let is_open = story.reply.is_none() && story.gave_up_at.is_none();
        let may_answer = is_own || (waits && is_open);
        if !may_answer {
            return Ok(Err(requester));
        }
        if !is_own {
            let (Some(content), metadata) = (record::raw(&send.content), &send.metadata) else {
                return Err(StoreError::Invalid("the content is no JSON".to_owned()).into());
            };
            let reply = ReplyRecord {
                id: id.clone(),
                from: send.from.clone(),
                content,
                metadata: metadata.as_deref().and_then(record::raw),
            };
            let topic = receipt_topic(&room.org, request)?;
            let kept = keep_until(self.now(), None);
            append_all(self, vec![record::event(topic, REPLY, &reply, Some(kept))]).await?;
            story.read_on(self, &room.org, request).await?;
            let counts = story.answer().is_some_and(|reply| reply.message_id == *id);
            if !counts {
                return Ok(Err(requester));
            }
        }
        self.note_answer(room, id, send, &requester).await?;
        Ok(Ok(BusSent {
            message_id: id.clone(),
            is_repeat: is_own,
            recipients: 1,
            queued: 0,
            bounced: 0,
            state: Some(BusState::Delivered),
        }))
    }

    /// So that what became of the answer can be read, too.
    async fn note_answer(
        &self,
        room: &Room,
        id: &BusMessageId,
        send: &BusSend,
        requester: &str,
    ) -> Result<(), BrokerError> {
        let direct = BusSend { to: BusTo::Agent(requester.to_owned()), ..send.clone() };
        let dispatch: Dispatch = self.dispatch(room, id.clone(), &direct, None);
        self.note_sent(room, &dispatch, &Answered(requester)).await
    }
}

/// The requester, who waits and has the answer.
struct Answered<'r>(&'r str);

impl Audienced for Answered<'_> {
    fn addressed(&self) -> Vec<Addressed> {
        vec![Addressed { agent: self.0.to_owned(), live: true }]
    }

    fn known_already(&self) -> Vec<(String, Happened)> {
        vec![(self.0.to_owned(), Happened::Delivered)]
    }
}

/// How a request ended that nobody will answer any more.
fn ended_without(story: &Story) -> Option<BusState> {
    let is_failed = |state: &&BusState| match state {
        BusState::Failed { .. } | BusState::Expired | BusState::Bounced { .. } => true,
        BusState::Pending | BusState::Queued { .. } | BusState::Delivered | BusState::Acked => false,
    };
    story.recipients.values().map(super::receipt::Part::state).find(is_failed).cloned()
}
