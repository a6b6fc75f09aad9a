//! How much of answers and of bodies made from them is in memory at once.

use tokio::sync::{Semaphore, SemaphorePermit};
use turnwise_broker::CallbackAnswer;

use crate::limits::{CALLBACK_ANSWERS_READ_MAX, CALLBACK_BODIES_BYTES_MAX};

/// Bytes of one unit.
const UNIT_BYTES: usize = 1_024;
/// All units there are.
const UNITS: u32 = (CALLBACK_BODIES_BYTES_MAX / UNIT_BYTES) as u32;
/// An answer, and the body it is copied to; a text is quoted in between.
const COPIES: usize = 3;

/// Room for the bodies of all tries.
pub(super) struct Bodies {
    reads: Semaphore,
    room: Semaphore,
}

impl Bodies {
    pub(super) fn new() -> Bodies {
        Bodies { reads: Semaphore::new(CALLBACK_ANSWERS_READ_MAX), room: Semaphore::new(UNITS as usize) }
    }

    /// Before an answer is read: its size is not known yet. To be held until
    /// it has room.
    pub(super) async fn read(&self) -> Option<SemaphorePermit<'_>> {
        self.reads.acquire().await.ok()
    }

    /// Waits until there is room for the body of this answer. One that is too
    /// large for all of the room takes all of it.
    pub(super) async fn room_for(&self, answer: &CallbackAnswer) -> Option<SemaphorePermit<'_>> {
        let text = answer.text.as_ref().map_or(0, String::len);
        self.room(answer.end.answer.as_ref().map_or(0, bytes::Bytes::len).saturating_add(text)).await
    }

    async fn room(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        let units = (bytes.saturating_mul(COPIES) / UNIT_BYTES).saturating_add(1);
        let units = u32::try_from(units).unwrap_or(UNITS).min(UNITS);
        self.room.acquire_many(units).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bodies_wait_until_there_is_room_for_them() {
        let bodies = Bodies::new();
        let now = |bytes| tokio::time::timeout(std::time::Duration::from_secs(1), bodies.room(bytes));
        let large = now(CALLBACK_BODIES_BYTES_MAX / COPIES / 2).await.expect("half of it");
        let small = now(0).await.expect("a little");
        assert!(now(CALLBACK_BODIES_BYTES_MAX / COPIES / 2 + UNIT_BYTES).await.is_err(), "no room");
        drop((large, small));
        let all = now(usize::MAX).await.expect("larger than all of it");
        assert!(now(0).await.is_err(), "all is taken");
        drop(all);
        now(0).await.expect("there is room again");
    }
}
