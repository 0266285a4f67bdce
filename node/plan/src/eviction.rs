//! Who has to go when the node runs short, and what it is told: the kubelet's eviction manager as a function.
//!
//! Source: Kubernetes' "Node-pressure Eviction" page and KEP-2029 for the wording of the events.

pub mod disk;
mod threshold;

use std::time::Duration;

use copepod_model::Time;
use copepod_model::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::node::Health;
pub use threshold::{Amount, DiskThresholds, Thresholds};

/// The kubelet's default hard threshold of `memory.available`.
pub const MEMORY_THRESHOLD: i64 = 100 << 20;
/// How long a pressure is reported after it was seen last (`evictionPressureTransitionPeriod`).
pub const TRANSITION: Duration = Duration::from_secs(300);
/// From this priority on a pod is critical and is never evicted by its node (`SystemCriticalPriority`).
const CRITICAL: i32 = 2_000_000_000;

/// The memory of the node, as measured just now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signals {
    /// Bytes that could be had without pushing anything out.
    pub memory_available: i64,
}

/// One container of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumer {
    /// Name.
    pub name: String,
    /// Its request in bytes.
    pub request: i64,
    /// Bytes that it uses.
    pub used: i64,
}

/// A running pod as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate<Id> {
    /// Who.
    pub id: Id,
    /// `spec.priority`.
    pub priority: i32,
    /// Its containers.
    pub containers: Vec<Consumer>,
}

impl<Id> Candidate<Id> {
    /// A pod with what its containers use, by name; init and ephemeral containers that use something count too.
    pub fn new(id: Id, pod: &Pod, used: impl Fn(&str) -> u64) -> Self {
        let spec = pod.spec.as_ref();
        let all = spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
        let consumer = |c: &Container| Consumer {
            name: c.name.clone(),
            request: memory_request(c),
            used: i64::try_from(used(&c.name)).unwrap_or(i64::MAX),
        };
        let ephemeral = crate::ephemeral::containers(pod);
        let containers = all.chain(&ephemeral).map(consumer).collect();
        Candidate { id, priority: spec.and_then(|s| s.priority).unwrap_or(0), containers }
    }

    fn used(&self) -> i64 {
        self.containers.iter().fold(0, |sum, c| sum.saturating_add(c.used))
    }

    fn request(&self) -> i64 {
        self.containers.iter().fold(0, |sum, c| sum.saturating_add(c.request))
    }
}

fn memory_request(container: &Container) -> i64 {
    let resources = container.resources.as_ref();
    let requests = resources.and_then(|r| r.requests.as_ref()).and_then(|l| l.get("memory"));
    let limits = || resources.and_then(|r| r.limits.as_ref()).and_then(|l| l.get("memory"));
    requests.or_else(limits).and_then(|q| q.0.parse::<Quantity>().ok()).map_or(0, |q| q.value())
}

/// A pod that has to go, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eviction<Id> {
    /// Who.
    pub id: Id,
    /// In the kubelet's words.
    pub message: String,
}

/// Decides who goes now: one pod at most, since its end may be enough. `None` if memory is not short or nobody may go.
pub fn evict<Id>(signals: Signals, threshold: i64, candidates: Vec<Candidate<Id>>) -> Option<Eviction<Id>> {
    if signals.memory_available >= threshold {
        return None;
    }
    // What uses nothing would free nothing.
    let may_go = candidates.into_iter().filter(|c| c.priority < CRITICAL && c.used() > 0);
    // Who exceeds its request goes first, then the least important, then who exceeds it most.
    let first = may_go.min_by_key(|c| {
        let over = c.used().saturating_sub(c.request());
        (over <= 0, c.priority, std::cmp::Reverse(over))
    })?;
    let amount = |bytes: i64| Quantity::from_bytes(bytes).to_string();
    let mut message = format!(
        "The node was low on resource: memory. Threshold quantity: {}, available: {}. ",
        amount(threshold),
        amount(signals.memory_available / 1024 * 1024)
    );
    for c in first.containers.iter().filter(|c| c.used > c.request) {
        message.push_str(&format!(
            "Container {} was using {}, request is {}, has larger consumption of memory. ",
            c.name,
            amount((c.used + 1023) / 1024 * 1024),
            amount(c.request)
        ));
    }
    Some(Eviction { id: first.id, message })
}

/// Whether a pressure is to be reported: it was seen lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    seen: Option<Time>,
}

impl Pressure {
    /// Takes in a measurement, by whether something was short; answers whether there is pressure.
    pub fn observe(&mut self, short: bool, now: Time) -> bool {
        if short {
            self.seen = Some(now);
        }
        self.seen.is_some_and(|seen| now.since(seen) < TRANSITION)
    }
}

