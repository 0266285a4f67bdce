//! Nodes in other processes: their API over HTTPS (the kubelet's port), with a client certificate of the API server's own.

mod remote;
mod target;
mod tls;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use copepod_client::tls::Rotating;
use copepod_model::{Object, Status};
use tokio::sync::Semaphore;

use crate::api::NodeApi;
use remote::RemoteNode;
use target::Target;
use tls::Identity;

/// The certificate's file, as kubeadm calls it.
pub(crate) const CREDENTIAL: &str = "apiserver-kubelet-client";
/// Streams to all nodes together: exec, attach, port-forward.
const STREAMS: usize = 8192;

/// The way to nodes that are reached over the network.
pub struct Nodes {
    identity: Identity,
    known: Mutex<HashMap<String, Arc<RemoteNode>>>,
    streams: Arc<Semaphore>,
}

impl Nodes {
    /// Shows `own` to nodes whose certificates come from the CA.
    pub fn new(own: Arc<Rotating>, ca_pem: &str) -> Result<Nodes, String> {
        let identity = Identity::new(own, ca_pem)?;
        Ok(Nodes { identity, known: Mutex::default(), streams: Arc::new(Semaphore::new(STREAMS)) })
    }

    /// The API of a Node, where its status says that it is now.
    pub(crate) fn node(&self, node: &Object) -> Result<Arc<dyn NodeApi>, Status> {
        let target = Target::of(&node.value()).map_err(plain)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = known.get(node.name()).filter(|n| n.target() == &target) {
            return Ok(there.clone());
        }
        let (tls, name) = self.identity.to(node.name(), &target.host).map_err(plain)?;
        let made = Arc::new(RemoteNode::new(target, tls, name, self.streams.clone()));
        // Nodes come and go: who is not in use has no connection worth keeping.
        known.retain(|_, n| Arc::strong_count(n) > 1 || n.has_connections());
        known.insert(node.name().into(), made.clone());
        Ok(made)
    }
}

/// An error that upstream gives no reason.
fn plain(message: String) -> Status {
    Status { code: 500, reason: "", message, details: None }
}

#[cfg(test)]
mod tests;
