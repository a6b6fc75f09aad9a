//! One client of the demo: sends its messages one after the other, follows
//! every answer, and notes what it is told.

use super::board::{Board, Seen, Turn};
use super::plan::{Planned, Role};
use crate::client::{Follow, Message, Server, is_terminal};
use crate::failure::Failure;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use turnwise_mock::{SseEvent, Terminal, TurnReceipt, conversation_of_user};

/// The organisation of the demo.
pub(crate) const ORG: &str = "demo";
/// Messages of one client that are under way at once.
const UNDER_WAY_MAX: usize = 3;
/// How long a killed server is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events after which the leaving client leaves.
const LEAVES_AFTER: usize = 3;
/// How long it stays away.
const AWAY: Duration = Duration::from_millis(300);

/// Who the client is, and what it shares with the others.
#[derive(Clone)]
pub(crate) struct Actor {
    pub(crate) server: Server,
    pub(crate) board: Arc<Board>,
    /// Counts everything clients send and are told, in one order.
    pub(crate) counter: Arc<AtomicU64>,
    pub(crate) user: usize,
    pub(crate) user_name: String,
    pub(crate) client: &'static str,
    pub(crate) letter: char,
}

/// What a client found wrong by itself.
pub(crate) type Complaints = Vec<String>;

impl Actor {
    /// Sends the plan and returns when every answer was read to its end.
    pub(crate) async fn run(self, plan: Vec<Planned>) -> Complaints {
        let room = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        let mut readers = JoinSet::new();
        let mut conn = self.server.conn();
        let mut complaints = Complaints::new();
        for (n, planned) in plan.into_iter().enumerate() {
            tokio::time::sleep(planned.pause).await;
            let place = Arc::clone(&room).acquire_owned().await;
            match self.submit(&mut conn, &planned, n).await {
                Ok(number) => {
                    let actor = self.clone();
                    readers.spawn(async move {
                        let complaints = actor.read(number, planned.role).await;
                        drop(place);
                        complaints
                    });
                }
                Err(failure) => {
                    complaints.push(format!("not accepted: {} {}", failure.title, failure.detail))
                }
            }
        }
        while let Some(read) = readers.join_next().await {
            match read {
                Ok(found) => complaints.extend(found),
                Err(error) => complaints.push(format!("a reader broke: {error}")),
            }
        }
        complaints
    }

    async fn submit(
        &self,
        conn: &mut turnwise_mock::Conn,
        planned: &Planned,
        n: usize,
    ) -> Result<usize, Failure> {
        let label = format!("{}{}", n + 1, self.letter);
        let message = Message {
            org: ORG,
            user: &self.user_name,
            client: self.client,
            text: &planned.text,
            client_message_id: Some(&label),
        };
        let started = Instant::now();
        let sent = self.tick();
        let message_id = self.server.submit(conn, &message, PATIENCE).await?;
        let accepted = self.tick();
        Ok(self.board.add(Turn {
            user: self.user,
            label,
            role: planned.role,
            seen: Seen::Waiting,
            receipt: TurnReceipt {
                message_id,
                conversation: conversation_of_user(ORG, &self.user_name),
                sent,
                accepted,
                ends: Vec::new(),
            },
            error: None,
            accept: started.elapsed(),
            first_event: None,
            whole: None,
        }))
    }

