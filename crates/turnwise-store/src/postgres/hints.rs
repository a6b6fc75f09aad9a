//! Hints: to this node's watchers at once, to other nodes by NOTIFY, outside of the step that wrote and many
//! names at a time. All may be lost; whoever waits asks again by itself.

use super::pool::{Does, Pool};
use super::rows;
use crate::hub::Hub;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use turnwise_core::{Kind, Name, Result};

/// Hints of this long go out together.
const GATHER: Duration = Duration::from_millis(10);
/// Names that wait to be sent; further ones are lost.
const WAITING_MAX: usize = 4_096;
/// Bytes of one notification; the server takes 7,999.
const NOTIFY_BYTES_MAX: usize = 7_000;
/// How long to wait before connecting again; twice as long each time, up to the second.
const RECONNECT: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];
/// Queues of each kind that one look for what is due names.
const DUE_MAX: i32 = 100;
/// Between the parts of a name. No name holds a control character.
const PART: char = '\u{1f}';
/// Between names.
const NEXT: char = '\u{1e}';

/// Takes hints of this node's own steps.
pub(super) struct Sender {
    hub: Arc<Hub>,
    waiting: Option<Arc<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    names: Mutex<HashSet<(bool, Name)>>,
    some: Notify,
}

impl Sender {
    /// These queues may have something to claim.
    pub(super) fn queues(&self, names: impl Iterator<Item = Name>) {
        let names: Vec<Name> = names.collect();
        self.hub.publish_queues(&names);
        self.send(true, names);
    }

    /// These topics may have something to read.
    pub(super) fn topics(&self, names: impl Iterator<Item = Name>) {
        let names: Vec<Name> = names.collect();
        self.hub.publish_topics(&names);
        self.send(false, names);
    }

    /// What a step answered: queues and topics, as they are written for other nodes.
    pub(super) fn all(&self, texts: Vec<&str>) {
        let names: Vec<(bool, Name)> = texts.into_iter().filter_map(read).collect();
        let those = |wanted: bool| {
            names.iter().filter(move |(queue, _)| *queue == wanted).map(|(_, name)| name.clone())
        };
        self.queues(those(true));
        self.topics(those(false));
    }

    fn send(&self, queue: bool, names: Vec<Name>) {
        let Some(waiting) = self.waiting.as_ref().filter(|_| !names.is_empty()) else { return };
        let mut all = waiting.names.lock();
        let room = WAITING_MAX.saturating_sub(all.len());
        all.extend(names.into_iter().take(room).map(|name| (queue, name)));
        drop(all);
        waiting.some.notify_one();
    }
}

