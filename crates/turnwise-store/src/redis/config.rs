//! Settings of the Redis store, and its limits by name.

use crate::embedded::Durability;
use crate::tls;
use std::fmt;
use std::path::Path;
use std::time::Duration;
use tokio_rustls::TlsConnector;
use turnwise_core::{Result, StoreError};

/// Port of a URL that names none.
const PORT: u16 = 6_379;
/// What a URL names a file of trusted certificates with.
const ROOTS: &str = "?sslrootcert=";
/// Items of one batch that one script takes: a script holds up everybody else.
pub(super) const SCRIPT_ITEMS_MAX: usize = 250;
/// Bytes of a batch after which the rest goes into another script.
pub(super) const SCRIPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes of one item with all that happens with it. Redis takes 512 MiB.
pub(super) const ITEM_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of bodies after which a claim hands out no more, and a page of a list ends.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Steps of one operation on their way at once: while they are, further calls gather.
pub(super) const STEPS_MAX: usize = 2;
/// Bytes of small batches of several callers that go into one script together.
pub(super) const GATHERED_BYTES_MAX: usize = 1024 * 1024;
/// [`RedisConfig::silence_max`] of everybody but a test.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Times one operation is tried after answers that surely mean that nothing was done.
pub(super) const TRIES_MAX: u32 = 4;
/// Commands that wait in one connection.
pub(super) const COMMANDS_WAITING_MAX: usize = 1_024;
/// First pause after a connection failed; it doubles.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two tries to connect.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest sleep of the task that hints at what time brings.
pub(super) const NAP_MAX: Duration = Duration::from_secs(1);
/// Shortest one.
pub(super) const NAP_MIN: Duration = Duration::from_millis(5);

/// How a store on Redis runs.
#[derive(Clone, Debug)]
pub struct RedisConfig {
    /// Keeps several stores on one server apart.
    pub namespace: String,
    /// With [`Durability::Immediate`] a server that does not write to disk before it answers is refused.
    pub durability: Durability,
    /// Connections for operations.
    pub pool: usize,
    /// Every operation ends within this time.
    pub call_timeout: Duration,
    /// A connection for hints that is silent for so long is asked for a sign; silent as long again it is given up.
    pub silence_max: Duration,
}

impl Default for RedisConfig {
    fn default() -> RedisConfig {
        RedisConfig {
            namespace: "turnwise".into(),
            durability: Durability::Immediate,
            pool: 4,
            call_timeout: Duration::from_secs(10),
            silence_max: SILENCE_MAX,
        }
    }
}

impl RedisConfig {
    /// The prefix of every key: its hash tag keeps a namespace in one slot of a cluster.
    pub(super) fn prefix(&self) -> Result<String> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.namespace.is_empty() || !self.namespace.bytes().all(is_plain) {
            let what = "a namespace on Redis is letters, digits, '-', '_' and '.'";
            return Err(StoreError::Invalid(what.into()));
        }
        Ok(format!("{{tw:{}}}:", self.namespace))
    }
}

/// Where a server is, and who asks.
#[derive(Clone)]
pub(super) struct Address {
    /// One, or some nodes of a cluster.
    pub(super) hosts: Vec<(String, u16)>,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) database: i64,
    /// Encrypts, and checks who answers.
    pub(super) tls: Option<TlsConnector>,
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("hosts", &self.hosts).field("database", &self.database).finish()
    }
}

fn invalid(what: &str) -> StoreError {
    // The URL itself may hold a password.
    StoreError::Invalid(format!(
        "the URL of Redis is redis[s]://[user:password@]host[:port][,host…][/database][?sslrootcert=file]: {what}"
    ))
}

