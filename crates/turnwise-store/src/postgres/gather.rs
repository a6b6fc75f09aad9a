//! Small calls that come at the same time go to the server as one step: a commit costs the same for one and for
//! many. A batch is no transaction in the contract, so each caller gets the answers to its own items.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use turnwise_core::limits::BATCH_ITEMS_MAX;
use turnwise_core::{ItemResult, Result, StoreError};

/// Steps on their way at once: while they are, further calls gather.
const STEPS_MAX: usize = 3;
/// Calls that wait at once; further ones are refused.
const WAITING_MAX: usize = 16_384;
/// Bytes that are gathered into one step, if not a single call is more.
const STEP_BYTES: usize = 4 * 1024 * 1024;
/// A call with more items is a step of its own.
const SMALL_ITEMS: usize = 64;
/// So is one with more bytes.
const SMALL_BYTES: usize = 256 * 1024;

/// Runs a step: one answer for each item.
#[async_trait::async_trait]
pub(super) trait Step: Send + Sync + 'static {
    /// What a call brings.
    type Item: Send + 'static;
    /// What it is answered for each.
    type Answer: Send + 'static;
    /// Runs one.
    async fn run(&self, items: Vec<Self::Item>) -> Result<Vec<ItemResult<Self::Answer>>>;
}

type Answers<S> = Result<Vec<ItemResult<<S as Step>::Answer>>>;

struct Call<S: Step> {
    items: Vec<S::Item>,
    bytes: usize,
    answer: oneshot::Sender<Answers<S>>,
}

struct State<S: Step> {
    waiting: VecDeque<Call<S>>,
    running: usize,
    closed: bool,
}

/// Gathers the calls of one operation.
pub(super) struct Gather<S: Step> {
    step: Arc<S>,
    state: Arc<Mutex<State<S>>>,
    steps: Mutex<JoinSet<()>>,
}

impl<S: Step> Gather<S> {
    pub(super) fn new(step: S) -> Gather<S> {
        let state = State { waiting: VecDeque::new(), running: 0, closed: false };
        Gather { step: Arc::new(step), state: Arc::new(Mutex::new(state)), steps: Mutex::default() }
    }

    /// Answers a call, alone or together with others.
    pub(super) async fn call(&self, items: Vec<S::Item>, bytes: usize) -> Answers<S> {
        if items.len() > SMALL_ITEMS || bytes > SMALL_BYTES {
            return self.step.run(items).await;
        }
        let (answer, answered) = oneshot::channel();
        self.put(Call { items, bytes, answer })?;
        // Nobody answers: the store was closed with the step on its way.
        answered.await.unwrap_or_else(|_| Err(StoreError::Unknown("the store was closed".into())))
    }

    /// Puts a call where the next step finds it, and starts one if there is room.
    fn put(&self, call: Call<S>) -> Result<()> {
        let mut state = self.state.lock();
        if state.closed || state.waiting.len() >= WAITING_MAX {
            return Err(StoreError::Unavailable("too much waits for PostgreSQL".into()));
        }
        state.waiting.push_back(call);
        if state.running < STEPS_MAX {
            state.running += 1;
            let mut steps = self.steps.lock();
            while steps.try_join_next().is_some() {}
            steps.spawn(run(Arc::clone(&self.step), Arc::clone(&self.state)));
        }
        Ok(())
    }

    /// Ends all steps; whoever waits is told that nobody knows.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.steps.lock().abort_all();
    }
}

/// What goes together, the oldest first.
fn next<S: Step>(state: &Mutex<State<S>>) -> Option<Vec<Call<S>>> {
    let mut state = state.lock();
    let (mut calls, mut items, mut bytes) = (Vec::new(), 0, 0);
    while let Some(call) = state.waiting.front() {
        items += call.items.len();
        bytes += call.bytes;
        if !calls.is_empty() && (items > BATCH_ITEMS_MAX || bytes > STEP_BYTES) {
            break;
        }
        calls.extend(state.waiting.pop_front());
    }
    if calls.is_empty() {
        state.running -= 1;
        return None;
    }
    Some(calls)
}

async fn run<S: Step>(step: Arc<S>, state: Arc<Mutex<State<S>>>) {
    while let Some(calls) = next(&state) {
        let mut items = Vec::new();
        let mut askers = Vec::with_capacity(calls.len());
        for call in calls {
            askers.push((call.items.len(), call.answer));
            items.extend(call.items);
        }
        match step.run(items).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for (many, asker) in askers {
                    let _ = asker.send(Ok(answers.by_ref().take(many).collect()));
                }
            }
            Err(error) => askers.into_iter().for_each(|(_, asker)| drop(asker.send(Err(error.clone())))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tokio::sync::Semaphore;

    /// Answers each item with itself and the size of the step, once it is let.
    struct Echo(Semaphore);

    #[async_trait::async_trait]
    impl Step for Echo {
        type Item = u64;
        type Answer = (u64, usize);

        async fn run(&self, items: Vec<u64>) -> Result<Vec<ItemResult<(u64, usize)>>> {
            self.0.acquire().await.unwrap().forget();
            if items.contains(&13) {
                return Err(StoreError::Unavailable("13".into()));
            }
            let many = items.len();
            Ok(items.into_iter().map(|item| Ok((item, many))).collect())
        }
    }

    #[tokio::test]
    async fn calls_that_come_together_go_together_and_each_gets_its_own() {
        let gather = Arc::new(Gather::new(Echo(Semaphore::new(0))));
        let calls: Vec<_> = (100..200_u64)
            .map(|n| {
                let gather = Arc::clone(&gather);
                tokio::spawn(async move { gather.call(vec![n; 1 + n as usize % 3], 1).await.unwrap() })
            })
            .collect();
        while gather.state.lock().waiting.len() < 100 - STEPS_MAX {
            tokio::task::yield_now().await;
        }
        gather.step.0.add_permits(100);
        let mut largest = 0;
        for (n, call) in (100_u64..).zip(calls) {
            let answers = call.await.unwrap();
            assert_eq!(answers.len(), 1 + n as usize % 3);
            for answer in answers {
                let (item, many) = answer.unwrap();
                assert_eq!(item, n);
                largest = largest.max(many);
            }
        }
        assert!(largest > 90, "{largest}");
        assert_eq!(gather.state.lock().running, 0);
        assert!(gather.call(vec![13], 1).await.is_err());
        assert_eq!(gather.call(vec![1; 1_000], 1).await.unwrap().len(), 1_000, "alone");
        gather.close();
        assert!(gather.call(vec![1], 1).await.is_err());
    }
}
