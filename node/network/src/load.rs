//! What this node has open to Services' endpoints, and how they have fared: what the choice among them goes by.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use copepod_node_routes::{Balancer, Choice, ServicePort, Side};

use crate::connect::Source;
use crate::error::{HttpError, NetError};
use crate::network::Network;
use crate::sync::lock;

/// Shared by all that is open.
#[derive(Clone, Default)]
pub(crate) struct Load(Arc<Mutex<Balancer>>);

/// A request or a stream to an endpoint; it counts until this is dropped.
pub(crate) struct Open {
    load: Load,
    to: SocketAddr,
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.load.0).end(self.to);
    }
}

/// Whether it is the endpoint's fault that something has failed.
pub(crate) trait Fault {
    /// A pod says itself how long it waits, and may have been hasty: then it is nobody's that it has not.
    fn is_endpoints(&self, from: &Source) -> bool;
}

impl Fault for NetError {
    fn is_endpoints(&self, _: &Source) -> bool {
        match self {
            NetError::ConnectionRefused
            | NetError::ConnectionReset
            | NetError::RemoteUnreachable
            | NetError::Timeout
            | NetError::Detached
            | NetError::Other(_) => true,
            NetError::AddressInUse
            | NetError::AddressNotBindable
            | NetError::DatagramTooLarge
            | NetError::AccessDenied
            | NetError::Forbidden
            | NetError::InvalidArgument
            | NetError::NewSocketLimit
            | NetError::NameUnresolvable
            | NetError::TemporaryResolverFailure => false,
        }
    }
}

impl Fault for HttpError {
    fn is_endpoints(&self, from: &Source) -> bool {
        match self {
            HttpError::Connect(NetError::Timeout) | HttpError::ResponseTimeout => !matches!(from, Source::Pod(_)),
            HttpError::Connect(error) => error.is_endpoints(from),
            // A pod may speak what its endpoint does not.
            HttpError::Protocol(_) | HttpError::Tls(_) => !matches!(from, Source::Pod(_)),
            HttpError::Service(_) => true,
            HttpError::Dns(..) | HttpError::InvalidRequest(_) | HttpError::RequestBody(_) => false,
        }
    }
}

impl Network {
    /// In which order the endpoints of a Service are tried for something new; `first` is where the client's affinity points.
    pub(crate) fn choice(&self, port: &ServicePort, side: Side, first: Option<SocketAddr>) -> Choice {
        let (list, chance) = (port.eligible(side), self.chance());
        match list.len() {
            0 | 1 => Choice::by(chance, list.len()),
            _ => lock(&self.0.load.0).choose(list, first, chance, self.now()),
        }
    }

    /// Something is begun with an endpoint. Where there is no choice, nothing is counted.
    pub(crate) fn begun(&self, port: &ServicePort, side: Side, to: SocketAddr) -> Option<Open> {
        (port.eligible(side).len() > 1).then(|| {
            lock(&self.0.load.0).begin(to);
            Open { load: self.0.load.clone(), to }
        })
    }

    /// An endpoint has taken a connection or answered a request.
    pub(crate) fn fared_well(&self, port: &ServicePort, side: Side, to: SocketAddr) {
        if port.eligible(side).len() > 1 {
            lock(&self.0.load.0).succeeded(to, self.now());
        }
    }

    /// An endpoint has not. What a NetworkPolicy has cut is no fault of it.
    pub(crate) fn fared_ill(&self, from: &Source, port: &ServicePort, side: Side, to: SocketAddr, error: &impl Fault) {
        if error.is_endpoints(from) && self.lets_on(from, to) {
            lock(&self.0.load.0).failed(to, port.eligible(side), self.now());
        }
    }

    /// Somebody listens anew at a pod's address.
    pub(crate) fn renewed(&self, at: SocketAddr) {
        lock(&self.0.load.0).renewed(at);
    }
}
