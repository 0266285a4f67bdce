//! Memory that a pod's volumes take: what is in an `emptyDir` of the medium `Memory` is the pod's memory, as the pages of its
//! tmpfs are its control group's elsewhere.
//!
//! Source: `calculateEmptyDirMemorySize` of the kubelet (KEP-1967) for the size, `ResourceConfigForPod` for the pod's limit.

use copepod_model::quantity::Quantity;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};

use crate::local_storage::{limit_of, of_pod};
use crate::stop::containers;

const NAME: &str = "memory";

/// The volume, if it is in memory.
fn in_memory(volume: &Volume) -> Option<&EmptyDirVolumeSource> {
    volume.empty_dir.as_ref().filter(|v| v.medium.as_deref() == Some("Memory"))
}

/// In bytes; zero is none.
fn bytes(quantity: &Quantity) -> Option<u64> {
    u64::try_from(quantity.value()).ok().filter(|n| *n > 0)
}

/// How many bytes a volume in memory may hold: the least of its own limit, its pod's and what the node has for pods. `None` for
/// any other volume.
pub(crate) fn size(pod: &Pod, volume: &Volume, allocatable: i64) -> Option<u64> {
    let own = in_memory(volume)?.size_limit.as_ref().and_then(|q| bytes(&q.0.parse().ok()?));
    let of_pod = of_pod(pod, NAME, |c| limit_of(c, NAME)).and_then(|q| bytes(&q));
    let node = u64::try_from(allocatable).unwrap_or(0);
    Some([own, of_pod].into_iter().flatten().fold(node, u64::min))
}

/// What the containers of a pod with volumes in memory may take together with these, in bytes: where each of them has a limit.
pub(crate) fn limit(pod: &Pod) -> Option<u64> {
    pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).find_map(in_memory)?;
    let all = containers(pod).all(|(container, _)| limit_of(container, NAME).is_some());
    of_pod(pod, NAME, |c| limit_of(c, NAME)).filter(|_| all).and_then(|q| bytes(&q))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const MI: u64 = 1 << 20;

    fn pod(volume: Value, limits: &[&str]) -> Pod {
        let container = |(i, limit): (usize, &&str)| match *limit {
            "" => json!({"name": format!("c{i}")}),
            limit => json!({"name": format!("c{i}"), "resources": {"limits": {"memory": limit}}}),
        };
        let containers: Vec<Value> = limits.iter().enumerate().map(container).collect();
        serde_json::from_value(json!({"spec": {"volumes": [volume], "containers": containers}})).unwrap()
    }

    fn of(empty_dir: Value, limits: &[&str]) -> (Option<u64>, Option<u64>) {
        let pod = pod(json!({"name": "v", "emptyDir": empty_dir}), limits);
        let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
        (size(&pod, volume, 1 << 30), limit(&pod))
    }

    #[test]
    fn the_least_of_what_bounds_it() {
        let memory = || json!({"medium": "Memory"});
        let sized = |limit: &str| json!({"medium": "Memory", "sizeLimit": limit});
        assert_eq!(of(memory(), &["64Mi", "32Mi"]), (Some(96 * MI), Some(96 * MI)));
        assert_eq!(of(sized("10Mi"), &["64Mi"]), (Some(10 * MI), Some(64 * MI)));
        assert_eq!(of(sized("100Mi"), &["64Mi"]), (Some(64 * MI), Some(64 * MI)));
        assert_eq!(of(sized("0"), &["64Mi"]).0, Some(64 * MI), "zero is none");
        assert_eq!(of(memory(), &["64Mi", ""]), (Some(64 * MI), None), "one without a limit has none with the others");
        assert_eq!(of(memory(), &[""]), (Some(1 << 30), None), "what the node has");
        assert_eq!(of(memory(), &["8Gi"]), (Some(1 << 30), Some(8 << 30)));
    }

    #[test]
    fn what_is_on_disk_is_no_memory() {
        assert_eq!(of(json!({}), &["64Mi"]), (None, None));
        let pod = pod(json!({"name": "v", "configMap": {"name": "m"}}), &["64Mi"]);
        assert_eq!(limit(&pod), None);
    }
}
