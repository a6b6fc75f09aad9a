//! A store in front of another one, which it asks, and counts what it is asked.

use crate::clock::Moment;
use crate::counts::Counts;
use std::sync::Arc;
use turnwise_core::{Operation, Result, Store, StoreError, Surround};

/// A store that is counted.
pub(crate) struct Counted<S> {
    pub(crate) store: Arc<S>,
    pub(crate) counts: Arc<Counts>,
}

impl<S: Store> Surround for Counted<S> {
    fn surrounded(&self) -> &dyn Store {
        &*self.store
    }

    async fn around<T: Send>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let began = Moment::now();
        let told = work.await;
        self.counts.answered(operation, began);
        if let Err(error) = &told {
            self.counts.failed(error);
        }
        told
    }

    fn item_failed(&self, error: &StoreError) {
        self.counts.failed(error);
    }
}
