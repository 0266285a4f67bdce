//! Limits of local ephemeral storage: what a pod's containers log and what its `emptyDir` volumes hold on disk. A wasm
//! container has no layer that it could write to.
//!
//! Source: `localStorageEviction` of the kubelet's eviction manager, whose words these are.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_model::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};

use crate::restart::Role;
use crate::stop::containers;

const NAME: &str = "ephemeral-storage";

/// What a pod may hold of the node's disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageLimits {
    /// All of it together, if one of its containers has a limit.
    pub pod: Option<u64>,
    /// What single containers may log, by their names.
    pub containers: BTreeMap<Arc<str>, u64>,
}

/// What a pod holds of the node's disk, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StorageUse {
    /// In `emptyDir` volumes that are on disk.
    pub volumes: u64,
    /// In the logs of each container, rotated ones and those of earlier attempts included.
    pub logs: BTreeMap<Arc<str>, u64>,
}

/// What a pod holds of the node's disks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStorage {
    /// In bytes.
    pub used: StorageUse,
    /// Files and folders.
    pub inodes: u64,
}

impl StorageUse {
    pub(crate) fn total(&self) -> u64 {
        self.logs.values().fold(self.volumes, |sum, bytes| sum.saturating_add(*bytes))
    }
}

impl StorageLimits {
    /// Whether there is any.
    pub fn any(&self) -> bool {
        self.pod.is_some()
    }

    /// Whether one of them is exceeded.
    pub fn exceeded(&self, used: &StorageUse) -> bool {
        let logs = |(name, limit): (&Arc<str>, &u64)| used.logs.get(name).is_some_and(|bytes| bytes > limit);
        self.pod.is_some_and(|limit| used.total() > limit) || self.containers.iter().any(logs)
    }
}

/// The limits of a pod.
pub(crate) fn limits(pod: &Pod) -> StorageLimits {
    let own = mains(pod).filter_map(|c| Some((c.name.as_str().into(), bytes(&limit(c)?)?)));
    StorageLimits {
        pod: of_pod(pod, NAME, limit).map(|q| u64::try_from(q.value()).unwrap_or(0)),
        containers: own.collect(),
    }
}

/// Why a pod that holds so much has to go, if it has to. The pod's limit comes first, as in the kubelet.
pub(crate) fn exceeded(pod: &Pod, used: &StorageUse) -> Option<String> {
    let limits = limits(pod);
    if let Some(limit) = of_pod(pod, NAME, limit)
        && limits.pod.is_some_and(|l| used.total() > l)
    {
        return Some(format!("Pod ephemeral local storage usage exceeds the total limit of containers {limit}. "));
    }
    let over = |c: &&Container| {
        let logs = used.logs.get(c.name.as_str()).copied().unwrap_or(0);
        limits.containers.get(c.name.as_str()).is_some_and(|limit| logs > *limit)
    };
    let first = mains(pod).find(over)?;
    let limit = limit(first)?;
    Some(format!("Container {} exceeded its local ephemeral storage limit \"{limit}\". ", first.name))
}

fn mains(pod: &Pod) -> impl Iterator<Item = &Container> {
    pod.spec.iter().flat_map(|s| &s.containers)
}

fn limit(container: &Container) -> Option<Quantity> {
    limit_of(container, NAME)
}

/// A container's limit of a resource.
pub(crate) fn limit_of(container: &Container, resource: &str) -> Option<Quantity> {
    container.resources.as_ref()?.limits.as_ref()?.get(resource)?.0.parse().ok()
}

/// A container's request; a limit alone is one, too.
pub(crate) fn asked(container: &Container) -> Option<Quantity> {
    let requests = container.resources.as_ref()?.requests.as_ref();
    requests.and_then(|r| r.get(NAME)?.0.parse().ok()).or_else(|| limit(container))
}

/// The request of a pod, in bytes.
pub(crate) fn request(pod: &Pod) -> u64 {
    of_pod(pod, NAME, asked).map_or(0, |q| u64::try_from(q.value()).unwrap_or(0))
}

/// In bytes; zero is none.
fn bytes(limit: &Quantity) -> Option<u64> {
    u64::try_from(limit.value()).ok().filter(|n| *n > 0)
}

/// The sum over the containers and sidecars that have one, or what an init container may have beside the sidecars before
/// it, if that is more. `None` if nobody has one. `resource` is whose overhead is added.
pub(crate) fn of_pod(pod: &Pod, resource: &str, amount: impl Fn(&Container) -> Option<Quantity>) -> Option<Quantity> {
    let (mut sum, mut init, mut any) = (Quantity::default(), Quantity::default(), false);
    for (container, role) in containers(pod) {
        let own = amount(container);
        any |= own.is_some();
        let own = own.unwrap_or_default();
        if role == Role::Init {
            init = init.max(sum + own);
        } else {
            sum = sum + own;
        }
    }
    let overhead = pod.spec.as_ref().and_then(|s| s.overhead.as_ref()).and_then(|o| o.get(resource)?.0.parse().ok());
    let most = if init > sum { init } else { sum };
    any.then(|| most + overhead.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn limited(name: &str, limit: &str) -> Value {
        json!({"name": name, "resources": {"limits": {NAME: limit}}})
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
    }

    fn used(volumes: u64, logs: &[(&str, u64)]) -> StorageUse {
        StorageUse { volumes, logs: logs.iter().map(|(name, bytes)| ((*name).into(), *bytes)).collect() }
    }

    #[test]
    fn the_kubelets_words_and_order() {
        let two = pod(json!({"containers": [limited("a", "1Ki"), limited("b", "0.5Ki"), {"name": "free"}]}));
        let why = |volumes, logs: &[(&str, u64)]| {
            let used = used(volumes, logs);
            let why = exceeded(&two, &used);
            assert_eq!(limits(&two).exceeded(&used), why.is_some(), "{why:?}");
            why.unwrap_or_default()
        };
        assert_eq!(why(512, &[("a", 512), ("b", 512)]), "");
        let pod = "Pod ephemeral local storage usage exceeds the total limit of containers 1536. ";
        assert_eq!(why(513, &[("a", 512), ("b", 512)]), pod);
        assert_eq!(why(1000, &[("free", 537)]), pod, "everyone's counts");
        assert_eq!(why(0, &[("b", 513)]), "Container b exceeded its local ephemeral storage limit \"512\". ");
        assert_eq!(why(0, &[("a", 1025)]), "Container a exceeded its local ephemeral storage limit \"1Ki\". ");
        assert_eq!(why(0, &[("free", 1025)]), "");
    }

    #[test]
    fn a_pods_limit_is_the_greatest_that_runs_together() {
        let total = |spec: Value| of_pod(&pod(spec), NAME, limit).map(|q| q.to_string());
        assert_eq!(total(json!({"containers": [{"name": "a"}]})), None);
        assert_eq!(total(json!({"containers": [limited("a", "1Mi"), {"name": "b"}]})).as_deref(), Some("1Mi"));
        let mut side = limited("s", "1Mi");
        side["restartPolicy"] = "Always".into();
        let spec =
            |init: &str| json!({"initContainers": [side, limited("i", init)], "containers": [limited("a", "2Mi")]});
        assert_eq!(total(spec("1Mi")).as_deref(), Some("3Mi"));
        assert_eq!(total(spec("8Mi")).as_deref(), Some("9Mi"));
        let none = limits(&pod(json!({"containers": [{"name": "a"}]})));
        assert!(!none.any() && !none.exceeded(&used(1 << 40, &[("a", 1 << 40)])), "no limit is no limit");
    }
}
