//! What objects cost of a ResourceQuota (upstream's `pkg/quota/v1/evaluator/core`): admission charges by this, and the
//! controller counts by it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use crate::Time;
use crate::kinds::core::podspec;
use crate::kinds::fields::{list, text};
use crate::pod_resources::{self, Amounts, add};
use crate::quantity::Quantity;
use crate::selector::LabelSelector;

const PODS: &str = "pods";
const SERVICES: &str = "services";
const CLAIMS: &str = "persistentvolumeclaims";
/// Resources that quotas also know without `count/`.
const COUNTED: [&str; 4] = ["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];
const POD_NAMES: [&str; 10] = [
    "cpu",
    "ephemeral-storage",
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "memory",
    "pods",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];
const SERVICE_NAMES: [&str; 3] = ["services", "services.loadbalancers", "services.nodeports"];
const CLAIM_NAMES: [&str; 2] = [CLAIMS, "requests.storage"];
/// Follows a class's name in what a quota says of the claims of that class.
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
/// What every container has to say if a quota tracks it.
const MUST_BE_SAID: [&str; 6] = ["cpu", "limits.cpu", "limits.memory", "memory", "requests.cpu", "requests.memory"];
/// What quotas ignore.
const IGNORED: [&str; 3] = ["bindings", "events", "events.events.k8s.io"];

/// Whether objects of a resource (a GroupResource) may be counted at all.
pub fn counts(resource: &str) -> bool {
    !IGNORED.contains(&resource)
}

/// Whether an update of an object may change what it costs.
pub fn updates_cost(resource: &str) -> bool {
    matches!(resource, SERVICES | CLAIMS)
}

/// Whether what a quota calls `name` depends on objects of a resource.
pub fn tracks(resource: &str, name: &str) -> bool {
    if name.strip_prefix("count/") == Some(resource) {
        return true;
    }
    match resource {
        PODS => {
            let extended = name.starts_with("requests.") && name.contains('/') && !name.contains("kubernetes.io/");
            POD_NAMES.contains(&name)
                || name.starts_with("hugepages-")
                || name.starts_with("requests.hugepages-")
                || extended
        }
        SERVICES => SERVICE_NAMES.contains(&name),
        CLAIMS => {
            let of_class = |n: &&'static str| name.strip_suffix(*n).is_some_and(|rest| rest.ends_with(BY_CLASS));
            CLAIM_NAMES.contains(&name) || CLAIM_NAMES.iter().any(of_class)
        }
        _ => COUNTED.contains(&resource) && name == resource,
    }
}

/// The resources whose objects have to be looked at for a quota with these names.
pub fn tracked<'a>(names: impl Iterator<Item = &'a str> + Clone) -> BTreeSet<&'a str> {
    let fixed = [PODS, SERVICES, CLAIMS].into_iter().chain(COUNTED);
    let counted = names.clone().filter_map(|n| n.strip_prefix("count/"));
    fixed.chain(counted).filter(|r| names.clone().any(|n| tracks(r, n))).collect()
}

/// Whether every object of a resource costs a quota with this spec one of each of `names`, which track the resource, whatever is in
/// the object: so they can be counted without being looked at.
pub fn is_plain_count(spec: &Value, resource: &str, names: &[&str]) -> bool {
    let scoped = !list(spec, "scopes").is_empty() || !list(&spec["scopeSelector"], "matchExpressions").is_empty();
    let plain =
        |name: &str| name.strip_prefix("count/") == Some(resource) || (COUNTED.contains(&resource) && name == resource);
    !scoped && names.iter().all(|name| plain(name))
}

/// What an object costs, by all names that a quota could use.
pub fn usage(resource: &str, object: &Value, now: Time) -> Amounts {
    let one = Quantity::from_units(1);
    let mut out = Amounts::from([(format!("count/{resource}"), one)]);
    match resource {
        PODS if is_charged(object, now) => {
            let spec = &object["spec"];
            add(&mut out, &compute(&pod_resources::requests(spec), &pod_resources::limits(spec)));
        }
        SERVICES => service(&object["spec"], &mut out),
        CLAIMS => claim(object, &mut out),
        r if COUNTED.contains(&r) => drop(out.insert(r.into(), one)),
        _ => {}
    }
    out
}

