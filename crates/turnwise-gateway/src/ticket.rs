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
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;
use turnwise_api::Code;
use turnwise_core::MessageId;

/// Makes a leaked ticket easy to find in a text.
const PREFIX: &str = "turnwise_tk_";

/// Of a ticket's text.
pub(crate) type TicketDigest = [u8; 32];

/// Which stream a ticket is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamOf {
    pub(crate) org: Arc<str>,
    pub(crate) user: String,
    pub(crate) id: MessageId,
}

struct Ticket {
    stream: StreamOf,
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

    /// Makes a ticket for a stream that the caller may read.
    pub(crate) fn issue(&self, caller: &Caller, stream: StreamOf) -> Result<String, Failure> {
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
        let ticket = Ticket { stream, issuer: Arc::clone(issuer), issued: now, used: false, delivered: None };
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
        if ticket.stream.user != user || ticket.stream.id != id || (ticket.delivered.is_some() && !resumes) {
            return None;
        }
        ticket.used = true;
        Some(Caller::with_ticket(Arc::clone(&ticket.issuer), digest, Arc::clone(&ticket.stream.org)))
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

    fn stream(id: u64) -> StreamOf {
        StreamOf { org: "o".into(), user: "u".to_owned(), id: MessageId::new(id, 2) }
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
}
