//! The disk is short: what to do about it, and who has to go.
//!
//! Source: Kubernetes' "Node-pressure Eviction" page; the words are those of the kubelet's eviction manager.

use k8s_openapi::api::core::v1::{Container, Pod};

use super::threshold::{Amount, DiskThresholds, bytes};
use super::{CRITICAL, Consumer, Eviction};
use crate::local_storage::{PodStorage, asked, request};
use crate::usage::FileSystem;

/// A threshold that has been met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// What is short.
    pub resource: Resource,
    /// What should be left at least.
    pub threshold: u64,
    /// What is left.
    pub available: u64,
    /// Whether removing images may help.
    pub images: bool,
    /// Whether the end of pods may help.
    pub pods: bool,
}

/// What a disk can be short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Bytes.
    Storage,
    /// Inodes.
    Inodes,
}

impl Resource {
    fn name(self) -> &'static str {
        match self {
            Resource::Storage => "ephemeral-storage",
            Resource::Inodes => "inodes",
        }
    }
}

/// The first threshold that is met. `node` is the file system of volumes and logs; `images` that of the images, if they have
/// one of their own: then removing images helps there alone, and the end of pods does not.
pub fn met(node: FileSystem, images: Option<FileSystem>, thresholds: &DiskThresholds) -> Option<Met> {
    let of_images = images.unwrap_or(node);
    let (shared, t) = (images.is_none(), thresholds);
    let all = [
        (Resource::Storage, t.nodefs_available, node.capacity, node.available, false),
        (Resource::Storage, t.imagefs_available, of_images.capacity, of_images.available, true),
        (Resource::Inodes, t.nodefs_inodes_free, node.inodes, node.inodes_free, false),
        (Resource::Inodes, t.imagefs_inodes_free, of_images.inodes, of_images.inodes_free, true),
    ];
    all.into_iter().find_map(|(resource, threshold, capacity, available, of_images)| {
        // A file system that counts no inodes has none to be short of.
        let threshold = threshold.filter(|_| capacity > 0)?.of(capacity);
        let met = Met { resource, threshold, available, images: shared || of_images, pods: shared || !of_images };
        (available < threshold).then_some(met)
    })
}

/// A pod as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<Id> {
    /// Who.
    pub id: Id,
    /// `spec.priority`.
    pub priority: i32,
    /// Its request of ephemeral storage in bytes.
    pub request: u64,
    /// Bytes that it holds.
    pub used: u64,
    /// Inodes that it holds.
    pub inodes: u64,
    /// Its containers, with what their logs take.
    pub containers: Vec<Consumer>,
}

impl<Id> Candidate<Id> {
    /// A pod with what it holds.
    pub fn new(id: Id, pod: &Pod, held: &PodStorage) -> Self {
        let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        let spec = pod.spec.as_ref();
        let all = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
        let consumer = |c: &Container| Consumer {
            name: c.name.clone(),
            request: asked(c).map_or(0, |q| q.value()),
            used: signed(held.used.logs.get(c.name.as_str()).copied().unwrap_or(0)),
        };
        Candidate {
            id,
            priority: spec.and_then(|s| s.priority).unwrap_or(0),
            request: request(pod),
            used: held.used.total(),
            inodes: held.inodes,
            containers: all.map(consumer).collect(),
        }
    }

    /// What it holds of a resource, and what it has asked for: nobody can ask for inodes.
    fn of(&self, resource: Resource) -> (u64, u64) {
        match resource {
            Resource::Storage => (self.used, self.request),
            Resource::Inodes => (self.inodes, 0),
        }
    }
}

/// Decides who goes now: one pod at most, since its end may be enough. `None` if nobody may go.
pub fn evict<Id>(met: Met, candidates: Vec<Candidate<Id>>) -> Option<Eviction<Id>> {
    // What holds nothing would free nothing.
    let may_go = candidates.into_iter().filter(|c| c.priority < CRITICAL && c.of(met.resource).0 > 0);
    // Who exceeds its request goes first, then the least important, then who exceeds it most.
    let first = may_go.min_by_key(|c| {
        let (used, request) = c.of(met.resource);
        (used <= request, c.priority, std::cmp::Reverse(i128::from(used) - i128::from(request)))
    })?;
    let resource = met.resource.name();
    let mut message = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        amount(met.resource, met.threshold),
        amount(met.resource, met.available)
    );
    let exceeding = first.containers.iter().filter(|c| met.resource == Resource::Storage && c.used > c.request);
    for c in exceeding {
        let [used, request] = [c.used, c.request].map(|n| bytes(u64::try_from(n).unwrap_or(0)));
        message.push_str(&format!(
            "Container {} was using {used}, request is {request}, has larger consumption of {resource}. ",
            c.name
        ));
    }
    Some(Eviction { id: first.id, message })
}