/// Whether a pod still takes anything: it has not ended, and is not long overdue.
fn is_charged(pod: &Value, now: Time) -> bool {
    if matches!(text(&pod["status"], "phase"), "Failed" | "Succeeded") {
        return false;
    }
    let meta = &pod["metadata"];
    let (Some(at), Some(grace)) =
        (meta["deletionTimestamp"].as_str().and_then(Time::parse), meta["deletionGracePeriodSeconds"].as_u64())
    else {
        return true;
    };
    now <= at + Duration::from_secs(grace)
}

fn compute(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut out = Amounts::from([(PODS.to_string(), Quantity::from_units(1))]);
    for name in ["cpu", "memory", "ephemeral-storage"] {
        if let Some(q) = requests.get(name) {
            out.insert(name.into(), *q);
            out.insert(format!("requests.{name}"), *q);
        }
        if let Some(q) = limits.get(name) {
            out.insert(format!("limits.{name}"), *q);
        }
    }
    for (name, q) in requests {
        let extended = name.contains('/') && !name.contains("kubernetes.io/");
        if name.starts_with("hugepages-") {
            out.insert(name.clone(), *q);
        }
        if extended || name.starts_with("hugepages-") {
            out.insert(format!("requests.{name}"), *q);
        }
    }
    out
}

fn service(spec: &Value, out: &mut Amounts) {
    let ports = list(spec, "ports");
    let all = ports.len();
    let given = ports.iter().filter(|p| p["nodePort"].as_u64().unwrap_or(0) != 0).count();
    let (node_ports, balancers) = match text(spec, "type") {
        "NodePort" => (all, 0),
        "LoadBalancer" if spec["allocateLoadBalancerNodePorts"] == false => (given, 1),
        "LoadBalancer" => (all, 1),
        _ => (0, 0),
    };
    for (name, n) in [(SERVICES, 1), ("services.nodeports", node_ports), ("services.loadbalancers", balancers)] {
        out.insert(name.into(), Quantity::from_units(n as i64));
    }
}

fn claim(object: &Value, out: &mut Amounts) {
    let spec = &object["spec"];
    let class = match text(&object["metadata"]["annotations"], "volume.beta.kubernetes.io/storage-class") {
        "" => text(spec, "storageClassName"),
        annotated => annotated,
    };
    let size = |v: &Value| v.as_str().and_then(|t| t.parse::<Quantity>().ok());
    let asked = size(&spec["resources"]["requests"]["storage"]);
    let allocated = size(&object["status"]["allocatedResources"]["storage"]);
    let storage = asked.map(|asked| allocated.map_or(asked, |a| a.max(asked)));
    // Whole bytes, as quotas are.
    let storage = storage.map(|q| if q.is_integer() { q } else { Quantity::from_units(q.value()) });
    let costs = [(CLAIMS, Some(Quantity::from_units(1))), ("requests.storage", storage)];
    for (name, q) in costs.into_iter().filter_map(|(n, q)| Some((n, q?))) {
        out.insert(name.into(), q);
        if !class.is_empty() {
            out.insert(format!("{class}{BY_CLASS}{name}"), q);
        }
    }
}

/// What the containers of a pod do not say although the quota tracks `names`, in upstream's words.
pub fn unsaid(pod: &Value, names: &[&str]) -> Option<String> {
    let mut missing: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for c in ["containers", "initContainers"].iter().flat_map(|l| list(&pod["spec"], l)) {
        let said = compute(
            &pod_resources::amounts(&c["resources"]["requests"]),
            &pod_resources::amounts(&c["resources"]["limits"]),
        );
        for name in names.iter().filter(|n| MUST_BE_SAID.contains(n) && !said.contains_key(**n)) {
            missing.entry(*name).or_default().insert(text(c, "name"));
        }
    }
    if missing.is_empty() {
        return None;
    }
    let each = |(name, containers): (&&str, &BTreeSet<&str>)| {
        format!("{name} for: {}", containers.iter().copied().collect::<Vec<_>>().join(","))
    };
    Some(format!("must specify {}", missing.iter().map(each).collect::<Vec<_>>().join("; ")))
}

