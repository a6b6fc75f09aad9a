//! Bytes that are kept must be all that is kept. A caller's [`Bytes`] may be a
//! short part of a long buffer, such as what a connection reads into, and would
//! hold the whole of it for as long as the store holds the part: so what comes
//! in is copied.

use bytes::Bytes;
use turnwise_core::{Dedup, Effect, NewEvent, NewMessage};

fn copy(bytes: &mut Bytes) {
    *bytes = Bytes::copy_from_slice(bytes);
}

fn dedup(dedup: &mut Option<Dedup>) {
    dedup.iter_mut().for_each(|dedup| copy(&mut dedup.key));
}

pub(crate) fn message(message: &mut NewMessage) {
    copy(&mut message.payload);
    message.key.iter_mut().for_each(|key| copy(&mut key.0));
    dedup(&mut message.dedup);
    effects(&mut message.at_end);
}

pub(crate) fn event(event: &mut NewEvent) {
    copy(&mut event.data);
    dedup(&mut event.dedup);
}

pub(crate) fn effects(effects: &mut [Effect]) {
    for effect in effects {
        match effect {
            Effect::Enqueue(new) => message(new),
            Effect::Publish(new) => event(new),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use crate::clock::system_clock;
    use crate::embedded::{EmbeddedConfig, EmbeddedStore};
    use crate::memory::MemoryStore;
    use bytes::{Bytes, BytesMut};
    use std::time::Duration;
    use turnwise_core::{
        Claim, Dedup, Effect, Kind, Name, NewEvent, NewMessage, OrderingKey, Outcome, Settlement, Store,
    };

    /// A buffer, and parts of it to hand out; whether one is still held can be seen.
    struct Buffer(Bytes);

    impl Buffer {
        fn new() -> Buffer {
            let mut long = BytesMut::with_capacity(8_192);
            long.resize(8_192, b'x');
            Buffer(long.freeze())
        }

        fn part(&self) -> Bytes {
            self.0.slice(8..16)
        }

        fn is_held(&self) -> bool {
            !self.0.is_unique()
        }
    }

    fn event(buffer: &Buffer) -> NewEvent {
        let topic = Name::new("acme", Kind::Public, "t").unwrap();
        let key = Dedup { key: buffer.part(), window: Duration::from_secs(9), content_hash: [0; 16] };
        NewEvent { topic, event_type: "e".into(), data: buffer.part(), dedup: Some(key), keep_until: None }
    }

    fn message(buffer: &Buffer) -> NewMessage {
        let queue = Name::new("acme", Kind::Turns, "q").unwrap();
        let mut message = NewMessage::new(queue, buffer.part());
        message.key = Some(OrderingKey(buffer.part()));
        message.dedup = Some(Dedup { key: buffer.part(), ..event(buffer).dedup.unwrap() });
        message.at_end = vec![Effect::Publish(event(buffer))];
        message
    }

    async fn nothing_of_a_callers_buffer_is_held(store: &dyn Store) {
        let buffer = Buffer::new();
        for answer in store.append(vec![event(&buffer)]).await.unwrap() {
            answer.unwrap();
        }
        assert!(!buffer.is_held(), "append");
        for answer in store.enqueue(vec![message(&buffer)]).await.unwrap() {
            answer.unwrap();
        }
        assert!(!buffer.is_held(), "enqueue");
        let queue = message(&buffer).queue;
        let claim = Claim { queue, limit: 1, lease: Duration::from_secs(9), durable: false };
        let receipt = store.claim(claim).await.unwrap().pop().unwrap().receipt;
        let mut next = message(&buffer);
        next.dedup = None;
        let effects = vec![Effect::Publish(event(&buffer)), Effect::Enqueue(next)];
        let settlement = Settlement { receipt, outcome: Outcome::Ack, effects };
        for answer in store.settle(vec![settlement]).await.unwrap() {
            answer.unwrap();
        }
        assert!(!buffer.is_held(), "settle");
    }

    #[tokio::test]
    async fn no_engine_holds_a_long_buffer_for_a_short_part_of_it() {
        nothing_of_a_callers_buffer_is_held(MemoryStore::new(system_clock()).as_ref()).await;
        let folder = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(folder.path(), EmbeddedConfig::default(), system_clock()).unwrap();
        nothing_of_a_callers_buffer_is_held(store.as_ref()).await;
        store.close();
    }
}
