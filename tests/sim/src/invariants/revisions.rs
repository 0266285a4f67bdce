//! Revisions rise by one, whoever leads; a server never shows an older one.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_state::Change;

use super::Broken;

/// What servers have shown.
#[derive(Default)]
pub struct Revisions {
    /// Up to which revision each process has shown the objects.
    shown: BTreeMap<u64, u64>,
}

impl Revisions {
    /// Another process of server `id` runs, and may begin where its disk is.
    pub fn started(&mut self, id: u64) {
        self.shown.remove(&id);
    }

    /// What a process shows only rises, as long as it lives.
    pub fn shows(&mut self, id: u64, revision: u64) -> Result<(), Broken> {
        let before = self.shown.insert(id, revision).unwrap_or(0);
        if before <= revision {
            return Ok(());
        }
        Err(("revisions", format!("server {id} showed revision {revision} after {before}")))
    }
}

/// Checks an entry that was applied for the first time, `before` and `after` which revisions: each of its changes has the next one.
pub fn check(index: u64, before: u64, changes: &[Arc<Change>], after: u64) -> Result<(), Broken> {
    let mut revision = before;
    for change in changes {
        revision += 1;
        if change.revision != revision {
            return Err(("revisions", format!("entry {index} made revision {} after {revision}", change.revision)));
        }
    }
    if after != revision {
        return Err(("revisions", format!("entry {index} ends at {after}, not {revision}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use copepod_model::Key;

    use super::*;

    #[test]
    fn an_older_revision_is_found_unless_another_process_shows_it() {
        let mut all = Revisions::default();
        all.shows(1, 7).unwrap();
        all.shows(1, 7).unwrap();
        all.shows(2, 3).unwrap();
        all.started(1);
        all.shows(1, 6).unwrap();
        assert!(all.shows(1, 5).is_err());
    }

    #[test]
    fn a_revision_that_is_left_out_or_comes_twice_is_found() {
        let key = Key::new("configmaps", "d", "n");
        let of = |revisions: &[u64]| -> Vec<Arc<Change>> {
            let one = |revision: &u64| Change { revision: *revision, key: key.clone(), new: None, old: None };
            revisions.iter().map(|revision| Arc::new(one(revision))).collect()
        };
        check(1, 4, &of(&[5, 6]), 6).unwrap();
        check(1, 4, &[], 4).unwrap();
        assert!(check(1, 4, &of(&[6]), 6).is_err());
        assert!(check(1, 4, &of(&[5, 5]), 5).is_err());
        assert!(check(1, 4, &of(&[5]), 6).is_err());
    }
}
