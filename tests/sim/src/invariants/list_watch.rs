//! A list and the watch from its revision are the state: no gap, no repetition, revisions that only rise.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_machine::View as _;
use copepod_model::{UserInfo, Verb};
use copepod_state::Change;

use crate::api::Api;
use crate::chance::Chance;
use crate::client::request;

/// A client that keeps a mirror of pods by list and watch.
pub struct ListWatch {
    chance: Chance,
    user: Arc<UserInfo>,
    revision: u64,
    last: u64,
    mirror: Option<BTreeMap<String, u64>>,
}

impl ListWatch {
    /// Nothing listed yet.
    pub fn new(chance: Chance) -> ListWatch {
        ListWatch { chance, user: Arc::new(UserInfo::system("mirror")), revision: 0, last: 0, mirror: None }
    }

    /// Follows one change.
    pub fn observe(&mut self, change: &Change) -> Result<(), String> {
        if change.revision <= self.last {
            return Err(format!("revision {} came after {}", change.revision, self.last));
        }
        self.last = change.revision;
        let Some(mirror) = &mut self.mirror else { return Ok(()) };
        if &*change.key.resource != "pods" || change.revision <= self.revision {
            return Ok(());
        }
        match &change.new {
            Some(o) => drop(mirror.insert(change.key.to_string(), o.revision)),
            None => {
                if mirror.remove(&change.key.to_string()).is_none() {
                    return Err(format!("the deletion of {} came to a watcher that had never seen it", change.key));
                }
            }
        }
        Ok(())
    }

    /// Now and then compares the mirror with the state, or lists anew in pages from one revision.
    pub fn check(&mut self, api: &Api) -> Result<(), String> {
        if let Some(mirror) = &self.mirror
            && self.chance.one_in(20)
        {
            let state: BTreeMap<String, u64> =
                api.view().list("pods", None).map(|o| (o.key.to_string(), o.revision)).collect();
            if *mirror != state {
                return Err(format!("list + watch is not the state: {mirror:?} against {state:?}"));
            }
        }
        if self.mirror.is_none() || self.chance.one_in(200) {
            let mut list = request(&self.user, Verb::List, "pods", "", "");
            list.list.limit = 3;
            let mut mirror = BTreeMap::new();
            loop {
                let page = api.list(&list).map_err(|e| format!("a list failed: {e}"))?;
                self.revision = page.revision;
                mirror.extend(page.items.iter().map(|o| (o.key.to_string(), o.revision)));
                if page.continue_token.is_empty() {
                    break;
                }
                list.list.continue_token = page.continue_token;
            }
            self.mirror = Some(mirror);
        }
        Ok(())
    }
}
