//! The clients: they submit, wait, read, leave, come back and cancel, and
//! note what they were told.

use crate::node::DEPTH_MAX;
use futures_util::StreamExt;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use turnwise_broker::{
    Broker, BrokerError, Cancel, Conversation, Followed, OrgScope, StreamPosition, Submission, TurnEvent,
    TurnState,
};
use turnwise_core::{Epoch, MessageId, StoreError};
use turnwise_testkit::turns::Book;
use turnwise_testkit::turns::agent::body;

/// Times a client repeats a submission whose fate it does not know.
const SUBMIT_TRIES_MAX: u32 = 3;

/// One message of one user, as often as it is sent.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) number: u64,
    pub(crate) org: String,
    pub(crate) user: String,
    pub(crate) conversation: Conversation,
    pub(crate) client_message_id: Option<String>,
    pub(crate) stream: bool,
}

impl Letter {
    /// The name of its conversation for the agents' journal.
    pub(crate) fn lane(&self) -> String {
        match &self.conversation {
            Conversation::User { user } => format!("{}/user {user}", self.org),
            Conversation::Group { chat, thread: None } => format!("{}/chat {chat}", self.org),
            Conversation::Group { chat, thread: Some(thread) } => {
                format!("{}/chat {chat} thread {thread}", self.org)
            }
        }
    }

    fn submission(&self) -> Submission {
        Submission {
            org: self.org.clone(),
            user: self.user.clone(),
            client: "web".to_owned(),
            conversation: self.conversation.clone(),
            client_message_id: self.client_message_id.clone(),
            request: body(self.number, &self.lane()).into(),
            prefer_stream: self.stream,
            traceparent: None,
            callback: None,
            redrive_of: None,
        }
    }
}

/// What became of a letter, as far as its sender knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    pub(crate) lane: String,
    pub(crate) org: String,
    pub(crate) user: String,
    pub(crate) sent: u64,
    pub(crate) accepted: Option<(MessageId, u64)>,
    /// Refused, and never anything else.
    pub(crate) refused: bool,
    /// Tries of which nothing is known: it may have been stored.
    pub(crate) unsure: u32,
}

/// One reader from its start or resumption on.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) id: MessageId,
    pub(crate) user: String,
    /// Everything after this offset.
    pub(crate) after: u64,
    pub(crate) events: Vec<(u64, String)>,
    pub(crate) position: Option<StreamPosition>,
    /// It came with a place of another store, and has not been told so yet.
    pub(crate) lost: bool,
    pub(crate) ended: bool,
}

/// What all clients were told.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) fates: BTreeMap<u64, Fate>,
    pub(crate) sessions: Vec<Session>,
    /// Ends told outside of streams.
    pub(crate) ends: Vec<(MessageId, TurnState)>,
}

/// The clients' notes and the book; cheap to share.
#[derive(Clone, Default)]
pub(crate) struct People {
    notes: Arc<Mutex<Notes>>,
    pub(crate) book: Book,
}

impl People {
    pub(crate) fn new(book: Book) -> People {
        People { notes: Arc::default(), book }
    }

    pub(crate) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a letter, again if its fate is not known and a repeat is safe.
    pub(crate) async fn submit(self, broker: Broker, letter: Letter) {
        let tries = if letter.client_message_id.is_some() { SUBMIT_TRIES_MAX } else { 1 };
        for _ in 0..tries {
            let sent = self.book.tick();
            {
                let mut notes = self.notes();
                let fate = notes.fates.entry(letter.number).or_insert_with(|| Fate {
                    lane: letter.lane(),
                    org: letter.org.clone(),
                    user: letter.user.clone(),
                    sent,
                    ..Fate::default()
                });
                // Until the answer is there.
                fate.unsure += 1;
            }
            let answer = broker.submit(letter.submission()).await;
            if self.note_answer(&letter, answer) {
                return;
            }
        }
    }

    /// Whether the letter's fate is known now.
    fn note_answer(&self, letter: &Letter, answer: Result<turnwise_broker::Submitted, BrokerError>) -> bool {
        let accepted = self.book.tick();
        let mut notes = self.notes();
        let fate = notes.fates.entry(letter.number).or_default();
        match answer {
            Ok(submitted) => {
                self.book.count(|counts| counts.dedup += u64::from(submitted.duplicate));
                if submitted.position > u64::from(DEPTH_MAX) {
                    self.book.broken(format!("{} was accepted at {}", submitted.id, submitted.position));
                }
                match fate.accepted {
                    None => fate.accepted = Some((submitted.id, accepted)),
                    Some((id, _)) if id != submitted.id => {
                        self.book.broken(format!("letter {} is {id} and {}", letter.number, submitted.id));
                    }
                    Some(_) => {}
                }
                fate.unsure -= 1;
                true
            }
            Err(BrokerError::LaneFull { .. }) => {
                self.book.count(|counts| counts.lane_full += 1);
                fate.refused = true;
                fate.unsure -= 1;
                true
            }
            Err(BrokerError::DedupConflict(_)) => {
                self.book.count(|counts| counts.conflicts += 1);
                fate.refused = true;
                fate.unsure -= 1;
                true
            }
            Err(BrokerError::Store(StoreError::Unavailable(_))) => {
                fate.unsure -= 1;
                false
            }
            Err(_) => false,
        }
    }