/// Whether an object is in all scopes that a quota's spec names.
pub fn in_scopes(spec: &Value, resource: &str, object: &Value) -> bool {
    let exists = Value::from("Exists");
    let plain = list(spec, "scopes").iter().filter_map(Value::as_str).map(|s| (s, &exists, &Value::Null));
    let selected = list(&spec["scopeSelector"], "matchExpressions");
    let selected = selected.iter().map(|r| (text(r, "scopeName"), &r["operator"], &r["values"]));
    plain.chain(selected).all(|(scope, operator, values)| in_scope(scope, operator, values, resource, object))
}

fn in_scope(scope: &str, operator: &Value, values: &Value, resource: &str, object: &Value) -> bool {
    let spec = &object["spec"];
    let terminating = || spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    let best_effort = || podspec::qos_class(spec) == "BestEffort";
    let selects = |names: &BTreeSet<&str>| {
        let requirement = serde_json::json!({"key": scope, "operator": operator, "values": values});
        let selector = LabelSelector::from_json(&serde_json::json!({"matchExpressions": [requirement]}));
        selector.is_ok_and(|s| match names.is_empty() {
            true => s.matches_with(|_| None),
            false => names.iter().any(|n| s.matches_with(|_| Some(n))),
        })
    };
    match (resource, scope) {
        (PODS, "Terminating") => terminating(),
        (PODS, "NotTerminating") => !terminating(),
        (PODS, "BestEffort") => best_effort(),
        (PODS, "NotBestEffort") => !best_effort(),
        (PODS, "PriorityClass") => {
            selects(&[text(spec, "priorityClassName")].into_iter().filter(|n| !n.is_empty()).collect())
        }
        (PODS, "CrossNamespacePodAffinity") => crosses_namespaces(&spec["affinity"]),
        (CLAIMS, "VolumeAttributesClass") => {
            let status = &object["status"];
            let names = [
                text(spec, "volumeAttributesClassName"),
                text(status, "currentVolumeAttributesClassName"),
                text(&status["modifyVolumeStatus"], "targetVolumeAttributesClassName"),
            ];
            selects(&names.into_iter().filter(|n| !n.is_empty()).collect())
        }
        _ => false,
    }
}

