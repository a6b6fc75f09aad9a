//! Claims that come at the same time, as one step.

use super::pool::Values;
use super::{Inner, codec, queues, rows};
use crate::gather::Step;
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use turnwise_core::{Claim, Delivery, QueueName, Result};

const CLAIM: &str = "SELECT * FROM tw_claim($1, $2, $3, $4, $5, $6, $7)";
/// Claims of one queue and length of lease: the first is served first.
struct Group<'a> {
    queue: &'a QueueName,
    lease: i64,
    /// The most that all of them take.
    limit: i32,
    /// Where they stand in the batch, and what each takes at most.
    claims: Vec<(usize, u32)>,
}

fn groups(batch: &[Claim]) -> Vec<Group<'_>> {
    let mut all: BTreeMap<(&QueueName, i64), Group<'_>> = BTreeMap::new();
    for (at, claim) in batch.iter().enumerate() {
        let lease = codec::micros(claim.lease);
        let group = all.entry((&claim.queue, lease)).or_insert_with(|| Group {
            queue: &claim.queue,
            lease,
            limit: 0,
            claims: Vec::new(),
        });
        group.limit = group.limit.saturating_add(i32::try_from(claim.limit).unwrap_or(i32::MAX));
        group.claims.push((at, claim.limit));
    }
    all.into_values().collect()
}

/// Hands out what came, row by row, to those who asked.
fn dealt(many: usize, groups: &[Group<'_>], rows: &[Row]) -> Result<Vec<Vec<Delivery>>> {
    let mut came: Vec<VecDeque<Delivery>> = groups.iter().map(|_| VecDeque::new()).collect();
    for row in rows {
        let at = usize::try_from(rows::column::<i32>(row, "o_at")?).unwrap_or(usize::MAX);
        if let Some((group, own)) = groups.get(at).zip(came.get_mut(at)) {
            own.push_back(rows::delivery(row, group.queue)?);
        }
    }
    let mut answers: Vec<Vec<Delivery>> = vec![Vec::new(); many];
    for (group, mut own) in groups.iter().zip(came) {
        for (at, limit) in &group.claims {
            let take = own.len().min(usize::try_from(*limit).unwrap_or(usize::MAX));
            if let Some(answer) = answers.get_mut(*at) {
                *answer = own.drain(..take).collect();
            }
        }
    }
    Ok(answers)
}

/// Claims as they are gathered.
pub(super) struct Claims(pub(super) Arc<Inner>);

#[async_trait]
impl Step for Claims {
    type Item = Claim;
    type Answer = Vec<Delivery>;

    async fn run(&self, batch: &[Claim], _: Duration) -> Result<Vec<Vec<Delivery>>> {
        let groups = groups(batch);
        let orgs: Vec<&str> = groups.iter().map(|group| group.queue.org()).collect();
        let kinds: Vec<i16> = groups.iter().map(|group| queues::kind(group.queue)).collect();
        let names: Vec<&str> = groups.iter().map(|group| group.queue.name()).collect();
        let limits: Vec<i32> = groups.iter().map(|group| group.limit).collect();
        let leases: Vec<i64> = groups.iter().map(|group| group.lease).collect();
        for ticked in [false, true] {
            let now = self.0.pool.now();
            let values: Values<'_> = &[&now, &ticked, &orgs, &kinds, &names, &limits, &leases];
            let rows = self.0.write_call(CLAIM, values).await?;
            if let Some(first) = rows.first()
                && rows::column::<i32>(first, "o_at")? < 0
            {
                self.0.tick().await?;
                continue;
            }
            return dealt(batch.len(), &groups, &rows);
        }
        Err(queues::restless())
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use turnwise_core::{Kind, Name};

    #[test]
    fn claims_of_one_queue_and_lease_are_asked_for_together() {
        let claim = |queue: &str, limit, seconds| Claim {
            queue: Name::new("acme", Kind::Public, queue).unwrap(),
            limit,
            lease: Duration::from_secs(seconds),
            durable: true,
        };
        let batch = [claim("b", 1, 20), claim("a", 2, 20), claim("b", 3, 20), claim("b", 4, 30)];
        let all: Vec<_> = groups(&batch)
            .into_iter()
            .map(|group| (group.queue.name().to_owned(), group.lease, group.limit, group.claims))
            .collect();
        let second = 1_000_000;
        assert_eq!(
            all,
            [
                ("a".to_owned(), 20 * second, 2, vec![(1, 2)]),
                ("b".to_owned(), 20 * second, 4, vec![(0, 1), (2, 3)]),
                ("b".to_owned(), 30 * second, 4, vec![(3, 4)]),
            ]
        );
    }
}
