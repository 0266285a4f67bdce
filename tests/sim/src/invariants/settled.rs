//! A cluster that has gone quiet is as its users wish.

use std::collections::BTreeSet;

use copepod_machine::View as _;
use copepod_model::facts::PodFacts;
use copepod_model::networks::family;
use copepod_model::selector::LabelSelector;
use copepod_state::Tables;
use serde_json::Value;

use super::Broken;

/// The taints of nodes that are not heard, or say that they are not well.
const LOST: [&str; 2] = ["node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"];

/// Every deployment has its replicas ready and no other pods, every Service exactly its ready pods as endpoints, in
/// its slices and in its Endpoints, no node is taken for lost, and nothing is half deleted.
pub fn check(view: &Tables) -> Result<(), Broken> {
    judge(view).map_err(|how| ("settled", how))
}

fn judge(view: &Tables) -> Result<(), String> {
    for resource in ["pods", "replicasets.apps", "deployments.apps"] {
        if let Some(o) = view.list(resource, None).find(|o| o.meta.deletion_timestamp.is_some()) {
            return Err(format!("{} never finished its deletion: {}", o.key, o.value()["metadata"]));
        }
    }
    for node in view.list("nodes", None) {
        let taints = node.value()["spec"]["taints"].take();
        let lost = |key: &Value| LOST.iter().any(|lost| *key == *lost);
        if taints.as_array().into_iter().flatten().any(|taint| lost(&taint["key"])) {
            return Err(format!("{} is heard and has the taints {taints}", node.key));
        }
    }
    let mut given = BTreeSet::new();
    for pod in view.list("pods", None) {
        if let Some(ip) = pod.facts::<PodFacts>().ips.iter().find(|ip| !given.insert(**ip)) {
            return Err(format!("{} and another pod have the address {ip}", pod.key));
        }
    }
    for d in view.list("deployments.apps", None) {
        let v = d.value();
        let wanted = v["spec"]["replicas"].as_u64().unwrap_or(1);
        let status = |k: &str| v["status"][k].as_u64().unwrap_or(0);
        if status("readyReplicas") != wanted || status("updatedReplicas") != wanted || status("replicas") != wanted {
            return Err(format!("{} wants {wanted} and has {}; {}", d.key, v["status"], describe(view)));
        }
        let selector = LabelSelector::from_json(&v["spec"]["selector"]).map_err(|e| e.to_string())?;
        let owned = view
            .list("replicasets.apps", Some(d.namespace()))
            .filter(|r| r.meta.controller().is_some_and(|o| *o.uid == *d.meta.uid));
        let sets: BTreeSet<_> = owned.map(|r| r.meta.uid.clone()).collect();
        let pods = view.list("pods", Some(d.namespace())).filter(|p| {
            selector.matches(&p.meta.labels) && p.meta.controller().is_some_and(|o| sets.contains(&*o.uid))
        });
        let ready = pods.filter(|p| p.facts::<PodFacts>().ready).count() as u64;
        if ready != wanted {
            return Err(format!("{} wants {wanted} pods and {ready} are ready", d.key));
        }
    }
    for s in view.list("services", Some("default")) {
        let v = s.value();
        let Some(pairs) = v["spec"]["selector"].as_object() else { continue };
        let selector =
            LabelSelector::from_pairs(pairs.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())));
        let families: Vec<&str> = match v["spec"]["ipFamilies"].as_array() {
            Some(families) => families.iter().filter_map(Value::as_str).collect(),
            None => vec!["IPv4"],
        };
        let ready = |families: &[&str]| -> BTreeSet<String> {
            let pods = view.list("pods", Some("default"));
            pods.filter(|p| selector.matches(&p.meta.labels) && p.facts::<PodFacts>().ready)
                .flat_map(|p| p.facts::<PodFacts>().ips.clone())
                .filter(|ip| families.contains(&family(*ip)))
                .map(|ip| ip.to_string())
                .collect()
        };
        let wanted = ready(&families);
        let mut found = BTreeSet::new();
        for slice in view.list("endpointslices.discovery.k8s.io", Some("default")) {
            if slice.meta.labels.get("kubernetes.io/service-name").map(|n| &**n) != Some(s.name()) {
                continue;
            }
            for e in slice.value()["endpoints"].as_array().into_iter().flatten() {
                if e["conditions"]["ready"] == true {
                    found.extend(e["addresses"][0].as_str().map(str::to_string));
                }
            }
        }
        if found != wanted {
            return Err(format!("{} has the endpoints {found:?}, its ready pods are {wanted:?}", s.key));
        }
        let endpoints = view.get("endpoints", "default", s.name()).map(|e| e.value()).unwrap_or_default();
        let subsets = endpoints["subsets"].as_array().into_iter().flatten();
        let addresses = subsets.flat_map(|s| s["addresses"].as_array().into_iter().flatten());
        let legacy: BTreeSet<String> = addresses.filter_map(|a| a["ip"].as_str().map(str::to_string)).collect();
        // Endpoints know one family only.
        let wanted = ready(families.get(..1).unwrap_or_default());
        if legacy != wanted {
            return Err(format!("{} has {legacy:?} in its Endpoints, its ready pods are {wanted:?}", s.key));
        }
    }
    Ok(())
}

