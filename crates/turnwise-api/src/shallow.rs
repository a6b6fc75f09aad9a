//! JSON that nobody here reads, but somebody later may: it must be sound, so
//! that no reader behind us trips over it.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Any JSON value whose texts are Unicode, whose numbers are numbers, and
/// which nests no deeper than the parser's bound (128 levels).
#[derive(Clone, Copy, Debug)]
pub struct Shallow;

impl<'de> Deserialize<'de> for Shallow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shallow, D::Error> {
        deserializer.deserialize_any(ShallowVisitor)
    }
}

struct ShallowVisitor;

impl<'de> Visitor<'de> for ShallowVisitor {
    type Value = Shallow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shallow, E> {
        Ok(Shallow)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shallow, E> {
        Ok(Shallow)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shallow, E> {
        Ok(Shallow)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shallow, E> {
        Ok(Shallow)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shallow, E> {
        Ok(Shallow)
    }

    fn visit_unit<E>(self) -> Result<Shallow, E> {
        Ok(Shallow)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Shallow, A::Error> {
        while items.next_element::<Shallow>()?.is_some() {}
        Ok(Shallow)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Shallow, A::Error> {
        while entries.next_entry::<Shallow, Shallow>()?.is_some() {}
        Ok(Shallow)
    }
}

#[cfg(test)]
mod tests {
    use super::Shallow;

    #[test]
    fn what_would_trip_a_reader_is_refused() {
        let check = |text: &str, ok: bool| {
            assert_eq!(serde_json::from_str::<Shallow>(text).is_ok(), ok, "{text:.40}");
        };
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check(r#"{"a":[1,-1,1.5e3,"\ud83d\ude00",null,true,{}]}"#, true);
        check(&nested(127), true);
        check(&nested(129), false);
        check(&nested(10_000), false);
        check("1e400", false);
        check("NaN", false);
        check(r#""\ud800""#, false);
        check(r#"{"\udc00":1}"#, false);
        check("[1]x", false);
    }
}
