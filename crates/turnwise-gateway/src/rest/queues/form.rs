//! Objects of a request field by field, so that one answer names every mistake
//! in a batch and where it stands. Fields that nobody takes are refused.

use crate::limits::{ERRORS_NAMED_MAX, FIELD_NAME_BYTES_TOLD, FORM_FIELDS_MAX};
use crate::rest::rules::Errors;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;
use turnwise_api::{Rfc3339, Text};
use turnwise_core::Timestamp;

/// The fields of an object that nobody has taken yet.
pub(in crate::rest) struct Form<'b> {
    at: String,
    fields: Fields<'b>,
}

/// A field's name and value, as they came.
type Field<'b> = (Text<'b>, &'b RawValue);

#[derive(Default)]
struct Fields<'b> {
    fields: Vec<Field<'b>>,
    repeated: Option<String>,
    too_many: bool,
}

/// Adds a mistake while there is room: what is wrong a thousand times is told often enough.
pub(in crate::rest) fn add(errors: &mut Errors, pointer: String, detail: impl Into<Cow<'static, str>>) {
    if errors.0.len() < ERRORS_NAMED_MAX {
        errors.add(pointer, detail);
    }
}

/// The values of an array; none if it is no array or has more.
pub(in crate::rest) fn list(raw: &RawValue, items_max: usize) -> Option<Vec<&RawValue>> {
    let List { items, too_many } = serde_json::from_str(raw.get()).ok()?;
    (!too_many && items.len() <= items_max).then_some(items)
}

impl<'b> Form<'b> {
    /// The object in this text; `at` is where it stands in the request.
    pub(in crate::rest) fn of(text: &'b str, at: String) -> Result<Form<'b>, serde_json::Error> {
        Ok(Form { at, fields: serde_json::from_str(text)? })
    }

    /// Where a field stands in the request.
    pub(in crate::rest) fn pointer(&self, name: &str) -> String {
        format!("{}/{name}", self.at)
    }

    /// Takes a field; null counts as a value.
    pub(in crate::rest) fn raw(&mut self, name: &str) -> Option<&'b RawValue> {
        let place = self.fields.fields.iter().position(|(own, _)| &**own == name)?;
        Some(self.fields.fields.swap_remove(place).1)
    }

    /// Whether a field is there and not null.
    pub(in crate::rest) fn has(&self, name: &str) -> bool {
        self.fields.fields.iter().any(|(own, raw)| &**own == name && raw.get() != "null")
    }

