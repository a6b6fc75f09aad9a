//! Readers of one topic and who publishes to it. Readers do not take the protocol apart: they look for a marker with
//! the time and the number of an event, the same for every server, so that the client costs little and the same.

use super::publisher::Publisher;
use super::target::{Over, Target};
use crate::cli::bench::load::{histogram, note};
use crate::cli::bench::unmeasured;
use crate::failure::Failure;
use hdrhistogram::Histogram;
use memchr::memmem::Finder;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

/// Before the time and the number of an event.
const MARK: &[u8] = b"@@T=";
/// Hexadecimal digits of its time in microseconds, and of its number.
const TIME_DIGITS: usize = 12;
const NUMBER_DIGITS: usize = 8;
const MARK_BYTES: usize = MARK.len() + TIME_DIGITS + NUMBER_DIGITS;
const BUFFER_BYTES: usize = 32 * 1024;
/// A reader that has not begun by then has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the last events are waited for.
const LAST: Duration = Duration::from_secs(10);
/// Readers that begin at once.
const AT_ONCE: usize = 64;
/// What the socket of a reader that stops holds.
const STOPPED_SOCKET_BYTES: u32 = 4_096;

/// How events are published.
#[derive(Clone, Copy)]
pub(super) enum Pace {
    /// So many are on their way to readers at most.
    Window(u64),
    /// So many a second.
    Rate(u64),
}

/// What came of it.
pub(super) struct Fanned {
    pub(super) deliveries: u64,
    pub(super) elapsed: Duration,
    pub(super) cpu: Duration,
}

impl Fanned {
    pub(super) fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    pub(super) fn per_cpu_second(&self) -> f64 {
        self.deliveries as f64 / self.cpu.as_secs_f64().max(1e-9)
    }
}

struct Seen {
    began: Instant,
    delivered: AtomicU64,
    /// The number of deliveries that somebody waits for.
    due: AtomicU64,
    is_due: Notify,
    /// Numbers that did not follow the one before.
    wrong: AtomicU64,
}

impl Seen {
    fn new(began: Instant) -> Arc<Seen> {
        let (delivered, due, wrong) = Default::default();
        Arc::new(Seen { began, delivered, due, is_due: Notify::new(), wrong })
    }

    fn deliver(&self) {
        let delivered = self.delivered.fetch_add(1, Ordering::SeqCst) + 1;
        if delivered == self.due.load(Ordering::SeqCst) {
            self.is_due.notify_one();
        }
    }

    /// Waits for so many deliveries; for one caller at a time.
    async fn reaches(&self, due: u64) {
        self.due.store(due, Ordering::SeqCst);
        while self.delivered.load(Ordering::SeqCst) < due {
            self.is_due.notified().await;
        }
    }
}

/// So many readers of a target.
pub(super) struct Readers {
    target: Target,
    over: Over,
    count: u64,
    seen: Arc<Seen>,
    reading: JoinSet<Histogram<u64>>,
    end: watch::Sender<bool>,
    published: u64,
}

impl Readers {
    /// Opens them all.
    pub(super) async fn open(target: &Target, over: Over, count: u64) -> Result<Readers, Failure> {
        let seen = Seen::new(Instant::now());
        let (end, ended) = watch::channel(false);
        let mut readers = Readers {
            target: target.clone(),
            over,
            count,
            seen: Arc::clone(&seen),
            reading: JoinSet::new(),
            end,
            published: 0,
        };
        let mut opening = JoinSet::new();
        for left in (0..count).rev() {
            let target = target.clone();
            opening.spawn(async move { timeout(PATIENCE, begin(&target, over, None)).await });
            while opening.len() >= AT_ONCE || (left == 0 && !opening.is_empty()) {
                let opened =
                    opening.join_next().await.transpose().map_err(|it| unmeasured("a reader failed", it))?;
                let Some(opened) = opened else { break };
                let begun = opened.map_err(|it| unmeasured("a reader did not begin", it))??;
                readers.reading.spawn(read(begun, Arc::clone(&seen), ended.clone()));
            }
        }
        Ok(readers)
    }

    /// Publishes for so long, and waits until all is delivered.
    pub(super) async fn run(
        &mut self,
        pace: Pace,
        length: Duration,
        bytes: usize,
    ) -> Result<Fanned, Failure> {
        let mut publisher = Publisher::connect(&self.target).await?;
        let before = self.seen.delivered.load(Ordering::SeqCst);
        let (began, cpu) = (Instant::now(), self.target.cpu()?);
        let mut sent: u64 = 0;
        let end = began + length;
        while Instant::now() < end {
            match pace {
                Pace::Window(window) => {
                    let passed =
                        sent.checked_sub(window).map_or(before, |last| before + last * self.count + 1);
                    if timeout_at(end, self.seen.reaches(passed)).await.is_err() {
                        break;
                    }
                }
                Pace::Rate(rate) => {
                    sleep_until(began + Duration::from_secs(sent) / u32::try_from(rate).unwrap_or(1)).await;
                }
            }
            publisher.publish(&self.event(bytes)).await?;
            sent += 1;
            self.published += 1;
        }
        publisher.close(LAST).await?;
        let due = before + sent * self.count;
        if timeout(LAST, self.seen.reaches(due)).await.is_err() {
            return Err(unmeasured("events did not come to all readers", format!("{due} were due")));
        }
        let (elapsed, cpu) = (began.elapsed(), self.target.cpu()?.saturating_sub(cpu));
        match self.seen.wrong.load(Ordering::SeqCst) {
            0 => Ok(Fanned { deliveries: due - before, elapsed, cpu }),
            some => Err(unmeasured("events were lost, doubled or out of order", some)),
        }
    }

