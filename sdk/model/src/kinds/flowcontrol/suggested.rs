//! The objects that upstream suggests besides the mandatory ones (`pkg/apis/flowcontrol/bootstrap`): who changes them keeps
//! the change, who deletes one gets it back.

use serde_json::{Value, json};

/// (name, shares, percent lendable, queues, hand size) of priority levels.
const LEVELS: [(&str, i64, i64, i64, i64); 6] = [
    ("system", 30, 33, 64, 6),
    ("node-high", 40, 25, 64, 6),
    ("leader-election", 10, 0, 16, 4),
    ("workload-high", 40, 50, 128, 6),
    ("workload-low", 100, 90, 128, 6),
    ("global-default", 20, 50, 128, 6),
];
const ANYONE: [&str; 2] = ["system:unauthenticated", "system:authenticated"];

/// The specs of the priority levels, by name.
pub(super) fn levels() -> Vec<(&'static str, Value)> {
    let spec = |shares: i64, lendable: i64, queues: i64, hand: i64| {
        let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": 50});
        json!({"type": "Limited", "limited": {"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing}}})
    };
    LEVELS
        .iter()
        .map(|(name, shares, lendable, queues, hand)| (*name, spec(*shares, *lendable, *queues, *hand)))
        .collect()
}

/// The specs of the flow schemas, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let groups =
        |names: &[&str]| names.iter().map(|n| json!({"kind": "Group", "group": {"name": n}})).collect::<Vec<_>>();
    let user = |name: &str| json!({"kind": "User", "user": {"name": name}});
    let account = || json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}});
    let (manager, scheduler) = (user("system:kube-controller-manager"), user("system:kube-scheduler"));
    let everything = |subjects: Vec<Value>| {
        json!({"subjects": subjects,
            "resourceRules": [resources(&["*"], "*", &["*"], true)],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]})
    };
    let probes = json!({"subjects": groups(&ANYONE),
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]});
    let leases = resources(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false);
    let elections = json!({"subjects": [manager.clone(), scheduler.clone(), account()], "resourceRules": [leases]});
    let nodes = json!({"subjects": groups(&["system:nodes"]), "resourceRules": [
        resources(&["*"], "", &["nodes", "nodes/status"], true),
        resources(&["*"], "coordination.k8s.io", &["leases"], false),
    ]});
    [
        ("system-nodes", "system", 500, "ByUser", everything(groups(&["system:nodes"]))),
        ("system-node-high", "node-high", 400, "ByUser", nodes),
        ("probes", "exempt", 2, "", probes),
        ("system-leader-election", "leader-election", 100, "ByUser", elections),
        ("kube-controller-manager", "workload-high", 800, "ByNamespace", everything(vec![manager])),
        ("kube-scheduler", "workload-high", 800, "ByNamespace", everything(vec![scheduler])),
        ("kube-system-service-accounts", "workload-high", 900, "ByNamespace", everything(vec![account()])),
        ("service-accounts", "workload-low", 9000, "ByUser", everything(groups(&["system:serviceaccounts"]))),
        ("global-default", "global-default", 9900, "ByUser", everything(groups(&ANYONE))),
    ]
    .into_iter()
    .map(|(name, level, precedence, distinguisher, rules)| {
        let mut spec = json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence,
            "rules": [rules]});
        if !distinguisher.is_empty() {
            spec["distinguisherMethod"] = json!({"type": distinguisher});
        }
        (name, spec)
    })
    .collect()
}

fn resources(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": [group], "resources": resources, "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = true.into();
    }
    rule
}
