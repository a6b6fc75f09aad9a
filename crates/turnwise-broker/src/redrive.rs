//! A failed turn's message once more, as a new turn (clause C4).

use crate::broker::{Broker, turns_queue};
use crate::conversation::Conversation;
use crate::error::BrokerError;
use crate::orgs::OrgScope;
use crate::record::TurnHeaders;
use crate::submit::{Submission, Submitted, one};
use crate::turn::TurnState;
use crate::wait::Found;
use turnwise_core::{MessageId, Stage, StoreError};

/// The answer to a redrive of a turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Redriven {
    /// The new turn. Asked again for the same failed turn, it is the same new one.
    Submitted(Submitted),
    /// It did not fail for good: nothing to repeat.
    NotFailed(TurnState),
    /// Not known, or another org's.
    NotFound,
}

impl Broker {
    /// Submits the message of a failed turn again, at the tail of its
    /// conversation. The failed turn stays as it is.
    ///
    /// # Errors
    /// As [`Broker::submit`]. `Invalid` when its callback is not allowed any more.
    pub async fn redrive_turn(&self, orgs: &OrgScope, id: MessageId) -> Result<Redriven, BrokerError> {
        let (org, terminal) = match self.find(orgs, id).await? {
            None => return Ok(Redriven::NotFound),
            Some((_, Found::Live(info))) => {
                let running = info.stage == Stage::Leased;
                let state = if running { TurnState::Processing } else { TurnState::Queued };
                return Ok(Redriven::NotFailed(state));
            }
            Some((org, Found::Over(terminal))) => (org, terminal),
        };
        let letter = one(self.0.store.get(&turns_queue(&org)?, vec![id]).await?)?;
        let Some(letter) = letter.filter(|letter| letter.stage == Stage::Dead) else {
            // One that expired was never called and leaves no dead letter.
            return Ok(Redriven::NotFailed(terminal.state));
        };
        let headers = TurnHeaders::read(&letter.headers, letter.enqueued_at);
        let conversation = letter.key.as_ref().and_then(Conversation::of_key);
        let conversation =
            conversation.ok_or_else(|| StoreError::Corrupt("a turn without a conversation".to_owned()))?;
        let (mut callback, mut client_message_id) = (None, None);
        if let Some(note) = headers.callback {
            let target = self.0.config.callbacks.check(&note.url);
            let refused = |why| StoreError::Invalid(format!("the callback_url of the failed turn {why}"));
            callback = Some(target.map_err(refused)?);
            client_message_id = note.client_message_id;
        }
        let submitted = self.submit(Submission {
            org,
            user: headers.user,
            client: headers.client,
            conversation,
            client_message_id,
            request: letter.payload,
            prefer_stream: headers.prefer_stream,
            traceparent: headers.traceparent,
            callback,
            redrive_of: Some(id),
        });
        Ok(Redriven::Submitted(submitted.await?))
    }
}
