//! One writer per field: who may write what, over all changes of all kinds.

use std::collections::{BTreeMap, BTreeSet};

use copepod_state::Change;
use serde_json::Value;

use super::Broken;

/// Who asks from outside of the cluster: people, and the simulation itself.
const OUTSIDE: &[&str] = &["user", "kv", "twins", "probe", "script"];

/// What is charged by whoever evicts or creates, in the same transaction, and what each who reports has of its own.
const ANYONE: &[&str] = &["*"];

/// Who writes what of an existing object: the resource, the field (as far as a path goes, it is about all below it; conditions
/// have their type as a field), and the writers. Where several are named, each has its own objects or its own part of a
/// field's life, as upstream. What is not here is for those outside.
const WRITERS: &[(&str, &str, &[&str])] = &[
    ("configmaps", "data", &["root-ca", "user", "kv", "twins", "probe", "script"]),
    ("deployments.apps", "status", &["deployment"]),
    ("endpoints", "subsets", &["endpoint"]),
    // Those of Services with a selector, and mirrors of Endpoints.
    ("endpointslices.discovery.k8s.io", "endpoints", &["endpointslice", "endpointslicemirroring"]),
    ("endpointslices.discovery.k8s.io", "ports", &["endpointslice", "endpointslicemirroring"]),
    // Each counts what it has reported itself.
    ("events", "count", ANYONE),
    ("events", "lastTimestamp", ANYONE),
    ("flowschemas.flowcontrol.apiserver.k8s.io", "status", &["flow-schema"]),
    ("gatewayclasses.gateway.networking.k8s.io", "status", &["gateway"]),
    ("gateways.gateway.networking.k8s.io", "status", &["gateway"]),
    ("grpcroutes.gateway.networking.k8s.io", "status", &["gateway"]),
    ("httproutes.gateway.networking.k8s.io", "status", &["gateway"]),
    ("ingresses.networking.k8s.io", "status", &["ingress-status"]),
    ("jobs.batch", "status", &["job"]),
    ("leases.coordination.k8s.io", "spec", &["node"]),
    ("namespaces", "spec.finalizers", &["namespace"]),
    ("namespaces", "status", &["namespace"]),
    // By whom it is deleted.
    ("namespaces", "status.phase", &["user"]),
    ("nodes", "spec.podCIDR", &["node-ipam"]),
    ("nodes", "spec.podCIDRs", &["node-ipam"]),
    ("nodes", "spec.taints", &["node-lifecycle"]),
    ("nodes", "status", &["node"]),
    // Of a node that says nothing any more they are unknown.
    ("nodes", "status.conditions", &["node", "node-lifecycle"]),
    ("poddisruptionbudgets.policy", "status", ANYONE),
    ("pods", "spec.nodeName", &["scheduler"]),
    ("pods", "status", &["node"]),
    // Of pods whose node is gone, and of those that are evicted.
    ("pods", "status.phase", &["node", "pod-gc"]),
    ("pods", "status.conditions.DisruptionTarget", &["node", "node-lifecycle", "pod-gc", "user"]),
    ("pods", "status.conditions.PodScheduled", &["node", "scheduler"]),
    // Of a node that says nothing any more its pods are not.
    ("pods", "status.conditions.Ready", &["node", "node-lifecycle"]),
    ("replicasets.apps", "spec", &["deployment"]),
    ("replicasets.apps", "status", &["replicaset"]),
    ("resourcequotas", "status", ANYONE),
    ("services", "status", &["load-balancer"]),
    ("tcproutes.gateway.networking.k8s.io", "status", &["gateway"]),
    ("tlsroutes.gateway.networking.k8s.io", "status", &["gateway"]),
];

/// Everything but the metadata that a change changes has one writer.
pub fn check(change: &Change, actor: &str) -> Result<(), Broken> {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return Ok(()) };
    if change.key.resource.starts_with('_') {
        // No object of the API.
        return Ok(());
    }
    match foreign(&change.key.resource, &old.value(), &new.value(), actor) {
        Some(field) => Err(("one_writer", format!("{actor} wrote {field} of {}", change.key))),
        None => Ok(()),
    }
}

/// A field that `actor` changed and may not write.
fn foreign(resource: &str, before: &Value, after: &Value, actor: &str) -> Option<String> {
    let may = |field: &str| {
        let below = |path: &str| field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let rows = WRITERS.iter().filter(|(of, path, _)| *of == resource && below(path));
        let writers = rows.max_by_key(|(_, path, _)| path.len()).map_or(OUTSIDE, |(_, _, writers)| *writers);
        writers == ANYONE || writers.contains(&actor)
    };
    changed(before, after).into_iter().find(|field| !may(field))
}

