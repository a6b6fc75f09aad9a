//! The demo's result: what the fake agent saw and what the clients were told,
//! judged together. The broker's own word is not asked.

use super::board::{Turn, has_failed};
use super::plan::Role;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::time::Duration;
use turnwise_mock::{Call, CallOutcome, HistoryChecker, Terminal};

/// How turns that a kill interrupts are called.
const INTERRUPTED: &str = "answer_interrupted";

/// Everything the demo found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) ok: bool,
    pub(crate) seed: u64,
    pub(crate) seconds: f64,
    pub(crate) users: usize,
    pub(crate) clients: usize,
    pub(crate) messages: usize,
    pub(crate) answered: usize,
    /// The planned 500.
    pub(crate) failed: usize,
    /// In the middle of their answer when the server was killed.
    pub(crate) interrupted: usize,
    /// Calls made again after a refusal or the kill.
    pub(crate) repeated_calls: usize,
    pub(crate) server_kills: usize,
    /// Readers that left in the middle of an answer, came back, and read the same as everybody.
    pub(crate) resumes: usize,
    pub(crate) at_once_max: usize,
    pub(crate) checks: Checks,
    pub(crate) latency_ms: Latencies,
    pub(crate) violations: Vec<String>,
}

/// Zero is right, everywhere.
#[derive(Debug, Serialize)]
pub(crate) struct Checks {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) out_of_order: u64,
    pub(crate) overlapping: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Latencies {
    pub(crate) accepted: Quantiles,
    pub(crate) first_event: Quantiles,
    pub(crate) whole: Quantiles,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) max: f64,
}

/// The facts to be judged.
pub(crate) struct Facts {
    pub(crate) seed: u64,
    pub(crate) users: usize,
    pub(crate) planned: usize,
    pub(crate) elapsed: Duration,
    pub(crate) turns: Vec<Turn>,
    pub(crate) calls: Vec<Call>,
    /// When the server was killed, in the order of the calls.
    pub(crate) kills: Vec<u64>,
    pub(crate) resumes: usize,
    pub(crate) complaints: Vec<String>,
}

/// Judges.
pub(crate) fn judge(facts: Facts) -> Report {
    let mut checker = HistoryChecker::new();
    if !facts.kills.is_empty() {
        checker = checker.with_declared_reruns().with_kills(facts.kills.iter().copied());
    }
    checker.add_calls(facts.calls.iter().cloned());
    checker.add_receipts(facts.turns.iter().map(|turn| turn.receipt.clone()));
    let verdict = checker.check();
    let counts = verdict.counts();
    let mut violations: Vec<String> = verdict.violations.iter().map(ToString::to_string).collect();
    violations.extend(facts.complaints.iter().cloned());
    let interrupted = count(&facts.turns, |turn| turn.error.as_deref() == Some(INTERRUPTED));
    let failed = count(&facts.turns, has_failed) - interrupted;
    violations.extend(surprises(&facts, interrupted));
    violations.extend(not_staged(&facts));
    let answered = count(&facts.turns, |turn| turn.receipt.ends == [Terminal::Completed]);
    Report {
        ok: violations.is_empty(),
        seed: facts.seed,
        seconds: facts.elapsed.as_secs_f64(),
        users: facts.users,
        clients: facts.users * 2,
        messages: facts.turns.len(),
        answered,
        failed,
        interrupted,
        repeated_calls: repeated(&facts.calls),
        server_kills: facts.kills.len(),
        resumes: facts.resumes,
        at_once_max: at_once_max(&facts.calls),
        checks: Checks {
            lost: counts.lost,
            doubled: counts.doubled,
            out_of_order: counts.out_of_order,
            overlapping: counts.overlapping,
        },
        latency_ms: Latencies {
            accepted: quantiles(facts.turns.iter().map(|turn| turn.accept)),
            first_event: quantiles(facts.turns.iter().filter_map(|turn| turn.first_event)),
            whole: quantiles(facts.turns.iter().filter_map(|turn| turn.whole)),
        },
        violations,
    }
}

fn count(turns: &[Turn], is: impl Fn(&Turn) -> bool) -> usize {
    turns.iter().filter(|turn| is(turn)).count()
}

/// What the checker cannot know: how many messages were planned, and how many the kill may interrupt.
fn surprises(facts: &Facts, interrupted: usize) -> Vec<String> {
    let mut found = Vec::new();
    if facts.turns.len() != facts.planned {
        found.push(format!("{} of {} messages were accepted", facts.turns.len(), facts.planned));
    }
    let in_flight_max = facts.kills.len() * super::plan::SLOTS as usize;
    if interrupted > in_flight_max {
        found.push(format!("{interrupted} answers were interrupted, at most {in_flight_max} were under way"));
    }
    let known: HashSet<&str> = facts.turns.iter().map(|turn| turn.receipt.message_id.as_str()).collect();
    let unknown = facts.calls.iter().filter(|call| !known.contains(call.message_id.as_str())).count();
    if unknown > 0 {
        found.push(format!("{unknown} calls at the agent belong to no accepted message"));
    }
    found
}

