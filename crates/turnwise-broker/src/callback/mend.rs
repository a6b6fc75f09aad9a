//! What operators may do with callbacks: try dead ones again, drop one.

use super::callbacks_queue;
use super::inspect::CallbackStage;
use super::record::{Happened, HistoryRecord, happened, history_topic};
use crate::broker::Broker;
use crate::error::BrokerError;
use crate::limits::{CALLBACKS_PAGE, CANCEL_TRIES_MAX};
use crate::orgs::OrgScope;
use crate::submit::one;
use turnwise_core::{Effect, MessageId, NewEvent, Removed, Stage, StoreError};

/// Which dead callbacks are to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallbackRedrive {
    /// All in scope.
    All,
    /// These; others and those that are not dead are passed over.
    These(Vec<MessageId>),
}

/// The answer to a drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropCallback {
    /// It is gone.
    Dropped,
    /// It is being tried just now.
    InProgress,
    /// Not known, or another org's.
    NotFound,
}

impl Broker {
    /// Puts dead callbacks back to the tail of their lane with no tries counted;
    /// answers how many. With `dry_run` only counts.
    ///
    /// # Errors
    /// When the store does not answer: some may have been put back.
    pub async fn redrive_callbacks(
        &self,
        orgs: &OrgScope,
        which: CallbackRedrive,
        dry_run: bool,
    ) -> Result<u64, BrokerError> {
        let mut count = 0;
        match which {
            CallbackRedrive::These(mut ids) => {
                ids.sort();
                ids.dedup();
                for id in ids {
                    match self.find_callback(orgs, id).await? {
                        Some((org, info)) if info.stage == Stage::Dead => {
                            count += self.redrive_page(&org, &[id], dry_run).await?;
                        }
                        Some(_) | None => {}
                    }
                }
            }
            CallbackRedrive::All => {
                for org in self.orgs_asked(orgs)? {
                    // By age: what dies again meanwhile keeps its place, and is not chased.
                    let mut after = None;
                    loop {
                        let (page, more) = self
                            .list_callbacks(&org, CallbackStage::Dead, after, CALLBACKS_PAGE as usize)
                            .await?;
                        after = page.last().map(|info| info.id);
                        let ids: Vec<_> = page.iter().map(|info| info.id).collect();
                        count += self.redrive_page(&org, &ids, dry_run).await?;
                        if !more {
                            break;
                        }
                    }
                }
            }
        }
        Ok(count)
    }

    async fn redrive_page(&self, org: &str, ids: &[MessageId], dry_run: bool) -> Result<u64, BrokerError> {
        if dry_run || ids.is_empty() {
            return Ok(ids.len() as u64);
        }
        // Noted first: should the next step fail, the letters are dead as before.
        let events = ids.iter().map(|id| self.noted(org, *id, Happened::Redriven));
        let events = events.collect::<Result<Vec<_>, _>>()?;
        for answer in self.0.store.append(events).await? {
            answer?;
        }
        let count = self.0.store.redrive(&callbacks_queue(org)?, ids.to_vec()).await?;
        self.0.callback_ring.mark(org);
        Ok(u64::from(count))
    }

    /// Removes a callback that is dead or waits: it is not sent any more.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn drop_callback(&self, orgs: &OrgScope, id: MessageId) -> Result<DropCallback, BrokerError> {
        for _callback_moved in 0..CANCEL_TRIES_MAX {
            let Some((org, info)) = self.find_callback(orgs, id).await? else {
                return Ok(DropCallback::NotFound);
            };
            let queue = callbacks_queue(&org)?;
            let note = self.noted(&org, id, Happened::Dropped)?;
            let dead = info.stage == Stage::Dead;
            if dead {
                // The store takes no effects with a dead letter.
                for answer in self.0.store.append(vec![note.clone()]).await? {
                    answer?;
                }
            }
            let effects = if dead { Vec::new() } else { vec![Effect::Publish(note)] };
            match one(self.0.store.remove(&queue, vec![(id, effects)]).await?)?? {
                Removed::Done => return Ok(DropCallback::Dropped),
                Removed::Leased => return Ok(DropCallback::InProgress),
                Removed::NotFound => return Ok(DropCallback::NotFound),
                // It was given up since it was looked up.
                Removed::Dead => {}
            }
        }
        let reason = "the callback kept moving while it was to be dropped";
        Err(StoreError::Unavailable(reason.to_owned()).into())
    }

    fn noted(&self, org: &str, id: MessageId, what: Happened) -> Result<NewEvent, BrokerError> {
        let now = self.0.now();
        let record =
            HistoryRecord { callback: id.to_string(), at: now.0, attempt: 0, status: None, reason: None };
        let keep_until = now.after(self.0.config.retention.saturating_mul(2));
        Ok(happened(history_topic(org, id.nonce())?, what, &record, keep_until))
    }
}
