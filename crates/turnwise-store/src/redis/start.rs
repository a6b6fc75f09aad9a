//! What is asked of a server before it is used.

use super::codec::corrupt;
use super::link::{Failure, Link, text};
use super::pool::Pool;
use redis::Value;
use std::fmt;
use turnwise_core::{Result, StoreError, Timestamp};

/// What decides whether an answer is on disk, and what the engine needs it to be.
const WANTED: [(&str, &str); 3] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")];

/// How a server says that it keeps what it acknowledges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Name and value of each setting that matters; `None` where the server does not tell.
    pub settings: Vec<(&'static str, Option<String>)>,
}

impl Found {
    /// Whether what is acknowledged survives a crash of the server.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        let wanted = WANTED.map(|(name, value)| (name, Some(value.to_owned())));
        self.settings == wanted
    }

    /// Why it is refused by who wants to keep everything.
    pub(super) fn refusal(&self) -> String {
        let wanted = WANTED.map(|(name, value)| format!("{name} {value}")).join(", ");
        format!(
            "Redis has {self}; to keep what it acknowledges it needs {wanted}. Change that, or set the store's \
             durability to relaxed and accept that a crash of Redis loses messages"
        )
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.settings.iter().enumerate() {
            let gap = if at == 0 { "" } else { ", " };
            write!(f, "{gap}{name} {}", value.as_deref().unwrap_or("not told"))?;
        }
        Ok(())
    }
}

/// Connects, and refuses a server that keeps less than what is asked for.
pub(super) async fn check(pool: &Pool) -> Result<()> {
    // At start it is whoever wrote the URL who can mend that.
    pool.meet().await.map_err(|error| pool.refusal().map_or(error, StoreError::Invalid))
}

/// What the server at the end of a connection says of its settings.
pub(super) async fn look(link: &Link) -> std::result::Result<Found, Failure> {
    let mut settings = Vec::with_capacity(WANTED.len());
    for (name, _) in WANTED {
        settings.push((name, setting(link, name).await?));
    }
    Ok(Found { settings })
}

/// What time it is there.
pub(super) async fn time(pool: &Pool) -> Result<Timestamp> {
    let part = |value: Value| text(value).parse::<i64>().ok();
    let Value::Array(mut parts) = pool.ask(&redis::cmd("TIME")).await? else {
        return Err(corrupt("no time"));
    };
    let (micros, seconds) = (parts.pop().and_then(part), parts.pop().and_then(part));
    let (Some(seconds), Some(micros)) = (seconds, micros) else { return Err(corrupt("no time")) };
    Ok(Timestamp(seconds.saturating_mul(1_000_000).saturating_add(micros)))
}

/// One setting; `None` when the server does not let it be read.
async fn setting(link: &Link, name: &str) -> std::result::Result<Option<String>, Failure> {
    match link.prepare(redis::cmd("CONFIG").arg("GET").arg(name)).await {
        Ok(Value::Array(mut pair)) if pair.len() == 2 => Ok(pair.pop().map(text)),
        Ok(_) => Ok(None),
        Err(failure) => {
            // Managed servers know no CONFIG; that the connection works is shown by any other command.
            link.prepare(&redis::cmd("PING")).await.map_err(|_| failure)?;
            Ok(None)
        }
    }
}
