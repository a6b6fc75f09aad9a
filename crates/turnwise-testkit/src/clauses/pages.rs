//! Clause T2 for large events: a page holds a bounded number of bytes, and page
//! by page a reader gets everything.

use crate::harness::Harness;
use crate::trial::{PAGE, Trial, Verdict, event, topic};
use crate::{Broken, hold, same};
use turnwise_core::limits::READ_BYTES_MAX;
use turnwise_core::{Event, NewEvent, Read, ReadFrom, StorePosition, TopicName, TopicPattern};

/// Pages after which a reader must have come to the end.
const PAGES_MAX: usize = 40;
/// Just under half a page, just over it, more than a page, and small ones.
const SIZES: [usize; 14] = [
    10,
    READ_BYTES_MAX / 2 - 100,
    READ_BYTES_MAX / 2 - 100,
    READ_BYTES_MAX / 2 + 100,
    READ_BYTES_MAX / 2 + 100,
    20,
    2 * READ_BYTES_MAX,
    30,
    READ_BYTES_MAX - 50,
    40,
    60_000,
    0,
    READ_BYTES_MAX / 2,
    50,
];

fn large(topic: &TopicName, n: usize, bytes: usize) -> NewEvent {
    let letter = char::from(b'a' + u8::try_from(n % 26).unwrap_or(0));
    event(topic, &letter.to_string().repeat(bytes))
}

fn bytes(events: &[Event]) -> usize {
    events.iter().map(|event| event.event_type.len() + event.data.len()).sum()
}

/// What a failure can show of events.
fn sizes(events: &[Event]) -> Vec<(u64, usize, Option<u8>)> {
    events.iter().map(|event| (event.offset.0, event.data.len(), event.data.first().copied())).collect()
}

/// A page is bounded, and it is not shorter than it need be.
fn bounded(page: &[Event], following: Option<&Event>) -> Verdict {
    hold!(page.len() == 1 || bytes(page) <= READ_BYTES_MAX, "a page of {} bytes", bytes(page));
    let next = following.map(|event| event.event_type.len() + event.data.len());
    hold!(next.is_none_or(|next| bytes(page) + next > READ_BYTES_MAX), "a short page: {:?}", sizes(page));
    Ok(())
}

async fn one_topic(trial: &Trial<'_>, log: &TopicName, written: &[(u64, usize, Option<u8>)]) -> Verdict {
    let mut pages: Vec<Vec<Event>> = Vec::new();
    let mut from = ReadFrom::Earliest;
    loop {
        let Read::Events { events, next } = trial.store.read(log, from, PAGE).await? else {
            return Err(Broken(format!("{from:?} answers a gap")));
        };
        if events.is_empty() {
            break;
        }
        hold!(pages.len() < PAGES_MAX, "the pages do not end");
        same!(Some(next.offset), events.last().map(|event| event.offset), "where to read on");
        pages.push(events);
        from = ReadFrom::After(next);
    }
    for (n, page) in pages.iter().enumerate() {
        bounded(page, pages.get(n + 1).and_then(|page| page.first()))?;
    }
    same!(sizes(&pages.concat()), written, "page by page");
    Ok(())
}

async fn many_topics(trial: &Trial<'_>, log: &TopicName, written: &[(u64, usize, Option<u8>)]) -> Verdict {
    let patterns = [TopicPattern(log.clone())];
    let mut after = StorePosition { epoch: trial.store.epoch(), seq: 0 };
    let mut seen: Vec<Event> = Vec::new();
    for _ in 0..PAGES_MAX {
        let page = trial.store.read_many(&patterns, after, PAGE).await?;
        let events: Vec<Event> = page.events.into_iter().map(|(_, event)| event).collect();
        hold!(!page.gap && page.next >= after, "a gap, or back to {:?}", page.next);
        hold!(events.len() <= 1 || bytes(&events) <= READ_BYTES_MAX, "{} bytes at once", bytes(&events));
        after = page.next;
        seen.extend(events);
    }
    same!(sizes(&seen), written, "page by page over many topics");
    Ok(())
}

pub(super) async fn t2_a_page_is_bounded_and_the_next_goes_on(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let log = topic("log");
    let batch: Vec<NewEvent> = SIZES.iter().enumerate().map(|(n, bytes)| large(&log, n, *bytes)).collect();
    let mut written: Vec<(u64, usize, Option<u8>)> = Vec::new();
    for round in [batch.clone(), batch.into_iter().rev().collect()] {
        let told: Vec<(usize, Option<u8>)> =
            round.iter().map(|event| (event.data.len(), event.data.first().copied())).collect();
        for (answer, (bytes, first)) in trial.store.append(round).await?.into_iter().zip(told) {
            written.push((answer?.offset.0, bytes, first));
        }
    }
    for _ in 0..2 {
        one_topic(&trial, &log, &written).await?;
        many_topics(&trial, &log, &written).await?;
        trial.crash().await;
    }
    Ok(())
}
