//! Waking the readers of a feed, a group at a time. Who is woken early in a
//! round has written by the time the last is, and meanwhile there may be more:
//! then the rest of the round finds it together with what they are woken for,
//! and each connection is written to once for all of it.

use crate::limits::BELL_READERS;
use parking_lot::Mutex;
use tokio::sync::watch;

/// One bell for each group of readers.
#[derive(Default)]
pub(super) struct Bells(Mutex<Round>);

#[derive(Default)]
struct Round {
    groups: Vec<Group>,
    /// The group whose turn is next.
    next: usize,
}

struct Group {
    bell: watch::Sender<()>,
    /// The news it was woken for last.
    told: u64,
}

impl Bells {
    /// Takes part: woken for what is newer than `news`.
    pub(super) fn hear(&self, news: u64) -> watch::Receiver<()> {
        let mut round = self.0.lock();
        while round.groups.pop_if(|group| group.bell.receiver_count() == 0).is_some() {}
        if let Some(group) = round.groups.iter_mut().find(|group| group.bell.receiver_count() < BELL_READERS)
        {
            return group.bell.subscribe();
        }
        let bell = watch::Sender::new(());
        let heard = bell.subscribe();
        round.groups.push(Group { bell, told: news });
        heard
    }

    /// Wakes the next group that was not woken for `news` yet; false if there is none.
    pub(super) fn ring(&self, news: u64) -> bool {
        let mut round = self.0.lock();
        for _ in 0..round.groups.len() {
            let turn = round.next % round.groups.len();
            round.next = turn + 1;
            let Some(group) = round.groups.get_mut(turn) else { break };
            if group.told < news && group.bell.receiver_count() > 0 {
                group.told = news;
                group.bell.send_replace(());
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn each_group_is_woken_once_for_what_is_new_and_those_that_wait_longest_first() {
        let bells = Bells::default();
        let mut readers: Vec<watch::Receiver<()>> = (0..BELL_READERS * 3).map(|_| bells.hear(0)).collect();
        let mut woken = || -> Vec<usize> {
            let of = |(at, reader): (usize, &mut watch::Receiver<()>)| {
                reader.has_changed().unwrap().then(|| reader.mark_unchanged()).map(|()| at / BELL_READERS)
            };
            let mut groups: Vec<usize> = readers.iter_mut().enumerate().filter_map(of).collect();
            groups.dedup();
            groups
        };
        assert!(!bells.ring(0));
        assert!(bells.ring(1));
        assert_eq!(woken(), [0]);
        // More comes meanwhile: the others first, for both.
        assert!(bells.ring(2));
        assert_eq!(woken(), [1]);
        assert!(bells.ring(2));
        assert_eq!(woken(), [2]);
        assert!(bells.ring(2));
        assert_eq!(woken(), [0]);
        assert!(!bells.ring(2));
        assert_eq!(woken(), [0; 0]);
    }

    #[test]
    fn a_place_that_is_left_is_taken_again() {
        let bells = Bells::default();
        let mut readers: Vec<watch::Receiver<()>> = (0..BELL_READERS * 2).map(|_| bells.hear(0)).collect();
        readers.remove(0);
        readers.push(bells.hear(7));
        assert_eq!(bells.0.lock().groups.len(), 2);
        readers.clear();
        assert!(!bells.ring(8));
        readers.push(bells.hear(8));
        assert_eq!(bells.0.lock().groups.len(), 1);
    }
}
