//! Which bytes may stand where in a head (RFC 9110, section 5; RFC 3986).

/// A set of bytes.
pub(crate) struct Set([bool; 256]);

impl Set {
    /// Letters and digits, and these.
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse it")]
    const fn alphanumeric_and(others: &[u8]) -> Set {
        let mut set = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            #[expect(clippy::cast_possible_truncation, reason = "below 256")]
            let letter = (byte as u8).is_ascii_alphanumeric();
            set[byte] = letter;
            byte += 1;
        }
        let mut other = 0;
        while other < others.len() {
            set[others[other] as usize] = true;
            other += 1;
        }
        Set(set)
    }

    /// What may stand in a header's value: also bytes beyond ASCII, for others let them pass.
    #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse it")]
    const fn value() -> Set {
        let mut set = [true; 256];
        let mut byte = 0;
        while byte < 0x20 {
            set[byte] = byte == 0x09;
            byte += 1;
        }
        set[0x7f] = false;
        Set(set)
    }

    /// Whether all of these are in it.
    pub(crate) fn holds(&self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| self.0.get(usize::from(*byte)).copied().unwrap_or(false))
    }
}

/// Names of methods and headers.
pub(crate) static TOKEN: Set = Set::alphanumeric_and(b"!#$%&'*+-.^_`|~");
/// Paths and queries; braces and the like, which many clients leave as they are, too.
pub(crate) static TARGET: Set = Set::alphanumeric_and(b"-._~:/?[]@!$&'()*+,;=%{}|");
/// Names of hosts.
pub(crate) static HOST: Set = Set::alphanumeric_and(b"-._~");
/// Values of headers.
pub(crate) static VALUE: Set = Set::value();
