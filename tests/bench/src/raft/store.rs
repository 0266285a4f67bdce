//! Our store in this process: the propose path and the reads without an API in front of them.

use std::path::Path;
use std::sync::Arc;

use copepod_model::{Key, object};
use copepod_server::store::{Store, StoreOptions};
use copepod_state::{Op, Outcome, Txn};
use hyper::body::Bytes;
use serde_json::json;

use super::scattered;
use crate::{Error, load};

const RESOURCE: &str = "configmaps";
const NAMESPACE: &str = "default";

/// A store that is the only member, in `dir`.
pub async fn one(dir: &Path) -> Result<Vec<Store>, Error> {
    let options = StoreOptions::new(dir.join("store"), 1);
    Ok(vec![tokio::task::spawn_blocking(move || Store::open(options)).await??])
}

/// Three stores of one group in this process, joined by messages in memory, the leader first; an error says why there are none.
pub async fn three(_dir: &Path) -> Result<Vec<Store>, String> {
    Err("skipped: members of one process have no way to send each other messages".into())
}

/// The objects that are proposed: `keys` of them, each with a value of `bytes` bytes.
pub fn objects(keys: usize, bytes: usize) -> Arc<[(Key, Bytes)]> {
    let all = (0..keys).map(|at| {
        let name = format!("k-{at}");
        let value = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": NAMESPACE},
            "data": {"value": "x".repeat(bytes)}});
        (Key::new(RESOURCE, NAMESPACE, name), object::encode(&value))
    });
    all.collect()
}

/// Proposes one put at a time. The objects are made before, so that its CPU time is the store's but for the waiting.
pub struct Proposer {
    /// The leader's store.
    pub store: Store,
    /// What it puts.
    pub objects: Arc<[(Key, Bytes)]>,
}

impl load::Client for Proposer {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        let (key, body) = self.objects[scattered(n, self.objects.len())].clone();
        let ops = vec![Op::Put { key, body, revised: true }];
        match self.store.propose(Txn { ops, ..Txn::default() }).await? {
            Outcome::Applied(_) => Ok(()),
            other => Err(format!("a put was {other:?}").into()),
        }
    }
}

/// Reads one object at a time.
pub struct Reader {
    /// The store.
    pub store: Store,
    /// How many keys there are.
    pub keys: usize,
    /// From the last snapshot, instead of linearizable.
    pub stale: bool,
}

impl load::Client for Reader {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        let tables = if self.stale { self.store.snapshot() } else { self.store.read_index().await? };
        let name = format!("k-{}", scattered(n, self.keys));
        match tables.find(RESOURCE, NAMESPACE, &name) {
            Some(_) => Ok(()),
            None => Err(format!("the store does not have {name}").into()),
        }
    }
}
