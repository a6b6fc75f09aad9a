//! Which store, and how a store on a server is used.

use super::limits;
use super::{ConfigError, Reader, Source, StoreKind};
use std::fmt;
use std::time::Duration;

/// A URL that may hold a password: never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ServerUrl(String);

impl ServerUrl {
    /// All of it, for connecting.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Without user and password.
    pub(crate) fn place(&self) -> String {
        super::show::without_password(&self.0)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place())
    }
}

/// How a store on a server is used.
#[derive(Clone, Debug)]
pub(crate) struct ServerStore {
    /// What is acknowledged must be on disk.
    pub(crate) is_durable: bool,
    pub(crate) namespace: String,
    pub(crate) connections: u32,
    pub(crate) timeout: Duration,
}

impl ServerStore {
    pub(super) fn read(read: &Reader<'_>) -> Result<ServerStore, ConfigError> {
        let is_durable = match read.text("store.durability").as_deref() {
            None | Some("full") => true,
            Some("relaxed") => false,
            Some(_) => return Err(read.wrong("store.durability", "full or relaxed")),
        };
        Ok(ServerStore {
            is_durable,
            namespace: read.text("store.namespace").unwrap_or_default(),
            connections: read.number("store.connections", limits::STORE_CONNECTIONS)?,
            timeout: read.seconds("store.timeout_seconds", limits::STORE_TIMEOUT)?,
        })
    }
}

impl Reader<'_> {
    pub(super) fn store(&self) -> Result<StoreKind, ConfigError> {
        let (url, source) = self.layers.get("store.url");
        let redis = self.text("store.redis_url").filter(|_| source == Source::Default);
        let named = redis.unwrap_or(url);
        let scheme = named.split("://").next().unwrap_or_default().to_ascii_lowercase();
        match (named.as_str(), scheme.as_str()) {
            ("embedded", _) => Ok(StoreKind::Embedded),
            ("memory", _) => Ok(StoreKind::Memory),
            (_, "redis" | "rediss") => Ok(StoreKind::Redis(ServerUrl(named))),
            (_, "postgres" | "postgresql") => Ok(StoreKind::Postgres(ServerUrl(named))),
            _ => Err(self.wrong(
                "store.url",
                "embedded, memory, redis://host:port, rediss://host:port or postgres://host/database",
            )),
        }
    }
}
