//! A tiny API server of JSON values for tests: executes plans, keeps versions, and is the view.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use copepod_machine::{Action, Plan, View};
use copepod_model::kinds::{Kind, Kinds, Plain, VERBS};
use copepod_model::object::{encode, with_revision};
use copepod_model::request::{PatchType, Propagation};
use copepod_model::{Key, Object, Time};
use serde_json::{Value, json};

use crate::{Config, Controller};

/// The kinds that tests use.
pub(crate) fn config() -> Config {
    let mut kinds = Kinds::default();
    for (group, version, kind, plural, namespaced) in [
        ("", "v1", "Pod", "pods", true),
        ("", "v1", "Node", "nodes", false),
        ("", "v1", "Namespace", "namespaces", false),
        ("", "v1", "Service", "services", true),
        ("", "v1", "Endpoints", "endpoints", true),
        ("", "v1", "ConfigMap", "configmaps", true),
        ("", "v1", "ServiceAccount", "serviceaccounts", true),
        ("apps", "v1", "ReplicaSet", "replicasets", true),
        ("apps", "v1", "Deployment", "deployments", true),
        ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true),
    ] {
        kinds.add(Kind {
            group,
            version,
            kind,
            plural,
            singular: "",
            short_names: &[],
            categories: &[],
            namespaced,
            verbs: VERBS,
            status: true,
            scale: None,
            subresources: &[],
            generation: true,
            graceful: false,
            deprecation: None,
            strategy: Arc::new(Plain),
        });
    }
    Config::new(Arc::new(kinds), "PEM".into(), Time::default())
}

/// Before and after.
type Change = (Option<Arc<Object>>, Option<Arc<Object>>);

/// The objects, and what changed since the controllers were last told.
#[derive(Default)]
pub(crate) struct TestView {
    pub objects: BTreeMap<Key, Arc<Object>>,
    pub changes: Vec<Change>,
    pub events: Vec<String>,
    pub now: Time,
    pub revision: u64,
    pub names: u64,
}

impl View for TestView {
    fn revision(&self) -> u64 {
        self.revision
    }
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.objects.get(&Key::new(resource, namespace, name)).cloned()
    }
    fn list(&self, resource: &str, namespace: Option<&str>) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        let (resource, namespace) = (resource.to_string(), namespace.map(str::to_string));
        let start = Key::new(resource.as_str(), namespace.as_deref().unwrap_or(""), "");
        let of = move |k: &Key| *k.resource == *resource && namespace.as_deref().is_none_or(|n| *k.namespace == *n);
        Box::new(self.objects.range(start..).take_while(move |(k, _)| of(k)).map(|(_, o)| o.clone()))
    }
}

impl TestView {
    /// Stores an object as it is.
    pub(crate) fn put(&mut self, resource: &str, value: Value) -> Key {
        let part = |f: &str| value["metadata"][f].as_str().unwrap_or("").to_string();
        let key = Key::new(resource, part("namespace"), part("name"));
        self.store(key.clone(), Some(value));
        key
    }

    pub(crate) fn value(&self, key: &Key) -> Value {
        self.objects.get(key).map(|o| o.value()).unwrap_or_default()
    }

    /// Changes an object in place, as some other client.
    pub(crate) fn edit(&mut self, key: &Key, change: impl FnOnce(&mut Value)) {
        let mut value = self.value(key);
        change(&mut value);
        self.store(key.clone(), Some(value));
    }

    pub(crate) fn remove(&mut self, key: &Key) {
        self.store(key.clone(), None);
    }

