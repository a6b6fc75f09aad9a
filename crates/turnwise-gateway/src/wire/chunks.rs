//! Where a body in chunks ends (RFC 9112, section 7.1, strictly). It does not
//! decode; the library does, which must come to the same end.

use super::charset::VALUE;
use super::head;
use crate::limits::{CHUNK_LINE_BYTES_MAX, FIELD_LINES_MAX, TRAILER_BYTES_MAX};

/// Digits of a chunk's size; so it fits in 60 bits.
const SIZE_DIGITS_MAX: usize = 15;

/// The chunks cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// A body in chunks as far as it has come.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    state: State,
    /// The line that has not come to its end.
    line: Vec<u8>,
    /// Trailers so far, in lines and bytes.
    trailers: (usize, usize),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Size,
    Data(u64),
    DataEnd,
    Trailer,
    Over,
}

impl Chunks {
    /// Goes on with what has come; answers how many bytes of it belong to the body.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty() && !self.is_over()) {
            at += match self.state {
                State::Data(left) => self.data(left, rest),
                State::Size | State::DataEnd | State::Trailer | State::Over => self.line_of(rest)?,
            };
        }
        Ok(at)
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    fn data(&mut self, left: u64, rest: &[u8]) -> usize {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
        let left = left - taken as u64;
        self.state = if left == 0 { State::DataEnd } else { State::Data(left) };
        taken
    }

    fn line_of(&mut self, rest: &[u8]) -> Result<usize, Malformed> {
        let found = rest.iter().position(|byte| *byte == b'\n');
        let taken = found.map_or(rest.len(), |found| found + 1);
        if self.line.len() + taken > CHUNK_LINE_BYTES_MAX {
            return Err(Malformed);
        }
        self.line.extend_from_slice(rest.get(..taken).unwrap_or_default());
        if found.is_some() {
            let line = std::mem::take(&mut self.line);
            let line = line.strip_suffix(b"\r\n").ok_or(Malformed)?;
            self.state = self.after(line)?;
        } else if matches!(self.state, State::DataEnd) && self.line != b"\r" {
            return Err(Malformed);
        }
        Ok(taken)
    }

    fn after(&mut self, line: &[u8]) -> Result<State, Malformed> {
        match self.state {
            State::Size => Ok(match size(line)? {
                0 => State::Trailer,
                bytes => State::Data(bytes),
            }),
            State::DataEnd if line.is_empty() => Ok(State::Size),
            State::Trailer if line.is_empty() => Ok(State::Over),
            State::Trailer => {
                let (lines, bytes) = &mut self.trailers;
                (*lines, *bytes) = (*lines + 1, *bytes + line.len());
                if *lines > FIELD_LINES_MAX || *bytes > TRAILER_BYTES_MAX {
                    return Err(Malformed);
                }
                head::split(line).map_err(|_| Malformed)?;
                Ok(State::Trailer)
            }
            State::DataEnd | State::Data(_) | State::Over => Err(Malformed),
        }
    }
}

/// The size in the line before a chunk; extensions are passed over.
fn size(line: &[u8]) -> Result<u64, Malformed> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    let ok = (1..=SIZE_DIGITS_MAX).contains(&digits.len())
        && digits.iter().all(u8::is_ascii_hexdigit)
        && VALUE.holds(extension);
    let digits = std::str::from_utf8(digits).ok().filter(|_| ok).ok_or(Malformed)?;
    u64::from_str_radix(digits, 16).map_err(|_| Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the body, whether they come at once or one by one.
    fn check(bytes: &[u8], expected: Result<usize, Malformed>) {
        let text = String::from_utf8_lossy(bytes);
        let mut whole = Chunks::default();
        let at_once = whole.read(bytes).and_then(|n| if whole.is_over() { Ok(n) } else { Err(Malformed) });
        assert_eq!(at_once, expected, "{text:?}");
        let mut single = Chunks::default();
        let mut taken = Ok(0);
        for byte in bytes {
            taken = taken.and_then(|sum| Ok(sum + single.read(&[*byte])?));
        }
        let one_by_one = taken.and_then(|n| if single.is_over() { Ok(n) } else { Err(Malformed) });
        assert_eq!(one_by_one, expected, "{text:?} byte by byte");
    }

    #[test]
    fn chunks_end_where_they_say() {
        check(b"0\r\n\r\n", Ok(5));
        check(b"5\r\nhello\r\n0\r\n\r\nGET", Ok(15));
        check(b"00a;x=\"y\"\r\n0123456789\r\n0\r\nX: y\r\n\r\n", Ok(34));
        for bad in [
            "5\r\nhello0\r\n\r\n",
            "5\nhello\r\n0\r\n\r\n",
            "5;a\nb\r\nhello\r\n0\r\n\r\n",
            "\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-1\r\n\r\n",
            "5 \r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "10000000000000000\r\n",
            "ffffffffffffffff\r\n",
            "0\r\nX : y\r\n\r\n",
            "0\r\n X: y\r\n\r\n",
            "0\r\n\n",
        ] {
            check(bad.as_bytes(), Err(Malformed));
        }
        check(
            format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(CHUNK_LINE_BYTES_MAX)).as_bytes(),
            Err(Malformed),
        );
        check(format!("0\r\n{}\r\n", "A: b\r\n".repeat(FIELD_LINES_MAX + 1)).as_bytes(), Err(Malformed));
    }
}
