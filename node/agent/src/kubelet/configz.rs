//! `/configz`: how the node is set up, in the words of `KubeletConfiguration` (kubelet.config.k8s.io/v1beta1), as far as they
//! mean something here.

use std::net::SocketAddr;
use std::time::Duration;

use copepod_node_plan::access;
use copepod_node_plan::node::LEASE_SECONDS;
use serde_json::{Value, json};

use crate::config::AgentConfig;

/// The answer; `listen` is where the node's API is served.
pub(crate) fn configz(config: &AgentConfig, listen: Option<SocketAddr>) -> Value {
    let mut kubelet = json!({
        "enableServer": listen.is_some(),
        "authentication": {
            "x509": {}, "anonymous": {"enabled": false},
            "webhook": {"enabled": true, "cacheTTL": duration(access::AUTHENTICATED)},
        },
        "authorization": {
            "mode": "Webhook",
            "webhook": {
                "cacheAuthorizedTTL": duration(access::ALLOWED), "cacheUnauthorizedTTL": duration(access::REFUSED),
            },
        },
        "clusterDomain": config.cluster_domain,
        "nodeLeaseDurationSeconds": LEASE_SECONDS,
        "imageGCHighThresholdPercent": config.image_gc.high,
        "imageGCLowThresholdPercent": config.image_gc.low,
        "maxPods": config.max_pods,
        "podCIDR": format!("{}/{}", config.pod_cidr.0, config.pod_cidr.1),
        "evictionHard": {"memory.available": config.eviction_memory.to_string()},
        "mergeDefaultEvictionSettings": true,
    });
    for (signal, threshold) in config.eviction_disk.all() {
        kubelet["evictionHard"][signal] = threshold.map_or_else(|| "0%".into(), |t| t.to_string()).into();
    }
    if let Some(at) = listen {
        kubelet["address"] = at.ip().to_string().into();
        kubelet["port"] = at.port().into();
    }
    if let Some(dns) = config.cluster_dns {
        kubelet["clusterDNS"] = json!([dns.to_string()]);
    }
    if let Some(dir) = &config.static_pods {
        kubelet["staticPodPath"] = dir.display().to_string().into();
    }
    json!({ "kubeletconfig": kubelet })
}

/// Go's text of a duration in whole seconds.
fn duration(d: Duration) -> String {
    let (hours, minutes, seconds) = (d.as_secs() / 3600, d.as_secs() / 60 % 60, d.as_secs() % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        for (seconds, text) in [(30, "30s"), (120, "2m0s"), (300, "5m0s"), (3725, "1h2m5s")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }
}
