//! Tickets for browsers that cannot set headers: each opens one stream, for a
//! short time, and nothing else. They live in memory only, as digests: a
//! restart forgets them, and a page asks for another. Never logged.

use crate::auth::{Caller, Holder};
use crate::error::Failure;
use crate::hex;
use crate::limits::{
    TICKET_FIRST_USE_MAX, TICKET_LAST_WORDS, TICKET_LIFETIME, TICKET_SWEEP_EVERY, TICKETS_MAX,
    TICKETS_PER_KEY_MAX,
};
use crate::ws::Identity;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;
use turnwise_api::Code;
use turnwise_core::MessageId;

/// Makes a leaked ticket easy to find in a text.
const PREFIX: &str = "turnwise_tk_";

/// Of a ticket's text.
pub(crate) type TicketDigest = [u8; 32];

/// What a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TicketFor {
    Turn(StreamOf),
    Topics(TopicsOf),
    /// Good once.
    Connection(Identity),
}

impl TicketFor {
    fn org(&self) -> Arc<str> {
        match self {
            TicketFor::Turn(stream) => Arc::clone(&stream.org),
            TicketFor::Topics(topics) => topics.org.as_str().into(),
            TicketFor::Connection(identity) => identity.org.as_str().into(),
        }
    }
}

/// Topics and patterns of an organisation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicsOf {
    pub(crate) org: String,
    pub(crate) topics: BTreeSet<String>,
}

/// Which stream a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamOf {
    pub(crate) org: Arc<str>,
    pub(crate) user: String,
    pub(crate) id: MessageId,
}

struct Ticket {
    what: TicketFor,
    issuer: Arc<Holder>,
    issued: Instant,
    used: bool,
    /// When the end of the stream was first written to a reader.
    delivered: Option<Instant>,
}

impl Ticket {
    fn is_good(&self, now: Instant) -> bool {
        let most = if self.used { TICKET_LIFETIME } else { TICKET_FIRST_USE_MAX };
        let over = self.delivered.is_some_and(|at| now.duration_since(at) > TICKET_LAST_WORDS);
        !over && now.duration_since(self.issued) <= most && !self.issuer.is_revoked()
    }
}

#[derive(Default)]
struct Table {
    made: u64,
    by_digest: HashMap<TicketDigest, Ticket>,
    swept: Option<Instant>,
}

/// The tickets that are out.
pub(crate) struct Tickets {
    secret: [u8; 32],
    table: Mutex<Table>,
}

impl Tickets {
    /// Tickets cannot be guessed if the secret cannot.
    pub(crate) fn new(secret: [u8; 32]) -> Tickets {
        Tickets { secret, table: Mutex::default() }
    }

    /// Makes a ticket for something that the caller may do.
    pub(crate) fn issue(&self, caller: &Caller, what: TicketFor) -> Result<String, Failure> {
        let now = Instant::now();
        let issuer = caller.holder();
        let mut table = self.table.lock();
        if table.is_full(issuer) {
            table.sweep(now);
        }
        if table.is_full(issuer) {
            let seconds = u32::try_from(TICKET_FIRST_USE_MAX.as_secs()).unwrap_or(u32::MAX);
            return Err(Failure::new(Code::RateLimited, "Too many tickets are out").retry_after(seconds));
        }
        let text = self.text(table.made);
        table.made += 1;
        issuer.tickets.fetch_add(1, Relaxed);
        let ticket = Ticket { what, issuer: Arc::clone(issuer), issued: now, used: false, delivered: None };
        table.by_digest.insert(digest(&text), ticket);
        Ok(text)
    }

    /// Who shows this ticket for this stream, if it is good for that. Once a
    /// reader had the end, only who names a place, as after a lost connection.
    pub(crate) fn caller(&self, text: &str, user: &str, id: MessageId, resumes: bool) -> Option<Caller> {
        let digest = digest(text);
        let mut table = self.table.lock();
        let ticket = table.by_digest.get_mut(&digest)?;
        if !ticket.is_good(Instant::now()) {
            table.remove(&digest);
            return None;
        }
        let TicketFor::Turn(stream) = &ticket.what else { return None };
        if stream.user != user || stream.id != id || (ticket.delivered.is_some() && !resumes) {
            return None;
        }
        ticket.used = true;
        Some(Caller::with_ticket(Arc::clone(&ticket.issuer), digest, ticket.what.org()))
    }

