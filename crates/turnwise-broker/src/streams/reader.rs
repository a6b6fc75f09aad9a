//! Reading a stream, once or for as long as something comes.

use super::life::Told;
use super::log::Decision;
use super::offset::StreamOffset;
use super::page::{self, StreamFrom, StreamPage};
use super::record::Step;
use super::{StreamRefusal, StreamView, topic};
use crate::broker::{Broker, Inner};
use crate::error::BrokerError;
use crate::wait::next_hint;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use std::sync::Arc;
use tokio::time::{Instant, sleep};
use turnwise_core::{Timestamp, TopicFilter, TopicName};

/// A reader of a stream, at a place of its.
pub struct StreamReader {
    inner: Arc<Inner>,
    topic: TopicName,
    /// Which of this name.
    life: u64,
    at: StreamOffset,
    hints: Option<BoxStream<'static, TopicName>>,
    /// There may be something new since then.
    since: Instant,
}

impl Broker {
    /// What a stream is. Nothing is noted of it: it does not live longer for being looked at.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn stream(
        &self,
        org: &str,
        name: &str,
    ) -> Result<Result<StreamView, StreamRefusal>, BrokerError> {
        let topic = topic(org, name)?;
        let seen = self.0.look(&topic, Instant::now()).await?;
        let now = self.0.now();
        match seen.life() {
            Some(life) if !life.deleted && !life.is_over(now) => Ok(Ok(StreamView::of(life))),
            Some(_) => Ok(Err(self.0.refusal_of_dead(&topic).await?)),
            None => Ok(Err(StreamRefusal::NotFound)),
        }
    }

    /// A page of a stream.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn read_stream(
        &self,
        org: &str,
        name: &str,
        from: StreamFrom,
    ) -> Result<Result<StreamPage, StreamRefusal>, BrokerError> {
        match self.open_stream(org, name, from, false).await? {
            Ok(mut reader) => reader.page().await,
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Reads a stream from here on.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn follow_stream(
        &self,
        org: &str,
        name: &str,
        from: StreamFrom,
    ) -> Result<Result<StreamReader, StreamRefusal>, BrokerError> {
        self.open_stream(org, name, from, true).await
    }

    async fn open_stream(
        &self,
        org: &str,
        name: &str,
        from: StreamFrom,
        is_live: bool,
    ) -> Result<Result<StreamReader, StreamRefusal>, BrokerError> {
        let inner = &self.0;
        let topic = topic(org, name)?;
        // Before the first look, so that nothing is missed in between.
        let hints = is_live.then(|| inner.store.watch(TopicFilter::One(topic.clone())));
        let since = Instant::now();
        let seen = inner.look(&topic, since).await?;
        let Some(life) = seen.life() else { return Ok(Err(StreamRefusal::NotFound)) };
        if life.deleted || life.is_over(inner.now()) {
            return Ok(Err(inner.refusal_of_dead(&topic).await?));
        }
        let at = match page::start(&seen, life, from) {
            Ok(at) => at,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let life = life.id;
        Ok(Ok(StreamReader { inner: Arc::clone(inner), topic, life, at, hints, since }))
    }
}

impl StreamReader {
    /// What there is behind the reader's place, which moves on by it. The stream lives longer for that.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn page(&mut self) -> Result<Result<StreamPage, StreamRefusal>, BrokerError> {
        let seen = self.inner.look(&self.topic, self.since).await?;
        let now = self.inner.now();
        let life = match seen.life().filter(|life| life.id == self.life) {
            None => return Ok(Err(StreamRefusal::NotFound)),
            Some(life) if life.deleted || life.is_over(now) => {
                return Ok(Err(self.inner.refusal_of_dead(&self.topic).await?));
            }
            Some(life) => life,
        };
        if life.wants_touch(now) {
            touch(&self.inner, &self.topic, life.id).await?;
        }
        let page = self.inner.page(&self.topic, &seen, life, self.at).await?;
        if let Ok(page) = &page {
            self.at = page.next;
        }
        Ok(page)
    }

    /// Waits until there may be something new. Cancelling the wait loses nothing.
    pub async fn changed(&mut self) {
        let poll_interval = self.inner.config.poll_interval;
        tokio::select! {
            biased;
            hint = next_hint(self.hints.as_mut()) => {
                if hint.is_none() {
                    self.hints = None;
                }
                self.since = Instant::now();
            }
            () = sleep(poll_interval) => {
                // Of those who wait for the same stream one asks the store, for all of them.
                let before = Instant::now().checked_sub(poll_interval / 2);
                self.since = before.map_or(self.since, |before| before.max(self.since));
            }
        }
    }
}

/// Notes that somebody reads, unless somebody else has.
async fn touch(inner: &Inner, topic: &TopicName, id: u64) -> Result<(), BrokerError> {
    let decide = |told: &Told, _: u64, now: Timestamp| {
        let life = told.life.as_ref().filter(|life| life.id == id && !life.deleted);
        match life.filter(|life| !life.is_over(now) && life.wants_touch(now)) {
            None => Decision::Answer(()),
            Some(life) => {
                let mut after = Box::new(life.clone());
                after.touched_at = now.0;
                Decision::Take(Step::Touch, Bytes::new(), Some(after), ())
            }
        }
    };
    inner.transact(topic, decide).await
}