    fn tick(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::SeqCst)
    }

    async fn read(&self, number: usize, role: Role) -> Complaints {
        let (mut id, mut label) = (String::new(), String::new());
        self.board.change(number, |turn| {
            id.clone_from(&turn.receipt.message_id);
            label.clone_from(&turn.label);
        });
        let started = Instant::now();
        let mut stream = self.server.follow(&self.user_name, &id, PATIENCE);
        let mut kept = Vec::new();
        let (mut is_to_leave, mut has_left) = (role == Role::Leaves, false);
        loop {
            let event = match stream.next().await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(failure) => return vec![format!("{label}: {} {}", failure.title, failure.detail)],
            };
            self.note(number, &event, started.elapsed());
            let is_over = is_terminal(&event.event);
            if is_kept(&event) {
                kept.push(event);
            }
            if is_to_leave && kept.len() >= LEAVES_AFTER && !is_over {
                (is_to_leave, has_left) = (false, true);
                self.leave(&mut stream, &label).await;
            }
        }
        match has_left {
            true => self.compare(&id, &label, &kept).await,
            false => Complaints::new(),
        }
    }

    async fn leave(&self, stream: &mut Follow, label: &str) {
        stream.disconnect();
        self.board
            .say(&format!("{} {label}: its client disconnected in the middle of the answer", self.user_name));
        tokio::time::sleep(AWAY).await;
        self.board.say(&format!("{} {label}: its client is back and resumes the stream", self.user_name));
    }

    fn note(&self, number: usize, event: &SseEvent, after: Duration) {
        self.board.change(number, |turn| {
            match event.event.as_str() {
                "done" => {
                    turn.seen = Seen::Done;
                    turn.receipt.ends.push(Terminal::Completed);
                }
                "error" => {
                    turn.seen = Seen::Failed;
                    turn.error = Some(error_code(&event.data));
                    turn.receipt.ends.push(Terminal::Failed);
                }
                "cancelled" => {
                    turn.seen = Seen::Failed;
                    turn.receipt.ends.push(Terminal::Dropped);
                }
                "processing" => turn.seen = Seen::Running(String::new()),
                "queued" | "position" | "gap" => {}
                _ => {
                    turn.first_event.get_or_insert(after);
                    turn.seen = Seen::Running(part_of(turn, &event.data));
                }
            }
            if is_terminal(&event.event) {
                turn.whole = Some(after);
            }
        });
    }

    /// Reads the whole stream again from its start: what the interrupted reader got must be the same.
    async fn compare(&self, id: &str, label: &str, kept: &[SseEvent]) -> Complaints {
        let mut stream = self.server.follow(&self.user_name, id, PATIENCE);
        let mut again = Vec::new();
        loop {
            match stream.next().await {
                Ok(Some(event)) if is_kept(&event) => again.push(event),
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(failure) => return vec![format!("{label}: cannot be read again: {}", failure.title)],
            }
        }
        match difference(kept, &again) {
            None => {
                self.board.add_resume();
                let equal = format!("{} {label}: the resumed stream equals a fresh reading", self.user_name);
                self.board.say(&equal);
                Complaints::new()
            }
            Some(place) => {
                let what = "the resumed stream differs from a fresh reading";
                vec![format!("{} {label}: {what}: {place}", self.user_name)]
            }
        }
    }
}

/// Where two readings of one answer part, if they do. Names and ids only.
fn difference(resumed: &[SseEvent], fresh: &[SseEvent]) -> Option<String> {
    let place = (0..resumed.len().max(fresh.len())).find(|place| resumed.get(*place) != fresh.get(*place))?;
    let name = |events: &[SseEvent]| match events.get(place) {
        Some(event) => format!("{} {}", event.event, event.id),
        None => "its end".to_owned(),
    };
    Some(format!("event {} was {} and is {}", place + 1, name(resumed), name(fresh)))
}

/// Part of the stored answer. That work began may be told early, without a place, so it is not compared.
fn is_kept(event: &SseEvent) -> bool {
    !event.id.is_empty() && event.event != "processing"
}

fn error_code(data: &str) -> String {
    let parsed: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let code = parsed.get("code").and_then(|code| code.as_str());
    code.unwrap_or("error").to_owned()
}

/// The answer so far.
fn part_of(turn: &Turn, data: &str) -> String {
    let parsed: serde_json::Value = serde_json::from_str(data).unwrap_or_default();
    let part = parsed.get("text").and_then(|text| text.as_str()).unwrap_or_default();
    match &turn.seen {
        Seen::Running(before) => format!("{before}{part}"),
        Seen::Waiting | Seen::Done | Seen::Failed => part.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, name: &str) -> SseEvent {
        SseEvent { id: id.to_owned(), event: name.to_owned(), data: "{}".to_owned() }
    }

    fn kept(events: &[SseEvent]) -> Vec<SseEvent> {
        events.iter().filter(|event| is_kept(event)).cloned().collect()
    }

    #[test]
    fn a_reader_who_was_there_early_saw_the_same_answer() {
        let live =
            [event("", "queued"), event("", "processing"), event("7-2", "message"), event("7-3", "done")];
        let late =
            [event("", "queued"), event("7-1", "processing"), event("7-2", "message"), event("7-3", "done")];
        assert_eq!(difference(&kept(&live), &kept(&late)), None);
    }

    #[test]
    fn a_difference_is_named() {
        let (short, whole) = ([event("7-2", "message")], [event("7-2", "message"), event("7-3", "done")]);
        assert_eq!(difference(&short, &whole).as_deref(), Some("event 2 was its end and is done 7-3"));
        let other = [event("7-2", "message"), event("7-3", "error")];
        assert_eq!(difference(&other, &whole).as_deref(), Some("event 2 was error 7-3 and is done 7-3"));
    }
}
