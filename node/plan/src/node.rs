//! What a node says of itself: its Node object and its Lease.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use copepod_model::quantity::Quantity as Amount;
use copepod_model::{Time, networks};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeRuntimeHandler,
    NodeSpec, NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::{Value, json};

use crate::eviction::DiskThresholds;
use crate::when::{micro, stamp, time};

/// How long a Lease is good for, in seconds.
pub const LEASE_SECONDS: i32 = 40;
/// How often the status is written though nothing has changed (the kubelet's `nodeStatusReportFrequency`).
const REPORT: Duration = Duration::from_secs(300);
/// The condition that says whether the node takes pods.
const READY: &str = "Ready";
/// The conditions that the node itself writes.
const OWN: [&str; 4] = ["MemoryPressure", "DiskPressure", "PIDPressure", READY];
/// Where node Leases live.
pub const LEASE_NAMESPACE: &str = "kube-node-lease";

/// A node as the agent found it. Nothing here changes while the agent runs.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeFacts {
    /// Name.
    pub name: String,
    /// Its address.
    pub host_ip: IpAddr,
    /// Cluster domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// Capacity in millicores.
    pub cpu_millis: i64,
    /// Capacity in bytes.
    pub memory: i64,
    /// Capacity of the file system that images and logs are on, in bytes.
    pub storage: i64,
    /// What pods may use, in millicores.
    pub allocatable_cpu_millis: i64,
    /// What pods may use, in bytes.
    pub allocatable_memory: i64,
    /// With less memory available than this, in bytes, pods are evicted.
    pub eviction_memory: i64,
    /// With less left of its disks than this, images are removed and pods are evicted.
    pub eviction_disk: DiskThresholds,
    /// How many pods it takes.
    pub max_pods: u32,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// `uname -r`.
    pub kernel_version: String,
    /// The distribution's name.
    pub os_image: String,
    /// Go's name of the architecture: `amd64`, `arm64`.
    pub architecture: String,
    /// `v1.35.x+copepod`.
    pub version: String,
    /// `wasmtime://…`.
    pub runtime_version: String,
    /// Port of the node API, 0 when it is reached in process only.
    pub api_port: u16,
    /// Blocks of the pod network that this node has leased.
    pub pod_cidrs: Vec<String>,
    /// Whether its pods have IPv6 addresses beside those of IPv4.
    pub dual_stack: bool,
    /// The host's address of the other family, if it has one.
    pub second_host_ip: Option<IpAddr>,
}

impl NodeFacts {
    /// A pod's addresses, by its first one.
    pub fn pod_ips(&self, first: IpAddr) -> Vec<IpAddr> {
        match first {
            IpAddr::V4(v4) if self.dual_stack => vec![first, networks::beside(v4).into()],
            _ => vec![first],
        }
    }

    /// The host's addresses, the first one first.
    pub fn host_ips(&self) -> impl Iterator<Item = IpAddr> + use<> {
        std::iter::once(self.host_ip).chain(self.second_host_ip)
    }

    /// What pods may use of the file system, in bytes: what is below the threshold is promised to nobody.
    pub fn allocatable_storage(&self) -> i64 {
        let kept = self.eviction_disk.nodefs_available.map_or(0, |t| t.of(u64::try_from(self.storage).unwrap_or(0)));
        self.storage.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX)).max(0)
    }
}

/// How the node is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Memory is short.
    pub memory_pressure: bool,
    /// A disk is nearly full, or was lately.
    pub disk_pressure: bool,
    /// Address space or threads are short: no more instances fit.
    pub pid_pressure: bool,
}

/// The Node to register.
pub fn node(facts: &NodeFacts, labels: &BTreeMap<String, String>) -> Node {
    let mut all: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", facts.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", facts.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", facts.architecture.as_str()),
    ]
    .map(|(k, v)| (k.to_string(), v.to_string()))
    .into();
    all.extend(labels.clone());
    Node {
        metadata: ObjectMeta { name: Some(facts.name.clone()), labels: Some(all), ..ObjectMeta::default() },
        spec: Some(NodeSpec {
            pod_cidr: facts.pod_cidrs.first().cloned(),
            pod_cidrs: (!facts.pod_cidrs.is_empty()).then(|| facts.pod_cidrs.clone()),
            ..NodeSpec::default()
        }),
        status: None,
    }
}

