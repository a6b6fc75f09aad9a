//! `Prefer: respond-async, wait=N` (RFC 7240).

use crate::limits::WAIT_MAX;
use http::HeaderMap;
use std::time::Duration;

/// What a submission asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preference {
    /// An answer at once.
    pub(crate) respond_async: bool,
    /// The turn's end, if it comes within this time.
    pub(crate) wait: Option<Duration>,
}

impl Preference {
    /// Reads every `Prefer` header; what is not understood is passed over, as
    /// the RFC asks, and of a repeated preference the first counts.
    pub(crate) fn of(headers: &HeaderMap) -> Preference {
        let mut preference = Preference::default();
        for value in headers.get_all(http::HeaderName::from_static("prefer")) {
            let Ok(value) = value.to_str() else { continue };
            for item in value.split(',') {
                let item = item.split(';').next().unwrap_or_default().trim();
                preference.take(item);
            }
        }
        preference
    }

    fn take(&mut self, item: &str) {
        if item.eq_ignore_ascii_case("respond-async") {
            self.respond_async = true;
            return;
        }
        let Some((name, seconds)) = item.split_once('=') else { return };
        if !name.trim().eq_ignore_ascii_case("wait") || self.wait.is_some() {
            return;
        }
        if let Ok(seconds) = seconds.trim().trim_matches('"').parse::<u64>() {
            self.wait = Some(Duration::from_secs(seconds).min(WAIT_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn check(header: &'static str, respond_async: bool, wait: Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert("prefer", HeaderValue::from_static(header));
        let wait = wait.map(Duration::from_secs);
        assert_eq!(Preference::of(&headers), Preference { respond_async, wait }, "{header:?}");
    }

    #[test]
    fn forms_of_the_header() {
        check("respond-async", true, None);
        check("Respond-Async; x=1 , wait = 10", true, Some(10));
        check("wait=\"3\", wait=5", false, Some(3));
        check("wait=99999999", false, Some(600));
        check("wait=-1, wait=x, handling=lenient", false, None);
        check("", false, None);
    }
}
