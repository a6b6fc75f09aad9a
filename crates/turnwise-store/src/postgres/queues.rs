//! The operations on queues.

use super::codec::{self, Bodies};
use super::many;
use super::pool::Values;
use super::{Inner, PostgresStore, rows};
use crate::gather::Step;
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use turnwise_core::limits::LIST_LIMIT_MAX;
use turnwise_core::machine::check;
use turnwise_core::{
    Claim, Delivery, Depth, Effect, Enqueued, Extended, ItemResult, LaneStatus, MessageId, MessageInfo,
    NewMessage, OrderingKey, QueueName, QueueStore, Receipt, Removed, Result, Settled, Settlement, Stage,
    StopRequested, StoreError, Timestamp,
};

const ENQUEUE: &str = "SELECT * FROM tw_enqueue($1, $2, $3::text::jsonb, $4)";
const EXTEND: &str = "SELECT * FROM tw_extend($1, $2, $3::text::jsonb, $4)";
const SETTLE: &str = "SELECT * FROM tw_settle($1, $2, $3::text::jsonb, $4)";
const REMOVE: &str = "SELECT * FROM tw_remove($1, $2, $3, $4, $5, $6::text::jsonb, $7)";
const STOP: &str = "SELECT tw_request_stop($1, $2, $3, $4, $5, $6, $7)";
const REDRIVE: &str = "SELECT tw_redrive($1, $2, $3, $4, $5, $6, $7)";
const GET: &str = "SELECT i.*, tw_now($1) AS now FROM info i \
    WHERE seq = ANY ($5) AND queue_id = tw_known_queue($2, $3, $4)";
const LIST: &str = "SELECT i.*, tw_now($1) AS now FROM info i \
    WHERE queue_id = (SELECT tw_known_queue($2, $3, $4)) AND stage = $5 AND until IS NULL AND seq > $6 \
    ORDER BY seq LIMIT $7::integer";
const LIST_LEASED: &str = "SELECT i.*, tw_now($1) AS now FROM lane l JOIN info i ON i.seq = l.head \
    WHERE l.queue_id = (SELECT tw_known_queue($2, $3, $4)) AND l.until IS NOT NULL AND l.head > $5 \
    ORDER BY l.head LIMIT $6::integer";
const QUEUES: &str = "SELECT org, kind, name FROM queue q WHERE (org, kind, name) > ($1, $2, $3) \
    AND EXISTS (SELECT FROM message m WHERE m.queue_id = q.id) ORDER BY org, kind, name LIMIT $4::integer";
/// Asks what an enqueue would meet, and changes nothing.
const ROOM: &str = "SELECT 1 FROM meta WHERE current_setting('transaction_read_only') = 'off'";

/// Events that one step deletes at most.
pub(super) const EVENTS_MAX: i32 = 10_000;
/// Counters of sessions that are over which one step adds up.
const FOLD_MAX: i32 = 1_000;

/// Bytes of bodies that one step may bring: the server takes no more than a gigabyte at once.
const STEP_BYTES_MAX: usize = 800 * 1024 * 1024;
/// Bytes that a step of a larger batch brings, if not a single item is more.
const STEP_BYTES: usize = 64 * 1024 * 1024;

pub(super) fn kind(queue: &QueueName) -> i16 {
    i16::from(queue.kind() as u8)
}

fn limit(limit: u32) -> i32 {
    i32::try_from(limit.min(LIST_LIMIT_MAX)).unwrap_or(i32::MAX)
}

/// Cuts a batch where its items together are too large for one step.
pub(super) fn steps<T>(batch: &[T], bytes: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut steps, mut rest) = (Vec::new(), batch);
    while !rest.is_empty() {
        let mut sum = 0;
        let over = |item: &T| {
            sum += bytes(item);
            sum > STEP_BYTES
        };
        let at = rest.iter().position(over).unwrap_or(rest.len()).max(1);
        let (step, after) = rest.split_at(at);
        steps.push(step);
        rest = after;
    }
    steps
}

pub(super) fn fits(bodies: &Bodies) -> Result<()> {
    let bytes: usize = bodies.0.iter().map(Vec::len).sum();
    if bytes <= STEP_BYTES_MAX {
        return Ok(());
    }
    Err(StoreError::Invalid(format!(
        "a step brings {bytes} bytes, PostgreSQL takes {STEP_BYTES_MAX} at once"
    )))
}

