//! The topic half of the store.

use super::{
    RedisStore, array, bytes, codec, corrupt, count, holder_argument, integer, once_begun, scripts, sizes_fit,
};
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use redis::Value;
use turnwise_core::limits::{LIST_LIMIT_MAX, READ_BYTES_MAX};
use turnwise_core::machine::check;
use turnwise_core::{
    Epoch, Event, ItemResult, NewEvent, Offset, Position, Read, ReadFrom, ReadMany, Receipt, Result,
    StoreError, StorePosition, TopicFilter, TopicInfo, TopicName, TopicPattern, TopicStore,
};

/// Topics that one script drops.
const DROPPED_MAX: usize = 250;
/// Stretches of the log, of `TICK_ITEMS_MAX` chunks each, that one page over many topics looks through.
const READ_MANY_STEPS_MAX: u32 = 10;

fn position(epoch: u64, offset: &Value) -> Result<ItemResult<Position>> {
    Ok(match count(offset)? {
        0 => Err(StoreError::Invalid("the dedup key was used with other content".into())),
        offset => Ok(Position { epoch: Epoch(epoch), offset: Offset(offset) }),
    })
}

/// Where a page ends: a single event may be larger than a page.
fn is_over_page(events: usize, bytes: usize) -> bool {
    events > 0 && bytes > READ_BYTES_MAX
}

impl RedisStore {
    /// See [`turnwise_core::Store::append_held`]. All or nothing: one step, however large.
    pub(super) async fn append_for(
        &self,
        holder: &Receipt,
        batch: Vec<NewEvent>,
    ) -> Result<Option<Vec<ItemResult<Position>>>> {
        check::events(&batch)?;
        let mut arguments = vec![holder_argument(Some(holder))];
        arguments.extend(batch.iter().map(codec::event_item));
        drop(batch);
        sizes_fit(&arguments)?;
        let reply = self.run(scripts::APPEND, &arguments).await?;
        match reply.answer {
            Value::Array(offsets) => {
                offsets.iter().map(|offset| position(reply.epoch, offset)).collect::<Result<_>>().map(Some)
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl TopicStore for RedisStore {
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        check::events(&batch)?;
        let items = batch.iter().map(codec::event_item).collect();
        drop(batch);
        self.run_together(&self.appends, items, position).await
    }

    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        let limit = limit.clamp(1, LIST_LIMIT_MAX);
        let (from, epoch) = match from {
            ReadFrom::Earliest => ("earliest".to_owned(), String::new()),
            ReadFrom::Latest => ("latest".to_owned(), String::new()),
            ReadFrom::After(position) => (position.offset.0.to_string(), position.epoch.0.to_string()),
        };
        let arguments =
            [codec::name_bytes(topic), from.into_bytes(), limit.to_string().into_bytes(), epoch.into_bytes()];
        let reply = self.run(scripts::READ, &arguments).await?;
        let at = |offset: u64| Position { epoch: Epoch(reply.epoch), offset: Offset(offset) };
        let mut parts = array(reply.answer)?.into_iter();
        let mut number = || count::<u64>(&parts.next().unwrap_or_default());
        let (is_there, first, _last, after) = (number()?, number()?, number()?, number()?);
        if is_there == 0 {
            return Ok(Read::Gap { resume: at(first.saturating_sub(1)) });
        }
        let (mut events, mut size): (Vec<Event>, usize) = (Vec::new(), 0);
        'chunks: for chunk in parts {
            for event in codec::chunk(&bytes(chunk)?)?.into_iter().filter(|event| event.offset.0 > after) {
                size += event.bytes();
                if is_over_page(events.len(), size) {
                    break 'chunks;
                }
                events.push(event);
                if events.len() >= limit as usize {
                    break 'chunks;
                }
            }
        }
        let next = at(events.last().map_or(after, |event| event.offset.0));
        Ok(Read::Events { events, next })
    }

    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        let patterns: Vec<Vec<u8>> = patterns.iter().map(codec::pattern_item).collect();
        let (mut after, mut gap, deadline) = (after, false, self.core.deadline());
        let limit = limit.clamp(1, LIST_LIMIT_MAX);
        let mut steps = 0;
        loop {
            steps += 1;
            let mut arguments = vec![
                after.seq.to_string().into_bytes(),
                after.epoch.0.to_string().into_bytes(),
                limit.to_string().into_bytes(),
            ];
            arguments.extend(patterns.iter().cloned());
            let reply = self.core.run_before(deadline, scripts::READ_MANY, &arguments).await?;
            let mut parts = array(reply.answer)?.into_iter();
            let mut number = || count::<u64>(&parts.next().unwrap_or_default());
            let (missed, next, more) = (number()?, number()?, number()?);
            gap |= missed == 1;
            let (mut events, mut seqs) = (Vec::new(), Vec::new());
            while let Some(topic) = parts.next() {
                let (Some(first), Some(chunk), Some(row)) = (parts.next(), parts.next(), parts.next()) else {
                    return Err(corrupt("a page"));
                };
                let (topic, first) = (codec::name(&bytes(topic)?)?, count::<u64>(&first)?);
                let kept = codec::chunk(&bytes(chunk)?)?.into_iter().filter(|event| event.offset.0 >= first);
                events.extend(kept.map(|event| (topic.clone(), event)));
                seqs.resize(events.len(), count::<u64>(&row)?);
            }
            after = StorePosition { epoch: Epoch(reply.epoch), seq: next };
            // A stretch of the log without anything that was asked for is no end, but many of them are one page.
            if more == 0 || !events.is_empty() || steps == READ_MANY_STEPS_MAX {
                return Ok(ReadMany { events, seqs, next: after, gap });
            }
        }
    }

