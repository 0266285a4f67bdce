//! Room for a number of things at once, of which nobody gets all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::access::counted;

/// How much is under way, altogether and for each client.
pub(crate) struct Room {
    total: usize,
    each: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    total: usize,
    /// Only clients that have something under way.
    by_client: HashMap<IpAddr, usize>,
}

/// A place; dropping it gives it back.
pub(crate) struct Place {
    room: Arc<Room>,
    client: IpAddr,
}

impl Room {
    /// Room for `total` things, for `each` of one client.
    pub(crate) fn new(total: usize, each: usize) -> Arc<Room> {
        Arc::new(Room { total, each, held: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for `client`, if there is one.
    pub(crate) fn enter(self: &Arc<Room>, client: IpAddr) -> Option<Place> {
        let client = counted(client);
        let mut held = self.lock();
        let own = held.by_client.get(&client).copied().unwrap_or(0);
        if held.total >= self.total || own >= self.each {
            return None;
        }
        held.total += 1;
        held.by_client.insert(client, own + 1);
        Some(Place { room: self.clone(), client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.room.lock();
        held.total = held.total.saturating_sub(1);
        match held.by_client.get_mut(&self.client) {
            Some(n) if *n > 1 => *n -= 1,
            _ => drop(held.by_client.remove(&self.client)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all() {
        let (a, b): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let room = Room::new(3, 2);
        let places: Vec<Place> = [room.enter(a), room.enter(a)].into_iter().flatten().collect();
        assert_eq!(places.len(), 2);
        assert!(room.enter(a).is_none(), "its share");
        let last = room.enter(b);
        assert!(last.is_some() && room.enter(b).is_none(), "all");
        drop((places, last));
        let nobodys: Vec<Option<Place>> = (0..4).map(|_| room.enter(IpAddr::from([0; 4]))).collect();
        assert_eq!(nobodys.iter().flatten().count(), 2, "no address stands for more than one");
        drop(nobodys);
        let held = room.lock();
        assert!(held.total == 0 && held.by_client.is_empty());
    }
}
