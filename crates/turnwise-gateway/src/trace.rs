//! Trace context as in W3C Trace Context, version 00; what is not is dropped.

use http::HeaderMap;

/// The header.
pub(crate) const TRACEPARENT: http::HeaderName = http::HeaderName::from_static("traceparent");

/// The context a client sent, if it is one.
pub(crate) fn of(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(TRACEPARENT)?.to_str().ok()?;
    id_of(value).map(|_| value.to_owned())
}

/// The id of the trace, 32 hex digits, if the whole context is in order.
pub(crate) fn id_of(value: &str) -> Option<&str> {
    let hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let not_zero = |part: &str| part.bytes().any(|b| b != b'0');
    let mut parts = value.split('-');
    let version = parts.next()?;
    let (trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?);
    let ok = version == "00"
        && (hex(trace, 32) && not_zero(trace))
        && (hex(parent, 16) && not_zero(parent))
        && hex(flags, 2)
        && parts.next().is_none();
    ok.then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::id_of;

    #[test]
    fn only_a_context_in_order_is_carried() {
        const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        let check = |value: &str, ok: bool| assert_eq!(id_of(value), ok.then_some(TRACE), "{value}");
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01"), true);
        check(&format!("01-{TRACE}-00f067aa0ba902b7-01"), false);
        check(&format!("00-{TRACE}-00f067aa0ba902b7-01-x"), false);
        check(&format!("00-{TRACE}-0000000000000000-01"), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false);
        check(&format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false);
        check(TRACE, false);
        check("", false);
    }
}
