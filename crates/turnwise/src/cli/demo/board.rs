//! What the demo's clients were told so far, and how it looks: a table that is
//! redrawn on a terminal, plain lines elsewhere.

use super::plan::{Role, user_name};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use turnwise_mock::{Terminal, TurnReceipt};

/// Turns shown per stage and user.
const SHOWN_MAX: usize = 5;
/// Characters of an answer shown while it comes.
const PART_SHOWN: usize = 22;
/// Width of the column with the turns.
const LANE_WIDTH: usize = 62;

/// Where a turn is, as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Waiting,
    Running(String),
    Done,
    Failed,
}

/// One turn on the board.
#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) user: usize,
    pub(crate) label: String,
    /// What was planned for it.
    pub(crate) role: Role,
    pub(crate) seen: Seen,
    pub(crate) receipt: TurnReceipt,
    /// The code of the error it ended with.
    pub(crate) error: Option<String>,
    /// From the first try to the answer of the submission.
    pub(crate) accept: Duration,
    /// From acceptance to the agent's first event.
    pub(crate) first_event: Option<Duration>,
    /// From acceptance to the end.
    pub(crate) whole: Option<Duration>,
}

/// How the board appears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Redrawn in place.
    Table,
    /// One line after the other.
    Lines,
    /// Not at all.
    Silent,
}

impl Look {
    /// What suits stdout.
    pub(crate) fn choose(json: bool, lines: bool) -> Look {
        match (json, lines || !std::io::stdout().is_terminal()) {
            (true, _) => Look::Silent,
            (false, true) => Look::Lines,
            (false, false) => Look::Table,
        }
    }
}

/// Shared by all clients of the demo.
pub(crate) struct Board {
    look: Look,
    started: Instant,
    users: usize,
    total: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    turns: Vec<Turn>,
    resumes: usize,
    drawn_lines: usize,
    said: Vec<String>,
}

impl Board {
    pub(crate) fn new(look: Look, users: usize, total: usize) -> Board {
        Board { look, started: Instant::now(), users, total, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an accepted turn on the board; answers its number.
    pub(crate) fn add(&self, turn: Turn) -> usize {
        let mut inner = self.inner();
        inner.turns.push(turn);
        inner.turns.len() - 1
    }

    /// Changes a turn.
    pub(crate) fn change(&self, number: usize, change: impl FnOnce(&mut Turn)) {
        if let Some(turn) = self.inner().turns.get_mut(number) {
            change(turn);
        }
    }

    /// Every turn.
    pub(crate) fn turns(&self) -> Vec<Turn> {
        self.inner().turns.clone()
    }

    /// Turns that ended.
    pub(crate) fn ended(&self) -> usize {
        self.inner().turns.iter().filter(|turn| !turn.receipt.ends.is_empty()).count()
    }

    /// Notes a reader that left in the middle of an answer, came back, and read what everybody reads.
    pub(crate) fn add_resume(&self) {
        self.inner().resumes += 1;
    }

    /// Readers of that kind.
    pub(crate) fn resumes(&self) -> usize {
        self.inner().resumes
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Says something that happened.
    pub(crate) fn say(&self, text: &str) {
        let line = format!("{:5.1} s  {text}", self.elapsed().as_secs_f64());
        match self.look {
            Look::Silent => {}
            Look::Lines => crate::cli::print::line(&line),
            Look::Table => self.inner().said.push(line),
        }
    }

    /// One line on how far it is.
    pub(crate) fn say_progress(&self) {
        let (mut waiting, mut running, mut done, mut failed) = (0, 0, 0, 0);
        for turn in &self.inner().turns {
            match turn.seen {
                Seen::Waiting => waiting += 1,
                Seen::Running(_) => running += 1,
                Seen::Done => done += 1,
                Seen::Failed => failed += 1,
            }
        }
        let total = self.total;
        self.say(&format!("{done}/{total} answered, {running} running, {waiting} waiting, {failed} failed"));
    }

    /// How it appears.
    pub(crate) fn look(&self) -> Look {
        self.look
    }

    /// Draws the table over the one before.
    pub(crate) fn draw(&self) {
        let users = self.users;
        let mut inner = self.inner();
        let mut text = String::new();
        if inner.drawn_lines > 0 {
            let _ = write!(text, "\x1b[{}A", inner.drawn_lines);
        }
        let mut lines = vec![format!(" {:<8}{:<LANE_WIDTH$}  ended", "user", "done ▸ running ▸ waiting")];
        for user in 0..users {
            lines.push(row(user, &inner.turns));
        }
        lines.push(String::new());
        let from = inner.said.len().saturating_sub(6);
        lines.extend(inner.said.iter().skip(from).cloned());
        while lines.len() < users + 8 {
            lines.push(String::new());
        }
        for line in &lines {
            let _ = writeln!(text, "\x1b[2K{line}");
        }
        inner.drawn_lines = lines.len();
        drop(inner);
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn row(user: usize, turns: &[Turn]) -> String {
    let own: Vec<&Turn> = turns.iter().filter(|turn| turn.user == user).collect();
    let done: Vec<String> = own
        .iter()
        .filter_map(|turn| match turn.seen {
            Seen::Done => Some(turn.label.clone()),
            Seen::Failed => Some(format!("{}✗", turn.label)),
            Seen::Waiting | Seen::Running(_) => None,
        })
        .collect();
    let running: Vec<String> = own
        .iter()
        .filter_map(|turn| match &turn.seen {
            Seen::Running(part) if part.is_empty() => Some(turn.label.clone()),
            Seen::Running(part) => Some(format!("{} \"{}…\"", turn.label, last(part, PART_SHOWN))),
            Seen::Waiting | Seen::Done | Seen::Failed => None,
        })
        .collect();
    let waiting: Vec<String> =
        own.iter().filter(|turn| turn.seen == Seen::Waiting).map(|turn| turn.label.clone()).collect();
    let shown_done = done.iter().skip(done.len().saturating_sub(SHOWN_MAX)).cloned().collect::<Vec<_>>();
    let lane = format!(
        "{} ▸ {} ▸ {}",
        shown_done.join(" "),
        running.join(" "),
        waiting.iter().take(SHOWN_MAX).cloned().collect::<Vec<_>>().join(" "),
    );
    format!(" {:<8}{:<LANE_WIDTH$}  {}", user_name(user), first(&lane, LANE_WIDTH), done.len())
}

fn first(text: &str, count: usize) -> String {
    text.chars().take(count).collect()
}

fn last(text: &str, count: usize) -> String {
    let skip = text.chars().count().saturating_sub(count);
    text.chars().skip(skip).collect()
}

/// Whether a client was told that its turn failed.
pub(crate) fn has_failed(turn: &Turn) -> bool {
    turn.receipt.ends.contains(&Terminal::Failed)
}
