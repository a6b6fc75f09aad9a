//! The operations on topics.

use super::codec::{self, Bodies};
use super::pool::Values;
use super::queues::{EVENTS_MAX, fits, restless, steps};
use super::{Inner, PostgresStore, rows};
use crate::gather::Step;
use async_trait::async_trait;
use futures_core::stream::BoxStream;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use turnwise_core::limits::{LIST_LIMIT_MAX, READ_BYTES_MAX};
use turnwise_core::machine::check;
use turnwise_core::{
    Epoch, Event, ItemResult, Name, NewEvent, Offset, Position, Read, ReadFrom, ReadMany, Receipt, Result,
    StoreError, StorePosition, Timestamp, TopicFilter, TopicInfo, TopicName, TopicPattern, TopicStore,
};

const APPEND: &str = "SELECT * FROM tw_append($1, $2, $3::text::jsonb, $4, $5::text::jsonb, $6)";
const READ: &str = "SELECT * FROM tw_read($1, $2, $3, $4, $5, $6, $7, $8)";
const READ_MANY: &str = "SELECT * FROM tw_read_many($1, $2, $3, $4, $5, $6, $7, $8)";
/// Readers see only what lies below all transactions that run: see tw_read_many.
const END: &str = "SELECT epoch AS o_epoch, \
    ((step_base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint) << 17) - 1 AS o_position FROM meta";
const TOPICS: &str = "SELECT org, kind, name, first, last, bytes, keep_until FROM topic \
    WHERE org = $1 AND kind = $2 AND name > $3 AND name ~ $4 ORDER BY org, kind, name LIMIT $5::integer";
const CURSOR: &str = "SELECT epoch, at_offset FROM cursor \
    WHERE org = $1 AND kind = $2 AND name = $3 AND subscription = $4";
const ADVANCE: &str = "SELECT tw_advance($1, $2, $3, $4, $5, $6, $7, $8)";
/// Events of any topic that one page over many topics looks at.
const SCAN_MAX: i32 = 10_000;

