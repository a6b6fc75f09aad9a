//! Bytes as hex digits, two each, and back.

/// The digits.
pub(crate) fn write(bytes: impl IntoIterator<Item = u8>) -> String {
    let digit = |half: u8| char::from_digit(half.into(), 16).expect("four bits are one digit");
    bytes.into_iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}

/// The bytes of what was written so, and of nothing else.
pub(crate) fn read(digits: &str) -> Option<Vec<u8>> {
    let half = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let bytes = pairs.iter().map(|[high, low]| Some(half(high)? << 4 | half(low)?));
    bytes.collect::<Option<Vec<u8>>>().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_read() {
        let all: Vec<u8> = (0..=u8::MAX).collect();
        let digits = write(all.iter().copied());
        assert!(digits.starts_with("000102") && digits.ends_with("fdfeff"), "{digits}");
        assert_eq!(read(&digits), Some(all));
        assert_eq!(read(""), Some(Vec::new()));
        for wrong in ["0", "+f", "-0", " f", "0x", "FF", "0g", "000", "\u{e9}"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
