//! Small projections of objects, decoded once per version and shared by every controller, the scheduler and the agent:
//! a typed pod is seven times the size of its JSON, and most readers want a tenth of it.

mod ingress_class;
mod ingress_limits;
mod service;

use std::net::IpAddr;

use serde_json::Value;

use crate::Object;
use crate::quantity::Quantity;

pub use ingress_class::{INGRESS_CLASS, INGRESS_CONTROLLER, IngressClassName, ingress_is_ours};
pub use ingress_limits::{IngressLimitFacts, IngressLimits};
pub use service::{EndpointFacts, EndpointSliceFacts, SERVICE_NAME_LABEL, ServiceFacts, ServicePortFacts};

/// A projection of an object. Must not fail: what is missing or malformed is as if absent.
pub trait Facts: Send + Sync + 'static {
    /// Projects `object`.
    fn of(object: &Object) -> Self;
}

fn pod_ips(status: &Value) -> Vec<IpAddr> {
    let listed = status["podIPs"].as_array().into_iter().flatten().map(|ip| &ip["ip"]);
    let listed: Vec<IpAddr> = listed.filter_map(|ip| ip.as_str()?.parse().ok()).collect();
    // Who writes the old field only means one.
    match status["podIP"].as_str().and_then(|ip| ip.parse().ok()) {
        Some(first) if listed.first() != Some(&first) => vec![first],
        _ => listed,
    }
}

/// Facts of a Pod that controllers, scheduler and EndpointSlices need.
#[derive(Clone, Debug, Default)]
pub struct PodFacts {
    /// `status.phase`, empty if unset.
    pub phase: String,
    /// Condition `Ready` is `True`.
    pub ready: bool,
    /// When `Ready` last turned, RFC 3339.
    pub ready_since: Option<crate::Time>,
    /// `status.podIPs`, or `status.podIP` alone: one of each family at most, the first one first.
    pub ips: Vec<IpAddr>,
    /// `spec.hostname`, empty if unset.
    pub hostname: String,
    /// `spec.subdomain`, empty if unset.
    pub subdomain: String,
    /// `spec.nodeName`, empty if unset.
    pub node_name: String,
    /// `spec.schedulerName`.
    pub scheduler_name: String,
    /// Effective CPU request in millicores: the greater of what runs together in the end (containers and
    /// sidecars) and at any time before (an init container and the sidecars before it), plus overhead.
    pub cpu_millis: i64,
    /// Effective memory request in bytes, likewise.
    pub memory_bytes: i64,
    /// Effective request of ephemeral storage in bytes, likewise.
    pub storage_bytes: i64,
    /// Named container ports: (name, containerPort, protocol).
    pub ports: Vec<(String, u16, String)>,
    /// Sum of restarts over the containers.
    pub restarts: i64,
    /// `spec.serviceAccountName`.
    pub service_account: String,
}

