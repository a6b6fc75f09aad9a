//! Accepting turns (clauses C2, C7; the depth limit).

use crate::broker::{Broker, reply_topic, turns_queue};
use crate::callback::{self, CallbackNote, CallbackTarget};
use crate::conversation::{Conversation, push_part};
use crate::error::BrokerError;
use crate::limits::DEDUP_GENERATIONS_MAX;
use crate::local::Fresh;
use crate::news::News;
use crate::orgs::nonce_for;
use crate::record::{AnswerPlace, TerminalRecord, TurnHeaders};
use crate::timeline::StepKind;
use crate::turn::{TurnError, TurnState};
use crate::wait::Found;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use std::sync::atomic::Ordering;
use turnwise_core::limits::ATTEMPTS_MAX;
use turnwise_core::{Dedup, Effect, Enqueued, MessageId, NewMessage, Priority, StoreError, Timestamp};

/// One chat message for the agent, checked by the gateway.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Its org.
    pub org: String,
    /// Who sends it, and alone may read the answer.
    pub user: String,
    /// Through which client.
    pub client: String,
    /// Which turns it follows.
    pub conversation: Conversation,
    /// The client's own id: a repeat is the same turn.
    pub client_message_id: Option<String>,
    /// The JSON body for the agent, ready to send. A repeat must have the same.
    pub request: Bytes,
    /// A reader is there or may come.
    pub prefer_stream: bool,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// Where the end is to be posted.
    pub callback: Option<CallbackTarget>,
    /// The failed turn whose message it is.
    pub redrive_of: Option<MessageId>,
}

/// An accepted turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: MessageId,
    /// Its org.
    pub org: String,
    /// Who sent it.
    pub user: String,
    /// Its place in the conversation, the one in progress counted. 1 and not
    /// `in_flight` means the conversation is idle. 0 for a repeat of a turn
    /// that is over.
    pub position: u64,
    /// A turn of the conversation is being processed.
    pub in_flight: bool,
    /// Turns ahead that wait, without the one in progress.
    pub waiting_ahead: u64,
    /// It was accepted before.
    pub duplicate: bool,
    /// When it was first accepted.
    pub accepted_at: Timestamp,
    /// Until then it waits; an answer is kept for as long again.
    pub expires_at: Timestamp,
}

/// What there is no more room for; only what is known already is answered then.
#[derive(Clone, Copy)]
enum Full {
    Turns(u64),
    OrgTurns(u64),
    Callbacks(u64),
}

impl Full {
    fn error(self) -> BrokerError {
        match self {
            Full::Turns(turns_waiting_max) => BrokerError::TurnsFull { turns_waiting_max },
            Full::OrgTurns(org_turns_waiting_max) => BrokerError::OrgTurnsFull { org_turns_waiting_max },
            Full::Callbacks(callbacks_kept_max) => BrokerError::CallbacksFull { callbacks_kept_max },
        }
    }
}

impl Broker {
    /// As counted at most a poll interval ago.
    fn full_for(&self, submission: &Submission) -> Option<Full> {
        let inner = &self.0;
        let (turns, callbacks) = (inner.config.turns_waiting_max, inner.config.callbacks_kept_max);
        if inner.counters.held.load(Ordering::Relaxed) >= turns {
            return Some(Full::Turns(turns));
        }
        let share = inner.config.org_turns_waiting_max;
        if inner.counters.held_of(&submission.org) >= share {
            return Some(Full::OrgTurns(share));
        }
        let (waiting, _dead) = inner.counts.callbacks_held();
        (submission.callback.is_some() && waiting >= callbacks).then_some(Full::Callbacks(callbacks))
    }

