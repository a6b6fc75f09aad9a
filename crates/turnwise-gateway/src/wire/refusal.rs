//! Why a connection's bytes were refused, and how the library is told: it gets
//! a request of our own in their place, whose method no client can send. So
//! the answer comes after those of earlier requests, and ends the connection.

use crate::error::Failure;
use crate::limits::{FIELD_LINES_MAX, HEAD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use turnwise_api::Code;

/// The method of the request that stands for a refusal. Heads that use it are refused.
pub(crate) const REFUSED: &str = "REFUSED";

macro_rules! refusals {
    ($($name:ident => $code:ident, $detail:expr;)+) => {
        /// What is wrong with the bytes of a connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Refusal { $(#[doc = $detail] $name,)+ }

        impl Refusal {
            /// All of them.
            pub(crate) const ALL: &[Refusal] = &[$(Refusal::$name,)+];

            fn facts(self) -> (Code, &'static str) {
                match self { $(Refusal::$name => (Code::$code, $detail),)+ }
            }
        }
    };
}

refusals! {
    LineEnd => BadRequest, "A line of the head must end in CR LF";
    RequestLine => BadRequest, "The request line must be a method, a target and HTTP/1.1, one space between them";
    Method => BadRequest, "The method is none that this server knows";
    Target => BadRequest, "The target must be a path that begins with /, or an absolute http address, percent-encoded";
    Version => HttpVersionUnsupported, "Only HTTP/1.1 and HTTP/1.0 are spoken here";
    FieldName => BadRequest, "A header's name must be a token with the colon right behind it";
    FieldValue => BadRequest, "A header's value must not hold control characters";
    Folded => BadRequest, "A header must stand on one line";
    NoHost => BadRequest, "The header Host is missing";
    TwoHosts => BadRequest, "The header Host must be given once";
    Host => BadRequest, "The header Host must be a name or an address, with or without a port";
    HostDiffers => BadRequest, "The header Host must name what the target names";
    TwoLengths => BadRequest, "The header Content-Length must be given once";
    Length => BadRequest, "The header Content-Length must be one decimal number";
    Encoding => BadRequest, "The header Transfer-Encoding must be `chunked`, once, or absent";
    LengthAndEncoding => BadRequest, "Content-Length and Transfer-Encoding exclude each other";
    EncodingInOld => BadRequest, "HTTP/1.0 has no Transfer-Encoding";
    LongLine => UriTooLong, "The request line is too long";
    LongHead => HeadersTooLarge, "The headers are too long";
    ManyFields => HeadersTooLarge, "There are too many headers";
    SlowHead => RequestTimeout, "The head of the request did not arrive in time";
    Crowded => Overloaded, "Too many connections at once";
}

impl Refusal {
    /// The request the library gets instead of the refused bytes.
    pub(crate) fn as_request(self) -> Vec<u8> {
        let number = Refusal::ALL.iter().position(|other| *other == self).unwrap_or_default();
        format!("{REFUSED} /{number} HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n").into_bytes()
    }

    /// The refusal that such a request stands for.
    pub(crate) fn of_path(path: &str) -> Option<Refusal> {
        Refusal::ALL.get(path.strip_prefix('/')?.parse::<usize>().ok()?).copied()
    }

    /// What the client is told.
    pub(crate) fn failure(self) -> Failure {
        let (code, detail) = self.facts();
        let failure = match self {
            Refusal::LongLine => {
                Failure::new(code, format!("{detail}: at most {REQUEST_LINE_BYTES_MAX} bytes"))
            }
            Refusal::LongHead => Failure::new(code, format!("{detail}: at most {HEAD_BYTES_MAX} bytes")),
            Refusal::ManyFields => Failure::new(code, format!("{detail}: at most {FIELD_LINES_MAX}")),
            _ => Failure::new(code, detail),
        };
        failure.last()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_found_again_from_its_request() {
        for refusal in Refusal::ALL {
            let request = String::from_utf8(refusal.as_request()).unwrap_or_default();
            let path = request.split(' ').nth(1).unwrap_or_default();
            assert_eq!(Refusal::of_path(path), Some(*refusal));
        }
        assert_eq!(Refusal::of_path("/999"), None);
        assert_eq!(Refusal::of_path("0"), None);
    }
}
