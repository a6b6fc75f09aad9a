//! The settings of callbacks, read and checked together.

use super::{ConfigError, Reader, limits};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
use turnwise_dispatch::{CallbackConfig, CallbackConfigError, Secret};

/// How callbacks are accepted and sent.
#[derive(Clone, Debug)]
pub(crate) struct Callbacks {
    /// They are signed, or may go unsigned.
    pub(crate) accepted: bool,
    pub(crate) allow_private_hosts: Vec<String>,
    pub(crate) attempts_max: u32,
    pub(crate) kept_max: u64,
    pub(crate) sending: CallbackConfig,
}

impl Callbacks {
    /// Receivers cannot tell them from anybody else's.
    pub(crate) fn are_unsigned(&self) -> bool {
        self.accepted && self.sending.secrets.is_empty()
    }
}

impl Reader<'_> {
    pub(super) fn callbacks(&self) -> Result<Callbacks, ConfigError> {
        let mut secrets = Vec::new();
        for key in ["callbacks.secret", "callbacks.secret_previous"] {
            if let Some(text) = self.text(key) {
                secrets.push(Secret::parse(&text).map_err(|error| callbacks_wrong(key, &error))?);
            }
        }
        let header = self.text("callbacks.token_header").unwrap_or_default();
        let token = self.text("callbacks.token").unwrap_or_default();
        let token = CallbackConfig::token(&header, &token)
            .map_err(|error| callbacks_wrong("callbacks.token_header", &error))?;
        let timeout: Duration = self.seconds("callbacks.timeout_seconds", limits::CALLBACK_TIMEOUT)?;
        let allow_private_hosts = self.list("callbacks.allow_private_hosts");
        if !allow_private_hosts.iter().all(|host| is_host(host)) {
            let must = "names or addresses of hosts, without scheme and port";
            return Err(self.wrong("callbacks.allow_private_hosts", must));
        }
        Ok(Callbacks {
            accepted: !secrets.is_empty() || self.switch("callbacks.unsigned")?,
            allow_private_hosts,
            attempts_max: self.number("callbacks.max_attempts", limits::CALLBACK_ATTEMPTS)?,
            kept_max: self.number("callbacks.kept_max", limits::RETAINED_TURNS)?,
            sending: CallbackConfig {
                concurrency: self.number("callbacks.concurrency", limits::CALLBACK_CONCURRENCY)?,
                host_concurrency: self.number("callbacks.host_concurrency", limits::CALLBACK_CONCURRENCY)?,
                timeout,
                secrets,
                token,
                ca_file: self.text("callbacks.ca_file").map(PathBuf::from),
                ..CallbackConfig::default()
            },
        })
    }
}

fn is_host(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(text);
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    is_name || inner.parse::<IpAddr>().is_ok()
}

fn callbacks_wrong(key: &str, error: &CallbackConfigError) -> ConfigError {
    ConfigError { detail: format!("{key}: {error}"), hint: "`turnwise config reference` explains it".into() }
}
