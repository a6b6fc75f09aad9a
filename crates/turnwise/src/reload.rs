//! Exchanges the API keys while the server runs: when the configuration file
//! has changed, and on SIGHUP. Of the file only the keys are taken; what else
//! has changed in it waits for a restart. A file that is wrong changes nothing.

use crate::config::{self, Key, environment};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use turnwise_gateway::{ApiKey, Exchanged, KeyRing};

/// Time between two looks at the file. A change counts once two looks in a
/// row see the same, so that a file is not read while it is being written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A configuration file longer than this is a mistake.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Keeps the keys of a running server as a file has them.
pub(crate) struct Reload {
    file: PathBuf,
    ring: KeyRing,
    /// Nobody but this machine reaches the port.
    loopback: bool,
    hangup: Signal,
    /// What was last applied or refused.
    settled: Option<Looked>,
    /// What the last look saw.
    seen: Option<Looked>,
}

/// The file's bytes, or why it cannot be read.
type Looked = Result<Arc<[u8]>, String>;

impl Reload {
    /// Prepares it; from now on SIGHUP does not end the process.
    ///
    /// # Errors
    /// When the signal cannot be caught.
    pub(crate) fn prepare(file: PathBuf, ring: KeyRing, loopback: bool) -> std::io::Result<Reload> {
        let hangup = signal(SignalKind::hangup())?;
        // What the server started with may be older than the file is now, so nothing is settled yet.
        Ok(Reload { file, ring, loopback, hangup, settled: None, seen: None })
    }

    /// Looks until the shutdown.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                () = shutdown.cancelled() => return,
                _ = self.hangup.recv() => true,
                _ = looks.tick() => false,
            };
            let file = self.file.clone();
            let Ok(now) = tokio::task::spawn_blocking(move || look(&file)).await else { continue };
            let now = Some(now);
            if asked || (now == self.seen && now != self.settled) {
                if let Some(looked) = now.clone() {
                    self.apply(looked).await;
                }
                self.settled.clone_from(&now);
            }
            self.seen = now;
        }
    }

    /// Takes the keys of just those bytes that were looked at.
    async fn apply(&self, looked: Looked) {
        let file = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let bytes = looked.as_deref().map_err(String::as_str);
            config::keys::read_again(&file, bytes, &environment())
        });
        let Ok(read) = reading.await else { return };
        let checked = read.and_then(|keys| match self.loopback {
            true => Ok(keys),
            false => config::keys::check_for_others(&keys).map(|()| keys),
        });
        let keys = match checked {
            Ok(keys) => keys,
            Err(error) => {
                tracing::error!(
                    detail = error.detail,
                    hint = error.hint,
                    "THE CONFIGURATION FILE IS WRONG: the API keys stay as they were"
                );
                return;
            }
        };
        let count = keys.len();
        match self.ring.exchange(gateway_keys(&keys)) {
            Exchanged::Same => {}
            Exchanged::Changed => tracing::warn!(keys = count, "the API keys were exchanged"),
            Exchanged::WouldOpen => tracing::error!(
                "THE CONFIGURATION FILE HAS NO API KEY ANY MORE: the keys stay as they were, \
                 for without any the server would be open to everybody; restart it if that is meant"
            ),
        }
    }
}

/// The keys in the gateway's words.
pub(crate) fn gateway_keys(keys: &[Key]) -> Vec<ApiKey> {
    let convert = |key: &Key| ApiKey {
        id: key.id.clone(),
        sha256: key.sha256,
        orgs: key.orgs.clone(),
        agents: key.agents.clone(),
        scopes: key.scopes.clone(),
    };
    keys.iter().map(convert).collect()
}

/// The file's bytes: its times would miss a change within their grain.
fn look(file: &Path) -> Looked {
    let mut bytes = Vec::new();
    let read = File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            Err(format!("it is longer than {FILE_BYTES_MAX} bytes"))
        }
        Ok(_) => Ok(bytes.into()),
        Err(error) => Err(error.to_string()),
    }
}