    /// Stores a turn; it survives a crash when this returns. A repeat with the
    /// same client message id answers the first turn's id and place.
    ///
    /// # Errors
    /// `LaneFull`, `TurnsFull`, `OrgTurnsFull`, `CallbacksFull`, `OrgsFull` and `DedupConflict`: nothing was stored. After
    /// [`StoreError::Unknown`] a repeat with a client message id is safe.
    pub async fn submit(&self, submission: Submission) -> Result<Submitted, BrokerError> {
        let inner = &self.0;
        let orgs_max = inner.config.orgs_max;
        let remembered = inner.orgs.remember(inner.store.as_ref(), &submission.org, orgs_max).await;
        if !remembered.map_err(surely_not_stored)? {
            return Err(BrokerError::OrgsFull { orgs_max });
        }
        let full = self.full_for(&submission);
        let mut dedup_key = dedup_key_of(&submission);
        if let (Some(full), None) = (&full, &dedup_key) {
            return Err(full.error());
        }
        let accepted_at = inner.now();
        for _generation in 0..DEDUP_GENERATIONS_MAX {
            let mut message = self.message_of(&submission, accepted_at)?;
            if full.is_some() {
                // No room for a new one, but what is known is answered as itself.
                message.lane_max = Some(0);
            }
            message.dedup = dedup_key.as_ref().map(|key| self.dedup(key, &submission));
            let earlier = match self.enqueue_one(message).await? {
                Enqueued::New { id, position, in_flight } => {
                    return Ok(self.accepted(submission, id, accepted_at, position, in_flight));
                }
                Enqueued::LaneFull => {
                    let lane = BrokerError::LaneFull { depth_max: inner.config.depth_max };
                    return Err(full.map_or(lane, Full::error));
                }
                Enqueued::Duplicate(id) => {
                    match self.duplicate(&submission, id).await.map_err(maybe_stored)? {
                        Some(submitted) => {
                            inner.counts.repeated.one();
                            return Ok(submitted);
                        }
                        None => id,
                    }
                }
                Enqueued::DedupConflict(id) => match self.lookup(&submission.org, id).await? {
                    Some(_) => return Err(BrokerError::DedupConflict(id)),
                    None => id,
                },
            };
            // That turn was dropped before its time, and its dedup key ended
            // with it (C6): the next key follows from it, the same for all who ask.
            if let Some(key) = &mut dedup_key {
                key.extend_from_slice(&earlier.seq().to_be_bytes());
                key.extend_from_slice(&earlier.nonce().to_be_bytes());
            }
        }
        Err(BrokerError::Gone)
    }

    fn message_of(&self, submission: &Submission, accepted_at: Timestamp) -> Result<NewMessage, BrokerError> {
        let config = &self.0.config;
        let nonce = nonce_for(&submission.org, (self.0.nonce)());
        let expires_at = accepted_at.after(config.retention);
        let expired = TerminalRecord {
            id: None,
            user: submission.user.clone(),
            client: submission.client.clone(),
            accepted_at: accepted_at.0,
            started_at: None,
            attempts: 0,
            token: None,
            answer: AnswerPlace::None,
            error: Some(TurnError::expired().into()),
            callback: submission.callback.is_some(),
            redrive_of: submission.redrive_of.map(|id| id.to_string()),
            stop_asked_at: None,
        };
        let topic = reply_topic(&submission.org, nonce)?;
        let last_word = expired.event(&topic, TurnState::Failed, expires_at.after(config.retention));
        let headers = TurnHeaders {
            user: submission.user.clone(),
            client: submission.client.clone(),
            prefer_stream: submission.prefer_stream,
            traceparent: submission.traceparent.clone(),
            accepted_at,
            callback: submission.callback.as_ref().map(|target| CallbackNote {
                url: target.url.clone(),
                lane: target.lane_part(),
                client_message_id: submission.client_message_id.clone(),
            }),
            redrive_of: submission.redrive_of,
        };
        let key = submission.conversation.key();
        let mut at_end = vec![Effect::Publish(last_word)];
        if let Some(note) = &headers.callback {
            let place = (submission.org.as_str(), nonce);
            at_end.push(callback::effect(place, None, Some(&key), &submission.user, note)?);
        }
        Ok(NewMessage {
            queue: turns_queue(&submission.org)?,
            key: Some(key),
            priority: Priority::default(),
            headers: headers.write(),
            payload: submission.request.clone(),
            deliver_at: None,
            expires_at: Some(expires_at),
            // The broker counts lost calls itself: waiting for a busy agent also takes leases.
            max_attempts: ATTEMPTS_MAX,
            dedup: None,
            lane_max: Some(config.depth_max),
            at_end,
            nonce,
        })
    }

    fn dedup(&self, key: &[u8], submission: &Submission) -> Dedup {
        let mut content = Sha256::new_with_prefix(&submission.request);
        if let Some(callback) = &submission.callback {
            // No JSON holds a zero byte.
            content.update([0]);
            content.update(&callback.url);
        }
        let digest: [u8; 32] = content.finalize().into();
        let mut content_hash = [0; 16];
        for (to, from) in content_hash.iter_mut().zip(digest) {
            *to = from;
        }
        Dedup { key: Bytes::copy_from_slice(key), window: self.0.config.retention, content_hash }
    }

