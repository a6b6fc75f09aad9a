//! The part of MessagePack that Redis's scripts read and write: integers, bytes, booleans, arrays.

use super::codec::corrupt;
use turnwise_core::Result;

/// Writes values one after another.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn boolean(&mut self, value: bool) {
        self.0.push(if value { 0xc3 } else { 0xc2 });
    }

    pub(super) fn integer(&mut self, value: i64) {
        match u8::try_from(value) {
            Ok(small @ 0..=0x7f) => self.0.push(small),
            _ => {
                self.0.push(0xd3);
                self.0.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        // A length beyond 32 bits is refused before: see `ITEM_BYTES_MAX`.
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        match u8::try_from(length) {
            Ok(short @ 0..=31) => self.0.push(0xa0 | short),
            _ => {
                self.0.push(0xdb);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
        }
        self.0.extend_from_slice(value);
    }

    pub(super) fn array(&mut self, length: usize) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        match u8::try_from(length) {
            Ok(short @ 0..=15) => self.0.push(0x90 | short),
            _ => {
                self.0.push(0xdd);
                self.0.extend_from_slice(&length.to_be_bytes());
            }
        }
    }
}

/// Reads values one after another.
pub(super) struct Reader<'a>(&'a [u8]);

enum Value<'a> {
    Integer(i64),
    Bytes(&'a [u8]),
    Boolean(bool),
    Array(usize),
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader(bytes)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| corrupt("a value cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    /// An unsigned number of so many bytes.
    fn unsigned(&mut self, length: usize) -> Result<u64> {
        Ok(self.take(length)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// A signed one.
    fn signed(&mut self, length: usize) -> Result<i64> {
        let unused = 64 - 8 * u32::try_from(length).unwrap_or(8);
        Ok((self.unsigned(length)? << unused).cast_signed() >> unused)
    }

    fn length(&mut self, length: usize) -> Result<usize> {
        usize::try_from(self.unsigned(length)?).map_err(|_| corrupt("a length"))
    }

    fn value(&mut self) -> Result<Value<'a>> {
        let mark = self.take(1)?.first().copied().unwrap_or(0xc1);
        Ok(match mark {
            0x00..=0x7f => Value::Integer(i64::from(mark)),
            0xe0..=0xff => Value::Integer(i64::from(mark.cast_signed())),
            0xcc..=0xcf => {
                let number = self.unsigned(1 << (mark - 0xcc))?;
                Value::Integer(i64::try_from(number).map_err(|_| corrupt("a number"))?)
            }
            0xd0..=0xd3 => Value::Integer(self.signed(1 << (mark - 0xd0))?),
            0xa0..=0xbf => Value::Bytes(self.take(usize::from(mark & 0x1f))?),
            0xd9..=0xdb => {
                let length = self.length(1 << (mark - 0xd9))?;
                Value::Bytes(self.take(length)?)
            }
            0xc2 | 0xc3 => Value::Boolean(mark == 0xc3),
            0x90..=0x9f => Value::Array(usize::from(mark & 0x0f)),
            // An empty table of a script may be written as either.
            0x80 => Value::Array(0),
            0xdc | 0xdd => Value::Array(self.length(2 << (mark - 0xdc))?),
            _ => return Err(corrupt("a value of another kind")),
        })
    }

    pub(super) fn integer(&mut self) -> Result<i64> {
        self.optional_integer()?.ok_or_else(|| corrupt("no number"))
    }

    /// A number; `false` is none.
    pub(super) fn optional_integer(&mut self) -> Result<Option<i64>> {
        match self.value()? {
            Value::Integer(number) => Ok(Some(number)),
            Value::Boolean(false) => Ok(None),
            _ => Err(corrupt("no number")),
        }
    }

    /// A number that fits.
    pub(super) fn number<T: TryFrom<i64>>(&mut self) -> Result<T> {
        T::try_from(self.integer()?).map_err(|_| corrupt("a number out of range"))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        self.optional_bytes()?.ok_or_else(|| corrupt("no bytes"))
    }

    /// Bytes; `false` is none.
    pub(super) fn optional_bytes(&mut self) -> Result<Option<&'a [u8]>> {
        match self.value()? {
            Value::Bytes(bytes) => Ok(Some(bytes)),
            Value::Boolean(false) => Ok(None),
            _ => Err(corrupt("no bytes")),
        }
    }

    pub(super) fn boolean(&mut self) -> Result<bool> {
        match self.value()? {
            Value::Boolean(value) => Ok(value),
            _ => Err(corrupt("no truth value")),
        }
    }

    /// How many values follow.
    pub(super) fn array(&mut self) -> Result<usize> {
        match self.value()? {
            Value::Array(length) => Ok(length),
            _ => Err(corrupt("no list")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let numbers = [0, 127, 128, -1, -33, 1 << 40, -(1 << 40), i64::MAX, i64::MIN];
        let texts = [0, 31, 32, 255, 256, 70_000].map(|length| vec![7_u8; length]);
        let mut out = Writer::default();
        numbers.iter().for_each(|number| out.integer(*number));
        texts.iter().for_each(|text| out.bytes(text));
        [0, 15, 16, 70_000].iter().for_each(|length| out.array(*length));
        out.boolean(true);
        out.boolean(false);
        let mut back = Reader::new(&out.0);
        numbers.iter().for_each(|number| assert_eq!(back.integer().unwrap(), *number));
        texts.iter().for_each(|text| assert_eq!(back.bytes().unwrap(), text));
        [0, 15, 16, 70_000].iter().for_each(|length| assert_eq!(back.array().unwrap(), *length));
        assert!(back.boolean().unwrap());
        assert_eq!(back.optional_bytes().unwrap(), None);
        back.value().map(|_| ()).unwrap_err();
    }

    #[test]
    fn every_width_a_script_may_write_is_read() {
        let bytes = [
            &[0xcc, 200][..],
            &[0xcd, 1, 0],
            &[0xce, 0, 1, 0, 0],
            &[0xcf, 0, 0, 0, 1, 0, 0, 0, 0],
            &[0xd0, 0x80],
            &[0xd1, 0xff, 0],
            &[0xd2, 0xff, 0, 0, 0],
            &[0xff],
        ];
        let numbers = bytes.map(|bytes| Reader::new(bytes).integer().unwrap());
        assert_eq!(numbers, [200, 256, 65_536, 1 << 32, -128, -256, -(1 << 24), -1]);
        let texts = [&[0xd9, 1, 7][..], &[0xda, 0, 1, 7], &[0xdb, 0, 0, 0, 1, 7], &[0xa1, 7]];
        texts.iter().for_each(|bytes| assert_eq!(Reader::new(bytes).bytes().unwrap(), [7]));
        let arrays = [&[0xdc, 0, 9][..], &[0xdd, 0, 0, 0, 9], &[0x99]];
        arrays.iter().for_each(|bytes| assert_eq!(Reader::new(bytes).array().unwrap(), 9));
    }
}
