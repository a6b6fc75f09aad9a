//! The orgs this store has seen, and how an id leads back to its org.

use crate::limits::ORGS_PAGE;
use bytes::Bytes;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use turnwise_core::{Kind, MessageId, Name, NewEvent, Read, ReadFrom, Store, StoreError, TopicName};

/// Which orgs a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrgScope {
    /// Every org.
    All,
    /// Only these.
    These(Vec<String>),
}

impl OrgScope {
    /// Whether `org` is one of them.
    #[must_use]
    pub fn contains(&self, org: &str) -> bool {
        match self {
            OrgScope::All => true,
            OrgScope::These(orgs) => orgs.iter().any(|known| known == org),
        }
    }
}

const HASH_BITS: u32 = 14;
const RANDOM_BITS: u32 = 62 - HASH_BITS;
const ORG_EVENT: &str = "org";

/// A nonce that starts with a hash of the org: a lookup by id alone then asks
/// the few orgs that share it. Part of ids on disk: never change it.
pub(crate) fn nonce_for(org: &str, random: u64) -> u64 {
    u64::from(org_hash(org)) << RANDOM_BITS | random & ((1 << RANDOM_BITS) - 1)
}

fn org_hash(org: &str) -> u16 {
    let digest: [u8; 32] = Sha256::digest(org.as_bytes()).into();
    let [first, second, ..] = digest;
    u16::from_be_bytes([first, second]) & ((1 << HASH_BITS) - 1)
}

#[derive(Default)]
struct Known {
    names: BTreeSet<String>,
    by_hash: HashMap<u16, Vec<String>>,
    read_to: Option<ReadFrom>,
}

/// The orgs, kept as events so that every node and every start knows them.
pub(crate) struct Orgs {
    topic: TopicName,
    known: Mutex<Known>,
}

impl Orgs {
    pub(crate) async fn load(store: &dyn Store) -> Result<Orgs, StoreError> {
        let topic = Name::new("", Kind::Sys, "orgs")?;
        let orgs = Orgs { topic, known: Mutex::default() };
        orgs.catch_up(store).await?;
        Ok(orgs)
    }

    /// Reads what other nodes have added.
    pub(crate) async fn catch_up(&self, store: &dyn Store) -> Result<(), StoreError> {
        loop {
            let from = self.known.lock().read_to.unwrap_or(ReadFrom::Earliest);
            match store.read(&self.topic, from, ORGS_PAGE).await? {
                Read::Gap { resume: _ } if from == ReadFrom::Earliest => return Ok(()),
                Read::Gap { resume: _ } => self.known.lock().read_to = None,
                Read::Events { events, next } => {
                    let mut known = self.known.lock();
                    let done = events.is_empty();
                    known.read_to = Some(ReadFrom::After(next));
                    for event in events {
                        if let Ok(org) = std::str::from_utf8(&event.data) {
                            known.add(org);
                        }
                    }
                    if done {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Makes sure a lookup without an org will find this one. False, and nothing
    /// stored, when it is new and `orgs_max` are known.
    pub(crate) async fn remember(
        &self,
        store: &dyn Store,
        org: &str,
        orgs_max: usize,
    ) -> Result<bool, StoreError> {
        let known = {
            let known = self.known.lock();
            if known.names.contains(org) {
                return Ok(true);
            }
            known.names.len()
        };
        if known >= orgs_max {
            return Ok(false);
        }
        let event = NewEvent {
            topic: self.topic.clone(),
            event_type: ORG_EVENT.to_owned(),
            data: Bytes::copy_from_slice(org.as_bytes()),
            dedup: None,
            keep_until: None,
        };
        for answer in store.append(vec![event]).await? {
            answer?;
        }
        self.known.lock().add(org);
        Ok(true)
    }

    /// How many orgs are in scope.
    pub(crate) fn count(&self, scope: &OrgScope) -> usize {
        match scope {
            OrgScope::All => self.known.lock().names.len(),
            OrgScope::These(orgs) => orgs.len(),
        }
    }

    /// Orgs in scope that may hold this id.
    pub(crate) fn candidates(&self, scope: &OrgScope, id: MessageId) -> Vec<String> {
        let hash = u16::try_from(id.nonce() >> RANDOM_BITS).unwrap_or(u16::MAX);
        match scope {
            OrgScope::All => self.known.lock().by_hash.get(&hash).cloned().unwrap_or_default(),
            OrgScope::These(orgs) => orgs.iter().filter(|org| org_hash(org) == hash).cloned().collect(),
        }
    }

    /// All orgs in scope.
    pub(crate) fn all(&self, scope: &OrgScope) -> Vec<String> {
        match scope {
            OrgScope::All => self.known.lock().names.iter().cloned().collect(),
            OrgScope::These(orgs) => orgs.clone(),
        }
    }
}

impl Known {
    fn add(&mut self, org: &str) {
        if self.names.insert(org.to_owned()) {
            self.by_hash.entry(org_hash(org)).or_default().push(org.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_carries_its_orgs_hash_in_62_bits() {
        let nonce = nonce_for("acme", u64::MAX);
        assert_eq!(MessageId::new(1, nonce).nonce(), nonce);
        assert_eq!(nonce >> RANDOM_BITS, u64::from(org_hash("acme")));
    }
}