fn seqs(ids: &[MessageId]) -> Vec<i64> {
    ids.iter().map(|id| id.seq().cast_signed()).collect()
}

/// Messages with their places in the batch, as all steps lock their keys. Of two with one dedup key the first is
/// the new one: then as they came.
fn lock_order(batch: &[NewMessage]) -> Vec<(usize, &NewMessage)> {
    let mut all: Vec<_> = batch.iter().enumerate().collect();
    let mut seen = HashSet::new();
    let dedup = |new: &NewMessage| new.dedup.as_ref().map(|dedup| (new.queue.clone(), dedup.key.clone()));
    if batch.iter().filter_map(dedup).all(|dedup| seen.insert(dedup)) {
        all.sort_by_key(|&(_, new)| (&new.queue, new.key.is_none(), new.key.as_ref().map(|key| &key.0)));
    }
    all
}

/// Queues of effects, for hints.
fn effect_queues(effects: &[Effect]) -> impl Iterator<Item = QueueName> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Enqueue(new) => Some(new.queue.clone()),
        Effect::Publish(_) => None,
    })
}

/// Topics of effects, for hints.
fn effect_topics(effects: &[Effect]) -> impl Iterator<Item = QueueName> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Publish(new) => Some(new.topic.clone()),
        Effect::Enqueue(_) => None,
    })
}

/// Never seen: a call that says that time was noticed is not told to notice it again.
pub(super) fn restless() -> StoreError {
    StoreError::Unavailable("PostgreSQL asks to notice the time again and again".into())
}

impl Inner {
    async fn enqueue_step(&self, batch: &[NewMessage]) -> Result<Vec<ItemResult<Enqueued>>> {
        // Something may be due at once again: then one by one, which minds it.
        for _ in 0..2 {
            let Some(all) = many::Messages::new(batch)? else { break };
            let rows = self.enqueue_many(&all).await?;
            if let Some(answers) = self.enqueued(batch, &rows).await? {
                return Ok(answers);
            }
        }
        let mut bodies = Bodies::default();
        let items: Vec<_> =
            lock_order(batch).into_iter().map(|(at, new)| codec::message_at(at, new, &mut bodies)).collect();
        fits(&bodies)?;
        let items = codec::json(&items)?;
        for ticked in [false, true] {
            let rows = self.write_call(ENQUEUE, &[&self.pool.now(), &ticked, &items, &bodies.0]).await?;
            if let Some(answers) = self.enqueued(batch, &rows).await? {
                return Ok(answers);
            }
        }
        Err(restless())
    }

    async fn enqueue_many(&self, all: &many::Messages<'_>) -> Result<Vec<Row>> {
        let (now, names) = (self.pool.now(), &all.names);
        let values: Values<'_> = &[
            &now,
            &names.orgs,
            &names.kinds,
            &names.names,
            &all.queues,
            &all.keys,
            &all.lengths,
            &all.firsts,
            &all.lasts,
            &all.group,
            &all.nth,
            &all.nonces,
            &all.priorities,
            &all.attempts,
            &all.ends,
            &all.limits,
            &all.bodies,
            &all.at_end,
        ];
        self.write_call(many::ENQUEUE, values).await
    }

    /// The answers in the order of the batch; none, and time was noticed, if that came first.
    async fn enqueued(
        &self,
        batch: &[NewMessage],
        rows: &[Row],
    ) -> Result<Option<Vec<ItemResult<Enqueued>>>> {
        if rows::column::<i32>(rows::only(rows)?, "o_kind")? < 0 {
            self.tick().await?;
            return Ok(None);
        }
        self.hints.queues(batch.iter().map(|new| new.queue.clone()));
        let at = |row: &Row| rows::column::<i32>(row, "o_at");
        let mut answers =
            rows.iter().map(|row| Ok((at(row)?, Ok(rows::enqueued(row)?)))).collect::<Result<Vec<_>>>()?;
        answers.sort_by_key(|(at, _)| *at);
        Ok(Some(answers.into_iter().map(|(_, answer)| answer).collect()))
    }

    /// The row of an answer to settlements.
    async fn settle_rows(&self, batch: &[Settlement], ticked: bool) -> Result<Vec<Row>> {
        let now = self.pool.now();
        if let Some(acks) = many::Acks::new(batch) {
            let names = &acks.names;
            let values: Values<'_> = &[
                &now,
                &ticked,
                &names.orgs,
                &names.kinds,
                &names.names,
                &acks.queues,
                &acks.seqs,
                &acks.nonces,
                &acks.tokens,
            ];
            return self.write_call(many::ACK, values).await;
        }
        let mut bodies = Bodies::default();
        let items: Vec<_> = batch.iter().map(|one| codec::settlement(one, &mut bodies)).collect();
        fits(&bodies)?;
        let items = codec::json(&items)?;
        self.write_call(SETTLE, &[&now, &ticked, &items, &bodies.0]).await
    }

    async fn settle_step(&self, batch: &[Settlement]) -> Result<Vec<ItemResult<Settled>>> {
        for ticked in [false, true] {
            let rows = self.settle_rows(batch, ticked).await?;
            let row = rows::only(&rows)?;
            if rows::column(row, "o_ticks")? {
                self.tick().await?;
                continue;
            }
            let done: Vec<bool> = rows::column(row, "o_done")?;
            self.hints.queues(batch.iter().map(|one| one.receipt.queue.clone()));
            self.hint_effects(batch.iter().map(|one| &one.effects[..]));
            self.hints.all(rows::column(row, "o_hints")?);
            let settled = |done| if done { Settled::Done } else { Settled::LeaseLost };
            return Ok(done.into_iter().map(|done| Ok(settled(done))).collect());
        }
        Err(restless())
    }

    fn hint_effects<'a>(&self, all: impl Iterator<Item = &'a [Effect]> + Clone) {
        self.hints.queues(all.clone().flat_map(effect_queues));
        self.hints.topics(all.flat_map(effect_topics));
    }
}

