//! Who may be tried now: a share for every host, and less for one that is slow.

use std::collections::HashMap;
use std::time::Duration;

use crate::limits::{
    CALLBACK_DEFERRED_MAX, CALLBACK_DEFERRED_MIN, CALLBACK_DEFERRED_STEP, CALLBACK_HOSTS_MAX,
    CALLBACK_SLOW_AFTER, CALLBACK_SLOW_HOST_SLOTS,
};

/// What to do with a callback for some host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Its slot is taken.
    Run,
    /// The host has no free slot, but will soon.
    Hold,
    /// The host is slow: back to the store.
    Defer(Duration),
}

#[derive(Default)]
struct Host {
    active: u32,
    slow: bool,
    /// Sent back since a try last went quickly.
    deferred: u32,
}

/// The slots of this node, by host and port.
pub(super) struct Slots {
    host_max: u32,
    hosts: HashMap<String, Host>,
}

impl Slots {
    pub(super) fn new(host_max: u32) -> Slots {
        Slots { host_max, hosts: HashMap::new() }
    }

    pub(super) fn admit(&mut self, host: &str) -> Admission {
        if !self.hosts.contains_key(host) {
            self.make_room();
            self.hosts.insert(host.to_owned(), Host::default());
        }
        let Some(known) = self.hosts.get_mut(host) else { return Admission::Hold };
        let max = if known.slow { self.host_max.min(CALLBACK_SLOW_HOST_SLOTS) } else { self.host_max };
        if known.active < max {
            known.active += 1;
            return Admission::Run;
        }
        if known.slow { Admission::Defer(known.defer()) } else { Admission::Hold }
    }

    /// One was held for too long: the host is slow.
    pub(super) fn defer(&mut self, host: &str) -> Duration {
        let known = self.hosts.entry(host.to_owned()).or_default();
        known.slow = true;
        known.defer()
    }

    /// A try has ended. One whose host was not asked says nothing about the host.
    pub(super) fn ended(&mut self, host: &str, took: Option<Duration>) {
        let Some(known) = self.hosts.get_mut(host) else { return };
        known.active = known.active.saturating_sub(1);
        if let Some(took) = took {
            known.slow = took >= CALLBACK_SLOW_AFTER;
            if !known.slow {
                known.deferred = 0;
            }
        }
    }

    /// Forgets hosts with nothing in progress, the quick ones first.
    fn make_room(&mut self) {
        if self.hosts.len() >= CALLBACK_HOSTS_MAX {
            self.hosts.retain(|_, host| host.active > 0 || host.slow);
        }
        if self.hosts.len() >= CALLBACK_HOSTS_MAX {
            self.hosts.retain(|_, host| host.active > 0);
        }
    }
}

impl Host {
    /// Each waits longer than the one before, so that few come back at once.
    fn defer(&mut self) -> Duration {
        let more = CALLBACK_DEFERRED_STEP.saturating_mul(self.deferred);
        self.deferred = self.deferred.saturating_add(1);
        CALLBACK_DEFERRED_MIN.saturating_add(more).min(CALLBACK_DEFERRED_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_host_gets_few_slots_until_it_is_quick_again() {
        let mut slots = Slots::new(4);
        for _ in 0..4 {
            assert_eq!(slots.admit("a:443"), Admission::Run);
        }
        assert_eq!(slots.admit("a:443"), Admission::Hold);
        assert_eq!(slots.admit("b:443"), Admission::Run);
        let first = slots.defer("a:443");
        for _ in 0..3 {
            slots.ended("a:443", Some(CALLBACK_SLOW_AFTER));
        }
        assert_eq!(slots.admit("a:443"), Admission::Run);
        assert!(matches!(slots.admit("a:443"), Admission::Defer(wait) if wait > first));
        slots.ended("a:443", Some(Duration::ZERO));
        for _ in 0..3 {
            assert_eq!(slots.admit("a:443"), Admission::Run);
        }
        assert_eq!(slots.admit("a:443"), Admission::Hold);
    }

    #[test]
    fn a_try_that_never_left_says_nothing_about_its_host() {
        let mut slots = Slots::new(3);
        let fill = |slots: &mut Slots| while slots.admit("a:443") == Admission::Run {};
        fill(&mut slots);
        slots.ended("a:443", None);
        fill(&mut slots);
        assert_eq!(slots.admit("a:443"), Admission::Hold, "not slow by it");
        for _ in 0..3 {
            slots.ended("a:443", Some(CALLBACK_SLOW_AFTER));
        }
        fill(&mut slots);
        slots.ended("a:443", None);
        fill(&mut slots);
        assert!(matches!(slots.admit("a:443"), Admission::Defer(_)), "nor quick");
    }

    #[test]
    fn only_so_many_hosts_are_remembered() {
        let mut slots = Slots::new(1);
        for n in 0..3 * CALLBACK_HOSTS_MAX {
            assert_eq!(slots.admit(&n.to_string()), Admission::Run);
            slots.ended(&n.to_string(), Some(CALLBACK_SLOW_AFTER));
        }
        assert!(slots.hosts.len() <= CALLBACK_HOSTS_MAX);
    }
}