fn amount(resource: Resource, n: u64) -> String {
    match resource {
        Resource::Storage => Amount::Exact(n).to_string(),
        Resource::Inodes => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DISK: FileSystem =
        FileSystem { capacity: 1000 << 10, available: 200 << 10, used: 800 << 10, inodes: 100, inodes_free: 50 };
    const SHORT: Met =
        Met { resource: Resource::Storage, threshold: 100 << 10, available: 50 << 10, images: true, pods: true };

    #[test]
    fn what_is_short_of_what() {
        let thresholds = DiskThresholds {
            nodefs_available: Some(Amount::Percent(10.0)),
            imagefs_available: Some(Amount::Percent(15.0)),
            ..DiskThresholds::default()
        };
        let found = |node: FileSystem, images: Option<FileSystem>| {
            met(node, images, &thresholds).map(|m| (m.resource, m.threshold, m.images, m.pods))
        };
        let with = |available: u64| FileSystem { available: available << 10, ..DISK };
        assert_eq!(found(DISK, None), None);
        assert_eq!(found(with(150), None), None, "not less than 15 percent");
        assert_eq!(
            found(with(149), None),
            Some((Resource::Storage, 150 << 10, true, true)),
            "imagefs on the same disk"
        );
        assert_eq!(found(with(99), None), Some((Resource::Storage, 100 << 10, true, true)));
        assert_eq!(found(with(149), Some(DISK)), None, "enough for volumes and logs");
        assert_eq!(found(with(99), Some(DISK)), Some((Resource::Storage, 100 << 10, false, true)));
        assert_eq!(found(DISK, Some(with(99))), Some((Resource::Storage, 150 << 10, true, false)));
        let inodes = |inodes_free: u64| FileSystem { inodes_free, ..DISK };
        assert_eq!(found(inodes(5), None), None);
        assert_eq!(found(inodes(4), None), Some((Resource::Inodes, 5, true, true)));
        assert_eq!(found(FileSystem { inodes: 0, inodes_free: 0, ..DISK }, None), None, "it counts none");
        let off = DiskThresholds { nodefs_available: None, imagefs_available: None, ..DiskThresholds::default() };
        assert_eq!(met(with(0), None, &off), None);
    }

    fn pod(id: &'static str, priority: i32, request: u64, used: u64, inodes: u64) -> Candidate<&'static str> {
        let containers = vec![Consumer { name: "c".into(), request: request as i64, used: used as i64 }];
        Candidate { id, priority, request, used, inodes, containers }
    }

    fn order(met: Met) -> Vec<&'static str> {
        let mut all = vec![
            pod("within, low", -5, 200, 100, 3),
            pod("over, important", 100, 10, 90, 2),
            pod("over a little", 0, 10, 20, 9),
            pod("over by much", 0, 0, 60, 1),
            pod("critical", CRITICAL, 0, 500, 500),
            pod("idle", -10, 0, 0, 0),
        ];
        let mut order = Vec::new();
        while let Some(e) = evict(met, all.clone()) {
            all.retain(|c| c.id != e.id);
            order.push(e.id);
        }
        order
    }

    #[test]
    fn over_the_request_then_priority_then_by_how_much() {
        assert_eq!(order(SHORT), ["over by much", "over a little", "over, important", "within, low"]);
        let inodes = Met { resource: Resource::Inodes, ..SHORT };
        assert_eq!(order(inodes), ["within, low", "over a little", "over by much", "over, important"]);
    }

    #[test]
    fn the_message_is_the_kubelets() {
        let spec = json!({"spec": {"priority": 7, "containers": [
            {"name": "a", "resources": {"requests": {"ephemeral-storage": "1Ki"}}}, {"name": "b"},
            {"name": "c", "resources": {"limits": {"ephemeral-storage": "1Mi"}}}]}});
        let logs = [("a", 4096), ("b", 512), ("c", 4096)].map(|(name, bytes)| (name.into(), bytes));
        let held =
            PodStorage { used: crate::StorageUse { volumes: 2 << 20, logs: logs.into_iter().collect() }, inodes: 12 };
        let candidate = Candidate::new("p", &serde_json::from_value(spec).unwrap(), &held);
        assert_eq!(
            (candidate.priority, candidate.request, candidate.used, candidate.inodes),
            (7, (1 << 20) + 1024, (2 << 20) + 8704, 12)
        );
        let of = |met| evict(met, vec![candidate.clone()]).unwrap().message;
        assert_eq!(
            of(SHORT),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 100Ki, available: 50Ki. \
             Container a was using 4Ki, request is 1Ki, has larger consumption of ephemeral-storage. \
             Container b was using 512, request is 0, has larger consumption of ephemeral-storage. "
        );
        let inodes = Met { resource: Resource::Inodes, threshold: 5, available: 4, ..SHORT };
        assert_eq!(of(inodes), "The node was low on resource: inodes. Threshold quantity: 5, available: 4. ");
    }
}
