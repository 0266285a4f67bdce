//! Volumes and claims, and the kinds of scheduling, runtimes, flow control, limits and quotas.

use super::*;

/// Each object has exactly one error, which begins with the text.
pub(super) fn each(resource: &str, cases: &[(Value, &str)]) {
    for (object, want) in cases {
        let got = errors(resource, object.clone());
        assert!(got.len() == 1 && got[0].starts_with(want), "{object}\nwant {want}\ngot  {got:#?}");
    }
}

/// The sample of a kind with one value changed.
pub(super) fn with(resource: &str, pointer: &str, value: Value) -> Value {
    let mut object = defaulted(resource, samples()[resource].clone());
    let (parent, leaf) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[leaf] = value;
    object
}

/// A change of the sample: where, to what, and the one error that it has, if any.
pub(super) fn change(resource: &str, pointer: &str, value: Value, want: Option<&str>) {
    let old = defaulted(resource, samples()[resource].clone());
    let got = update_errors(resource, old, with(resource, pointer, value.clone()));
    match want {
        None => assert_eq!(got, Vec::<String>::new(), "{resource} {pointer} {value}"),
        Some(want) => assert!(got.len() == 1 && got[0].starts_with(want), "{resource} {pointer} {value}\n{got:#?}"),
    }
}

#[test]
fn limit_ranges_inherit_and_agree_with_themselves() {
    let item = |item: Value| json!({"spec": {"limits": [item]}});
    let v = defaulted(
        "limitranges",
        item(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"}})),
    );
    assert_eq!(
        v["spec"]["limits"][0],
        json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"}, "default": {"cpu": "2"},
            "defaultRequest": {"cpu": "2", "memory": "1Gi"}})
    );
    let pod = item(json!({"type": "Pod", "max": {"cpu": "2"}}));
    assert_eq!(defaulted("limitranges", pod.clone()), pod);
    each(
        "limitranges",
        &[
            (
                item(json!({"type": "Thing"})),
                "spec.limits[0].type: Invalid value: \"Thing\": must be a standard limit type or fully qualified",
            ),
            (
                json!({"spec": {"limits": [{"type": "Pod"}, {"type": "Pod"}]}}),
                "spec.limits[1].type: Duplicate value: \"Pod\"",
            ),
            (
                item(json!({"type": "Pod", "default": {"cpu": "1"}})),
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                item(json!({"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}})),
                "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            ),
            (
                item(json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}})),
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit \
                 value 1",
            ),
            (
                item(json!({"type": "PersistentVolumeClaim"})),
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required",
            ),
            (
                item(json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "500m"}})),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
            (
                item(
                    json!({"type": "Pod", "maxLimitRequestRatio": {"cpu": "5"}, "min": {"cpu": "1"}, "max": {"cpu": "2"}}),
                ),
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"5\": ratio 5 is greater than max/min = 2.000000",
            ),
            (
                item(json!({"type": "Pod", "max": {"storage": "1"}})),
                "spec.limits[0].max[storage]: Invalid value: \"storage\": must be a standard resource for containers",
            ),
        ],
    );
}

#[test]
fn quotas_limit_what_there_is() {
    let spec = |spec: Value| json!({ "spec": spec });
    each(
        "resourcequotas",
        &[
            (
                spec(json!({"hard": {"storage": "1"}})),
                "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota",
            ),
            (
                spec(json!({"hard": {"pods": "-1"}})),
                "spec.hard[pods]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (spec(json!({"hard": {"pods": "1500m"}})), "spec.hard[pods]: Invalid value: \"1500m\": must be an integer"),
            (spec(json!({"scopes": ["Odd"]})), "spec.scopes: Invalid value: [\"Odd\"]: unsupported scope"),
            (
                spec(json!({"hard": {"services": "1"}, "scopes": ["BestEffort"]})),
                "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
            ),
            (
                spec(json!({"scopes": ["BestEffort", "NotBestEffort"]})),
                "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
            ),
            (
                spec(
                    json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
                ),
                "spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In'",
            ),
            (
                spec(
                    json!({"scopeSelector": {"matchExpressions": [{"scopeName": "BestEffort", "operator": "DoesNotExist"}]}}),
                ),
                "spec.scopeSelector.matchExpressions.operator: Invalid value: \"DoesNotExist\": must be 'Exists' when scope is",
            ),
        ],
    );
    let fine = json!({"hard": {"count/jobs.batch": "1", "requests.example.com/gpu": "2", "requests.storage": "1Gi",
        "gold.storageclass.storage.k8s.io/requests.storage": "1Gi", "limits.cpu": "500m", "hugepages-2Mi": "1"}});
    assert_eq!(errors("resourcequotas", spec(fine)), Vec::<String>::new());
    change(
        "resourcequotas",
        "/spec/scopes",
        json!(["BestEffort"]),
        Some("spec.scopes: Invalid value: [\"BestEffort\"]: field is immutable"),
    );
    change("resourcequotas", "/spec/hard", json!({"pods": "9"}), None);
    let shown = json!({"metadata": {"name": "q", "creationTimestamp": "2026-01-01T00:58:00Z"},
        "status": {"hard": {"limits.cpu": "2", "pods": "4", "requests.cpu": "1"}, "used": {"pods": "2", "requests.cpu": "500m"}}});
    assert_eq!(row("resourcequotas", shown), ["q", "pods: 2/4, requests.cpu: 500m/1", "limits.cpu: 0/2", "2m"]);
}

