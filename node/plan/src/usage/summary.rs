//! The kubelet's Summary API (`/stats/summary`; k8s.io/kubelet `pkg/apis/stats/v1alpha1`). What is not known is left out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use copepod_model::Time;
use serde_json::{Value, json};

use super::{PodReading, Rate, Reading, Samples};

/// A file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Size in bytes.
    pub capacity: u64,
    /// Bytes that are to be had.
    pub available: u64,
    /// Bytes in use, by whom it is told of.
    pub used: u64,
    /// Inodes.
    pub inodes: u64,
    /// Inodes that are free.
    pub inodes_free: u64,
}

/// The node that the pods are on.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Name.
    pub name: String,
    /// Since when it is measured.
    pub since: Time,
    /// Its memory in bytes.
    pub memory: u64,
    /// The file system of pods, logs and images.
    pub fs: Option<FileSystem>,
    /// The same, with what images take of it.
    pub image_fs: Option<FileSystem>,
}

/// A volume that has been measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeUse {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Name of the volume.
    pub name: String,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that it may hold.
    pub limit: u64,
}

/// `Summary`. CPU rates are those of `samples`, everything else is of `now`.
pub fn summary(node: &Node, now: &Reading, samples: &Samples, volumes: &[VolumeUse]) -> Value {
    let mut by_pod: BTreeMap<&str, Vec<&VolumeUse>> = BTreeMap::new();
    for v in volumes {
        by_pod.entry(&v.uid).or_default().push(v);
    }
    let mut all = json!({"nodeName": node.name, "startTime": node.since.rfc3339()});
    let at = now.at;
    if let Some(used) = now.node.cpu {
        all["cpu"] = cpu(at, used, samples.node_rate());
    }
    if let Some(used) = now.node.memory {
        all["memory"] = memory(at, used);
        all["memory"]["availableBytes"] = node.memory.saturating_sub(used).into();
    }
    if let Some(fs) = &node.fs {
        all["fs"] = file_system(at, fs);
    }
    if let Some(fs) = &node.image_fs {
        all["runtime"] = json!({"imageFs": file_system(at, fs)});
    }
    let pods = now.pods.iter().map(|p| pod(at, p, samples, by_pod.get(&*p.uid).map(Vec::as_slice).unwrap_or_default()));
    json!({"node": all, "pods": pods.collect::<Vec<_>>()})
}

fn pod(at: Time, pod: &PodReading, samples: &Samples, volumes: &[&VolumeUse]) -> Value {
    let rates: Vec<_> = pod.containers.iter().map(|c| samples.rate_of(&pod.uid, &c.name, c.attempt)).collect();
    let containers = pod.containers.iter().zip(&rates).map(|(c, rate)| {
        json!({
            "name": &*c.name, "startTime": c.started.rfc3339(),
            "cpu": cpu(at, c.cpu, *rate), "memory": memory(at, c.memory),
        })
    });
    let containers: Vec<Value> = containers.collect();
    // The pod's rate is known when each container's is.
    let window = rates.iter().flatten().map(|r| r.window).min().unwrap_or_default();
    let sum = rates.iter().try_fold(0u64, |sum, r| Some(sum.saturating_add((*r)?.nano_cores)));
    let rate = sum.map(|nano_cores| Rate { nano_cores, window });
    let mut out = json!({
        "podRef": {"name": &*pod.name, "namespace": &*pod.namespace, "uid": &*pod.uid},
        "startTime": pod.since.rfc3339(), "containers": containers,
        "cpu": cpu(at, pod.cpu(), rate), "memory": memory(at, pod.memory()),
    });
    if !volumes.is_empty() {
        let one = |v: &&VolumeUse| {
            json!({
                "name": v.name, "time": at.rfc3339(), "usedBytes": v.used, "capacityBytes": v.limit,
                "availableBytes": v.limit.saturating_sub(v.used),
            })
        };
        out["volume"] = volumes.iter().map(one).collect();
    }
    out
}

