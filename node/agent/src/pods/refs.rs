//! ConfigMaps, Secrets and Services as plans look them up. Fetched when a container is about to start, kept a moment so
//! that a thousand replicas ask once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use copepod_model::Time;
use copepod_node_plan::{Lookup, Reference, Refs, ServiceRecord};
use serde_json::Value;

use crate::routes::Services;

/// How long an answer is fresh.
const FRESH: Duration = Duration::from_secs(1);

/// The answers so far, and who waits for the others.
pub(crate) struct RefCache {
    services: Services,
    known: BTreeMap<Reference, (Lookup, Time)>,
    waiting: BTreeMap<Reference, BTreeSet<Arc<str>>>,
    /// What is followed is fresh as long as it is.
    pinned: BTreeMap<Reference, Lookup>,
}

impl RefCache {
    pub fn new(services: Services) -> RefCache {
        RefCache { services, known: BTreeMap::new(), waiting: BTreeMap::new(), pinned: BTreeMap::new() }
    }

    /// Notes that a pod waits for a reference; `true` if it has to be fetched.
    pub fn want(&mut self, reference: &Reference, uid: &Arc<str>) -> bool {
        let waiting = self.waiting.entry(reference.clone()).or_default();
        let first = waiting.is_empty();
        waiting.insert(uid.clone());
        first
    }

    /// Takes an answer in; the pods that waited for it.
    pub fn answer(&mut self, reference: Reference, lookup: Lookup, now: Time) -> BTreeSet<Arc<str>> {
        self.known.retain(|_, (_, at)| now.since(*at) < FRESH);
        let waiting = self.waiting.remove(&reference).unwrap_or_default();
        if lookup != Lookup::Unknown {
            self.known.insert(reference, (lookup, now));
        }
        waiting
    }

    /// The newest that is known of an object that is followed.
    pub fn pin(&mut self, reference: Reference, lookup: Lookup) {
        self.pinned.insert(reference, lookup);
    }

    /// It is followed no more.
    pub fn unpin(&mut self, reference: &Reference) {
        self.pinned.remove(reference);
    }

    fn look(&self, resource: &'static str, namespace: &str, name: &str, now: Time) -> Lookup {
        let key = Reference { resource, namespace: namespace.into(), name: name.into() };
        if let Some(lookup) = self.pinned.get(&key) {
            return lookup.clone();
        }
        match self.known.get(&key) {
            Some((lookup, at)) if now.since(*at) < FRESH => lookup.clone(),
            _ => Lookup::Unknown,
        }
    }
}

impl Refs for RefCache {
    fn config_map(&self, namespace: &str, name: &str, now: Time) -> Lookup {
        self.look("configmaps", namespace, name, now)
    }
    fn secret(&self, namespace: &str, name: &str, now: Time) -> Lookup {
        self.look("secrets", namespace, name, now)
    }
    fn services(&self, namespace: &str) -> Vec<ServiceRecord> {
        self.services.of(namespace)
    }
}

/// The values of a ConfigMap (text, and base64 in `binaryData`) or of a Secret (base64).
pub(crate) fn values(resource: &str, object: &Value) -> BTreeMap<String, Vec<u8>> {
    let entries = |field: &str| object[field].as_object().cloned().unwrap_or_default();
    let decode = |v: &Value| {
        base64::engine::general_purpose::STANDARD.decode(v.as_str().unwrap_or_default()).unwrap_or_default()
    };
    let text = |v: &Value| v.as_str().unwrap_or_default().as_bytes().to_vec();
    if resource == "secrets" {
        return entries("data").iter().map(|(k, v)| (k.clone(), decode(v))).collect();
    }
    let binary = entries("binaryData");
    let data = entries("data");
    data.iter().map(|(k, v)| (k.clone(), text(v))).chain(binary.iter().map(|(k, v)| (k.clone(), decode(v)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_shared_and_go_stale() {
        let mut cache = RefCache::new(Services::default());
        let r = Reference { resource: "configmaps", namespace: "n".into(), name: "m".into() };
        let (t, found) = (Time::from_secs(10), Lookup::Found(Arc::default()));
        assert!(cache.want(&r, &"a".into()));
        assert!(!cache.want(&r, &"a".into()), "it was planned again before the answer");
        assert!(!cache.want(&r, &"b".into()), "asked for already");
        assert_eq!(cache.answer(r.clone(), found.clone(), t).len(), 2);
        assert_eq!(cache.config_map("n", "m", t), found);
        assert_eq!(cache.config_map("n", "m", t + FRESH), Lookup::Unknown);
        assert!(cache.want(&r, &"a".into()));
    }

    #[test]
    fn values_are_decoded() {
        let cm = values("configmaps", &json!({"data": {"a": "1"}, "binaryData": {"b": "AAE="}}));
        assert_eq!(cm, [("a".to_string(), b"1".to_vec()), ("b".to_string(), vec![0, 1])].into());
        assert_eq!(values("secrets", &json!({"data": {"a": "aHVzaA=="}}))["a"], b"hush");
    }
}
