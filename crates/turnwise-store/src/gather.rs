//! Small calls that come at the same time go to a server as one step: a commit, or a script, costs about the same for
//! one item and for many. A batch is no transaction in the contract, so each caller gets the answers to its own items.

use crate::clock::Moment;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use turnwise_core::{Result, StoreError};

/// Calls that wait at once; further ones are refused.
const WAITING_MAX: usize = 16_384;
/// Bytes that wait at once.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A call that is more than this part of a step, by weight or by bytes, is a step of its own.
const SMALL_PART: usize = 8;
/// What an answer may take beyond the time of a call, from the task that got it to who waits for it.
const ANSWER_GRACE: Duration = Duration::from_millis(100);

/// Runs a step: one answer for each item.
#[async_trait::async_trait]
pub(crate) trait Step: Send + Sync + 'static {
    /// What a call brings.
    type Item: Send + Sync + 'static;
    /// What it is answered for each.
    type Answer: Send + 'static;

    /// Runs one. `Invalid` means that an item cannot be done, and that nothing was. After `limit` nobody waits for
    /// the answer any more.
    async fn run(&self, items: &[Self::Item], limit: Duration) -> Result<Vec<Self::Answer>>;
}

/// How much goes into one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    /// What the server is called in errors.
    pub(crate) server: &'static str,
    /// Steps on their way at once: while they are, further calls gather.
    pub(crate) steps: usize,
    /// The weight of the calls in one step; a call weighs as many as the things it does.
    pub(crate) weight: usize,
    /// Their bytes.
    pub(crate) bytes: usize,
    /// Every call ends within this time.
    pub(crate) patience: Duration,
}

type Answers<S> = Result<Vec<<S as Step>::Answer>>;

struct Call<S: Step> {
    /// Rises from call to call.
    id: u64,
    items: Vec<S::Item>,
    weight: usize,
    bytes: usize,
    came: Moment,
    answer: oneshot::Sender<Answers<S>>,
}

struct State<S: Step> {
    waiting: VecDeque<Call<S>>,
    bytes: usize,
    last_id: u64,
    running: usize,
    closed: bool,
}

struct Shared<S: Step> {
    step: S,
    measure: Measure,
    state: Mutex<State<S>>,
    steps: Mutex<JoinSet<()>>,
}

/// Gathers the calls of one operation.
pub(crate) struct Gather<S: Step>(Arc<Shared<S>>);

impl<S: Step> Gather<S> {
    pub(crate) fn new(step: S, measure: Measure) -> Gather<S> {
        let state = State { waiting: VecDeque::new(), bytes: 0, last_id: 0, running: 0, closed: false };
        Gather(Arc::new(Shared { step, measure, state: Mutex::new(state), steps: Mutex::default() }))
    }

    /// Answers a call, alone or together with others. What no step took within half of the patience is not sent any
    /// more: a step has the other half at least, and its answer is waited for.
    pub(crate) async fn call(&self, items: Vec<S::Item>, weight: usize, bytes: usize) -> Answers<S> {
        let Measure { server, patience, .. } = self.0.measure;
        let is_large =
            weight > self.0.measure.weight / SMALL_PART || bytes > self.0.measure.bytes / SMALL_PART;
        if items.is_empty() || is_large {
            return self.0.step.run(&items, patience).await;
        }
        let (answer, mut answered) = oneshot::channel();
        let id = self.put(items, weight, bytes, answer)?;
        let half = patience / 2;
        let told = match tokio::time::timeout(half, &mut answered).await {
            Ok(told) => told,
            Err(_) if self.0.take_back(id) => {
                let late = format!("{server} is too slow; nothing was asked of it");
                return Err(StoreError::Unavailable(late));
            }
            Err(_) => {
                let late = |_| StoreError::Unknown(format!("no answer from {server} within {patience:?}"));
                tokio::time::timeout(half.saturating_add(ANSWER_GRACE), answered).await.map_err(late)?
            }
        };
        // Nobody answers any more: its step ended before it was over.
        told.unwrap_or_else(|_| Err(StoreError::Unknown(format!("the step ended before {server} answered"))))
    }

