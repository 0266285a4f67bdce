//! The ConfigMaps and Secrets that volumes show: each is watched once, for as long as a pod of the node shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use copepod_client::Client;
use copepod_node_plan::{Lookup, Reference};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::refs::values;
use crate::reflect::{Change, reflect_in};

type Uid = Arc<str>;

/// What is followed, and for whom.
pub(crate) struct Follow {
    followed: BTreeMap<Reference, Followed>,
    /// What each pod shows.
    of: BTreeMap<Uid, BTreeSet<Reference>>,
    tasks: JoinSet<()>,
    news: (mpsc::UnboundedSender<News>, mpsc::UnboundedReceiver<News>),
}

type News = (Reference, Lookup);

struct Followed {
    users: BTreeSet<Uid>,
    task: AbortHandle,
}

impl Default for Follow {
    fn default() -> Follow {
        Follow {
            followed: BTreeMap::new(),
            of: BTreeMap::new(),
            tasks: JoinSet::new(),
            news: mpsc::unbounded_channel(),
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follow {
    /// A pod shows an object.
    pub fn add(&mut self, reference: Reference, uid: &Uid, client: &Client) {
        if !self.of.entry(uid.clone()).or_default().insert(reference.clone()) {
            return;
        }
        let (tasks, news) = (&mut self.tasks, &self.news.0);
        while tasks.try_join_next().is_some() {} // those that were aborted
        let followed = self.followed.entry(reference.clone()).or_insert_with(|| {
            let task = tasks.spawn(follow(client.clone(), reference, news.clone()));
            Followed { users: BTreeSet::new(), task }
        });
        followed.users.insert(uid.clone());
    }

    /// A pod shows only these any more; what nobody follows now.
    pub fn keep(&mut self, uid: &Uid, keep: &BTreeSet<Reference>) -> Vec<Reference> {
        let Some(of) = self.of.get_mut(uid) else { return Vec::new() };
        let gone: Vec<Reference> = of.iter().filter(|r| !keep.contains(*r)).cloned().collect();
        of.retain(|r| keep.contains(r));
        if of.is_empty() {
            self.of.remove(uid);
        }
        let mut forgotten = Vec::new();
        for reference in gone {
            let Some(followed) = self.followed.get_mut(&reference) else { continue };
            followed.users.remove(uid);
            if followed.users.is_empty() {
                self.followed.remove(&reference);
                forgotten.push(reference);
            }
        }
        forgotten
    }

    /// The pods that show an object; none if it is not followed any more.
    pub fn users(&self, reference: &Reference) -> BTreeSet<Uid> {
        self.followed.get(reference).map(|f| f.users.clone()).unwrap_or_default()
    }

    /// The next change of anything that is followed.
    pub async fn next(&mut self) -> News {
        match self.news.1.recv().await {
            Some(news) => news,
            None => std::future::pending().await, // never: a sender is here
        }
    }

    /// The same, if there is one already.
    pub fn try_next(&mut self) -> Option<News> {
        self.news.1.try_recv().ok()
    }
}

/// Tells what an object holds, now and whenever it changes.
async fn follow(client: Client, reference: Reference, news: mpsc::UnboundedSender<News>) {
    let (tx, mut changes) = mpsc::channel(16);
    let selector = format!("metadata.name={}", reference.name);
    let (resource, namespace) = (reference.resource, reference.namespace.clone());
    let tell = async {
        while let Some(change) = changes.recv().await {
            let found = match change {
                Change::Reset(all) => all.into_iter().find(|o| o.name() == reference.name),
                Change::Put(o) => Some(o),
                Change::Gone(_) => None,
            };
            let lookup = match found {
                Some(o) => Lookup::Found(Arc::new(values(resource, &o.value()))),
                None => Lookup::Missing,
            };
            if news.send((reference.clone(), lookup)).is_err() {
                return;
            }
        }
    };
    tokio::join!(reflect_in(client, resource, namespace, selector, tx, |c| c), tell);
}