/// What is to be written where the API has `there`: the body of a strategic merge patch. `None` where all of it is so, and was
/// written lately. What is there and not what was written last counts: a node that was given up says that it is back.
pub fn report(
    facts: &NodeFacts,
    there: &NodeStatus,
    health: Health,
    images: &[ContainerImage],
    now: Time,
) -> Option<Value> {
    let status = node_status(facts, Some(there), health, images, now);
    let ours = status.conditions.iter().flatten().filter(|c| OWN.contains(&c.type_.as_str()));
    let written = there.conditions.iter().flatten().find(|c| c.type_ == READY);
    let written = written.and_then(|c| c.last_heartbeat_time.as_ref()).map_or(Time::default(), time);
    if unchanged(&status, there) && now.since(written) < REPORT {
        return None;
    }
    let mut body = serde_json::to_value(&status).unwrap_or_default();
    // Others keep theirs.
    body["conditions"] = ours.map(|c| json!(c)).collect();
    // A node may have several of one type, by which lists of addresses merge.
    let replace = std::iter::once(json!({"$patch": "replace"}));
    body["addresses"] = replace.chain(status.addresses.iter().flatten().map(|a| json!(a))).collect();
    Some(json!({"status": body}))
}

/// Equal but for the time of the heartbeat, and the order of the conditions.
fn unchanged(a: &NodeStatus, b: &NodeStatus) -> bool {
    let strip = |s: &NodeStatus| {
        let mut s = s.clone();
        let conditions = s.conditions.get_or_insert_default();
        conditions.iter_mut().for_each(|c| c.last_heartbeat_time = None);
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        s.images.get_or_insert_default();
        s
    };
    strip(a) == strip(b)
}

/// The node's status; `images` as [`crate::listed`] makes them. Of `before` all is kept that is somebody else's, and the
/// transition times of the conditions that have not changed.
pub fn node_status(
    facts: &NodeFacts,
    before: Option<&NodeStatus>,
    health: Health,
    images: &[ContainerImage],
    now: Time,
) -> NodeStatus {
    let conditions = [
        (
            "MemoryPressure",
            health.memory_pressure,
            "HasInsufficientMemory",
            "HasSufficientMemory",
            "insufficient memory available",
            "sufficient memory available",
        ),
        (
            "DiskPressure",
            health.disk_pressure,
            "HasDiskPressure",
            "HasNoDiskPressure",
            "disk pressure",
            "no disk pressure",
        ),
        (
            "PIDPressure",
            health.pid_pressure,
            "HasInsufficientPID",
            "HasSufficientPID",
            "insufficient PID available",
            "sufficient PID available",
        ),
    ]
    .map(|(kind, bad, bad_reason, good_reason, bad_text, good_text)| {
        let (status, reason, text) =
            if bad { ("True", bad_reason, bad_text) } else { ("False", good_reason, good_text) };
        condition(kind, status, format!("Kubelet{reason}"), format!("kubelet has {text}"), before, now)
    });
    let mut conditions = conditions.to_vec();
    conditions.push(condition(
        READY,
        "True",
        "KubeletReady".into(),
        "kubelet is posting ready status".into(),
        before,
        now,
    ));
    // Conditions of others, such as NetworkUnavailable, stay.
    let others = before.and_then(|b| b.conditions.as_deref()).unwrap_or_default().iter();
    let others: Vec<_> = others.filter(|o| !conditions.iter().any(|c| c.type_ == o.type_)).cloned().collect();
    conditions.splice(0..0, others);
    let before = before.cloned().unwrap_or_default();
    // Resources that the node knows nothing of are advertised by whoever patches its capacity.
    let others = before.capacity.unwrap_or_default();
    let amounts = |cpu: i64, memory: i64, storage: i64| -> BTreeMap<String, Quantity> {
        let own = [
            ("cpu", Amount::from_millis(cpu)),
            ("memory", Amount::from_bytes(memory)),
            ("ephemeral-storage", Amount::from_bytes(storage)),
            ("pods", Amount::from_units(i64::from(facts.max_pods))),
        ]
        .map(|(k, v)| (k.to_string(), Quantity(v.to_string())));
        others.clone().into_iter().chain(own).collect()
    };
    let address = |kind: &str, address: String| NodeAddress { type_: kind.into(), address };
    NodeStatus {
        capacity: Some(amounts(facts.cpu_millis, facts.memory, facts.storage)),
        allocatable: Some(amounts(facts.allocatable_cpu_millis, facts.allocatable_memory, facts.allocatable_storage())),
        addresses: Some(
            (facts.host_ips().map(|ip| address("InternalIP", ip.to_string())))
                .chain([address("Hostname", facts.name.clone())])
                .collect(),
        ),
        conditions: Some(conditions),
        daemon_endpoints: Some(NodeDaemonEndpoints {
            kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(facts.api_port) }),
        }),
        images: Some(images.to_vec()),
        node_info: Some(NodeSystemInfo {
            architecture: facts.architecture.clone(),
            boot_id: facts.boot_id.clone(),
            container_runtime_version: facts.runtime_version.clone(),
            kernel_version: facts.kernel_version.clone(),
            kubelet_version: facts.version.clone(),
            kube_proxy_version: String::new(),
            machine_id: facts.machine_id.clone(),
            operating_system: "linux".into(),
            os_image: facts.os_image.clone(),
            system_uuid: facts.machine_id.clone(),
            ..NodeSystemInfo::default()
        }),
        runtime_handlers: Some(vec![NodeRuntimeHandler { name: Some("wasm".into()), ..NodeRuntimeHandler::default() }]),
        ..before
    }
}