fn kind(name: &Name) -> i16 {
    i16::from(name.kind() as u8)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The bound as the database takes it.
fn page_bytes() -> i64 {
    signed(READ_BYTES_MAX as u64)
}

/// A pattern as a regular expression that matches the same names.
fn regex(pattern: &TopicPattern) -> String {
    let mut text = String::from("^");
    for (at, token) in pattern.0.name().split(['.', ':']).enumerate() {
        if at > 0 {
            text.push_str("[.:]");
        }
        match token {
            ">" => return text + ".*$",
            "*" => text.push_str("[^.:]*"),
            token => token.chars().for_each(|letter| {
                if letter.is_ascii() && !letter.is_ascii_alphanumeric() {
                    text.push('\\');
                }
                let _ = write!(text, "{letter}");
            }),
        }
    }
    text + "$"
}

fn event(row: &Row) -> Result<Event> {
    let (event_type, data) = codec::read_event(rows::column(row, "o_body")?)?;
    let appended_at = Timestamp(rows::column(row, "o_at")?);
    Ok(Event { offset: Offset(rows::number(row, "o_offset")?), event_type, data, appended_at })
}

/// What one caller appends: for the holder of a lease, if it names one.
pub(super) struct Append {
    holder: Option<Receipt>,
    events: Vec<NewEvent>,
}

/// None once the lease is lost.
type Appended = Option<Vec<ItemResult<Position>>>;

/// Appends as they are gathered. Each call to the server has a bound of its own.
pub(super) struct Appends(pub(super) Arc<Inner>);

#[async_trait]
impl Step for Appends {
    type Item = Append;
    type Answer = Appended;

    async fn run(&self, appends: &[Append], _: Duration) -> Result<Vec<Appended>> {
        if let [Append { holder, events }] = appends {
            return Ok(vec![self.0.append_one(holder.as_ref(), events).await?]);
        }
        self.0.append_step(appends.iter().map(|one| (one.holder.as_ref(), &one.events[..]))).await
    }
}

impl PostgresStore {
    /// Appends, for the holder of a lease if there is one.
    pub(super) async fn append_for(
        &self,
        holder: Option<Receipt>,
        events: Vec<NewEvent>,
    ) -> Result<Appended> {
        check::events(&events)?;
        let (weight, bytes) = (events.len().max(1), events.iter().map(|event| event.data.len()).sum());
        let append = Append { holder, events };
        self.appends.call(vec![append], weight, bytes).await?.pop().ok_or_else(restless)
    }
}

impl Inner {
    /// Appends what may be too large for one step.
    async fn append_one(&self, holder: Option<&Receipt>, batch: &[NewEvent]) -> Result<Appended> {
        let step =
            async |step| self.append_step(std::iter::once((holder, step))).await?.pop().ok_or_else(restless);
        let mut answers = Vec::with_capacity(batch.len());
        if batch.is_empty() {
            return step(batch).await;
        }
        for part in steps(batch, |event| event.data.len()) {
            match step(part).await {
                Ok(Some(some)) => answers.extend(some),
                Ok(None) if answers.is_empty() => return Ok(None),
                Ok(None) => {
                    let lost =
                        || Err(StoreError::Invalid("the lease ran out before this was appended".into()));
                    answers.extend(part.iter().map(|_| lost()));
                }
                Err(error) if !answers.is_empty() => answers.extend(part.iter().map(|_| Err(error.clone()))),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(answers))
    }

    /// Appends for each of these callers, together.
    async fn append_step<'a>(
        &self,
        appends: impl Iterator<Item = (Option<&'a Receipt>, &'a [NewEvent])> + Clone + Send,
    ) -> Result<Vec<Appended>> {
        let holders: Vec<_> = appends.clone().map(|(holder, _)| holder.map(codec::receipt)).collect();
        let holders = codec::json(&holders)?;
        let counted = (1..).zip(appends.clone());
        let whose: Vec<i32> = counted.flat_map(|(number, one)| one.1.iter().map(move |_| number)).collect();
        let events = appends.clone().flat_map(|(_, events)| events);
        let mut bodies = Bodies::default();
        let items: Vec<_> = events.clone().map(|new| codec::event(new, Some(&mut bodies))).collect();
        fits(&bodies)?;
        let items = codec::json(&items)?;
        for ticked in [false, true] {
            let values: Values<'_> = &[&self.pool.now(), &ticked, &holders, &whose, &items, &bodies.0];
            let rows = self.write_call(APPEND, values).await?;
            let row = rows::only(&rows)?;
            if rows::column(row, "o_ticks")? {
                self.tick().await?;
                continue;
            }
            let epoch = self.epoch_of(row)?;
            let held: Vec<bool> = rows::column(row, "o_held")?;
            let offsets: Vec<Option<i64>> = rows::column(row, "o_offsets")?;
            self.hints.topics(events.map(|new| new.topic.clone()));
            let conflict = || StoreError::Invalid("the dedup key was used with other content".into());
            let position = |offset: Option<i64>| {
                let offset = Offset(offset.ok_or_else(conflict)?.cast_unsigned());
                Ok(Position { epoch, offset })
            };
            let mut offsets = offsets.into_iter();
            let answer = |((_, events), held): ((_, &[NewEvent]), bool)| {
                let own: Vec<_> = offsets.by_ref().take(events.len()).map(position).collect();
                held.then_some(own)
            };
            return Ok(appends.zip(held).map(answer).collect());
        }
        Err(restless())
    }

    fn epoch_of(&self, row: &Row) -> Result<Epoch> {
        let epoch: i64 = rows::column(row, "o_epoch")?;
        self.pool.saw_epoch(epoch);
        Ok(Epoch(epoch.cast_unsigned()))
    }
}

#[async_trait]
impl TopicStore for PostgresStore {
    async fn append(&self, batch: Vec<NewEvent>) -> Result<Vec<ItemResult<Position>>> {
        self.append_for(None, batch).await?.ok_or_else(restless)
    }

    async fn read(&self, topic: &TopicName, from: ReadFrom, limit: u32) -> Result<Read> {
        let (mode, epoch, after) = match from {
            ReadFrom::Earliest => (0, 0, 0),
            ReadFrom::Latest => (1, 0, 0),
            ReadFrom::After(position) => (2, position.epoch.0.cast_signed(), signed(position.offset.0)),
        };
        let limit = i32::try_from(limit.clamp(1, LIST_LIMIT_MAX)).unwrap_or(1);
        let (org, number, name, bytes) = (topic.org(), kind(topic), topic.name(), page_bytes());
        let rows = self
            .inner
            .read_call(READ, &[&org, &number, &name, &mode, &epoch, &after, &limit, &bytes])
            .await?;
        let head = rows::only(&rows)?;
        let epoch = self.inner.epoch_of(head)?;
        let (first, last) = (rows::number(head, "o_first")?, rows::number(head, "o_last")?);
        let at = |offset| Position { epoch, offset: Offset(offset) };
        if rows::column(head, "o_gap")? {
            return Ok(Read::Gap { resume: at(first.saturating_sub(1)) });
        }
        let events: Vec<Event> = rows.iter().skip(1).map(event).collect::<Result<_>>()?;
        let start = match from {
            ReadFrom::Earliest => first.saturating_sub(1),
            ReadFrom::Latest => last,
            ReadFrom::After(position) => position.offset.0,
        };
        let next = at(events.last().map_or(start, |event| event.offset.0));
        Ok(Read::Events { events, next })
    }

    async fn read_many(
        &self,
        patterns: &[TopicPattern],
        after: StorePosition,
        limit: u32,
    ) -> Result<ReadMany> {
        let orgs: Vec<&str> = patterns.iter().map(|pattern| pattern.0.org()).collect();
        let kinds: Vec<i16> = patterns.iter().map(|pattern| kind(&pattern.0)).collect();
        let names: Vec<String> = patterns.iter().map(regex).collect();
        let (epoch, seq) = (after.epoch.0.cast_signed(), signed(after.seq));
        let limit = i32::try_from(limit.clamp(1, LIST_LIMIT_MAX)).unwrap_or(1);
        let rows = self
            .inner
            .read_call(READ_MANY, &[&orgs, &kinds, &names, &epoch, &seq, &limit, &page_bytes(), &SCAN_MAX])
            .await?;
        let (tail, found) = rows.split_last().ok_or_else(restless)?;
        let epoch = self.inner.epoch_of(tail)?;
        let named = |row: &Row| Ok((rows::name(row, ["o_org", "o_kind", "o_name"])?, event(row)?));
        Ok(ReadMany {
            events: found.iter().map(named).collect::<Result<_>>()?,
            seqs: found.iter().map(|row| rows::number(row, "o_position")).collect::<Result<_>>()?,
            next: StorePosition { epoch, seq: rows::number(tail, "o_position")? },
            gap: rows::column(tail, "o_gap")?,
        })
    }

    async fn end(&self) -> Result<StorePosition> {
        let rows = self.inner.read_call(END, &[]).await?;
        let row = rows::only(&rows)?;
        Ok(StorePosition { epoch: self.inner.epoch_of(row)?, seq: rows::number(row, "o_position")? })
    }

    async fn topics(
        &self,
        pattern: &TopicPattern,
        after: Option<TopicName>,
        limit: u32,
    ) -> Result<Vec<TopicInfo>> {
        let room = |name: &TopicName| (name.org().to_owned(), name.kind());
        let after = match &after {
            Some(after) if room(after) == room(&pattern.0) => after.name(),
            Some(after) if room(after) > room(&pattern.0) => return Ok(Vec::new()),
            Some(_) | None => "",
        };
        let limit = i32::try_from(limit.min(LIST_LIMIT_MAX)).unwrap_or(1);
        let (org, number, regex) = (pattern.0.org(), kind(&pattern.0), regex(pattern));
        let rows = self.inner.read_call(TOPICS, &[&org, &number, &after, &regex, &limit]).await?;
        let info = |row: &Row| {
            Ok(TopicInfo {
                topic: rows::name(row, ["org", "kind", "name"])?,
                first: Offset(rows::number(row, "first")?),
                last: Offset(rows::number(row, "last")?),
                keep_until: rows::column::<Option<i64>>(row, "keep_until")?.map(Timestamp),
                bytes: rows::number(row, "bytes")?,
            })
        };
        rows.iter().map(info).collect()
    }

    async fn trim(&self, topic: &TopicName, before: Offset) -> Result<()> {
        let sql = "SELECT tw_trim($1, $2, $3, $4, $5)";
        let (org, number, name, before) = (topic.org(), kind(topic), topic.name(), signed(before.0));
        loop {
            let rows = self.inner.write_call(sql, &[&org, &number, &name, &before, &EVENTS_MAX]).await?;
            if !rows::single(&rows)? {
                return Ok(());
            }
        }
    }

    async fn drop_topics(&self, names: Vec<TopicName>) -> Result<u32> {
        let orgs: Vec<&str> = names.iter().map(|name| name.org()).collect();
        let kinds: Vec<i16> = names.iter().map(kind).collect();
        let own: Vec<&str> = names.iter().map(|name| name.name()).collect();
        let sql = "SELECT * FROM tw_drop_topics($1, $2, $3, $4)";
        let mut dropped = 0;
        loop {
            let rows = self.inner.write_call(sql, &[&orgs, &kinds, &own, &EVENTS_MAX]).await?;
            let row = rows::only(&rows)?;
            dropped += u32::try_from(rows::column::<i32>(row, "o_dropped")?).unwrap_or(0);
            if !rows::column(row, "o_more")? {
                return Ok(dropped);
            }
        }
    }

    async fn cursor(&self, topic: &TopicName, subscription: &str) -> Result<Option<Position>> {
        let subscription = subscription.as_bytes();
        let rows =
            self.inner.read_call(CURSOR, &[&topic.org(), &kind(topic), &topic.name(), &subscription]).await?;
        let position = |row: &Row| {
            let epoch: i64 = rows::column(row, "epoch")?;
            let offset = Offset(rows::number(row, "at_offset")?);
            Ok(Position { epoch: Epoch(epoch.cast_unsigned()), offset })
        };
        rows.first().map(position).transpose()
    }

    async fn advance(
        &self,
        topic: &TopicName,
        subscription: &str,
        from: Option<Position>,
        to: Position,
    ) -> Result<bool> {
        let subscription = subscription.as_bytes();
        let from_epoch = from.map(|from| from.epoch.0.cast_signed());
        let from_offset = from.map(|from| signed(from.offset.0));
        let (to_epoch, to_offset) = (to.epoch.0.cast_signed(), signed(to.offset.0));
        let (org, number, name) = (topic.org(), kind(topic), topic.name());
        let rows = self
            .inner
            .write_call(
                ADVANCE,
                &[&org, &number, &name, &subscription, &from_epoch, &from_offset, &to_epoch, &to_offset],
            )
            .await?;
        rows::single(&rows)
    }

    fn watch(&self, topics: TopicFilter) -> BoxStream<'static, TopicName> {
        self.inner.hub.watch(topics)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use turnwise_core::Kind;

    #[test]
    fn a_pattern_keeps_its_meaning() {
        let regex = |name: &str| regex(&TopicPattern(Name::new("acme", Kind::Public, name).unwrap()));
        assert_eq!(regex("a.*.>"), "^a[.:][^.:]*[.:].*$");
        assert_eq!(regex("a+b:c-1"), "^a\\+b[.:]c\\-1$");
    }
}
