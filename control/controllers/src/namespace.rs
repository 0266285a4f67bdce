//! Empties a namespace that is being deleted, then lets it go (upstream's `pkg/controller/namespace`).

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_machine::{Action, Plan, View};
use copepod_model::kinds::Kinds;
use copepod_model::request::Propagation;
use copepod_model::{Key, Object, Time};
use serde_json::Value;

use crate::support::conditions::{self, Wanted};
use crate::support::{BURST, keys_of, status_patch};
use crate::{Config, Controller};

const RESOURCE: &str = "namespaces";
const FINALIZER: &str = "kubernetes";

struct Namespaces {
    kinds: Arc<Kinds>,
}

pub(crate) fn new(config: &Config) -> impl Controller + use<> {
    Namespaces { kinds: config.kinds.clone() }
}

impl Controller for Namespaces {
    fn name(&self) -> &'static str {
        "namespace"
    }

    fn watches(&self) -> &'static [&'static str] {
        &["*"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        if &*object.key.resource == RESOURCE {
            return if object.meta.deletion_timestamp.is_some() { vec![object.key.clone()] } else { vec![] };
        }
        if object.namespace().is_empty() {
            return vec![];
        }
        let namespace = view.get(RESOURCE, "", object.namespace());
        namespace.filter(|n| n.meta.deletion_timestamp.is_some()).map(|n| n.key.clone()).into_iter().collect()
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, RESOURCE)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(namespace) = view.get(RESOURCE, "", &key.name) else { return plan };
        if namespace.meta.deletion_timestamp.is_none() {
            return plan;
        }
        let mut value = namespace.value();
        let finalizers = value["spec"]["finalizers"].as_array().cloned().unwrap_or_default();
        if !finalizers.iter().any(|f| f == FINALIZER) {
            return plan;
        }
        let left = self.content(view, &key.name);
        // Pods go first, so that nothing they rely on (policies, secrets) goes from under them.
        let pods_only = left.contains_key("pods");
        let mut deletes = Plan::none();
        for (resource, objects) in left.iter().filter(|(r, _)| !pods_only || *r == "pods") {
            for o in objects.iter().filter(|o| o.meta.deletion_timestamp.is_none()).take(BURST) {
                let delete = Action::Delete {
                    resource: resource.clone(),
                    namespace: key.name.to_string(),
                    name: o.name().into(),
                    uid: o.meta.uid.to_string(),
                    propagation: Some(Propagation::Background),
                    grace_seconds: None,
                };
                deletes.push(delete, "its namespace is being deleted");
            }
        }
        if let Some(action) = status_patch(&namespace, &value, [("conditions", report(&value, &left, now).into())]) {
            plan.push(action, "what is left");
        }
        plan.0.extend(deletes.0);
        if left.is_empty() {
            let rest: Vec<Value> = finalizers.into_iter().filter(|f| f != FINALIZER).collect();
            value["spec"]["finalizers"] = rest.into();
            // The status patch before this one has moved the version; only the UID matters here.
            if let Some(meta) = value["metadata"].as_object_mut() {
                meta.remove("resourceVersion");
            }
            let update = Action::Update {
                resource: RESOURCE,
                namespace: String::new(),
                name: key.name.to_string(),
                subresource: "finalize",
                object: value,
            };
            plan.push(update, "nothing is left");
        }
        plan
    }
}

impl Namespaces {
    fn content(&self, view: &dyn View, namespace: &str) -> BTreeMap<String, Vec<Arc<Object>>> {
        let resources = self.kinds.iter().filter(|k| k.namespaced).map(|k| k.group_resource());
        resources
            .map(|r| {
                let objects = view.list(&r, Some(namespace)).collect();
                (r, objects)
            })
            .filter(|(_, objects): &(_, Vec<_>)| !objects.is_empty())
            .collect()
    }
}

/// The five conditions that upstream keeps on a terminating namespace.
fn report(value: &Value, left: &BTreeMap<String, Vec<Arc<Object>>>, now: Time) -> Vec<Value> {
    let mut list = conditions::of(value);
    let mut say = |kind: &str, yes: bool, (bad, good): (&str, &str), message: String| {
        let (status, reason) = if yes { ("True", bad) } else { ("False", good) };
        conditions::set(&mut list, &Wanted { kind, status, reason, message }, false, now);
    };
    let good = |text: &str| text.to_string();
    let (kind, reasons) = ("NamespaceDeletionDiscoveryFailure", ("DiscoveryFailed", "ResourcesDiscovered"));
    say(kind, false, reasons, good("All resources successfully discovered"));
    let (kind, reasons) =
        ("NamespaceDeletionGroupVersionParsingFailure", ("GroupVersionParsingFailed", "ParsedGroupVersions"));
    say(kind, false, reasons, good("All legacy kube types successfully parsed"));
    let (kind, reasons) = ("NamespaceDeletionContentFailure", ("ContentDeletionFailed", "ContentDeleted"));
    say(kind, false, reasons, good("All content successfully deleted, may be waiting on finalization"));

    let counts = left.iter().map(|(r, o)| format!("{} has {} resource instances", dotted(r), o.len()));
    let counts: Vec<String> = counts.collect();
    let message = if counts.is_empty() {
        good("All content successfully removed")
    } else {
        format!("Some resources are remaining: {}", counts.join(", "))
    };
    say("NamespaceContentRemaining", !left.is_empty(), ("SomeResourcesRemain", "ContentRemoved"), message);

    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for f in left.values().flatten().flat_map(|o| &o.meta.finalizers) {
        *finalizers.entry(f).or_default() += 1;
    }
    let texts: Vec<String> = finalizers.iter().map(|(f, n)| format!("{f} in {n} resource instances")).collect();
    let message = if texts.is_empty() {
        good("All content-preserving finalizers finished")
    } else {
        format!("Some content in the namespace has finalizers remaining: {}", texts.join(", "))
    };
    let reasons = ("SomeFinalizersRemain", "ContentHasNoFinalizers");
    say("NamespaceFinalizersRemaining", !finalizers.is_empty(), reasons, message);
    list
}

/// Upstream names core resources with a trailing dot here.
fn dotted(resource: &str) -> String {
    if resource.contains('.') { resource.into() } else { format!("{resource}.") }
}

#[cfg(test)]
mod tests;