fn condition(
    kind: &str,
    status: &str,
    reason: String,
    message: String,
    before: Option<&NodeStatus>,
    now: Time,
) -> NodeCondition {
    let old = before.and_then(|b| b.conditions.as_ref()).and_then(|c| c.iter().find(|c| c.type_ == kind));
    let kept = old.filter(|o| o.status == status).and_then(|o| o.last_transition_time.clone());
    NodeCondition {
        type_: kind.into(),
        status: status.into(),
        reason: Some(reason),
        message: Some(message),
        last_heartbeat_time: Some(stamp(now)),
        last_transition_time: Some(kept.unwrap_or_else(|| stamp(now))),
    }
}

/// The node's Lease, renewed at `now`; `node_uid` makes the Node its owner.
pub fn lease(name: &str, node_uid: &str, before: Option<Lease>, now: Time) -> Lease {
    let mut lease = before.unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(name.into()),
            namespace: Some(LEASE_NAMESPACE.into()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    if lease.metadata.owner_references.as_ref().is_none_or(Vec::is_empty) && !node_uid.is_empty() {
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.into(),
            uid: node_uid.into(),
            ..OwnerReference::default()
        }]);
    }
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.into());
    spec.lease_duration_seconds = Some(LEASE_SECONDS);
    spec.renew_time = Some(micro(now));
    lease
}

