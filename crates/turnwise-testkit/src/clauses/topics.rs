//! Clauses T1 to T7: topics, gaps, cursors, trim.

use crate::harness::Harness;
use crate::trial::{PAGE, Trial, Verdict, event, notes, secs, topic};
use crate::{Broken, hold, same};
use turnwise_core::{
    Dedup, Epoch, Event, NewEvent, Offset, Position, Read, ReadFrom, StoreError, StorePosition, TopicName,
    TopicPattern,
};

/// Appends texts one by one; their positions.
async fn append(trial: &Trial<'_>, topic: &TopicName, names: &[&str]) -> Result<Vec<Position>, Broken> {
    let mut positions = Vec::new();
    for name in names {
        for answer in trial.store.append(vec![event(topic, name)]).await? {
            positions.push(answer?);
        }
    }
    Ok(positions)
}

async fn read(
    trial: &Trial<'_>,
    topic: &TopicName,
    from: ReadFrom,
    limit: u32,
) -> Result<(Vec<Event>, Position), Broken> {
    match trial.store.read(topic, from, limit).await? {
        Read::Events { events, next } => Ok((events, next)),
        Read::Gap { resume } => Err(Broken(format!("{from:?} answers a gap to {resume:?}"))),
    }
}

fn offsets(events: &[Event]) -> Vec<u64> {
    events.iter().map(|event| event.offset.0).collect()
}

pub(super) async fn t1_offsets_rise_by_one(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (a, b) = (topic("a"), topic("b"));
    let mut seen = 0;
    let mut next = None;
    for round in 0..6_u64 {
        let batch: Vec<NewEvent> = vec![event(&a, "x"), event(&b, "y"), event(&a, "z")];
        let mut told = Vec::new();
        for answer in trial.store.append(batch).await? {
            told.push(answer?);
        }
        let epoch = trial.store.epoch();
        let expected = [2 * round + 1, round + 1, 2 * round + 2];
        same!(told, expected.map(|n| Position { epoch, offset: Offset(n) }), "positions");
        if round % 2 == 1 {
            trial.crash().await;
        }
        let from = next.map_or(ReadFrom::Earliest, ReadFrom::After);
        let (events, then) = read(&trial, &a, from, PAGE).await?;
        same!(offsets(&events), [seen + 1, seen + 2], "what a reader sees next");
        seen += 2;
        same!(then.offset, Offset(seen), "where to read on");
        next = Some(then);
    }
    let pattern = TopicPattern(topic("*"));
    let all = trial.store.topics(&pattern, None, PAGE).await?;
    let ends: Vec<_> = all.iter().map(|info| (info.topic.clone(), info.first.0, info.last.0)).collect();
    same!(ends, [(a, 1, 12), (b, 1, 6)], "topics");
    Ok(())
}

pub(super) async fn t2_reading_again_gives_the_same(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let log = topic("log");
    let names: Vec<String> = (0..25).map(|n| format!("e{n}")).collect();
    let batch = names.iter().map(|name| event(&log, name)).collect();
    for answer in trial.store.append(batch).await? {
        answer?;
    }
    append(&trial, &log, &["tail"]).await?;
    let whole = trial.events(&log).await?;
    same!(notes(&whole).into_iter().take(25).collect::<Vec<_>>(), names, "in the order of the batch");
    for round in 0..2 {
        let mut pages = Vec::new();
        let mut from = ReadFrom::Earliest;
        for _ in 0..20 {
            let (events, next) = read(&trial, &log, from, 4).await?;
            let again = read(&trial, &log, from, 4).await?;
            same!(again, (events.clone(), next), "the same page again");
            hold!(events.len() <= 4, "a page of 4 has {}", events.len());
            pages.extend(events);
            from = ReadFrom::After(next);
        }
        same!(pages, whole, "page by page, round {round}");
        trial.crash().await;
    }
    same!(trial.events(&log).await?, whole, "after a crash");

    // Many topics in one order.
    append(&trial, &topic("log.b"), &["b1"]).await?;
    append(&trial, &log, &["a1"]).await?;
    append(&trial, &topic("log.c"), &["c1"]).await?;
    let patterns = [TopicPattern(topic("log.*")), TopicPattern(topic("log.b")), TopicPattern(log)];
    let start = StorePosition { epoch: trial.store.epoch(), seq: 0 };
    let page = trial.store.read_many(&patterns, start, PAGE).await?;
    let told: Vec<_> = page.events.iter().map(|(_, event)| event.clone()).collect();
    let tail: Vec<_> = notes(&told).split_off(26.min(told.len()));
    same!(
        (tail.as_slice(), page.gap),
        (["b1", "a1", "c1"].map(String::from).as_slice(), false),
        "over many topics"
    );
    let mut paged = Vec::new();
    let mut after = start;
    for _ in 0..20 {
        let page = trial.store.read_many(&patterns, after, 3).await?;
        hold!(page.next >= after, "read_many went back");
        after = page.next;
        paged.extend(page.events.into_iter().map(|(_, event)| event));
    }
    same!(paged, told, "over many topics page by page");
    same!(page.seqs.len(), page.events.len(), "a place for each event");
    for (at, seq) in page.seqs.iter().enumerate() {
        let before = StorePosition { seq: seq.saturating_sub(1), ..start };
        let again = trial.store.read_many(&patterns, before, PAGE).await?;
        let first_of_step = page.seqs.iter().position(|other| other == seq).unwrap_or(at);
        let rest: Vec<_> = again.events.into_iter().map(|(_, event)| event).collect();
        let expected: Vec<_> = told.iter().skip(first_of_step).cloned().collect();
        same!(rest, expected, "from before event {at} on");
    }
    Ok(())
}

