//! Settings of the PostgreSQL engine, and what its URL may say.

use crate::embedded::Durability;
use std::path::PathBuf;
use std::time::Duration;
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;
use turnwise_core::{Result, StoreError};

/// The schema whose tables a store uses, unless its URL names another.
pub const SCHEMA: &str = "turnwise";
/// Longest name of a schema.
const SCHEMA_BYTES_MAX: usize = 48;
/// A connection that hears nothing for so long is asked whether it lives.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// And again so often,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// so many times.
const KEEPALIVE_RETRIES: u32 = 3;

/// How the engine runs.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// Holds the tables of this store, unless the URL names another schema.
    pub schema: String,
    /// `Relaxed` lets a server be used that may lose what it acknowledged.
    pub durability: Durability,
    /// Connections at once, one for hints not counted.
    pub connections_max: usize,
    /// Every operation ends within this time, the wait for a connection included.
    pub call_timeout: Duration,
    /// Making a connection takes at most this long.
    pub connect_timeout: Duration,
    /// Act when nobody asks: listen for hints of other nodes, look for what falls due.
    pub acts_by_itself: bool,
    /// How often to look for what falls due.
    pub due_every: Duration,
}

impl Default for PostgresConfig {
    fn default() -> PostgresConfig {
        PostgresConfig {
            schema: SCHEMA.to_owned(),
            durability: Durability::Immediate,
            connections_max: 16,
            call_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            acts_by_itself: true,
            due_every: Duration::from_millis(250),
        }
    }
}

/// Where the server is. Not `Debug`: it holds the password.
#[derive(Clone)]
pub(super) struct Target {
    /// For the driver.
    pub(super) config: Config,
    /// The tables' schema.
    pub(super) schema: String,
    /// Encrypt, and check who answers.
    pub(super) tls: bool,
    /// Certificates to trust instead of the system's.
    pub(super) roots: Option<PathBuf>,
}

fn invalid(text: impl Into<String>) -> StoreError {
    StoreError::Invalid(text.into())
}

fn is_schema(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let starts = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
    starts && name.len() <= SCHEMA_BYTES_MAX && name.bytes().all(plain) && !name.starts_with("pg_")
}

impl Target {
    /// Takes a URL apart. What it says wrong is told without it: it may hold a password.
    pub(super) fn new(url: &str, schema: &str) -> Result<Target> {
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut schema, mut tls, mut roots) = (schema.to_owned(), false, None);
        let mut rest = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=').unwrap_or((pair, "")) {
                ("schema", name) => name.clone_into(&mut schema),
                ("sslmode", "disable") => tls = false,
                ("sslmode", "require" | "verify-ca" | "verify-full") => tls = true,
                ("sslmode", _) => {
                    return Err(invalid("sslmode in the store's URL is disable, require or verify-full"));
                }
                ("sslrootcert", path) => roots = Some(PathBuf::from(path)),
                _ => rest.push(pair),
            }
        }
        if !is_schema(&schema) {
            return Err(invalid(format!(
                "the schema of the store is a name of a-z, 0-9 and _, at most {SCHEMA_BYTES_MAX} of them"
            )));
        }
        let url = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config =
            url.parse().map_err(|_| invalid("the store's URL is not one that PostgreSQL understands"))?;
        config.ssl_mode(if tls { SslMode::Require } else { SslMode::Disable });
        config.keepalives_idle(KEEPALIVE);
        config.keepalives_interval(KEEPALIVE_INTERVAL).keepalives_retries(KEEPALIVE_RETRIES);
        if config.get_application_name().is_none() {
            config.application_name("turnwise");
        }
        Ok(Target { config, schema, tls, roots })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_url_names_server_schema_and_encryption() {
        let target = Target::new("postgres://me:secret@db.example:5433/chat", SCHEMA).unwrap();
        assert_eq!((target.schema.as_str(), target.tls), (SCHEMA, false));
        assert_eq!(target.config.get_ports(), [5433]);
        let url = "postgresql://me@db.example/chat?schema=other_1&sslmode=verify-full&connect_timeout=3";
        let target = Target::new(url, SCHEMA).unwrap();
        assert_eq!((target.schema.as_str(), target.tls), ("other_1", true));
        assert_eq!(target.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for query in ["schema=a;b", "schema=pg_x", "schema=", "sslmode=prefer", "nonsense=1"] {
            let error = Target::new(&format!("postgres://me:secret@h/d?{query}"), SCHEMA).err().unwrap();
            assert!(matches!(&error, StoreError::Invalid(text) if !text.contains("secret")), "{error}");
        }
    }
}