#[cfg(test)]
impl NodeFacts {
    pub(crate) fn example() -> NodeFacts {
        NodeFacts {
            name: "node".into(),
            host_ip: [192, 0, 2, 1].into(),
            cluster_domain: "cluster.local".into(),
            cpu_millis: 2000,
            memory: 2 << 30,
            storage: 10 << 30,
            allocatable_cpu_millis: 2000,
            allocatable_memory: 1 << 30,
            eviction_memory: crate::eviction::MEMORY_THRESHOLD,
            eviction_disk: DiskThresholds::default(),
            max_pods: 10_000,
            machine_id: "m".into(),
            boot_id: "b".into(),
            kernel_version: "6.1".into(),
            os_image: "Debian".into(),
            architecture: "amd64".into(),
            version: "v1.35.0+copepod".into(),
            runtime_version: "wasmtime://48.0.8".into(),
            api_port: 0,
            pod_cidrs: vec!["10.244.0.0/24".into()],
            dual_stack: false,
            second_host_ip: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_are_shown() {
        let one = NodeFacts::example();
        let pod: IpAddr = [10, 244, 3, 7].into();
        assert_eq!(one.pod_ips(pod), [pod]);
        let second_host_ip = "2001:db8::1".parse().ok();
        let both = NodeFacts { dual_stack: true, second_host_ip, ..one };
        assert_eq!(both.pod_ips(pod), [pod, "fd00:10:244::af4:307".parse::<IpAddr>().unwrap()]);
        let status = node_status(&both, None, Health::default(), &[], Time::from_secs(1));
        let shown: Vec<_> = status.addresses.iter().flatten().map(|a| format!("{} {}", a.type_, a.address)).collect();
        assert_eq!(shown, ["InternalIP 192.0.2.1", "InternalIP 2001:db8::1", "Hostname node"]);
    }

    #[test]
    fn transitions_are_kept_until_something_changes() {
        let facts = NodeFacts::example();
        let find =
            |s: &NodeStatus, kind: &str| s.conditions.clone().unwrap().into_iter().find(|c| c.type_ == kind).unwrap();
        let first = node_status(&facts, None, Health::default(), &[], Time::from_secs(100));
        assert_eq!(first.allocatable.as_ref().unwrap()["pods"].0, "10k");
        let second = node_status(&facts, Some(&first), Health::default(), &[], Time::from_secs(200));
        let third = node_status(
            &facts,
            Some(&second),
            Health { disk_pressure: true, ..Health::default() },
            &[],
            Time::from_secs(300),
        );
        let times: Vec<_> = [&first, &second, &third].map(|s| find(s, "DiskPressure").last_transition_time).to_vec();
        assert_eq!(
            times,
            [Some(stamp(Time::from_secs(100))), Some(stamp(Time::from_secs(100))), Some(stamp(Time::from_secs(300)))]
        );
        assert_eq!(find(&third, "DiskPressure").reason.as_deref(), Some("KubeletHasDiskPressure"));
        assert_eq!(find(&third, "Ready").last_transition_time, Some(stamp(Time::from_secs(100))));
    }

    #[test]
    fn what_is_there_decides_what_is_reported() {
        let facts = NodeFacts { second_host_ip: "2001:db8::1".parse().ok(), ..NodeFacts::example() };
        let images = [ContainerImage { names: Some(vec!["a".into()]), size_bytes: Some(7) }];
        let well = Health::default();
        let schema = copepod_model::schema::Schema::builtin();
        let write = |there: &NodeStatus, patch: &Value| -> NodeStatus {
            let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}, "status": there});
            let ty = schema.lookup("v1", "Node").expect("a kind");
            let merged = schema.strategic_merge(ty, &node, patch).expect("a patch");
            serde_json::from_value(merged["status"].clone()).expect("a status")
        };
        let at = |secs: u64| Time::from_secs(1_000_000 + secs);
        let ask = |there: &NodeStatus, images: &[ContainerImage], secs| report(&facts, there, well, images, at(secs));
        let first = ask(&NodeStatus::default(), &images, 0).expect("nothing is there");
        let mut there = write(&NodeStatus::default(), &first);
        // What others say of a node stays, and costs no writes.
        there.capacity.get_or_insert_default().insert("example.com/dongle".into(), Quantity("4".into()));
        there.conditions.get_or_insert_default().push(NodeCondition {
            type_: "KernelDeadlock".into(),
            status: "False".into(),
            ..NodeCondition::default()
        });
        let dongles = ask(&there, &images, 1).expect("allocatable lacks what was advertised");
        let there = write(&there, &dongles);
        assert_eq!(there.allocatable.as_ref().and_then(|a| a.get("example.com/dongle")), Some(&Quantity("4".into())));
        assert_eq!(there.addresses.as_ref().map(Vec::len), Some(3));
        assert_eq!(ask(&there, &images, 300), None);
        assert!(ask(&there, &images, 301).is_some(), "once in a while");
        let gone = write(&there, &ask(&there, &[], 2).expect("the image is gone"));
        assert!(gone.images.iter().flatten().next().is_none() && ask(&gone, &[], 3).is_none());
        // The node was given up while it could not be heard.
        let mut lost = there.clone();
        for c in lost.conditions.iter_mut().flatten().filter(|c| OWN.contains(&c.type_.as_str())) {
            c.status = "Unknown".into();
        }
        let back = write(&lost, &ask(&lost, &images, 60).expect("it is back"));
        let state = |s: &NodeStatus| -> Vec<String> {
            s.conditions.iter().flatten().map(|c| format!("{} {}", c.type_, c.status)).collect()
        };
        assert_eq!(state(&back), state(&there));
        assert_eq!(ask(&back, &images, 61), None);
    }

    #[test]
    fn a_lease_is_renewed_in_place() {
        let first = lease("n", "uid", None, Time::from_secs(1));
        let second = lease("n", "uid", Some(first.clone()), Time::from_secs(11));
        assert_eq!(first.metadata, second.metadata);
        assert_eq!(second.spec.unwrap().renew_time, Some(micro(Time::from_secs(11))));
    }
}
