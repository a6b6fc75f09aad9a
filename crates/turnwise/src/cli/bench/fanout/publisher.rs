//! Who publishes: requests over one connection, written without waiting for their answers, which a task of its own
//! takes. A server reads the next one as soon as it can, and is never idle for want of it.

use super::target::Target;
use crate::cli::bench::unmeasured;
use crate::cli::bench::wire::{next_answer, write_post};
use crate::failure::Failure;
use bytes::BytesMut;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Publishes ahead of their answers at most.
const AHEAD_MAX: u32 = 64;

pub(super) struct Publisher {
    target: Target,
    stream: OwnedWriteHalf,
    out: Vec<u8>,
    /// A permit for each that may be ahead; closed when there will be no more answers.
    ahead: Arc<Semaphore>,
    /// One task, which ends when an answer is not as it should be.
    answers: JoinSet<Failure>,
}

impl Publisher {
    pub(super) async fn connect(target: &Target) -> Result<Publisher, Failure> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let (reader, stream) = stream.into_split();
        let ahead = Arc::new(Semaphore::new(AHEAD_MAX as usize));
        let mut answers = JoinSet::new();
        let answered = Arc::clone(&ahead);
        answers.spawn(async move {
            let failure = take(reader, &answered).await;
            answered.close();
            failure
        });
        Ok(Publisher { target: target.clone(), stream, out: Vec::new(), ahead, answers })
    }

    /// Hands it to the system, as soon as it is not too far ahead of the answers.
    pub(super) async fn publish(&mut self, event: &str) -> Result<(), Failure> {
        if self.ahead.acquire().await.map(SemaphorePermit::forget).is_err() {
            return Err(self.failure().await);
        }
        let (path, body) = self.target.publish(event);
        self.out.clear();
        write_post(&mut self.out, &self.target.address.to_string(), path, body.as_bytes())?;
        self.stream.write_all(&self.out).await.map_err(|error| unmeasured("publishing failed", error))
    }

    /// All were answered, with success.
    pub(super) async fn close(mut self, patience: Duration) -> Result<(), Failure> {
        let all = timeout(patience, self.ahead.acquire_many(AHEAD_MAX)).await;
        match all.map(|all| all.map(drop)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.failure().await),
            Err(_) => {
                let left = AHEAD_MAX as usize - self.ahead.available_permits();
                Err(unmeasured("events were published and not answered", left))
            }
        }
    }

    async fn failure(&mut self) -> Failure {
        match self.answers.join_next().await {
            Some(Ok(failure)) => failure,
            Some(Err(error)) => unmeasured("who takes the answers failed", error),
            None => unmeasured("publishing failed", "there are no more answers"),
        }
    }
}

/// Gives a permit back for each answer, until one is not as it should be.
async fn take(mut stream: OwnedReadHalf, ahead: &Semaphore) -> Failure {
    let mut read = BytesMut::new();
    loop {
        match next_answer(&mut stream, &mut read).await {
            Ok((200..=299, _)) => ahead.add_permits(1),
            Ok((status, body)) => {
                let body = String::from_utf8_lossy(&body);
                return unmeasured("publishing was refused", format!("{status} {body}"));
            }
            Err(error) => return unmeasured("publishing failed", error),
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test stops where it is wrong")]

    use super::super::target::Server;
    use super::*;
    use futures_util::FutureExt;
    use tokio::net::TcpListener;
    use tokio::task::unconstrained;

    const GOOD: &[u8] = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n{}";
    const BAD: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";

    /// What becomes of some publishes when a server says this, and then goes or says no more.
    async fn check(publishes: u32, answers: &[&[u8]], and_goes: bool) -> Result<(), Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target =
            Target { server: Server::Turnwise, address: listener.local_addr().unwrap(), pids: Vec::new() };
        let mut publisher = Publisher::connect(&target).await?;
        let (mut server, _) = listener.accept().await.unwrap();
        for number in 0..publishes {
            let published = unconstrained(publisher.publish("event")).now_or_never();
            assert_eq!(published.is_some(), number < AHEAD_MAX, "{number}");
        }
        server.write_all(&answers.concat()).await.unwrap();
        if and_goes {
            server.shutdown().await.unwrap();
        }
        publisher.close(Duration::from_millis(100)).await
    }

    #[tokio::test]
    async fn every_publish_is_answered_with_success_or_it_fails() {
        assert!(check(3, &[GOOD, GOOD, GOOD], false).await.is_ok());
        for (answers, and_goes, why) in [
            (vec![GOOD, GOOD], false, "1"),
            (vec![GOOD, GOOD], true, "end of file"),
            (vec![GOOD, BAD, GOOD], false, "503 busy"),
        ] {
            let failure = check(3, &answers, and_goes).await.unwrap_err();
            assert!(failure.detail.contains(why), "{failure:?}");
        }
    }

    #[tokio::test]
    async fn publishes_are_not_too_far_ahead_of_their_answers() {
        assert!(check(AHEAD_MAX + 1, &[GOOD; AHEAD_MAX as usize], false).await.is_ok());
    }
}
