//! The proof of a lease as a text for clients. It says nothing of the queue,
//! which comes with the request and belongs to whoever asks: a receipt opens
//! nothing in another queue, whatever is in it.

use super::WorkQueue;
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;
use turnwise_core::{LeaseToken, MessageId, Receipt};

/// Digits of the sequence, the nonce, the token, the attempt and the mark.
const PARTS: [usize; 5] = [16, 16, 16, 8, 8];
const DIGITS: usize = 64;

/// A lease on a message of a queue. Opaque to clients: 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WorkReceipt {
    id: MessageId,
    token: LeaseToken,
    attempt: u32,
    /// Of the queue it was made for: a receipt that got into the wrong hands is told from one that is over.
    mark: u32,
}

impl WorkReceipt {
    pub(crate) fn new(queue: &WorkQueue, receipt: &Receipt, attempt: u32) -> WorkReceipt {
        let mark = mark(queue, receipt.id, receipt.token, attempt);
        WorkReceipt { id: receipt.id, token: receipt.token, attempt, mark }
    }

    /// The message it is about.
    #[must_use]
    pub fn message_id(&self) -> MessageId {
        self.id
    }

    /// Which lease of the message, counted from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// For the store; none if it was made for another queue.
    pub(crate) fn for_queue(&self, queue: &WorkQueue) -> Option<Receipt> {
        let own = mark(queue, self.id, self.token, self.attempt);
        (own == self.mark).then(|| Receipt { queue: queue.0.clone(), id: self.id, token: self.token })
    }
}

fn mark(queue: &WorkQueue, id: MessageId, token: LeaseToken, attempt: u32) -> u32 {
    let mut hash = Sha256::new();
    for part in [queue.org(), queue.name()] {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(part);
    }
    for number in [id.seq(), id.nonce(), token.0, u64::from(attempt)] {
        hash.update(number.to_be_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let [first, second, third, fourth, ..] = digest;
    u32::from_be_bytes([first, second, third, fourth])
}

impl fmt::Display for WorkReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seq, nonce, token) = (self.id.seq(), self.id.nonce(), self.token.0);
        write!(f, "{seq:016x}{nonce:016x}{token:016x}{:08x}{:08x}", self.attempt, self.mark)
    }
}

impl FromStr for WorkReceipt {
    type Err = ();

    fn from_str(text: &str) -> Result<WorkReceipt, ()> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != DIGITS || !text.bytes().all(is_digit) {
            return Err(());
        }
        let mut rest = text;
        let mut next = |digits: usize| {
            let (part, behind) = rest.split_at_checked(digits).ok_or(())?;
            rest = behind;
            u64::from_str_radix(part, 16).map_err(|_| ())
        };
        let [seq, nonce, token, attempt, mark] = PARTS;
        let (seq, nonce, token) = (next(seq)?, next(nonce)?, next(token)?);
        let (attempt, mark) = (next(attempt)?, next(mark)?);
        let id = MessageId::new(seq, nonce);
        if (id.seq(), id.nonce()) != (seq, nonce) {
            return Err(());
        }
        let narrow = |number: u64| u32::try_from(number).map_err(|_| ());
        Ok(WorkReceipt { id, token: LeaseToken(token), attempt: narrow(attempt)?, mark: narrow(mark)? })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop where it fails")]
    use super::*;

    #[test]
    fn a_receipt_comes_back_as_it_was_and_fits_its_queue_alone() {
        let queue = WorkQueue::new("acme", "jobs").unwrap();
        let lease = Receipt { queue: queue.0.clone(), id: MessageId::new(7, 9), token: LeaseToken(u64::MAX) };
        let receipt = WorkReceipt::new(&queue, &lease, 3);
        let text = receipt.to_string();
        assert_eq!(text.parse(), Ok(receipt));
        assert_eq!((receipt.for_queue(&queue), receipt.attempt()), (Some(lease), 3));
        for (org, name) in [("acme", "job"), ("acm", "ejobs"), ("other", "jobs")] {
            assert_eq!(receipt.for_queue(&WorkQueue::new(org, name).unwrap()), None, "{org} {name}");
        }
        let (cut, long) = (&text[1..], format!("{text}0"));
        for wrong in ["", cut, &long, &text.to_uppercase(), &text.replace('0', "g"), &"é".repeat(32)] {
            assert!(wrong.parse::<WorkReceipt>().is_err(), "{wrong}");
        }
        // Another token or attempt of the same message, made up from a true receipt.
        let mut forged = text.into_bytes();
        let digit = forged.get_mut(40).expect("a receipt is longer");
        *digit = if *digit == b'1' { b'2' } else { b'1' };
        let forged: WorkReceipt = String::from_utf8(forged).unwrap().parse().unwrap();
        assert_eq!(forged.for_queue(&queue), None);
    }
}