    /// Takes a field; null is the same as none.
    pub(in crate::rest) fn value(&mut self, name: &str) -> Option<&'b RawValue> {
        self.raw(name).filter(|raw| raw.get() != "null")
    }

    /// Takes a string under a rule.
    pub(in crate::rest) fn text(
        &mut self,
        name: &str,
        rule: fn(&str) -> Option<Cow<'static, str>>,
        errors: &mut Errors,
    ) -> Option<String> {
        let raw = self.value(name)?;
        let Ok(Text(text)) = serde_json::from_str::<Text<'_>>(raw.get()) else {
            add(errors, self.pointer(name), "must be a string");
            return None;
        };
        if let Some(detail) = rule(&text) {
            add(errors, self.pointer(name), detail);
        }
        Some(text.into_owned())
    }

    /// Takes one of these words.
    pub(in crate::rest) fn word<T: Copy>(
        &mut self,
        name: &str,
        words: &[(&str, T)],
        errors: &mut Errors,
    ) -> Option<T> {
        let found = self.text(name, |_| None, errors)?;
        let known = words.iter().find(|(word, _)| *word == found).map(|(_, value)| *value);
        if known.is_none() {
            let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            add(errors, self.pointer(name), format!("must be one of {}", all.join(", ")));
        }
        known
    }

    /// Takes a whole number.
    pub(in crate::rest) fn whole(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
        errors: &mut Errors,
    ) -> Option<u64> {
        let raw = self.value(name)?;
        let number = whole_number(raw.get()).filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            add(errors, self.pointer(name), format!("must be a whole number from {least} to {most}"));
        }
        number
    }

    /// Takes a number.
    pub(in crate::rest) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<f64>,
        errors: &mut Errors,
    ) -> Option<f64> {
        let raw = self.value(name)?;
        let number = serde_json::from_str::<f64>(raw.get()).ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            add(errors, self.pointer(name), format!("must be a number from {least} to {most}"));
        }
        number
    }

    /// Takes seconds, with parts of one.
    pub(in crate::rest) fn seconds(
        &mut self,
        name: &str,
        range: RangeInclusive<Duration>,
        errors: &mut Errors,
    ) -> Option<Duration> {
        let seconds = range.start().as_secs_f64()..=range.end().as_secs_f64();
        let seconds = self.number(name, seconds, errors)?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// Takes a point in time.
    pub(in crate::rest) fn time(&mut self, name: &str, errors: &mut Errors) -> Option<Timestamp> {
        let raw = self.value(name)?;
        let text = serde_json::from_str::<Text<'_>>(raw.get()).ok();
        let time = text.and_then(|text| text.parse::<Rfc3339>().ok());
        if time.is_none() {
            let detail = "must be a time as in RFC 3339, such as 2026-11-20T09:00:00Z";
            add(errors, self.pointer(name), detail);
        }
        time.map(|Rfc3339(micros)| Timestamp(micros))
    }

    /// Takes true or false; false if it is not there.
    pub(in crate::rest) fn flag(&mut self, name: &str, errors: &mut Errors) -> bool {
        let Some(raw) = self.value(name) else { return false };
        match raw.get() {
            "true" => true,
            "false" => false,
            _ => {
                add(errors, self.pointer(name), "must be true or false");
                false
            }
        }
    }

    /// Takes an object; `at` goes on from here.
    pub(in crate::rest) fn object(&mut self, name: &str, errors: &mut Errors) -> Option<Form<'b>> {
        let raw = self.value(name)?;
        let object = Form::of(raw.get(), self.pointer(name)).ok();
        if object.is_none() {
            add(errors, self.pointer(name), "must be an object");
        }
        object
    }

    /// Takes everything that is left, as names and strings.
    pub(in crate::rest) fn strings(mut self, errors: &mut Errors) -> Vec<(String, String)> {
        let fields = std::mem::take(&mut self.fields.fields);
        let mut strings = Vec::with_capacity(fields.len());
        for (name, raw) in fields {
            match serde_json::from_str::<Text<'_>>(raw.get()) {
                Ok(Text(value)) => strings.push((name.0.into_owned(), value.into_owned())),
                Err(_) => add(errors, self.pointer(&told(&name)), "must be a string"),
            }
        }
        self.finish(errors);
        strings
    }

    /// Refuses what nobody took.
    pub(in crate::rest) fn finish(self, errors: &mut Errors) {
        if self.fields.too_many {
            add(errors, self.at.clone(), format!("must have at most {FORM_FIELDS_MAX} fields"));
        }
        if let Some(name) = &self.fields.repeated {
            add(errors, self.pointer(name), "must not be given twice");
        }
        for (name, _) in &self.fields.fields {
            add(errors, self.pointer(&told(name)), "is not a field that is known here");
        }
    }
}

/// A name from outside as part of a JSON pointer (RFC 6901), cut where it is long.
fn told(name: &str) -> String {
    let mut end = name.len().min(FIELD_NAME_BYTES_TOLD);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name.get(..end).unwrap_or_default().replace('~', "~0").replace('/', "~1")
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut found = Fields::default();
        while let Some(name) = map.next_key::<Text<'de>>()? {
            if found.fields.len() >= FORM_FIELDS_MAX {
                found.too_many = true;
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if found.fields.iter().any(|(other, _)| **other == *name) {
                found.repeated = Some(told(&name));
            }
            found.fields.push((name, map.next_value()?));
        }
        Ok(found)
    }
}

struct List<'b> {
    items: Vec<&'b RawValue>,
    too_many: bool,
}

impl<'de> Deserialize<'de> for List<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor)
    }
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = List<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<List<'de>, A::Error> {
        let mut found = List { items: Vec::new(), too_many: false };
        while found.items.len() < crate::limits::QUEUE_BATCH_MAX {
            let Some(item) = seq.next_element()? else { return Ok(found) };
            found.items.push(item);
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            found.too_many = true;
        }
        Ok(found)
    }
}

