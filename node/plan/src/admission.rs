//! Whether the node takes a pod that was bound to it. Whoever binds may be mistaken, or late: the kubelet looks again
//! (`pkg/kubelet/lifecycle/predicate.go`), and so does this.

use copepod_machine::EventType;
use copepod_model::Time;
use copepod_model::placement::{Taint, Toleration, selects};
use serde_json::Value;

use crate::node::NodeFacts;
use crate::observed::{Observed, Verdict};

/// What pods take of a node: one, or all of them together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// CPU requests in millicores.
    pub cpu_millis: i64,
    /// Memory requests in bytes.
    pub memory: i64,
    /// Requests of ephemeral storage in bytes.
    pub storage: i64,
    /// How many pods.
    pub pods: i64,
}

impl Claim {
    /// Adds another one's.
    pub fn add(&mut self, other: Claim) {
        *self = self.with(other, 1);
    }

    /// Takes another one's away.
    pub fn free(&mut self, other: Claim) {
        *self = self.with(other, -1);
    }

    fn with(self, other: Claim, sign: i64) -> Claim {
        let sum = |a: i64, b: i64| a.saturating_add(b.saturating_mul(sign));
        Claim {
            cpu_millis: sum(self.cpu_millis, other.cpu_millis),
            memory: sum(self.memory, other.memory),
            storage: sum(self.storage, other.storage),
            pods: sum(self.pods, other.pods),
        }
    }
}

/// Why a pod is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// CamelCase: `OutOfcpu`, `NodeAffinity`, …
    pub reason: &'static str,
    /// In the kubelet's words.
    pub message: String,
}

/// Judges a pod. `pod` and `node` are the objects as JSON, `taken` is what the node's other pods claim, `clash` whether one of
/// them has a host port that this one wants.
pub fn admit(
    pod: &Value,
    claim: Claim,
    taken: Claim,
    clash: bool,
    facts: &NodeFacts,
    node: &Value,
) -> Result<(), Refusal> {
    let spec = &pod["spec"];
    if spec["os"]["name"].as_str().is_some_and(|os| os != "linux") {
        return Err(refuse("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS".into()));
    }
    if let Some((reason, message)) = lacking(claim, taken, facts) {
        return Err(refuse(reason, message));
    }
    if !selects(spec, &facts.name, |k| node["metadata"]["labels"][k].as_str()) {
        return Err(predicate("NodeAffinity", "node(s) didn't match Pod's node affinity/selector"));
    }
    if clash {
        return Err(predicate("NodePorts", "node(s) didn't have free ports for the requested pod ports"));
    }
    let taints = node["spec"]["taints"].as_array().into_iter().flatten().map(Taint::read);
    let tolerations: Vec<_> = spec["tolerations"].as_array().into_iter().flatten().map(Toleration::read).collect();
    // A taint that only keeps new pods from being bound is the scheduler's affair.
    let mut harsh = taints.filter(|t| t.effect == "NoExecute");
    if harsh.any(|t| !tolerations.iter().any(|own| own.tolerates(&t))) {
        return Err(predicate("TaintToleration", "node(s) had taints that the pod didn't tolerate"));
    }
    Ok(())
}

/// What of a claim does not fit beside what others have: the reason of a refusal, and the kubelet's words.
pub(crate) fn lacking(claim: Claim, taken: Claim, facts: &NodeFacts) -> Option<(&'static str, String)> {
    let resources = [
        ("OutOfpods", "pods", claim.pods, taken.pods, i64::from(facts.max_pods)),
        ("OutOfcpu", "cpu", claim.cpu_millis, taken.cpu_millis, facts.allocatable_cpu_millis),
        ("OutOfmemory", "memory", claim.memory, taken.memory, facts.allocatable_memory),
        ("OutOfephemeral-storage", "ephemeral-storage", claim.storage, taken.storage, facts.allocatable_storage()),
    ];
    let mut resources = resources.into_iter();
    resources.find(|(.., requested, used, capacity)| *requested > 0 && used.saturating_add(*requested) > *capacity).map(
        |(reason, name, requested, used, capacity)| {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            (reason, message)
        },
    )
}

fn refuse(reason: &'static str, message: String) -> Refusal {
    Refusal { reason, message }
}

fn predicate(name: &'static str, why: &str) -> Refusal {
    refuse(name, format!("Predicate {name} failed: {why}"))
}

impl Observed {
    /// Ends a pod that is not taken before anything of it began.
    pub fn refuse(&mut self, refusal: Refusal, now: Time) {
        self.start_time.get_or_insert(now);
        self.refused = true;
        self.event(EventType::Warning, refusal.reason, refusal.message.clone(), None);
        self.verdict = Some(Verdict {
            phase: "Failed".into(),
            reason: Some(refusal.reason.into()),
            message: Some(format!("Pod was rejected: {}", refusal.message)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judge(spec: Value, claim: Claim, taken: Claim) -> String {
        judge_with(spec, claim, taken, false)
    }

    fn judge_with(spec: Value, claim: Claim, taken: Claim, clash: bool) -> String {
        let mut facts = NodeFacts::example();
        (facts.max_pods, facts.allocatable_cpu_millis, facts.allocatable_memory) = (3, 1000, 1 << 30);
        facts.name = "n".into();
        let node = json!({"metadata": {"labels": {"disk": "ssd"}}, "spec": {"taints": [
            {"key": "gpu", "effect": "NoSchedule"}, {"key": "down", "effect": "NoExecute"}]}});
        match admit(&json!({ "spec": spec }), claim, taken, clash, &facts, &node) {
            Ok(()) => "taken".into(),
            Err(r) => format!("{}: {}", r.reason, r.message),
        }
    }

    #[test]
    fn the_kubelets_reasons_and_words() {
        let bears = json!([{"key": "down", "operator": "Exists"}]);
        let claim = Claim { cpu_millis: 300, memory: 1 << 20, storage: 0, pods: 1 };
        let fits = json!({"tolerations": bears, "nodeSelector": {"disk": "ssd"}});
        let taken = Claim { cpu_millis: 700, pods: 2, ..Claim::default() };
        assert_eq!(judge(fits.clone(), claim, taken), "taken");
        let full = Claim { cpu_millis: 701, ..taken };
        let cpu = "OutOfcpu: Node didn't have enough resource: cpu, requested: 300, used: 701, capacity: 1000";
        assert_eq!(judge(fits.clone(), claim, full), cpu);
        assert_eq!(judge(fits.clone(), Claim { cpu_millis: 0, ..claim }, full), "taken", "who asks for none gets none");
        let ports = "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
        assert_eq!(judge_with(fits.clone(), claim, taken, true), ports);
        let disk = Claim { storage: (10 << 30) - (512 << 20), ..claim };
        assert_eq!(judge(fits.clone(), disk, taken), "taken", "of 10 Gi, less 5 percent");
        let disk = judge(fits.clone(), disk, Claim { storage: 1, ..taken });
        let wanted = "OutOfephemeral-storage: Node didn't have enough resource: ephemeral-storage, requested: 10200547328, \
            used: 1, capacity: 10200547328";
        assert_eq!(disk, wanted);
        let pods = "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3";
        assert_eq!(judge(fits, claim, Claim { pods: 3, ..full }), pods);
        let taint =
            "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        assert_eq!(judge(json!({}), claim, taken), taint);
        let affinity = "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        assert_eq!(judge(json!({"tolerations": bears, "nodeSelector": {"disk": "hdd"}}), claim, taken), affinity);
        assert!(judge(json!({"os": {"name": "windows"}}), claim, taken).starts_with("PodOSNotSupported"));
    }
}
