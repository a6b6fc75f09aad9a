//! Batches of which nothing particular is asked, as columns: `sql/55_many.sql` does them all at once.

use super::codec;
use std::collections::{BTreeMap, HashSet};
use turnwise_core::{MessageId, Name, NewMessage, OrderingKey, Outcome, Result, Settlement};

pub(super) const ENQUEUE: &str = "SELECT * FROM tw_enqueue_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
    $12, $13, $14, $15, $16, $17, $18)";
pub(super) const ACK: &str = "SELECT * FROM tw_ack_many($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// Different names, each with its number from 1 in their order.
#[derive(Default)]
pub(super) struct Names<'a> {
    numbers: BTreeMap<&'a Name, i32>,
    pub(super) orgs: Vec<&'a str>,
    pub(super) kinds: Vec<i16>,
    pub(super) names: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn new(names: impl Iterator<Item = &'a Name>) -> Names<'a> {
        let mut all = Names { numbers: names.map(|name| (name, 0)).collect(), ..Names::default() };
        for (number, (name, place)) in (1..).zip(&mut all.numbers) {
            *place = number;
            all.orgs.push(name.org());
            all.kinds.push(i16::from(name.kind() as u8));
            all.names.push(name.name());
        }
        all
    }

    fn number(&self, name: &Name) -> i32 {
        self.numbers.get(name).copied().unwrap_or(0)
    }
}

/// Messages without dedup keys and times to wait for. Their groups are in the order in which all lock them.
pub(super) struct Messages<'a> {
    pub(super) names: Names<'a>,
    pub(super) queues: Vec<i32>,
    pub(super) keys: Vec<Option<&'a [u8]>>,
    pub(super) lengths: Vec<i64>,
    pub(super) firsts: Vec<i32>,
    pub(super) lasts: Vec<i32>,
    pub(super) group: Vec<i32>,
    pub(super) nth: Vec<i64>,
    pub(super) nonces: Vec<i64>,
    pub(super) priorities: Vec<i16>,
    pub(super) attempts: Vec<i32>,
    pub(super) ends: Vec<Option<i64>>,
    pub(super) limits: Vec<Option<i64>>,
    pub(super) bodies: Vec<Vec<u8>>,
    pub(super) at_end: Vec<Option<String>>,
}

/// Those without a key are a group each, behind the others.
type Group<'a> = (i32, bool, &'a [u8], usize);

fn group<'a>(queue: i32, key: Option<&'a OrderingKey>, at: usize) -> Group<'a> {
    key.map_or((queue, true, &[], at), |key| (queue, false, &key.0, 0))
}

