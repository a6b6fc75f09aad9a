//! Housekeeping: what only time brings, counters, and the limits on what is
//! kept. Nothing waits for it to be correct.

use crate::broker::{Broker, reply_topic_of, turns_queue};
use crate::callback::{self, callbacks_queue};
use crate::counters::Lane;
use crate::duty::Duty;
use crate::limits::{
    CALLBACKS_PAGE, DEAD_PAGE, LANES_LOOKED_AT, QUEUES_PAGE, RETENTION_INTERVAL, SWEEP_LIMIT,
    SWEEPS_IN_A_ROW_MAX, TOPICS_PAGE,
};
use crate::orgs::OrgScope;
use crate::recount::Recount;
use crate::streams::StreamKeeper;
use crate::topics::Keeper;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};
use std::sync::atomic::Ordering;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use turnwise_core::{
    Depth, Kind, MessageInfo, Name, QueueName, Stage, StoreError, Timestamp, TopicInfo, TopicName,
    TopicPattern,
};

/// Dropping a little more than needed keeps the counting rare.
const DROP_AT_LEAST_PART: u64 = 100;

/// Turns that ended by time alone, as far as they were counted. A name for each
/// organisation, at most.
#[derive(Default)]
struct Expiries {
    seen: HashMap<QueueName, u64>,
    /// In the last round.
    listed: BTreeSet<QueueName>,
}

impl Expiries {
    /// How many are new; a store that counts from zero again has only new ones.
    fn news(&mut self, queue: &QueueName, expired: u64) -> u64 {
        if expired == 0 {
            return 0;
        }
        let seen = self.seen.insert(queue.clone(), expired).unwrap_or(0);
        if expired < seen { expired } else { expired - seen }
    }
}

/// Adds what is held.
fn add(all: &mut Depth, depth: &Depth) {
    all.ready += depth.ready;
    all.scheduled += depth.scheduled;
    all.leased += depth.leased;
    all.dead += depth.dead;
    all.oldest_waiting = all.oldest_waiting.into_iter().chain(depth.oldest_waiting).min();
}

