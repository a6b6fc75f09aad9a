//! Signatures as of Standard Webhooks: what was sent, when, and under which id.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use turnwise_core::Timestamp;

use super::config::Secret;

/// The values of `webhook-timestamp` and `webhook-signature`.
pub(super) struct Signature {
    pub(super) timestamp: String,
    /// One per secret, parted by spaces; empty without any.
    pub(super) signature: String,
}

pub(super) fn sign(secrets: &[Secret], id: &str, now: Timestamp, body: &[u8]) -> Signature {
    let timestamp = (now.0 / Duration::from_secs(1).as_micros() as i64).to_string();
    let one = |secret: &Secret| {
        let mut context = hmac::Context::with_key(&secret.0);
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign()))
    };
    let signature = secrets.iter().map(one).collect::<Vec<_>>().join(" ");
    Signature { timestamp, signature }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    #[test]
    fn signatures_are_those_of_the_specification() {
        // The example of the specification's own libraries.
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let at = Timestamp(1_614_265_330_000_000);
        let body = br#"{"test": 2432232314}"#;
        let signed = sign(std::slice::from_ref(&secret), "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body);
        assert_eq!(signed.timestamp, "1614265330");
        assert_eq!(signed.signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let both = sign(&[secret.clone(), secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body);
        assert_eq!(both.signature, format!("{} {}", signed.signature, signed.signature));
    }
}
