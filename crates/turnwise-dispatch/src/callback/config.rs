//! Settings of callbacks, checked before anything runs.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use ring::hmac;
use thiserror::Error;

/// How callbacks are sent.
#[derive(Clone)]
pub struct CallbackConfig {
    /// Tries at once from this node.
    pub concurrency: u32,
    /// Of these, to one host and port.
    pub host_concurrency: u32,
    /// For one try, from the name's resolution to the end of the answer.
    pub timeout: Duration,
    /// What tries are signed with; two while one follows the other.
    pub secrets: Vec<Secret>,
    /// A header that goes with every try.
    pub token: Option<(HeaderName, HeaderValue)>,
    /// PEM file of certificates to trust, instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// How long tries in progress may still take at shutdown.
    pub drain_grace: Duration,
}

impl Default for CallbackConfig {
    fn default() -> CallbackConfig {
        CallbackConfig {
            concurrency: 32,
            host_concurrency: 16,
            timeout: Duration::from_secs(10),
            secrets: Vec::new(),
            token: None,
            ca_file: None,
            drain_grace: Duration::from_secs(10),
        }
    }
}

impl fmt::Debug for CallbackConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackConfig")
            .field("concurrency", &self.concurrency)
            .field("host_concurrency", &self.host_concurrency)
            .field("timeout", &self.timeout)
            .field("secrets", &self.secrets.len())
            .field("token", &self.token.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

/// What is wrong with the settings, in a sentence that says how to fix it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CallbackConfigError {
    /// Not a secret of Standard Webhooks.
    #[error(
        "a secret for callbacks must be whsec_ and then 24 to 64 bytes in base64; `openssl rand -base64 32` makes such bytes"
    )]
    Secret,
    /// Only half of it, or a name or value that no header can have.
    #[error("callbacks.token_header and callbacks.token are set together, to a header's name and its value")]
    Token,
    /// A header that has another meaning in the request.
    #[error("callbacks.token_header must not be a header that the request has anyway")]
    TokenHeader,
    /// Nothing could ever be sent.
    #[error(
        "callbacks.concurrency, callbacks.host_concurrency and callbacks.timeout_seconds must be greater than zero"
    )]
    Zero,
}

/// A key for signatures.
#[derive(Clone)]
pub struct Secret(pub(super) hmac::Key);

impl Secret {
    /// Reads `whsec_…`.
    pub fn parse(text: &str) -> Result<Secret, CallbackConfigError> {
        let bytes = text.trim().strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok());
        match bytes {
            Some(bytes) if (24..=64).contains(&bytes.len()) => {
                Ok(Secret(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
            }
            Some(_) | None => Err(CallbackConfigError::Secret),
        }
    }
}

impl CallbackConfig {
    /// Checks the settings.
    pub fn check(&self) -> Result<(), CallbackConfigError> {
        if self.concurrency == 0 || self.host_concurrency == 0 || self.timeout.is_zero() {
            return Err(CallbackConfigError::Zero);
        }
        Ok(())
    }

    /// Reads the token's header and value; none if neither is set.
    pub fn token(
        header: &str,
        value: &str,
    ) -> Result<Option<(HeaderName, HeaderValue)>, CallbackConfigError> {
        const OURS: [&str; 8] = [
            "host",
            "content-type",
            "content-length",
            "transfer-encoding",
            "connection",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
        ];
        if header.is_empty() && value.is_empty() {
            return Ok(None);
        }
        let name: HeaderName = header.parse().map_err(|_| CallbackConfigError::Token)?;
        if OURS.contains(&name.as_str()) {
            return Err(CallbackConfigError::TokenHeader);
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| CallbackConfigError::Token)?;
        if value.is_empty() {
            return Err(CallbackConfigError::Token);
        }
        value.set_sensitive(true);
        Ok(Some((name, value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_and_tokens_are_taken_or_refused() {
        let good = format!("whsec_{}", STANDARD.encode([7; 32]));
        assert!(Secret::parse(&good).is_ok());
        let short = format!("whsec_{}", STANDARD.encode([7; 23]));
        let long = format!("whsec_{}", STANDARD.encode([7; 65]));
        for wrong in ["", "whsec_", "secret", &good["whsec_".len()..], &short, &long, "whsec_a b"] {
            assert_eq!(Secret::parse(wrong).err(), Some(CallbackConfigError::Secret), "{wrong}");
        }
        assert_eq!(CallbackConfig::token("", ""), Ok(None));
        assert!(CallbackConfig::token("X-Engine-Token", "t").is_ok_and(|token| token.is_some()));
        for (name, value) in [("", "t"), ("x", ""), ("a b", "t"), ("x", "a\nb")] {
            assert_eq!(
                CallbackConfig::token(name, value),
                Err(CallbackConfigError::Token),
                "{name}: {value}"
            );
        }
        assert_eq!(CallbackConfig::token("Webhook-Id", "t"), Err(CallbackConfigError::TokenHeader));
    }
}
