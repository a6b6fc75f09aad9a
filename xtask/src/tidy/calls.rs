//! Calls that only named files may make, each with its reason. Time, processes
//! and tasks come in from outside, so that tests can hold them.

use super::{Report, Source};

/// Where a rule looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// In all code.
    Everywhere,
    /// Not in tests: they may measure.
    OutsideTests,
}

struct Banned {
    call: &'static str,
    scope: Scope,
    instead: &'static str,
}

const BANNED: [Banned; 6] = [
    Banned { call: "SystemTime::now", scope: Scope::Everywhere, instead: "take the clock as an argument" },
    Banned {
        call: "Instant::now",
        scope: Scope::OutsideTests,
        instead: "take the clock as an argument, or tokio's time where a test may pause it",
    },
    Banned {
        call: "tokio::spawn",
        scope: Scope::OutsideTests,
        instead: "a JoinSet or TaskTracker that somebody awaits",
    },
    Banned { call: "process::exit", scope: Scope::Everywhere, instead: "return an ExitCode from main" },
    Banned { call: "thread::sleep", scope: Scope::Everywhere, instead: "wait for the thing itself" },
    Banned { call: "unbounded_channel", scope: Scope::Everywhere, instead: "a channel with a named limit" },
];

/// One file that may make one call.
struct Allowed {
    call: &'static str,
    file: &'static str,
    reason: &'static str,
}

const fn allowed(call: &'static str, file: &'static str, reason: &'static str) -> Allowed {
    Allowed { call, file, reason }
}

