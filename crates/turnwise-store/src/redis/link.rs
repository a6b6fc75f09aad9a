//! One connection to one server, and what its errors mean.

use super::config::{Address, COMMANDS_WAITING_MAX};
use crate::counts::Connection;
use crate::tls;
use parking_lot::Mutex;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, RedisConnectionInfo, RedisError, ServerErrorKind, Value};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use turnwise_core::StoreError;

/// What became of a command.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server answered that it did nothing, and why; another try may succeed at once.
    Again(Again, String),
    /// Nothing was done.
    NotDone(String),
    /// It may have been done: the connection broke, or the server failed half-way.
    Unknown(String),
}

/// What another try needs first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The scripts, which the server forgot.
    Scripts,
    /// To take part in the history that the server holds now.
    Join,
    /// Another node of the cluster.
    Owner,
    /// A server that may be written to: this one has become a replica.
    Primary,
}

impl Failure {
    /// What went wrong.
    pub(super) fn text(&self) -> &str {
        match self {
            Failure::Again(_, what) | Failure::NotDone(what) | Failure::Unknown(what) => what,
        }
    }

    /// For who called an operation.
    pub(super) fn error(self, changes: bool) -> StoreError {
        match self {
            Failure::Again(_, what) | Failure::NotDone(what) => StoreError::Unavailable(what),
            Failure::Unknown(what) if changes => StoreError::Unknown(what),
            Failure::Unknown(what) => StoreError::Unavailable(what),
        }
    }
}

/// With these a script is refused at its first write: nothing was done.
const REFUSALS: [&str; 4] = ["OOM", "READONLY", "MISCONF", "NOREPLICAS"];

/// What an error means for the command it answers.
fn failure(error: &RedisError) -> Failure {
    let detail = error.detail().unwrap_or_default();
    // Redis 6 wraps what a command of a script was refused with.
    let wrapped = REFUSALS.iter().find(|code| detail.contains(&format!("-{code} ")));
    let code = wrapped.map_or_else(|| error.code().unwrap_or_default(), |code| *code).to_owned();
    let told = format!("Redis: {code} {}", detail).trim_end().to_owned();
    match (error.kind(), code.as_str()) {
        (_, "TWLOST") => Failure::Again(Again::Join, "Redis came back with another history".into()),
        (_, "READONLY") => {
            Failure::Again(Again::Primary, "Redis is a read-only replica now: is there a primary?".into())
        }
        (_, "NOREPLICAS") => Failure::NotDone("Redis has fewer replicas than it wants for a write".into()),
        (_, "OOM") => Failure::NotDone("Redis is out of memory: raise maxmemory".into()),
        (_, "MISCONF") => Failure::NotDone("Redis cannot write to its disk, see its log".into()),
        (_, "NOAUTH" | "WRONGPASS") => Failure::NotDone("Redis refuses user or password of the URL".into()),
        (_, "NOPERM") => Failure::NotDone(format!("the user of the URL may not do this on Redis: {told}")),
        (ErrorKind::AuthenticationFailed, _) => {
            Failure::NotDone("Redis refuses user or password of the URL".into())
        }
        (ErrorKind::Server(ServerErrorKind::BusyLoading), _) => {
            Failure::NotDone("Redis is loading its data".into())
        }
        (ErrorKind::Server(ServerErrorKind::NoScript), _) => Failure::Again(Again::Scripts, told),
        (
            ErrorKind::Server(
                ServerErrorKind::Moved
                | ServerErrorKind::Ask
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown,
            ),
            _,
        ) => Failure::Again(Again::Owner, told),
        (_, "BUSY") => Failure::NotDone("Redis is busy with a script of somebody else".into()),
        (ErrorKind::Io, _) => Failure::Unknown(format!("the connection to Redis broke: {error}")),
        _ => Failure::Unknown(told),
    }
}

/// A connection, which several operations share.
#[derive(Clone)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    broken: Arc<AtomicBool>,
    driver: AbortHandle,
    pub(super) counted: Connection,
    /// The server's process: another one after every start.
    pub(super) run: Arc<str>,
}

/// What a server tells of itself.
pub(super) struct Told {
    pub(super) run: Arc<str>,
    pub(super) is_cluster: bool,
}

fn info(address: &Address) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default().set_db(address.database).set_skip_set_lib_name();
    if let Some(user) = &address.user {
        info = info.set_username(user);
    }
    if let Some(password) = &address.password {
        info = info.set_password(password);
    }
    info
}

/// What commands go over: TCP, encrypted or not.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

