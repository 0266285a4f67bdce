//! Discovery: which groups, versions and resources there are, in the legacy form (`APIGroupList`, `APIResourceList`) and
//! the aggregated one (KEP-3352), both made from the registry of kinds.

use std::collections::BTreeMap;

use copepod_model::kinds::{Kind, Kinds};
use serde_json::{Value, json};

use super::usage::{GROUP, VERSION};

/// Kinds that are answered and never stored: (group, version, plural, kind, namespaced).
pub const VIRTUAL: [(&str, &str, &str, &str, bool); 6] = [
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", false),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview", false),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews", "LocalSubjectAccessReview", true),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", false),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview", false),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", false),
];

/// Kinds that are measured when somebody asks, and never stored: (group, version, plural, kind, namespaced).
pub const MEASURED: [(&str, &str, &str, &str, bool); 2] =
    [(GROUP, VERSION, "nodes", "NodeMetrics", false), (GROUP, VERSION, "pods", "PodMetrics", true)];

/// Whether a group and version is one of those.
pub fn is_virtual(group: &str, version: &str) -> bool {
    VIRTUAL.iter().chain(&MEASURED).any(|(g, v, ..)| (*g, *v) == (group, version))
}

struct Resource {
    plural: String,
    singular: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<&'static str>,
    short_names: Vec<&'static str>,
    categories: Vec<&'static str>,
    /// (name, group, version, kind, verbs)
    subresources: Vec<(String, String, String, String, Vec<&'static str>)>,
}

type Groups = BTreeMap<String, BTreeMap<String, Vec<Resource>>>;

fn groups(kinds: &Kinds) -> Groups {
    let mut out = Groups::new();
    for k in kinds.every_version() {
        out.entry(k.group.into()).or_default().entry(k.version.into()).or_default().push(resource(k));
    }
    let reviews = VIRTUAL.map(|r| (r, r.3.to_lowercase(), vec!["create"]));
    // These have no name in the singular: `kubectl get pod` means the other kind.
    let measured = MEASURED.map(|r| (r, String::new(), vec!["get", "list"]));
    for ((group, version, plural, kind, namespaced), singular, verbs) in reviews.into_iter().chain(measured) {
        out.entry(group.into()).or_default().entry(version.into()).or_default().push(Resource {
            plural: plural.into(),
            singular,
            kind: kind.into(),
            namespaced,
            verbs,
            short_names: vec![],
            categories: vec![],
            subresources: vec![],
        });
    }
    out
}

fn resource(k: &Kind) -> Resource {
    let own = |name: &str, verbs: Vec<&'static str>| {
        (name.to_string(), k.group.to_string(), k.version.to_string(), k.kind.to_string(), verbs)
    };
    let mut subresources = Vec::new();
    for (name, kind, verbs) in k.subresources {
        let (group, version) = match *kind {
            "Eviction" => ("policy", "v1"),
            "TokenRequest" => ("authentication.k8s.io", "v1"),
            _ => (k.group, k.version),
        };
        subresources.push(((*name).into(), group.into(), version.into(), (*kind).into(), verbs.to_vec()));
    }
    if k.scale.is_some() && !k.subresources.iter().any(|(n, ..)| *n == "scale") {
        let verbs = vec!["get", "patch", "update"];
        subresources.push(("scale".into(), "autoscaling".into(), "v1".into(), "Scale".into(), verbs));
    }
    if k.status && !k.subresources.iter().any(|(n, ..)| *n == "status") {
        subresources.push(own("status", vec!["get", "patch", "update"]));
    }
    subresources.sort();
    Resource {
        plural: k.plural.into(),
        singular: k.singular.into(),
        kind: k.kind.into(),
        namespaced: k.namespaced,
        verbs: k.verbs.to_vec(),
        short_names: k.short_names.to_vec(),
        categories: k.categories.to_vec(),
        subresources,
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.into() } else { format!("{group}/{version}") }
}

/// `/api`.
pub fn core_versions(server: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    })
}

fn api_group(group: &str, versions: &BTreeMap<String, Vec<Resource>>) -> Value {
    let list: Vec<Value> = preferred(versions)
        .into_iter()
        .map(|(v, _)| json!({"groupVersion": group_version(group, v), "version": v}))
        .collect();
    json!({"name": group, "versions": list, "preferredVersion": list.first()})
}

/// The versions, the best first: stable ones before beta and alpha ones, and later ones before earlier ones.
fn preferred(versions: &BTreeMap<String, Vec<Resource>>) -> Vec<(&String, &Vec<Resource>)> {
    let mut out: Vec<_> = versions.iter().collect();
    out.sort_by_key(|(v, _)| std::cmp::Reverse(priority(v)));
    out
}

/// (how stable, major, minor) of a version such as `v2` or `v1beta3`; what is not of that form comes last.
fn priority(version: &str) -> (u8, u64, u64) {
    let parse = || {
        let rest = version.strip_prefix('v')?;
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(end);
        let (stable, minor) = match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            _ if rest.is_empty() => (3, "0"),
            (Some(minor), _) => (2, minor),
            (_, Some(minor)) => (1, minor),
            _ => return None,
        };
        Some((stable, major.parse().ok()?, minor.parse().ok()?))
    };
    parse().unwrap_or_default()
}

