//! Looking at turns, conversations and the store. Asking has no side effect.

use crate::broker::{Broker, reply_topic_of, turns_queue};
use crate::conversation::Conversation;
use crate::error::BrokerError;
use crate::limits::{CONVERSATIONS_LISTED_MAX, EVENTS_PAGE, PARTIAL_BYTES_MAX};
use crate::orgs::OrgScope;
use crate::pages::each_event;
use crate::record::{Stored, Terminal, TurnHeaders, kind_of};
use crate::timeline::Known;
use crate::turn::{TurnState, TurnView};
use crate::wait::Found;
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::Duration;
use turnwise_core::{LaneStatus, MessageId, MessageInfo, Stage, StoreError, Timestamp, TopicName};

/// One conversation that holds turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConversationView {
    /// Its org.
    pub org: String,
    /// Which.
    pub conversation: Conversation,
    /// Turns that wait, without the one in progress.
    pub queue_length: u64,
    /// The one in progress.
    pub current_message_id: Option<MessageId>,
    /// How long the oldest waiting one has waited.
    pub oldest_waiting: Option<Duration>,
}

/// What a user has waiting. The counts are of the user's own conversations;
/// group conversations with turns of the user are only listed, as far as this
/// node has seen them since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Turns that wait, without those in progress.
    pub queue_length: u64,
    /// A turn is in progress.
    pub is_processing: bool,
    /// Which.
    pub current_message_id: Option<MessageId>,
    /// How long the oldest waiting one has waited.
    pub oldest_waiting: Option<Duration>,
    /// Those that hold turns.
    pub conversations: Vec<ConversationView>,
}

/// Counters kept up by the sweeper, and whether the store answered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// The store answered last time.
    pub store_ok: bool,
    /// Conversations that hold turns.
    pub active_queues: u64,
    /// Turns in progress.
    pub processing: u64,
}