const ALLOWED: [Allowed; 23] = [
    allowed(
        "Instant::now",
        "crates/turnwise-mock/src/journal.rs",
        "the fake agent's own stopwatch, apart from the broker's clock that it checks",
    ),
    allowed(
        "Instant::now",
        "crates/turnwise-store/src/clock.rs",
        "the one place where an engine reads the monotonic clock",
    ),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/backlog.rs", "measures what a client sees"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/fill.rs", "measures the machine"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/fairness.rs", "ends a measurement"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/outage.rs", "ends a measurement"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/soak.rs", "ends a measurement"),
    allowed("Instant::now", "xtask/src/fuzz.rs", "says how long a build took"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/load.rs", "measures what a client sees"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/mod.rs", "measures what a client sees"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/noting.rs", "measures what a client sees"),
    allowed("Instant::now", "crates/turnwise/src/cli/bench/stamp.rs", "measures the machine"),
    allowed("Instant::now", "crates/turnwise/src/cli/demo/actor.rs", "measures what a client sees"),
    allowed(
        "Instant::now",
        "crates/turnwise/src/cli/demo/board.rs",
        "the stopwatch of the table on the screen",
    ),
    allowed("Instant::now", "crates/turnwise/src/cli/demo/mod.rs", "ends a picture loop"),
    allowed(
        "Instant::now",
        "crates/turnwise/src/client.rs",
        "a client's patience with a server that restarts",
    ),
    allowed("SystemTime::now", "crates/turnwise-store/src/clock.rs", "the clock that is handed to the store"),
    allowed("SystemTime::now", "crates/turnwise/src/otel/mod.rs", "collectors want spans by the time of day"),
    allowed("SystemTime::now", "crates/turnwise-mock/src/receiver.rs", "how old a signature is"),
    allowed(
        "process::exit",
        "crates/turnwise/src/cli/print.rs",
        "the reader of stdout left, as `head` does: no failure, nothing to say it to",
    ),
    allowed(
        "process::exit",
        "crates/turnwise/src/cli/serve.rs",
        "a second signal asks to stop without draining",
    ),
    allowed("Instant::now", "xtask/src/interop/mod.rs", "tells how long each part took"),
    allowed(
        "thread::sleep",
        "xtask/src/running.rs",
        "waits for the port of another program, which cannot tell it otherwise",
    ),
];

/// Checks every banned call, and that every exception is still needed.
pub(crate) fn check(sources: &[Source], report: &mut Report) {
    let mut used: Vec<(&str, &str)> = Vec::new();
    for source in sources {
        let tests = test_lines(source);
        let pausable = takes_tokios_instant(&source.code);
        for (number, line) in source.code.lines().enumerate() {
            for banned in BANNED.iter().filter(|banned| calls(line, banned.call)) {
                let in_test = tests.get(number).copied().unwrap_or(false);
                let paused = pausable && banned.call == "Instant::now";
                if paused || (in_test && banned.scope == Scope::OutsideTests) {
                    continue;
                }
                if is_allowed(banned.call, &source.path) {
                    used.push((banned.call, &source.path));
                } else {
                    report.failures.push(format!(
                        "{}:{}: `{}` is for named files only: {}",
                        source.path,
                        number + 1,
                        banned.call,
                        banned.instead
                    ));
                }
            }
        }
    }
    for allowed in ALLOWED.iter().filter(|allowed| !used.contains(&(allowed.call, allowed.file))) {
        report.warnings.push(format!(
            "{} no longer calls `{}` ({}): take the exception away",
            allowed.file, allowed.call, allowed.reason
        ));
    }
}

/// Whether `Instant` is tokio's in this file: a test can pause that one.
fn takes_tokios_instant(code: &str) -> bool {
    let named = |path: &str| {
        code.match_indices(path).any(|(at, _)| {
            let import = code.get(at + path.len()..).and_then(|rest| rest.split(';').next());
            import.is_some_and(|import| calls(import, "Instant"))
        })
    };
    named("use tokio::time::") && !named("use std::time::")
}

fn is_allowed(call: &str, file: &str) -> bool {
    ALLOWED.iter().any(|allowed| allowed.call == call && allowed.file == file)
}

/// Whether the line names the call as a whole word.
fn calls(line: &str, call: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(call).any(|(at, _)| {
        let (before, rest) = line.split_at(at);
        let after = rest.get(call.len()..).unwrap_or_default();
        !before.ends_with(is_word) && !after.starts_with(is_word)
    })
}

/// For each line, whether it is test code: a `tests` folder or file, the test
/// kit, or a module behind `#[cfg(test)]`.
fn test_lines(source: &Source) -> Vec<bool> {
    let path = &source.path;
    let whole = path.contains("/tests/")
        || path.contains("/benches/")
        || path.ends_with("/tests.rs")
        || path.starts_with("crates/turnwise-testkit/");
    let mut depth: i32 = 0;
    let mut until: Option<i32> = None;
    let mut marked = false;
    let mut lines = Vec::new();
    for line in source.code.lines() {
        marked |= line.contains("#[cfg(test)]");
        let opens = line.matches('{').count();
        let closes = line.matches('}').count();
        if marked && until.is_none() && opens > 0 {
            until = Some(depth);
            marked = false;
        } else if marked && line.trim_end().ends_with(';') {
            marked = false;
        }
        lines.push(whole || until.is_some());
        depth += i32::try_from(opens).unwrap_or(i32::MAX) - i32::try_from(closes).unwrap_or(i32::MAX);
        if until.is_some_and(|level| depth <= level) {
            until = None;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{Report, Source, check};

    fn failures(path: &str, text: &str) -> usize {
        let mut report = Report::default();
        check(&[Source::new(path.to_owned(), text.to_owned())], &mut report);
        report.failures.len()
    }

    #[test]
    fn a_call_is_found_where_it_matters() {
        let measured = "#[cfg(test)]\nmod tests {\n fn f() { Instant::now(); }\n}\n";
        for (path, text, expected) in [
            ("crates/a/src/x.rs", "fn f() { Instant::now(); }", 1),
            ("crates/a/src/x.rs", "// Instant::now()\nfn f() { \"Instant::now\"; }", 0),
            ("crates/a/src/x.rs", measured, 0),
            ("crates/a/src/x.rs", &format!("{measured}fn g() {{ Instant::now(); }}"), 1),
            ("crates/a/tests/it/x.rs", "fn f() { tokio::spawn(x); std::thread::sleep(y); }", 1),
            ("crates/a/src/x.rs", "fn f() { tokio::spawn_local(x); MyInstant::now(); }", 0),
        ] {
            assert_eq!(failures(path, text), expected, "{path}: {text}");
        }
    }
}