/// Parts of the scenario that did not happen: a check without them has checked nothing.
fn not_staged(facts: &Facts) -> Vec<String> {
    let mut found = Vec::new();
    if facts.kills.len() != 1 {
        found.push(format!("the server was killed {} times, planned was once", facts.kills.len()));
    }
    if facts.resumes == 0 {
        found.push("no reader left in the middle of an answer, resumed and was compared".into());
    }
    for turn in &facts.turns {
        let code = turn.error.as_deref();
        let has_failed = turn.receipt.ends == [Terminal::Failed] && code != Some(INTERRUPTED);
        match turn.role {
            Role::Fails if !has_failed && !was_cut(turn, facts) => {
                found.push(format!("{}: the planned 500 did not end as failed", turn.label));
            }
            Role::Refused if !called_to(turn, facts, CallOutcome::Refused) => {
                found.push(format!("{}: the planned 503 did not happen", turn.label));
            }
            Role::Plain | Role::Refused | Role::Leaves if has_failed => {
                found.push(format!("{} failed with {}, not planned", turn.label, code.unwrap_or("no code")));
            }
            Role::Plain | Role::Refused | Role::Leaves | Role::Fails => {}
        }
    }
    for role in [Role::Refused, Role::Fails, Role::Leaves] {
        if !facts.turns.iter().any(|turn| turn.role == role) {
            found.push(format!("the planned message ({role:?}) was not accepted"));
        }
    }
    found
}

/// Whether the kill interrupted this very turn: its client was told so, and the agent saw its caller leave.
fn was_cut(turn: &Turn, facts: &Facts) -> bool {
    facts.kills.len() == 1
        && turn.error.as_deref() == Some(INTERRUPTED)
        && called_to(turn, facts, CallOutcome::Abandoned)
}

fn called_to(turn: &Turn, facts: &Facts, outcome: CallOutcome) -> bool {
    let mut calls = facts.calls.iter().filter(|call| call.message_id == turn.receipt.message_id);
    calls.any(|call| call.outcome == Some(outcome))
}

fn repeated(calls: &[Call]) -> usize {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for call in calls {
        *seen.entry(call.message_id.as_str()).or_default() += 1;
    }
    seen.values().map(|calls| calls - 1).sum()
}

fn at_once_max(calls: &[Call]) -> usize {
    let mut marks: Vec<(u64, i64)> = Vec::new();
    for call in calls {
        marks.push((call.started, 1));
        marks.extend(call.ended.map(|ended| (ended, -1)));
    }
    marks.sort_unstable();
    let mut now = 0;
    let most = marks.iter().map(|(_, step)| {
        now += step;
        now
    });
    usize::try_from(most.max().unwrap_or(0)).unwrap_or(0)
}

fn quantiles(times: impl Iterator<Item = Duration>) -> Quantiles {
    let mut sorted: Vec<Duration> = times.collect();
    sorted.sort_unstable();
    let at = |share: f64| {
        let place = (sorted.len() as f64 * share) as usize;
        sorted.get(place.min(sorted.len().saturating_sub(1))).map_or(0.0, millis)
    };
    Quantiles { p50: at(0.5), p95: at(0.95), max: at(1.0) }
}

fn millis(time: &Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// What was wrong, in one line.
pub(crate) fn found_wrong(report: &Report) -> String {
    let checks = &report.checks;
    let counts = [
        (checks.lost, "lost"),
        (checks.doubled, "doubled"),
        (checks.out_of_order, "out of order"),
        (checks.overlapping, "overlapping"),
    ];
    let named: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    let all = match report.violations.len() {
        1 => "1 violation".to_owned(),
        more => format!("{more} violations"),
    };
    match named.is_empty() {
        true => all,
        false => format!("{all}; of {} accepted turns {}", report.messages, named.join(", ")),
    }
}

/// The result for people.
pub(crate) fn render(report: &Report) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "\nResult after {:.1} s", report.seconds);
    let _ = writeln!(
        text,
        "  {} messages of {} users over {} clients; the server was killed and restarted {} time{}",
        report.messages,
        report.users,
        report.clients,
        report.server_kills,
        if report.server_kills == 1 { "" } else { "s" },
    );
    let _ = writeln!(
        text,
        "  answered {} · failed at the agent {} · interrupted by the kill {} · calls made again {}",
        report.answered, report.failed, report.interrupted, report.repeated_calls,
    );
    let checks = &report.checks;
    let _ = writeln!(
        text,
        "  order        {} out of order, {} lost, {} doubled, {} overlapping; users ran in parallel, {} at once",
        checks.out_of_order, checks.lost, checks.doubled, checks.overlapping, report.at_once_max,
    );
    for (name, times) in [
        ("accepted", &report.latency_ms.accepted),
        ("first event", &report.latency_ms.first_event),
        ("whole answer", &report.latency_ms.whole),
    ] {
        let _ = writeln!(
            text,
            "  {name:<12} p50 {:.1} ms, p95 {:.1} ms, longest {:.1} ms",
            times.p50, times.p95, times.max,
        );
    }
    let _ = writeln!(text, "  (waiting for earlier messages of the same user is part of both)");
    for violation in &report.violations {
        let _ = writeln!(text, "  VIOLATION    {violation}");
    }
    if report.ok {
        let _ = writeln!(text, "  everything in order, nothing lost, nothing doubled");
    }
    let _ = write!(
        text,
        "Next:  turnwise serve --mock-agent     then     turnwise send --user alice \"hello\"\n\
         \x20      turnwise demo --check --seed {}     the same run, exit code 7 if anything is wrong",
        report.seed,
    );
    text
}
