//! A machine that dies at any moment: its disk keeps what was synced, and any
//! part of what was not. What was acknowledged must be there (clauses Q1, X1).

use crate::{ack, claim, enqueue, event, message, queue, run, settle, ticking, topic};
use redb::StorageBackend;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use turnwise_core::{
    Dedup, Enqueued, LeaseToken, MessageId, NewMessage, QueueStore, Read, ReadFrom, Settled, TopicStore,
};
use turnwise_store::embedded::{EmbeddedConfig, EmbeddedStore};

/// Of three lives each. `TURNWISE_CRASH_SEEDS` asks for more.
const SEEDS: u64 = 100;
const SECTOR: usize = 512;

/// Pseudo-random numbers from a seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

/// A disk with a volatile cache that loses power after so many operations.
#[derive(Default)]
struct Disk {
    live: Vec<u8>,
    synced: Vec<u8>,
    unsynced: Vec<Unsynced>,
    operations_left: u64,
}

impl Disk {
    fn step(&mut self) -> io::Result<()> {
        self.operations_left = self.operations_left.saturating_sub(1);
        if self.operations_left == 0 { Err(io::Error::other("power lost")) } else { Ok(()) }
    }

    /// What is on the disk after power comes back.
    fn after_power_loss(&self, dice: &mut Dice) -> Vec<u8> {
        let mut image = self.synced.clone();
        for change in &self.unsynced {
            match change {
                Unsynced::Length(length) if dice.roll(2) == 0 => image.resize(*length, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write(at, data) => match dice.roll(4) {
                    0 => {}
                    1 => {
                        let sectors = data.chunks(SECTOR).enumerate();
                        for (n, sector) in sectors.filter(|_| dice.roll(2) == 0) {
                            overwrite(&mut image, at + n * SECTOR, sector);
                        }
                    }
                    _ => overwrite(&mut image, *at, data),
                },
            }
        }
        image
    }
}

fn overwrite(image: &mut Vec<u8>, at: usize, data: &[u8]) {
    if image.len() < at + data.len() {
        image.resize(at + data.len(), 0);
    }
    image[at..at + data.len()].copy_from_slice(data);
}

#[derive(Clone, Default)]
struct Power(Arc<Mutex<Disk>>);

impl std::fmt::Debug for Power {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Power")
    }
}

