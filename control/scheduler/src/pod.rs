//! What the plugins need to know of a pod.

use std::collections::BTreeMap;
use std::sync::Arc;

use copepod_model::Object;
use copepod_model::facts::PodFacts;
use copepod_model::placement::{Taint, Toleration};
use copepod_model::quantity::Quantity;
use serde_json::Value;

use crate::node::Node;
use crate::peers::Affinity;

/// What upstream assumes a container without requests uses, when it compares nodes: CPU in millicores.
const ASSUMED_CPU: i64 = 100;
/// The same for memory, in bytes.
const ASSUMED_MEMORY: i64 = 200 << 20;

/// What a pod takes from its node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Request {
    pub cpu_millis: i64,
    pub memory_bytes: i64,
    /// Other resources by name, in whole units.
    pub others: BTreeMap<String, i64>,
    /// Host ports: protocol, address, port.
    pub ports: Vec<(String, String, u16)>,
}

impl Request {
    /// CPU and memory as they count in scores, where asking for nothing is not using nothing.
    pub(crate) fn scored(&self) -> (i64, i64) {
        let or = |n: i64, default: i64| if n == 0 { default } else { n };
        (or(self.cpu_millis, ASSUMED_CPU), or(self.memory_bytes, ASSUMED_MEMORY))
    }

    /// Reads a pod's.
    pub(crate) fn read(pod: &Object, spec: &Value) -> Request {
        let facts = pod.facts::<PodFacts>();
        let list = |name: &str| spec[name].as_array().into_iter().flatten();
        let sidecar = |c: &&Value| c["restartPolicy"] == "Always";
        // Those that run as long as the pod does.
        let lasting = || list("initContainers").filter(sidecar).chain(list("containers"));
        let port = |p: &Value| {
            let number = u16::try_from(p["hostPort"].as_u64()?).ok().filter(|n| *n > 0)?;
            let text = |f: &str, default: &str| p[f].as_str().filter(|s| !s.is_empty()).unwrap_or(default).to_string();
            Some((text("protocol", "TCP"), text("hostIP", "0.0.0.0"), number))
        };
        Request {
            cpu_millis: facts.cpu_millis,
            memory_bytes: facts.memory_bytes,
            others: others(spec),
            ports: lasting().flat_map(|c| c["ports"].as_array().into_iter().flatten()).filter_map(port).collect(),
        }
    }
}

/// Requests besides CPU and memory, effective ones as [`PodFacts`] has those: the greater of what runs together in the end
/// and at any time before, plus overhead.
fn others(spec: &Value) -> BTreeMap<String, i64> {
    let amounts = |map: &Value| -> Vec<(String, i64)> {
        let all = map.as_object().into_iter().flatten().filter(|(name, _)| !matches!(name.as_str(), "cpu" | "memory"));
        let value = |a: &Value| a.as_str().and_then(|a| a.parse::<Quantity>().ok()).map_or(0, |q| q.value());
        all.map(|(name, amount)| (name.clone(), value(amount))).collect()
    };
    let of = |c: &Value| amounts(&c["resources"]["requests"]);
    let add = |sums: &mut BTreeMap<String, i64>, name: &str, amount: i64| -> i64 {
        let sum = sums.entry(name.into()).or_default();
        *sum = sum.saturating_add(amount);
        *sum
    };
    let (mut sums, mut init): (BTreeMap<String, i64>, BTreeMap<String, i64>) = Default::default();
    // Sidecars run beside the main containers, and beside the init containers that come after them.
    for c in spec["initContainers"].as_array().into_iter().flatten() {
        for (name, amount) in of(c) {
            let together = match c["restartPolicy"] == "Always" {
                true => add(&mut sums, &name, amount),
                false => sums.get(&name).copied().unwrap_or(0).saturating_add(amount),
            };
            let most = init.entry(name).or_default();
            *most = together.max(*most);
        }
    }
    for (name, amount) in spec["containers"].as_array().into_iter().flatten().flat_map(of) {
        add(&mut sums, &name, amount);
    }
    for (name, most) in init {
        let sum = sums.entry(name).or_default();
        *sum = most.max(*sum);
    }
    for (name, amount) in amounts(&spec["overhead"]) {
        add(&mut sums, &name, amount);
    }
    sums
}

/// A pod to be placed.
pub(crate) struct Pod {
    pub object: Arc<Object>,
    pub uid: Arc<str>,
    pub request: Request,
    pub tolerations: Vec<Toleration>,
    /// `spec.nodeSelector`.
    pub selector: BTreeMap<String, String>,
    /// `nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms`, if given.
    pub required: Option<Vec<Value>>,
    /// `preferredDuringSchedulingIgnoredDuringExecution`.
    pub preferred: Vec<Value>,
    /// The UID of its controller.
    pub controller: Option<Arc<str>>,
    /// Affinity to other pods.
    pub affinity: Affinity,
    /// `topologySpreadConstraints`.
    pub spread: Vec<Value>,
    /// Whether someone still holds it back (`schedulingGates`).
    pub gated: bool,
}

impl Pod {
    pub(crate) fn read(object: &Arc<Object>) -> Pod {
        let value = object.value();
        let spec = &value["spec"];
        let affinity = &spec["affinity"]["nodeAffinity"];
        let (now, wish) =
            ("requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution");
        let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
        let pairs = spec["nodeSelector"].as_object().into_iter().flatten();
        Pod {
            object: object.clone(),
            affinity: Affinity::read(object, spec),
            spread: spec["topologySpreadConstraints"].as_array().cloned().unwrap_or_default(),
            uid: object.meta.uid.clone(),
            controller: object.meta.controller().map(|c| (&*c.uid).into()),
            request: Request::read(object, spec),
            tolerations: spec["tolerations"].as_array().into_iter().flatten().map(Toleration::read).collect(),
            selector: pairs.map(|(k, v)| (k.clone(), text(v))).collect(),
            required: affinity[now]["nodeSelectorTerms"].as_array().cloned(),
            preferred: affinity[wish].as_array().cloned().unwrap_or_default(),
            gated: spec["schedulingGates"].as_array().is_some_and(|g| !g.is_empty()),
        }
    }

    /// Whether it may go to this node by its `nodeSelector` and node affinity.
    pub(crate) fn selects(&self, node: &Node) -> bool {
        // Terms are alternatives; a list without terms matches nothing.
        self.selector.iter().all(|(k, v)| node.label(k) == Some(v))
            && self.required.as_ref().is_none_or(|terms| terms.iter().any(|t| node.matches(t)))
    }

    /// The first taint of a node that keeps it away.
    pub(crate) fn untolerated<'n>(&self, node: &'n Node) -> Option<&'n Taint> {
        let hard = node.offer.taints.iter().filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
        hard.into_iter().find(|t| !self.tolerates(t))
    }

    /// Whether where others are matters to it.
    pub(crate) fn minds_others(&self) -> bool {
        !self.affinity.is_empty() || !self.spread.is_empty()
    }

    /// Whether it tolerates a taint.
    pub(crate) fn tolerates(&self, taint: &Taint) -> bool {
        self.tolerations.iter().any(|t| t.tolerates(taint))
    }
}
