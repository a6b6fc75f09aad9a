//! Connections, and one call at a time on each: its time limit, what its failure means, and trying again where
//! two steps got in each other's way.

use super::config::{PostgresConfig, Target};
use super::connect::{Conn, OnHint, said, unavailable};
use super::migrate::migrate;
use crate::clock::{Clock, Moment};
use crate::counts::Counts;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};
use turnwise_core::{Result, StoreError};

/// Times a step that another got in the way of is tried.
const TRIES_MAX: u32 = 8;

/// What a call does: a read that got no answer did nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Does {
    Read,
    Write,
}

/// Values of a call.
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

/// All connections of one store.
pub(super) struct Pool {
    pub(super) config: PostgresConfig,
    target: Target,
    clock: Option<Clock>,
    permits: Semaphore,
    idle: Mutex<Vec<Conn>>,
    migrated: AtomicBool,
    epoch: AtomicU64,
    pub(super) counts: Arc<Counts>,
    /// How far the server's log was on disk when it was last looked at.
    log: AtomicU64,
    weak: Mutex<Option<String>>,
}

impl Pool {
    pub(super) fn new(target: Target, config: PostgresConfig, clock: Option<Clock>) -> Pool {
        Pool {
            permits: Semaphore::new(config.connections_max.max(1)),
            config,
            target,
            clock,
            idle: Mutex::default(),
            migrated: AtomicBool::new(false),
            epoch: AtomicU64::new(0),
            counts: Arc::default(),
            log: AtomicU64::new(0),
            weak: Mutex::default(),
        }
    }

    /// Refuses what does not fit, and makes the tables.
    pub(super) async fn start(&self) -> Result<()> {
        let _permit = self.permit().await?;
        let conn = self.connect().await?;
        self.idle.lock().push(conn);
        Ok(())
    }

    /// The time to pass with a call: none means the server's own.
    pub(super) fn now(&self) -> Option<i64> {
        self.clock.as_ref().map(|clock| clock().0)
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Takes over an epoch that an answer told.
    pub(super) fn saw_epoch(&self, epoch: i64) {
        self.epoch.store(epoch.cast_unsigned(), Ordering::Release);
    }

    /// Takes over how far the server's log is on disk.
    pub(super) fn saw_log(&self, log: u64) {
        self.log.fetch_max(log, Ordering::AcqRel);
    }

    /// The tables' schema.
    pub(super) fn schema(&self) -> &str {
        &self.target.schema
    }

    /// Why the server promises less than the default, if it does.
    pub(super) fn weak(&self) -> Option<String> {
        self.weak.lock().clone()
    }

    /// Ends all connections.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        let busy = |_| unavailable("all connections to PostgreSQL are busy");
        let permit =
            tokio::time::timeout(self.config.call_timeout, self.permits.acquire()).await.map_err(busy)?;
        permit.map_err(|_| unavailable("the store is closed"))
    }

    /// A connection beside the pool, whose hints go to `on_hint`.
    pub(super) async fn listener(&self, on_hint: OnHint) -> Result<Conn> {
        self.made(Some(on_hint)).await
    }

    async fn connect(&self) -> Result<Conn> {
        let made = self.made(None).await;
        match &made {
            Ok(conn) => conn.counted.made(&self.counts),
            Err(_) => self.counts.connect_failed(),
        }
        made
    }

    async fn made(&self, on_hint: Option<OnHint>) -> Result<Conn> {
        let conn = Conn::open(&self.target, &self.config, on_hint).await?;
        let work = async {
            // The epoch first: what is lost was seen in it, or later.
            let known = self.epoch.load(Ordering::Acquire);
            let seen = self.log.load(Ordering::Acquire);
            let server = conn.greet(&self.target.schema, &self.config).await?;
            self.weak.lock().clone_from(&server.weak);
            if !self.migrated.load(Ordering::Acquire) {
                migrate(&conn, &self.target.schema).await?;
                self.migrated.store(true, Ordering::Release);
            }
            self.hello(&conn, server.log, seen, known).await
        };
        let time_is_up = |_| unavailable("PostgreSQL does not answer a new connection");
        tokio::time::timeout(self.config.call_timeout, work).await.map_err(time_is_up)??;
        Ok(conn)
    }

    /// X5: a server that is not the one it was, or is behind what it was seen to have, means a new epoch.
    async fn hello(&self, conn: &Conn, log: u64, seen: u64, known: u64) -> Result<()> {
        let lost = log < seen;
        let sql = "SELECT tw_hello($1, $2)";
        let answer = conn.client.query_one(sql, &[&lost, &known.cast_signed()]).await;
        let failed = |error: Error| {
            // Emptied: the tables are made anew by the next connection.
            self.migrated.store(false, Ordering::Release);
            unavailable(said(&error))
        };
        let epoch: i64 = answer.map_err(failed)?.try_get(0).map_err(|error| unavailable(said(&error)))?;
        let before = self.epoch.swap(epoch.cast_unsigned(), Ordering::AcqRel);
        if before != 0 && before != epoch.cast_unsigned() {
            self.counts.lost();
            tracing::error!(
                before,
                epoch,
                "the PostgreSQL server came back without writes it had acknowledged; readers are told of a gap"
            );
        }
        // Only now that it is told, so that no failure leaves a loss untold.
        if lost {
            let _ = self.log.compare_exchange(seen, log, Ordering::AcqRel, Ordering::Acquire);
        } else {
            self.saw_log(log);
        }
        Ok(())
    }