impl Broker {
    /// Runs the housekeeping until `shutdown`.
    pub async fn run_sweeper(&self, shutdown: CancellationToken) {
        let mut retention_at = None;
        let mut recount = Recount::default();
        let mut expiries = Expiries::default();
        let mut duty = Duty::default();
        let mut keeper = (Keeper::default(), StreamKeeper::default());
        loop {
            let round =
                self.sweep_round(&mut duty, &mut retention_at, &mut recount, &mut expiries, &mut keeper);
            let answer = tokio::select! {
                biased;
                () = shutdown.cancelled() => return duty.leave(self).await,
                answer = round => answer,
            };
            self.0.counters.store_ok.store(answer.is_ok(), Ordering::Relaxed);
            if let Err(error) = answer {
                self.0.counts.housekeeping_failed.one();
                tracing::warn!(%error, "housekeeping stopped early");
            }
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return duty.leave(self).await,
                () = sleep(self.0.config.poll_interval) => {}
            }
        }
    }

    async fn sweep_round(
        &self,
        duty: &mut Duty,
        retention_at: &mut Option<Timestamp>,
        recount: &mut Recount,
        expiries: &mut Expiries,
        keeper: &mut (Keeper, StreamKeeper),
    ) -> Result<(), StoreError> {
        let is_ours = duty.is_ours(self).await?;
        let sweeps = if is_ours { SWEEPS_IN_A_ROW_MAX } else { 0 };
        for _sweep in 0..sweeps {
            if self.0.store.sweep(SWEEP_LIMIT).await? == 0 {
                break;
            }
        }
        self.recount(recount).await?;
        self.refresh_counters(expiries).await?;
        let now = self.0.now();
        self.forget_what_is_over(now);
        let mut counted = None;
        match *retention_at {
            None => {
                counted = Some(self.count_ended().await?);
                *retention_at = Some(now);
            }
            Some(at) if now < at || now.since(at) >= RETENTION_INTERVAL => {
                *retention_at = Some(now);
                self.tidy_bus();
                if is_ours {
                    self.forget_old_dead_letters(now).await?;
                    self.keep_topics(&mut keeper.0).await?;
                    self.keep_streams(&mut keeper.1).await?;
                    self.forget_dead_work(now).await?;
                    self.0.work.records.tidy(self.0.store.as_ref()).await?;
                    self.forget_told(now).await?;
                    self.forget_dead_bus(now).await?;
                }
                counted = Some(self.count_ended().await?);
            }
            Some(_) => {}
        }
        let count = self.0.counters.ended_kept.load(Ordering::Relaxed);
        let bytes = counted.map_or(0, |(_, bytes)| bytes);
        let is_much = count > self.0.config.retained_turns_max || bytes > self.0.config.retained_bytes_max;
        if is_ours && is_much {
            let counted = match counted {
                Some(counted) => counted,
                None => self.count_ended().await?,
            };
            self.drop_oldest_answers(counted).await?;
        }
        let (waiting, dead) = self.0.counts.callbacks_held();
        let over = (waiting + dead).saturating_sub(self.0.config.callbacks_kept_max);
        if is_ours && over > 0 && dead > 0 {
            self.drop_oldest_dead_callbacks(over.min(dead)).await?;
        }
        // Last: would new work be taken? A store without room says no.
        let asked = Instant::now();
        self.0.store.enqueue(Vec::new()).await?;
        self.0.counts.probed(asked.elapsed());
        Ok(())
    }

    /// What memory keeps of turns that nobody ended here: they waited for a retention at most, and another one
    /// is time enough to run in. Whoever still asks is answered from the store.
    fn forget_what_is_over(&self, now: Timestamp) {
        let kept = self.0.config.retention.saturating_mul(2);
        let micros = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
        let then = Timestamp(now.0.saturating_sub(micros));
        self.0.local.forget_before(then);
        self.0.groups.forget_before(then);
    }

    async fn refresh_counters(&self, expiries: &mut Expiries) -> Result<(), StoreError> {
        let inner = &self.0;
        let (mut all, mut callbacks) = (Depth::default(), Depth::default());
        let (mut listed, mut held_by_org, mut work) = (BTreeSet::new(), HashMap::new(), Vec::new());
        let mut inboxes = Vec::new();
        let mut after: Option<QueueName> = None;
        loop {
            let page = inner.store.queues(after, QUEUES_PAGE).await?;
            let page_inboxes = page.iter().filter(|queue| queue.kind() == Kind::Inbox);
            inboxes.extend(page_inboxes.cloned());
            work.extend(page.iter().filter(|queue| queue.kind() == Kind::Public).cloned());
            for queue in page.iter().filter(|queue| queue.kind() == Kind::Callbacks) {
                add(&mut callbacks, &inner.store.depth(queue).await?);
            }
            for queue in page.iter().filter(|queue| queue.kind() == Kind::Turns) {
                let depth = inner.store.depth(queue).await?;
                add(&mut all, &depth);
                let held = depth.leased.saturating_add(depth.ready).saturating_add(depth.scheduled);
                held_by_org.insert(queue.org().to_owned(), held);
                inner.counts.expired(expiries.news(queue, depth.expired));
                listed.insert(queue.clone());
            }
            match page.last() {
                Some(last) if page.len() >= QUEUES_PAGE as usize => after = Some(last.clone()),
                _ => break,
            }
        }
        // What took the last message out of a queue may have been its time.
        let before = std::mem::replace(&mut expiries.listed, listed);
        let gone: Vec<QueueName> =
            before.into_iter().filter(|queue| !expiries.listed.contains(queue)).collect();
        for queue in &gone {
            let depth = inner.store.depth(queue).await?;
            inner.counts.expired(expiries.news(queue, depth.expired));
        }
        self.ring_inboxes(inboxes.iter());
        *inner.bus.inboxes.lock() = inboxes;
        inner.work.records.catch_up(inner.store.as_ref()).await?;
        inner.work.count(inner.store.as_ref(), inner.now(), work).await?;
        inner.counters.processing.store(all.leased, Ordering::Relaxed);
        inner.counts.hold(&all);
        inner.counts.hold_callbacks(&callbacks);
        inner.counters.hold(held_by_org);
        self.look_at_suspects(all.leased + all.ready + all.scheduled == 0).await
    }

    /// Finds out which conversations are idle by now.
    async fn look_at_suspects(&self, all_are_idle: bool) -> Result<(), StoreError> {
        let inner = &self.0;
        let mut suspects: Vec<Lane> = {
            let mut lanes = inner.counters.lanes.lock();
            let marked = std::mem::take(&mut lanes.maybe_idle);
            // With nothing held every conversation is idle, also one that a sweep ended.
            if all_are_idle {
                lanes.active.keys().cloned().collect()
            } else {
                let few = lanes.next_few(LANES_LOOKED_AT);
                marked.into_iter().chain(few).collect()
            }
        };
        while let Some(lane) = suspects.pop() {
            let queue = turns_queue(&lane.0)?;
            match inner.store.lane(&queue, &lane.1, None).await {
                Ok(status) if status.length == 0 => {
                    inner.counters.lanes.lock().active.remove(&lane);
                }
                Ok(_) => {}
                Err(error) => {
                    suspects.push(lane);
                    inner.counters.lanes.lock().maybe_idle.extend(suspects);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Every page of ended turns' topics, in no order.
    async fn each_ended(&self, mut each: impl FnMut(&TopicInfo, Timestamp)) -> Result<(), StoreError> {
        for org in self.0.orgs.all(&OrgScope::All) {
            let all = Name::new(&org, Kind::Reply, ">")?;
            let pattern = TopicPattern(all);
            let mut after: Option<TopicName> = None;
            loop {
                let page = self.0.store.topics(&pattern, after, TOPICS_PAGE).await?;
                for info in &page {
                    // Only a terminal event says until when to keep.
                    if let Some(until) = info.keep_until {
                        each(info, until);
                    }
                }
                match page.last() {
                    Some(last) if page.len() >= TOPICS_PAGE as usize => after = Some(last.topic.clone()),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// How many there are, and the bytes of their events.
    async fn count_ended(&self) -> Result<(u64, u64), StoreError> {
        let (mut count, mut bytes) = (0, 0_u64);
        self.each_ended(|info, _| {
            count += 1;
            bytes = bytes.saturating_add(info.bytes);
        })
        .await?;
        self.0.counters.ended_kept.store(count, Ordering::Relaxed);
        Ok((count, bytes))
    }

    /// How many of the oldest are more than may be kept, by number or by bytes.
    async fn too_many(&self, (count, bytes): (u64, u64)) -> Result<u64, StoreError> {
        let config = &self.0.config;
        let by_count = count.saturating_sub(config.retained_turns_max);
        if bytes <= config.retained_bytes_max {
            return Ok(by_count);
        }
        let mut sizes = Vec::new();
        self.each_ended(|info, until| sizes.push((until, info.bytes))).await?;
        sizes.sort_unstable();
        let mut left = bytes;
        let over = |size: &&(Timestamp, u64)| {
            let over = left > config.retained_bytes_max;
            left = left.saturating_sub(size.1);
            over
        };
        Ok(by_count.max(sizes.iter().take_while(over).count() as u64))
    }

    /// Enforces `retained_turns_max` and `retained_bytes_max`, oldest first (C6). `counted` is how many there are, and
    /// their bytes. Sizes and names are listed one after the other: together they would take much memory.
    async fn drop_oldest_answers(&self, counted: (u64, u64)) -> Result<(), StoreError> {
        let excess = self.too_many(counted).await?;
        if excess == 0 {
            return Ok(());
        }
        let (count, _) = counted;
        let part = self.0.config.retained_turns_max.min(count) / DROP_AT_LEAST_PART;
        let drop_count = usize::try_from(excess.max(part)).unwrap_or(usize::MAX);
        let mut oldest: BinaryHeap<(Timestamp, TopicName)> = BinaryHeap::new();
        self.each_ended(|info, until| {
            oldest.push((until, info.topic.clone()));
            if oldest.len() > drop_count {
                oldest.pop();
            }
        })
        .await?;
        let names: Vec<TopicName> = oldest.into_iter().map(|(_, topic)| topic).collect();
        self.drop_dead_letters_of(&names).await?;
        let mut dropped = 0;
        for page in names.chunks(TOPICS_PAGE as usize) {
            dropped += u64::from(self.0.store.drop_topics(page.to_vec()).await?);
            let histories = page.iter().map(callback::history_of).collect::<Result<Vec<_>, _>>();
            self.0.store.drop_topics(histories?).await?;
        }
        tracing::info!(dropped, "more ended turns than may be kept: the oldest were dropped");
        self.0.counters.ended_kept.store(count.saturating_sub(dropped), Ordering::Relaxed);
        Ok(())
    }

    /// Removes the dead letters whose events are about to go. Before these, so
    /// that what a crash leaves in between is found again.
    async fn drop_dead_letters_of(&self, topics: &[TopicName]) -> Result<(), StoreError> {
        let going: HashSet<&TopicName> = topics.iter().collect();
        let orgs: BTreeSet<&str> = topics.iter().map(TopicName::org).collect();
        for org in orgs {
            let queue = turns_queue(org)?;
            let mut after = None;
            loop {
                let page = self.0.store.list(&queue, Stage::Dead, after, DEAD_PAGE).await?;
                let mut old = Vec::new();
                for info in &page {
                    if going.contains(&reply_topic_of(org, info.id)?) {
                        old.push((info.id, Vec::new()));
                    }
                }
                if !old.is_empty() {
                    self.0.store.remove(&queue, old).await?;
                }
                match page.last() {
                    Some(last) if page.len() >= DEAD_PAGE as usize => after = Some(last.id),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// The store drops the events of a turn by itself when their time is over;
    /// the dead letter goes after them. Without them nobody sees it any more.
    async fn forget_old_dead_letters(&self, now: Timestamp) -> Result<(), StoreError> {
        for org in self.0.orgs.all(&OrgScope::All) {
            let queue = turns_queue(&org)?;
            if self.0.store.depth(&queue).await?.dead > 0 {
                self.forget_dead_letters_in(&org, &queue, now).await?;
            }
            let queue = callbacks_queue(&org)?;
            if self.0.store.depth(&queue).await?.dead > 0 {
                self.forget_dead_callbacks_in(&queue, now).await?;
            }
        }
        Ok(())
    }

    /// Dead callbacks are kept for twice the retention: half of the time they can be redriven, then they only
    /// tell what happened.
    async fn forget_dead_callbacks_in(&self, queue: &QueueName, now: Timestamp) -> Result<(), StoreError> {
        let kept = self.0.config.retention.saturating_mul(2);
        loop {
            let page = self.0.store.list(queue, Stage::Dead, None, CALLBACKS_PAGE).await?;
            let old = page.iter().filter(|info| now.since(info.enqueued_at) > kept);
            let old: Vec<_> = old.map(|info| (info.id, Vec::new())).collect();
            let whole_page = old.len() >= CALLBACKS_PAGE as usize;
            if !old.is_empty() {
                self.0.store.remove(queue, old).await?;
            }
            // They come by age: behind a young one there are only younger ones.
            if !whole_page {
                return Ok(());
            }
        }
    }

    /// From whoever has the most of them, a page at a time.
    async fn drop_oldest_dead_callbacks(&self, over: u64) -> Result<(), StoreError> {
        let mut most = BinaryHeap::new();
        for org in self.0.orgs.all(&OrgScope::All) {
            let queue = callbacks_queue(&org)?;
            let dead = self.0.store.depth(&queue).await?.dead;
            if dead > 0 {
                most.push((dead, queue));
            }
        }
        let mut dropped = 0;
        while dropped < over
            && let Some((dead, queue)) = most.pop()
        {
            let page = u32::try_from(over - dropped).unwrap_or(CALLBACKS_PAGE).min(CALLBACKS_PAGE);
            let oldest = self.0.store.list(&queue, Stage::Dead, None, page).await?;
            if oldest.is_empty() {
                // Somebody else took them away meanwhile.
                continue;
            }
            let oldest: Vec<_> = oldest.into_iter().map(|info| (info.id, Vec::new())).collect();
            let count = oldest.len() as u64;
            self.0.store.remove(&queue, oldest).await?;
            dropped += count;
            if dead > count {
                most.push((dead - count, queue));
            }
        }
        tracing::warn!(dropped, "more callbacks than may be kept: the oldest dead ones are dropped");
        Ok(())
    }

    async fn forget_dead_letters_in(
        &self,
        org: &str,
        queue: &QueueName,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut after = None;
        loop {
            let page = self.0.store.list(queue, Stage::Dead, after, DEAD_PAGE).await?;
            let mut old = Vec::new();
            let is_old = |info: &MessageInfo| now.since(info.enqueued_at) > self.0.config.retention;
            for info in page.iter().filter(|info| is_old(info)) {
                let topic = reply_topic_of(org, info.id)?;
                if self.terminal(&topic).await?.is_none() {
                    old.push((info.id, Vec::new()));
                }
            }
            if !old.is_empty() {
                self.0.store.remove(queue, old).await?;
            }
            // They come by age: behind a young one there are only younger ones.
            match page.last() {
                Some(last) if is_old(last) && page.len() >= DEAD_PAGE as usize => after = Some(last.id),
                _ => return Ok(()),
            }
        }
    }
}