    /// Who shows this ticket to follow these topics, if it is good for just them.
    pub(crate) fn follower(&self, text: &str, topics: &BTreeSet<&str>) -> Option<Caller> {
        let digest = digest(text);
        let mut table = self.table.lock();
        let ticket = table.by_digest.get_mut(&digest)?;
        if !ticket.is_good(Instant::now()) {
            table.remove(&digest);
            return None;
        }
        let TicketFor::Topics(of) = &ticket.what else { return None };
        if !of.topics.iter().map(String::as_str).eq(topics.iter().copied()) {
            return None;
        }
        ticket.used = true;
        Some(Caller::with_ticket(Arc::clone(&ticket.issuer), digest, ticket.what.org()))
    }

    /// Who shows this ticket to connect, and as whom. It is used up.
    pub(crate) fn connecting(&self, text: &str) -> Option<(Caller, Identity)> {
        let digest = digest(text);
        let mut table = self.table.lock();
        let ticket = table.by_digest.get(&digest)?;
        let is_good = ticket.is_good(Instant::now());
        let TicketFor::Connection(identity) = &ticket.what else { return None };
        let caller = Caller::with_ticket(Arc::clone(&ticket.issuer), digest, ticket.what.org());
        let found = (caller, identity.clone());
        table.remove(&digest);
        is_good.then_some(found)
    }

    /// The end of the stream was written to its reader, who may not have got it.
    pub(crate) fn delivered(&self, digest: &TicketDigest) {
        if let Some(ticket) = self.table.lock().by_digest.get_mut(digest) {
            ticket.delivered.get_or_insert_with(Instant::now);
        }
    }

    /// Its reader has seen the end of the stream.
    pub(crate) fn end(&self, digest: &TicketDigest) {
        self.table.lock().remove(digest);
    }

    fn text(&self, number: u64) -> String {
        let mut hash = Sha256::new();
        hash.update(self.secret);
        hash.update(number.to_be_bytes());
        let bytes: [u8; 32] = hash.finalize().into();
        PREFIX.to_owned() + &hex::write(bytes)
    }
}

impl Table {
    fn is_full(&self, issuer: &Holder) -> bool {
        self.by_digest.len() >= TICKETS_MAX || issuer.tickets.load(Relaxed) >= TICKETS_PER_KEY_MAX
    }

    /// Takes away what is no longer good; not more often than it pays.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now.duration_since(swept) < TICKET_SWEEP_EVERY) {
            return;
        }
        self.swept = Some(now);
        self.by_digest.retain(|_, ticket| {
            let good = ticket.is_good(now);
            if !good {
                ticket.issuer.tickets.fetch_sub(1, Relaxed);
            }
            good
        });
    }

    fn remove(&mut self, digest: &TicketDigest) {
        if let Some(ticket) = self.by_digest.remove(digest) {
            ticket.issuer.tickets.fetch_sub(1, Relaxed);
        }
    }
}