impl StorageBackend for Power {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        let from = usize::try_from(offset).unwrap();
        let bytes = disk.live.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        let length = usize::try_from(length).unwrap();
        disk.live.resize(length, 0);
        disk.unsynced.push(Unsynced::Length(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.step()?;
        for change in std::mem::take(&mut disk.unsynced) {
            match change {
                Unsynced::Length(length) => disk.synced.resize(length, 0),
                Unsynced::Write(at, data) => overwrite(&mut disk.synced, at, &data),
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        overwrite(&mut disk.live, at, data);
        disk.unsynced.push(Unsynced::Write(at, data.to_vec()));
        disk.step()
    }
}

/// What callers were told.
#[derive(Default)]
struct Told {
    sent: BTreeSet<u64>,
    enqueued: BTreeMap<u64, MessageId>,
    /// Settling began; the answer may have been lost.
    settling: BTreeSet<MessageId>,
    settled: BTreeSet<MessageId>,
    token: u64,
    appended: u64,
}

fn numbered(n: u64) -> NewMessage {
    let mut message = message(&n.to_le_bytes());
    message.payload = [&n.to_le_bytes()[..], &vec![n as u8; (n as usize % 7) * 900]].concat().into();
    let key = n.to_be_bytes().to_vec().into();
    message.dedup = Some(Dedup { key, window: Duration::from_secs(3600), content_hash: [n as u8; 16] });
    message
}

/// One caller: works until the store fails it.
async fn work(store: &EmbeddedStore, told: &RefCell<Told>, caller: u64, dice: &RefCell<Dice>) {
    for n in 0.. {
        let number = caller << 32 | n;
        let choice = dice.borrow_mut().roll(4);
        let failed = match choice {
            0 => match store.append(vec![event(&number.to_le_bytes())]).await {
                Ok(places) => {
                    let last = places[0].as_ref().unwrap().offset.0;
                    let before = told.borrow().appended;
                    told.borrow_mut().appended = before.max(last);
                    false
                }
                Err(_) => true,
            },
            1 => claim_and_settle(store, told, dice).await.is_err(),
            _ => {
                told.borrow_mut().sent.insert(number);
                match enqueue(store, numbered(number)).await {
                    Ok(id) => told.borrow_mut().enqueued.insert(number, id).is_some(),
                    Err(_) => true,
                }
            }
        };
        if failed {
            return;
        }
    }
}

async fn claim_and_settle(
    store: &EmbeddedStore,
    told: &RefCell<Told>,
    dice: &RefCell<Dice>,
) -> Result<(), ()> {
    let durable = dice.borrow_mut().roll(2) == 0;
    for held in store.claim(claim(2, durable)).await.map_err(drop)? {
        let LeaseToken(token) = held.receipt.token;
        let id = held.receipt.id;
        let highest = told.borrow().token.max(token);
        told.borrow_mut().token = highest;
        told.borrow_mut().settling.insert(id);
        let settled = settle(store, ack(held.receipt)).await.map_err(drop)?;
        assert_eq!(settled, Settled::Done);
        told.borrow_mut().settled.insert(id);
    }
    Ok(())
}

async fn check(store: &EmbeddedStore, told: &Told, seed: u64) {
    for (number, id) in &told.enqueued {
        let found = store.get(&queue(), vec![*id]).await.unwrap().pop().unwrap();
        if told.settled.contains(id) {
            assert_eq!(found, None, "seed {seed}: an acknowledged settle came back");
        } else if !told.settling.contains(id) {
            let found = found.unwrap_or_else(|| panic!("seed {seed}: an acknowledged enqueue is lost"));
            assert_eq!(found.payload, numbered(*number).payload, "seed {seed}");
        }
        let again = store.enqueue(vec![numbered(*number)]).await.unwrap();
        assert_eq!(again, [Ok(Enqueued::Duplicate(*id))], "seed {seed}: a dedup key is lost");
    }
    let read = store.read(&topic(), ReadFrom::Earliest, 1_000).await.unwrap();
    let Read::Events { events, .. } = read else { panic!("seed {seed}: a gap") };
    assert!(events.len() as u64 >= told.appended.min(1_000), "seed {seed}: an acknowledged event is lost");
    enqueue(store, message(b"one more")).await.unwrap();
    let held = store.claim(claim(1_000, true)).await.unwrap();
    assert!(held.iter().all(|held| held.receipt.token.0 > told.token), "seed {seed}: a token came again");
    assert!(!held.is_empty(), "seed {seed}");
}

fn config(dead: &Arc<AtomicBool>, seed: u64) -> EmbeddedConfig {
    let dead = Arc::clone(dead);
    EmbeddedConfig {
        page_cache_bytes: 1024 * 1024,
        check_on_open: seed.is_multiple_of(2),
        body_cache_bytes: 2_000,
        call_timeout: Duration::from_secs(20),
        on_fatal: Arc::new(move |_| dead.store(true, Ordering::SeqCst)),
        ..EmbeddedConfig::default()
    }
}

/// Lives several lives on one disk; each ends in the middle of something.
fn lives(seed: u64) -> usize {
    let dice = RefCell::new(Dice(seed));
    let clock = ticking();
    let told = RefCell::new(Told::default());
    let mut image = Vec::new();
    for _ in 0..3 {
        let dead = Arc::new(AtomicBool::new(false));
        let operations_left = 5 + dice.borrow_mut().roll(600);
        let disk = Disk { live: image.clone(), synced: image, unsynced: Vec::new(), operations_left };
        let power = Power(Arc::new(Mutex::new(disk)));
        // Power may fail while the store opens.
        if let Ok(store) =
            EmbeddedStore::open_with_backend(power.clone(), config(&dead, seed), Arc::clone(&clock))
        {
            run(async {
                let callers = (0..4)
                    .map(|caller| work(&store, &told, caller | dice.borrow_mut().roll(1 << 20) << 8, &dice));
                let callers: Vec<_> = callers.collect();
                futures_util::future::join_all(callers).await;
            });
            assert!(dead.load(Ordering::SeqCst), "seed {seed}: stopped without a reason");
        }
        image = power.0.lock().unwrap().after_power_loss(&mut dice.borrow_mut());
        let disk = Disk {
            live: image.clone(),
            synced: image.clone(),
            unsynced: Vec::new(),
            operations_left: u64::MAX,
        };
        let power = Power(Arc::new(Mutex::new(disk)));
        let store = EmbeddedStore::open_with_backend(power.clone(), config(&dead, seed), Arc::clone(&clock))
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        run(check(&store, &told.borrow(), seed));
        drop(store);
        image = power.0.lock().unwrap().live.clone();
        told.borrow_mut().enqueued.retain(|_, _| false);
    }
    let told = told.into_inner();
    told.sent.len()
}

/// One deliberate fault, to see this test catch it.
fn switch_mutant_on() {
    #[cfg(debug_assertions)]
    if let Ok(name) = std::env::var("TURNWISE_MUTANT") {
        use turnwise_store::mutants::{Mutant, set};
        set(Some(Mutant::named(&name).expect("a fault of this name")));
    }
}

#[test]
fn acknowledged_work_survives_a_power_loss_at_any_moment() {
    switch_mutant_on();
    let seeds = std::env::var("TURNWISE_CRASH_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let worked: usize = std::thread::scope(|scope| {
        let share = |first| move || (first..seeds).step_by(threads as usize).map(lives).sum::<usize>();
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(share(first))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{seeds} seeds, {worked} messages sent");
    assert!(worked as u64 > seeds * 10, "only {worked} messages were sent: the test tests nothing");
}
