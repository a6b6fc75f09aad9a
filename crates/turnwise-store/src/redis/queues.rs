//! The queue half of the store.

use super::config::{ANSWER_BYTES_MAX, SCRIPT_ITEMS_MAX};
use super::{RedisStore, array, bytes, codec, corrupt, count, integer, once_begun, scripts};
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use redis::Value;
use std::time::Duration;
use turnwise_core::limits::LIST_LIMIT_MAX;
use turnwise_core::machine::check;
use turnwise_core::{
    Claim, Delivery, Depth, Effect, Enqueued, Extended, ItemResult, LaneStatus, MessageId, MessageInfo,
    NewMessage, OrderingKey, QueueName, QueueStore, Receipt, Removed, Result, Settled, Settlement, Stage,
    StopRequested, StoreError, Timestamp,
};

/// Why a message is not stored when a great many of its key have come due at once.
const LINING_UP: &str = "messages of its key that are due take their places first: try again";

/// Stages by their number.
fn stage_text(stage: Stage) -> String {
    (stage as u8).to_string()
}

fn enqueued(value: &Value) -> Result<ItemResult<Enqueued>> {
    let Value::Array(parts) = value else { return Err(corrupt("an answer")) };
    let [code, number, Value::BulkString(nonce), position, in_flight] = parts.as_slice() else {
        return Err(corrupt("an answer"));
    };
    let id = || codec::message_id(integer(number)?.to_string().as_bytes(), nonce);
    Ok(Ok(match integer(code)? {
        0 => Enqueued::New { id: id()?, position: count(position)?, in_flight: integer(in_flight)? == 1 },
        1 => Enqueued::Duplicate(id()?),
        2 => Enqueued::DedupConflict(id()?),
        3 => Enqueued::LaneFull,
        _ => return Ok(Err(StoreError::Unavailable(LINING_UP.into()))),
    }))
}

fn extended(value: &Value) -> Result<ItemResult<Extended>> {
    let Value::Array(parts) = value else { return Err(corrupt("an answer")) };
    let [code, until] = parts.as_slice() else { return Err(corrupt("an answer")) };
    let until = Timestamp(integer(until)?);
    Ok(Ok(match integer(code)? {
        0 => Extended::LeaseLost,
        1 => Extended::Until(until),
        _ => Extended::Stop(until),
    }))
}

fn settled(value: &Value) -> Result<ItemResult<Settled>> {
    Ok(Ok(if integer(value)? == 1 { Settled::Done } else { Settled::LeaseLost }))
}

fn removed(value: &Value) -> Result<ItemResult<Removed>> {
    Ok(Ok(match integer(value)? {
        0 => Removed::NotFound,
        1 => Removed::Done,
        2 => Removed::Leased,
        _ => Removed::Dead,
    }))
}

/// Messages from name, record and body of each.
fn kept(mut values: std::vec::IntoIter<Value>, now: Timestamp) -> Result<Vec<codec::Kept>> {
    let mut all = Vec::with_capacity(values.len() / 3);
    while let Some(name) = values.next() {
        let (Some(record), Some(body)) = (values.next(), values.next()) else {
            return Err(corrupt("an answer"));
        };
        all.push(codec::Kept::read(&bytes(name)?, &bytes(record)?, bytes(body)?, now)?);
    }
    Ok(all)
}

fn optional(values: &Value) -> Result<Option<Timestamp>> {
    match values {
        Value::Array(one) => one.first().map(|at| integer(at).map(Timestamp)).transpose(),
        _ => Err(corrupt("an answer")),
    }
}

fn id_arguments(queue: &QueueName, ids: &[MessageId]) -> Vec<Vec<u8>> {
    let mut arguments = vec![codec::name_bytes(queue)];
    for id in ids {
        arguments.push(codec::message_name(*id).into_bytes());
        arguments.push(codec::nonce_bytes(*id).to_vec());
    }
    arguments
}