    fn store(&mut self, key: Key, value: Option<Value>) {
        let old = self.objects.get(&key).cloned();
        // As in the real one, a write that changes nothing is none.
        if let (Some(old), Some(new)) = (&old, &value)
            && *new == old.value()
        {
            return;
        }
        let ended = value.as_ref().is_some_and(|v| {
            let m = &v["metadata"];
            let held = m["finalizers"].as_array().is_some_and(|f| !f.is_empty());
            let namespace = v["spec"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
            m["deletionTimestamp"].is_string() && !held && !namespace && *key.resource != *"pods"
        });
        self.revision += 1;
        let new = value
            .filter(|_| !ended)
            .map(|v| Arc::new(Object::decode(key.clone(), self.revision, with_revision(&encode(&v), self.revision))));
        match &new {
            Some(o) => self.objects.insert(key, o.clone()),
            None => self.objects.remove(&key),
        };
        self.changes.push((old, new));
    }

    /// Executes a plan; false when a step failed, as the runner stops there.
    pub(crate) fn execute(&mut self, plan: &Plan) -> bool {
        plan.0.iter().all(|s| self.step(&s.action))
    }

    fn step(&mut self, action: &Action) -> bool {
        match action {
            Action::Create { resource, namespace, object } => {
                let mut v = object.clone();
                self.names += 1;
                let n = self.names;
                if v["metadata"]["name"].is_null() {
                    let name = format!("{}{n:05}", v["metadata"]["generateName"].as_str().unwrap_or(""));
                    v["metadata"]["name"] = name.into();
                }
                let key = Key::new(*resource, namespace.as_str(), v["metadata"]["name"].as_str().unwrap_or(""));
                if !self.objects.contains_key(&key) {
                    v["metadata"]["uid"] = format!("uid-{n}").into();
                    v["metadata"]["generation"] = 1.into();
                    v["metadata"]["creationTimestamp"] = self.now.rfc3339().into();
                    self.store(key, Some(v));
                }
                true
            }
            Action::Update { resource, namespace, name, object, .. } => {
                let key = Key::new(*resource, namespace.as_str(), name.as_str());
                let Some(old) = self.objects.get(&key) else { return false };
                if object["metadata"]["resourceVersion"].as_str().is_some_and(|v| v != old.revision.to_string()) {
                    return false;
                }
                self.store(key, Some(object.clone()));
                true
            }
            Action::Patch { resource, namespace, name, subresource, kind, patch } => {
                let key = Key::new(resource.as_str(), namespace.as_str(), name.as_str());
                let Some(old) = self.objects.get(&key) else { return false };
                let mut v = old.value();
                let stale = |f: &str| patch["metadata"][f].as_str().is_some_and(|p| v["metadata"][f] != p);
                if stale("uid") || stale("resourceVersion") {
                    return false;
                }
                let before = v.clone();
                merge(&mut v, patch, *kind == PatchType::Strategic);
                if subresource.is_empty() {
                    v["status"] = before["status"].clone();
                    if v["spec"] != before["spec"] {
                        v["metadata"]["generation"] =
                            (before["metadata"]["generation"].as_i64().unwrap_or(0) + 1).into();
                    }
                } else {
                    v["spec"] = before["spec"].clone();
                }
                self.store(key, Some(v));
                true
            }
            Action::Delete { resource, namespace, name, uid, propagation, grace_seconds } => {
                let key = Key::new(resource.as_str(), namespace.as_str(), name.as_str());
                let Some(old) = self.objects.get(&key).filter(|o| *o.meta.uid == **uid) else { return false };
                let mut v = old.value();
                let finalizer = match propagation {
                    Some(Propagation::Foreground) => Some("foregroundDeletion"),
                    Some(Propagation::Orphan) => Some("orphan"),
                    _ => None,
                };
                if let Some(f) = finalizer {
                    let mut all = v["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
                    all.push(f.into());
                    v["metadata"]["finalizers"] = all.into();
                }
                v["metadata"]["deletionTimestamp"] = self.now.rfc3339().into();
                if *grace_seconds == Some(0) {
                    self.store(key, None);
                } else {
                    self.store(key, Some(v));
                }
                true
            }
            Action::Event { reason, message, .. } => {
                self.events.push(format!("{reason}: {message}"));
                true
            }
            Action::Bind { namespace, name, node, .. } => {
                self.edit(&Key::new("pods", namespace.as_str(), name.as_str()), |p| {
                    p["spec"]["nodeName"] = node.as_str().into();
                });
                true
            }
            // Here is no CA.
            Action::Certify { .. } => true,
            Action::After(_) => true,
        }
    }

    /// Tells the controllers what changed and reconciles the first wanted key; whether there was one.
    pub(crate) fn turn(&mut self, controllers: &[Box<dyn Controller>], queue: &mut BTreeSet<(usize, Key)>) -> bool {
        self.tell(controllers, queue);
        self.reconcile(controllers, queue, 0)
    }

    /// Tells the controllers what changed.
    pub(crate) fn tell(&mut self, controllers: &[Box<dyn Controller>], queue: &mut BTreeSet<(usize, Key)>) {
        for (old, new) in std::mem::take(&mut self.changes) {
            let Some(object) = new.as_deref().or(old.as_deref()) else { continue };
            for (i, c) in controllers.iter().enumerate() {
                if c.watches().iter().any(|w| *w == "*" || **w == *object.key.resource) {
                    queue.extend(c.keys(self, old.as_deref(), new.as_deref()).into_iter().map(|k| (i, k)));
                }
            }
        }
    }

    /// Reconciles the `nth` wanted key (modulo their number).
    pub(crate) fn reconcile(
        &mut self,
        controllers: &[Box<dyn Controller>],
        queue: &mut BTreeSet<(usize, Key)>,
        nth: usize,
    ) -> bool {
        let Some((i, key)) = queue.iter().nth(nth % queue.len().max(1)).cloned() else { return false };
        queue.remove(&(i, key.clone()));
        let plan = controllers[i].reconcile(self, &key, self.now);
        if !self.execute(&plan) {
            queue.insert((i, key));
        }
        true
    }

    /// Runs the controllers until nothing changes; panics when they do not go quiet.
    pub(crate) fn settle(&mut self, controllers: &[Box<dyn Controller>], queue: &mut BTreeSet<(usize, Key)>) {
        let mut turns = 0;
        while self.turn(controllers, queue) {
            turns += 1;
            assert!(turns < 10_000, "the controllers do not go quiet: {:?}", queue.iter().next());
        }
    }
}

fn merge(target: &mut Value, patch: &Value, strategic: bool) {
    let Some(fields) = patch.as_object() else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (k, v) in fields {
        let key = match k.as_str() {
            "ownerReferences" => "uid",
            _ => "type",
        };
        match v {
            Value::Null => {
                target.as_object_mut().map(|t| t.remove(k));
            }
            Value::Array(items) if strategic => {
                let mut list = target[k].as_array().cloned().unwrap_or_default();
                for item in items {
                    let at = list.iter().position(|x| x[key] == item[key]);
                    match (at, item["$patch"] == "delete") {
                        (Some(i), true) => drop(list.remove(i)),
                        (Some(i), false) => merge(&mut list[i], item, strategic),
                        (None, true) => {}
                        (None, false) => list.push(item.clone()),
                    }
                }
                target[k] = list.into();
            }
            _ => merge(&mut target[k], v, strategic),
        }
    }
}