/// The largest up to which every whole number can be told from its neighbours.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// A whole number, however JSON writes it: 94.0 is one, too (JSON Schema, section 6.1.1 of its validation).
fn whole_number(text: &str) -> Option<u64> {
    let exact = serde_json::from_str::<u64>(text).ok();
    let is_whole = |number: &f64| number.fract() == 0.0 && (0.0..=WHOLE_MAX).contains(number);
    // In the range, and nothing behind the point.
    exact.or_else(|| serde_json::from_str::<f64>(text).ok().filter(is_whole).map(|number| number as u64))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop where it fails")]
    use super::*;

    /// What is said about this object once these fields were taken.
    fn said(json: &str, take: impl FnOnce(&mut Form<'_>, &mut Errors)) -> Vec<(String, String)> {
        let mut errors = Errors::default();
        let mut form = Form::of(json, "/x".to_owned()).unwrap();
        take(&mut form, &mut errors);
        form.finish(&mut errors);
        errors.0.into_iter().map(|error| (error.pointer.into_owned(), error.detail.into_owned())).collect()
    }

    #[test]
    fn what_nobody_takes_is_refused_at_its_place() {
        let told = said(r#"{"a":1,"b/~c":2,"a":3}"#, |form, errors| {
            assert_eq!(form.whole("a", 0..=9, errors), Some(1));
        });
        let pointers: Vec<_> = told.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/x/a", "/x/a", "/x/b~1~0c"]);
        let long = format!(r#"{{"{}":1}}"#, "é".repeat(1_000));
        assert!(said(&long, |_, _| {})[0].0.len() <= 3 + FIELD_NAME_BYTES_TOLD);
        let many: Vec<String> = (0..1_000).map(|number| format!("\"f{number}\":1")).collect();
        assert_eq!(said(&format!("{{{}}}", many.join(",")), |_, _| {}).len(), ERRORS_NAMED_MAX);
    }

    #[test]
    fn values_of_another_kind_or_beyond_a_bound_are_named() {
        let bad = |json: &str, take: fn(&mut Form<'_>, &mut Errors)| {
            let told = said(json, take);
            assert_eq!(told.len(), 1, "{json}: {told:?}");
        };
        for json in [r#"{"n":-1}"#, r#"{"n":10}"#, r#"{"n":1.5}"#, r#"{"n":"1"}"#, r#"{"n":1e400}"#] {
            bad(json, |form, errors| {
                form.whole("n", 0..=9, errors);
            });
        }
        for json in [r#"{"s":-0.1}"#, r#"{"s":1e400}"#, r#"{"s":true}"#, r#"{"s":2.1}"#] {
            bad(json, |form, errors| {
                form.seconds("s", Duration::ZERO..=Duration::from_secs(2), errors);
            });
        }
        bad(r#"{"t":"2026-11-20"}"#, |form, errors| {
            form.time("t", errors);
        });
        bad(r#"{"t":0}"#, |form, errors| {
            form.time("t", errors);
        });
        bad(r#"{"f":"true"}"#, |form, errors| {
            form.flag("f", errors);
        });
        bad(r#"{"o":[]}"#, |form, errors| {
            form.object("o", errors);
        });
        bad(r#"{"w":"z"}"#, |form, errors| {
            form.word("w", &[("a", 1), ("b", 2)], errors);
        });
        let fine = said(r#"{"n":null,"s":0.25,"t":"1970-01-01T00:00:01Z","f":false}"#, |form, errors| {
            assert_eq!(form.whole("n", 0..=9, errors), None);
            let quarter = form.seconds("s", Duration::ZERO..=Duration::from_secs(2), errors);
            assert_eq!(quarter, Some(Duration::from_millis(250)));
            assert_eq!(form.time("t", errors), Some(Timestamp(1_000_000)));
            assert!(!form.flag("f", errors));
        });
        assert_eq!(fine, Vec::new());
    }

    #[test]
    fn lists_are_bounded() {
        let of = |items: usize| {
            let text = serde_json::to_string(&vec![1; items]).unwrap();
            let raw: Box<RawValue> = RawValue::from_string(text).unwrap();
            list(&raw, 1_000).map(|items| items.len())
        };
        assert_eq!((of(0), of(1_000), of(1_001)), (Some(0), Some(1_000), None));
    }
}