    async fn enqueue_one(&self, message: NewMessage) -> Result<Enqueued, BrokerError> {
        let answers = self.0.store.enqueue(vec![message]).await?;
        Ok(one(answers)??)
    }

    fn accepted(
        &self,
        submission: Submission,
        id: MessageId,
        accepted_at: Timestamp,
        position: u64,
        in_flight: bool,
    ) -> Submitted {
        let inner = &self.0;
        let key = submission.conversation.key();
        let (org, user) = (submission.org.clone(), submission.user.clone());
        inner.counts.accepted.one();
        inner.board.tell(|| News {
            id,
            org: submission.org.clone(),
            user: submission.user.clone(),
            step: StepKind::Accepted,
            at: accepted_at,
            attempt: None,
            after: None,
            code: None,
        });
        inner.counters.accepted(&submission.org, key.clone());
        if !inner.local.accepted(id, Fresh { org, user, key: key.clone(), accepted_at }) {
            inner.counters.ended(&submission.org, key, true);
        }
        inner.groups.note(accepted_at, &submission.org, &submission.user, &submission.conversation);
        if !in_flight {
            inner.ring.mark(&submission.org);
        }
        Submitted {
            id,
            org: submission.org,
            user: submission.user,
            position,
            in_flight,
            waiting_ahead: position.saturating_sub(1 + u64::from(in_flight)),
            duplicate: false,
            accepted_at,
            expires_at: accepted_at.after(inner.config.retention),
        }
    }

    async fn duplicate(
        &self,
        submission: &Submission,
        id: MessageId,
    ) -> Result<Option<Submitted>, BrokerError> {
        let Some(found) = self.lookup(&submission.org, id).await? else {
            return Ok(None);
        };
        let (mut position, mut in_flight) = (0, false);
        let accepted_at = match &found {
            Found::Live(info) => {
                let key = submission.conversation.key();
                let lane = self.0.store.lane(&info.queue, &key, Some(id)).await?;
                position = lane.place.unwrap_or(0);
                in_flight = lane.in_flight.is_some();
                TurnHeaders::read(&info.headers, info.enqueued_at).accepted_at
            }
            Found::Over(terminal) => Timestamp(terminal.record.accepted_at),
        };
        Ok(Some(Submitted {
            id,
            org: submission.org.clone(),
            user: submission.user.clone(),
            position,
            in_flight,
            waiting_ahead: position.saturating_sub(1 + u64::from(in_flight)),
            duplicate: true,
            accepted_at,
            expires_at: accepted_at.after(self.0.config.retention),
        }))
    }
}

/// What failed came before the turn itself.
fn surely_not_stored(error: StoreError) -> StoreError {
    match error {
        StoreError::Unknown(why) => StoreError::Unavailable(why),
        StoreError::Unavailable(_) | StoreError::Invalid(_) | StoreError::Corrupt(_) => error,
    }
}

/// What failed came after an earlier send of this turn was found.
pub(crate) fn maybe_stored(error: BrokerError) -> BrokerError {
    match error {
        BrokerError::Store(StoreError::Unavailable(why)) => BrokerError::Store(StoreError::Unknown(why)),
        other => other,
    }
}

/// The answer to a batch of one.
pub(crate) fn one<T>(answers: Vec<T>) -> Result<T, StoreError> {
    let missing = || StoreError::Corrupt("the store gave no answer for an item".to_owned());
    answers.into_iter().next().ok_or_else(missing)
}

/// Room for most keys without growing.
const DEDUP_KEY_BYTES_TYPICAL: usize = 192;

/// On disk: never change it.
fn dedup_key_of(submission: &Submission) -> Option<Vec<u8>> {
    if let Some(failed) = submission.redrive_of {
        // No other key begins with this byte: theirs is a short length.
        let mut key = vec![u8::MAX];
        push_part(&mut key, &failed.to_string());
        return Some(key);
    }
    let own = submission.client_message_id.as_ref()?;
    let mut key = Vec::with_capacity(DEDUP_KEY_BYTES_TYPICAL);
    push_part(&mut key, &submission.client);
    push_part(&mut key, &submission.user);
    push_part(&mut key, own);
    key.extend_from_slice(&submission.conversation.key().0);
    Some(key)
}
