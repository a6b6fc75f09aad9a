//! What became of a message, kept in a topic of its own, and told to its sender
//! (clause I2).

use super::message::{BusMessage, BusMessageId};
use super::record::{
    self, ADDRESSED, AddressedRecord, Happened, RECEIPT, REPLY, ReceiptRecord, ReplyRecord, SENT, SentRecord,
    receipt_topic,
};
use super::room::Room;
use super::view::{BusReceiptView, BusRecipient, BusReply, BusState};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{BUS_PAGE, RECEIPTS_KEPT};
use bytes::Bytes;
use std::collections::BTreeMap;
use turnwise_core::{Effect, Event, NewEvent, Offset, Position, Read, ReadFrom, StoreError, Timestamp};

/// Whom to tell of what.
pub(super) struct Told {
    pub(super) id: BusMessageId,
    /// The sender.
    pub(super) to: String,
    /// The recipient it is about.
    pub(super) agent: String,
    pub(super) expires_at: Option<Timestamp>,
}

impl Told {
    pub(super) fn of(message: &BusMessage, agent: &str) -> Told {
        Told {
            id: message.id.clone(),
            to: message.from.clone(),
            agent: agent.to_owned(),
            expires_at: message.expires_at,
        }
    }

    fn record(&self, happened: Happened) -> ReceiptRecord {
        ReceiptRecord { to: self.to.clone(), id: self.id.clone(), agent: self.agent.clone(), happened }
    }

    /// For the message's own topic.
    pub(super) fn kept(
        &self,
        room: &Room,
        now: Timestamp,
        happened: Happened,
    ) -> Result<NewEvent, StoreError> {
        let topic = receipt_topic(&room.org, &self.id)?;
        let until = keep_until(now, self.expires_at);
        Ok(record::event(topic, RECEIPT, &self.record(happened), Some(until)))
    }

    /// For the sender's connections.
    pub(super) fn live(&self, room: &Room, happened: Happened) -> NewEvent {
        room.tell(RECEIPT, &self.record(happened))
    }
}

/// Until when what became of a message can be read.
pub(super) fn keep_until(now: Timestamp, expires_at: Option<Timestamp>) -> Timestamp {
    expires_at.map_or(now, |at| at.max(now)).after(RECEIPTS_KEPT)
}

/// Notes what happened, and tells the sender if it is online.
pub(super) fn events(
    broker: &Broker,
    room: &Room,
    told: Told,
    happened: Happened,
) -> Result<Vec<NewEvent>, StoreError> {
    let mut events = vec![told.kept(room, broker.now(), happened.clone())?];
    if room.present(broker, &told.to).is_online {
        events.push(told.live(room, happened));
    }
    Ok(events)
}

/// The same in the step that ends a lease.
pub(super) fn effects(
    broker: &Broker,
    room: &Room,
    told: Told,
    happened: Happened,
) -> Result<Vec<Effect>, StoreError> {
    Ok(events(broker, room, told, happened)?.into_iter().map(Effect::Publish).collect())
}

/// For the case that the store ends the message: told whether or not the sender is online by now.
pub(super) fn at_end(room: &Room, now: Timestamp, told: &Told) -> Result<Vec<Effect>, StoreError> {
    let ended = || Happened::Ended { expires_at: told.expires_at.map(|at| at.0) };
    Ok(vec![Effect::Publish(told.kept(room, now, ended())?), Effect::Publish(told.live(room, ended()))])
}

/// All that is kept of one message.
#[derive(Default)]
pub(super) struct Story {
    pub(super) sent: Option<(SentRecord, Timestamp)>,
    /// By agent: how it gets it, and what happened.
    pub(super) recipients: BTreeMap<String, Part>,
    pub(super) reply: Option<(ReplyRecord, Timestamp, Offset)>,
    pub(super) gave_up_at: Option<Offset>,
    pub(super) read_to: Option<Position>,
}

/// One recipient's part in it.
pub(super) struct Part {
    pub(super) is_live: bool,
    state: BusState,
    at: Timestamp,
    delivered_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
}

impl Part {
    pub(super) fn new(is_live: bool, at: Timestamp) -> Part {
        Part { is_live, state: BusState::Pending, at, delivered_at: None, ended_at: None }
    }

    /// Told at the same moment as others, things may be written in another order than they happened.
    fn happened(&mut self, state: BusState, at: Timestamp) {
        if state == BusState::Delivered {
            self.delivered_at.get_or_insert(at);
        }
        if state.is_last() {
            self.ended_at.get_or_insert(at);
        }
        let is_on = rank(&state) >= rank(&self.state) && !self.state.is_last();
        if is_on {
            (self.state, self.at) = (state, at);
        }
    }