/// Enqueues as they are gathered. Each call to the server has a bound of its own.
pub(super) struct Enqueues(pub(super) Arc<Inner>);

#[async_trait]
impl Step for Enqueues {
    type Item = NewMessage;
    type Answer = ItemResult<Enqueued>;

    async fn run(&self, batch: &[NewMessage], _: Duration) -> Result<Vec<ItemResult<Enqueued>>> {
        let mut answers = Vec::with_capacity(batch.len());
        for step in steps(batch, NewMessage::bytes) {
            match self.0.enqueue_step(step).await {
                Ok(some) => answers.extend(some),
                // Steps before this one are done: each item has its own answer.
                Err(error) if !answers.is_empty() => answers.extend(step.iter().map(|_| Err(error.clone()))),
                Err(error) => return Err(error),
            }
        }
        Ok(answers)
    }
}

/// Settlements as they are gathered. Each call to the server has a bound of its own.
pub(super) struct Settles(pub(super) Arc<Inner>);

#[async_trait]
impl Step for Settles {
    type Item = Settlement;
    type Answer = ItemResult<Settled>;

    async fn run(&self, batch: &[Settlement], _: Duration) -> Result<Vec<ItemResult<Settled>>> {
        self.0.settle_step(batch).await
    }
}

#[async_trait]
impl QueueStore for PostgresStore {
    async fn enqueue(&self, batch: Vec<NewMessage>) -> Result<Vec<ItemResult<Enqueued>>> {
        check::batch(batch.len())?;
        if batch.is_empty() {
            rows::only(&self.inner.read_call(ROOM, &[]).await?)?;
            return Ok(Vec::new());
        }
        batch.iter().try_for_each(check::message)?;
        let (items, bytes) = (batch.len(), batch.iter().map(NewMessage::bytes).sum());
        self.enqueues.call(batch, items, bytes).await
    }

    async fn claim(&self, claim: Claim) -> Result<Vec<Delivery>> {
        check::claim(&claim)?;
        let weight = usize::try_from(claim.limit).unwrap_or(usize::MAX);
        Ok(self.claims.call(vec![claim], weight, 0).await?.pop().unwrap_or_default())
    }

    async fn extend(&self, receipts: Vec<Receipt>, lease: Duration) -> Result<Vec<ItemResult<Extended>>> {
        check::batch(receipts.len())?;
        check::lease(lease)?;
        let items: Vec<_> = receipts.iter().map(codec::receipt).collect();
        let (items, lease) = (codec::json(&items)?, codec::micros(lease));
        for ticked in [false, true] {
            let rows =
                self.inner.write_call(EXTEND, &[&self.inner.pool.now(), &ticked, &items, &lease]).await?;
            let row = rows::only(&rows)?;
            if rows::column(row, "o_ticks")? {
                self.inner.tick().await?;
                continue;
            }
            let ends: Vec<Option<i64>> = rows::column(row, "o_ends")?;
            let extended = |end: Option<i64>| match end {
                None => Extended::LeaseLost,
                Some(end) if end < 0 => Extended::Stop(Timestamp(-end)),
                Some(end) => Extended::Until(Timestamp(end)),
            };
            return Ok(ends.into_iter().map(|end| Ok(extended(end))).collect());
        }
        Err(restless())
    }

