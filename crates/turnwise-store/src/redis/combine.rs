//! Small batches of many callers, sent as one: a script costs as much for one item as for a few more.

use super::config::{COMBINED_BYTES_MAX, COMBINED_WAITING_MAX, COMBINERS, SCRIPT_ITEMS_MAX};
use super::scripts::Script;
use super::{Core, array, corrupt};
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

/// Whether a batch is small enough to wait for others.
pub(super) fn is_small(items: &[Vec<u8>]) -> bool {
    items.len() <= SCRIPT_ITEMS_MAX / 8 && items.iter().map(Vec::len).sum::<usize>() <= COMBINED_BYTES_MAX / 8
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
        let (answer, answered) = oneshot::channel();
        let is_decided = Arc::new(AtomicBool::new(false));
        let job = Job { items, is_decided: Arc::clone(&is_decided), answer };
        let sent = async {
            let closed = |_| StoreError::Unavailable("the store is closed".into());
            self.jobs.send(job).await.map_err(closed)?;
            let ended = |_| StoreError::Unknown("the store was closed meanwhile".into());
            answered.await.map_err(ended)?
        };
        match tokio::time::timeout(self.core.call_timeout, sent).await {
            Ok(answer) => answer,
            Err(_) => {
                let what = format!("no answer from Redis within {:?}", self.core.call_timeout);
                // Nobody sends it any more, or somebody has.
                match is_decided.swap(true, Ordering::AcqRel) {
                    false => Err(StoreError::Unavailable(what)),
                    true => Err(StoreError::Unknown(what)),
                }
            }
        }
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
        let told =
            core.run(script, &arguments).await.and_then(|reply| Ok((reply.epoch, array(reply.answer)?)));
        drop(arguments);
        hand_out(together, told);
    }
}

/// The next jobs that fit into one step; `None` when there will be no more.
async fn next(jobs: &Mutex<mpsc::Receiver<Job>>) -> Option<Vec<Job>> {
    let mut jobs = jobs.lock().await;
    let mut together: Vec<Job> = Vec::new();
    let (mut items, mut bytes) = (0, 0);
    while together.is_empty() {
        let mut next = Some(jobs.recv().await?);
        while let Some(job) = next {
            if job.is_wanted() {
                items += job.items.len();
                bytes += job.bytes();
                together.push(job);
            }
            // What is small adds at most an eighth.
            let has_room = items <= SCRIPT_ITEMS_MAX * 7 / 8 && bytes <= COMBINED_BYTES_MAX * 7 / 8;
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
