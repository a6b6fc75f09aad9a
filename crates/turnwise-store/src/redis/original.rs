//! What the original broker left in its Redis: one list for each user, with the messages that wait. Read from the
//! front, and taken away one by one when somebody else has them.

use super::codec::corrupt;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, AsyncTypedCommands, Client, RedisError};
use serde::Deserialize;
use std::time::Duration;
use turnwise_core::{Result, StoreError};

/// Names looked through in one step.
const SCAN_COUNT: usize = 1_000;
/// Time for a connection, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Takes the front of a list away if it is still the same, with what else is kept about it.
const TAKE: &str = "if redis.call('LINDEX', KEYS[1], 0) ~= ARGV[1] then return 0 end \
                    redis.call('LPOP', KEYS[1]) redis.call('DEL', KEYS[2]) return 1";

/// A waiting message of the original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its id.
    pub id: String,
    /// The body of its request, JSON.
    pub request: String,
    entry: String,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    data: String,
}

/// The Redis of an original broker.
pub struct Original {
    connection: MultiplexedConnection,
}

impl Original {
    /// Connects. Nothing is written there but by [`Original::take`].
    ///
    /// # Errors
    /// `Invalid` for a wrong URL, `Unavailable` when nobody answers or the password is refused.
    pub async fn open(url: &str) -> Result<Original> {
        // The driver's own words may quote the URL, and with it the password.
        let client = Client::open(url).map_err(|_| {
            StoreError::Invalid(
                "the URL of the original's Redis is none: redis://[user:password@]host:port".into(),
            )
        })?;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT));
        let connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(|error| failed(&error))?;
        Ok(Original { connection })
    }

    /// Users with waiting messages, in pages: give 0 first, then what came with the page before, until 0 comes back.
    /// A user may come twice.
    ///
    /// # Errors
    /// `Unavailable` when nobody answers.
    pub async fn users(&mut self, cursor: u64) -> Result<(u64, Vec<String>)> {
        self.names(cursor, ":queue", "list").await
    }

    /// Users of whom the original says that a message is in progress, in pages as [`Original::users`].
    ///
    /// # Errors
    /// `Unavailable` when nobody answers.
    pub async fn busy_users(&mut self, cursor: u64) -> Result<(u64, Vec<String>)> {
        self.names(cursor, ":processing", "string").await
    }

    async fn names(&mut self, cursor: u64, end: &str, kind: &str) -> Result<(u64, Vec<String>)> {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(format!("user:*{end}"))
            .arg("COUNT")
            .arg(SCAN_COUNT)
            .arg("TYPE")
            .arg(kind);
        let (next, keys): (u64, Vec<String>) =
            scan.query_async(&mut self.connection).await.map_err(|error| failed(&error))?;
        let user = |key: &String| Some(key.strip_prefix("user:")?.strip_suffix(end)?.to_owned());
        Ok((next, keys.iter().filter_map(user).collect()))
    }

    /// How many messages of a user wait.
    ///
    /// # Errors
    /// `Unavailable` when nobody answers.
    pub async fn count(&mut self, user: &str) -> Result<u64> {
        self.connection.llen(queue(user)).await.map(|count| count as u64).map_err(|error| failed(&error))
    }

    /// The message at a place of a user's list, the front being 0.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be read, `Unavailable` when nobody answers.
    pub async fn waiting(&mut self, user: &str, place: u64) -> Result<Option<Waiting>> {
        let place = isize::try_from(place).unwrap_or(isize::MAX);
        let entry: Option<String> =
            self.connection.lindex(queue(user), place).await.map_err(|error| failed(&error))?;
        let Some(entry) = entry else { return Ok(None) };
        let Entry { id, data } =
            serde_json::from_str(&entry).map_err(|_| corrupt("a message of the original broker's"))?;
        Ok(Some(Waiting { id, request: data, entry }))
    }

    /// Takes a message away from the front of a user's list; false when it is not there any more.
    ///
    /// # Errors
    /// `Unknown` when it may have been taken.
    pub async fn take(&mut self, user: &str, waiting: &Waiting) -> Result<bool> {
        let mut take = redis::cmd("EVAL");
        take.arg(TAKE).arg(2).arg(queue(user)).arg(format!("message:{}", waiting.id)).arg(&waiting.entry);
        let taken = take.query_async::<u64>(&mut self.connection).await;
        taken.map(|taken| taken == 1).map_err(|error| StoreError::Unknown(said(&error)))
    }
}

fn queue(user: &str) -> String {
    format!("user:{user}:queue")
}

fn failed(error: &RedisError) -> StoreError {
    StoreError::Unavailable(said(error))
}

/// Without the detail of parse errors, which may quote what is stored.
fn said(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("Redis: {code}"),
        None => format!("Redis: {}", error.category()),
    }
}
