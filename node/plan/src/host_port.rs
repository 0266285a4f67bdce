//! Ports of the host that lead to a pod.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

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
pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
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
}
