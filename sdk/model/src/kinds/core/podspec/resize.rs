//! Rules of `pods/resize` (KEP-1287): CPU and memory of containers and sidecars change while the pod runs, and nothing else.

use serde_json::Value;

use super::ephemeral::MIRROR;
use super::qos::qos_class;
use crate::FieldError;
use crate::kinds::fields::{Path, entries, list, required_one_of, text};

/// The lists of containers that have resources.
const LISTS: [&str; 2] = ["containers", "initContainers"];
/// What of a container may be said anew.
const RESIZED: [&str; 2] = ["resources", "resizePolicy"];
/// The resources that may change.
const MUTABLE: [&str; 2] = ["cpu", "memory"];

/// Rules of a container's `resizePolicy`. `never` is whether nothing of its pod restarts.
pub(super) fn policy(path: Path<'_>, c: &Value, never: bool, errors: &mut Vec<FieldError>) {
    let mut seen = Vec::new();
    for (i, p) in list(c, "resizePolicy").iter().enumerate() {
        let (resource, policy) = (text(p, "resourceName"), text(p, "restartPolicy"));
        if seen.contains(&resource) {
            errors.push(FieldError::duplicate(path.index(i), resource));
        }
        seen.push(resource);
        for (value, known) in [(resource, &MUTABLE), (policy, &["NotRequired", "RestartContainer"])] {
            required_one_of(path, value, known, errors);
        }
        if never && policy != "NotRequired" {
            let why = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(path, policy, why));
        }
    }
}

/// Keeps of a changed pod nothing but its containers' resources. Lists of other containers are kept as they are, for
/// [`validate_resize`] to see.
pub fn only_resources(new: &mut Value, old: &Value) {
    let given: Vec<Option<Value>> = LISTS.iter().map(|l| new["spec"].get_mut(*l).map(Value::take)).collect();
    new.clone_from(old);
    let Some(spec) = new["spec"].as_object_mut() else { return };
    for (name, given) in LISTS.iter().zip(given) {
        let given = given.unwrap_or(Value::Null);
        let mut kept = spec.get(*name).cloned().unwrap_or(Value::Null);
        let (items, before) = (given.as_array().map_or(&[][..], Vec::as_slice), kept.as_array_mut());
        let before = before.map_or(&mut [][..], Vec::as_mut_slice);
        let same = items.len() == before.len() && items.iter().zip(&*before).all(|(a, b)| a["name"] == b["name"]);
        if !same {
            spec.insert((*name).into(), given);
            continue;
        }
        for (item, before) in items.iter().zip(before) {
            let Some(before) = before.as_object_mut() else { continue };
            for field in RESIZED {
                match item.get(field) {
                    Some(value) => drop(before.insert(field.into(), value.clone())),
                    None => drop(before.remove(field)),
                }
            }
        }
        if !kept.is_null() {
            spec.insert((*name).into(), kept);
        }
    }
}

/// Errors of a change of a pod's resources (`ValidatePodResize`).
pub fn validate_resize(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let pod_level = |pod: &Value| {
        let own = &pod["spec"]["resources"];
        ["requests", "limits"].iter().any(|kind| entries(own, kind).next().is_some())
    };
    let never = if pod_level(old) || pod_level(new) {
        Some("pods with pod-level resources cannot be resized")
    } else if !old["metadata"]["annotations"][MIRROR].is_null() {
        Some("static pods cannot be resized")
    } else if old["spec"]["os"]["name"] == "windows" {
        Some("windows pods cannot be resized")
    } else {
        None
    };
    if let Some(why) = never {
        errors.clear();
        return errors.push(FieldError::forbidden("", why));
    }
    let spec = Path::root("spec");
    let class = match text(&old["status"], "qosClass") {
        "" => qos_class(&old["spec"]),
        class => class,
    };
    if qos_class(&new["spec"]) != class {
        errors.push(FieldError::invalid(spec, class, "Pod QOS Class may not change as a result of resizing"));
    }
    let before = errors.len();
    for name in LISTS {
        order(spec, name, &new["spec"], &old["spec"], errors);
    }
    if errors.len() > before {
        return;
    }
    for name in LISTS {
        let path = spec.child(name);
        for (i, (new, old)) in list(&new["spec"], name).iter().zip(list(&old["spec"], name)).enumerate() {
            let path = path.index(i);
            let sidecar = old["restartPolicy"] == "Always";
            match (name, sidecar) {
                ("initContainers", false) => {
                    if RESIZED.iter().any(|f| new[*f] != old[*f]) {
                        let why = "resources for non-sidecar init containers are immutable";
                        errors.push(FieldError::forbidden(spec, why));
                    }
                }
                _ => {
                    removed(path.child("resources"), &new["resources"], &old["resources"], errors);
                    if !same_otherwise(new, old) {
                        let of = if name == "initContainers" { " for sidecar containers" } else { "" };
                        let why = format!("only cpu and memory resources{of} are mutable");
                        errors.push(FieldError::forbidden(spec, why));
                    }
                }
            }
        }
    }
}