    async fn settle(&self, batch: Vec<Settlement>) -> Result<Vec<ItemResult<Settled>>> {
        check::batch(batch.len())?;
        batch.iter().try_for_each(check::settlement)?;
        let bytes = batch.iter().flat_map(|one| &one.effects).map(Effect::bytes).sum();
        let items = batch.len();
        self.settles.call(batch, items, bytes).await
    }

    async fn remove(
        &self,
        queue: &QueueName,
        unleased: Vec<(MessageId, Vec<Effect>)>,
    ) -> Result<Vec<ItemResult<Removed>>> {
        check::batch(unleased.len())?;
        unleased.iter().try_for_each(|(_, effects)| check::effects(effects))?;
        let mut bodies = Bodies::default();
        let mut items = Vec::with_capacity(unleased.len());
        for (id, effects) in &unleased {
            items.push(codec::Removal {
                s: id.seq(),
                i: id.nonce(),
                f: codec::effects(effects, &mut bodies),
            });
        }
        fits(&bodies)?;
        let items = codec::json(&items)?;
        for ticked in [false, true] {
            let now = self.inner.pool.now();
            let rows = self
                .inner
                .write_call(
                    REMOVE,
                    &[&now, &ticked, &queue.org(), &kind(queue), &queue.name(), &items, &bodies.0],
                )
                .await?;
            let row = rows::only(&rows)?;
            if rows::column(row, "o_ticks")? {
                self.inner.tick().await?;
                continue;
            }
            let answers: Vec<i32> = rows::column(row, "o_answers")?;
            self.inner.hints.queues(std::iter::once(queue.clone()));
            self.inner.hint_effects(unleased.iter().map(|(_, effects)| &effects[..]));
            let removed = |answer| match answer {
                0 => Removed::NotFound,
                1 => Removed::Done,
                2 => Removed::Leased,
                _ => Removed::Dead,
            };
            return Ok(answers.into_iter().map(|answer| Ok(removed(answer))).collect());
        }
        Err(restless())
    }

    async fn request_stop(&self, queue: &QueueName, id: MessageId) -> Result<StopRequested> {
        let (seq, nonce) = (id.seq().cast_signed(), id.nonce().cast_signed());
        for ticked in [false, true] {
            let now = self.inner.pool.now();
            let rows = self
                .inner
                .write_call(STOP, &[&now, &ticked, &queue.org(), &kind(queue), &queue.name(), &seq, &nonce])
                .await?;
            match rows::single::<i32>(&rows)? {
                0 => return Ok(StopRequested::NotFound),
                1 => return Ok(StopRequested::NotLeased),
                2 => return Ok(StopRequested::Asked),
                _ => self.inner.tick().await?,
            }
        }
        Err(restless())
    }

    async fn redrive(&self, queue: &QueueName, dead: Vec<MessageId>) -> Result<u32> {
        check::batch(dead.len())?;
        let nonces: Vec<i64> = dead.iter().map(|id| id.nonce().cast_signed()).collect();
        let seqs = seqs(&dead);
        for ticked in [false, true] {
            let now = self.inner.pool.now();
            let rows = self
                .inner
                .write_call(
                    REDRIVE,
                    &[&now, &ticked, &queue.org(), &kind(queue), &queue.name(), &seqs, &nonces],
                )
                .await?;
            if let Ok(count) = u32::try_from(rows::single::<i32>(&rows)?) {
                self.inner.hints.queues(std::iter::once(queue.clone()));
                return Ok(count);
            }
            self.inner.tick().await?;
        }
        Err(restless())
    }

    async fn sweep(&self, limit: u32) -> Result<u32> {
        let limit = i32::try_from(limit).unwrap_or(i32::MAX);
        let sql = "SELECT * FROM tw_sweep($1, $2, $3)";
        let rows = self.inner.read_call(sql, &[&self.inner.pool.now(), &limit, &EVENTS_MAX]).await?;
        let row = rows::only(&rows)?;
        self.inner.hints.all(rows::column(row, "o_hints")?);
        let count = u32::try_from(rows::column::<i32>(row, "o_count")?).unwrap_or(0);
        if count == 0 && self.inner.fold_is_due() {
            self.inner.read_call("SELECT tw_fold($1)", &[&FOLD_MAX]).await?;
        }
        Ok(count)
    }

