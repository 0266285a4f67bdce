//! The space quota: the objects never have more bytes than it, but for the reserve and for what was on its way when it was
//! reached.

use std::collections::BTreeMap;

use copepod_state::Tables;
use copepod_state::quota::{SLACK, alarm};

use super::Broken;

/// What is known of it.
pub struct Quota {
    limit: u64,
    full: bool,
    bound: u64,
    /// The most that were on their way at once since then: each may still take what the reserve gives to one.
    most: u64,
    /// What servers have let in and nobody has applied, by tag.
    pending: BTreeMap<u64, u64>,
}

impl Quota {
    /// With `limit` bytes, 0 for none.
    pub fn new(limit: u64) -> Quota {
        Quota { limit, full: false, bound: 0, most: 0, pending: BTreeMap::new() }
    }

    /// A server let a transaction in.
    pub fn admitted(&mut self, tag: u64, bytes: usize) {
        self.pending.insert(tag, bytes as u64);
        self.most = self.most.max(self.pending.len() as u64);
    }

    /// It came to nothing.
    pub fn refused(&mut self, tag: u64) {
        self.pending.remove(&tag);
    }

    /// It was applied, and has led to `tables`.
    pub fn applied(&mut self, tag: u64, tables: &Tables) -> Result<(), Broken> {
        self.pending.remove(&tag);
        if self.limit == 0 {
            return Ok(());
        }
        let used = tables.total_bytes() as u64;
        let before = self.full;
        self.full = alarm(self.full, used, self.limit);
        if self.full && !before {
            let way: u64 = self.pending.values().sum();
            self.bound = used.max(self.limit + self.limit / 20) + way;
            self.most = self.pending.len() as u64;
        }
        let bound = self.bound + (1 + self.most) * SLACK as u64;
        if self.full && used > bound {
            let limit = self.limit;
            return Err(("quota", format!("transaction {tag} led to {used} bytes of {limit}, {bound} may be")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made;

    /// What objects of so many bytes each come to, one after the other.
    fn fill(limit: u64, on_their_way: &[usize], sizes: &[usize]) -> Result<(), Broken> {
        let (mut quota, mut tables) = (Quota::new(limit), Tables::default());
        for (i, bytes) in on_their_way.iter().enumerate() {
            quota.admitted(100 + i as u64, *bytes);
        }
        sizes.iter().enumerate().try_for_each(|(i, bytes)| {
            let object = json!({
                "metadata": {"name": format!("n{i}"), "namespace": "d"}, "data": {"value": "x".repeat(*bytes)},
            });
            made::put(&mut tables, "configmaps", &object);
            quota.applied(i as u64, &tables)
        })
    }

    #[test]
    fn what_grows_beyond_the_reserve_is_found() {
        fill(10_000, &[], &[9_000]).unwrap();
        fill(10_000, &[], &[11_000, SLACK / 2]).unwrap();
        assert!(fill(10_000, &[], &[11_000, SLACK / 2, SLACK]).is_err());
        // What was let in before counts.
        fill(10_000, &[SLACK], &[11_000, SLACK / 2, SLACK]).unwrap();
        fill(0, &[], &[11_000, SLACK, SLACK]).unwrap();
    }
}
