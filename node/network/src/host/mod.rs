//! Listeners on the host: node ports on the node's named addresses, host ports of pods, Services' external addresses where
//! the host has them, and health check ports. They run as an ordinary user, so ports below 1024 usually stay closed.

mod answers;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use copepod_node_routes::{HostAddr, HostPort, HostPorts, Protocol, ServiceKey};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::network::Network;
use crate::sync::{read, write};
pub(crate) use answers::{Answers, Senders};
pub(crate) use udp::{Entrance, HostFlows};

/// How long until an address that could not be listened on is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How long a listener rests after an error, lest it does nothing but fail.
const BREATH: Duration = Duration::from_millis(20);

/// What the host's listeners are for now.
#[derive(Clone, Default)]
struct Meaning(Arc<RwLock<BTreeMap<HostAddr, HostPort>>>);

impl Meaning {
    fn of(&self, at: HostAddr) -> Option<HostPort> {
        read(&self.0).get(&at).cloned()
    }
}

/// Whom a listener on the host is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Beneficiary {
    /// A pod, by its UID.
    Pod(Arc<str>),
    /// A Service of a load balancer.
    Service(ServiceKey),
}

/// A pod's host port, or a load balancer's, cannot be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPortFailure {
    /// Whose it is.
    pub whose: Beneficiary,
    /// The address.
    pub at: HostAddr,
    /// Why: `listen tcp 127.0.0.1:80: bind: address already in use`.
    pub error: String,
}

/// The host's listeners. Dropping it closes them; connections that are open stay.
pub struct HostListeners {
    network: Network,
    addresses: Vec<IpAddr>,
    meaning: Meaning,
    open: BTreeMap<HostAddr, JoinHandle<()>>,
    /// Why an address is not listened on, and for whom if somebody is to know.
    failed: BTreeMap<(HostAddr, Option<Beneficiary>), String>,
}

impl HostListeners {
    /// None yet. `addresses` are those of the node that node ports and host ports listen on.
    pub fn new(network: Network, addresses: Vec<IpAddr>) -> HostListeners {
        HostListeners {
            network,
            addresses,
            meaning: Meaning::default(),
            open: BTreeMap::new(),
            failed: BTreeMap::new(),
        }
    }

    /// Follows routes and pods for ever. `report` hears of each port of theirs that cannot be listened on, once for each
    /// reason; it is tried again.
    pub async fn run(mut self, report: impl Fn(HostPortFailure) + Send) {
        loop {
            self.apply().await.into_iter().for_each(&report);
            let retry = (!self.failed.is_empty()).then_some(RETRY);
            let wait = self.network.sweep_flows().into_iter().chain(retry).min();
            let news = self.network.0.host_ports_changed.notified();
            match wait {
                Some(wait) => drop(timeout(wait, news).await),
                None => news.await,
            }
        }
    }

    /// Opens and closes listeners so that they are what routes and pods ask for. Answers whose ports cannot be
    /// opened and had not failed so before.
    pub async fn apply(&mut self) -> Vec<HostPortFailure> {
        let HostPorts { listen, refused, yielded, balanced } = self.network.host_ports(&self.addresses);
        *write(&self.meaning.0) = listen.clone();
        let gone: Vec<HostAddr> = self.open.keys().filter(|at| !listen.contains_key(at)).copied().collect();
        for at in gone {
            if let Some(task) = self.open.remove(&at) {
                task.abort();
                // From then on the address is free.
                let _ = task.await;
            }
            self.network.close_flows(at);
        }
        let in_use = || failure_text(&io::ErrorKind::AddrInUse.into());
        let refused = refused.into_iter().map(|(at, uid)| (at, Beneficiary::Pod(uid)));
        let yielded = yielded.into_iter().map(|(at, key)| (at, Beneficiary::Service(key)));
        let mut failed: BTreeMap<_, _> = refused
            .chain(yielded)
            .map(|(at, whose)| ((at, Some(whose)), format!("listen {at}: bind: {}", in_use())))
            .collect();
        for (at, port) in listen {
            if self.open.contains_key(&at) {
                continue;
            }
            let (network, meaning) = (self.network.clone(), self.meaning.clone());
            let opened = match at.protocol {
                Protocol::Tcp => tcp::open(network, at.addr, meaning).await,
                Protocol::Udp => udp::open(network, at.addr, meaning),
            };
            match opened {
                Ok(task) => drop(self.open.insert(at, task)),
                Err(error) => {
                    let whose = match port {
                        HostPort::Pod { uid, .. } => Some(Beneficiary::Pod(uid)),
                        // An address that this host has not is another node's.
                        HostPort::Service(key)
                            if balanced.contains(&at) && error.kind() != io::ErrorKind::AddrNotAvailable =>
                        {
                            Some(Beneficiary::Service(key))
                        }
                        HostPort::Service(_) | HostPort::Health(_) | HostPort::Gateway(_) => None,
                    };
                    failed.insert((at, whose), format!("listen {at}: bind: {}", failure_text(&error)));
                }
            }
        }
        let mut new = Vec::new();
        for ((at, whose), error) in &failed {
            if self.failed.get(&(*at, whose.clone())) == Some(error) {
                continue;
            }
            tracing::warn!(%error, "cannot listen on the host");
            new.extend(whose.clone().map(|whose| HostPortFailure { whose, at: *at, error: error.clone() }));
        }
        self.failed = failed;
        new
    }

    /// The addresses that are listened on.
    pub fn addresses(&self) -> impl Iterator<Item = HostAddr> {
        self.open.keys().copied()
    }
}

impl Drop for HostListeners {
    fn drop(&mut self) {
        for (at, task) in &self.open {
            task.abort();
            self.network.close_flows(*at);
        }
    }
}

/// As Go, and so the kubelet, says it.
fn failure_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "address already in use".into(),
        io::ErrorKind::AddrNotAvailable => "cannot assign requested address".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
