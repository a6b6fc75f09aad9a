//! Looking at callbacks. Asking has no side effect.

use super::callbacks_queue;
use super::record::{Happened, History, HistoryRecord, history_topic, read_message};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::orgs::OrgScope;
use crate::submit::one;
use turnwise_core::{MessageId, MessageInfo, Stage, Timestamp};

/// Where a callback is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackState {
    /// For the end of its turn, for those before it, or for its next try.
    Waiting,
    /// It is being tried.
    Delivering,
    /// Taken.
    Delivered,
    /// Given up on; can be redriven while the turn's answer is kept.
    Dead,
    /// An operator has dropped it.
    Dropped,
}

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackAttempt {
    /// When.
    pub at: Timestamp,
    /// What the receiver answered.
    pub status: Option<u16>,
    /// Why it was not taken.
    pub reason: Option<String>,
}

/// Everything about one callback, but for its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackView {
    /// Its id, once its turn has ended and it is, or was, tried.
    pub id: Option<MessageId>,
    /// Its org.
    pub org: String,
    /// The turn whose end it tells.
    pub turn: MessageId,
    /// Where it is.
    pub state: CallbackState,
    /// Scheme, host and port of its URL, when it is still there.
    pub origin: Option<String>,
    /// Tries so far, since the last redrive.
    pub attempts: u32,
    /// When the turn ended.
    pub created_at: Option<Timestamp>,
    /// Not tried before, if it waits.
    pub next_attempt_at: Option<Timestamp>,
    /// The last try.
    pub last: Option<CallbackAttempt>,
}

/// Which callbacks of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackStage {
    /// Waiting, or being tried.
    Waiting,
    /// Given up on.
    Dead,
}

/// Behind which callback a list goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackPlace {
    /// Its org.
    pub org: String,
    /// Its id.
    pub id: MessageId,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackPage {
    /// By org, then by age.
    pub items: Vec<CallbackView>,
    /// Where to go on; `None` at the end.
    pub next: Option<CallbackPlace>,
}

impl Broker {
    /// One callback that waits or is dead; `None` when unknown or outside the scope.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn callback(
        &self,
        orgs: &OrgScope,
        id: MessageId,
    ) -> Result<Option<CallbackView>, BrokerError> {
        match self.find_callback(orgs, id).await? {
            Some((org, info)) => self.view_callback(&org, &info).await.map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn find_callback(
        &self,
        orgs: &OrgScope,
        id: MessageId,
    ) -> Result<Option<(String, MessageInfo)>, BrokerError> {
        self.0.orgs.catch_up(self.0.store.as_ref()).await?;
        for org in self.0.orgs.candidates(orgs, id) {
            if let Some(info) = one(self.0.store.get(&callbacks_queue(&org)?, vec![id]).await?)? {
                return Ok(Some((org, info)));
            }
        }
        Ok(None)
    }

    /// A page of those in one stage, at most `limit`.
    ///
    /// # Errors
    /// When the store does not answer. `TooManyOrgs` when no org is named and
    /// the scope has more than one question may go through.
    pub async fn callbacks(
        &self,
        orgs: &OrgScope,
        stage: CallbackStage,
        after: Option<CallbackPlace>,
        limit: u32,
    ) -> Result<CallbackPage, BrokerError> {
        let mut page = CallbackPage::default();
        for org in self.orgs_asked(orgs)? {
            let from = match &after {
                Some(place) if org < place.org => continue,
                Some(place) if org == place.org => Some(place.id),
                Some(_) | None => None,
            };
            let room = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(page.items.len());
            let (infos, more) = self.list_callbacks(&org, stage, from, room).await?;
            for info in &infos {
                page.items.push(self.view_callback(&org, info).await?);
            }
            if more {
                // It may have been full before this org: then on behind the last of the one before.
                let last = page.items.last();
                page.next = last.and_then(|last| Some(CallbackPlace { org: last.org.clone(), id: last.id? }));
                return Ok(page);
            }
        }
        Ok(page)
    }

    /// At most `room` callbacks of an org by age, and whether there are more.
    pub(super) async fn list_callbacks(
        &self,
        org: &str,
        stage: CallbackStage,
        after: Option<MessageId>,
        room: usize,
    ) -> Result<(Vec<MessageInfo>, bool), BrokerError> {
        let queue = callbacks_queue(org)?;
        let stages: &[Stage] = match stage {
            CallbackStage::Dead => &[Stage::Dead],
            CallbackStage::Waiting => &[Stage::Ready, Stage::Leased],
        };
        let limit = u32::try_from(room + 1).unwrap_or(u32::MAX);
        let mut found = Vec::new();
        for stage in stages {
            found.extend(self.0.store.list(&queue, *stage, after, limit).await?);
        }
        found.sort_by_key(|info| info.id);
        found.dedup_by_key(|info| info.id);
        let more = found.len() > room;
        found.truncate(room);
        Ok((found, more))
    }

    async fn view_callback(&self, org: &str, info: &MessageInfo) -> Result<CallbackView, BrokerError> {
        let (turn, record) = read_message(&info.headers, &info.payload)?;
        let history = self.history(org, info.id.nonce()).await?;
        Ok(CallbackView {
            id: Some(info.id),
            org: org.to_owned(),
            turn,
            state: match info.stage {
                Stage::Scheduled | Stage::Ready => CallbackState::Waiting,
                Stage::Leased => CallbackState::Delivering,
                Stage::Dead => CallbackState::Dead,
            },
            // Also of a URL that today's rules would not take.
            origin: Some(origin(&record.url)),
            attempts: history.attempts,
            created_at: Some(info.enqueued_at),
            next_attempt_at: info.not_before.filter(|_| info.stage == Stage::Ready),
            last: history.last_attempt.map(attempt),
        })
    }

    async fn history(&self, org: &str, nonce: u64) -> Result<History, BrokerError> {
        Ok(History::read(self.0.store.as_ref(), &history_topic(org, nonce)?).await?)
    }

    /// The callback of a turn that has one.
    pub(crate) async fn callback_of(&self, org: &str, turn: MessageId) -> Result<CallbackView, BrokerError> {
        let history = self.history(org, turn.nonce()).await?;
        let id = history.last.as_ref().and_then(|(_, record)| record.callback.parse::<MessageId>().ok());
        // On its first try it has no history yet.
        let id = id.or_else(|| self.0.callbacks_in_hand.find(org, turn.nonce()));
        if let Some(id) = id
            && let Some(info) = one(self.0.store.get(&callbacks_queue(org)?, vec![id]).await?)?
        {
            return self.view_callback(org, &info).await;
        }
        let state = match history.last.as_ref().map(|(what, _)| *what) {
            None | Some(Happened::Failed | Happened::Redriven) => CallbackState::Waiting,
            Some(Happened::Delivered) => CallbackState::Delivered,
            Some(Happened::Dead) => CallbackState::Dead,
            Some(Happened::Dropped) => CallbackState::Dropped,
        };
        Ok(CallbackView {
            id,
            org: org.to_owned(),
            turn,
            state,
            origin: None,
            attempts: history.attempts,
            created_at: None,
            next_attempt_at: None,
            last: history.last_attempt.map(attempt),
        })
    }
}

fn attempt(record: HistoryRecord) -> CallbackAttempt {
    CallbackAttempt { at: Timestamp(record.at), status: record.status, reason: record.reason }
}

/// Scheme, host and port; what follows may be secret.
fn origin(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url.get(start..).and_then(|rest| rest.find(['/', '?'])).map_or(url.len(), |at| start + at);
    url.get(..end).unwrap_or_default().to_ascii_lowercase()
}