    async fn end(&self) -> Result<StorePosition> {
        let nothing: [&str; 0] = [];
        let reply = self.run(scripts::END, &nothing).await?;
        Ok(StorePosition { epoch: Epoch(reply.epoch), seq: count::<u64>(&reply.answer)? })
    }

    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        let limit = limit.min(LIST_LIMIT_MAX) as usize;
        let mut after = after.as_ref().map(codec::name_bytes).unwrap_or_default();
        let (mut found, deadline) = (Vec::new(), self.core.deadline());
        while found.len() < limit {
            let rest = (limit - found.len()).to_string().into_bytes();
            let arguments = [codec::pattern_item(pattern), after, rest];
            let told = self.core.run_before(deadline, scripts::TOPICS_OF, &arguments).await?;
            let mut parts = array(told.answer)?.into_iter();
            after = bytes(parts.next().unwrap_or_default())?.to_vec();
            let more = integer(&parts.next().unwrap_or_default())?;
            while let Some(name) = parts.next() {
                let record = bytes(parts.next().unwrap_or_default())?;
                found.push(codec::topic_info(codec::name(&bytes(name)?)?, &record)?);
            }
            if more == 0 {
                break;
            }
        }
        Ok(found)
    }

    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        let arguments = [codec::name_bytes(topic), before.0.to_string().into_bytes()];
        let (mut has_begun, deadline) = (false, self.core.deadline());
        loop {
            let told = self.core.run_before(deadline, scripts::TRIM, &arguments).await;
            let reply = told.map_err(|error| once_begun(has_begun, error))?;
            if integer(&reply.answer)? != 1 {
                return Ok(());
            }
            has_begun = true;
        }
    }

    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        let names: Vec<Vec<u8>> = names.iter().map(codec::name_bytes).collect();
        let (mut rest, mut dropped) = (names.as_slice(), 0);
        let (mut has_begun, deadline) = (false, self.core.deadline());
        while !rest.is_empty() {
            let step = rest.get(..DROPPED_MAX).unwrap_or(rest);
            let told = self.core.run_before(deadline, scripts::DROP_TOPICS, step).await;
            let done = array(told.map_err(|error| once_begun(has_begun, error))?.answer)?;
            let [done, there] = done.as_slice() else { return Err(corrupt("an answer")) };
            has_begun = true;
            dropped += count::<u32>(there)?;
            rest = rest.get(count::<usize>(done)?..).unwrap_or_default();
        }
        Ok(dropped)
    }

    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        let arguments = [codec::name_bytes(topic), subscription.as_bytes().to_vec()];
        let mut answer = array(self.run(scripts::CURSOR, &arguments).await?.answer)?;
        let Some(text) = answer.pop().filter(|value| *value != Value::Nil) else { return Ok(None) };
        let text = String::from_utf8_lossy(&bytes(text)?).into_owned();
        let parts = text.split_once(':').and_then(|(epoch, offset)| {
            Some(Position { epoch: Epoch(epoch.parse().ok()?), offset: Offset(offset.parse().ok()?) })
        });
        parts.map(Some).ok_or_else(|| corrupt("a cursor"))
    }

    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        let from = from.map(|from| format!("{}:{}", from.epoch.0, from.offset.0)).unwrap_or_default();
        let arguments = [
            codec::name_bytes(topic),
            subscription.as_bytes().to_vec(),
            from.into_bytes(),
            to.epoch.0.to_string().into_bytes(),
            to.offset.0.to_string().into_bytes(),
        ];
        Ok(integer(&self.run(scripts::ADVANCE, &arguments).await?.answer)? == 1)
    }

    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName> {
        self.core.hub.watch(topics)
    }
}
