//! What is asked of a server before it is used.

use super::codec::corrupt;
use super::link::text;
use super::pool::Pool;
use crate::embedded::Durability;
use redis::Value;
use std::fmt;
use turnwise_core::{Result, StoreError, Timestamp};

/// What decides whether an answer is on disk, and what the engine needs it to be.
const WANTED: [(&str, &str); 3] =
    [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")];

/// How a server says that it keeps what it acknowledges.
#[derive(Clone, Debug, PartialEq, Eq)]
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
pub(super) async fn check(pool: &Pool, durability: Durability) -> Result<Found> {
    let mut settings = Vec::new();
    for (name, _) in WANTED {
        settings.push((name, setting(pool, name).await?));
    }
    let found = Found { settings };
    if !found.is_durable() && durability == Durability::Immediate {
        let wanted = WANTED.map(|(name, value)| format!("{name} {value}")).join(", ");
        return Err(StoreError::Invalid(format!(
            "Redis has {found}; to keep what it acknowledges it needs {wanted}. Change that, or set the store's \
             durability to relaxed and accept that a crash of Redis loses messages"
        )));
    }
    Ok(found)
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
async fn setting(pool: &Pool, name: &str) -> Result<Option<String>> {
    match pool.ask(redis::cmd("CONFIG").arg("GET").arg(name)).await {
        Ok(Value::Array(mut pair)) if pair.len() == 2 => Ok(pair.pop().map(text)),
        Ok(_) => Ok(None),
        Err(error) => {
            // Managed servers know no CONFIG; that the connection works is shown by any other command.
            pool.ask(&redis::cmd("PING")).await.map_err(|_| error)?;
            Ok(None)
        }
    }
}
