//! Settings of dispatch, checked before anything runs.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use http::uri::{Scheme, Uri};
use thiserror::Error;
use turnwise_metrics::Spans;

/// When the agent's stream route is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamMode {
    /// When a reader is there or may come.
    #[default]
    Auto,
    /// For every turn.
    Always,
    /// For none.
    Never,
}

/// Where the agent is and how it is called.
#[derive(Clone)]
pub struct DispatchConfig {
    /// `http://host[:port][/prefix]`, or the same with `https`.
    pub base_url: String,
    /// PEM file of certificates to trust for https, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Sent as `Authorization: Bearer`.
    pub api_key: Option<String>,
    /// For a whole JSON answer; on a stream, for the first byte and between two.
    pub timeout: Duration,
    /// Calls at once from this node.
    pub concurrency: u32,
    /// Which route is used.
    pub stream: StreamMode,
    /// How long turns in progress may still take at shutdown; then they are given back.
    pub drain_grace: Duration,
    /// Who is told of waits and calls as spans of traces.
    pub spans: Option<Arc<dyn Spans>>,
}

impl Default for DispatchConfig {
    fn default() -> DispatchConfig {
        DispatchConfig {
            base_url: "http://localhost:8787".to_owned(),
            ca_file: None,
            api_key: None,
            timeout: Duration::from_secs(60),
            concurrency: 64,
            stream: StreamMode::Auto,
            drain_grace: Duration::from_secs(10),
            spans: None,
        }
    }
}

impl fmt::Debug for DispatchConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DispatchConfig")
            .field("base_url", &self.base_url)
            .field("ca_file", &self.ca_file)
            .field("api_key", &self.api_key.as_ref().map(|_| "***"))
            .field("timeout", &self.timeout)
            .field("concurrency", &self.concurrency)
            .field("stream", &self.stream)
            .field("drain_grace", &self.drain_grace)
            .finish_non_exhaustive()
    }
}

/// What is wrong with the settings, in a sentence that says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// Not a URL of the accepted form.
    #[error(
        "the agent's address must look like http://host:port or https://host, without user, query or fragment"
    )]
    BaseUrl,
    /// No certificate to trust could be read, and why.
    #[error("the agent's certificate cannot be checked: {0}")]
    Certificates(String),
    /// The key cannot be sent in a header.
    #[error("the agent's key holds characters that cannot be sent in a header")]
    ApiKey,
    /// Nothing could ever be called.
    #[error("the agent's concurrency and timeout must be greater than zero")]
    Zero,
}

/// The two routes and what goes with every call.
pub(crate) struct Target {
    pub(crate) chat: Uri,
    pub(crate) stream: Uri,
    pub(crate) health: Uri,
    pub(crate) authorization: Option<HeaderValue>,
}

impl Target {
    pub(crate) fn is_https(&self) -> bool {
        self.chat.scheme() == Some(&Scheme::HTTPS)
    }
}

impl DispatchConfig {
    /// Checks the settings.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.target().map(|_| ())
    }

    pub(crate) fn target(&self) -> Result<Target, ConfigError> {
        if self.concurrency == 0 || self.timeout.is_zero() {
            return Err(ConfigError::Zero);
        }
        let base = self.base_url.trim_end_matches('/');
        let parsed: Uri = base.parse().map_err(|_| ConfigError::BaseUrl)?;
        match parsed.scheme() {
            Some(scheme) if [Scheme::HTTP, Scheme::HTTPS].contains(scheme) => {}
            Some(_) | None => return Err(ConfigError::BaseUrl),
        }
        let has_user = parsed.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let has_host = parsed.host().is_some_and(|host| !host.is_empty());
        if has_user || !has_host || base.contains(['?', '#']) {
            return Err(ConfigError::BaseUrl);
        }
        let route = |path: &str| format!("{base}{path}").parse().map_err(|_| ConfigError::BaseUrl);
        let authorization = match &self.api_key {
            Some(key) if !key.is_empty() => {
                let mut value =
                    HeaderValue::from_str(&format!("Bearer {key}")).map_err(|_| ConfigError::ApiKey)?;
                value.set_sensitive(true);
                Some(value)
            }
            Some(_) | None => None,
        };
        Ok(Target {
            chat: route("/api/v1/chat")?,
            stream: route("/api/v1/chat/stream")?,
            health: route("/health")?,
            authorization,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(base_url: &str) -> Result<String, ConfigError> {
        let config = DispatchConfig { base_url: base_url.to_owned(), ..DispatchConfig::default() };
        config.target().map(|target| target.stream.to_string())
    }

    #[test]
    fn addresses_are_taken_or_refused_with_a_reason() {
        assert_eq!(check("http://a:1/"), Ok("http://a:1/api/v1/chat/stream".to_owned()));
        assert_eq!(check("http://a/x/y"), Ok("http://a/x/y/api/v1/chat/stream".to_owned()));
        assert_eq!(check("https://a"), Ok("https://a/api/v1/chat/stream".to_owned()));
        for wrong in
            ["", "a", "a:80", "/x", "ftp://a", "http://u:p@a", "http://a?b=c", "http://a#b", "http:// a"]
        {
            assert_eq!(check(wrong), Err(ConfigError::BaseUrl), "{wrong}");
        }
    }

    #[test]
    fn keys_are_checked_and_never_shown() {
        let mut config = DispatchConfig { api_key: Some("s3cret".to_owned()), ..DispatchConfig::default() };
        assert!(config.check().is_ok());
        assert!(!format!("{config:?}").contains("s3cret"));
        config.api_key = Some("a\nb".to_owned());
        assert_eq!(config.check(), Err(ConfigError::ApiKey));
    }
}
