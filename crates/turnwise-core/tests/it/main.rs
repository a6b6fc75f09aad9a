//! Words that are written and read back: ids, names, patterns, times.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use proptest::prelude::*;
use std::time::Duration;
use turnwise_core::{Kind, MessageId, Name, NameError, Timestamp, TopicPattern};

proptest! {
    #[test]
    fn an_id_reads_back_as_written(seq in 0_u64..1 << 60, nonce in 0_u64..1 << 62) {
        let id = MessageId::new(seq, nonce);
        let text = id.to_string();
        prop_assert_eq!(text.len(), 36);
        prop_assert_eq!(text.parse::<MessageId>(), Ok(id));
    }

    #[test]
    fn any_text_is_an_id_or_refused(text in "\\PC{0,40}") {
        if let Ok(id) = text.parse::<MessageId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }

    #[test]
    fn ids_sort_by_their_sequence(a in 0_u64..1 << 60, b in 0_u64..1 << 60, nonce in any::<u64>()) {
        let (x, y) = (MessageId::new(a, nonce), MessageId::new(b, nonce));
        prop_assert_eq!(x.to_string().cmp(&y.to_string()), a.cmp(&b));
    }
}

#[test]
fn an_id_in_capitals_or_of_another_version_is_refused() {
    let good = MessageId::new(1, 0xabc).to_string();
    assert!(good.to_uppercase().parse::<MessageId>().is_err());
    assert!(good.replacen("-8", "-4", 1).parse::<MessageId>().is_err());
    assert!("".parse::<MessageId>().is_err());
}

#[test]
fn a_name_keeps_its_parts_apart() {
    let one = Name::new("a", Kind::Turns, "b:c").unwrap();
    let two = Name::new("a:b", Kind::Turns, "c").unwrap();
    assert_ne!(one, two);
    assert_eq!(Name::new("a\n", Kind::Turns, "b"), Err(NameError::ControlCharacter));
    assert_eq!(Name::new("a", Kind::Turns, &"b".repeat(257)), Err(NameError::TooLong));
}

#[test]
fn every_kind_has_its_number() {
    for number in 0..=u8::MAX {
        if let Some(kind) = Kind::from_number(number) {
            assert_eq!(kind as u8, number);
        }
    }
}

/// Whether `pattern` matches `name`, both public topics of one organisation.
fn check(pattern: &str, name: &str, expected: bool) {
    let name_of = |text| Name::new("org", Kind::Public, text).unwrap();
    let matched = TopicPattern(name_of(pattern)).matches(&name_of(name));
    assert_eq!(matched, expected, "{pattern} against {name}");
}

#[test]
fn patterns_match_whole_tokens() {
    check("a.b", "a.b", true);
    check("a.*", "a.b", true);
    check("a.*", "a.b.c", false);
    check("a.*", "a", false);
    check("a.>", "a.b:c", true);
    check("a.>", "a", false);
    check(">", "anything", true);
    check("*:b", "a:b", true);
}

#[test]
fn a_pattern_stays_in_its_organisation_and_kind() {
    let pattern = TopicPattern(Name::new("org", Kind::Public, ">").unwrap());
    assert!(!pattern.matches(&Name::new("other", Kind::Public, "a").unwrap()));
    assert!(!pattern.matches(&Name::new("org", Kind::Reply, "a").unwrap()));
}

#[test]
fn times_saturate() {
    assert_eq!(Timestamp::MAX.after(Duration::from_secs(1)), Timestamp::MAX);
    assert_eq!(Timestamp(5).since(Timestamp(9)), Duration::ZERO);
    assert_eq!(Timestamp(1_000_005).since(Timestamp(5)), Duration::from_secs(1));
}
