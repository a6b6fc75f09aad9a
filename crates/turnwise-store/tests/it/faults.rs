//! A server whose connection breaks while a store is opened, that changes its password, or that comes back empty.

use std::sync::Arc;
use std::time::Duration;
use turnwise_core::{Kind, Name, NewMessage, QueueName, Result, Store, StoreError};
use turnwise_testkit::{Cut, ManualClock, Proxy};

#[cfg(feature = "postgres")]
use turnwise_testkit::servers::postgres::Postgres;
#[cfg(feature = "redis")]
use turnwise_testkit::servers::{Server, redis};

/// Longest wait for something that has to come.
const PATIENCE: Duration = Duration::from_secs(60);
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// Places at which a connection is cut while a store is opened, each way.
const CUTS: u64 = 10;
/// Refusals in a row that show that no connection is left that knew the password.
const REFUSALS: usize = 8;
/// The password of a server, and the one that it has later.
const PASSWORDS: [&str; 2] = ["hunter2", "other7"];

/// A private server, and stores on it.
pub(crate) enum Engine {
    #[cfg(feature = "redis")]
    Redis(Server),
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

impl Engine {
    #[cfg(feature = "redis")]
    pub(crate) fn redis() -> Option<Engine> {
        redis::start().map(Engine::Redis)
    }

    #[cfg(feature = "postgres")]
    pub(crate) fn postgres() -> Option<Engine> {
        Postgres::start().map(Engine::Postgres)
    }

    /// Where the server listens.
    pub(crate) fn port(&self) -> u16 {
        match self {
            #[cfg(feature = "redis")]
            Engine::Redis(server) => server.port(),
            #[cfg(feature = "postgres")]
            Engine::Postgres(server) => server.server().port(),
        }
    }

