//! The judgement at the end of a history: the store itself, what the agents
//! saw and what the clients were told must tell one story.

use crate::people::{Notes, People, Session, stored};
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use turnwise_broker::{Broker, Followed, OrgScope, TurnState};
use turnwise_core::{Event, Kind, MessageId, Name, Read, ReadFrom, TopicName, TopicPattern};
use turnwise_mock::{HistoryChecker, Terminal, TurnReceipt, Violation};
use turnwise_testkit::turns::{Book, Shared, now_or_block};

const PAGE: u32 = 1_000;

/// Turns the store still holds that are not over.
pub(crate) fn open_turns(shared: &Shared) -> u64 {
    shared.clock.now();
    let store = shared.store();
    let queues = now_or_block(store.queues(None, PAGE)).unwrap_or_default();
    let open = |queue| {
        let depth = now_or_block(store.depth(queue)).unwrap_or_default();
        depth.ready + depth.scheduled + depth.leased
    };
    queues.iter().filter(|queue| queue.kind() == Kind::Turns).map(open).sum()
}

/// Judges everything; what is wrong goes into the book.
pub(crate) async fn judge(shared: &Shared, broker: &Broker, people: &People) {
    let book = &people.book;
    let topics = judge_topics(shared, book);
    let accepted: BTreeMap<MessageId, String> = people
        .notes()
        .fates
        .values()
        .filter_map(|fate| fate.accepted.map(|(id, _)| (id, fate.user.clone())))
        .collect();
    book.count(|counts| counts.accepted += accepted.len() as u64);
    let mut ends: BTreeMap<MessageId, TurnState> = BTreeMap::new();
    let mut readings: BTreeMap<MessageId, Vec<(u64, String)>> = BTreeMap::new();
    for (id, user) in &accepted {
        match broker.turn(&OrgScope::All, *id).await {
            Ok(Some(view)) if view.state.is_over() => {
                ends.insert(*id, view.state);
            }
            other => {
                book.broken(format!("{id} was accepted and has no end: {other:?}"));
                continue;
            }
        }
        let followed = broker.follow(&OrgScope::All, user, *id, None).await;
        if let Ok(Some(stream)) = followed.map(Followed::events) {
            let events: Vec<_> = stream.collect().await;
            let shown = events.iter().filter_map(|event| stored(event.as_ref().ok()?));
            readings.insert(*id, shown.map(|(position, text)| (position.0.offset.0, text)).collect());
        }
    }
    let completed = ends.values().filter(|state| **state == TurnState::Completed).count();
    book.count(|counts| counts.completed += completed as u64);
    let notes = people.notes();
    judge_told(&notes, &ends, book);
    for session in &notes.sessions {
        judge_session(session, readings.get(&session.id), book);
    }
    judge_submissions(&notes, &topics, book);
    judge_calls(&notes, &ends, book);
}

/// Every reply ends once, as its last word, and comes from one call. Answers their names.
fn judge_topics(shared: &Shared, book: &Book) -> BTreeSet<String> {
    let store = shared.store();
    let mut names = BTreeSet::new();
    let queues = now_or_block(store.queues(None, PAGE)).unwrap_or_default();
    let orgs: BTreeSet<&str> = queues.iter().map(Name::org).chain(["org0", "org1"]).collect();
    for org in orgs {
        let all = TopicPattern(Name::new(org, Kind::Reply, ">").expect("a plain name"));
        for info in now_or_block(store.topics(&all, None, PAGE)).unwrap_or_default() {
            let events = match now_or_block(store.read(&info.topic, ReadFrom::Earliest, PAGE)) {
                Ok(Read::Events { events, .. }) => events,
                other => {
                    book.broken(format!("{:?} cannot be read: {other:?}", info.topic));
                    continue;
                }
            };
            judge_topic(&info.topic, &events, book);
            names.insert(info.topic.name().to_owned());
        }
    }
    names
}

fn judge_topic(topic: &TopicName, events: &[Event], book: &Book) {
    let is_end =
        |event: &&Event| matches!(event.event_type.as_str(), "turn.done" | "turn.error" | "turn.cancelled");
    let ends = events.iter().filter(is_end).count();
    let types: Vec<&str> = events.iter().map(|event| event.event_type.as_str()).collect();
    if ends != 1 || !events.last().is_some_and(|last| is_end(&last)) {
        book.broken(format!("{topic:?} has {ends} ends: {types:?}"));
    }
    let said = events.iter().filter(|event| event.event_type.starts_with("agent"));
    let calls: BTreeSet<String> = said.filter_map(|event| call_of(&event.data)).collect();
    if calls.len() > 1 {
        book.broken(format!("{topic:?} mixes the answers of {calls:?}"));
    }
}

