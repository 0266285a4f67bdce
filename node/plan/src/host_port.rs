//! Ports of the host that lead to a pod.

use std::net::{IpAddr, Ipv4Addr};

use copepod_machine::EventType;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use crate::observed::PodEvent;
use crate::restart::Role;
use crate::stop::containers;

/// A `hostPort`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// `hostIP`; without one all addresses of the node are meant.
    pub ip: Option<IpAddr>,
    /// `hostPort`.
    pub port: u16,
    /// `containerPort`.
    pub to: u16,
    /// `TCP` or `UDP`.
    pub protocol: String,
}

/// Those of a pod: of its containers and sidecars, as the kubelet has it, each address once.
pub fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let mut all: Vec<HostPort> = Vec::new();
    let lasting = containers(pod).filter(|(_, role)| *role != Role::Init);
    for p in lasting.flat_map(|(c, _)| c.ports.iter().flatten()) {
        let number = |n: i32| u16::try_from(n).ok().filter(|n| *n > 0);
        let (Some(port), Some(to)) = (p.host_port.and_then(number), number(p.container_port)) else { continue };
        let protocol = p.protocol.clone().filter(|p| !p.is_empty()).unwrap_or_else(|| "TCP".into());
        let ip = p.host_ip.as_deref().and_then(|ip| ip.parse().ok());
        if !all.iter().any(|a| (a.ip, a.port, &a.protocol) == (ip, port, &protocol)) {
            all.push(HostPort { ip, port, to, protocol });
        }
    }
    all
}

impl HostPort {
    /// Whether two pods may not both have theirs: the same port of the same address, where none is all (of IPv4, which is what
    /// the scheduler knows).
    pub fn clashes(&self, other: &HostPort) -> bool {
        let all = |ip: Option<IpAddr>| ip.is_none_or(|ip| ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        (self.port, &self.protocol) == (other.port, &other.protocol)
            && (all(self.ip) || all(other.ip) || self.ip == other.ip)
    }
}

/// What a Service hears whose load balancer has a port that cannot be listened on, in the words of upstream's service
/// controller.
pub fn balancer_failed(why: &str) -> PodEvent {
    PodEvent {
        kind: EventType::Warning,
        reason: "SyncLoadBalancerFailed",
        message: format!("Error syncing load balancer: failed to ensure load balancer: {why}"),
        field_path: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_and_sidecars_have_host_ports() {
        let spec = json!({
            "initContainers": [
                {"name": "once", "ports": [{"containerPort": 1, "hostPort": 1}]},
                {"name": "side", "restartPolicy": "Always", "ports": [{"containerPort": 2, "hostPort": 20}]}],
            "containers": [{"name": "c", "ports": [
                {"containerPort": 3},
                {"containerPort": 4, "hostPort": 0},
                {"containerPort": 5, "hostPort": 50, "hostIP": "127.0.0.1", "protocol": "UDP"},
                {"containerPort": 6, "hostPort": 50, "hostIP": "127.0.0.1", "protocol": "UDP"}]}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap();
        let port = |ip: Option<&str>, port, to, protocol: &str| HostPort {
            ip: ip.map(|ip| ip.parse().unwrap()),
            port,
            to,
            protocol: protocol.into(),
        };
        assert_eq!(host_ports(&pod), [port(None, 20, 2, "TCP"), port(Some("127.0.0.1"), 50, 5, "UDP")]);
    }

    #[test]
    fn ports_clash_by_protocol_number_and_address() {
        let port = |ip: Option<&str>, port, protocol: &str| HostPort {
            ip: ip.map(|ip| ip.parse().unwrap()),
            port,
            to: 1,
            protocol: protocol.into(),
        };
        let one = port(Some("192.0.2.1"), 80, "TCP");
        for (other, clash) in [
            (port(Some("192.0.2.1"), 80, "TCP"), true),
            (port(None, 80, "TCP"), true),
            (port(Some("0.0.0.0"), 80, "TCP"), true),
            (port(Some("192.0.2.2"), 80, "TCP"), false),
            (port(None, 81, "TCP"), false),
            (port(None, 80, "UDP"), false),
        ] {
            assert_eq!((one.clashes(&other), other.clashes(&one)), (clash, clash), "{other:?}");
        }
    }
}
