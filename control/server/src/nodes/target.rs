//! Where a node's API is, by what its Node says (apiserver `pkg/kubelet/client`; `pkg/util/node`).

use serde_json::Value;

/// The kubelet's port where the Node names none.
const DEFAULT_PORT: u16 = 10250;
/// Types of addresses, best first: upstream's `--kubelet-preferred-address-types`, but for addresses before names, which may
/// not resolve here.
const PREFERRED: [&str; 5] = ["InternalIP", "Hostname", "InternalDNS", "ExternalDNS", "ExternalIP"];

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Address or name.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Target {
    /// Of a Node; the error is upstream's.
    pub fn of(node: &Value) -> Result<Target, String> {
        let status = &node["status"];
        let addresses = status["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        let text = |a: &Value, field: &str| a[field].as_str().unwrap_or_default().to_string();
        let find = |kind: &&str| addresses.iter().find(|a| a["type"] == **kind).map(|a| text(a, "address"));
        let Some(host) = PREFERRED.iter().find_map(find).filter(|host| !host.is_empty()) else {
            let known: Vec<String> =
                addresses.iter().map(|a| format!("{{{} {}}}", text(a, "type"), text(a, "address"))).collect();
            return Err(format!("no preferred addresses found; known addresses: [{}]", known.join(" ")));
        };
        let port = status["daemonEndpoints"]["kubeletEndpoint"]["Port"].as_u64();
        let port = port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0).unwrap_or(DEFAULT_PORT);
        Ok(Target { host, port })
    }

    /// `host:port`, as in a URL.
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_come_before_names_and_the_kubelets_port_is_the_usual_one() {
        let address = |kind: &str, address: &str| json!({"type": kind, "address": address});
        let (ip, name) = (address("InternalIP", "192.0.2.1"), address("Hostname", "n"));
        let out = address("ExternalIP", "203.0.113.1");
        let endpoint = json!({"kubeletEndpoint": {"Port": 4711}});
        for (addresses, daemons, want) in [
            (json!([name, out, ip]), endpoint.clone(), "192.0.2.1:4711"),
            (json!([out, name]), endpoint.clone(), "n:4711"),
            (json!([out]), json!({}), "203.0.113.1:10250"),
            (
                json!([address("InternalIP", "2001:db8::1")]),
                json!({"kubeletEndpoint": {"Port": 0}}),
                "[2001:db8::1]:10250",
            ),
        ] {
            let node = json!({"status": {"addresses": addresses, "daemonEndpoints": daemons}});
            assert_eq!(Target::of(&node).unwrap().authority(), want);
        }
        let odd = json!({"status": {"addresses": [address("Odd", "x"), address("Other", "y")]}});
        assert_eq!(Target::of(&odd).unwrap_err(), "no preferred addresses found; known addresses: [{Odd x} {Other y}]");
        assert_eq!(Target::of(&json!({})).unwrap_err(), "no preferred addresses found; known addresses: []");
    }
}
