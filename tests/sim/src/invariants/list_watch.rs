//! A list and the watch from its revision are the state: no gap, no repetition, whichever server tells.

use std::collections::BTreeMap;

use copepod_state::Change;

use super::Broken;
use super::canon::Canon;

/// What a client knows of a resource: the revision of each object.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    resource: String,
    objects: BTreeMap<String, u64>,
    /// Up to where it knows everything.
    pub revision: u64,
}

impl Mirror {
    /// A list at a revision.
    pub fn listed(resource: &str, revision: u64, objects: impl IntoIterator<Item = (String, u64)>) -> Mirror {
        Mirror { resource: resource.into(), objects: objects.into_iter().collect(), revision }
    }

    /// Follows one change.
    pub fn follow(&mut self, change: &Change) -> Result<(), Broken> {
        let key = change.key.to_string();
        if change.revision <= self.revision {
            return Err(("list_watch", format!("revision {} of {key} came after {}", change.revision, self.revision)));
        }
        self.revision = change.revision;
        let known = match &change.new {
            Some(o) => self.objects.insert(key.clone(), o.revision),
            None => self.objects.remove(&key),
        };
        // The watcher tells what it thinks was there before.
        if known.is_some() != change.old.is_some() {
            let how = format!("{key} changed at {}: {known:?} was known of it", change.revision);
            return Err(("list_watch", how));
        }
        Ok(())
    }

    /// Compares with what was at `revision`, up to where the watch says it has told everything.
    pub fn check(&self, canon: &Canon, revision: u64) -> Result<(), Broken> {
        // Between the revisions of one transaction nobody has seen a state.
        let Some(tables) = canon.history.get(&revision) else { return Ok(()) };
        let state: BTreeMap<String, u64> =
            tables.scan(&self.resource, None).map(|o| (o.key.to_string(), o.revision)).collect();
        if state == self.objects {
            return Ok(());
        }
        let missed: Vec<_> = state.iter().filter(|(k, r)| self.objects.get(*k) != Some(r)).take(3).collect();
        let kept: Vec<_> = self.objects.keys().filter(|k| !state.contains_key(*k)).take(3).collect();
        Err(("list_watch", format!("at {revision} list + watch lacks {missed:?} and has {kept:?} beyond the state")))
    }
}

#[cfg(test)]
mod tests {
    use copepod_state::Tables;
    use serde_json::json;

    use super::*;
    use crate::made;

    #[test]
    fn what_comes_twice_and_what_is_left_out_is_found() {
        let mut tables = Tables::default();
        let mut write = |name: &str| {
            let pod = json!({"metadata": {"name": name, "namespace": "d"}});
            made::put(&mut tables, "pods", &pod)
        };
        let mut mirror = Mirror::listed("pods", 0, Vec::new());
        let first = write("a");
        mirror.follow(&first).unwrap();
        assert!(mirror.follow(&first).is_err(), "again");
        mirror.follow(&write("a")).unwrap();
        write("b");
        assert!(mirror.follow(&write("b")).is_err(), "it was never told of the first");
    }
}