impl Broker {
    /// Everything about one turn; `None` when unknown or outside the scope.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn turn(&self, orgs: &OrgScope, id: MessageId) -> Result<Option<TurnView>, BrokerError> {
        match self.find(orgs, id).await? {
            None => Ok(None),
            Some((org, Found::Live(info))) => self.view_live(org, &info).await.map(Some),
            Some((org, Found::Over(terminal))) => self.view_over(org, id, *terminal).await.map(Some),
        }
    }

    async fn view_live(&self, org: String, info: &MessageInfo) -> Result<TurnView, BrokerError> {
        let inner = &self.0;
        let position = match &info.key {
            Some(key) => inner.store.lane(&info.queue, key, Some(info.id)).await?.place,
            None => None,
        };
        let state = if info.stage == Stage::Leased { TurnState::Processing } else { TurnState::Queued };
        let lease = inner.running.lock().get(&info.id).and_then(std::sync::Weak::upgrade);
        let partial = match state {
            TurnState::Processing => self.partial(&reply_topic_of(&org, info.id)?).await?,
            _ => None,
        };
        let headers = TurnHeaders::read(&info.headers, info.enqueued_at);
        let callback = match headers.callback {
            Some(_) => Some(self.callback_of(&org, info.id).await?),
            None => None,
        };
        let known = Known {
            accepted_at: headers.accepted_at,
            claimed: lease
                .as_ref()
                .filter(|_| state == TurnState::Processing)
                .map(|lease| (info.attempt, lease.started_at)),
            stop_asked_at: lease.as_ref().and_then(|lease| lease.stop_asked_at()),
            ended: None,
            callback: None,
        };
        let timeline = self.timeline(&org, info.id, known).await?;
        Ok(TurnView {
            id: info.id,
            org,
            user: headers.user,
            client: headers.client,
            state,
            position,
            attempts: info.attempt,
            accepted_at: headers.accepted_at,
            started_at: lease.map(|lease| lease.started_at),
            finished_at: None,
            expires_at: headers.accepted_at.after(inner.config.retention),
            answer: None,
            error: None,
            partial,
            callback,
            redrive_of: headers.redrive_of,
            timeline,
        })
    }

    async fn view_over(
        &self,
        org: String,
        id: MessageId,
        terminal: Terminal,
    ) -> Result<TurnView, BrokerError> {
        let end = terminal.end();
        let partial = match end.answer {
            Some(_) => None,
            None => self.partial(&reply_topic_of(&org, id)?).await?,
        };
        let record = terminal.record;
        let callback = if record.callback { Some(self.callback_of(&org, id).await?) } else { None };
        let known = Known {
            accepted_at: Timestamp(record.accepted_at),
            claimed: record.started_at.map(|at| (record.attempts, Timestamp(at))),
            stop_asked_at: record.stop_asked_at.map(Timestamp),
            ended: Some((end.state, end.finished_at)),
            callback: callback.as_ref(),
        };
        let timeline = self.timeline(&org, id, known).await?;
        Ok(TurnView {
            id,
            org,
            user: record.user,
            client: record.client,
            state: end.state,
            position: None,
            attempts: record.attempts,
            accepted_at: Timestamp(record.accepted_at),
            started_at: record.started_at.map(Timestamp),
            finished_at: Some(end.finished_at),
            expires_at: end.finished_at.after(self.0.config.retention),
            answer: end.answer,
            error: end.error,
            partial,
            callback,
            redrive_of: record.redrive_of.and_then(|id| id.parse().ok()),
            timeline,
        })
    }

    /// The text in the stored agent events.
    pub(crate) async fn partial(&self, topic: &TopicName) -> Result<Option<String>, StoreError> {
        let mut text: Option<String> = None;
        each_event(self.0.store.as_ref(), topic, EVENTS_PAGE, |event| {
            if let Stored::Agent(_) = kind_of(&event.event_type) {
                push_text(text.get_or_insert_default(), &event.data);
            }
            match &text {
                Some(text) if text.len() >= PARTIAL_BYTES_MAX => ControlFlow::Break(()),
                Some(_) | None => ControlFlow::Continue(()),
            }
        })
        .await?;
        Ok(text)
    }

    /// What a user has waiting, in one org or all of the scope; zeros when unknown.
    ///
    /// # Errors
    /// When the store does not answer. `TooManyOrgs` when no org is named and
    /// the scope has more than one question may go through.
    pub async fn queue(
        &self,
        orgs: &OrgScope,
        user: &str,
        org: Option<&str>,
    ) -> Result<QueueView, BrokerError> {
        let mut view = QueueView::default();
        let wanted = match org {
            Some(org) if orgs.contains(org) => vec![org.to_owned()],
            Some(_) => Vec::new(),
            None => self.orgs_asked(orgs)?,
        };
        for org in wanted {
            let own = Conversation::User { user: user.to_owned() };
            if let Some(own) = self.conversation_view(&org, own).await? {
                view.queue_length += own.queue_length;
                view.is_processing |= own.current_message_id.is_some();
                view.current_message_id = view.current_message_id.or(own.current_message_id);
                view.oldest_waiting = view.oldest_waiting.max(own.oldest_waiting);
                view.conversations.push(own);
            }
            for group in self.0.groups.of(&org, user) {
                match self.conversation_view(&org, group.clone()).await? {
                    Some(group) => view.conversations.push(group),
                    None => self.0.groups.forget(&org, user, &group),
                }
            }
            if view.conversations.len() >= CONVERSATIONS_LISTED_MAX {
                break;
            }
        }
        Ok(view)
    }

    /// The orgs of a scope, each once and in order.
    ///
    /// # Errors
    /// `TooManyOrgs` when they are more than one question may go through.
    pub(crate) fn orgs_asked(&self, orgs: &OrgScope) -> Result<Vec<String>, BrokerError> {
        let orgs_asked_max = self.0.config.orgs_asked_max;
        if self.0.orgs.count(orgs) > orgs_asked_max {
            return Err(BrokerError::TooManyOrgs { orgs_asked_max });
        }
        let mut all = self.0.orgs.all(orgs);
        all.sort();
        all.dedup();
        Ok(all)
    }

    async fn conversation_view(
        &self,
        org: &str,
        conversation: Conversation,
    ) -> Result<Option<ConversationView>, BrokerError> {
        let lane = self.0.store.lane(&turns_queue(org)?, &conversation.key(), None).await?;
        let LaneStatus { length, in_flight, oldest_waiting, place: _ } = lane;
        if length == 0 {
            return Ok(None);
        }
        let now = self.0.now();
        Ok(Some(ConversationView {
            org: org.to_owned(),
            conversation,
            queue_length: length - u64::from(in_flight.is_some()),
            current_message_id: in_flight,
            oldest_waiting: oldest_waiting.map(|at| now.since(at)),
        }))
    }

    /// Counters from memory, at most a poll interval old while the sweeper runs.
    #[must_use]
    pub fn health(&self) -> StoreHealth {
        let counters = &self.0.counters;
        StoreHealth {
            store_ok: counters.store_ok.load(Ordering::Relaxed),
            active_queues: counters.lanes.lock().active.len() as u64,
            processing: counters.processing.load(Ordering::Relaxed),
        }
    }
}

/// Adds the text of one agent event: its `text`, `delta` or `content` if it is
/// JSON with one of them, nothing of other JSON, or all of what is not JSON.
fn push_text(text: &mut String, data: &[u8]) {
    let plain = String::from_utf8_lossy(data);
    match serde_json::from_str::<serde_json::Value>(&plain) {
        Ok(serde_json::Value::String(part)) => text.push_str(&part),
        Ok(value) => {
            let parts = ["text", "delta", "content"];
            if let Some(part) = parts.iter().find_map(|name| value.get(name)?.as_str()) {
                text.push_str(part);
            }
        }
        Err(_) => text.push_str(&plain),
    }
}
