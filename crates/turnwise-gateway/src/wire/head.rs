//! Whether the head of a request is beyond doubt (RFC 9112, strictly): one
//! reading only, which everybody before and behind us shares. It takes the
//! bytes as they come, each looked at once.

use super::charset::{HOST, TARGET, TOKEN, VALUE};
use super::refusal::{REFUSED, Refusal};
use crate::limits::{FIELD_LINES_MAX, HEAD_BYTES_MAX, METHOD_BYTES_MAX, REQUEST_LINE_BYTES_MAX};
use std::net::Ipv6Addr;
use std::ops::Range;

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes, perhaps none.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Its bytes, with the empty line.
    pub(crate) bytes: usize,
    pub(crate) framing: Framing,
}

/// A head as far as it has come. Positions count from its first byte.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Where the first line begins that has not come to its end.
    line_at: usize,
    /// Up to here there are no more line ends.
    searched: usize,
    line: Line,
    old: bool,
    authority: Option<Range<usize>>,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
    fields: usize,
}

/// Which line comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// The request line, or one empty line before it (RFC 9112, section 2.2).
    #[default]
    First,
    Request,
    Field,
}

impl Reader {
    /// Goes on with what has come: `head` holds everything since the first
    /// byte. Answers the head once it is whole.
    pub(crate) fn read(&mut self, head: &[u8]) -> Result<Option<Head>, Refusal> {
        while let Some(found) = position(head.get(self.searched..).unwrap_or_default(), b'\n') {
            let end = self.searched + found;
            let line = self.line_at..end;
            self.searched = end + 1;
            self.line_at = end + 1;
            self.within_limits(&line)?;
            let line = head.get(line).unwrap_or_default().strip_suffix(b"\r").ok_or(Refusal::LineEnd)?;
            match self.line {
                Line::First if line.is_empty() => self.line = Line::Request,
                Line::First | Line::Request => {
                    self.request_line(head, line)?;
                    self.line = Line::Field;
                }
                Line::Field if line.is_empty() => return self.whole(head).map(Some),
                Line::Field => self.field(head, line)?,
            }
        }
        self.searched = head.len();
        self.within_limits(&(self.line_at..head.len()))?;
        // What cannot become a request, such as a TLS greeting, is told so at once.
        if self.line != Line::Field {
            let begun = head.get(self.line_at..).unwrap_or_default();
            if begun.first().is_some_and(|byte| *byte != b'\r' && !TOKEN.holds(&[*byte])) {
                return Err(Refusal::RequestLine);
            }
        }
        Ok(None)
    }

    /// A line, whole or begun, within the head that ends with it.
    fn within_limits(&self, line: &Range<usize>) -> Result<(), Refusal> {
        if self.line != Line::Field && line.len() > REQUEST_LINE_BYTES_MAX {
            return Err(Refusal::LongLine);
        }
        if line.end > HEAD_BYTES_MAX { Err(Refusal::LongHead) } else { Ok(()) }
    }

    fn request_line(&mut self, head: &[u8], line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::RequestLine);
        };
        if method.is_empty() || !TOKEN.holds(method) {
            return Err(Refusal::RequestLine);
        }
        self.old = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::RequestLine),
        };
        if method.len() > METHOD_BYTES_MAX || method == b"CONNECT" || method == REFUSED.as_bytes() {
            return Err(Refusal::Method);
        }
        if !TARGET.holds(target) {
            return Err(Refusal::Target);
        }
        if target.first() == Some(&b'/') {
            return Ok(());
        }
        let Some(authority) = authority(target) else { return Err(Refusal::Target) };
        let at = offset(head, authority);
        self.authority = Some(at..at + authority.len());
        Ok(())
    }

    fn field(&mut self, head: &[u8], line: &[u8]) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > FIELD_LINES_MAX {
            return Err(Refusal::ManyFields);
        }
        let (name, value) = split(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() {
                    return Err(Refusal::TwoHosts);
                }
                let value = value.trim_ascii();
                if !is_host(value) {
                    return Err(Refusal::Host);
                }
                let at = offset(head, value);
                self.host = Some(at..at + value.len());
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if self.length.is_some() {
                    return Err(Refusal::TwoLengths);
                }
                self.length = Some(decimal(value.trim_ascii()).ok_or(Refusal::Length)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // One spelling: others are read differently by different programs.
                if self.chunked || value.strip_prefix(b" ").unwrap_or(value) != b"chunked" {
                    return Err(Refusal::Encoding);
                }
                self.chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn whole(&self, head: &[u8]) -> Result<Head, Refusal> {
        let text = |range: &Range<usize>| head.get(range.clone()).unwrap_or_default();
        match (&self.host, &self.authority) {
            (None, _) if !self.old => return Err(Refusal::NoHost),
            (Some(host), Some(named)) if !text(host).eq_ignore_ascii_case(text(named)) => {
                return Err(Refusal::HostDiffers);
            }
            (None | Some(_), _) => {}
        }
        let framing = match (self.chunked, self.length) {
            (true, _) if self.old => return Err(Refusal::EncodingInOld),
            (true, Some(_)) => return Err(Refusal::LengthAndEncoding),
            (true, None) => Framing::Chunked,
            (false, length) => Framing::Length(length.unwrap_or(0)),
        };
        Ok(Head { bytes: self.line_at, framing })
    }
}

/// The name and the value of a field, each with bytes that may stand there.
pub(crate) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
        return Err(Refusal::Folded);
    }
    let colon = position(line, b':').ok_or(Refusal::FieldName)?;
    let (name, rest) = line.split_at(colon);
    let value = rest.get(1..).unwrap_or_default();
    if name.is_empty() || !TOKEN.holds(name) {
        return Err(Refusal::FieldName);
    }
    if VALUE.holds(value) { Ok((name, value)) } else { Err(Refusal::FieldValue) }
}

