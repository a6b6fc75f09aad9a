//! How many connections there are, in all and of each address, and who gets in.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections of one listener.
pub(crate) struct Crowd {
    seats: Arc<Semaphore>,
    told: Arc<Semaphore>,
    per_address_max: usize,
    /// No entry is zero, so there are at most as many as connections.
    addresses: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's share, given back when dropped.
pub(crate) struct Share {
    crowd: Arc<Crowd>,
    address: Option<IpAddr>,
    is_seat: bool,
    _permit: OwnedSemaphorePermit,
}

impl Share {
    /// The connection is served; otherwise it is told that there are too many.
    pub(crate) fn is_seat(&self) -> bool {
        self.is_seat
    }
}

impl Crowd {
    pub(crate) fn new(connections_max: usize, per_address_max: usize, told_max: usize) -> Arc<Crowd> {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        Arc::new(Crowd {
            seats: semaphore(connections_max),
            told: semaphore(told_max),
            per_address_max: per_address_max.max(1),
            addresses: Mutex::new(HashMap::new()),
        })
    }

    /// The share of a connection from here. None: there are too many even of
    /// those that are told so, and it is to be closed.
    pub(crate) fn enter(self: &Arc<Crowd>, from: IpAddr) -> Option<Share> {
        let address = counted(from);
        if let Ok(permit) = Arc::clone(&self.seats).try_acquire_owned()
            && address.is_none_or(|address| self.count(address))
        {
            return Some(Share { crowd: Arc::clone(self), address, is_seat: true, _permit: permit });
        }
        let permit = Arc::clone(&self.told).try_acquire_owned().ok()?;
        Some(Share { crowd: Arc::clone(self), address: None, is_seat: false, _permit: permit })
    }

    /// Counts one more of this address, if it may have one.
    fn count(&self, address: IpAddr) -> bool {
        let mut addresses = self.addresses.lock();
        let count = addresses.entry(address).or_default();
        let fits = *count < self.per_address_max;
        *count += usize::from(fits);
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = self.crowd.addresses.lock();
        if let Some(count) = addresses.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// Whose connection it counts as. Not this machine's: its own programs need no
/// protection from each other, and a proxy here stands for everybody. IPv6: a
/// network of 64 bits, which is what one customer gets.
fn counted(from: IpAddr) -> Option<IpAddr> {
    match from.to_canonical() {
        IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST) => None,
        IpAddr::V4(address) => Some(IpAddr::V4(address)),
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Some(IpAddr::V6(Ipv6Addr::from(network)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enter(crowd: &Arc<Crowd>, from: &str) -> Option<Share> {
        crowd.enter(from.parse().expect("an address")).filter(Share::is_seat)
    }

    #[test]
    fn one_address_takes_its_share_and_no_more() {
        let crowd = Crowd::new(5, 2, 1);
        let first = enter(&crowd, "192.0.2.1");
        let second = enter(&crowd, "::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(enter(&crowd, "192.0.2.1").is_none(), "its third");
        let other = enter(&crowd, "192.0.2.2");
        assert!(other.is_some(), "another address");
        drop(first);
        let again = enter(&crowd, "192.0.2.1");
        assert!(again.is_some(), "one of its own has left");
        drop((second, other, again));
        assert!(crowd.addresses.lock().is_empty(), "nothing is remembered of who has left");
    }

    #[test]
    fn a_network_of_64_bits_counts_as_one_and_this_machine_not_at_all() {
        let crowd = Crowd::new(10, 1, 1);
        let one = enter(&crowd, "2001:db8::1");
        assert!(one.is_some());
        assert!(enter(&crowd, "2001:db8::ffff:2").is_none());
        let next = enter(&crowd, "2001:db8:0:1::1");
        assert!(next.is_some());
        let own: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::1"].map(|from| enter(&crowd, from)).into();
        assert!(own.iter().all(Option::is_some));
    }

    #[test]
    fn beyond_all_seats_some_are_told_and_the_rest_is_closed() {
        let crowd = Crowd::new(1, 10, 1);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let seat = crowd.enter(address);
        assert!(seat.as_ref().is_some_and(Share::is_seat));
        let told = crowd.enter(address);
        assert!(told.as_ref().is_some_and(|share| !share.is_seat()));
        assert!(crowd.enter(address).is_none());
        drop((seat, told));
        assert!(crowd.enter(address).is_some_and(|share| share.is_seat()));
    }
}