fn cpu(at: Time, used: Duration, rate: Option<Rate>) -> Value {
    let nanos = u64::try_from(used.as_nanos()).unwrap_or(u64::MAX);
    let mut out = json!({"time": at.rfc3339(), "usageCoreNanoSeconds": nanos});
    if let Some(rate) = rate {
        out["usageNanoCores"] = rate.nano_cores.into();
    }
    out
}

fn memory(at: Time, used: u64) -> Value {
    json!({"time": at.rfc3339(), "usageBytes": used, "workingSetBytes": used, "rssBytes": used})
}

fn file_system(at: Time, fs: &FileSystem) -> Value {
    json!({
        "time": at.rfc3339(), "availableBytes": fs.available, "capacityBytes": fs.capacity, "usedBytes": fs.used,
        "inodes": fs.inodes, "inodesFree": fs.inodes_free, "inodesUsed": fs.inodes.saturating_sub(fs.inodes_free),
    })
}

#[cfg(test)]
mod tests {
    use super::super::NodeReading;
    use super::super::tests::{MI, two};
    use super::*;

    fn node() -> Node {
        let fs = FileSystem { capacity: 100, available: 60, used: 40, inodes: 10, inodes_free: 9 };
        let image_fs = Some(FileSystem { used: 5, ..fs });
        Node { name: "n".into(), since: Time::from_secs(100), memory: 1024 * MI, fs: Some(fs), image_fs }
    }

    #[test]
    fn the_summary_of_a_node_and_its_pods() {
        let samples = two();
        let volume = VolumeUse { uid: "uid-web".into(), name: "data".into(), used: 3, limit: 10 };
        let s = summary(&node(), samples.last().unwrap(), &samples, &[volume]);
        let time = "1970-01-01T00:16:50Z";
        let n = &s["node"];
        assert_eq!((&n["nodeName"], &n["startTime"]), (&json!("n"), &json!("1970-01-01T00:01:40Z")));
        let cpu = json!({"time": time, "usageCoreNanoSeconds": 60_000_000_000_u64, "usageNanoCores": 1_000_000_000});
        assert_eq!(n["cpu"], cpu);
        assert_eq!(
            (&n["memory"]["workingSetBytes"], &n["memory"]["availableBytes"]),
            (&json!(512 * MI), &json!(512 * MI))
        );
        assert_eq!((&n["fs"]["usedBytes"], &n["runtime"]["imageFs"]["usedBytes"]), (&json!(40), &json!(5)));
        assert_eq!(n["fs"]["inodesUsed"], 1);
        let web = s["pods"].as_array().unwrap().iter().find(|p| p["podRef"]["name"] == "web").unwrap();
        assert_eq!(web["podRef"], json!({"name": "web", "namespace": "ns", "uid": "uid-web"}));
        let c = &web["containers"][0];
        assert_eq!((&c["name"], &c["cpu"]["usageNanoCores"]), (&json!("c"), &json!(500_000_000)));
        assert_eq!(
            c["memory"],
            json!({"time": time, "usageBytes": 5 * MI, "workingSetBytes": 5 * MI, "rssBytes": 5 * MI})
        );
        assert_eq!((&web["cpu"], &web["memory"]), (&c["cpu"], &c["memory"]), "the sum of one");
        let volume = json!([{"name": "data", "time": time, "usedBytes": 3, "capacityBytes": 10, "availableBytes": 7}]);
        assert_eq!(web["volume"], volume);
        let new = s["pods"].as_array().unwrap().iter().find(|p| p["podRef"]["name"] == "new").unwrap();
        assert_eq!(new["cpu"], json!({"time": time, "usageCoreNanoSeconds": 900_000_000}), "no rate yet");
        assert!(new["volume"].is_null());
    }

    #[test]
    fn what_the_host_does_not_tell_is_left_out() {
        let bare = Node { fs: None, image_fs: None, ..node() };
        let reading = Reading::new(Time::from_secs(1), NodeReading::default(), Vec::new());
        let s = summary(&bare, &reading, &Samples::default(), &[]);
        let want = json!({"node": {"nodeName": "n", "startTime": "1970-01-01T00:01:40Z"}, "pods": []});
        assert_eq!(s, want);
    }
}
