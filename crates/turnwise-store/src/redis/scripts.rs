//! The scripts: one for each operation, with what they share in front.

use std::collections::HashMap;

/// An operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Script {
    /// For the log.
    pub(super) name: &'static str,
    pub(super) source: &'static str,
    /// Whether it may change something.
    pub(super) changes: bool,
    /// Its place among the scripts.
    pub(super) number: usize,
}

macro_rules! scripts {
    ($($number:literal $name:ident $file:literal $changes:literal $($part:literal)*;)*) => {
        $(pub(super) const $name: Script = Script {
            name: $file,
            source: concat!(include_str!("scripts/base.lua"), $(include_str!($part),)*
                include_str!(concat!("scripts/", $file, ".lua"))),
            changes: $changes,
            number: $number,
        };)*
        /// All that begin with a look at the store's history, by their number.
        pub(super) const ALL: &[Script] = &[$($name),*];
    };
}

scripts! {
    0 ENQUEUE "enqueue" true "scripts/topics.lua" "scripts/messages.lua";
    1 CLAIM "claim" true "scripts/topics.lua" "scripts/messages.lua";
    2 EXTEND "extend" true "scripts/topics.lua" "scripts/messages.lua";
    3 SETTLE "settle" true "scripts/topics.lua" "scripts/messages.lua";
    4 REMOVE "remove" true "scripts/topics.lua" "scripts/messages.lua";
    5 STOP "stop" true "scripts/topics.lua" "scripts/messages.lua";
    6 REDRIVE "redrive" true "scripts/topics.lua" "scripts/messages.lua";
    7 SWEEP "sweep" true "scripts/topics.lua" "scripts/messages.lua";
    8 APPEND "append" true "scripts/topics.lua" "scripts/messages.lua";
    9 TRIM "trim" true "scripts/topics.lua";
    10 DROP_TOPICS "drop_topics" true "scripts/topics.lua";
    11 ADVANCE "advance" true;
    12 GET "get" false;
    13 DEPTH "depth" false;
    14 LANE "lane" false;
    15 LIST "list" false;
    16 QUEUES "queues" false;
    17 READ "read" false "scripts/topics.lua";
    18 READ_MANY "read_many" false "scripts/topics.lua";
    19 TOPICS_OF "topics_of" false "scripts/topics.lua";
    20 CURSOR "cursor" false;
    21 DUE "due" false;
    22 ROOM "room" false;
    23 END "end" false;
}

/// The line of a script that gives names to numbers.
const NUMBERS: &str = "-- numbers:";

/// A script as the server gets it, with numbers in the place of their names: each name that a function of a script
/// uses is looked up whenever the script runs, and there are many.
pub(super) fn as_sent(source: &str) -> String {
    let names = source.lines().filter_map(|line| line.strip_prefix(NUMBERS)).flat_map(str::split_whitespace);
    let numbers: HashMap<&str, &str> = names.filter_map(|pair| pair.split_once('=')).collect();
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut sent = String::with_capacity(source.len());
    let code = source.lines().map(str::trim_start).filter(|line| !line.starts_with("--"));
    for line in code {
        let mut rest = line;
        while !rest.is_empty() {
            let (word, behind) = rest.split_at(rest.find(|letter| !is_word(letter)).unwrap_or(rest.len()));
            sent.push_str(numbers.get(word).copied().unwrap_or(word));
            let (other, behind) = behind.split_at(behind.find(is_word).unwrap_or(behind.len()));
            sent.push_str(other);
            rest = behind;
        }
        sent.push('\n');
    }
    sent
}

/// How a node takes part in the history that a server holds.
pub(super) const JOIN: &str = include_str!("scripts/join.lua");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_numbers_are_gone_from_what_is_sent() {
        let sent =
            as_sent("-- numbers: KEY=2 MAX=4\nlocal a = known[KEY] + MAX_AGE\n  -- KEY\n  return 'x'..MAX");
        assert_eq!(sent, "local a = known[2] + MAX_AGE\nreturn 'x'..4\n");
        for (at, script) in ALL.iter().enumerate() {
            assert_eq!(script.number, at);
            let sent = as_sent(script.source);
            assert!(!sent.contains("ATTEMPT") && !sent.contains("--"), "{}", script.name);
        }
    }
}