/// Pods and nodes, for people.
fn describe(view: &Tables) -> String {
    let one = |o: std::sync::Arc<copepod_model::Object>| {
        let v = o.value();
        let conditions = v["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let unmet: Vec<String> = conditions
            .iter()
            .filter(|c| c["status"] != "True")
            .map(|c| format!("{}={} ({})", c["type"], c["status"], c["reason"]))
            .collect();
        let (node, taints) = (&v["spec"]["nodeName"], &v["spec"]["taints"]);
        format!("{} at {} on {node} {} {taints} {unmet:?}", o.key, o.revision, v["status"]["phase"])
    };
    view.list("pods", None).chain(view.list("nodes", None)).map(one).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made;

    fn put(tables: &mut Tables, resource: &str, mut object: Value) {
        object["metadata"]["namespace"] = json!("default");
        object["metadata"]["uid"] = object["metadata"]["name"].clone();
        made::put(tables, resource, &object);
    }

    fn pod(tables: &mut Tables, name: &str, ip: &str, ready: &str) {
        let owner = json!([{"kind": "ReplicaSet", "name": "set", "uid": "set", "controller": true}]);
        let meta = json!({"name": name, "labels": {"app": "app"}, "ownerReferences": owner});
        let status = json!({"podIP": ip, "conditions": [{"type": "Ready", "status": ready}]});
        put(tables, "pods", json!({"metadata": meta, "status": status}));
    }

    /// A Deployment of one pod, which is ready, and its Service.
    fn rest() -> Tables {
        let mut tables = Tables::default();
        let owner = json!([{"kind": "Deployment", "name": "app", "uid": "app", "controller": true}]);
        let spec = json!({"replicas": 1, "selector": {"matchLabels": {"app": "app"}}});
        let status = json!({"replicas": 1, "readyReplicas": 1, "updatedReplicas": 1});
        put(&mut tables, "deployments.apps", json!({"metadata": {"name": "app"}, "spec": spec, "status": status}));
        put(&mut tables, "replicasets.apps", json!({"metadata": {"name": "set", "ownerReferences": owner}}));
        pod(&mut tables, "a", "10.0.0.2", "True");
        put(&mut tables, "services", json!({"metadata": {"name": "app"}, "spec": {"selector": {"app": "app"}}}));
        endpoints(&mut tables, "10.0.0.2", "10.0.0.2");
        tables
    }

    fn endpoints(tables: &mut Tables, new: &str, old: &str) {
        let meta = json!({"name": "app-1", "labels": {"kubernetes.io/service-name": "app"}});
        let all = json!([{"addresses": [new], "conditions": {"ready": true}}]);
        put(tables, "endpointslices.discovery.k8s.io", json!({"metadata": meta, "endpoints": all}));
        let subsets = json!([{"addresses": [{"ip": old}]}]);
        put(tables, "endpoints", json!({"metadata": {"name": "app"}, "subsets": subsets}));
    }

    fn broken(f: impl Fn(&mut Tables)) {
        let mut tables = rest();
        f(&mut tables);
        assert!(check(&tables).is_err());
    }

    #[test]
    fn what_is_not_as_it_was_wished_is_found() {
        check(&Tables::default()).unwrap();
        check(&rest()).unwrap();
        broken(|t| pod(t, "a", "10.0.0.2", "False"));
        broken(|t| pod(t, "b", "10.0.0.3", "True"));
        broken(|t| pod(t, "b", "10.0.0.2", "False"));
        broken(|t| drop(made::delete(t, "pods", "default", "a")));
        broken(|t| endpoints(t, "10.0.0.2", "10.0.0.3"));
        broken(|t| endpoints(t, "10.0.0.3", "10.0.0.2"));
        let ends = json!({"metadata": {"name": "other", "deletionTimestamp": "2027-01-15T08:00:00Z"}});
        broken(|t| put(t, "pods", ends.clone()));
        let node = |key: &str| {
            let taint = json!({"key": key, "effect": "NoSchedule"});
            json!({"metadata": {"name": "n"}, "spec": {"taints": [taint]}})
        };
        let dual = json!({"selector": {"app": "app"}, "ipFamilies": ["IPv4", "IPv6"]});
        let mut both = rest();
        put(&mut both, "services", json!({"metadata": {"name": "app"}, "spec": dual}));
        check(&both).unwrap();
        let owner = json!([{"kind": "ReplicaSet", "name": "set", "uid": "set", "controller": true}]);
        let meta = json!({"name": "a", "labels": {"app": "app"}, "ownerReferences": owner});
        let ips = json!([{"ip": "10.0.0.2"}, {"ip": "fd00::2"}]);
        let status = json!({"podIPs": ips, "conditions": [{"type": "Ready", "status": "True"}]});
        put(&mut both, "pods", json!({"metadata": meta, "status": status}));
        assert!(check(&both).is_err(), "no slice has the second address");
        let meta = json!({"name": "app-2", "labels": {"kubernetes.io/service-name": "app"}});
        let second = json!([{"addresses": ["fd00::2"], "conditions": {"ready": true}}]);
        put(&mut both, "endpointslices.discovery.k8s.io", json!({"metadata": meta, "endpoints": second}));
        check(&both).unwrap();
        LOST.iter().for_each(|lost| broken(|t| put(t, "nodes", node(lost))));
        let mut cordoned = rest();
        put(&mut cordoned, "nodes", node("node.kubernetes.io/unschedulable"));
        check(&cordoned).unwrap();
    }
}