    /// Waits for the end of a turn, as a plain request does.
    pub(crate) async fn wait(self, broker: Broker, org: String, id: MessageId) {
        match broker.wait_end(&org, id).await {
            Ok(end) => self.notes().ends.push((id, end.state)),
            Err(error) => self.book.broken(format!("waiting for {id}: {error}")),
        }
    }

    /// Cancels a turn.
    pub(crate) async fn cancel(self, broker: Broker, id: MessageId) {
        match broker.cancel(&OrgScope::All, id).await {
            Ok(Cancel::Cancelled) => {
                self.book.count(|counts| counts.cancels += 1);
                self.notes().ends.push((id, TurnState::Cancelled));
            }
            Ok(Cancel::Stopping) => self.book.count(|counts| counts.stops += 1),
            Ok(Cancel::Over(state)) => self.notes().ends.push((id, state)),
            Ok(Cancel::NotFound) => self.book.broken(format!("{id} was accepted and is not found")),
            Err(_) => {}
        }
    }

    /// Reads a turn from its start, at most so many events.
    pub(crate) async fn read(self, broker: Broker, id: MessageId, user: String, events_max: usize) {
        let session =
            Session { id, user, after: 0, events: Vec::new(), position: None, lost: false, ended: false };
        self.follow(broker, session, None, events_max).await;
    }

    /// Goes on where another reader left; with a place of another store now and then.
    pub(crate) async fn resume(self, broker: Broker, former: Session, lost: bool, events_max: usize) {
        let Some(StreamPosition(mut position)) = former.position else {
            return;
        };
        self.book.count(|counts| counts.resumes += 1);
        if lost {
            position.epoch = Epoch(position.epoch.0 ^ 1);
        }
        let after = position.offset.0;
        let session = Session { after, events: Vec::new(), lost, ended: false, ..former };
        self.follow(broker, session, Some(StreamPosition(position)), events_max).await;
    }

    async fn follow(
        &self,
        broker: Broker,
        session: Session,
        after: Option<StreamPosition>,
        events_max: usize,
    ) {
        let (id, user) = (session.id, session.user.clone());
        let mut stream = match broker.follow(&OrgScope::All, &user, id, after).await.map(Followed::events) {
            Ok(Some(stream)) => stream,
            Ok(None) => return self.book.broken(format!("{id} was accepted and cannot be read")),
            Err(_) => return,
        };
        let number = {
            let mut notes = self.notes();
            notes.sessions.push(session);
            notes.sessions.len() - 1
        };
        for _ in 0..events_max {
            match stream.next().await {
                Some(Ok(event)) => self.note_event(number, event),
                Some(Err(BrokerError::Gone)) => {
                    return self.book.broken(format!("{id} was accepted and is gone"));
                }
                Some(Err(_)) => return,
                None => {
                    if let Some(session) = self.notes().sessions.get_mut(number) {
                        session.ended = true;
                    }
                    return;
                }
            }
        }
        self.book.count(|counts| counts.cuts += 1);
    }

    fn note_event(&self, session: usize, event: TurnEvent) {
        let mut notes = self.notes();
        let Some(session) = notes.sessions.get_mut(session) else {
            return;
        };
        if let TurnEvent::Gap { resume } = event {
            self.book.count(|counts| counts.gaps += 1);
            session.lost = false;
            session.after = resume.0.offset.0;
            session.events.clear();
            return;
        }
        if let Some((position, text)) = stored(&event) {
            if session.lost {
                self.book.broken(format!("{} went on from a lost place in silence", session.id));
            }
            session.position = Some(position);
            session.events.push((position.0.offset.0, text));
        }
    }
}

/// Place and text of an event that is kept and shown to every reader.
pub(crate) fn stored(event: &TurnEvent) -> Option<(StreamPosition, String)> {
    match event {
        TurnEvent::Agent { position, name, data } => {
            Some((*position, format!("{name:?} {}", String::from_utf8_lossy(data))))
        }
        TurnEvent::Done { position } => Some((*position, "done".to_owned())),
        TurnEvent::Error { position, error } => Some((*position, format!("error {}", error.code))),
        TurnEvent::Cancelled { position } => Some((*position, "cancelled".to_owned())),
        TurnEvent::Queued
        | TurnEvent::Processing { .. }
        | TurnEvent::Position { .. }
        | TurnEvent::Gap { .. } => None,
    }
}