impl Address {
    /// From `redis[s]://[user:password@]host[:port][,host[:port]…][/database][?sslrootcert=file]`.
    pub(super) fn parse(url: &str) -> Result<Address> {
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(invalid("it has no scheme"));
        };
        let is_encrypted = scheme.eq_ignore_ascii_case("rediss");
        if !is_encrypted && !scheme.eq_ignore_ascii_case("redis") {
            return Err(invalid("it begins with another word"));
        }
        let (rest, roots) = match rest.rsplit_once(ROOTS) {
            Some(_) if !is_encrypted => return Err(invalid("sslrootcert is for rediss://")),
            Some((rest, file)) => (rest, decode(file)?),
            None => (rest, None),
        };
        let (place, database) = rest.split_once('/').unwrap_or((rest, ""));
        let database = match database {
            "" => 0,
            number => number.parse().map_err(|_| invalid("the database is a number"))?,
        };
        let (who, hosts) = match place.rsplit_once('@') {
            Some((who, hosts)) => (Some(who), hosts),
            None => (None, place),
        };
        let (user, password) = match who.map(|who| who.split_once(':').unwrap_or((who, ""))) {
            Some((user, password)) => (decode(user)?, decode(password)?),
            None => (None, None),
        };
        let hosts = hosts.split(',').map(host).collect::<Result<Vec<_>>>()?;
        let roots = roots.as_deref().map(Path::new);
        let tls = is_encrypted.then(|| tls::trusting(roots).map(TlsConnector::from)).transpose()?;
        Ok(Address { hosts, user, password, database, tls })
    }
}

fn host(text: &str) -> Result<(String, u16)> {
    let number = |port: &str| port.parse().map_err(|_| invalid("a port is a number up to 65535"));
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, "")) => (name, PORT),
        Some((name, port)) => (name, number(port.trim_start_matches(':'))?),
        None => match text.split_once(':') {
            Some((name, port)) => (name, number(port)?),
            None => (text, PORT),
        },
    };
    if name.is_empty() {
        return Err(invalid("a host has no name"));
    }
    if name.contains('?') {
        return Err(invalid("behind the ? it may say sslrootcert=, and nothing else"));
    }
    Ok((name.to_owned(), port))
}

/// Percent-decoded; nothing stands for none.
fn decode(text: &str) -> Result<Option<String>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(byte.ok_or_else(|| invalid("a % is written %25"))?);
        rest = rest.get(2..).unwrap_or_default();
    }
    let text = String::from_utf8(bytes).map_err(|_| invalid("it is UTF-8"))?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_url_is_read_whole_and_shown_without_its_password() {
        let address = Address::parse("redis://me:p%40ss:%2F@one:7000,[::1]:7001,two/3").unwrap();
        let hosts = [("one".to_owned(), 7000), ("::1".to_owned(), 7001), ("two".to_owned(), PORT)];
        assert_eq!(address.hosts, hosts);
        assert_eq!((address.user.as_deref(), address.password.as_deref()), (Some("me"), Some("p@ss:/")));
        assert_eq!(address.database, 3);
        assert!(!format!("{address:?}").contains("p@ss"));
        let plain = Address::parse("redis://localhost").unwrap();
        assert_eq!((plain.hosts, plain.user, plain.password), (vec![("localhost".into(), PORT)], None, None));
    }

    #[test]
    fn a_wrong_url_is_refused_without_being_shown() {
        for url in [
            "redis:",
            "http://x",
            "redis://",
            "redis://u:secret@h:port",
            "redis://u:secret@h/x",
            "redis://u:secret@h?sslrootcert=x",
            "rediss://u:secret@h?sslmode=disable",
            "rediss://u:secret@h/0?sslmode=disable",
            "rediss://u:secret@h/0?sslrootcert=/nowhere/at-all.pem",
        ] {
            let error = Address::parse(url).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_namespace_cannot_leave_its_hash_tag() {
        for namespace in ["", "a}b", "{a", "a b", "a:b"] {
            let config = RedisConfig { namespace: namespace.into(), ..RedisConfig::default() };
            config.prefix().unwrap_err();
        }
        assert_eq!(RedisConfig::default().prefix().unwrap(), "{tw:turnwise}:");
    }
}
