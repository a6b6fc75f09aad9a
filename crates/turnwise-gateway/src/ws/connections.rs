//! The connections that are open: who they are, for administrators, and how
//! many, for the limits.

use super::framing::CloseCode;
use crate::auth::Caller;
use crate::hex;
use crate::limits::WS_CLOSES_COUNTED;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use turnwise_core::Timestamp;
use turnwise_metrics::{Counter, Gauge, Held, Page, Source};

/// Who a connection says it is; it was checked against the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) org: String,
    pub(crate) user: Option<String>,
    pub(crate) workspace: Option<String>,
    pub(crate) agent: Option<String>,
}

/// One connection.
pub(crate) struct Connection {
    pub(crate) id: String,
    pub(crate) identity: Identity,
    pub(crate) connected_at: Timestamp,
    pub(crate) topics: Mutex<Vec<String>>,
    is_closing: AtomicBool,
}

impl Connection {
    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Relaxed)
    }
}

#[derive(Default)]
struct Table {
    made: u64,
    by_number: BTreeMap<u64, Arc<Connection>>,
}

/// All of this node.
pub(crate) struct Connections {
    seed: u64,
    table: Mutex<Table>,
    open: Gauge,
    opened: Counter,
    closed: [Counter; WS_CLOSES_COUNTED.len()],
}

/// How many of what there are.
pub(crate) struct Totals {
    pub(crate) connections: usize,
    pub(crate) users: usize,
    pub(crate) workspaces: usize,
    pub(crate) agents: usize,
    pub(crate) topics: usize,
}

impl Connections {
    pub(crate) fn new(seed: u64) -> Connections {
        Connections {
            seed,
            table: Mutex::default(),
            open: Gauge::default(),
            opened: Counter::default(),
            closed: std::array::from_fn(|_| Counter::default()),
        }
    }

    /// How many there are.
    pub(crate) fn open(&self) -> u64 {
        self.open.get()
    }

    /// Enters a connection, which is in it until the answer is dropped.
    pub(crate) fn enter(
        self: &Arc<Connections>,
        caller: &Caller,
        identity: Identity,
        now: Timestamp,
    ) -> Entry {
        let seats = [self.open.hold(), caller.holder().sockets.hold()];
        self.opened.one();
        let mut table = self.table.lock();
        table.made += 1;
        let number = table.made;
        let connection = Arc::new(Connection {
            id: self.id(number),
            identity,
            connected_at: now,
            topics: Mutex::default(),
            is_closing: AtomicBool::new(false),
        });
        table.by_number.insert(number, Arc::clone(&connection));
        drop(table);
        Entry { connections: Arc::clone(self), number, connection, _seats: seats }
    }

    /// `conn_` and sixteen hex digits that tell nothing.
    fn id(&self, number: u64) -> String {
        let mut hash = Sha256::new_with_prefix(b"turnwise connection");
        hash.update(self.seed.to_be_bytes());
        hash.update(number.to_be_bytes());
        "conn_".to_owned() + &hex::write(hash.finalize().into_iter().take(8))
    }

    /// A close frame of ours was written.
    pub(super) fn closed(&self, code: CloseCode) {
        let at = WS_CLOSES_COUNTED.iter().position(|known| *known == code);
        if let Some(count) = at.and_then(|at| self.closed.get(at)) {
            count.one();
        }
    }

    /// Those the caller may see behind this number, in the order in which they came; with their numbers.
    pub(crate) fn list(&self, caller: &Caller, after: u64, limit: usize) -> Vec<(u64, Arc<Connection>)> {
        let table = self.table.lock();
        let seen = table.by_number.range(after.saturating_add(1)..);
        let seen = seen.filter(|(_, connection)| caller.sees(&connection.identity.org));
        seen.take(limit).map(|(number, connection)| (*number, Arc::clone(connection))).collect()
    }

    /// One that the caller may see.
    pub(crate) fn find(&self, caller: &Caller, id: &str) -> Option<Arc<Connection>> {
        let table = self.table.lock();
        let found = table.by_number.values().find(|connection| connection.id == id)?;
        caller.sees(&found.identity.org).then(|| Arc::clone(found))
    }

    /// Of those the caller may see.
    pub(crate) fn totals(&self, caller: &Caller) -> Totals {
        let seen = self.list(caller, 0, usize::MAX);
        let mut topics = HashSet::new();
        for (_, connection) in &seen {
            let org = &connection.identity.org;
            topics.extend(connection.topics.lock().iter().map(|topic| (org, topic.clone())));
        }
        let count = |of: fn(&Identity) -> &Option<String>| {
            let named = seen.iter().map(|(_, connection)| &connection.identity);
            let named = named.filter_map(|who| of(who).as_ref().map(|name| (&who.org, name)));
            named.collect::<HashSet<_>>().len()
        };
        Totals {
            connections: seen.len(),
            users: count(|who| &who.user),
            workspaces: count(|who| &who.workspace),
            agents: count(|who| &who.agent),
            topics: topics.len(),
        }
    }
}

/// A connection's place in the table.
pub(crate) struct Entry {
    connections: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
    _seats: [Held; 2],
}

impl Entry {
    pub(super) fn id(&self) -> &str {
        &self.connection.id
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.connection.identity
    }

    pub(super) fn org(&self) -> String {
        self.connection.identity.org.clone()
    }

    /// It follows these topics and patterns now.
    pub(super) fn follows(&self, topics: Vec<String>) {
        *self.connection.topics.lock() = topics;
    }

    /// It does not take part any longer.
    pub(super) fn ends(&self) {
        self.connection.is_closing.store(true, Relaxed);
        self.follows(Vec::new());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.table.lock().by_number.remove(&self.number);
    }
}

impl Source for Connections {
    fn tell(&self, page: &mut Page<'_>) -> fmt::Result {
        page.gauge("turnwise_websockets_open", "WebSocket connections.", self.open.get() as f64)?;
        page.counter("turnwise_websockets_opened", "WebSocket connections opened.", self.opened.get())?;
        let names = WS_CLOSES_COUNTED.map(|code| code.number().to_string());
        let closed = names.iter().map(String::as_str).zip(self.closed.iter().map(Counter::get));
        page.counters("turnwise_websockets_closed", "Closed from here, by code.", "code", closed)
    }
}