fn digest(text: &str) -> TicketDigest {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;
    use std::time::Duration;
    use tokio::time::advance;

    fn stream(id: u64) -> TicketFor {
        TicketFor::Turn(StreamOf { org: "o".into(), user: "u".to_owned(), id: MessageId::new(id, 2) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_first_used_soon_and_then_good_for_a_while() {
        let tickets = Tickets::new([7; 32]);
        let caller = Caller::anyone();
        let shown = |text: &str| tickets.caller(text, "u", MessageId::new(1, 2), false).is_some();
        let late = tickets.issue(&caller, stream(1)).unwrap();
        let good = tickets.issue(&caller, stream(1)).unwrap();
        assert_ne!(late, good);
        advance(TICKET_FIRST_USE_MAX).await;
        assert!(shown(&good));
        advance(Duration::from_millis(1)).await;
        assert!(!shown(&late) && !shown(&late) && shown(&good));
        advance(TICKET_LIFETIME - TICKET_FIRST_USE_MAX - Duration::from_millis(1)).await;
        assert!(shown(&good));
        advance(Duration::from_millis(1)).await;
        assert!(!shown(&good));
        assert_eq!(caller.holder().tickets.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_opens_the_one_stream_it_was_made_for() {
        let tickets = Tickets::new([7; 32]);
        let text = tickets.issue(&Caller::anyone(), stream(1)).unwrap();
        let id = MessageId::new(1, 2);
        assert!(tickets.caller(&text, "v", id, false).is_none());
        assert!(tickets.caller(&text, "u", MessageId::new(2, 2), false).is_none());
        assert!(tickets.caller(&text.to_uppercase(), "u", id, false).is_none());
        assert!(tickets.caller("", "u", id, false).is_none());
        // Asking for others was no use of it.
        advance(TICKET_FIRST_USE_MAX + Duration::from_millis(1)).await;
        assert!(tickets.caller(&text, "u", id, false).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_end_a_ticket_only_goes_on_and_not_for_long() {
        let tickets = Tickets::new([7; 32]);
        let text = tickets.issue(&Caller::anyone(), stream(1)).unwrap();
        let shown = |resumes| tickets.caller(&text, "u", MessageId::new(1, 2), resumes);
        let caller = shown(false).unwrap();
        tickets.delivered(caller.ticket().unwrap());
        assert!(shown(false).is_none() && shown(true).is_some());
        advance(TICKET_LAST_WORDS).await;
        // Another reader's end gives no more time.
        tickets.delivered(caller.ticket().unwrap());
        assert!(shown(true).is_some());
        advance(Duration::from_millis(1)).await;
        assert!(shown(true).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_has_so_many_tickets_and_gets_more_once_they_are_over() {
        let tickets = Tickets::new([7; 32]);
        let (greedy, other) = (Caller::anyone(), Caller::anyone());
        for _ in 0..TICKETS_PER_KEY_MAX {
            tickets.issue(&greedy, stream(1)).unwrap();
        }
        assert_eq!(tickets.issue(&greedy, stream(1)).unwrap_err().code(), Code::RateLimited);
        tickets.issue(&other, stream(1)).unwrap();
        advance(TICKET_FIRST_USE_MAX + Duration::from_millis(1)).await;
        tickets.issue(&greedy, stream(1)).unwrap();
        assert_eq!(greedy.holder().tickets.load(Relaxed), 1);
        assert_eq!(tickets.table.lock().by_digest.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_for_a_connection_is_good_once_and_one_for_topics_for_just_them() {
        let tickets = Tickets::new([7; 32]);
        let caller = Caller::anyone();
        let who = Identity { org: "o".to_owned(), agent: Some("a".to_owned()), ..Identity::default() };
        let issue = || tickets.issue(&caller, TicketFor::Connection(who.clone())).unwrap();
        let (good, late) = (issue(), issue());
        let (shown, identity) = tickets.connecting(&good).unwrap();
        assert!(identity == who && shown.sees("o") && !shown.sees("p"));
        assert!(tickets.connecting(&good).is_none());
        advance(TICKET_FIRST_USE_MAX + Duration::from_millis(1)).await;
        assert!(tickets.connecting(&late).is_none());
        let topics = BTreeSet::from(["a".to_owned(), "b.*".to_owned()]);
        let of = TicketFor::Topics(TopicsOf { org: "o".to_owned(), topics });
        let text = tickets.issue(&caller, of).unwrap();
        let follows = |topics: &[&str]| tickets.follower(&text, &topics.iter().copied().collect()).is_some();
        assert!(
            follows(&["b.*", "a", "a"]) && !follows(&["a"]) && !follows(&["a", "b.*", "c"]) && !follows(&[])
        );
        assert!(tickets.connecting(&text).is_none() && follows(&["a", "b.*"]), "it is for nothing else");
        advance(TICKET_LIFETIME + Duration::from_millis(1)).await;
        assert!(!follows(&["a", "b.*"]));
        assert_eq!(caller.holder().tickets.load(Relaxed), 0);
    }
}
