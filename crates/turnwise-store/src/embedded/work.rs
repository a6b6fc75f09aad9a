//! One operation on its way to the owner thread, and its answer on the way back.

use crate::front::Cost;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use turnwise_core::machine::{Bodies, Machine};
use turnwise_core::{Result, StoreError, Timestamp};

/// What the owner thread is sent.
pub(super) enum Order {
    /// Run this.
    Run(Command),
    /// Write what is buffered and end.
    Stop,
}

/// An operation with what it asks for.
pub(super) struct Command {
    pub(super) cost: Cost,
    pub(super) work: Box<dyn Work>,
    /// Holds its room among those that wait until it has run.
    pub(super) permit: OwnedSemaphorePermit,
}

/// An operation, run once, answered once; the answer may come later.
pub(super) trait Work: Send {
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
    /// Runs it and keeps the answer.
    fn run(&mut self, machine: &mut Machine, now: Timestamp, bodies: &dyn Bodies);
    /// Why the data cannot be trusted, if that is the answer.
    fn corruption(&self) -> Option<&StoreError>;
    /// Sends the answer kept.
    fn answer(self: Box<Self>);
    /// Answers this instead.
    fn refuse(self: Box<Self>, why: StoreError);
}

/// A closure and the one who waits for what it returns.
pub(super) struct Call<T, F> {
    operation: Option<F>,
    result: Option<Result<T>>,
    reply: oneshot::Sender<Result<T>>,
}

impl<T, F> Call<T, F> {
    pub(super) fn new(operation: F, reply: oneshot::Sender<Result<T>>) -> Call<T, F> {
        Call { operation: Some(operation), result: None, reply }
    }
}

impl<T, F> Work for Call<T, F>
where
    T: Send + 'static,
    F: FnOnce(&mut Machine, Timestamp, &dyn Bodies) -> Result<T> + Send + 'static,
{
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn run(&mut self, machine: &mut Machine, now: Timestamp, bodies: &dyn Bodies) {
        if let Some(operation) = self.operation.take() {
            self.result = Some(operation(machine, now, bodies));
        }
    }

    fn corruption(&self) -> Option<&StoreError> {
        match &self.result {
            Some(Err(error @ StoreError::Corrupt(_))) => Some(error),
            Some(_) | None => None,
        }
    }

    fn answer(self: Box<Self>) {
        if let Some(result) = self.result {
            // A caller that has left needs no answer.
            let _ = self.reply.send(result);
        }
    }

    fn refuse(self: Box<Self>, why: StoreError) {
        let _ = self.reply.send(Err(why));
    }
}
