//! Our store in this process: the propose path and the reads without an API in front of them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use copepod_model::{Key, object};
use copepod_server::store::{Store, StoreOptions};
use copepod_server::{PeerConfig, Server, ServerConfig};
use copepod_state::{Op, Outcome, Txn};
use hyper::body::Bytes;
use serde_json::json;

use super::process::{free_ports, until};
use super::scattered;
use crate::{Error, load};

const RESOURCE: &str = "configmaps";
const NAMESPACE: &str = "default";

/// What the name of a member's folder begins with.
const MEMBER: &str = "member-";
/// What a joining server is given besides its id.
const SECRETS: [&str; 4] = ["ca.crt", "ca.key", "sa.key", "seal.secret"];

/// Stores of one group in this process, the leader first.
#[derive(Default)]
pub struct Stores {
    /// The stores.
    pub all: Vec<Store>,
    /// Whose they are, where they need somebody to carry their messages.
    servers: Vec<Server>,
}

impl Stores {
    /// A store that is the only member, in `dir`.
    pub async fn one(dir: &Path) -> Result<Stores, Error> {
        let options = StoreOptions::new(dir.join("store"), 1);
        let store = tokio::task::spawn_blocking(move || Store::open(options)).await??;
        Ok(Stores { all: vec![store], servers: Vec::new() })
    }

    /// Three whole servers with folders in `dir`, whose members speak over TLS on loopback as those of three machines do; the
    /// stores are used from inside. They hold what a fresh cluster holds, and their controllers watch what is put.
    pub async fn three(dir: &Path) -> Result<Stores, Error> {
        let ports = free_ports(6).await?;
        let mut servers: Vec<Server> = Vec::new();
        for at in 0..3 {
            let data_dir = dir.join(format!("{MEMBER}{at}"));
            let [api, listen] = [ports[at], ports[at + 3]].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            let name = format!("{MEMBER}{at}");
            let joined = match servers.first() {
                None => None,
                Some(first) => {
                    let joined = first.members().add(&name, &listen.to_string(), &api.to_string(), false).await?;
                    let pki = Path::new("server/pki");
                    std::fs::create_dir_all(data_dir.join(pki))?;
                    for secret in SECRETS {
                        let from = dir.join(format!("{MEMBER}0")).join(pki).join(secret);
                        std::fs::copy(from, data_dir.join(pki).join(secret))?;
                    }
                    Some(joined)
                }
            };
            let peer = PeerConfig { name, listen, advertise: listen.to_string(), api: api.to_string(), joined };
            let config = ServerConfig {
                data_dir,
                api,
                advertise: None,
                peer: Some(peer),
                quota_bytes: 0,
                balancer_pool: Default::default(),
                connections: 1024,
            };
            servers.push(Server::start(config).await?);
            let count = servers.len();
            until("all members vote", || async {
                let members = servers[0].members().list().await?;
                let vote = members.iter().filter(|m| m.voter && m.reachable).count();
                Ok((vote == count).then_some(()))
            })
            .await?;
        }
        let mut all: Vec<Store> = servers.iter().map(|s| s.api().store().clone()).collect();
        all.sort_by_key(|store| !store.role().borrow().leads);
        Ok(Stores { all, servers })
    }

    /// Closes all of them.
    pub async fn close(self) -> Result<(), Error> {
        if self.servers.is_empty() {
            for store in &self.all {
                store.close().await?;
            }
        }
        for server in self.servers {
            server.stop().await;
        }
        Ok(())
    }
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