/// What a claim's arguments begin with: the bytes after which it hands out no more.
pub(super) fn claim_bytes() -> Vec<u8> {
    ANSWER_BYTES_MAX.to_string().into_bytes()
}

#[async_trait]
impl QueueStore for RedisStore {
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        check::batch(batch.len())?;
        batch.iter().try_for_each(check::message)?;
        if batch.is_empty() {
            // Only asks whether there is room.
            let nothing: [&str; 0] = [];
            self.run(scripts::ROOM, &nothing).await?;
            return Ok(Vec::new());
        }
        let items = batch.iter().map(codec::message_item).collect();
        drop(batch);
        let answers = self.run_together(&self.enqueues, items, |_, value| enqueued(value)).await?;
        for answer in answers.iter().flatten() {
            if let Enqueued::New { id, .. } = answer {
                self.core.pool.learn_numbers(id.seq(), 0);
            }
        }
        Ok(answers)
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        check::claim(&claim)?;
        let (item, weight) = (codec::claim_item(&claim), claim.limit as usize);
        let bytes = item.len();
        let mut answers = self.claims.call(vec![item], weight, bytes).await?;
        let (_, answer) = answers.pop().ok_or_else(|| corrupt("answers"))??;
        // A lease that ends as it begins, on a clock that stands still, was handed out all the same.
        let claimed = kept(array(answer)?.into_iter(), Timestamp::MIN)?;
        let deliveries = claimed.into_iter().map(codec::Kept::delivery).collect::<Result<Vec<_>>>()?;
        if let Some(token) = deliveries.iter().map(|delivery| delivery.receipt.token.0).max() {
            self.core.pool.learn_numbers(0, token);
        }
        Ok(deliveries)
    }

    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        check::batch(receipts.len())?;
        check::lease(lease)?;
        let items: Vec<_> = receipts.iter().map(codec::receipt_item).collect();
        let lease = codec::micros_text(lease).into_bytes();
        self.run_batch(scripts::EXTEND, lease, &items, |_, value| extended(value)).await
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        check::batch(batch.len())?;
        batch.iter().try_for_each(check::settlement)?;
        let items = batch.iter().map(codec::settlement_item).collect();
        drop(batch);
        self.run_together(&self.settlements, items, |_, value| settled(value)).await
    }

    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        check::batch(unleased.len())?;
        unleased.iter().try_for_each(|(_, effects)| check::effects(effects))?;
        let items: Vec<_> = unleased.iter().map(|(id, effects)| codec::removal_item(*id, effects)).collect();
        drop(unleased);
        let queue = codec::name_bytes(queue);
        self.run_batch(scripts::REMOVE, queue, &items, |_, value| removed(value)).await
    }

    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        let reply = self.run(scripts::STOP, &id_arguments(queue, &[id])).await?;
        Ok(match integer(&reply.answer)? {
            0 => StopRequested::NotFound,
            1 => StopRequested::Asked,
            _ => StopRequested::NotLeased,
        })
    }

    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        check::batch(dead.len())?;
        let (mut rest, mut redriven, deadline) = (dead.as_slice(), 0, self.core.deadline());
        while !rest.is_empty() {
            let step = rest.get(..SCRIPT_ITEMS_MAX).unwrap_or(rest);
            let told = self.core.run_before(deadline, scripts::REDRIVE, &id_arguments(queue, step)).await;
            let answer = array(told.map_err(|error| once_begun(redriven > 0, error))?.answer)?;
            let [done, dead] = answer.as_slice() else { return Err(corrupt("an answer")) };
            redriven += count::<u32>(dead)?;
            rest = rest.get(count::<usize>(done)?..).unwrap_or_default();
        }
        Ok(redriven)
    }

    async fn sweep(&self, limit: u32) -> Result<u32> {
        let reply = self.run(scripts::SWEEP, &[limit.to_string()]).await?;
        count(&reply.answer)
    }

    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        check::batch(ids.len())?;
        let (mut rest, deadline) = (ids.as_slice(), self.core.deadline());
        let mut answers = Vec::with_capacity(ids.len());
        while !rest.is_empty() {
            let some = rest.get(..SCRIPT_ITEMS_MAX).unwrap_or(rest);
            let mut arguments = id_arguments(queue, some);
            arguments.insert(1, ANSWER_BYTES_MAX.to_string().into_bytes());
            let reply = self.core.run_before(deadline, scripts::GET, &arguments).await?;
            let mut values = array(reply.answer)?.into_iter();
            let done = count::<usize>(&values.next().unwrap_or_default())?.max(1);
            let mut found = kept(values, reply.now)?.into_iter().map(|kept| kept.info).peekable();
            // Answers come in the order of the questions, those that are not there left out.
            answers.extend(some.iter().take(done).map(|id| found.next_if(|info| info.id == *id)));
            rest = rest.get(done..).unwrap_or_default();
        }
        Ok(answers)
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        let reply = self.run(scripts::DEPTH, &[codec::name_bytes(queue)]).await?;
        let numbers = array(reply.answer)?;
        let [enqueued, acked, removed, expired, scheduled, ready, leased, dead, oldest] = numbers.as_slice()
        else {
            return Err(corrupt("counters"));
        };
        Ok(Depth {
            enqueued: count(enqueued)?,
            acked: count(acked)?,
            removed: count(removed)?,
            expired: count(expired)?,
            scheduled: count(scheduled)?,
            ready: count(ready)?,
            leased: count(leased)?,
            dead: count(dead)?,
            oldest_waiting: optional(oldest)?,
        })
    }

    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        let arguments = [
            codec::name_bytes(queue),
            key.0.to_vec(),
            of.map(codec::message_name).unwrap_or_default().into_bytes(),
            of.map(|id| codec::nonce_bytes(id).to_vec()).unwrap_or_default(),
        ];
        let reply = self.run(scripts::LANE, &arguments).await?;
        let parts = array(reply.answer)?;
        let [length, Value::Array(in_flight), place, oldest] = parts.as_slice() else {
            return Err(corrupt("a lane"));
        };
        let in_flight = match in_flight.as_slice() {
            [Value::BulkString(name), Value::BulkString(nonce)] => Some(codec::message_id(name, nonce)?),
            _ => None,
        };
        let place = match place {
            Value::Array(place) => place.first().map(count).transpose()?,
            _ => None,
        };
        Ok(LaneStatus { length: count(length)?, in_flight, place, oldest_waiting: optional(oldest)? })
    }

    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        let limit = limit.min(LIST_LIMIT_MAX) as usize;
        let (mut listed, deadline): (Vec<MessageInfo>, _) = (Vec::new(), self.core.deadline());
        let mut after = after.map_or(0, MessageId::seq).to_string().into_bytes();
        while listed.len() < limit {
            let page = (limit - listed.len()).min(SCRIPT_ITEMS_MAX);
            let arguments = [
                codec::name_bytes(queue),
                stage_text(stage).into_bytes(),
                after,
                page.to_string().into_bytes(),
                ANSWER_BYTES_MAX.to_string().into_bytes(),
            ];
            let reply = self.core.run_before(deadline, scripts::LIST, &arguments).await?;
            let mut values = array(reply.answer)?.into_iter();
            let done = count::<usize>(&values.next().unwrap_or_default())?;
            after = bytes(values.next().unwrap_or_default())?.to_vec();
            listed.extend(kept(values, reply.now)?.into_iter().map(|kept| kept.info));
            if done < page {
                break;
            }
        }
        Ok(listed)
    }

    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        let arguments = [
            after.as_ref().map(codec::name_bytes).unwrap_or_default(),
            limit.min(LIST_LIMIT_MAX).to_string().into_bytes(),
        ];
        let reply = self.run(scripts::QUEUES, &arguments).await?;
        array(reply.answer)?.into_iter().map(|name| codec::name(&bytes(name)?)).collect()
    }

    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        self.core.hub.wakeups()
    }
}
