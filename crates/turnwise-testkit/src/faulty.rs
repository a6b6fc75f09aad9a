//! A store in front of another one that fails on request: before the work,
//! so that nothing happened, or behind it, so that only the answer is lost.

use futures_core::stream::BoxStream;
use futures_util::StreamExt;
use futures_util::stream::{empty, pending};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use turnwise_core::{Operation, QueueName, Result, Store, StoreError, Surround, TopicName};

/// Kinds of operations that can be made to fail apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    /// `enqueue`.
    Enqueue,
    /// `claim`.
    Claim,
    /// `extend`.
    Extend,
    /// `settle`.
    Settle,
    /// `append`.
    Append,
    /// Every other change.
    Change,
    /// Everything that only looks.
    Look,
}

impl Op {
    /// All of them.
    pub const ALL: [Op; 7] =
        [Op::Enqueue, Op::Claim, Op::Extend, Op::Settle, Op::Append, Op::Change, Op::Look];

    fn of(operation: Operation) -> Op {
        match operation {
            Operation::Enqueue => Op::Enqueue,
            Operation::Claim => Op::Claim,
            Operation::Extend => Op::Extend,
            Operation::Settle => Op::Settle,
            Operation::Append | Operation::AppendHeld => Op::Append,
            Operation::Remove
            | Operation::RequestStop
            | Operation::Redrive
            | Operation::Sweep
            | Operation::Trim
            | Operation::DropTopics
            | Operation::Advance => Op::Change,
            Operation::Get
            | Operation::Depth
            | Operation::Lane
            | Operation::List
            | Operation::Queues
            | Operation::Read
            | Operation::ReadMany
            | Operation::End
            | Operation::Topics
            | Operation::Cursor => Op::Look,
        }
    }
}

/// What happens to an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// `Unavailable`; it was not done.
    Refused,
    /// `Unknown`; it was done.
    AnswerLost,
    /// `Unknown`; it was not done.
    RequestLost,
}

#[derive(Default)]
struct Book {
    faults: HashMap<Op, Fault>,
    /// Come before `faults`, one operation each.
    next: HashMap<Op, VecDeque<Fault>>,
    failed: HashMap<Op, u64>,
    done: HashMap<Op, u64>,
}

impl Book {
    fn draw(&mut self, op: Op) -> Fault {
        let next = self.next.get_mut(&op).and_then(VecDeque::pop_front);
        next.or_else(|| self.faults.get(&op).copied()).unwrap_or_default()
    }
}

/// A store that fails on request.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    book: Mutex<Book>,
    deaf: bool,
}

impl FaultyStore {
    /// In front of a store, without faults.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>) -> Arc<FaultyStore> {
        Arc::new(FaultyStore { inner, book: Mutex::default(), deaf: false })
    }

    /// The same, and it never wakes anybody: hints may be lost, so nothing may need one.
    #[must_use]
    pub fn deaf(inner: Arc<dyn Store>) -> Arc<FaultyStore> {
        Arc::new(FaultyStore { inner, book: Mutex::default(), deaf: true })
    }

    /// The store behind, without any fault.
    #[must_use]
    pub fn inner(&self) -> &Arc<dyn Store> {
        &self.inner
    }

    /// From now on these operations fail like this.
    pub fn fail(&self, ops: &[Op], fault: Fault) {
        self.book().faults.extend(ops.iter().map(|op| (*op, fault)));
    }

    /// The next operations of this kind meet these faults, one each.
    pub fn fail_next(&self, op: Op, faults: &[Fault]) {
        self.book().next.entry(op).or_default().extend(faults);
    }

    /// Everything works again.
    pub fn recover(&self) {
        let mut book = self.book();
        book.faults.clear();
        book.next.clear();
    }

    /// How many operations of this kind failed so far.
    #[must_use]
    pub fn failed(&self, op: Op) -> u64 {
        self.book().failed.get(&op).copied().unwrap_or(0)
    }

    /// How many operations of this kind the store behind has done.
    #[must_use]
    pub fn done(&self, op: Op) -> u64 {
        self.book().done.get(&op).copied().unwrap_or(0)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Surround for FaultyStore {
    fn surrounded(&self) -> &dyn Store {
        &*self.inner
    }

    async fn around<T: Send>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let op = Op::of(operation);
        let fault = self.book().draw(op);
        if fault != Fault::None {
            *self.book().failed.entry(op).or_default() += 1;
        }
        match fault {
            Fault::Refused => return Err(StoreError::Unavailable("a test made it refuse".into())),
            Fault::RequestLost => return Err(StoreError::Unknown("a test lost the request".into())),
            Fault::None | Fault::AnswerLost => {}
        }
        let answer = work.await;
        *self.book().done.entry(op).or_default() += 1;
        match fault {
            Fault::AnswerLost => Err(StoreError::Unknown("a test lost the answer".into())),
            Fault::None | Fault::Refused | Fault::RequestLost => answer,
        }
    }

    fn wakeups_heard(&self, hints: BoxStream<'static, QueueName>) -> BoxStream<'static, QueueName> {
        if self.deaf { empty().boxed() } else { hints }
    }

    fn topics_heard(&self, hints: BoxStream<'static, TopicName>) -> BoxStream<'static, TopicName> {
        if self.deaf { pending().boxed() } else { hints }
    }
}