/// Starts what works by itself, if the settings want it.
pub(super) fn start(pool: &Arc<Pool>, hub: &Arc<Hub>) -> (Sender, JoinSet<()>) {
    if !pool.config.acts_by_itself {
        return (Sender { hub: Arc::clone(hub), waiting: None }, JoinSet::new());
    }
    let waiting = Arc::new(Waiting::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(send(Arc::clone(pool), Arc::clone(&waiting)));
    tasks.spawn(listen(Arc::clone(pool), Arc::clone(hub)));
    tasks.spawn(look(Arc::clone(pool), Arc::clone(hub)));
    (Sender { hub: Arc::clone(hub), waiting: Some(waiting) }, tasks)
}

fn write(queue: bool, name: &Name) -> String {
    let half = if queue { 'q' } else { 't' };
    format!("{half}{}{PART}{}{PART}{}", name.org(), name.kind() as u8, name.name())
}

fn read(text: &str) -> Option<(bool, Name)> {
    let queue = match text.chars().next()? {
        'q' => true,
        't' => false,
        _ => return None,
    };
    let mut parts = text.get(1..)?.split(PART);
    let (org, kind, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((queue, Name::new(org, Kind::from_number(kind.parse().ok()?)?, name).ok()?))
}

/// Cuts names into notifications.
fn payloads(names: HashSet<(bool, Name)>) -> Vec<String> {
    let mut all = vec![String::new()];
    for (queue, name) in names {
        let text = write(queue, &name);
        match all.last_mut() {
            Some(last) if last.len() + text.len() < NOTIFY_BYTES_MAX => {
                if !last.is_empty() {
                    last.push(NEXT);
                }
                last.push_str(&text);
            }
            _ => all.push(text),
        }
    }
    all
}

async fn send(pool: Arc<Pool>, waiting: Arc<Waiting>) {
    loop {
        waiting.some.notified().await;
        tokio::time::sleep(GATHER).await;
        let names = std::mem::take(&mut *waiting.names.lock());
        let payloads = payloads(names);
        // Nobody waits for the disk over a hint.
        let sql = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(current_schema(), text) \
            FROM unnest($1::text[]) AS text";
        // Lost if it fails: nothing rests on it.
        let _ = pool.call(Does::Read, sql, &[&payloads]).await;
    }
}

async fn listen(pool: Arc<Pool>, hub: Arc<Hub>) {
    let ([mut pause, longest], mut again) = (RECONNECT, false);
    loop {
        let told = Arc::clone(&hub);
        let on_hint = Box::new(move |payload: &str| {
            for (queue, name) in payload.split(NEXT).filter_map(read) {
                if queue { told.publish_queues(&[name]) } else { told.publish_topics(&[name]) }
            }
        });
        let sql = format!("LISTEN \"{}\"", pool.schema());
        if let Ok(conn) = pool.listener(on_hint).await
            && let Ok(Ok(())) =
                tokio::time::timeout(pool.config.call_timeout, conn.client.batch_execute(&sql)).await
        {
            pause = RECONNECT[0];
            // What was sent in between is lost.
            if std::mem::replace(&mut again, true) {
                hub.publish_watched();
                if let Ok(names) = some_queues(&pool).await {
                    hub.publish_queues(&names);
                }
            }
            conn.over().await;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// Hints at queues where something fell due or a lease ran out.
async fn look(pool: Arc<Pool>, hub: Arc<Hub>) {
    loop {
        tokio::time::sleep(pool.config.due_every).await;
        let Ok(names) = due(&pool).await else { continue };
        hub.publish_queues(&names);
    }
}

/// Queues with messages, not too many.
async fn some_queues(pool: &Pool) -> Result<Vec<Name>> {
    let sql = "SELECT org, kind, name FROM queue q \
        WHERE EXISTS (SELECT FROM message m WHERE m.queue_id = q.id) LIMIT $1::integer";
    let most = i32::try_from(WAITING_MAX).unwrap_or(i32::MAX);
    let rows = pool.call(Does::Read, sql, &[&most]).await?;
    rows.iter().map(|row| rows::name(row, ["org", "kind", "name"])).collect()
}

async fn due(pool: &Pool) -> Result<Vec<Name>> {
    let sql = "SELECT (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::bigint";
    let log: i64 = rows::single(&pool.call(Does::Read, sql, &[]).await?)?;
    pool.saw_log(log.cast_unsigned());
    let sql = "SELECT * FROM tw_due_queues($1, $2)";
    let rows = pool.call(Does::Read, sql, &[&pool.now(), &DUE_MAX]).await?;
    rows.iter().map(|row| rows::name(row, ["o_org", "o_kind", "o_name"])).collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn names_go_out_in_pieces_and_come_back() {
        let name = |n: usize| Name::new("acme", Kind::Reply, &format!("{n:0200}")).unwrap();
        let names: HashSet<(bool, Name)> = (0..200).map(|n| (n % 2 == 0, name(n))).collect();
        let payloads = payloads(names.clone());
        assert!(payloads.len() > 1 && payloads.iter().all(|text| text.len() < 8_000));
        let back: HashSet<(bool, Name)> =
            payloads.iter().flat_map(|text| text.split(NEXT).filter_map(read).collect::<Vec<_>>()).collect();
        assert_eq!(back, names);
        assert!(read("x").is_none() && read("").is_none() && read("qacme").is_none());
    }
}