    fn event(&self, bytes: usize) -> String {
        let micros = self.seen.began.elapsed().as_micros();
        let number = self.published;
        let mut event = format!("@@T={micros:0TIME_DIGITS$x}{number:0NUMBER_DIGITS$x}");
        event.extend(std::iter::repeat_n('.', bytes.saturating_sub(event.len())));
        event
    }

    /// Ends them; the times of all deliveries.
    pub(super) async fn close(mut self) -> Result<Histogram<u64>, Failure> {
        let _nobody_listens = self.end.send(true);
        let mut all = histogram();
        while let Some(times) = self.reading.join_next().await {
            let times = times.map_err(|error| unmeasured("a reader failed", error))?;
            all.add(&times).map_err(|error| unmeasured("the times do not fit", error))?;
        }
        Ok(all)
    }

    /// One more, who stops reading as soon as it has begun; and its place, to go on from.
    pub(super) async fn stopped(&self) -> Result<(TcpStream, Option<String>), Failure> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(STOPPED_SOCKET_BYTES)?;
        let stream = socket.connect(self.target.address).await?;
        let begun = begin_on(stream, &self.target, self.over, None).await?;
        Ok((begun.stream, self.target.place(self.over, &begun.answer)))
    }

    /// Reads on from a place until the newest event; whether all that were published since were there, in order.
    pub(super) async fn resumes(&self, place: &str, from: u64) -> Result<bool, Failure> {
        let begun = begin(&self.target, self.over, Some(place)).await?;
        let seen = Seen::new(self.seen.began);
        let (end, ended) = watch::channel(false);
        let mut reading = JoinSet::new();
        reading.spawn(read(begun, Arc::clone(&seen), ended));
        let due = self.published - from;
        let came = timeout(LAST, seen.reaches(due)).await.is_ok();
        let _nobody_listens = end.send(true);
        while let Some(read) = reading.join_next().await {
            read.map_err(|error| unmeasured("a reader failed", error))?;
        }
        Ok(came && seen.wrong.load(Ordering::SeqCst) == 0)
    }

    /// Events published so far.
    pub(super) fn published(&self) -> u64 {
        self.published
    }
}

/// A reader behind its handshake.
struct Begun {
    stream: TcpStream,
    /// All that was read.
    answer: Vec<u8>,
    /// So much of it belongs to the handshake.
    head: usize,
}

async fn begin(target: &Target, over: Over, after: Option<&str>) -> Result<Begun, Failure> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    begin_on(stream, target, over, after).await
}

/// Goes through the handshake.
async fn begin_on(
    mut stream: TcpStream,
    target: &Target,
    over: Over,
    after: Option<&str>,
) -> Result<Begun, Failure> {
    let (mut answer, mut head) = (Vec::new(), 0);
    for (said, wanted) in target.hello(over, after) {
        stream.write_all(&said).await?;
        let finder = Finder::new(wanted);
        head += loop {
            if let Some(at) = finder.find(answer.get(head..).unwrap_or_default()) {
                break at + wanted.len();
            }
            if answer.len() > BUFFER_BYTES || stream.read_buf(&mut answer).await? == 0 {
                let text = String::from_utf8_lossy(&answer).into_owned();
                return Err(unmeasured("a reader was refused", text));
            }
        };
    }
    Ok(Begun { stream, answer, head })
}

async fn read(begun: Begun, seen: Arc<Seen>, mut ended: watch::Receiver<bool>) -> Histogram<u64> {
    let Begun { mut stream, answer, head } = begun;
    let finder = Finder::new(MARK);
    let (mut times, mut last) = (histogram(), None);
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER_BYTES);
    buffer.extend_from_slice(answer.get(head..).unwrap_or_default());
    drop(answer);
    loop {
        take(&mut buffer, &finder, &seen, &mut times, &mut last);
        let came = tokio::select! {
            biased;
            came = stream.read_buf(&mut buffer) => came,
            _ = ended.changed() => return times,
        };
        if !matches!(came, Ok(1..)) {
            // A reader that was closed leaves deliveries out, which are missed.
            return times;
        }
    }
}

/// Notes all whole marks, and leaves what may be the beginning of one.
fn take(
    buffer: &mut Vec<u8>,
    finder: &Finder<'_>,
    seen: &Seen,
    times: &mut Histogram<u64>,
    last: &mut Option<u64>,
) {
    let now = seen.began.elapsed();
    let mut at = 0;
    while let Some(mark) = finder.find(buffer.get(at..).unwrap_or_default()) {
        let from = at + mark;
        let Some(text) = buffer.get(from + MARK.len()..from + MARK_BYTES) else { break };
        let (time, number) = text.split_at(TIME_DIGITS);
        let hex = |text: &[u8]| u64::from_str_radix(std::str::from_utf8(text).unwrap_or(""), 16).ok();
        let (Some(time), Some(number)) = (hex(time), hex(number)) else { break };
        note(times, now.saturating_sub(Duration::from_micros(time)));
        if last.is_some_and(|last| number != last + 1) {
            seen.wrong.fetch_add(1, Ordering::SeqCst);
        }
        *last = Some(number);
        seen.deliver();
        at = from + MARK_BYTES;
    }
    let rest = buffer.get(at..).unwrap_or_default();
    let keep = finder.find(rest).map_or(rest.len().min(MARK.len() - 1), |mark| rest.len() - mark);
    buffer.drain(..buffer.len() - keep);
}
