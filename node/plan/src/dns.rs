//! How a pod resolves names: what the kubelet would write into its `/etc/resolv.conf`.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};
use serde::{Deserialize, Serialize};

/// How many dots make a name be tried as it is before the search list, where the cluster's DNS is asked.
const CLUSTER_NDOTS: u8 = 5;
/// The same where nothing is said, and the most that can be said, as in the C library.
const NDOTS: u8 = 1;
const MOST_NDOTS: u8 = 15;
/// What the kubelet writes at most: servers, search domains, and their characters.
const SERVERS: usize = 3;
const SEARCHES: usize = 32;
const SEARCH_CHARS: usize = 2048;

/// How a pod resolves names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodDns {
    /// Whom to ask, in order; the next one where one does not answer.
    pub servers: Vec<NameServer>,
    /// Search list, most specific first, such as `default.svc.cluster.local`.
    pub search: Vec<Arc<str>>,
    /// How many dots make a name be tried as it is first.
    pub ndots: u8,
}

/// Whom a pod asks for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameServer {
    /// The cluster's DNS.
    Cluster,
    /// The node's own resolver.
    Host,
    /// A server at port 53 of an address, which is reached from the pod.
    At(IpAddr),
}

impl Default for PodDns {
    fn default() -> Self {
        PodDns { servers: vec![NameServer::Cluster], search: Vec::new(), ndots: CLUSTER_NDOTS }
    }
}

/// What `dnsPolicy` and `dnsConfig` say for a pod of `namespace` in a cluster of this domain.
pub(crate) fn pod_dns(spec: Option<&PodSpec>, namespace: &str, domain: &str) -> PodDns {
    let mut dns = match spec.and_then(|s| s.dns_policy.as_deref()) {
        // Its search list is the host's resolver's business.
        Some("Default") => PodDns { servers: vec![NameServer::Host], search: Vec::new(), ndots: NDOTS },
        Some("None") => PodDns { servers: Vec::new(), search: Vec::new(), ndots: NDOTS },
        _ => PodDns {
            search: vec![format!("{namespace}.svc.{domain}").into(), format!("svc.{domain}").into(), domain.into()],
            ..PodDns::default()
        },
    };
    if let Some(config) = spec.and_then(|s| s.dns_config.as_ref()) {
        add(&mut dns, config);
    }
    dns.servers.truncate(SERVERS);
    dns.search.truncate(SEARCHES);
    while dns.search.iter().map(|s| s.len() + 1).sum::<usize>() > SEARCH_CHARS + 1 {
        dns.search.pop();
    }
    dns
}

/// Adds what is not there yet, in its order.
fn add(dns: &mut PodDns, config: &PodDNSConfig) {
    let servers = config.nameservers.iter().flatten().filter_map(|s| s.parse().ok());
    for server in servers.map(NameServer::At) {
        if !dns.servers.contains(&server) {
            dns.servers.push(server);
        }
    }
    let searches = config.searches.iter().flatten().map(|s| s.trim_end_matches('.')).filter(|s| !s.is_empty());
    for s in searches {
        if !dns.search.iter().any(|l| **l == *s) {
            dns.search.push(s.into());
        }
    }
    let ndots = config.options.iter().flatten().rfind(|o| o.name.as_deref() == Some("ndots"));
    if let Some(n) = ndots.and_then(|o| o.value.as_deref()?.parse::<u8>().ok()) {
        dns.ndots = n.min(MOST_NDOTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(mut spec: Value) -> String {
        spec["containers"] = json!([]);
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let dns = pod_dns(Some(&spec), "ns", "cluster.local");
        let servers: Vec<String> = dns.servers.iter().map(|s| format!("{s:?}")).collect();
        format!("{} | {} | {}", servers.join(" "), dns.search.join(" "), dns.ndots)
    }

    #[test]
    fn the_policy_says_whom_to_ask_and_the_config_adds_to_it() {
        let cluster = "ns.svc.cluster.local svc.cluster.local cluster.local";
        let own = json!({"nameservers": ["192.0.2.1", "2001:db8::1", "192.0.2.1"], "searches": ["a.b.", "cluster.local"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        for (spec, want) in [
            (json!({}), format!("Cluster | {cluster} | 5")),
            (json!({"dnsPolicy": "ClusterFirst"}), format!("Cluster | {cluster} | 5")),
            (json!({"dnsPolicy": "ClusterFirstWithHostNet"}), format!("Cluster | {cluster} | 5")),
            (json!({"dnsPolicy": "Default"}), "Host |  | 1".into()),
            (json!({"dnsConfig": own}), format!("Cluster At(192.0.2.1) At(2001:db8::1) | {cluster} a.b | 2")),
            (json!({"dnsPolicy": "Default", "dnsConfig": {"searches": ["a.b"]}}), "Host | a.b | 1".into()),
            (
                json!({"dnsPolicy": "None", "dnsConfig": own}),
                "At(192.0.2.1) At(2001:db8::1) | a.b cluster.local | 2".into(),
            ),
            (
                json!({"dnsConfig": {"options": [{"name": "ndots", "value": "99"}]}}),
                format!("Cluster | {cluster} | 15"),
            ),
            (json!({"dnsConfig": {"options": [{"name": "ndots", "value": "x"}]}}), format!("Cluster | {cluster} | 5")),
        ] {
            assert_eq!(of(spec.clone()), want, "{spec}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let many: Vec<String> = (0..40).map(|n| format!("s{n}.example")).collect();
        let servers: Vec<String> = (0..5).map(|n| format!("192.0.2.{n}")).collect();
        let config = json!({"nameservers": servers, "searches": many});
        let spec = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config});
        let dns = pod_dns(Some(&serde_json::from_value(spec).unwrap()), "ns", "cluster.local");
        assert_eq!((dns.servers.len(), dns.search.len()), (3, 32));
        let long: Vec<String> = (0..12).map(|n| format!("{n}{}", ".abcdefghi".repeat(24))).collect();
        let spec = json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"searches": long}});
        let dns = pod_dns(Some(&serde_json::from_value(spec).unwrap()), "ns", "cluster.local");
        assert_eq!(dns.search.len(), 8);
    }
}
