//! Small batches of many callers, sent as one: a script costs as much for one item as for a few more.

use super::config::{ANSWER_GRACE, COMBINED_BYTES_MAX, COMBINED_WAITING_MAX, COMBINERS, SCRIPT_ITEMS_MAX};
use super::scripts::Script;
use super::{Core, array, corrupt};
use crate::clock::Moment;
use redis::Value;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use turnwise_core::{Result, StoreError};

/// The epoch, and an answer for each item.
pub(super) type Answers = (u64, Vec<Value>);

/// One caller's items.
struct Job {
    items: Vec<Vec<u8>>,
    /// How many things they make the script do.
    weight: usize,
    came: Moment,
    /// Set by whoever decides first: the task that sends it, or the caller who will not wait any longer.
    is_decided: Arc<AtomicBool>,
    answer: oneshot::Sender<Result<Answers>>,
}

impl Job {
    fn bytes(&self) -> usize {
        self.items.iter().map(Vec::len).sum()
    }

    /// Whether it is to be sent: somebody waits for it, and has not given up.
    fn is_wanted(&self) -> bool {
        !self.answer.is_closed() && !self.is_decided.swap(true, Ordering::AcqRel)
    }
}

/// Where callers of one operation meet.
pub(super) struct Combiner {
    core: Arc<Core>,
    jobs: mpsc::Sender<Job>,
}

/// Whether a script that does so much has time for more.
pub(super) fn is_light(weight: usize) -> bool {
    weight <= SCRIPT_ITEMS_MAX / 8
}

/// Whether a batch is small enough to wait for others.
pub(super) fn is_small(items: &[Vec<u8>]) -> bool {
    is_light(items.len()) && items.iter().map(Vec::len).sum::<usize>() <= COMBINED_BYTES_MAX / 8
}

impl Combiner {
    pub(super) fn start(
        core: &Arc<Core>,
        script: Script,
        before: &[Vec<u8>],
        tasks: &mut JoinSet<()>,
    ) -> Combiner {
        let (sender, jobs) = mpsc::channel(COMBINED_WAITING_MAX);
        let jobs = Arc::new(Mutex::new(jobs));
        for _ in 0..COMBINERS {
            tasks.spawn(send_all(Arc::clone(core), script, before.to_vec(), Arc::clone(&jobs)));
        }
        Combiner { core: Arc::clone(core), jobs: sender }
    }

    /// Sends items, with those of others if there are any, and waits for their answers.
    pub(super) async fn run(&self, items: Vec<Vec<u8>>) -> Result<Answers> {
        let weight = items.len();
        self.run_weighing(items, weight).await
    }

    /// The same for items that do more than one thing each. What nobody sent within half of the time that a call may
    /// take is not sent any more: whoever sends has the other half at least, and its answer is waited for.
    pub(super) async fn run_weighing(&self, items: Vec<Vec<u8>>, weight: usize) -> Result<Answers> {
        let half = self.core.call_timeout / 2;
        let late = || format!("no answer from Redis within {:?}", self.core.call_timeout);
        let (answer, mut answered) = oneshot::channel();
        let is_decided = Arc::new(AtomicBool::new(false));
        let came = Moment::now();
        let job = Job { items, weight, came, is_decided: Arc::clone(&is_decided), answer };
        let decide = || is_decided.swap(true, Ordering::AcqRel);
        match tokio::time::timeout(half, self.jobs.send(job)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(StoreError::Unavailable("the store is closed".into())),
            Err(_) => return Err(StoreError::Unavailable(late())),
        }
        let rest = half.saturating_sub(came.elapsed());
        let told = match tokio::time::timeout(rest, &mut answered).await {
            Ok(told) => told,
            Err(_) if !decide() => return Err(StoreError::Unavailable(late())),
            Err(_) => {
                let told = tokio::time::timeout(half + ANSWER_GRACE, answered).await;
                told.map_err(|_| StoreError::Unknown(late()))?
            }
        };
        let ended = "the store was closed meanwhile";
        told.unwrap_or_else(|_| match decide() {
            true => Err(StoreError::Unknown(ended.into())),
            false => Err(StoreError::Unavailable(ended.into())),
        })
    }
}

/// Sends what waits, for as long as the store lives.
async fn send_all(
    core: Arc<Core>,
    script: Script,
    before: Vec<Vec<u8>>,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
) {
    while let Some(together) = next(&jobs).await {
        let items = together.iter().flat_map(|job| &job.items);
        let arguments: Vec<&[u8]> = before.iter().chain(items).map(Vec::as_slice).collect();
        // Whoever came first waits the longest already.
        let waited = together.first().map(|job| job.came.elapsed()).unwrap_or_default();
        let limit = core.call_timeout.saturating_sub(waited);
        let told = core.run_within(limit, script, &arguments).await;
        let told = told.and_then(|reply| Ok((reply.epoch, array(reply.answer)?)));
        drop(arguments);
        hand_out(together, told);
    }
}

/// The next jobs that fit into one step; `None` when there will be no more.
async fn next(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Vec<Job>> {
    let mut jobs = jobs.lock().await;
    let mut together: Vec<Job> = Vec::new();
    let (mut weight, mut bytes) = (0, 0);
    while together.is_empty() {
        let mut next = Some(jobs.recv().await?);
        while let Some(job) = next {
            if job.is_wanted() {
                weight += job.weight;
                bytes += job.bytes();
                together.push(job);
            }
            // What is small adds at most an eighth.
            let has_room = weight <= SCRIPT_ITEMS_MAX * 7 / 8 && bytes <= COMBINED_BYTES_MAX * 7 / 8;
            next = if has_room { jobs.try_recv().ok() } else { None };
        }
    }
    Some(together)
}

fn hand_out(together: Vec<Job>, told: Result<Answers>) {
    let expected: usize = together.iter().map(|job| job.items.len()).sum();
    let told = match told {
        Ok((_, values)) if values.len() != expected => Err(corrupt("answers")),
        told => told,
    };
    match told {
        Ok((epoch, values)) => {
            let mut values = values.into_iter();
            for job in together {
                let its = values.by_ref().take(job.items.len()).collect();
                // Who does not wait any more does not want to know.
                let _ = job.answer.send(Ok((epoch, its)));
            }
        }
        Err(error) => {
            for job in together {
                let _ = job.answer.send(Err(error.clone()));
            }
        }
    }
}
