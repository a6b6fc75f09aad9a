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

impl Conversation {
    /// The conversation of a lane.
    pub(crate) fn of_key(key: &OrderingKey) -> Option<Conversation> {
        let (kind, mut rest) = key.0.split_first()?;
        let mut part = || {
            let (length, after) = rest.split_first_chunk::<4>()?;
            let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
            let (text, after) = after.split_at_checked(length)?;
            rest = after;
            Some(std::str::from_utf8(text).ok()?.to_owned())
        };
        match *kind {
            USER => Some(Conversation::User { user: part()? }),
            GROUP => Some(Conversation::Group { chat: part()?, thread: None }),
            THREAD => Some(Conversation::Group { chat: part()?, thread: Some(part()?) }),
            _ => None,
        }
    }
}

/// Appends a part so that no two lists of parts give the same bytes.
pub(crate) fn push_part(key: &mut Vec<u8>, part: &str) {
    push_bytes(key, part.as_bytes());
}

pub(crate) fn push_bytes(key: &mut Vec<u8>, part: &[u8]) {
    let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
    key.extend_from_slice(&length.to_be_bytes());
    key.extend_from_slice(part);
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
        let back: Vec<_> = keys.iter().filter_map(Conversation::of_key).collect();
        assert_eq!(back, all);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all.len());
    }
}
