//! What stands between a node and its server, and does to what passes what a test wants.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use turnwise_mock::Host;

/// What becomes of the answer to a request that holds certain words.
#[derive(Clone)]
pub(crate) enum Answer {
    /// The connection ends in its place, once.
    Cut,
    /// It comes so much later, always.
    Late(Duration),
    /// It waits: the first semaphore tells that it is here, the second one lets it pass.
    Held(Arc<Semaphore>, Arc<Semaphore>),
}

#[derive(Default)]
struct Shared {
    rule: Mutex<Option<(Vec<u8>, Answer)>>,
    /// How many requests held the words.
    caught: AtomicUsize,
    opened: AtomicUsize,
    /// Connections for hints that were opened before are silent.
    silent_before: AtomicUsize,
}

impl Shared {
    /// What becomes of the answer to this.
    fn catch(&self, request: &[u8]) -> Option<Answer> {
        let mut rule = self.rule.lock().unwrap();
        let (_, answer) = rule.clone().filter(|(words, _)| holds(request, words))?;
        self.caught.fetch_add(1, Ordering::SeqCst);
        if matches!(answer, Answer::Cut) {
            *rule = None;
        }
        Some(answer)
    }
}

/// Connections to a server, on a port of their own.
pub(crate) struct Wire {
    host: Host,
    shared: Arc<Shared>,
    deaf: watch::Sender<bool>,
}

impl Wire {
    /// In front of the server on this port.
    pub(crate) async fn to(port: u16) -> Wire {
        let (shared, (deaf, told)) = (Arc::new(Shared::default()), watch::channel(false));
        let its = Arc::clone(&shared);
        let serve = move |inside| {
            let (shared, mut told) = (Arc::clone(&its), told.clone());
            async move {
                if *told.borrow_and_update() {
                    // Open, and never a word.
                    let _end = told.wait_for(|is_deaf| !is_deaf).await;
                    return;
                }
                tokio::select! {
                    () = pass(inside, port, &shared) => {}
                    _ = told.wait_for(|is_deaf| *is_deaf) => {}
                }
            }
        };
        Wire { host: Host::start(serve).await.unwrap(), shared, deaf }
    }

    /// Its address as an engine takes it.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.host.address())
    }

    /// What becomes of answers to requests that hold these words, from now on.
    pub(crate) fn rule(&self, words: &str, answer: Answer) {
        self.shared.caught.store(0, Ordering::SeqCst);
        *self.shared.rule.lock().unwrap() = Some((words.as_bytes().to_vec(), answer));
    }

    /// How many requests held the words of the rule.
    pub(crate) fn caught(&self) -> usize {
        self.shared.caught.load(Ordering::SeqCst)
    }

    /// The connections for hints that are open now never bring a word again, and do not end.
    pub(crate) fn silence_hints(&self) {
        self.shared.silent_before.store(self.shared.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    /// Ends every connection, and answers nothing on new ones.
    pub(crate) fn go_deaf(&self) {
        self.deaf.send_replace(true);
    }

    /// Passes everything on again.
    pub(crate) fn hear_again(&self) {
        self.deaf.send_replace(false);
    }
}

fn holds(bytes: &[u8], words: &[u8]) -> bool {
    bytes.windows(words.len()).any(|window| window == words)
}

async fn pass(mut inside: TcpStream, port: u16, shared: &Shared) {
    let number = shared.opened.fetch_add(1, Ordering::SeqCst);
    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let (mut asked, mut told) = (vec![0; 65_536], vec![0; 65_536]);
    // What was asked since the last answer: words may come in pieces.
    let (mut request, mut is_for_hints, mut due) = (Vec::new(), false, None);
    loop {
        tokio::select! {
            read = inside.read(&mut asked) => {
                let Some(bytes) = read.ok().and_then(|length| asked.get(..length)).filter(|bytes| !bytes.is_empty())
                else { return };
                request.extend_from_slice(bytes);
                is_for_hints |= holds(&request, b"SUBSCRIBE");
                if due.is_none() {
                    due = shared.catch(&request);
                }
                if outside.write_all(bytes).await.is_err() { return }
            }
            read = outside.read(&mut told) => {
                let Some(bytes) = read.ok().and_then(|length| told.get(..length)).filter(|bytes| !bytes.is_empty())
                else { return };
                request.clear();
                match due.take() {
                    Some(Answer::Cut) => return,
                    Some(Answer::Late(by)) => tokio::time::sleep(by).await,
                    Some(Answer::Held(here, pass)) => {
                        here.add_permits(1);
                        pass.acquire().await.unwrap().forget();
                    }
                    None => {}
                }
                let is_silent = is_for_hints && number < shared.silent_before.load(Ordering::SeqCst);
                if !is_silent && inside.write_all(bytes).await.is_err() { return }
            }
        }
    }
}
