//! The Redis engine as the suite opens and crashes it: a server of the test's own, a namespace for each store.

use async_trait::async_trait;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;
use turnwise_core::Store;
use turnwise_store::redis::{RedisConfig, RedisStore};
use turnwise_testkit::harness::{BACKLOG, HangSwitch};
use turnwise_testkit::servers::{Server, redis};
use turnwise_testkit::{Harness, ManualClock};

/// A store on a server that may hang gives up after this long.
const IMPATIENCE: Duration = Duration::from_millis(400);

/// So often one that gives up so soon is opened on a busy machine.
const OPENINGS_MAX: u32 = 20;

/// What there is to run the suite on.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Form {
    #[default]
    One,
    Cluster,
    Encrypted,
}

/// One server, or a cluster.
enum Servers {
    One(Server),
    Cluster(redis::Cluster),
    Encrypted(Server),
}

impl Servers {
    fn url(&self) -> String {
        match self {
            Servers::One(server) => redis::url(server),
            Servers::Cluster(cluster) => cluster.url(),
            Servers::Encrypted(server) => redis::encrypted_url(server),
        }
    }

    fn crash(&self) {
        match self {
            Servers::One(server) | Servers::Encrypted(server) => server.restart(),
            Servers::Cluster(cluster) => cluster.crash(),
        }
    }

    fn freeze(&self, frozen: bool) {
        match self {
            Servers::One(server) | Servers::Encrypted(server) => server.freeze(frozen),
            Servers::Cluster(cluster) => cluster.freeze(frozen),
        }
    }
}

/// `redis`. A crash is the end of the server, killed without warning and started again on what it left.
#[derive(Default)]
pub(crate) struct Redis {
    clock: ManualClock,
    form: Form,
    servers: OnceLock<Arc<Servers>>,
    spaces: AtomicU32,
    opened: Mutex<Option<RedisConfig>>,
}

/// Whether there is a Redis to run; says so if not.
pub(crate) fn is_there() -> bool {
    redis::program().is_some()
}

impl Redis {
    /// The same on three servers that share the slots.
    pub(crate) fn cluster() -> Redis {
        Redis { form: Form::Cluster, ..Redis::default() }
    }

    /// The same over encrypted connections.
    pub(crate) fn encrypted() -> Redis {
        Redis { form: Form::Encrypted, ..Redis::default() }
    }

    fn servers(&self) -> &Arc<Servers> {
        self.servers.get_or_init(|| {
            let servers = match self.form {
                Form::One => redis::start().map(Servers::One),
                Form::Cluster => redis::Cluster::start().map(Servers::Cluster),
                Form::Encrypted => redis::start_encrypted().map(Servers::Encrypted),
            };
            Arc::new(servers.expect("its program was there before"))
        })
    }

    async fn fresh(&self, config: RedisConfig) -> Arc<dyn Store> {
        let space = self.spaces.fetch_add(1, Ordering::Relaxed);
        self.start(RedisConfig { namespace: format!("space-{space}"), ..config }).await
    }

    async fn start(&self, config: RedisConfig) -> Arc<dyn Store> {
        let url = self.servers().url();
        *self.opened.lock().unwrap() = Some(config.clone());
        for _ in 1..OPENINGS_MAX {
            if let Ok(store) = RedisStore::open(&url, config.clone(), Some(self.clock.reader())).await {
                return store;
            }
        }
        let store = RedisStore::open(&url, config, Some(self.clock.reader())).await;
        store.expect("the server is there")
    }
}

#[async_trait]
impl Harness for Redis {
    fn name(&self) -> &str {
        match self.form {
            Form::One => "redis",
            Form::Cluster => "cluster",
            Form::Encrypted => "redis over TLS",
        }
    }

    async fn open(&self) -> Arc<dyn Store> {
        self.fresh(RedisConfig::default()).await
    }

    async fn crash_and_reopen(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        drop(store);
        self.servers().crash();
        let config = self.opened.lock().unwrap().clone().expect("it was opened");
        self.start(config).await
    }

    async fn open_another(&self) -> Option<Arc<dyn Store>> {
        let config = self.opened.lock().unwrap().clone()?;
        Some(self.start(config).await)
    }

    async fn open_hanging(&self) -> Result<(Arc<dyn Store>, HangSwitch), &'static str> {
        let config = RedisConfig { call_timeout: IMPATIENCE, ..RedisConfig::default() };
        let store = self.fresh(config).await;
        let servers = Arc::clone(self.servers());
        Ok((store, Box::new(move |hangs| servers.freeze(hangs))))
    }

    fn clock(&self) -> &ManualClock {
        &self.clock
    }

    fn durable(&self) -> bool {
        true
    }

    fn backlog(&self) -> usize {
        // The cluster runs the very scripts that the one server ran with all of them.
        if self.form == Form::One { BACKLOG } else { BACKLOG / 10 }
    }

    fn steps_between_crashes(&self) -> u64 {
        // A node that comes back stays away from its cluster for two seconds.
        if self.form == Form::Cluster { 5 } else { 1 }
    }

    fn keeps_lazy_leases(&self) -> bool {
        true
    }
}