    /// One call. Its rows are here, and what it did is committed, when it returns.
    pub(super) async fn call(&self, does: Does, sql: &'static str, values: Values<'_>) -> Result<Vec<Row>> {
        let started = Moment::now();
        let mut waits = Some(self.counts.waits());
        let _permit = self.permit().await?;
        for _ in 0..TRIES_MAX {
            let left = self.config.call_timeout.saturating_sub(started.elapsed());
            let mut conn = self.ready(left).await?;
            drop(waits.take());
            let _used = conn.counted.used(&self.counts);
            let left = self.config.call_timeout.saturating_sub(started.elapsed());
            match self.try_call(&mut conn, does, sql, values, left).await {
                Ok(rows) => {
                    self.idle.lock().push(conn);
                    return Ok(rows);
                }
                Err(Failed::Again) => self.idle.lock().push(conn),
                Err(Failed::For(error)) => return Err(error),
            }
        }
        Err(unavailable("other steps got in the way each time"))
    }

    /// An idle connection that lives, or a new one.
    async fn ready(&self, left: Duration) -> Result<Conn> {
        while let Some(conn) = self.take() {
            if !conn.is_over() {
                return Ok(conn);
            }
        }
        let late = |_| unavailable("PostgreSQL does not answer a new connection");
        // What is wrong with the server by now is not the fault of who asks.
        tokio::time::timeout(left, self.connect()).await.map_err(late)?.map_err(|error| match error {
            StoreError::Invalid(what) => unavailable(what),
            other => other,
        })
    }

    fn take(&self) -> Option<Conn> {
        self.idle.lock().pop()
    }

    async fn try_call(
        &self,
        conn: &mut Conn,
        does: Does,
        sql: &'static str,
        values: Values<'_>,
        left: Duration,
    ) -> std::result::Result<Vec<Row>, Failed> {
        let started = Moment::now();
        let silent = || Failed::For(unavailable("PostgreSQL does not answer; nothing was asked of it"));
        let statement = match tokio::time::timeout(left, conn.prepared(sql)).await {
            Ok(Ok(statement)) => statement,
            Ok(Err(error)) => return Err(self.prepare_failed(&error)),
            Err(_) => return Err(silent()),
        };
        let left = left.saturating_sub(started.elapsed());
        if left.is_zero() {
            return Err(silent());
        }
        match tokio::time::timeout(left, conn.client.query(&statement, values)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(call_failed(&error, does)),
            Err(_) => {
                // The others may be as dead: nobody shall wait for each of them in turn.
                self.idle.lock().clear();
                Err(Failed::For(unanswered(does, "PostgreSQL did not answer in time".to_owned())))
            }
        }
    }

    fn prepare_failed(&self, error: &Error) -> Failed {
        let missing =
            [SqlState::UNDEFINED_FUNCTION, SqlState::UNDEFINED_TABLE, SqlState::INVALID_SCHEMA_NAME];
        if error.code().is_some_and(|code| missing.contains(code)) {
            // Emptied under our feet: the next connection makes the tables anew, in a new epoch.
            self.migrated.store(false, Ordering::Release);
            self.idle.lock().clear();
        }
        Failed::For(unavailable(said(error)))
    }
}

/// Why a try brought nothing.
enum Failed {
    /// Another step got in the way, nothing was done.
    Again,
    /// The answer of the call.
    For(StoreError),
}

fn unanswered(does: Does, what: String) -> StoreError {
    match does {
        Does::Read => StoreError::Unavailable(what),
        Does::Write => StoreError::Unknown(what),
    }
}

/// The server's own word means that the transaction is gone, unless the session died over it: then its commit may
/// have gone through.
fn call_failed(error: &Error, does: Does) -> Failed {
    let Some(code) = error.code() else { return Failed::For(unanswered(does, said(error))) };
    if *code == SqlState::T_R_SERIALIZATION_FAILURE || *code == SqlState::T_R_DEADLOCK_DETECTED {
        return Failed::Again;
    }
    let class = code.code().get(..2).unwrap_or_default();
    // What was asked cannot be done, now or later: too large, or no value there can be.
    if class == "54" || class == "22" {
        return Failed::For(StoreError::Invalid(said(error)));
    }
    // Who dies over a commit may have written it.
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    let died = matches!(severity, Some(Severity::Fatal | Severity::Panic))
        || class == "08"
        || code.code().starts_with("57P")
        || *code == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN;
    Failed::For(if died { unanswered(does, said(error)) } else { unavailable(said(error)) })
}