/// Submission and attempt, as the fake agents put them into every piece of an answer.
fn call_of(data: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(data);
    let said = text.split('"').find(|part| part.contains('#'))?;
    Some(said.split(':').next().unwrap_or_default().to_owned())
}

/// Nobody was told another end than the one that is kept.
fn judge_told(notes: &Notes, ends: &BTreeMap<MessageId, TurnState>, book: &Book) {
    for (id, told) in &notes.ends {
        if ends.get(id) != Some(told) {
            book.broken(format!("{id} ended as {:?}, and a client was told {told:?}", ends.get(id)));
        }
    }
}

/// Every reader saw a piece of what a fresh one sees, without holes.
fn judge_session(session: &Session, reading: Option<&Vec<(u64, String)>>, book: &Book) {
    let Some(reading) = reading else {
        return book.broken(format!("{} was read and cannot be read any more", session.id));
    };
    let expected: Vec<_> = reading.iter().filter(|(offset, _)| *offset > session.after).collect();
    let seen: Vec<_> = session.events.iter().collect();
    let is_piece = expected.get(..seen.len()) == Some(&seen);
    if !is_piece || (session.ended && seen.len() != expected.len()) {
        book.broken(format!(
            "a reader of {} after {} saw {seen:?}, ended: {}; a fresh one sees {reading:?}",
            session.id, session.after, session.ended
        ));
    }
}

/// What was refused is not there, and nothing is there that nobody sent.
fn judge_submissions(notes: &Notes, topics: &BTreeSet<String>, book: &Book) {
    let called = book.submissions_called();
    let mut ids = BTreeSet::new();
    let mut unsure = 0;
    for (number, fate) in &notes.fates {
        match fate.accepted {
            Some((id, _)) if !ids.insert(id) => {
                book.broken(format!("letter {number} shares {id} with another one"));
            }
            Some(_) => {}
            None if fate.unsure > 0 => unsure += 1,
            None if called.contains(number) => {
                book.broken(format!("letter {number} was refused, and an agent got it"));
            }
            None => {}
        }
    }
    let name = |id: &MessageId| format!("{:016x}", id.nonce());
    let lost: Vec<String> =
        ids.iter().filter(|id| !topics.contains(&name(id))).map(MessageId::to_string).collect();
    if !lost.is_empty() || topics.len() > ids.len() + unsure {
        let (accepted, kept) = (ids.len(), topics.len());
        book.broken(format!("{accepted} turns accepted, {unsure} unsure, {kept} kept, lost: {lost:?}"));
    }
}

/// Order, overlaps, doubles, as the agents saw them.
fn judge_calls(notes: &Notes, ends: &BTreeMap<MessageId, TurnState>, book: &Book) {
    let mut checker = HistoryChecker::new().with_declared_reruns();
    checker.add_calls(book.calls());
    checker.add_receipts(notes.fates.values().filter_map(|fate| {
        let (id, accepted) = fate.accepted?;
        let end = match ends.get(&id)? {
            TurnState::Completed => Terminal::Completed,
            TurnState::Failed => Terminal::Failed,
            TurnState::Cancelled | TurnState::Queued | TurnState::Processing => Terminal::Dropped,
        };
        Some(TurnReceipt {
            message_id: id.to_string(),
            conversation: fate.lane.clone(),
            sent: fate.sent,
            accepted,
            ends: vec![end],
        })
    }));
    for violation in checker.check().violations {
        let excused = match &violation {
            Violation::Overlap { running, started } => book.is_excused(running, started),
            Violation::Doubled(id) => lost_count(id, book),
            Violation::Lost(_)
            | Violation::NeverAnswered(_)
            | Violation::EndedTwice(_)
            | Violation::OutOfOrder { .. } => false,
        };
        if !excused {
            book.broken(violation.to_string());
        }
    }
}

/// Whether each call of a turn that does not count on from the one before came
/// after a release, or after a crash: leases die with their process, and their count too.
fn lost_count(id: &str, book: &Book) -> bool {
    let calls: Vec<_> = book.calls().into_iter().filter(|call| call.message_id == id).collect();
    calls.windows(2).all(|pair| match pair {
        [former, later] => {
            later.attempt > former.attempt || book.lost_count(id, former.started, later.started)
        }
        _ => true,
    })
}