async fn dial(address: &Address, host: &(String, u16)) -> Result<Box<dyn Wire>, Failure> {
    let (name, port) = host;
    let failed = |why: String| Failure::NotDone(format!("Redis at {name}:{port}: {why}"));
    let stream = TcpStream::connect((name.as_str(), *port)).await;
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    let _ = stream.set_nodelay(true);
    let Some(tls) = &address.tls else { return Ok(Box::new(stream)) };
    let server = ServerName::try_from(name.clone()).map_err(|error| failed(error.to_string()))?;
    let encrypted = tls.connect(server, stream).await.map_err(|error| failed(tls::refusal(&error)))?;
    Ok(Box::new(encrypted))
}

fn not_done(error: &RedisError) -> Failure {
    match failure(error) {
        Failure::Unknown(what) => Failure::NotDone(what),
        other => other,
    }
}

/// A connection for hints, or none within this time.
const SUBSCRIBE_MAX: Duration = Duration::from_secs(10);

/// A connection for hints.
pub(super) async fn subscribe(
    address: &Address,
    host: &(String, u16),
    channel: &str,
) -> Result<PubSub, Failure> {
    let subscribed = async {
        let mut hints = PubSub::new(&info(address), dial(address, host).await?)
            .await
            .map_err(|error| not_done(&error))?;
        hints.subscribe(channel).await.map_err(|error| not_done(&error))?;
        Ok(hints)
    };
    let late = |_| Err(Failure::NotDone("Redis does not answer a connection for hints".into()));
    tokio::time::timeout(SUBSCRIBE_MAX, subscribed).await.unwrap_or_else(late)
}

impl Link {
    /// Connects; what moves bytes runs among `drivers`.
    pub(super) async fn open(
        address: &Address,
        host: &(String, u16),
        drivers: &Mutex<JoinSet<()>>,
    ) -> Result<Link, Failure> {
        let config = AsyncConnectionConfig::new()
            .set_response_timeout(None)
            .set_connection_timeout(None)
            .set_pipeline_buffer_size(COMMANDS_WAITING_MAX)
            .set_concurrency_limit(COMMANDS_WAITING_MAX);
        let stream = dial(address, host).await?;
        let info = info(address);
        let opened = MultiplexedConnection::new_with_config(&info, stream, config);
        let (connection, driver) = opened.await.map_err(|error| not_done(&error))?;
        let broken = Arc::new(AtomicBool::new(false));
        let counted = Connection::default();
        let (until_broken, until_over) = (Arc::clone(&broken), counted.clone());
        let drive = async move {
            driver.await;
            until_over.over();
            until_broken.store(true, Ordering::Release);
        };
        let mut drivers = drivers.lock();
        while drivers.try_join_next().is_some() {}
        let driver = drivers.spawn(drive);
        Ok(Link { connection, broken, driver, counted, run: Arc::from("") })
    }

    /// Whether it cannot be used any more.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Uses it no more: whoever waits for an answer on it is told that it broke.
    pub(super) fn give_up(&self) {
        self.retire();
        self.driver.abort();
    }

    /// Uses it no more for anything new: who waits for an answer on it still gets it.
    pub(super) fn retire(&self) {
        self.counted.over();
        self.broken.store(true, Ordering::Release);
    }

    /// Sends one command; a connection that fails is used no more.
    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Failure> {
        match self.connection.clone().send_packed_command(command).await {
            Ok(Value::ServerError(error)) => Err(failure(&RedisError::from(error))),
            Ok(value) => Ok(value),
            Err(error) => {
                let failure = failure(&error);
                if matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed)
                {
                    self.give_up();
                }
                Err(failure)
            }
        }
    }

    /// Sends one that belongs to making a connection usable.
    pub(super) async fn prepare(&self, command: &Cmd) -> Result<Value, Failure> {
        self.send(command).await.map_err(|failure| match failure {
            Failure::Unknown(what) => Failure::NotDone(what),
            other => other,
        })
    }

    /// Asks which server this is.
    pub(super) async fn told(&self) -> Result<Told, Failure> {
        let text = text(self.prepare(&redis::cmd("INFO")).await?);
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        if line("loading") == Some("1") {
            return Err(Failure::NotDone("Redis is loading its data".into()));
        }
        let run = line("run_id").map_or_else(|| Arc::from(""), |run| Arc::from(run.trim()));
        Ok(Told { run, is_cluster: line("cluster_enabled").is_some_and(|value| value.trim() == "1") })
    }
}

/// An answer as text.
pub(super) fn text(value: Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text,
        Value::Int(number) => number.to_string(),
        _ => String::new(),
    }
}