/// Why a node under pressure does not take a pod, if it does not. While the disk is short it takes none, and while memory is
/// none of the class `BestEffort` that does not tolerate it; critical ones always.
pub fn refuses(pod: &Pod, health: Health) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let conditions = match (health.memory_pressure, health.disk_pressure) {
        (false, false) => return None,
        (true, false) => "MemoryPressure",
        (false, true) => "DiskPressure",
        (true, true) => "MemoryPressure DiskPressure",
    };
    let best_effort = pod.status.as_ref().and_then(|s| s.qos_class.as_deref()) == Some("BestEffort");
    let tolerates = spec.tolerations.iter().flatten().any(|t| {
        let key = t.key.as_deref().unwrap_or_default();
        let exists = t.operator.as_deref() == Some("Exists");
        let effect = t.effect.as_deref().unwrap_or_default();
        (key == "node.kubernetes.io/memory-pressure" || key.is_empty() && exists)
            && (exists || t.value.as_deref().unwrap_or_default().is_empty())
            && matches!(effect, "" | "NoSchedule")
    });
    let critical = spec.priority.is_some_and(|p| p >= CRITICAL);
    (!critical && (health.disk_pressure || best_effort && !tolerates))
        .then(|| format!("Pod was rejected: The node had condition: [{conditions}]. "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const MI: i64 = 1 << 20;
    const SHORT: Signals = Signals { memory_available: 50 * MI };

    fn pod(id: &'static str, priority: i32, request: i64, used: i64) -> Candidate<&'static str> {
        let containers = vec![Consumer { name: "c".into(), request: request * MI, used: used * MI }];
        Candidate { id, priority, containers }
    }

    fn order(mut all: Vec<Candidate<&'static str>>) -> Vec<&'static str> {
        let mut order = Vec::new();
        while let Some(e) = evict(SHORT, MEMORY_THRESHOLD, all.clone()) {
            all.retain(|c| c.id != e.id);
            order.push(e.id);
        }
        order
    }

    #[test]
    fn over_the_request_then_priority_then_by_how_much() {
        let all = vec![
            pod("within, low", -5, 200, 100),
            pod("over, important", 100, 10, 90),
            pod("over a little", 0, 10, 20),
            pod("over by much", 0, 0, 60),
            pod("within, high", 0, 200, 100),
            pod("critical", CRITICAL, 0, 500),
            pod("idle", -10, 0, 0),
        ];
        let wanted = ["over by much", "over a little", "over, important", "within, low", "within, high"];
        assert_eq!(order(all), wanted);
    }

    #[test]
    fn nobody_goes_while_there_is_enough() {
        let enough = Signals { memory_available: MEMORY_THRESHOLD };
        assert_eq!(evict(enough, MEMORY_THRESHOLD, vec![pod("a", 0, 0, 900)]), None);
        assert_eq!(evict(SHORT, MEMORY_THRESHOLD, Vec::<Candidate<u8>>::new()), None);
    }

    #[test]
    fn the_message_is_the_kubelets() {
        let mut victim = pod("a", 0, 16, 300);
        victim.containers.push(Consumer { name: "quiet".into(), request: 64 * MI, used: 1 });
        let eviction = evict(SHORT, MEMORY_THRESHOLD, vec![victim]).unwrap();
        assert_eq!(
            eviction.message,
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. \
             Container c was using 300Mi, request is 16Mi, has larger consumption of memory. "
        );
    }

    #[test]
    fn pressure_stays_for_a_while() {
        let (mut pressure, t) = (Pressure::default(), Time::from_secs(1000));
        assert!(!pressure.observe(false, t));
        assert!(pressure.observe(true, t));
        assert!(pressure.observe(false, t + Duration::from_secs(299)));
        assert!(!pressure.observe(false, t + TRANSITION));
    }

    #[test]
    fn under_pressure_only_pods_with_requests_may_come() {
        let refused = |spec: serde_json::Value, class: &str| {
            let mut spec = spec;
            spec["containers"] = json!([]);
            let pod = serde_json::from_value(json!({"spec": spec, "status": {"qosClass": class}})).unwrap();
            assert_eq!(refuses(&pod, Health::default()), None);
            refuses(&pod, Health { memory_pressure: true, ..Health::default() }).is_some()
        };
        assert!(refused(json!({}), "BestEffort"));
        assert!(!refused(json!({}), "Burstable"));
        assert!(!refused(json!({"priority": CRITICAL}), "BestEffort"));
        assert!(!refused(json!({"tolerations": [{"operator": "Exists"}]}), "BestEffort"));
        let key = "node.kubernetes.io/memory-pressure";
        assert!(!refused(
            json!({"tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"}]}),
            "BestEffort"
        ));
        assert!(refused(
            json!({"tolerations": [{"key": key, "operator": "Exists", "effect": "NoExecute"}]}),
            "BestEffort"
        ));
    }

    #[test]
    fn with_a_short_disk_only_critical_pods_may_come() {
        let pod = |priority: i32| {
            let spec = json!({"priority": priority, "containers": [], "tolerations": [{"operator": "Exists"}]});
            serde_json::from_value(json!({"spec": spec, "status": {"qosClass": "Guaranteed"}})).unwrap()
        };
        let mut health = Health { disk_pressure: true, ..Health::default() };
        let why = "Pod was rejected: The node had condition: [DiskPressure]. ";
        assert_eq!(refuses(&pod(0), health).as_deref(), Some(why));
        assert_eq!(refuses(&pod(CRITICAL), health), None);
        health.memory_pressure = true;
        let why = "Pod was rejected: The node had condition: [MemoryPressure DiskPressure]. ";
        assert_eq!(refuses(&pod(0), health).as_deref(), Some(why));
    }

    #[test]
    fn a_candidate_knows_what_was_asked_for() {
        let pod: Pod = serde_json::from_value(json!({"spec": {"priority": 7, "containers": [
            {"name": "a", "resources": {"requests": {"memory": "1Mi"}, "limits": {"memory": "2Mi"}}},
            {"name": "b", "resources": {"limits": {"memory": "2Mi"}}}, {"name": "c"}]}}))
        .unwrap();
        let candidate = Candidate::new((), &pod, |name| if name == "c" { 5 } else { 1 });
        let found: Vec<_> = candidate.containers.iter().map(|c| (c.request, c.used)).collect();
        assert_eq!((candidate.priority, found), (7, vec![(MI, 1), (2 * MI, 1), (0, 5)]));
    }
}