    pub(super) fn state(&self) -> &BusState {
        &self.state
    }
}

fn rank(state: &BusState) -> u8 {
    match state {
        BusState::Pending => 0,
        BusState::Queued { .. } => 1,
        BusState::Delivered => 2,
        BusState::Acked | BusState::Failed { .. } | BusState::Expired | BusState::Bounced { .. } => 3,
    }
}

impl Story {
    /// Reads on, from where it was read to.
    pub(super) async fn read_on(
        &mut self,
        broker: &Broker,
        org: &str,
        id: &BusMessageId,
    ) -> Result<(), StoreError> {
        let topic = receipt_topic(org, id)?;
        loop {
            let from = self.read_to.map_or(ReadFrom::Earliest, ReadFrom::After);
            match broker.0.store.read(&topic, from, BUS_PAGE).await? {
                Read::Gap { resume } => self.read_to = Some(resume),
                Read::Events { events, .. } if events.is_empty() => return Ok(()),
                Read::Events { events, next } => {
                    self.read_to = Some(next);
                    events.iter().for_each(|event| self.fold(event));
                }
            }
        }
    }

    fn fold(&mut self, event: &Event) {
        let (at, data) = (event.appended_at, &event.data);
        match event.event_type.as_str() {
            SENT => {
                if let (None, Ok(record)) = (&self.sent, serde_json::from_slice(data)) {
                    self.sent = Some((record, at));
                }
            }
            ADDRESSED => {
                let Ok(AddressedRecord { agents }) = serde_json::from_slice(data) else { return };
                for to in agents {
                    self.recipients.entry(to.agent).or_insert_with(|| Part::new(to.live, at)).is_live =
                        to.live;
                }
            }
            RECEIPT => {
                let Ok(record) = serde_json::from_slice::<ReceiptRecord>(data) else { return };
                let part = self.recipients.entry(record.agent).or_insert_with(|| Part::new(false, at));
                part.happened(record.happened.state(at), at);
            }
            REPLY => {
                if let (None, Ok(record)) = (&self.reply, serde_json::from_slice(data)) {
                    self.reply = Some((record, at, event.offset));
                }
            }
            record::GAVE_UP => self.gave_up_at = self.gave_up_at.or(Some(event.offset)),
            _ => {}
        }
    }

    /// The answer, if it came before the sender gave up.
    pub(super) fn answer(&self) -> Option<BusReply> {
        let (reply, at, offset) = self.reply.as_ref()?;
        if self.gave_up_at.is_some_and(|gave_up| gave_up < *offset) {
            return None;
        }
        Some(BusReply {
            message_id: reply.id.clone(),
            from: reply.from.clone(),
            content: Bytes::copy_from_slice(reply.content.get().as_bytes()),
            metadata: reply.metadata.as_ref().map(|raw| Bytes::copy_from_slice(raw.get().as_bytes())),
            at: *at,
        })
    }
}

impl Broker {
    /// What became of a message of the bus; none if it is not known, or not kept any longer.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn bus_receipt(
        &self,
        org: &str,
        id: &BusMessageId,
    ) -> Result<Option<BusReceiptView>, BrokerError> {
        let mut story = Story::default();
        story.read_on(self, org, id).await?;
        let reply = story.answer();
        let Some((sent, sent_at)) = story.sent else { return Ok(None) };
        let recipients = story.recipients.into_iter().map(|(agent, part)| BusRecipient {
            agent,
            state: part.state,
            at: part.at,
            delivered_at: part.delivered_at,
            ended_at: part.ended_at,
        });
        Ok(Some(BusReceiptView {
            message_id: id.clone(),
            from: sent.from,
            workspace: sent.workspace,
            topic: sent.topic,
            sent_at,
            expires_at: sent.expires_at.map(Timestamp),
            recipients: recipients.collect(),
            reply,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_late_does_not_take_back_what_is_last() {
        let mut part = Part::new(false, Timestamp(1));
        let steps =
            [(BusState::Queued { offline_since: None }, 2), (BusState::Acked, 3), (BusState::Delivered, 4)];
        for (state, at) in steps {
            part.happened(state, Timestamp(at));
        }
        assert_eq!((part.state, part.at), (BusState::Acked, Timestamp(3)));
        assert_eq!((part.delivered_at, part.ended_at), (Some(Timestamp(4)), Some(Timestamp(3))));
    }
}
