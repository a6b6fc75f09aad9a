//! From the operator's words to a store.

use crate::clock::{Clock, ServerClock, system_clock};
#[cfg(any(feature = "postgres", feature = "redis"))]
use crate::counted::Counted;
use crate::embedded::{EmbeddedConfig, EmbeddedStore};
use crate::memory::MemoryStore;
#[cfg(feature = "postgres")]
use crate::postgres::{PostgresConfig, PostgresStore};
#[cfg(feature = "redis")]
use crate::redis::{RedisConfig, RedisStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{Result, Store, StoreError};

/// Between two looks at a server's clock: ordinary clocks drift apart by less than a millisecond in it.
const CLOCK_PERIOD: Duration = Duration::from_secs(10);

/// The time of a store, see [`Opened::clock`].
pub struct StoreClock {
    known: Arc<ServerClock>,
}

impl StoreClock {
    /// For who reads it.
    #[must_use]
    pub fn reading(&self) -> Clock {
        let known = Arc::clone(&self.known);
        Arc::new(move || known.now())
    }
}

/// A running store of any engine.
pub enum Opened {
    /// Lives as long as the process.
    Memory(Arc<MemoryStore>),
    /// In a folder.
    Embedded(Arc<EmbeddedStore>),
    /// On a PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres(Arc<PostgresStore>),
    /// On a Redis server.
    #[cfg(feature = "redis")]
    Redis(Arc<RedisStore>),
}

impl Opened {
    /// The store itself.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Opened::Memory(store) => Arc::clone(store) as Arc<dyn Store>,
            Opened::Embedded(store) => Arc::clone(store) as Arc<dyn Store>,
            #[cfg(feature = "postgres")]
            Opened::Postgres(store) => Arc::new(Counted { store: Arc::clone(store), counts: store.counts() }),
            #[cfg(feature = "redis")]
            Opened::Redis(store) => Arc::new(Counted { store: Arc::clone(store), counts: store.counts() }),
        }
    }

    /// What the engine counts, for a scraper; nothing if it has nothing to tell.
    #[must_use]
    pub fn metrics(&self) -> Option<Arc<dyn turnwise_metrics::Source>> {
        match self {
            Opened::Memory(_) => None,
            Opened::Embedded(store) => Some(store.metrics()),
            #[cfg(feature = "postgres")]
            Opened::Postgres(store) => Some(store.counts()),
            #[cfg(feature = "redis")]
            Opened::Redis(store) => Some(store.counts()),
        }
    }

    /// The clock that leases of this store end by: the server's where several nodes share one, as this node knows it
    /// after [`Opened::keep_time`]; else the operating system's.
    ///
    /// # Errors
    /// `Unavailable` when the server does not say what time it is.
    pub async fn clock(&self) -> Result<StoreClock> {
        let clock = StoreClock { known: Arc::new(ServerClock::new(system_clock())) };
        self.look_at(&clock).await?;
        Ok(clock)
    }

    /// Asks the server again and again, as long as it is polled.
    pub async fn keep_time(&self, clock: &StoreClock) {
        loop {
            tokio::time::sleep(CLOCK_PERIOD).await;
            if let Err(error) = self.look_at(clock).await {
                tracing::debug!(%error, "the store's server did not say what time it is");
            }
        }
    }

    async fn look_at(&self, clock: &StoreClock) -> Result<()> {
        let asked = clock.known.own();
        let told = match self {
            Opened::Memory(_) | Opened::Embedded(_) => return Ok(()),
            #[cfg(feature = "postgres")]
            Opened::Postgres(store) => store.time().await?,
            #[cfg(feature = "redis")]
            Opened::Redis(store) => store.time().await?,
        };
        clock.known.learn(asked, told, clock.known.own());
        Ok(())
    }

    /// Writes what is buffered and stops the engine. Blocks for at most its timeout.
    pub fn close(&self) {
        match self {
            Opened::Memory(_) => {}
            Opened::Embedded(store) => store.close(),
            #[cfg(feature = "postgres")]
            Opened::Postgres(store) => store.close(),
            #[cfg(feature = "redis")]
            Opened::Redis(store) => store.close(),
        }
    }

    /// How often the store came back without what it had acknowledged, since it was opened (clause X5).
    #[must_use]
    pub fn losses(&self) -> u64 {
        match self {
            Opened::Memory(_) | Opened::Embedded(_) => 0,
            #[cfg(feature = "postgres")]
            Opened::Postgres(store) => store.losses(),
            #[cfg(feature = "redis")]
            Opened::Redis(store) => store.losses(),
        }
    }

    /// What is less than it should be about how the store keeps what it acknowledges; nothing if all is well.
    #[must_use]
    pub fn weakness(&self) -> Option<String> {
        match self {
            Opened::Memory(_) | Opened::Embedded(_) => None,
            #[cfg(feature = "postgres")]
            Opened::Postgres(store) => {
                store.weakness().map(|weak| format!("a crash of PostgreSQL loses messages: {weak}"))
            }
            #[cfg(feature = "redis")]
            Opened::Redis(store) => {
                let found = store.found();
                (!found.is_durable()).then(|| format!("a crash of Redis loses messages: it has {found}"))
            }
        }
    }
}

/// Opens `memory:`, or a folder given as a path or as `file:<path>`.
///
/// # Errors
/// `Invalid` for a URL no engine knows; otherwise what the engine says.
pub fn open(url: &str, config: EmbeddedConfig, clock: Clock) -> Result<Opened> {
    let folder = match url.split_once(':') {
        Some(("memory", rest)) if rest.trim_matches('/').is_empty() => {
            return Ok(Opened::Memory(MemoryStore::new(clock)));
        }
        Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
        Some((scheme, _)) if scheme.len() > 1 && scheme.bytes().all(|byte| byte.is_ascii_lowercase()) => {
            return Err(StoreError::Invalid(format!(
                "there is no storage engine {scheme:?}: use memory: or file:<folder>"
            )));
        }
        Some(_) | None => url,
    };
    if folder.is_empty() {
        return Err(StoreError::Invalid("the store needs a folder: file:<folder>".into()));
    }
    EmbeddedStore::open(Path::new(folder), config, clock).map(Opened::Embedded)
}

/// Opens a store on a server: `redis://…`, which several nodes may share.
///
/// # Errors
/// `Invalid` for a URL no engine knows; otherwise what the engine says.
#[cfg(feature = "redis")]
pub async fn connect(url: &str, config: RedisConfig) -> Result<Opened> {
    RedisStore::open(url, config, None).await.map(Opened::Redis)
}

/// Opens a store in a PostgreSQL schema, which several nodes may share.
///
/// # Errors
/// What the engine says.
#[cfg(feature = "postgres")]
pub async fn connect_postgres(url: &str, config: PostgresConfig) -> Result<Opened> {
    PostgresStore::open(url, config, None).await.map(Opened::Postgres)
}
