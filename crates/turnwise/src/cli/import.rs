//! `turnwise import`: takes over what another system left.

use super::server::ServerArgs;
use super::{Context, Outcome, print, runtime};
use crate::client::Server;
use crate::failure::{Exit, Failure};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use std::time::Duration;
use tokio::time::Instant;
use turnwise_core::StoreError;
use turnwise_mock::Conn;
use turnwise_store::redis::{Original, Waiting};

/// Between two tries of a message that the server does not take yet.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(crate) enum ImportCommand {
    /// The messages that wait in the Redis of the original conversation broker: each user's in order, each once
    Original(OriginalArgs),
}

#[derive(Debug, Args)]
pub(crate) struct OriginalArgs {
    /// The original's Redis. Stop the original first
    #[arg(long, env = "REDIS_URL", hide_env_values = true)]
    redis: String,
    #[command(flatten)]
    server: ServerArgs,
    /// Only say how many there are
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait for a server that takes no more yet
    #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    patience: u64,
}

pub(crate) fn run(context: &Context, command: ImportCommand) -> Outcome {
    let ImportCommand::Original(arguments) = command;
    runtime(1)?.block_on(async {
        let mut original = Original::open(&arguments.redis).await.map_err(|error| unreadable(&error))?;
        let busy = busy(&mut original).await.map_err(|error| unreadable(&error))?;
        if arguments.dry_run {
            return count(context, &mut original, busy).await;
        }
        let server = arguments.server.server()?;
        let mut import = Import {
            original,
            conn: server.conn(),
            server,
            patience: Duration::from_secs(arguments.patience),
            taken: 0,
            users: 0,
            left: Vec::new(),
        };
        import.all().await?;
        import.told(context, busy)
    })
}

fn unreadable(error: &StoreError) -> Failure {
    match error {
        StoreError::Invalid(detail) => Failure::new(Exit::Usage, "wrong URL", detail.clone()),
        _ => Failure::new(Exit::Unreachable, "the original's Redis cannot be read", error.to_string()),
    }
}

/// Messages that the original had begun: they are in none of its lists any more.
async fn busy(original: &mut Original) -> Result<u64, StoreError> {
    let (mut cursor, mut count) = (0, 0);
    loop {
        let (next, users) = original.busy_users(cursor).await?;
        count += users.len() as u64;
        if next == 0 {
            return Ok(count);
        }
        cursor = next;
    }
}

async fn count(context: &Context, original: &mut Original, busy: u64) -> Outcome {
    let (mut cursor, mut messages, mut queues) = (0, 0, 0);
    loop {
        let (next, users) = original.users(cursor).await.map_err(|error| unreadable(&error))?;
        for user in users {
            messages += original.count(&user).await.map_err(|error| unreadable(&error))?;
            queues += 1;
        }
        if next == 0 {
            break;
        }
        cursor = next;
    }
    match context.json {
        true => print::json(&json!({"messages": messages, "users": queues, "begun": busy, "dry_run": true})),
        false => print::line(&format!("{messages} messages of {queues} users would be taken over")),
    }
    Ok(())
}

struct Import {
    original: Original,
    server: Server,
    conn: Conn,
    patience: Duration,
    taken: u64,
    users: u64,
    /// Users whose messages stay, from the first that is refused on, and why.
    left: Vec<(String, String)>,
}

impl Import {
    async fn all(&mut self) -> Outcome {
        let mut cursor = 0;
        loop {
            let (next, users) = self.original.users(cursor).await.map_err(|error| unreadable(&error))?;
            for user in users {
                let before = self.taken;
                if let Some(why) = self.user(&user).await? {
                    self.left.push((user, why));
                }
                self.users += u64::from(self.taken > before);
            }
            if next == 0 {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// One user's messages in order. It stops at one that is refused: those behind it were said after it.
    async fn user(&mut self, user: &str) -> Result<Option<String>, Failure> {
        loop {
            let waiting = match self.original.waiting(user, 0).await {
                Ok(Some(waiting)) => waiting,
                Ok(None) => return Ok(None),
                Err(StoreError::Corrupt(why)) => return Ok(Some(why)),
                Err(error) => return Err(unreadable(&error)),
            };
            let Some(body) = body_of(&waiting) else {
                return Ok(Some(format!("the request of {} is no JSON object", waiting.id)));
            };
            if let Some(why) = self.submit(&waiting.id, &body).await? {
                return Ok(Some(why));
            }
            // The server has it. Should this fail, the next run gives it the same message again, which is the same turn.
            if !self.original.take(user, &waiting).await.map_err(|error| unreadable(&error))? {
                let detail = "its Redis changed meanwhile";
                return Err(Failure::new(Exit::Conflict, "the original still runs", detail)
                    .hint("stop it, then run this again: nothing is taken over twice"));
            }
            self.taken += 1;
        }
    }

    /// Gives the server one message; why it refuses it for good.
    async fn submit(&mut self, id: &str, body: &str) -> Result<Option<String>, Failure> {
        let started = Instant::now();
        loop {
            let prefer = [("prefer", "respond-async")];
            let sent = self.conn.call(Method::POST, "/api/v1/message", &prefer, body.to_owned().into()).await;
            let failure = match sent {
                Ok(answer) if answer.status.is_success() => return Ok(None),
                Ok(answer) => {
                    let failure = Failure::of_answer(answer.status.as_u16(), &answer.body);
                    match answer.status.as_u16() {
                        // A full conversation, a limit, an outage: it passes.
                        429 | 500 | 502..=504 => failure,
                        401 | 403 => return Err(failure),
                        _ => return Ok(Some(format!("{id}: {}: {}", failure.title, failure.detail))),
                    }
                }
                Err(error) => self.server.unreachable(&error),
            };
            if started.elapsed() >= self.patience {
                return Err(failure);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn told(&self, context: &Context, busy: u64) -> Outcome {
        let (taken, users) = (self.taken, self.users);
        if context.json {
            let left: Vec<Value> =
                self.left.iter().map(|(user, why)| json!({"user_id": user, "why": why})).collect();
            print::json(&json!({"messages": taken, "users": users, "begun": busy, "left": left}));
        } else {
            print::line(&format!("{taken} messages of {users} users taken over"));
            if busy > 0 {
                print::line(&format!(
                    "{busy} messages had been begun by the original: they are not in its lists"
                ));
            }
            for (user, why) in &self.left {
                print::line(&format!("left: user {user:?}: {why}"));
            }
        }
        match self.left.len() {
            0 => Ok(()),
            users => Err(Failure::new(
                Exit::Check,
                "not everything was taken over",
                format!("the messages of {users} users stay where they were, from the refused one on"),
            )
            .hint("mend or remove what is named, then run this again")),
        }
    }
}

/// The original's request, which a repeat turns into the same turn.
fn body_of(waiting: &Waiting) -> Option<String> {
    let mut body: Map<String, Value> = serde_json::from_str(&waiting.request).ok()?;
    body.entry("client_message_id").or_insert_with(|| format!("original-{}", waiting.id).into());
    serde_json::to_string(&body).ok()
}