impl Facts for PodFacts {
    fn of(object: &Object) -> Self {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let (spec, status) = object.spec_and_status();
        let ready = status["conditions"].as_array().into_iter().flatten().find(|c| c["type"] == "Ready");
        let containers = || spec["containers"].as_array().into_iter().flatten();
        let inits = || spec["initContainers"].as_array().into_iter().flatten();
        let conditions = || status["conditions"].as_array().into_iter().flatten();
        let infeasible = conditions().any(|c| c["type"] == "PodResizePending" && c["reason"] == "Infeasible");
        let has = |c: &Value| {
            let lists = [&status["containerStatuses"], &status["initContainerStatuses"]];
            let mut all = lists.into_iter().flat_map(|l| l.as_array().into_iter().flatten());
            all.find(|s| s["name"] == c["name"] && s["allocatedResources"].is_object())
        };
        // While a container is resized it takes the greater of what it has and what it wants, and no more than it has where
        // it can never have that.
        let request = |c: &Value, what: &str| -> Quantity {
            let of = |map: &Value| -> Quantity { map[what].as_str().and_then(|q| q.parse().ok()).unwrap_or_default() };
            let wanted = of(&c["resources"]["requests"]);
            let Some(s) = has(c) else { return wanted };
            let has = of(&s["allocatedResources"]).max(of(&s["resources"]["requests"]));
            if infeasible { has } else { has.max(wanted) }
        };
        let effective = |what: &str, of: fn(&Quantity) -> i64| -> i64 {
            // Sidecars run beside the main containers, and beside the init containers that come after them.
            let (mut sidecars, mut init) = (0, 0);
            for c in inits() {
                let amount = of(&request(c, what));
                if c["restartPolicy"] == "Always" {
                    sidecars += amount;
                    init = init.max(sidecars);
                } else {
                    init = init.max(sidecars + amount);
                }
            }
            let sum: i64 = sidecars + containers().map(|c| of(&request(c, what))).sum::<i64>();
            let overhead: Quantity = spec["overhead"][what].as_str().and_then(|q| q.parse().ok()).unwrap_or_default();
            sum.max(init) + of(&overhead)
        };
        PodFacts {
            phase: text(&status["phase"]),
            ready: ready.is_some_and(|c| c["status"] == "True"),
            ready_since: ready.and_then(|c| c["lastTransitionTime"].as_str()).and_then(crate::Time::parse),
            ips: pod_ips(&status),
            hostname: text(&spec["hostname"]),
            subdomain: text(&spec["subdomain"]),
            node_name: text(&spec["nodeName"]),
            scheduler_name: text(&spec["schedulerName"]),
            cpu_millis: effective("cpu", Quantity::millis),
            memory_bytes: effective("memory", Quantity::value),
            storage_bytes: effective("ephemeral-storage", Quantity::value),
            ports: containers()
                .flat_map(|c| c["ports"].as_array().into_iter().flatten())
                .filter_map(|p| {
                    let number = u16::try_from(p["containerPort"].as_u64()?).ok()?;
                    Some((text(&p["name"]), number, p["protocol"].as_str().unwrap_or("TCP").to_string()))
                })
                .collect(),
            restarts: status["containerStatuses"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|c| c["restartCount"].as_i64())
                .sum(),
            service_account: text(&spec["serviceAccountName"]),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Key;
    use crate::object::{encode, with_revision};

    #[test]
    fn while_a_pod_is_resized_it_takes_what_it_has_or_wants() {
        let cpu = |wants: &str, given: &str, has: &str, reason: &str| {
            let container = json!({"name": "c", "resources": {"requests": {"cpu": wants}}});
            let status =
                json!({"name": "c", "allocatedResources": {"cpu": given}, "resources": {"requests": {"cpu": has}}});
            let statuses = if given.is_empty() { json!([{"name": "c"}]) } else { json!([status]) };
            let conditions = json!([{"type": "PodResizePending", "reason": reason}]);
            let pod = json!({"metadata": {}, "spec": {"containers": [container]},
                "status": {"containerStatuses": statuses, "conditions": conditions}});
            PodFacts::of(&Object::decode(Key::new("pods", "d", "p"), 1, with_revision(&encode(&pod), 1))).cpu_millis
        };
        assert_eq!(cpu("2", "", "", ""), 2000, "its node has said nothing yet");
        assert_eq!(cpu("2", "1", "1", "Deferred"), 2000);
        assert_eq!(cpu("2", "1", "1500m", "Infeasible"), 1500);
        assert_eq!(cpu("1", "2", "3", ""), 3000);
        assert_eq!(cpu("1", "1", "1", ""), 1000);
    }

    #[test]
    fn a_pod_has_the_addresses_that_both_fields_agree_upon() {
        for (status, want) in [
            (json!({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}), "10.0.0.1 fd00::1"),
            (json!({"podIP": "10.0.0.1"}), "10.0.0.1"),
            (json!({"podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}), "10.0.0.2"),
            (json!({"podIPs": [{"ip": "fd00::1"}, {"ip": "x"}]}), "fd00::1"),
            (json!({}), ""),
        ] {
            let ips: Vec<String> = pod_ips(&status).iter().map(ToString::to_string).collect();
            assert_eq!(ips.join(" "), want, "{status}");
        }
    }
}
