//! Where a node listens for connections from outside the cluster, and what they are for.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crate::service::{Protocol, ServiceKey, ServicePort};
use crate::table::RouteTable;

/// What a TCP listener on the host is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPort {
    /// Connections to a Service.
    Service(ServiceKey),
    /// A load balancer's question whether this node has endpoints of a Service with external traffic policy `Local`.
    Health(ServiceKey),
}

impl RouteTable {
    /// Every TCP address that a node with these `addresses` listens on: node ports and health check ports on each of them,
    /// and Services' ports on their external addresses. Where two claim one address, the external one gives way.
    pub fn host_ports(&self, addresses: &[IpAddr]) -> BTreeMap<SocketAddr, HostPort> {
        let mut out = BTreeMap::new();
        for (key, facts, ports) in self.entries() {
            for port in ports.iter().filter(|p| p.protocol == Protocol::Tcp) {
                for ip in &facts.external_ips {
                    out.entry(SocketAddr::new(*ip, port.port)).or_insert_with(|| HostPort::Service(key.clone()));
                }
            }
        }
        for (key, facts, _) in self.entries().filter(|(_, f, _)| f.health_check_port != 0) {
            let at = |ip: &IpAddr| (SocketAddr::new(*ip, facts.health_check_port), HostPort::Health(key.clone()));
            out.extend(addresses.iter().map(at));
        }
        for (number, port) in self.tcp_node_ports() {
            let at = |ip: &IpAddr| (SocketAddr::new(*ip, number), HostPort::Service(port.service.clone()));
            out.extend(addresses.iter().map(at));
        }
        out
    }

    /// The Service port that a connection to an address of the host is for.
    pub fn host_service(&self, at: SocketAddr) -> Option<&Arc<ServicePort>> {
        self.node_port(at.port(), Protocol::Tcp).or_else(|| self.service(at.ip(), at.port(), Protocol::Tcp))
    }

    /// How many ready endpoints of a Service are on this node, as its external traffic policy sees them.
    pub fn local_endpoints(&self, service: &ServiceKey) -> usize {
        self.service_ports(service).iter().map(|p| p.external.iter().filter(|e| e.ready).count()).max().unwrap_or(0)
    }
}
