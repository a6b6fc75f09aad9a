//! One connection: made, checked, and told how to plan.

use super::config::{PostgresConfig, Target};
use super::tls::Tls;
use crate::counts::Connection;
use crate::embedded::Durability;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::{AsyncMessage, Client, NoTls, SimpleQueryMessage, SimpleQueryRow, Statement};
use turnwise_core::{Result, StoreError};

/// Oldest server there is support for.
const SERVER_MIN: u32 = 130_000;
/// What the server may still do after this side has given up, before it gives up too.
const STATEMENT_GRACE: Duration = Duration::from_millis(500);
/// How every session plans: each query of this engine has its index, and a table that was empty when a plan was
/// made may be large when it is used.
const PLANS: &str = "SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_hashjoin = off; \
    SET enable_mergejoin = off; SET enable_sort = off; SET jit = off; SET plan_cache_mode = force_generic_plan; \
    SET default_transaction_isolation = 'read committed'; SET client_min_messages = warning;";

/// A connection and the task that drives it.
pub(super) struct Conn {
    pub(super) client: Client,
    statements: HashMap<&'static str, Statement>,
    /// The one task that moves its bytes; it ends with the connection.
    driver: JoinSet<()>,
    pub(super) counted: Connection,
}

/// Called with each hint that another node sent.
pub(super) type OnHint = Box<dyn Fn(&str) + Send + Sync>;

/// What a session was told of its server.
pub(super) struct Server {
    /// Why its promises are less than the default, if they are.
    pub(super) weak: Option<String>,
    /// How far its log is on disk.
    pub(super) log: u64,
}

pub(super) fn unavailable(what: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(what.to_string())
}

/// What went wrong, without what the server quotes of values.
pub(super) fn said(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("PostgreSQL says: {} ({})", error.message(), error.code().code()),
        None => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
            format!("PostgreSQL: {error}{}", cause.unwrap_or_default())
        }
    }
}

impl Conn {
    /// Connects. Nothing is checked yet.
    pub(super) async fn open(
        target: &Target,
        config: &PostgresConfig,
        on_hint: Option<OnHint>,
    ) -> Result<Conn> {
        let mut driver = JoinSet::new();
        let work = async {
            let failed = |error: tokio_postgres::Error| unavailable(said(&error));
            if target.tls {
                let (client, connection) = target.config.connect(Tls::new(target)?).await.map_err(failed)?;
                driver.spawn(drive(connection, on_hint));
                Ok::<_, StoreError>(client)
            } else {
                let (client, connection) = target.config.connect(NoTls).await.map_err(failed)?;
                driver.spawn(drive(connection, on_hint));
                Ok(client)
            }
        };
        let time_is_up = |_| unavailable("PostgreSQL does not answer a new connection");
        let client = tokio::time::timeout(config.connect_timeout, work).await.map_err(time_is_up)??;
        Ok(Conn { client, statements: HashMap::new(), driver, counted: Connection::default() })
    }

    /// Sets the session up and looks at what the server promises.
    pub(super) async fn greet(&self, schema: &str, config: &PostgresConfig) -> Result<Server> {
        let patience = (config.call_timeout + STATEMENT_GRACE).as_millis();
        let sql = format!(
            "SET search_path = \"{schema}\", pg_catalog; SET statement_timeout = {patience}; {PLANS} \
             SELECT current_setting('server_version_num'), pg_is_in_recovery(), current_setting('fsync'), \
             current_setting('synchronous_commit'), current_setting('server_encoding'), \
             current_setting('transaction_read_only'), CASE WHEN pg_is_in_recovery() THEN '0' \
             ELSE (pg_current_wal_flush_lsn() - '0/0'::pg_lsn)::text END, current_setting('full_page_writes')"
        );
        let messages = self.client.simple_query(&sql).await.map_err(|error| unavailable(said(&error)))?;
        let rows = messages.iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = rows.last().ok_or_else(|| unavailable("PostgreSQL told nothing about itself"))?;
        check(row, config.durability)
    }

    /// A statement, prepared once for this connection.
    pub(super) async fn prepared(
        &mut self,
        sql: &'static str,
    ) -> std::result::Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    /// Waits until nothing can come through it any more.
    pub(super) async fn over(mut self) {
        while self.driver.join_next().await.is_some() {}
    }

    /// Whether nothing can come through it any more.
    pub(super) fn is_over(&self) -> bool {
        self.client.is_closed()
    }
}

fn check(row: &SimpleQueryRow, durability: Durability) -> Result<Server> {
    let told = |at: usize| row.get(at).unwrap_or_default();
    let refuse = |text: String| Err(StoreError::Invalid(text));
    let version: u32 = told(0).parse().unwrap_or(0);
    if version < SERVER_MIN {
        return refuse(format!("PostgreSQL 13 or newer is needed, this is {}", version / 10_000));
    }
    if told(1) == "t" || told(5) == "on" {
        return Err(unavailable(
            "this PostgreSQL server is a standby or read only: nothing can be stored there",
        ));
    }
    if told(4) != "UTF8" {
        return refuse(format!("the database's encoding is {}, UTF8 is needed", told(4)));
    }
    let fast = |text: &str| !matches!(text, "on" | "remote_apply");
    let weak = match (told(2), told(3)) {
        // A power cut in the middle of a page would tear what was acknowledged long ago.
        ("on", commit) if !fast(commit) && told(7) != "on" => Some("full_page_writes is off".to_owned()),
        ("on", commit) if !fast(commit) => None,
        ("on", commit) => Some(format!("synchronous_commit is {commit}")),
        (_, _) => Some("fsync is off".to_owned()),
    };
    if let (Some(weak), Durability::Immediate) = (&weak, durability) {
        return refuse(format!(
            "{weak} on this PostgreSQL server, so it may lose what it acknowledged: switch it on, or set the \
             store's durability to relaxed"
        ));
    }
    Ok(Server { weak, log: told(6).parse().unwrap_or(0) })
}

/// Moves bytes for as long as the connection lives.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, on_hint: Option<OnHint>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(message) = std::future::poll_fn(|context| connection.poll_message(context)).await {
        match (message, &on_hint) {
            (Ok(AsyncMessage::Notification(hint)), Some(on_hint)) => on_hint(hint.payload()),
            (Ok(_), _) => {}
            // Whoever waits for an answer on it learns the reason.
            (Err(_), _) => return,
        }
    }
}