pub(super) async fn t3_a_lost_place_answers_gap(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let log = topic("log");
    let at = append(&trial, &log, &["a", "b", "c", "d", "e"]).await?;
    trial.store.trim(&log, Offset(4)).await?;
    for _ in 0..2 {
        let epoch = trial.store.epoch();
        for kept in [0, 1, 2] {
            let from = ReadFrom::After(Position { epoch, offset: Offset(kept) });
            let Read::Gap { resume } = trial.store.read(&log, from, PAGE).await? else {
                return Err(Broken(format!("reading after {kept} of a topic trimmed to 4 is no gap")));
            };
            same!(resume, Position { epoch, offset: Offset(3) }, "where to resume");
            let (events, _) = read(&trial, &log, ReadFrom::After(resume), PAGE).await?;
            same!(notes(&events), ["d", "e"], "after resuming");
        }
        let third = at.get(2).copied().ok_or_else(|| Broken("no position".into()))?;
        let (events, _) = read(&trial, &log, ReadFrom::After(third), PAGE).await?;
        same!(notes(&events), ["d", "e"], "the last kept place is no gap");
        same!(trial.notes(&log).await?, ["d", "e"], "from the oldest kept");
        let lost = Position { epoch: Epoch(epoch.0 ^ 0xdead), offset: Offset(4) };
        let answer = trial.store.read(&log, ReadFrom::After(lost), PAGE).await?;
        hold!(matches!(answer, Read::Gap { resume } if resume.epoch == epoch), "a lost epoch: {answer:?}");
        trial.crash().await;
    }
    gaps_over_many_topics(&trial).await?;
    let pattern = [TopicPattern(log.clone())];
    let epoch = trial.store.epoch();
    let lost = StorePosition { epoch: Epoch(epoch.0 ^ 0xdead), seq: 1 };
    let page = trial.store.read_many(&pattern, lost, PAGE).await?;
    hold!(page.gap && page.next.epoch == epoch, "a lost epoch over many topics: {page:?}");
    trial.store.trim(&log, Offset(6)).await?;
    let answer = trial.store.read(&log, ReadFrom::After(Position { epoch, offset: Offset(3) }), PAGE).await?;
    same!(answer, Read::Gap { resume: Position { epoch, offset: Offset(5) } }, "all trimmed");
    Ok(())
}

/// A reader over many topics learns of a trim, also of one inside a batch.
async fn gaps_over_many_topics(trial: &Trial<'_>) -> Verdict {
    let many = topic("many");
    append(trial, &many, &["old"]).await?;
    let pattern = [TopicPattern(many.clone())];
    let start = StorePosition { epoch: trial.store.epoch(), seq: 0 };
    let here = trial.store.read_many(&pattern, start, PAGE).await?.next;
    trial.store.append(vec![event(&many, "a"), event(&many, "b"), event(&many, "c")]).await?;
    trial.store.trim(&many, Offset(3)).await?;
    let page = trial.store.read_many(&pattern, here, PAGE).await?;
    let kept: Vec<_> = page.events.iter().map(|(_, event)| event.clone()).collect();
    same!(notes(&kept), ["b", "c"], "what is kept over many topics");
    hold!(page.gap, "read_many skipped a trimmed event in silence");
    let after = trial.store.read_many(&pattern, page.next, PAGE).await?;
    hold!(after.events.is_empty() && !after.gap, "after the gap: {after:?}");
    Ok(())
}

pub(super) async fn t4_a_repeated_append_is_one_event(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let log = topic("log");
    let once = |topic: &TopicName, text: &str, hash: u8| {
        let dedup = Dedup { key: "d".into(), window: secs(50), content_hash: [hash; 16] };
        NewEvent { dedup: Some(dedup), ..event(topic, text) }
    };
    append(&trial, &log, &["zero"]).await?;
    let batch =
        vec![once(&log, "one", 1), once(&log, "one", 1), event(&log, "two"), once(&topic("b"), "b", 3)];
    let mut told = Vec::new();
    for answer in trial.store.append(batch).await? {
        told.push(answer?.offset.0);
    }
    same!(told, [2, 2, 3, 1], "offsets with a repeat in the batch");
    for _ in 0..2 {
        let again = trial.store.append(vec![once(&log, "one", 1)]).await?;
        let epoch = trial.store.epoch();
        same!(again, [Ok(Position { epoch, offset: Offset(2) })], "a repeat answers the first place");
        let conflict = trial.store.append(vec![once(&log, "other", 2), event(&topic("side"), "s")]).await?;
        hold!(
            matches!(conflict.as_slice(), [Err(StoreError::Invalid(_)), Ok(_)]),
            "other content: {conflict:?}"
        );
        trial.crash().await;
    }
    same!(trial.notes(&log).await?, ["zero", "one", "two"], "stored once");
    harness.clock().advance(secs(50));
    trial.store.append(vec![once(&log, "later", 2)]).await?;
    same!(trial.notes(&log).await?, ["zero", "one", "two", "later"], "after the window");
    Ok(())
}