#[test]
fn volumes_say_what_they_are_and_stay_so() {
    let pv = |pointer: &str, v: Value| with("persistentvolumes", pointer, v);
    let v = defaulted("persistentvolumes", samples()["persistentvolumes"].clone());
    assert_eq!(
        (&v["spec"]["persistentVolumeReclaimPolicy"], &v["spec"]["volumeMode"], &v["spec"]["hostPath"]["type"]),
        (&json!("Retain"), &json!("Filesystem"), &json!(""))
    );
    each(
        "persistentvolumes",
        &[
            (pv("/spec/accessModes", json!([])), "spec.accessModes: Required value"),
            (
                pv("/spec/accessModes", json!(["Sometimes"])),
                "spec.accessModes: Unsupported value: \"Sometimes\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
                 \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            ),
            (
                pv("/spec/accessModes", json!(["ReadWriteOncePod", "ReadOnlyMany"])),
                "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            ),
            (
                pv("/spec/capacity", json!({"storage": "0"})),
                "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (pv("/spec/hostPath", Value::Null), "spec: Required value: must specify a volume type"),
            (
                pv("/spec/nfs", json!({"server": "s", "path": "/"})),
                "spec.nfs: Forbidden: may not specify more than 1 volume type",
            ),
            (
                pv("/spec/hostPath", json!({"path": "/a/../b"})),
                "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            ),
            (
                pv("/spec/persistentVolumeReclaimPolicy", json!("Burn")),
                "spec.persistentVolumeReclaimPolicy: Unsupported value: \"Burn\": supported values: \"Delete\", \"Recycle\", \"Retain\"",
            ),
            (
                pv("/spec/volumeMode", json!("Tape")),
                "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
            ),
            (
                pv("/spec/nodeAffinity", json!({})),
                "spec.nodeAffinity.required: Required value: must specify required node constraints",
            ),
        ],
    );
    let source = "spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation";
    change("persistentvolumes", "/spec/hostPath/path", json!("/other"), Some(source));
    change("persistentvolumes", "/spec/capacity", json!({"storage": "2Gi"}), None);
    change(
        "persistentvolumes",
        "/spec/volumeMode",
        json!("Block"),
        Some("volumeMode: Invalid value: \"Block\": field is immutable"),
    );
    let shown = json!({"metadata": {"name": "v", "creationTimestamp": "2026-01-01T00:58:00Z"}, "status": {"phase": "Bound"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"], "storageClassName": "gold",
            "persistentVolumeReclaimPolicy": "Retain", "claimRef": {"namespace": "a", "name": "c"}, "volumeMode": "Filesystem"}});
    let want = ["v", "1Gi", "RWO,RWX", "Retain", "Bound", "a/c", "gold", "<unset>", "", "2m", "Filesystem"];
    assert_eq!(row("persistentvolumes", shown), want);
}

#[test]
fn claims_may_only_grow() {
    let claim = |pointer: &str, v: Value| with("persistentvolumeclaims", pointer, v);
    each(
        "persistentvolumeclaims",
        &[
            (
                claim("/spec/accessModes", json!([])),
                "spec.accessModes: Required value: at least 1 access mode is required",
            ),
            (claim("/spec/resources", json!({})), "spec.resources[storage]: Required value"),
            (
                claim("/spec/resources", json!({"requests": {"storage": "0"}})),
                "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            ),
            (
                claim("/spec/storageClassName", json!("A")),
                "spec.storageClassName: Invalid value: \"A\": a lowercase RFC 1123",
            ),
            (
                claim("/spec/dataSource", json!({"kind": "Thing", "name": "x"})),
                "spec.dataSource: Invalid value: \"Thing\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
            ),
        ],
    );
    let fixed =
        "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName";
    let what = "persistentvolumeclaims";
    change(what, "/spec/volumeName", json!("v"), None);
    change(what, "/spec/storageClassName", json!("gold"), None);
    change(what, "/spec/resources/requests/storage", json!("2Gi"), Some(fixed));
    change(what, "/spec/accessModes", json!(["ReadWriteMany"]), Some(fixed));
    let mut bound = defaulted(what, samples()[what].clone());
    bound["spec"]["storageClassName"] = "gold".into();
    bound["spec"]["volumeName"] = "v".into();
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]});
    for (field, value, want) in [
        ("size", json!("2Gi"), None),
        (
            "size",
            json!("512Mi"),
            Some("spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"),
        ),
        ("storageClassName", json!("silver"), Some(fixed)),
        ("volumeName", json!("w"), Some(fixed)),
        ("volumeAttributesClassName", json!("fast"), None),
    ] {
        let mut new = bound.clone();
        match field {
            "size" => new["spec"]["resources"]["requests"]["storage"] = value.clone(),
            other => new["spec"][other] = value.clone(),
        }
        let got = update_errors(what, bound.clone(), new);
        match want {
            None => assert_eq!(got, Vec::<String>::new(), "{field} {value}"),
            Some(want) => assert!(got.len() == 1 && got[0].starts_with(want), "{field} {value}: {got:?}"),
        }
    }
    bound["metadata"] = json!({"name": "c", "creationTimestamp": "2026-01-01T00:58:00Z"});
    assert_eq!(row(what, bound), ["c", "Bound", "v", "1Gi", "RWO", "gold", "<unset>", "2m", "Filesystem"]);
}

#[test]
fn priority_classes_do_not_change() {
    let what = "priorityclasses.scheduling.k8s.io";
    each(
        what,
        &[
            (
                json!({"metadata": {"name": "a"}, "value": 1_000_000_001}),
                "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
            ),
            (
                json!({"metadata": {"name": "system-node-critical"}, "value": 1}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: \
                 value of system-node-critical PriorityClass must be 2000001000",
            ),
            (
                json!({"metadata": {"name": "system-other"}, "value": 1}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: \
                 system-other is not a known system priority class",
            ),
            (
                json!({"metadata": {"name": "system-cluster-critical"}, "value": 2_000_000_000, "globalDefault": true}),
                "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. error: \
                 globalDefault of system-cluster-critical PriorityClass must be false",
            ),
            (
                json!({"metadata": {"name": "a"}, "preemptionPolicy": "Always"}),
                "preemptionPolicy: Unsupported value: \"Always\": supported values: \"PreemptLowerPriority\", \"Never\"",
            ),
            (json!({"metadata": {"name": "a"}, "preemptionPolicy": ""}), "preemptionPolicy: Required value"),
        ],
    );
    change(what, "/value", json!(11), Some("value: Forbidden: may not be changed in an update."));
    change(
        what,
        "/preemptionPolicy",
        json!("Never"),
        Some("preemptionPolicy: Invalid value: \"Never\": field is immutable"),
    );
    change(what, "/description", json!("better"), None);
    for (name, class) in super::super::scheduling::priority_class::system() {
        assert_eq!(errors(what, class), Vec::<String>::new(), "{name}");
    }
}

#[test]
fn runtime_classes_keep_their_handler() {
    let what = "runtimeclasses.node.k8s.io";
    each(
        what,
        &[
            (json!({"handler": "A"}), "handler: Invalid value: \"A\": a lowercase RFC 1123 label"),
            (
                json!({"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}}),
                "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"handler": "a", "scheduling": {"nodeSelector": {"-": "x"}}}),
                "scheduling.nodeSelector: Invalid value: \"-\"",
            ),
            (
                json!({"handler": "a", "scheduling": {"tolerations": [{"key": "-"}]}}),
                "scheduling.tolerations[0].key: Invalid value: \"-\": name part must",
            ),
        ],
    );
    change(what, "/handler", json!("b"), Some("handler: Invalid value: \"b\": field is immutable"));
}

#[test]
fn flows_and_levels() {
    let flow = |pointer: &str, v: Value| with("flowschemas.flowcontrol.apiserver.k8s.io", pointer, v);
    each(
        "flowschemas.flowcontrol.apiserver.k8s.io",
        &[
            (
                flow("/spec/matchingPrecedence", json!(-1)),
                "spec.matchingPrecedence: Invalid value: -1: must be a positive value",
            ),
            (
                flow("/spec/matchingPrecedence", json!(10_001)),
                "spec.matchingPrecedence: Invalid value: 10001: must not be greater than 10000",
            ),
            (
                flow("/spec/priorityLevelConfiguration", json!({})),
                "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            ),
            (
                flow("/spec/rules/0/subjects", json!([])),
                "spec.rules[0].subjects: Required value: subjects must contain at least one value",
            ),
            (
                flow("/spec/rules/0/subjects/0/group", json!({"name": "g"})),
                "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            ),
            (
                flow("/spec/rules/0/nonResourceRules", json!([])),
                "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
            ),
            (
                flow("/spec/rules/0/nonResourceRules/0/verbs", json!(["*", "get"])),
                "spec.rules[0].nonResourceRules[0].verbs: Invalid value: [\"*\",\"get\"]: if '*' is present, must not specify other verbs",
            ),
            (
                flow("/spec/rules/0/nonResourceRules/0/nonResourceURLs", json!(["a"])),
                "spec.rules[0].nonResourceRules[0].nonResourceURLs[0]: Invalid value: \"a\": must start with slash",
            ),
        ],
    );
    let level = |pointer: &str, v: Value| with("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", pointer, v);
    each(
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        &[
            (
                level("/spec/limited/nominalConcurrencyShares", json!(-1)),
                "spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
            ),
            (
                level("/spec/limited/limitResponse/type", json!("Drop")),
                "spec.limited.limitResponse.type: Unsupported value: \"Drop\": supported values: \"Queue\", \"Reject\"",
            ),
            (
                level("/spec/limited/limitResponse/queuing/handSize", json!(65)),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 65: should not be greater than queues (64)",
            ),
            (
                level("/spec/limited/limitResponse/queuing/handSize", json!(11)),
                "spec.limited.limitResponse.queuing.handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 \
                 should not be greater than 60",
            ),
        ],
    );
    let queuing =
        level("/spec/limited/lendablePercent", json!(0))["spec"]["limited"]["limitResponse"]["queuing"].clone();
    assert_eq!(queuing, json!({"handSize": 8, "queues": 64, "queueLengthLimit": 50}));
    let exempt = |exempt: Value| json!({"metadata": {"name": "exempt"}, "spec": {"type": "Exempt", "exempt": exempt}});
    each(
        "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io",
        &[
            (
                exempt(json!({"nominalConcurrencyShares": -1})),
                "spec.exempt.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer",
            ),
            (
                exempt(json!({"lendablePercent": 101})),
                "spec.exempt.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive",
            ),
        ],
    );
    let lends = exempt(json!({"nominalConcurrencyShares": 7, "lendablePercent": 10}));
    assert_eq!(errors("prioritylevelconfigurations.flowcontrol.apiserver.k8s.io", lends), Vec::<String>::new());
    // What every cluster has is valid, and what it cannot do without stays as it is.
    for (kind, all) in [
        ("flowschemas", super::super::flowcontrol::flow_schema::system()),
        ("prioritylevelconfigurations", super::super::flowcontrol::priority_level_configuration::system()),
    ] {
        let resource = format!("{kind}.flowcontrol.apiserver.k8s.io");
        for (name, object) in all {
            assert_eq!(errors(&resource, object.clone()), Vec::<String>::new(), "{name}");
            if !["exempt", "catch-all"].contains(&name) {
                continue;
            }
            let mut changed = object;
            match kind {
                "flowschemas" => changed["spec"]["rules"] = json!([]),
                _ => changed["spec"]["limited"]["lendablePercent"] = 7.into(),
            }
            let got = errors(&resource, changed);
            let fixed = match (kind, name) {
                ("prioritylevelconfigurations", "exempt") => {
                    "spec of 'exempt' except the 'spec.exempt' field must equal the fixed value".to_string()
                }
                _ => format!("spec of '{name}' must equal the fixed value"),
            };
            assert!(got.iter().any(|e| e.ends_with(&fixed)), "{got:?}");
        }
    }
}