    /// Puts a call where the next step finds it, and starts one if there is room.
    fn put(
        &self,
        items: Vec<S::Item>,
        weight: usize,
        bytes: usize,
        answer: oneshot::Sender<Answers<S>>,
    ) -> Result<u64> {
        let mut state = self.0.state.lock();
        if state.closed {
            return Err(closed());
        }
        if state.waiting.len() >= WAITING_MAX || state.bytes + bytes > WAITING_BYTES_MAX {
            let server = self.0.measure.server;
            return Err(StoreError::Unavailable(format!("too much waits for {server}")));
        }
        state.last_id += 1;
        let id = state.last_id;
        state.bytes += bytes;
        state.waiting.push_back(Call { id, items, weight, bytes, came: Moment::now(), answer });
        if state.running < self.0.measure.steps {
            start(&self.0, &mut state);
        }
        Ok(id)
    }

    /// Ends all steps: nobody knows what they did. Of what still waited nothing was done.
    pub(crate) fn close(&self) {
        let mut state = self.0.state.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.waiting);
        state.bytes = 0;
        drop(state);
        waiting.into_iter().for_each(|call| drop(call.answer.send(Err(closed()))));
        self.0.steps.lock().abort_all();
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("the store is closed".into())
}

fn start<S: Step>(shared: &Arc<Shared<S>>, state: &mut State<S>) {
    state.running += 1;
    let mut steps = shared.steps.lock();
    while steps.try_join_next().is_some() {}
    steps.spawn(run(Running(Arc::clone(shared))));
}

impl<S: Step> Shared<S> {
    /// Takes a call back that no step has taken yet; whether there was one.
    fn take_back(&self, id: u64) -> bool {
        let mut state = self.state.lock();
        let Ok(at) = state.waiting.binary_search_by_key(&id, |call| call.id) else { return false };
        if let Some(call) = state.waiting.remove(at) {
            state.bytes -= call.bytes;
        }
        true
    }

    /// What goes together, the oldest first. Whom nobody waits for any more is left out.
    fn next(&self) -> Vec<Call<S>> {
        let mut state = self.state.lock();
        let (mut calls, mut weight, mut bytes) = (Vec::new(), 0, 0);
        while let Some(call) = state.waiting.front() {
            weight += call.weight;
            bytes += call.bytes;
            if !calls.is_empty() && (weight > self.measure.weight || bytes > self.measure.bytes) {
                break;
            }
            let call = state.waiting.pop_front();
            state.bytes -= call.as_ref().map_or(0, |call| call.bytes);
            calls.extend(call.filter(|call| !call.answer.is_closed()));
        }
        calls
    }

    /// Runs what was gathered.
    async fn run(&self, calls: Vec<Call<S>>) {
        // Whoever came first waits the longest already.
        let came = calls.first().map_or_else(Moment::now, |call| call.came);
        let rest = || self.measure.patience.saturating_sub(came.elapsed());
        let (mut items, mut askers) = (Vec::new(), Vec::with_capacity(calls.len()));
        for call in calls {
            askers.push((call.items.len(), call.answer));
            items.extend(call.items);
        }
        match self.step.run(&items, rest()).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for (many, asker) in askers {
                    let _ = asker.send(Ok(answers.by_ref().take(many).collect()));
                }
            }
            // One of them cannot be done: that is not the others' fault.
            Err(StoreError::Invalid(_)) if askers.len() > 1 => {
                let mut left = &items[..];
                for (many, asker) in askers {
                    let (own, others) = left.split_at(many.min(left.len()));
                    left = others;
                    if !asker.is_closed() {
                        let _ = asker.send(self.step.run(own, rest()).await);
                    }
                }
            }
            Err(error) => askers.into_iter().for_each(|(_, asker)| drop(asker.send(Err(error.clone())))),
        }
    }
}

/// The place of one who runs steps. Given back however that ends.
struct Running<S: Step>(Arc<Shared<S>>);

impl<S: Step> Drop for Running<S> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.running -= 1;
        // What came since the last look, or was left by one that broke.
        if !state.closed && !state.waiting.is_empty() {
            start(&self.0, &mut state);
        }
    }
}

