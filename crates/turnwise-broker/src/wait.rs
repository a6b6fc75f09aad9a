//! Finding a turn, and waiting for its end.

use crate::broker::{Broker, reply_topic_of, turns_queue};
use crate::duty::Housekeeping;
use crate::error::BrokerError;
use crate::limits::EVENTS_PAGE;
use crate::local::Signal;
use crate::orgs::OrgScope;
use crate::record::Terminal;
use crate::submit::{maybe_stored, one};
use crate::turn::TurnEnd;
use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use tokio::time::sleep;
use turnwise_core::{
    MessageId, MessageInfo, Offset, Position, Read, ReadFrom, Stage, StoreError, TopicFilter, TopicName,
};

/// What the store has of a turn.
#[derive(Debug)]
pub(crate) enum Found {
    /// Waiting or being processed.
    Live(Box<MessageInfo>),
    /// Ended, with its last word.
    Over(Box<Terminal>),
}

impl Broker {
    /// Looks at the queue first: a turn leaves it in the step that stores its
    /// last word, so a turn in neither place is gone. So is a dead letter whose
    /// last word was dropped (C6).
    pub(crate) async fn lookup(&self, org: &str, id: MessageId) -> Result<Option<Found>, BrokerError> {
        let store = &self.0.store;
        let info = one(store.get(&turns_queue(org)?, vec![id]).await?)?;
        if let Some(info) = info
            && info.stage != Stage::Dead
        {
            return Ok(Some(Found::Live(Box::new(info))));
        }
        let terminal = self.terminal(&reply_topic_of(org, id)?).await?;
        let own = terminal.filter(|terminal| terminal.is_of(id));
        Ok(own.map(|terminal| Found::Over(Box::new(terminal))))
    }

    /// The same by id alone, in the orgs of a scope.
    pub(crate) async fn find(
        &self,
        scope: &OrgScope,
        id: MessageId,
    ) -> Result<Option<(String, Found)>, BrokerError> {
        let mut tried = Vec::new();
        for _before_and_after_catching_up in 0..2 {
            for org in self.0.orgs.candidates(scope, id) {
                if tried.contains(&org) {
                    continue;
                }
                if let Some(found) = self.lookup(&org, id).await? {
                    return Ok(Some((org, found)));
                }
                tried.push(org);
            }
            match scope {
                OrgScope::All => self.0.orgs.catch_up(self.0.store.as_ref()).await?,
                OrgScope::These(_) => break,
            }
        }
        Ok(None)
    }

    /// The last word in a reply topic, if it has one.
    pub(crate) async fn terminal(&self, topic: &TopicName) -> Result<Option<Terminal>, StoreError> {
        let store = &self.0.store;
        let end = match store.read(topic, ReadFrom::Latest, 1).await? {
            Read::Events { next, .. } | Read::Gap { resume: next } => next,
        };
        if end.offset == Offset(0) {
            return Ok(None);
        }
        let before_answer = Position { offset: Offset(end.offset.0.saturating_sub(2)), ..end };
        if let Some(terminal) = self.terminal_from(topic, ReadFrom::After(before_answer)).await? {
            return Ok(Some(terminal));
        }
        // A write that outlived its lease may follow the last word: look everywhere.
        self.terminal_from(topic, ReadFrom::Earliest).await
    }

    /// Reads on to the end, page by page: a long answer may fill one by itself.
    async fn terminal_from(
        &self,
        topic: &TopicName,
        mut from: ReadFrom,
    ) -> Result<Option<Terminal>, StoreError> {
        let mut window = Vec::new();
        loop {
            let (events, next) = match self.0.store.read(topic, from, EVENTS_PAGE).await? {
                Read::Events { events, .. } if events.is_empty() => return Ok(None),
                Read::Events { events, next } => (events, next),
                Read::Gap { resume } => (Vec::new(), resume),
            };
            window.extend(events);
            if let Some(terminal) = Terminal::among(&window)? {
                return Ok(Some(terminal));
            }
            let answer_at = window.len().saturating_sub(1);
            window.drain(..answer_at);
            from = ReadFrom::After(next);
        }
    }

    /// The end of a turn of which an earlier send was found to be over. Looks
    /// once and waits for nothing; `None` when it is not over after all.
    ///
    /// # Errors
    /// When the store does not answer, as for a turn that is stored: never
    /// `Unavailable`. `Gone` when it is not kept any longer.
    pub async fn end_of_repeat(&self, org: &str, id: MessageId) -> Result<Option<TurnEnd>, BrokerError> {
        match self.lookup(org, id).await.map_err(maybe_stored)? {
            Some(Found::Over(terminal)) => Ok(Some(terminal.end())),
            Some(Found::Live(_)) => Ok(None),
            None => Err(BrokerError::Gone),
        }
    }

    /// Waits until the turn is over; also one that another node processes, or
    /// that a restart interrupted. Cancelling the wait changes nothing.
    ///
    /// # Errors
    /// `Gone` for a turn that is not known, or not kept any longer. A store that
    /// does not answer for a while is waited for.
    pub async fn wait_end(&self, org: &str, id: MessageId) -> Result<TurnEnd, BrokerError> {
        let (mut listener, fresh) = self.0.local.listen(id);
        let topic = reply_topic_of(org, id)?;
        let watch = || self.0.store.watch(TopicFilter::One(topic.clone()));
        // Another node may have called it already; what this one does it hears of without a hint.
        let is_alone = matches!(self.0.config.housekeeping, Housekeeping::Alone);
        let mut hints: Option<BoxStream<'static, TopicName>> = (!is_alone).then(watch);
        let mut ask = !fresh;
        loop {
            if ask {
                match self.lookup(org, id).await {
                    Ok(Some(Found::Over(terminal))) => return Ok(terminal.end()),
                    Ok(Some(Found::Live(_))) => {}
                    Ok(None) => return Err(BrokerError::Gone),
                    Err(BrokerError::Store(StoreError::Unavailable(_) | StoreError::Unknown(_))) => {
                        tracing::debug!(message_id = %id, "the store did not answer; waiting on");
                    }
                    Err(error) => return Err(error),
                }
            }
            let mut over = false;
            tokio::select! {
                biased;
                signal = listener.next() => match signal {
                    Signal::Ended(end) => return Ok(TurnEnd::clone(&end)),
                    Signal::Leased | Signal::Appended(_) | Signal::News => ask = false,
                },
                hint = next_hint(hints.as_mut()) => {
                    over = hint.is_none();
                    ask = true;
                }
                () = sleep(self.0.config.poll_interval) => {
                    ask = true;
                    hints.get_or_insert_with(watch);
                }
            }
            if over {
                hints = None;
            }
        }
    }
}

/// The next hint; for ever pending without a source.
pub(crate) async fn next_hint<T>(hints: Option<&mut BoxStream<'static, T>>) -> Option<T> {
    match hints {
        Some(hints) => hints.next().await,
        None => std::future::pending().await,
    }
}