fn crosses_namespaces(affinity: &Value) -> bool {
    let crosses = |term: &Value| !list(term, "namespaces").is_empty() || !term["namespaceSelector"].is_null();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let (hard, soft) = (
            list(&affinity[*kind], "requiredDuringSchedulingIgnoredDuringExecution"),
            list(&affinity[*kind], "preferredDuringSchedulingIgnoredDuringExecution"),
        );
        hard.iter().any(crosses) || soft.iter().any(|s| crosses(&s["podAffinityTerm"]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_costs_one_in_any_case_need_not_be_looked_at() {
        let scopes = json!({"scopes": ["NotTerminating"]});
        let selector =
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "BestEffort", "operator": "Exists"}]}});
        let free = json!({"hard": {"pods": "1"}, "scopes": []});
        for (spec, resource, names, want) in [
            (&free, "configmaps", &["configmaps", "count/configmaps"][..], true),
            (&free, "jobs.batch", &["count/jobs.batch"], true),
            (&free, "pods", &["count/pods"], true),
            (&free, "pods", &["count/pods", "pods"], false),
            (&free, "services", &["services"], false),
            (&free, "persistentvolumeclaims", &["requests.storage"], false),
            (&scopes, "pods", &["count/pods"], false),
            (&selector, "pods", &["count/pods"], false),
        ] {
            assert_eq!(is_plain_count(spec, resource, names), want, "{spec} {resource} {names:?}");
            if want {
                let cost = usage(resource, &Value::Null, Time::default());
                assert!(names.iter().all(|n| cost[*n] == Quantity::from_units(1)), "{resource}");
            }
        }
    }

    fn shown(resource: &str, object: Value) -> String {
        let all = usage(resource, &object, Time::from_secs(1000));
        all.iter().map(|(k, q)| format!("{k}={q}")).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn objects_cost_what_upstream_charges() {
        let c = json!({"name": "c", "resources": {"requests": {"cpu": "100m", "example.com/gpu": "1"}, "limits": {"memory": "1Gi"}}});
        let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30000}]);
        for (resource, object, want) in [
            (
                "pods",
                json!({"spec": {"containers": [c]}}),
                "count/pods=1,cpu=100m,limits.memory=1Gi,pods=1,requests.cpu=100m,requests.example.com/gpu=1",
            ),
            ("pods", json!({"spec": {"containers": [c]}, "status": {"phase": "Succeeded"}}), "count/pods=1"),
            (
                "pods",
                json!({"metadata": {"deletionTimestamp": "1970-01-01T00:00:10Z", "deletionGracePeriodSeconds": 30}}),
                "count/pods=1",
            ),
            (
                "services",
                json!({"spec": {"ports": ports}}),
                "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0",
            ),
            (
                "services",
                json!({"spec": {"type": "NodePort", "ports": ports}}),
                "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2",
            ),
            (
                "services",
                json!({"spec": {"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}}),
                "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1",
            ),
            (
                "persistentvolumeclaims",
                json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
                "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
                 gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi",
            ),
            ("secrets", json!({}), "count/secrets=1,secrets=1"),
            ("deployments.apps", json!({}), "count/deployments.apps=1"),
        ] {
            assert_eq!(shown(resource, object.clone()), want, "{resource} {object}");
        }
    }

    #[test]
    fn what_is_used_is_what_is_tracked() {
        for (resource, name, want) in [
            ("pods", "requests.cpu", true),
            ("pods", "requests.example.com/gpu", true),
            ("pods", "hugepages-2Mi", true),
            ("pods", "requests.storage", false),
            ("persistentvolumeclaims", "requests.storage", true),
            ("persistentvolumeclaims", "gold.storageclass.storage.k8s.io/requests.storage", true),
            ("services", "services.nodeports", true),
            ("secrets", "secrets", true),
            ("secrets", "configmaps", false),
            ("deployments.apps", "count/deployments.apps", true),
            ("deployments.apps", "deployments.apps", false),
        ] {
            assert_eq!(tracks(resource, name), want, "{resource} {name}");
        }
        let names = ["count/jobs.batch", "limits.cpu", "secrets"];
        assert_eq!(tracked(names.iter().copied()), BTreeSet::from(["jobs.batch", "pods", "secrets"]));
    }

    #[test]
    fn scopes_choose_objects() {
        let plain = json!({"spec": {"containers": [{"name": "c"}]}});
        let urgent = json!({"spec": {"priorityClassName": "high", "activeDeadlineSeconds": 5,
            "containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
            "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}}}});
        let scope = |s: &str| json!({ "scopes": [s] });
        let select = |operator: &str, values: Value| {
            json!({"scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
        };
        for (spec, of_plain, of_urgent) in [
            (json!({}), true, true),
            (scope("Terminating"), false, true),
            (scope("NotTerminating"), true, false),
            (scope("BestEffort"), true, false),
            (scope("NotBestEffort"), false, true),
            (scope("PriorityClass"), false, true),
            (scope("CrossNamespacePodAffinity"), false, true),
            (select("In", json!(["high", "low"])), false, true),
            (select("In", json!(["low"])), false, false),
            (select("NotIn", json!(["high"])), true, false),
            (select("Exists", json!([])), false, true),
            (select("DoesNotExist", json!([])), true, false),
            (json!({"scopes": ["Terminating", "BestEffort"]}), false, false),
        ] {
            let got = (in_scopes(&spec, "pods", &plain), in_scopes(&spec, "pods", &urgent));
            assert_eq!(got, (of_plain, of_urgent), "{spec}");
        }
        assert!(!in_scopes(&scope("BestEffort"), "services", &json!({})), "services are in no scope");
    }

    #[test]
    fn what_a_quota_tracks_has_to_be_said() {
        let pod = json!({"spec": {"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "1"}}}, {"name": "b"}]}});
        let got = unsaid(&pod, &["requests.cpu", "limits.memory", "pods"]);
        assert_eq!(got.as_deref(), Some("must specify limits.memory for: a,b; requests.cpu for: b"));
        assert_eq!(unsaid(&pod, &["pods", "requests.ephemeral-storage"]), None);
    }
}