fn int(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

impl<'a> Messages<'a> {
    /// None if something particular is asked of one of them.
    ///
    /// # Errors
    /// `Invalid` for effects that cannot be written.
    pub(super) fn new(batch: &'a [NewMessage]) -> Result<Option<Messages<'a>>> {
        if batch.iter().any(|new| new.dedup.is_some() || new.deliver_at.is_some()) {
            return Ok(None);
        }
        let names = Names::new(batch.iter().map(|new| &new.queue));
        let mut groups: BTreeMap<Group<'a>, Vec<usize>> = BTreeMap::new();
        for (at, new) in batch.iter().enumerate() {
            let queue = names.number(&new.queue);
            groups.entry(group(queue, new.key.as_ref(), at)).or_default().push(at);
        }
        let limit = |at: &usize| batch.get(*at).and_then(|new| new.lane_max);
        if groups.values().any(|all| all.iter().any(|at| limit(at) != all.first().and_then(limit))) {
            return Ok(None);
        }
        let mut all = Messages {
            queues: groups.keys().map(|group| group.0).collect(),
            keys: groups.keys().map(|group| (!group.1).then_some(group.2)).collect(),
            lengths: groups.values().map(|all| int(all.len()).into()).collect(),
            firsts: groups.values().map(|all| all.first().map_or(0, |at| int(at + 1))).collect(),
            lasts: groups.values().map(|all| all.last().map_or(0, |at| int(at + 1))).collect(),
            group: vec![0; batch.len()],
            nth: vec![0; batch.len()],
            nonces: batch.iter().map(|new| MessageId::new(0, new.nonce).nonce().cast_signed()).collect(),
            priorities: batch.iter().map(|new| new.priority.0.into()).collect(),
            attempts: batch.iter().map(|new| i32::try_from(new.max_attempts).unwrap_or(i32::MAX)).collect(),
            ends: batch.iter().map(|new| new.expires_at.map(|at| at.0)).collect(),
            limits: batch.iter().map(|new| new.lane_max.map(i64::from)).collect(),
            bodies: batch.iter().map(|new| codec::message_body(&new.headers, &new.payload)).collect(),
            at_end: batch.iter().map(codec::at_end).collect::<Result<_>>()?,
            names,
        };
        for (number, members) in (1..).zip(groups.values()) {
            for (nth, at) in (1..).zip(members) {
                all.group.get_mut(*at).into_iter().for_each(|place| *place = number);
                all.nth.get_mut(*at).into_iter().for_each(|place| *place = nth);
            }
        }
        Ok(Some(all))
    }
}

/// Leases to acknowledge, without effects.
pub(super) struct Acks<'a> {
    pub(super) names: Names<'a>,
    pub(super) queues: Vec<i32>,
    pub(super) seqs: Vec<i64>,
    pub(super) nonces: Vec<i64>,
    pub(super) tokens: Vec<i64>,
}

impl<'a> Acks<'a> {
    /// None if one of them is something else, or there twice.
    pub(super) fn new(batch: &'a [Settlement]) -> Option<Acks<'a>> {
        let mut seen = HashSet::with_capacity(batch.len());
        let plain = |one: &Settlement| {
            matches!(one.outcome, Outcome::Ack) && one.effects.is_empty() && seen.insert(one.receipt.id.seq())
        };
        if !batch.iter().all(plain) {
            return None;
        }
        let names = Names::new(batch.iter().map(|one| &one.receipt.queue));
        let receipts = || batch.iter().map(|one| &one.receipt);
        Some(Acks {
            queues: receipts().map(|receipt| names.number(&receipt.queue)).collect(),
            seqs: receipts().map(|receipt| receipt.id.seq().cast_signed()).collect(),
            nonces: receipts().map(|receipt| receipt.id.nonce().cast_signed()).collect(),
            tokens: receipts().map(|receipt| receipt.token.0.cast_signed()).collect(),
            names,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use turnwise_core::{Kind, Timestamp};

    #[test]
    fn a_batch_is_grouped_by_key_in_the_order_of_locks() {
        let new = |queue: &str, key: Option<&str>| NewMessage {
            key: key.map(|key| OrderingKey(key.to_owned().into())),
            lane_max: Some(5),
            ..NewMessage::new(Name::new("acme", Kind::Public, queue).unwrap(), "")
        };
        let (b, a) = (Some("b"), Some("a"));
        let mut batch =
            [new("y", b), new("x", None), new("x", b), new("x", a), new("x", b), new("x", None)].to_vec();
        let all = Messages::new(&batch).unwrap().unwrap();
        assert_eq!(all.names.names, ["x", "y"]);
        assert_eq!(all.queues, [1, 1, 1, 1, 2]);
        assert_eq!(all.keys, [Some(&b"a"[..]), Some(b"b"), None, None, Some(b"b")]);
        assert_eq!((all.firsts, all.lasts), (vec![4, 3, 2, 6, 1], vec![4, 5, 2, 6, 1]));
        assert_eq!((all.group, all.nth), (vec![5, 3, 2, 1, 2, 4], vec![1, 1, 1, 1, 2, 1]));
        assert_eq!(all.lengths, [1, 2, 1, 1, 1]);
        batch.get_mut(4).unwrap().lane_max = Some(6);
        assert!(Messages::new(&batch).unwrap().is_none(), "a key with two limits");
        *batch.get_mut(4).unwrap() = NewMessage { deliver_at: Some(Timestamp(1)), ..new("x", b) };
        assert!(Messages::new(&batch).unwrap().is_none(), "a time to wait for");
    }
}