async fn run<S: Step>(running: Running<S>) {
    loop {
        // Whoever was answered just now, or woke together with the first caller, may have more: it goes along.
        tokio::task::yield_now().await;
        let calls = running.0.next();
        if calls.is_empty() {
            return;
        }
        running.0.run(calls).await;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use tokio::sync::Semaphore;

    const STEPS_MAX: usize = 2;

    /// Answers each item with itself and the size of the step, once it is let. Cannot do 13, breaks over 14.
    struct Echo(Semaphore);

    #[async_trait::async_trait]
    impl Step for Echo {
        type Item = u64;
        type Answer = (u64, usize);

        async fn run(&self, items: &[u64], _limit: Duration) -> Result<Vec<(u64, usize)>> {
            self.0.acquire().await.unwrap().forget();
            if items.contains(&13) {
                return Err(StoreError::Invalid("13".into()));
            }
            assert!(!items.contains(&14), "14");
            Ok(items.iter().map(|item| (*item, items.len())).collect())
        }
    }

    type Call = tokio::task::JoinHandle<Answers<Echo>>;

    impl Gather<Echo> {
        async fn call_all(&self, items: Vec<u64>) -> Answers<Echo> {
            let weight = items.len();
            self.call(items, weight, 1).await
        }
    }

    fn gather(patience: Duration) -> Arc<Gather<Echo>> {
        let measure =
            Measure { server: "the server", steps: STEPS_MAX, weight: 1_000, bytes: 1_000_000, patience };
        Arc::new(Gather::new(Echo(Semaphore::new(0)), measure))
    }

    /// Calls of which all but the first wait for a step.
    async fn calls(gather: &Arc<Gather<Echo>>, calls: impl Iterator<Item = Vec<u64>>) -> Vec<Call> {
        let mut all = Vec::new();
        for items in calls {
            let one = Arc::clone(gather);
            all.push(tokio::spawn(async move { one.call_all(items).await }));
            while gather.0.state.lock().last_id < all.len() as u64 {
                tokio::task::yield_now().await;
            }
        }
        while gather.0.state.lock().waiting.len() + STEPS_MAX > all.len() {
            tokio::task::yield_now().await;
        }
        all
    }

    #[tokio::test]
    async fn calls_that_come_together_go_together_and_each_gets_its_own() {
        let gather = gather(Duration::MAX);
        let calls = calls(&gather, (100..200_u64).map(|n| vec![n; 1 + n as usize % 3])).await;
        gather.0.step.0.add_permits(100);
        let mut largest = 0;
        for (n, call) in (100_u64..).zip(calls) {
            let answers = call.await.unwrap().unwrap();
            assert_eq!(answers.len(), 1 + n as usize % 3);
            for (item, many) in answers {
                assert_eq!(item, n);
                largest = largest.max(many);
            }
        }
        assert!(largest > 90, "{largest}");
        while gather.0.state.lock().running > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gather.call_all(vec![1; 1_000]).await.unwrap().len(), 1_000, "alone");
        gather.close();
        assert!(gather.call_all(vec![1]).await.is_err());
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_told_to_its_own_caller_only() {
        let gather = gather(Duration::MAX);
        let items = [1, 2, 3, 4, 13, 5].map(|n| vec![n]);
        let calls = calls(&gather, items.into_iter()).await;
        gather.0.step.0.add_permits(100);
        let mut answers = Vec::new();
        for call in calls {
            answers.push(call.await.unwrap().map(|answers| answers.len()));
        }
        let refused = Err(StoreError::Invalid("13".into()));
        assert_eq!(answers, [Ok(1), Ok(1), Ok(1), Ok(1), refused, Ok(1)]);
    }

    #[tokio::test]
    async fn a_step_that_breaks_leaves_room_for_others() {
        let gather = gather(Duration::MAX);
        let calls = calls(&gather, (0..STEPS_MAX + 2).map(|_| vec![14])).await;
        gather.0.step.0.add_permits(100);
        for call in calls {
            assert!(matches!(call.await.unwrap(), Err(StoreError::Unknown(_))));
        }
        assert_eq!(gather.call_all(vec![1]).await.unwrap(), [(1, 1)]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_asked() {
        let gather = gather(Duration::MAX);
        let mut calls = calls(&gather, (100..120).map(|n| vec![n])).await;
        let last = calls.pop().unwrap();
        for call in calls.drain(STEPS_MAX..) {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        gather.0.step.0.add_permits(100);
        assert_eq!(last.await.unwrap().unwrap(), [(119, 1)], "with no other");
        assert_eq!(gather.0.state.lock().bytes, 0);
    }

    #[tokio::test]
    async fn every_call_ends_in_time_and_says_whether_it_was_asked() {
        let gather = gather(Duration::from_millis(300));
        let calls = calls(&gather, (0..STEPS_MAX as u64 + 20).map(|n| vec![n])).await;
        for (n, call) in calls.into_iter().enumerate() {
            let answer = call.await.unwrap();
            let asked = matches!(answer, Err(StoreError::Unknown(_)));
            assert!(asked || matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
            assert_eq!(asked, n < STEPS_MAX);
        }
        let state = gather.0.state.lock();
        assert_eq!((state.waiting.len(), state.bytes), (0, 0));
    }
}