/// `/apis`.
pub fn api_groups(kinds: &Kinds) -> Value {
    let all = groups(kinds);
    let list: Vec<Value> = all.iter().filter(|(g, _)| !g.is_empty()).map(|(g, v)| api_group(g, v)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
}

/// `/apis/GROUP`.
pub fn one_group(kinds: &Kinds, group: &str) -> Option<Value> {
    let all = groups(kinds);
    let mut out = api_group(group, all.get(group)?);
    out["kind"] = "APIGroup".into();
    out["apiVersion"] = "v1".into();
    Some(out)
}

/// `/api/v1`, `/apis/GROUP/VERSION`.
pub fn resources(kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let all = groups(kinds);
    let mut list = Vec::new();
    for r in all.get(group)?.get(version)? {
        let mut one = json!({
            "name": r.plural, "singularName": r.singular, "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs,
        });
        if !r.short_names.is_empty() {
            one["shortNames"] = json!(r.short_names);
        }
        if !r.categories.is_empty() {
            one["categories"] = json!(r.categories);
        }
        list.push(one);
        for (name, g, v, kind, verbs) in &r.subresources {
            let mut one = json!({
                "name": format!("{}/{name}", r.plural), "singularName": "", "namespaced": r.namespaced, "kind": kind,
                "verbs": verbs,
            });
            if (g.as_str(), v.as_str()) != (group, version) {
                one["group"] = g.as_str().into();
                one["version"] = v.as_str().into();
            }
            list.push(one);
        }
    }
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version(group, version), "resources": list,
    }))
}

/// The aggregated form of `/api` (`core`) or of `/apis`.
pub fn aggregated(kinds: &Kinds, core: bool, beta: bool) -> Value {
    let all = groups(kinds);
    let items: Vec<Value> = all
        .iter()
        .filter(|(g, _)| g.is_empty() == core)
        .map(|(group, versions)| {
            let versions: Vec<Value> = preferred(versions)
                .into_iter()
                .map(|(version, list)| {
                    let resources: Vec<Value> = list.iter().map(|r| aggregated_resource(r, group, version)).collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    let version = if beta { "apidiscovery.k8s.io/v2beta1" } else { "apidiscovery.k8s.io/v2" };
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": version, "metadata": {}, "items": items})
}

fn aggregated_resource(r: &Resource, group: &str, version: &str) -> Value {
    let mut out = json!({
        "resource": r.plural,
        "responseKind": {"group": group, "version": version, "kind": r.kind},
        "scope": if r.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": r.singular, "verbs": r.verbs,
    });
    if !r.short_names.is_empty() {
        out["shortNames"] = json!(r.short_names);
    }
    if !r.categories.is_empty() {
        out["categories"] = json!(r.categories);
    }
    if !r.subresources.is_empty() {
        let one = |(name, g, v, kind, verbs): &(String, String, String, String, Vec<&str>)| json!({"subresource": name, "responseKind": {"group": g, "version": v, "kind": kind}, "verbs": verbs});
        out["subresources"] = r.subresources.iter().map(one).collect();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As upstream, where nearly every kind that is stored has all verbs.
    #[test]
    fn kinds_list_the_verbs_that_they_have() {
        let kinds = Kinds::shared();
        let all = json!(["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]);
        let few = json!(["create", "delete", "get", "list", "patch", "update", "watch"]);
        for kind in kinds.every_version() {
            let listed = resources(&kinds, kind.group, kind.version).unwrap()["resources"].clone();
            let found = listed.as_array().unwrap().iter().find(|r| r["name"] == kind.plural).unwrap()["verbs"].clone();
            let want = match kind.plural {
                "namespaces" => few.clone(),
                "componentstatuses" => json!(["get", "list"]),
                "bindings" => json!(["create"]),
                _ => all.clone(),
            };
            assert_eq!(found, want, "{}", kind.plural);
        }
    }

    #[test]
    fn events_are_in_two_groups() {
        let kinds = Kinds::shared();
        for (group, version) in [("", "v1"), ("events.k8s.io", "events.k8s.io/v1")] {
            let listed = resources(&kinds, group, "v1").unwrap();
            assert_eq!(listed["groupVersion"], version);
            let event = listed["resources"].as_array().unwrap().iter().find(|r| r["name"] == "events").unwrap();
            assert_eq!((&event["kind"], &event["shortNames"]), (&json!("Event"), &json!(["ev"])));
            let all = aggregated(&kinds, group.is_empty(), false);
            let found = all["items"].as_array().unwrap().iter().find(|g| g["metadata"]["name"] == group).unwrap();
            let listed = found["versions"][0]["resources"].as_array().unwrap();
            let event = listed.iter().find(|r| r["resource"] == "events").unwrap();
            assert_eq!(event["responseKind"], json!({"group": group, "version": "v1", "kind": "Event"}));
        }
        assert_eq!(one_group(&kinds, "events.k8s.io").unwrap()["preferredVersion"]["groupVersion"], "events.k8s.io/v1");
    }
}
