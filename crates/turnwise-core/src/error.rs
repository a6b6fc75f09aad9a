//! What can go wrong with a store. Expected answers are values, not errors.

use crate::name::NameError;
use thiserror::Error;

/// Why an operation, or one item of a batch, has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// Nothing happened; the same call may be tried again.
    #[error("the store is unavailable, nothing was done: {0}")]
    Unavailable(String),
    /// It may or may not have happened. An enqueue is safe to repeat with a
    /// dedup key, a settle as it is.
    #[error("the store did not confirm in time, it may have been done: {0}")]
    Unknown(String),
    /// The caller's fault; nothing happened.
    #[error("{0}")]
    Invalid(String),
    /// The stored data cannot be trusted; the store stops.
    #[error("the stored data is damaged: {0}")]
    Corrupt(String),
}

impl From<NameError> for StoreError {
    fn from(error: NameError) -> StoreError {
        StoreError::Invalid(error.to_string())
    }
}

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The result of one item of a batch.
pub type ItemResult<T> = std::result::Result<T, StoreError>;