/// The fields that differ: of `spec` and `status` those in them, of conditions their types.
fn changed(before: &Value, after: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for name in keys(before, after).into_iter().filter(|n| !["metadata", "apiVersion", "kind"].contains(n)) {
        let (old, new) = (&before[name], &after[name]);
        if old == new {
            continue;
        }
        if !["spec", "status"].contains(&name) {
            out.push(name.to_string());
            continue;
        }
        for part in keys(old, new) {
            let (old, new) = (&old[part], &new[part]);
            if part == "conditions" {
                let differ = types(old, new).into_iter().filter(|t| of_type(old, t) != of_type(new, t));
                out.extend(differ.map(|t| format!("{name}.{part}.{t}")));
            } else if old != new {
                out.push(format!("{name}.{part}"));
            }
        }
    }
    out
}

fn keys<'a>(a: &'a Value, b: &'a Value) -> BTreeSet<&'a str> {
    [a, b].into_iter().filter_map(Value::as_object).flat_map(|o| o.keys().map(String::as_str)).collect()
}

fn types<'a>(a: &'a Value, b: &'a Value) -> BTreeSet<&'a str> {
    [a, b].into_iter().filter_map(Value::as_array).flatten().filter_map(|c| c["type"].as_str()).collect()
}

/// What a condition says; a field that is null says nothing.
fn of_type<'a>(conditions: &'a Value, kind: &str) -> Option<BTreeMap<&'a String, &'a Value>> {
    let condition = conditions.as_array()?.iter().find(|c| c["type"] == kind)?.as_object()?;
    Some(condition.iter().filter(|(_, v)| !v.is_null()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_field_has_its_writer() {
        let one = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1, "nodeName": ""},
            "status": {"replicas": 1, "conditions": [{"type": "Ready", "status": "True"}]},
            "count": 1, "reason": "some"});
        let with = |path: &str, value: Value| {
            let mut other = one.clone();
            *other.pointer_mut(path).unwrap() = value;
            other
        };
        let size = with("/spec/replicas", json!(2));
        let counted = with("/status/replicas", json!(2));
        let ready = with("/status/conditions/0/status", json!("False"));
        let labelled = with("/metadata/labels/a", json!("c"));
        for (resource, after, actor, want) in [
            ("deployments.apps", &size, "user", None),
            ("deployments.apps", &size, "deployment", Some("spec.replicas")),
            ("deployments.apps", &counted, "deployment", None),
            ("deployments.apps", &counted, "replicaset", Some("status.replicas")),
            ("replicasets.apps", &size, "deployment", None),
            ("replicasets.apps", &size, "replicaset", Some("spec.replicas")),
            ("replicasets.apps", &counted, "deployment", Some("status.replicas")),
            ("replicasets.apps", &counted, "replicaset", None),
            ("replicasets.apps", &labelled, "node", None),
            ("nodes", &ready, "node-lifecycle", None),
            ("nodes", &counted, "node-lifecycle", Some("status.replicas")),
            ("pods", &ready, "node-lifecycle", None),
            ("pods", &ready, "pod-gc", Some("status.conditions.Ready")),
            ("pods", &with("/spec/nodeName", json!("n")), "scheduler", None),
            ("pods", &with("/spec/nodeName", json!("n")), "node", Some("spec.nodeName")),
            ("events", &with("/count", json!(2)), "replicaset", None),
            ("events", &with("/reason", json!("other")), "replicaset", Some("reason")),
            ("jobs.batch", &counted, "job", None),
            ("jobs.batch", &counted, "garbage-collector", Some("status.replicas")),
            ("leases.coordination.k8s.io", &size, "node-lifecycle", Some("spec.replicas")),
            ("widgets.example.com", &counted, "user", None),
            ("widgets.example.com", &counted, "deployment", Some("status.replicas")),
        ] {
            assert_eq!(foreign(resource, &one, after, actor).as_deref(), want, "{actor} of {resource}");
        }
        let slice = |ip: &str| json!({"endpoints": [{"addresses": [ip]}]});
        let written = |actor: &str| foreign("endpointslices.discovery.k8s.io", &slice("a"), &slice("b"), actor);
        assert_eq!((written("endpointslice"), written("endpoint").as_deref()), (None, Some("endpoints")));
    }

    #[test]
    fn writers_are_controllers_or_others_that_are_there() {
        let kinds = copepod_model::kinds::Kinds::shared();
        let config = copepod_controllers::Config::new(kinds.clone(), "ca".into(), copepod_machine::Time::from_secs(0));
        let controllers: Vec<&str> = copepod_controllers::all(&config).iter().map(|c| c.name()).collect();
        for (resource, field, writers) in WRITERS {
            assert!(kinds.group_resource(resource).is_some(), "{resource}");
            for writer in writers.iter().filter(|_| *writers != ANYONE) {
                let known =
                    controllers.contains(writer) || OUTSIDE.contains(writer) || ["node", "scheduler"].contains(writer);
                assert!(known, "{writer} of {resource} {field}");
            }
        }
    }
}
