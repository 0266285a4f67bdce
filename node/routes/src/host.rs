//! Where a node listens for what comes from outside the cluster, and what it is for.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_model::gateway::Layer;

use crate::service::{Protocol, ServiceKey, ServicePort};
use crate::table::RouteTable;

/// An address of the host that is listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostAddr {
    /// Address and port.
    pub addr: SocketAddr,
    /// Protocol.
    pub protocol: Protocol,
}

impl fmt::Display for HostAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol} {}", self.addr)
    }
}

/// What a listener on the host is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// A Service.
    Service(ServiceKey),
    /// A load balancer's question whether this node has endpoints of a Service with external traffic policy `Local`.
    Health(ServiceKey),
    /// One port of one pod.
    Pod {
        /// The pod's UID.
        uid: Arc<str>,
        /// Its address and port.
        to: SocketAddr,
    },
    /// Listeners of Gateways, and what is spoken there.
    Gateway(Layer),
}

/// A `hostPort` of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPort {
    /// `hostIP`. Without one, or where it is unspecified, all addresses of the node (of its family) are meant.
    pub ip: Option<IpAddr>,
    /// `hostPort`.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// `containerPort`.
    pub to: u16,
}

impl PodPort {
    /// The addresses of a host with `addresses` that it means.
    fn at(&self, addresses: &[IpAddr]) -> Vec<HostAddr> {
        let ips = match self.ip {
            None => addresses.to_vec(),
            Some(any) if any.is_unspecified() => {
                addresses.iter().copied().filter(|ip| ip.is_ipv4() == any.is_ipv4()).collect()
            }
            Some(one) => vec![one],
        };
        let at = |ip| HostAddr { addr: SocketAddr::new(ip, self.port), protocol: self.protocol };
        ips.into_iter().map(at).collect()
    }
}

/// The `hostPort`s of one pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPorts {
    /// The pod's UID.
    pub uid: Arc<str>,
    /// Its address.
    pub ip: IpAddr,
    /// Its ports.
    pub ports: Vec<PodPort>,
}

/// Everything that a node listens on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostPorts {
    /// What it is for.
    pub listen: BTreeMap<HostAddr, HostPort>,
    /// UIDs of pods that want an address that someone else has.
    pub refused: Vec<(HostAddr, Arc<str>)>,
    /// Services that are to be balanced at an address that someone else has.
    pub yielded: Vec<(HostAddr, ServiceKey)>,
    /// The addresses at which a load balancer's Service is listened for.
    pub balanced: BTreeSet<HostAddr>,
}

impl RouteTable {
    /// Everything that a node with these `addresses` and `pods` listens on: node ports and health check ports on each of
    /// the addresses, pods' host ports, Gateways' listeners, and Services' ports on their external addresses. Where several
    /// claim one address, a node port comes before a pod's port, an earlier pod before a later one, any of these before a
    /// Gateway's listener, and an external address gives way to all; of Services that claim one, the oldest has it.
    pub fn host_ports(&self, addresses: &[IpAddr], pods: &[PodPorts]) -> HostPorts {
        let mut out = HostPorts::default();
        let everywhere = |port: u16, protocol: Protocol| {
            addresses.iter().map(move |ip| HostAddr { addr: SocketAddr::new(*ip, port), protocol })
        };
        for (key, port) in self.health_ports() {
            let health = HostPort::Health(key.clone());
            out.listen.extend(everywhere(port, Protocol::Tcp).map(|at| (at, health.clone())));
        }
        for (number, protocol, port) in self.node_ports() {
            let service = HostPort::Service(port.service.clone());
            out.listen.extend(everywhere(number, protocol).map(|at| (at, service.clone())));
        }
        for pod in pods {
            for port in &pod.ports {
                let to = SocketAddr::new(pod.ip, port.to);
                for at in port.at(addresses) {
                    match out.listen.entry(at) {
                        Entry::Occupied(_) => out.refused.push((at, pod.uid.clone())),
                        Entry::Vacant(free) => {
                            free.insert(HostPort::Pod { uid: pod.uid.clone(), to });
                        }
                    }
                }
            }
        }
        for (port, layer) in self.gateway_ports() {
            for at in everywhere(port, Protocol::Tcp) {
                out.listen.entry(at).or_insert(HostPort::Gateway(layer));
            }
        }
        for (&(ip, port, protocol), claims) in self.external_claims() {
            let at = HostAddr { addr: SocketAddr::new(ip, port), protocol };
            for claim in claims {
                let service = HostPort::Service(claim.port.service.clone());
                match out.listen.entry(at) {
                    Entry::Vacant(free) => {
                        free.insert(service);
                        if claim.balancer {
                            out.balanced.insert(at);
                        }
                    }
                    Entry::Occupied(held) if claim.balancer && *held.get() != service => {
                        out.yielded.push((at, claim.port.service.clone()));
                    }
                    Entry::Occupied(_) => {}
                }
            }
        }
        out
    }

    /// The Service port that something which comes to an address of the host is for.
    pub fn host_service(&self, at: HostAddr) -> Option<&Arc<ServicePort>> {
        let HostAddr { addr, protocol } = at;
        let by_port = self.node_port(addr.port(), protocol).map(|port| self.in_family(port, addr.ip()));
        by_port.or_else(|| self.service(addr.ip(), addr.port(), protocol))
    }

    /// How many ready endpoints of a Service are on this node, as its external traffic policy sees them.
    pub fn local_endpoints(&self, service: &ServiceKey) -> usize {
        self.service_ports(service).iter().map(|p| p.external.iter().filter(|e| e.ready).count()).max().unwrap_or(0)
    }
}
