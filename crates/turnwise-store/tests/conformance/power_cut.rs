//! A disk in memory that remembers what was synced, and forgets the rest in a
//! power cut: unsynced writes are kept, lost or torn, each on its own. It can
//! also hang: every operation then blocks until it is let go on.

use redb::StorageBackend;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use turnwise_testkit::Prng;

/// The unit a disk writes whole.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    /// How to get back to what was synced, newest last.
    undo: Vec<Unsynced>,
    /// What was done since, oldest first.
    redo: Vec<Unsynced>,
}

/// Whether the disk hangs, and the bell for those who wait.
#[derive(Debug, Default)]
struct Gate {
    hangs: Mutex<bool>,
    bell: Condvar,
}

/// A handle on one simulated disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct PowerCutDisk(Arc<Mutex<State>>, Arc<Gate>);

fn apply(bytes: &mut Vec<u8>, change: &Unsynced) {
    match change {
        Unsynced::Write(at, data) => {
            let end = at + data.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[*at..end].copy_from_slice(data);
        }
        Unsynced::Length(length) => bytes.resize(*length, 0),
    }
}

fn place(number: u64) -> usize {
    usize::try_from(number).expect("a test disk is small")
}

impl PowerCutDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        let hangs = self.1.hangs.lock().unwrap();
        drop(self.1.bell.wait_while(hangs, |hangs| *hangs).unwrap());
        self.0.lock().unwrap()
    }

    /// Blocks every operation from now on, or lets them go on.
    pub(crate) fn hang(&self, hangs: bool) {
        *self.1.hangs.lock().unwrap() = hangs;
        self.1.bell.notify_all();
    }

    /// What another machine would find on this disk after a power cut now.
    pub(crate) fn cut(&self, random: &mut Prng) -> PowerCutDisk {
        let state = self.state();
        let mut bytes = state.now.clone();
        for change in state.undo.iter().rev() {
            apply(&mut bytes, change);
        }
        for change in &state.redo {
            match (random.below(3), change) {
                (0, change) => apply(&mut bytes, change),
                (1, Unsynced::Write(at, data)) => {
                    let sectors = data.len() / SECTOR;
                    let kept = place(random.below(sectors as u64 + 1)) * SECTOR;
                    apply(&mut bytes, &Unsynced::Write(*at, data[..kept].to_vec()));
                }
                // The length is metadata and kept here: a file system that loses it makes a shorter file.
                (_, change @ Unsynced::Length(_)) => apply(&mut bytes, change),
                (_, Unsynced::Write(..)) => {}
            }
        }
        let state = State { now: bytes, undo: Vec::new(), redo: Vec::new() };
        PowerCutDisk(Arc::new(Mutex::new(state)), Arc::default())
    }
}

impl StorageBackend for PowerCutDisk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let at = place(offset);
        let found = state.now.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let (before, after) = (state.now.len(), place(len));
        if after < before {
            let cut = state.now[after..].to_vec();
            state.undo.push(Unsynced::Write(after, cut));
        } else {
            state.undo.push(Unsynced::Length(before));
        }
        state.now.resize(after, 0);
        state.redo.push(Unsynced::Length(after));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        state.undo.clear();
        state.redo.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let at = place(offset);
        let end = at + data.len();
        if end > state.now.len() {
            let before = state.now.len();
            state.undo.push(Unsynced::Length(before));
            state.now.resize(end, 0);
        }
        let old = state.now[at..end].to_vec();
        state.undo.push(Unsynced::Write(at, old));
        state.now[at..end].copy_from_slice(data);
        state.redo.push(Unsynced::Write(at, data.to_vec()));
        Ok(())
    }
}