pub(super) async fn t5_a_cursor_moves_by_compare_and_set(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let log = topic("log");
    let at = append(&trial, &log, &["a", "b", "c"]).await?;
    let [a, b, c] = at.as_slice() else { return Err(Broken("three positions".into())) };
    let store = trial.store.clone();
    same!(store.cursor(&log, "s").await?, None, "before the first advance");
    hold!(!store.advance(&log, "s", Some(*a), *b).await?, "moved from where it is not");
    hold!(store.advance(&log, "s", None, *b).await?, "the first advance");
    hold!(!store.advance(&log, "s", None, *c).await?, "moved from none twice");
    hold!(!store.advance(&log, "s", Some(*a), *c).await?, "moved from another place");
    // Backward is refused, whether as an answer or as the caller's fault.
    match store.advance(&log, "s", Some(*b), *a).await {
        Ok(false) | Err(StoreError::Invalid(_)) => {}
        other => return Err(Broken(format!("a cursor went back: {other:?}"))),
    }
    same!(store.cursor(&log, "s").await?, Some(*b), "unmoved");
    trial.crash().await;
    same!(trial.store.cursor(&log, "s").await?, Some(*b), "after a crash");
    hold!(trial.store.advance(&log, "s", Some(*b), *c).await?, "forward");
    same!(trial.store.cursor(&log, "s").await?, Some(*c), "moved");
    same!(trial.store.cursor(&log, "other").await?, None, "another subscription");
    same!(trial.store.cursor(&topic("x"), "s").await?, None, "another topic");
    Ok(())
}

pub(super) async fn t6_latest_then_append_loses_nothing(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let (log, empty) = (topic("log"), topic("empty"));
    append(&trial, &log, &["old"]).await?;
    let (events, log_end) = read(&trial, &log, ReadFrom::Latest, PAGE).await?;
    hold!(events.is_empty(), "latest answered events");
    let (events, empty_end) = read(&trial, &empty, ReadFrom::Latest, PAGE).await?;
    hold!(events.is_empty(), "latest answered events of an unknown topic");
    same!(empty_end.offset, Offset(0), "the end of an unknown topic");
    append(&trial, &log, &["new"]).await?;
    append(&trial, &empty, &["first"]).await?;
    trial.crash().await;
    for (topic, end, expected) in [(&log, log_end, "new"), (&empty, empty_end, "first")] {
        let (events, _) = read(&trial, topic, ReadFrom::After(end), PAGE).await?;
        same!(notes(&events), [expected], "what was appended after latest");
    }
    let patterns = [TopicPattern(topic(">"))];
    let end = trial.store.end().await?;
    let page = trial.store.read_many(&patterns, end, PAGE).await?;
    hold!(page.events.is_empty() && !page.gap, "something behind the end: {page:?}");
    append(&trial, &empty, &["second"]).await?;
    append(&trial, &log, &["third"]).await?;
    trial.crash().await;
    let page = trial.store.read_many(&patterns, end, PAGE).await?;
    let told: Vec<_> = page.events.into_iter().map(|(_, event)| event).collect();
    same!((notes(&told), page.gap), (vec!["second".to_owned(), "third".to_owned()], false), "after the end");
    Ok(())
}

pub(super) async fn t7_trim_never_moves_offsets(harness: &dyn Harness) -> Verdict {
    let mut trial = Trial::new(harness).await;
    let log = topic("log");
    let batch = (1..=6).map(|n| event(&log, &format!("e{n}"))).collect();
    trial.store.append(batch).await?;
    trial.store.trim(&log, Offset(3)).await?;
    trial.store.trim(&log, Offset(2)).await?;
    trial.crash().await;
    same!(offsets(&trial.events(&log).await?), [3, 4, 5, 6], "the kept offsets, not trimmed back");
    same!(trial.notes(&log).await?, ["e3", "e4", "e5", "e6"], "the kept events");
    append(&trial, &log, &["e7"]).await?;
    trial.store.trim(&log, Offset(8)).await?;
    for _ in 0..2 {
        hold!(trial.events(&log).await?.is_empty(), "all are trimmed");
        let (_, end) = read(&trial, &log, ReadFrom::Latest, PAGE).await?;
        same!(end.offset, Offset(7), "the end of a topic trimmed to nothing");
        trial.crash().await;
    }
    let at = append(&trial, &log, &["e8"]).await?;
    same!(at.first().map(|position| position.offset), Some(Offset(8)), "the next offset");
    trial.crash().await;
    same!(offsets(&trial.events(&log).await?), [8], "what is kept");
    Ok(())
}
