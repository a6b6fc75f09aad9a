//! The schema, made and brought up to date by whichever node comes first.

use super::connect::{Conn, said, unavailable};
use turnwise_core::{Result, StoreError};

/// What makes each version out of the one before.
const VERSIONS: [&[&str]; 1] = [&[
    include_str!("migrations/0001_tables.sql"),
    include_str!("sql/10_base.sql"),
    include_str!("sql/20_lanes.sql"),
    include_str!("sql/30_put.sql"),
    include_str!("sql/40_time.sql"),
    include_str!("sql/50_queues.sql"),
    include_str!("sql/55_many.sql"),
    include_str!("sql/60_topics.sql"),
    include_str!("sql/70_look.sql"),
    "INSERT INTO meta SELECT true, greatest(tw_now(NULL), 1), o_system, o_timeline, 0 FROM tw_server();",
]];

/// Nodes that start at once wait here for the first.
const LOCK: i64 = 0x7475_726e_7769_7365;

/// Makes what is missing of the schema.
///
/// # Errors
/// `Invalid` when a newer release made it.
pub(super) async fn migrate(conn: &Conn, schema: &str) -> Result<()> {
    if version(conn, schema).await? == Some(known()) {
        return Ok(());
    }
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK});");
    run(conn, &begin).await?;
    let done = upgrade(conn, schema).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    run(conn, end).await.and(done)
}

fn known() -> i32 {
    i32::try_from(VERSIONS.len()).unwrap_or(i32::MAX)
}

async fn upgrade(conn: &Conn, schema: &str) -> Result<()> {
    let have = version(conn, schema).await?;
    if have.is_none() {
        let is_there = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
        let found =
            conn.client.query_opt(is_there, &[&schema]).await.map_err(|error| unavailable(said(&error)))?;
        if found.is_none() {
            run(conn, &format!("CREATE SCHEMA \"{schema}\"")).await?;
        }
        run(
            conn,
            "CREATE TABLE migration (version integer PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
        )
        .await?;
    }
    let have = have.unwrap_or(0);
    if have > known() {
        return Err(StoreError::Invalid(format!(
            "a newer release made the tables in schema {schema:?}, in version {have}; this one knows {}: run the \
             newer one",
            known()
        )));
    }
    for (version, steps) in (1..).zip(VERSIONS).skip(usize::try_from(have).unwrap_or(0)) {
        for step in steps {
            run(conn, step).await?;
        }
        run(conn, &format!("INSERT INTO migration (version) VALUES ({version})")).await?;
        tracing::info!(schema, version, "the tables in PostgreSQL are made");
    }
    Ok(())
}

/// The version of the tables; none if there are none.
async fn version(conn: &Conn, schema: &str) -> Result<Option<i32>> {
    let failed = |error: tokio_postgres::Error| unavailable(said(&error));
    let is_there = "SELECT 1 FROM pg_tables WHERE schemaname = $1 AND tablename = 'migration'";
    if conn.client.query_opt(is_there, &[&schema]).await.map_err(failed)?.is_none() {
        return Ok(None);
    }
    let row = conn
        .client
        .query_one("SELECT coalesce(max(version), 0) FROM migration", &[])
        .await
        .map_err(failed)?;
    row.try_get(0).map(Some).map_err(failed)
}

async fn run(conn: &Conn, sql: &str) -> Result<()> {
    conn.client.batch_execute(sql).await.map_err(|error| unavailable(said(&error)))
}
