//! Which turns follow each other, and how ids from outside become keys.

use bytes::Bytes;
use turnwise_core::OrderingKey;

/// Turns of one conversation run one after the other. Lives inside an org.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Conversation {
    /// One user with the agent, over all clients.
    User {
        /// Opaque id.
        user: String,
    },
    /// A group chat, or one thread of it.
    Group {
        /// Opaque id.
        chat: String,
        /// Opaque id inside the chat.
        thread: Option<String>,
    },
}

const USER: u8 = 0;
const GROUP: u8 = 1;
const THREAD: u8 = 2;

impl Conversation {
    /// The lane of this conversation. The bytes are on disk: never change them.
    pub(crate) fn key(&self) -> OrderingKey {
        let mut key = Vec::new();
        match self {
            Conversation::User { user } => {
                key.push(USER);
                push_part(&mut key, user);
            }
            Conversation::Group { chat, thread: None } => {
                key.push(GROUP);
                push_part(&mut key, chat);
            }
            Conversation::Group { chat, thread: Some(thread) } => {
                key.push(THREAD);
                push_part(&mut key, chat);
                push_part(&mut key, thread);
            }
        }
        OrderingKey(Bytes::from(key))
    }
}

/// Appends a part so that no two lists of parts give the same bytes.
pub(crate) fn push_part(key: &mut Vec<u8>, part: &str) {
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(part.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_conversations_differ() {
        let group = |chat: &str, thread: Option<&str>| Conversation::Group {
            chat: chat.into(),
            thread: thread.map(str::to_owned),
        };
        let all = [
            Conversation::User { user: "a".into() },
            group("a", None),
            group("a", Some("")),
            group("a", Some("b")),
            group("ab", Some("")),
            group("", Some("ab")),
        ];
        let mut keys: Vec<_> = all.iter().map(Conversation::key).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
    }
}