    /// A store that does nothing by itself where that can be had, reached through this port.
    pub(crate) async fn open(
        &self,
        port: u16,
        space: &str,
        connections: usize,
        call_timeout: Duration,
        clock: Option<&ManualClock>,
    ) -> Result<Arc<dyn Store>> {
        let clock = clock.map(ManualClock::reader);
        match self {
            #[cfg(feature = "redis")]
            Engine::Redis(_) => {
                use turnwise_store::redis::{RedisConfig, RedisStore};
                let namespace = space.to_owned();
                let config =
                    RedisConfig { namespace, pool: connections, call_timeout, ..RedisConfig::default() };
                let store = RedisStore::open(&format!("redis://127.0.0.1:{port}"), config, clock).await?;
                Ok(store)
            }
            #[cfg(feature = "postgres")]
            Engine::Postgres(server) => {
                use turnwise_store::postgres::{PostgresConfig, PostgresStore};
                let config = PostgresConfig {
                    connections_max: connections,
                    call_timeout,
                    connect_timeout: call_timeout,
                    acts_by_itself: false,
                    ..PostgresConfig::default()
                };
                let url = server.url(space).replace(&format!(":{}/", self.port()), &format!(":{port}/"));
                let store = PostgresStore::open(&url, config, clock).await?;
                Ok(store)
            }
        }
    }
}

fn queue() -> QueueName {
    Name::new("acme", Kind::Turns, "jobs").unwrap()
}

fn message(n: usize) -> NewMessage {
    NewMessage::new(queue(), n.to_string())
}

/// A connection that breaks while a store is opened is no reason to refuse the server, and leaves nothing behind
/// that the next one stumbles over.
async fn opening_survives_cuts(engine: Engine) {
    // A way for each: nothing that another store said late is taken for the opening.
    let way = async |cut| {
        let proxy = Proxy::start(engine.port()).await.unwrap();
        proxy.watch(cut);
        proxy
    };
    let proxy = way(None).await;
    drop(engine.open(proxy.port(), "whole", 1, CALL_TIMEOUT, None).await.unwrap());
    let whole = proxy.passed();
    let places = |all: u64| (0..CUTS).map(move |n| n * (all - 1) / (CUTS - 1));
    let cuts = places(whole.request).map(Cut::Request).chain(places(whole.answer).map(Cut::Answer));
    let mut whole_ones = Vec::new();
    for (n, cut) in cuts.enumerate() {
        let space = format!("space{n}");
        let proxy = way(Some(cut)).await;
        let opening = engine.open(proxy.port(), &space, 1, CALL_TIMEOUT, None);
        match tokio::time::timeout(PATIENCE, opening).await.expect("it ends") {
            Ok(_) => whole_ones.push((cut, proxy.passed())),
            Err(StoreError::Unavailable(_)) => {}
            Err(error) => panic!("{cut:?} of {whole:?}: {error:?}"),
        }
        proxy.watch(None);
        let store = engine.open(proxy.port(), &space, 1, CALL_TIMEOUT, None).await.unwrap();
        store.enqueue(vec![message(n)]).await.unwrap();
        assert_eq!(store.depth(&queue()).await.unwrap().ready, 1, "{cut:?} of {whole:?}");
    }
    // What was said after it was opened was measured, too.
    assert!(whole_ones.len() <= CUTS as usize / 2, "{whole_ones:?} of {whole:?}");
}

/// Asks until the store refuses again and again for want of the right password; tells how many may be stored.
async fn refused(store: &dyn Store) -> u64 {
    let mut maybe = 0;
    let refused = async {
        let mut in_a_row = 0;
        while in_a_row < REFUSALS {
            in_a_row += 1;
            match store.enqueue(vec![message(in_a_row)]).await {
                // On a connection that nobody has cut yet.
                Ok(_) | Err(StoreError::Unknown(_)) => (maybe, in_a_row) = (maybe + 1, 0),
                Err(StoreError::Unavailable(what)) if what.contains("password") => {
                    assert!(PASSWORDS.iter().all(|word| !what.contains(word)), "{what}");
                }
                Err(StoreError::Unavailable(_)) => in_a_row = 0,
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("the password is refused");
    maybe
}

/// Goes on by itself; nothing of what was refused is there.
async fn goes_on(store: &dyn Store, maybe: u64) {
    let depth = async {
        loop {
            if let Ok(depth) = store.depth(&queue()).await {
                return depth;
            }
        }
    };
    let depth = tokio::time::timeout(PATIENCE, depth).await.expect("it goes on by itself");
    assert!(depth.ready >= 1 && depth.ready <= 1 + maybe, "{maybe} of {depth:?}");
    store.enqueue(vec![message(0)]).await.unwrap();
}

#[cfg(feature = "redis")]
mod on_redis {
    use super::*;
    use crate::redis::Admin;
    use turnwise_core::QueueStore as _;
    use turnwise_store::redis::{RedisConfig, RedisStore};

    #[tokio::test]
    async fn opening_a_store_on_redis_survives_cuts() {
        let Some(engine) = Engine::redis() else { return };
        opening_survives_cuts(engine).await;
    }

    #[tokio::test]
    async fn a_changed_password_of_redis_is_told_and_a_right_one_goes_on() {
        let Some(server) = redis::start_with(&["--requirepass", PASSWORDS[0]]) else { return };
        let mut admin = Admin::connect(&server).await;
        assert_eq!(admin.ask(&format!("AUTH {}", PASSWORDS[0])).await, ["+OK"]);
        let url = format!("redis://:{}@127.0.0.1:{}", PASSWORDS[0], server.port());
        let store = RedisStore::open(&url, RedisConfig::default(), None).await.unwrap();
        store.enqueue(vec![message(0)]).await.unwrap();
        let mut set = async |password| {
            admin.ask(&format!("CONFIG SET requirepass {password}")).await;
            admin.ask("CLIENT KILL TYPE normal SKIPME yes").await;
        };
        set(PASSWORDS[1]).await;
        let maybe = refused(&*store).await;
        set(PASSWORDS[0]).await;
        goes_on(&*store, maybe).await;
        assert_eq!(store.losses(), 0);
    }
}

#[cfg(feature = "redis")]
mod forgotten_scripts {
    use super::*;
    use crate::redis::Admin;
    use futures_util::future::join_all;

    /// Calls that meet a server without scripts at once.
    const CROWD: usize = 200;

    /// How often the server was asked to load a script.
    async fn loads(admin: &mut Admin) -> u64 {
        admin.ask("INFO commandstats").await;
        let mut loads = 0;
        loop {
            let line = admin.line().await;
            if line.is_empty() {
                return loads;
            }
            if line.starts_with("cmdstat_script") && !line.contains("flush") {
                let calls = line.split("calls=").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
                loads += calls.parse::<u64>().unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_crowd_that_meets_a_server_without_scripts_loads_them_once() {
        let Some(engine) = Engine::redis() else { return };
        let Engine::Redis(server) = &engine else { return };
        let mut admin = Admin::connect(server).await;
        let store = engine.open(engine.port(), "crowd", 4, CALL_TIMEOUT, None).await.unwrap();
        let once = loads(&mut admin).await;
        assert!(once > 0);
        admin.ask("SCRIPT FLUSH SYNC").await;
        let queue = queue();
        for told in join_all((0..CROWD).map(|_| store.depth(&queue))).await {
            told.unwrap();
        }
        assert_eq!(loads(&mut admin).await, 2 * once, "all scripts once more, however many missed them");
    }
}

#[cfg(feature = "postgres")]
mod on_postgres {
    use super::*;
    use turnwise_core::{
        Claim, NewEvent, Offset, Outcome, Position, QueueStore as _, Read, ReadFrom, Settled, Settlement,
        TopicStore as _,
    };
    use turnwise_store::postgres::{PostgresConfig, PostgresStore};

    #[tokio::test]
    async fn opening_a_store_on_postgres_survives_cuts() {
        let Some(engine) = Engine::postgres() else { return };
        opening_survives_cuts(engine).await;
    }

    #[tokio::test]
    async fn a_changed_password_of_postgres_is_told_and_a_right_one_goes_on() {
        let Some(server) = Postgres::start() else { return };
        let url = server.url("shared");
        let base = url.split('?').next().unwrap();
        let (client, connection) = tokio_postgres::connect(base, tokio_postgres::NoTls).await.unwrap();
        let driver = tokio::spawn(async move { drop(connection.await) });
        let set = async |password: &str| {
            let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
            // One after the other: until the first is committed the old password still opens connections.
            client.batch_execute(&format!("ALTER USER turnwise PASSWORD '{password}'")).await.unwrap();
            client.batch_execute(end).await.unwrap();
        };
        set(PASSWORDS[0]).await;
        let rules = server.server().folder().join("data/pg_hba.conf");
        std::fs::write(rules, "host all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        client.batch_execute("SELECT pg_reload_conf()").await.unwrap();
        // The rules hold once the server has read them.
        while tokio_postgres::connect(base, tokio_postgres::NoTls).await.is_ok() {}
        let url = url.replace("turnwise@", &format!("turnwise:{}@", PASSWORDS[0]));
        let store = PostgresStore::open(&url, PostgresConfig::default(), None).await.unwrap();
        store.enqueue(vec![message(0)]).await.unwrap();
        set(PASSWORDS[1]).await;
        let maybe = refused(&*store).await;
        set(PASSWORDS[0]).await;
        goes_on(&*store, maybe).await;
        assert_eq!(store.losses(), 0);
        driver.abort();
    }

    #[tokio::test]
    async fn a_postgres_that_comes_back_empty_is_noticed_by_every_node() {
        let Some(server) = Postgres::start() else { return };
        let url = server.url("shared");
        let open = || PostgresStore::open(&url, PostgresConfig::default(), None);
        let stores = [open().await.unwrap(), open().await.unwrap()];
        let topic = Name::new("acme", Kind::Reply, "t").unwrap();
        let event = NewEvent {
            topic: topic.clone(),
            event_type: "e".into(),
            data: "lost".into(),
            dedup: None,
            keep_until: None,
        };
        stores[0].append(vec![event]).await.unwrap().remove(0).unwrap();
        let lost = Position { epoch: stores[0].epoch(), offset: Offset(1) };
        stores[1].enqueue(vec![message(0)]).await.unwrap();
        let claim = || Claim { queue: queue(), limit: 1, lease: PATIENCE, durable: true };
        let held = stores[1].claim(claim()).await.unwrap().remove(0).receipt;
        server.restart_empty();
        for store in &stores {
            let reading = async {
                loop {
                    if let Ok(read) = store.read(&topic, ReadFrom::After(lost), 10).await {
                        return read;
                    }
                }
            };
            let read = tokio::time::timeout(PATIENCE, reading).await.expect("it goes on by itself");
            let Read::Gap { resume } = read else { panic!("no gap: {read:?}") };
            assert_ne!(resume.epoch, lost.epoch);
            assert_eq!((store.epoch(), store.losses()), (resume.epoch, 1));
        }
        let settlement = Settlement { receipt: held.clone(), outcome: Outcome::Ack, effects: Vec::new() };
        assert_eq!(stores[1].settle(vec![settlement]).await.unwrap(), [Ok(Settled::LeaseLost)]);
        stores[0].enqueue(vec![message(1)]).await.unwrap();
        let next = stores[1].claim(claim()).await.unwrap().remove(0).receipt;
        assert!(next.token > held.token, "Q4 through the loss");
    }
}
