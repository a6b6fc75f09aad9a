//! Points in time on the wire: RFC 3339, UTC, milliseconds.

use serde::ser::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Microseconds since the Unix epoch, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rfc3339(pub i64);

const MICROS_PER_DAY: i64 = 86_400_000_000;

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = civil(self.0.div_euclid(MICROS_PER_DAY));
        let millis = self.0.rem_euclid(MICROS_PER_DAY) / 1_000;
        let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
        let (second, millis) = (millis / 1_000 % 60, millis % 1_000);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Reads RFC 3339 with any offset; digits of a second behind the sixth are passed over. A leap second is the last
/// moment before the next minute.
impl FromStr for Rfc3339 {
    type Err = ();

    fn from_str(text: &str) -> Result<Rfc3339, ()> {
        let (day, rest) = text.split_at_checked(10).ok_or(())?;
        let (clock, rest) = rest.split_at_checked(9).ok_or(())?;
        let [year, month, day] = numbers(day, [4, 2, 2], '-')?;
        let clock = clock.strip_prefix(['T', 't', ' ']).ok_or(())?;
        let [hour, minute, second] = numbers(clock, [2, 2, 2], ':')?;
        let months = 1..=12;
        if !months.contains(&month) || !(1..=days_of(year, month)).contains(&day) {
            return Err(());
        }
        if hour > 23 || minute > 59 || second > 60 {
            return Err(());
        }
        let (micros, zone) = fraction(rest)?;
        let micros = if second == 60 { 999_999 } else { micros };
        let seconds = (hour * 60 + minute) * 60 + second.min(59) - offset_seconds(zone)?;
        Ok(Rfc3339(days(year, month, day) * MICROS_PER_DAY + seconds * 1_000_000 + micros))
    }
}

/// Three numbers of so many digits each, with this between them.
fn numbers(text: &str, digits: [usize; 3], between: char) -> Result<[i64; 3], ()> {
    let mut parts = text.split(between);
    let mut found = [0; 3];
    for (slot, digits) in found.iter_mut().zip(digits) {
        *slot = number(parts.next().ok_or(())?, digits)?;
    }
    if parts.next().is_some() { Err(()) } else { Ok(found) }
}

fn number(text: &str, digits: usize) -> Result<i64, ()> {
    let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().map_err(|_| ()) } else { Err(()) }
}

/// Microseconds of a second, and what follows.
fn fraction(text: &str) -> Result<(i64, &str), ()> {
    let Some(rest) = text.strip_prefix('.') else { return Ok((0, text)) };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let (fraction, zone) = rest.split_at_checked(digits).filter(|(it, _)| !it.is_empty()).ok_or(())?;
    let six: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Ok((number(&six, 6)?, zone))
}

fn offset_seconds(zone: &str) -> Result<i64, ()> {
    if zone.eq_ignore_ascii_case("z") {
        return Ok(0);
    }
    let (sign, rest) = match zone.strip_prefix('+') {
        Some(rest) => (1, rest),
        None => (-1, zone.strip_prefix('-').ok_or(())?),
    };
    let (hours, minutes) = rest.split_once(':').ok_or(())?;
    let (hours, minutes) = (number(hours, 2)?, number(minutes, 2)?);
    if hours > 23 || minutes > 59 { Err(()) } else { Ok(sign * (hours * 60 + minutes) * 60) }
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => 31,
    }
}

/// Days since 1970-01-01, by the same source as [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Year, month and day of a day counted from 1970-01-01 in the Gregorian
/// calendar (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::Rfc3339;

    #[test]
    fn known_points_in_time() {
        let check = |micros, expected: &str| assert_eq!(Rfc3339(micros).to_string(), expected);
        check(0, "1970-01-01T00:00:00.000Z");
        check(-1, "1969-12-31T23:59:59.999Z");
        check(951_782_400_000_000, "2000-02-29T00:00:00.000Z");
        check(1_763_735_639_123_456, "2025-11-21T14:33:59.123Z");
        check(4_102_444_799_999_999, "2099-12-31T23:59:59.999Z");
    }

    #[test]
    fn what_was_written_is_read_and_offsets_are_heeded() {
        let mut micros = -62_135_596_800_000_000;
        while micros < 253_402_300_799_000_000 {
            assert_eq!(Rfc3339(micros).to_string().parse(), Ok(Rfc3339(micros)));
            micros += 86_399_999_000 * 997;
        }
        let check = |text: &str, micros| assert_eq!(text.parse(), Ok(Rfc3339(micros)), "{text}");
        check("1970-01-01T00:00:00Z", 0);
        check("1970-01-01t01:30:00.5+01:30", 500_000);
        check("1969-12-31 23:59:59.0000019-00:00", -1_000_000 + 1);
        check("1998-12-31T23:59:60Z", 915_148_799_999_999);
        check("2000-02-29T00:00:00z", 951_782_400_000_000);
        for wrong in [
            "",
            "1970-01-01",
            "1970-01-01T00:00:00",
            "1970-1-1T00:00:00Z",
            "2001-02-29T00:00:00Z",
            "1970-00-01T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:61Z",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00+0100",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00Z ",
            "+970-01-01T00:00:00Z",
            "1970-01-01T00:00:0éZ",
            "0",
        ] {
            assert_eq!(wrong.parse::<Rfc3339>(), Err(()), "{wrong}");
        }
    }
}
