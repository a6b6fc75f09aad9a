//! Reading a topic page by page.

use std::ops::ControlFlow;
use turnwise_core::{Event, Read, ReadFrom, Store, StoreError, TopicName};

/// Shows every event of a topic, the oldest first, until `each` has seen enough. Reads `page` at a time.
///
/// # Errors
/// When the store does not answer.
pub(crate) async fn each_event(
    store: &dyn Store,
    topic: &TopicName,
    page: u32,
    mut each: impl FnMut(&Event) -> ControlFlow<()>,
) -> Result<(), StoreError> {
    let mut from = ReadFrom::Earliest;
    loop {
        from = match store.read(topic, from, page).await? {
            Read::Events { events, .. } if events.is_empty() => return Ok(()),
            Read::Events { events, next } => {
                if events.iter().try_for_each(&mut each).is_break() {
                    return Ok(());
                }
                ReadFrom::After(next)
            }
            Read::Gap { resume } => ReadFrom::After(resume),
        };
    }
}