/// The host and port of a target in absolute form.
fn authority(target: &[u8]) -> Option<&[u8]> {
    let scheme = position(target, b':')?;
    let (scheme, rest) = target.split_at(scheme);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    let authority = rest.get(..end)?;
    is_host(authority).then_some(authority)
}

/// A name or an address, perhaps with a port (RFC 3986, section 3.2.2, without
/// what no name on a network has).
fn is_host(text: &[u8]) -> bool {
    let (host_ok, rest) = match text.strip_prefix(b"[") {
        Some(inside) => {
            let Some(end) = position(inside, b']') else { return false };
            let (address, rest) = inside.split_at(end);
            let is_address = std::str::from_utf8(address).is_ok_and(|a| a.parse::<Ipv6Addr>().is_ok());
            (is_address, rest.get(1..).unwrap_or_default())
        }
        None => {
            let (name, rest) = text.split_at(position(text, b':').unwrap_or(text.len()));
            (!name.is_empty() && HOST.holds(name), rest)
        }
    };
    let port_ok = match rest.strip_prefix(b":") {
        Some(port) => decimal(port).is_some_and(|port| port <= u64::from(u16::MAX)),
        None => rest.is_empty(),
    };
    host_ok && port_ok
}

/// Digits and nothing else.
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn position(bytes: &[u8], wanted: u8) -> Option<usize> {
    bytes.iter().position(|byte| *byte == wanted)
}

/// Where `part` begins in `whole`, of which it is a part.
fn offset(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, expected: Result<Framing, Refusal>) {
        let whole = Reader::default().read(head.as_bytes());
        assert_eq!(whole.map(|head| head.map(|head| head.framing)), expected.map(Some), "{head:?}");
    }

    fn fields(fields: &str, expected: Result<Framing, Refusal>) {
        check(&format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), expected);
    }

    #[test]
    fn bodies_are_delimited_in_one_way() {
        fields("", Ok(Framing::Length(0)));
        fields("Content-Length: 5\r\n", Ok(Framing::Length(5)));
        fields("content-length:18446744073709551615\r\n", Ok(Framing::Length(u64::MAX)));
        fields("content-length:18446744073709551616\r\n", Err(Refusal::Length));
        fields("Transfer-Encoding: chunked\r\n", Ok(Framing::Chunked));
        fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Err(Refusal::LengthAndEncoding));
        check("GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Err(Refusal::EncodingInOld));
        check("GET / HTTP/1.0\r\n\r\n", Ok(Framing::Length(0)));
    }

    #[test]
    fn a_target_in_absolute_form_names_the_host() {
        check("GET http://A:8/x HTTP/1.1\r\nHost: a:8\r\n\r\n", Ok(Framing::Length(0)));
        check("GET http://a?x HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Framing::Length(0)));
        check("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(Refusal::HostDiffers));
        check("GET http://a@b/ HTTP/1.1\r\nHost: b\r\n\r\n", Err(Refusal::Target));
        check("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(Refusal::Target));
    }

    #[test]
    fn one_empty_line_may_come_first() {
        check("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(Framing::Length(0)));
        check("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(Refusal::RequestLine));
    }

    #[test]
    fn what_cannot_become_a_request_is_refused_at_its_first_byte() {
        assert_eq!(Reader::default().read(b"\x16\x03\x01"), Err(Refusal::RequestLine));
        assert_eq!(Reader::default().read(b"GE"), Ok(None));
        assert_eq!(Reader::default().read(b"\r"), Ok(None));
    }
}
