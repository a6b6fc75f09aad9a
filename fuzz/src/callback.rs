//! URLs that callbacks go to, and what is written down about callbacks.

use crate::choice;
use std::net::IpAddr;
use turnwise_broker::CallbackRules;
use turnwise_broker::fuzzing::{history_again, message_again};

/// The first byte says which.
pub(crate) fn callback(input: &[u8]) {
    let (kind, input) = choice(input);
    match kind % 4 {
        0 => url(&String::from_utf8_lossy(input), &[]),
        1 => url(&String::from_utf8_lossy(input), &["127.0.0.1", "::1", "internal"]),
        2 => same(history_again, input),
        _ => same(message_again, input),
    }
}

fn same(again: fn(&[u8]) -> Option<Vec<u8>>, input: &[u8]) {
    if let Some(written) = again(input) {
        assert_eq!(again(&written).as_deref(), Some(&written[..]), "written twice, it is the same");
    }
}

/// What is taken leads where it seems to: put together again it is the same
/// target, and without the operator's list it is public, with TLS.
fn url(text: &str, listed: &[&str]) {
    let rules = CallbackRules {
        accepted: true,
        allow_private_hosts: listed.iter().map(|host| (*host).to_owned()).collect(),
        attempts_max: 1,
    };
    let Ok(target) = rules.check(text) else { return };
    assert!(text.len() <= 2_048 && text.is_ascii() && !text.contains(['#', '\\', ' ']), "{text}");
    assert!(target.path.starts_with('/'), "{text}");
    assert!(http::Uri::try_from(target.path.as_str()).is_ok(), "the library takes no such path: {text}");
    assert!(http::HeaderValue::try_from(target.authority()).is_ok(), "{text}");
    let again = format!("{}{}", target.origin(), target.path);
    let read = rules.check(&again).expect("what was taken can be written and read");
    assert_eq!(
        (read.https, &read.host, read.port, &read.path, read.listed),
        (target.https, &target.host, target.port, &target.path, target.listed),
        "{text}"
    );
    // A reader that knows nothing of these rules finds the same host and port.
    let uri: http::Uri = again.parse().expect("the library reads it");
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    assert_eq!(host, target.host, "{text}");
    let usual = if target.https { 443 } else { 80 };
    assert_eq!(uri.port_u16().unwrap_or(usual), target.port, "{text}");
    if !target.listed {
        assert!(target.https && [443, 8_443].contains(&target.port), "{text}");
        if let Ok(address) = target.host.parse::<IpAddr>() {
            assert!(!address.is_loopback() && !address.is_unspecified() && !address.is_multicast(), "{text}");
        }
    }
}