/// Containers stay the same, in the same order.
fn order(spec: Path<'_>, name: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (new, old, path) = (list(new, name), list(old, name), spec.child(name));
    if new.len() != old.len() {
        return errors.push(FieldError::forbidden(path, format!("{name} may not be added or removed on resize")));
    }
    for (i, _) in new.iter().zip(old).enumerate().filter(|(_, (n, o))| n["name"] != o["name"]) {
        let path = path.index(i);
        errors.push(FieldError::forbidden(
            path.child("name"),
            format!("{name} may not be renamed or reordered on resize"),
        ));
    }
}

fn removed(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    for kind in ["requests", "limits"] {
        if entries(old, kind).any(|(name, _)| new[kind][name.as_str()].is_null()) {
            errors.push(FieldError::forbidden(path.child(kind), format!("resource {kind} cannot be removed")));
        }
    }
}

/// Whether two containers' resources and policies differ in nothing but what may change.
fn same_otherwise(new: &Value, old: &Value) -> bool {
    let (now, before) = (&new["resources"], &old["resources"]);
    let others = |of: &Value, kind: &str| -> Vec<(String, Value)> {
        let all = entries(of, kind).filter(|(name, _)| !MUTABLE.contains(&name.as_str()));
        all.map(|(name, amount)| (name.clone(), amount.clone())).collect()
    };
    let same = ["requests", "limits"].iter().all(|k| others(now, k) == others(before, k));
    same && now["claims"] == before["claims"] && new["resizePolicy"] == old["resizePolicy"]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(containers: Value, inits: Value) -> Value {
        let spec = json!({"containers": containers, "initContainers": inits, "nodeName": "n"});
        let class = qos_class(&spec);
        json!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": spec, "status": {"qosClass": class}})
    }

    fn container(name: &str, cpu: &str, memory: &str) -> Value {
        json!({"name": name, "image": "i", "resources": {
            "requests": {"cpu": cpu, "memory": memory, "ephemeral-storage": "1Gi"}, "limits": {"memory": "1Gi"}}})
    }

    fn errors(old: &Value, change: impl Fn(&mut Value)) -> String {
        let mut new = old.clone();
        change(&mut new);
        only_resources(&mut new, old);
        let mut errors = Vec::new();
        validate_resize(&new, old, &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn resources_and_their_policy_are_taken_and_nothing_else() {
        let old = pod(json!([container("a", "1", "1Mi"), container("b", "1", "1Mi")]), Value::Null);
        let mut new = old.clone();
        new["metadata"]["labels"]["a"] = "c".into();
        new["spec"]["nodeName"] = "m".into();
        new["spec"]["containers"][1]["image"] = "j".into();
        new["spec"]["containers"][1]["resources"]["requests"]["cpu"] = "2".into();
        new["spec"]["containers"][1]["resizePolicy"] = json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        only_resources(&mut new, &old);
        let mut want = old.clone();
        want["spec"]["containers"][1]["resources"]["requests"]["cpu"] = "2".into();
        want["spec"]["containers"][1]["resizePolicy"] =
            json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}]);
        assert_eq!(new, want);
    }

    #[test]
    fn upstreams_refusals() {
        let mut sidecar = container("s", "1", "1Mi");
        sidecar["restartPolicy"] = "Always".into();
        let old = pod(
            json!([container("a", "1", "1Mi"), container("b", "1", "1Mi")]),
            json!([sidecar, container("i", "1", "1Mi")]),
        );
        let spec = |v: &mut Value, list: &str, i: usize, kind: &str, what: &str, amount: Value| {
            v["spec"][list][i]["resources"][kind][what] = amount;
        };
        assert_eq!(errors(&old, |v| spec(v, "containers", 0, "requests", "cpu", "2".into())), "");
        assert_eq!(errors(&old, |v| spec(v, "containers", 0, "limits", "memory", "512Mi".into())), "", "less, too");
        assert_eq!(
            errors(&old, |v| spec(v, "containers", 0, "limits", "cpu", "4".into())),
            "",
            "one that was not there"
        );
        assert_eq!(errors(&old, |v| spec(v, "initContainers", 0, "requests", "memory", "2Mi".into())), "");
        let want = "spec.containers[1].resources.requests: Forbidden: resource requests cannot be removed";
        assert_eq!(
            errors(&old, |v| drop(
                v["spec"]["containers"][1]["resources"]["requests"].as_object_mut().unwrap().remove("cpu")
            )),
            want
        );
        let want = "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed";
        assert_eq!(
            errors(&old, |v| drop(v["spec"]["containers"][0]["resources"].as_object_mut().unwrap().remove("limits"))),
            want
        );
        let want = "spec: Forbidden: only cpu and memory resources are mutable";
        assert_eq!(errors(&old, |v| spec(v, "containers", 0, "requests", "ephemeral-storage", "2Gi".into())), want);
        let want = "spec: Forbidden: only cpu and memory resources for sidecar containers are mutable";
        assert_eq!(errors(&old, |v| spec(v, "initContainers", 0, "limits", "ephemeral-storage", "2Gi".into())), want);
        let want = "spec: Forbidden: resources for non-sidecar init containers are immutable";
        assert_eq!(errors(&old, |v| spec(v, "initContainers", 1, "requests", "cpu", "2".into())), want);
        let want = "spec.containers: Forbidden: containers may not be added or removed on resize";
        assert_eq!(errors(&old, |v| drop(v["spec"]["containers"].as_array_mut().unwrap().pop())), want);
        let want = "spec.initContainers[0].name: Forbidden: initContainers may not be renamed or reordered on resize";
        assert_eq!(errors(&old, |v| v["spec"]["initContainers"][0]["name"] = "t".into()), want);
        let full = json!([{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}}}]);
        let want = "spec: Invalid value: \"Guaranteed\": Pod QOS Class may not change as a result of resizing";
        assert_eq!(
            errors(&pod(full, Value::Null), |v| spec(v, "containers", 0, "requests", "cpu", "500m".into())),
            want
        );
        let bare = pod(json!([{"name": "a"}]), Value::Null);
        assert!(
            errors(&bare, |v| spec(v, "containers", 0, "requests", "cpu", "1".into()))
                .contains("Pod QOS Class may not change")
        );
    }

    #[test]
    fn policies_are_for_cpu_and_memory_once_each() {
        let said = |policies: Value, never: bool| {
            let mut errors = Vec::new();
            policy(Path::root("resizePolicy"), &json!({"resizePolicy": policies}), never, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        let one = |resource: &str, policy: &str| json!({"resourceName": resource, "restartPolicy": policy});
        assert_eq!(said(json!([one("cpu", "NotRequired"), one("memory", "RestartContainer")]), false), "");
        let twice = json!([one("cpu", "NotRequired"), one("cpu", "NotRequired")]);
        assert_eq!(said(twice, false), "resizePolicy[1]: Duplicate value: \"cpu\"");
        let want = "resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"";
        assert_eq!(said(json!([one("disk", "NotRequired")]), false), want);
        let want =
            "resizePolicy: Invalid value: \"RestartContainer\": must be 'NotRequired' when `restartPolicy` is 'Never'";
        assert_eq!(said(json!([one("memory", "RestartContainer")]), true), want);
    }

    #[test]
    fn pods_that_are_never_resized() {
        let plain = pod(json!([container("a", "1", "1Mi")]), Value::Null);
        for (path, value, why) in [
            ("/metadata/annotations", json!({MIRROR: "x"}), "static pods cannot be resized"),
            ("/spec/os", json!({"name": "windows"}), "windows pods cannot be resized"),
            ("/spec/resources", json!({"limits": {"cpu": "1"}}), "pods with pod-level resources cannot be resized"),
        ] {
            let (parent, name) = path.rsplit_once('/').unwrap();
            let mut old = plain.clone();
            old.pointer_mut(parent).unwrap()[name] = value;
            let errors = errors(&old, |v| v["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "2".into());
            assert!(errors.ends_with(&format!("Forbidden: {why}")), "{errors}");
        }
    }
}