    async fn get(&self, queue: &QueueName, ids: Vec<MessageId>) -> Result<Vec<Option<MessageInfo>>> {
        check::batch(ids.len())?;
        let seqs = seqs(&ids);
        let now = self.inner.pool.now();
        let rows =
            self.inner.read_call(GET, &[&now, &queue.org(), &kind(queue), &queue.name(), &seqs]).await?;
        let found: Vec<MessageInfo> = rows.iter().map(|row| rows::info(row, queue)).collect::<Result<_>>()?;
        let found: HashMap<MessageId, MessageInfo> = found.into_iter().map(|info| (info.id, info)).collect();
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    async fn depth(&self, queue: &QueueName) -> Result<Depth> {
        let sql = "SELECT * FROM tw_depth($1, $2, $3)";
        let rows = self.inner.read_call(sql, &[&queue.org(), &kind(queue), &queue.name()]).await?;
        let row = rows::only(&rows)?;
        Ok(Depth {
            enqueued: rows::number(row, "o_enqueued")?,
            acked: rows::number(row, "o_acked")?,
            removed: rows::number(row, "o_removed")?,
            expired: rows::number(row, "o_expired")?,
            scheduled: rows::number(row, "o_scheduled")?,
            ready: rows::number(row, "o_ready")?,
            leased: rows::number(row, "o_leased")?,
            dead: rows::number(row, "o_dead")?,
            oldest_waiting: rows::column::<Option<i64>>(row, "o_oldest")?.map(Timestamp),
        })
    }

    async fn lane(&self, queue: &QueueName, key: &OrderingKey, of: Option<MessageId>) -> Result<LaneStatus> {
        let sql = "SELECT * FROM tw_lane_status($1, $2, $3, $4, $5, $6)";
        let (seq, nonce) = (of.map(|id| id.seq().cast_signed()), of.map(|id| id.nonce().cast_signed()));
        let key: &[u8] = &key.0;
        let values: Values<'_> = &[&queue.org(), &kind(queue), &queue.name(), &key, &seq, &nonce];
        let rows = self.inner.read_call(sql, values).await?;
        let Some(row) = rows.first() else { return Ok(LaneStatus::default()) };
        let head: Option<i64> = rows::column(row, "o_head")?;
        let place = rows::number(row, "o_place")?;
        Ok(LaneStatus {
            length: rows::number(row, "o_length")?,
            in_flight: match head {
                Some(seq) => Some(MessageId::new(seq.cast_unsigned(), rows::number(row, "o_nonce")?)),
                None => None,
            },
            place: Some(place).filter(|place| *place > 0),
            oldest_waiting: rows::column::<Option<i64>>(row, "o_oldest")?.map(Timestamp),
        })
    }

    async fn list(
        &self,
        queue: &QueueName,
        stage: Stage,
        after: Option<MessageId>,
        limit: u32,
    ) -> Result<Vec<MessageInfo>> {
        let (now, limit) = (self.inner.pool.now(), self::limit(limit));
        let after = after.map_or(0, |id| id.seq().cast_signed());
        let (org, number, name) = (queue.org(), kind(queue), queue.name());
        let rows = if stage == Stage::Leased {
            self.inner.read_call(LIST_LEASED, &[&now, &org, &number, &name, &after, &limit]).await?
        } else {
            let stage = i16::from(stage as u8);
            self.inner.read_call(LIST, &[&now, &org, &number, &name, &stage, &after, &limit]).await?
        };
        rows.iter().map(|row| rows::info(row, queue)).collect()
    }

    async fn queues(&self, after: Option<QueueName>, limit: u32) -> Result<Vec<QueueName>> {
        let (org, number, name) = match &after {
            Some(after) => (after.org(), kind(after), after.name()),
            None => ("", -1, ""),
        };
        let rows = self.inner.read_call(QUEUES, &[&org, &number, &name, &self::limit(limit)]).await?;
        rows.iter().map(|row| rows::name(row, ["org", "kind", "name"])).collect()
    }

    fn wakeups(&self) -> BoxStream<'static, QueueName> {
        self.inner.hub.wakeups()
    }
}
