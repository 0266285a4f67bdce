//! StatefulSet, DaemonSet, ReplicationController, ControllerRevision.

use super::*;

fn changed(resource: &str, pointer: &str, value: Value) -> Value {
    let mut object = defaulted(resource, samples()[resource].clone());
    let (parent, leaf) = pointer.rsplit_once('/').unwrap();
    object.pointer_mut(parent).unwrap()[leaf] = value;
    object
}

/// Each change leads to these errors, which begin with the texts.
fn each(resource: &str, cases: &[(&str, Value, &[&str])]) {
    for (pointer, value, want) in cases {
        let got = errors(resource, changed(resource, pointer, value.clone()));
        let same = got.len() == want.len() && got.iter().zip(*want).all(|(g, w)| g.starts_with(w));
        assert!(same, "{resource} {pointer} {value}\nwant {want:#?}\ngot  {got:#?}");
    }
}

const MISMATCH: &str =
    "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template";

#[test]
fn a_stateful_set_gets_upstreams_defaults() {
    let mut s = samples()["statefulsets.apps"].clone();
    s["spec"]["volumeClaimTemplates"] = json!([{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"]}}]);
    let s = defaulted("statefulsets.apps", s);
    let spec = &s["spec"];
    assert_eq!((&spec["podManagementPolicy"], &spec["replicas"]), (&json!("OrderedReady"), &json!(1)));
    assert_eq!(
        spec["updateStrategy"],
        json!({"type":"RollingUpdate","rollingUpdate":{"partition":0,"maxUnavailable":1}})
    );
    assert_eq!(spec["persistentVolumeClaimRetentionPolicy"], json!({"whenDeleted":"Retain","whenScaled":"Retain"}));
    assert_eq!(spec["revisionHistoryLimit"], 10);
    assert_eq!(
        spec["volumeClaimTemplates"],
        json!([{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"data"},
            "spec":{"accessModes":["ReadWriteOnce"],"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}])
    );
    let manual = changed("statefulsets.apps", "/spec/updateStrategy", json!({"type":"OnDelete"}));
    assert_eq!(defaulted("statefulsets.apps", manual)["spec"]["updateStrategy"], json!({"type":"OnDelete"}));
    // A type without its parameters stays without them.
    let bare = changed("statefulsets.apps", "/spec/updateStrategy", json!({"type":"RollingUpdate"}));
    assert_eq!(defaulted("statefulsets.apps", bare)["spec"]["updateStrategy"], json!({"type":"RollingUpdate"}));
}

#[test]
fn rules_of_stateful_sets() {
    let partition = |rolling: Value| json!({"type":"RollingUpdate","rollingUpdate":rolling});
    each(
        "statefulsets.apps",
        &[
            (
                "/spec/podManagementPolicy",
                json!("Sometimes"),
                &["spec.podManagementPolicy: Invalid value: \"Sometimes\": must be 'OrderedReady' or 'Parallel'"],
            ),
            (
                "/spec/updateStrategy",
                json!({"type":"Never"}),
                &["spec.updateStrategy: Invalid value: {\"type\":\"Never\"}: must be 'RollingUpdate' or 'OnDelete'"],
            ),
            (
                "/spec/updateStrategy",
                json!({"type":"OnDelete","rollingUpdate":{"partition":1}}),
                &[
                    "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy \
                   'RollingUpdate'",
                ],
            ),
            (
                "/spec/updateStrategy",
                partition(json!({"partition":-1})),
                &["spec.updateStrategy.rollingUpdate.partition: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/updateStrategy",
                partition(json!({"maxUnavailable":"0%"})),
                &["spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": cannot be 0"],
            ),
            (
                "/spec/updateStrategy",
                partition(json!({"maxUnavailable":"101%"})),
                &[
                    "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
                ],
            ),
            (
                "/spec/persistentVolumeClaimRetentionPolicy",
                json!({"whenScaled":"Keep"}),
                &[
                    "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Keep\": supported values: \
                   \"Retain\", \"Delete\"",
                ],
            ),
            ("/spec/replicas", json!(-1), &["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]),
            ("/spec/minReadySeconds", json!(-1), &["spec.minReadySeconds: Invalid value: -1"]),
            ("/spec/revisionHistoryLimit", json!(-1), &["spec.revisionHistoryLimit: Invalid value: -1"]),
            ("/spec/ordinals", json!({"start":-1}), &["spec.ordinals.start: Invalid value: -1"]),
            ("/spec/serviceName", json!("a.b"), &["spec.serviceName: Invalid value: \"a.b\": must not contain dots"]),
            ("/spec/selector", Value::Null, &["spec.selector: Required value", MISMATCH]),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for statefulset"],
            ),
            ("/spec/selector", json!({"matchLabels":{"app":"db"}}), &[MISMATCH]),
            (
                "/spec/template/spec/restartPolicy",
                json!("Never"),
                &["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""],
            ),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(5),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in StatefulSet is not Supported",
                ],
            ),
            (
                "/spec/template/spec/containers",
                json!([{"name":"a","image":"i","volumeMounts":[{"name":"data","mountPath":"/d"}]}]),
                &["spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\""],
            ),
        ],
    );
    let mut claimed = samples()["statefulsets.apps"].clone();
    claimed["spec"]["volumeClaimTemplates"] = json!([{"metadata":{"name":"data"}}]);
    claimed["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = json!([{"name":"data","mountPath":"/d"}]);
    assert_eq!(errors("statefulsets.apps", claimed), Vec::<String>::new());
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("statefulsets.apps").unwrap().strategy;
    assert!(strategy.validate_name("a.b").is_err() && strategy.validate_name("a-b").is_ok());
}

#[test]
fn little_of_a_stateful_set_may_change() {
    let old = samples()["statefulsets.apps"].clone();
    let why = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
               'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are \
               forbidden";
    for (pointer, value, ok) in [
        ("/spec/replicas", json!(5), true),
        ("/spec/ordinals", json!({"start":3}), true),
        ("/spec/template/spec/containers", json!([]), true),
        ("/spec/updateStrategy", json!({"type":"OnDelete"}), true),
        ("/spec/minReadySeconds", json!(3), true),
        ("/spec/revisionHistoryLimit", json!(3), true),
        ("/spec/serviceName", json!("db"), false),
        ("/spec/podManagementPolicy", json!("Parallel"), false),
        ("/spec/selector", json!({"matchLabels":{"app":"db"}}), false),
        ("/spec/volumeClaimTemplates", json!([{"metadata":{"name":"data"}}]), false),
    ] {
        let got = update_errors("statefulsets.apps", old.clone(), changed("statefulsets.apps", pointer, value));
        assert_eq!(got, if ok { vec![] } else { vec![why.to_string()] }, "{pointer}");
    }
}

#[test]
fn a_daemon_set_gets_upstreams_defaults_and_counts_its_templates() {
    let ds = defaulted("daemonsets.apps", samples()["daemonsets.apps"].clone());
    assert_eq!(
        ds["spec"]["updateStrategy"],
        json!({"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":1,"maxSurge":0}})
    );
    assert_eq!(ds["spec"]["revisionHistoryLimit"], 10);
    let kinds = Kinds::builtin();
    let strategy = &kinds.group_resource("daemonsets.apps").unwrap().strategy;
    let mut first = ds.clone();
    strategy.prepare_create(&mut first);
    let generation = |o: &Value| o["metadata"]["annotations"]["deprecated.daemonset.template.generation"].clone();
    assert_eq!(generation(&first), "1");
    let mut same = ds.clone();
    same["spec"]["minReadySeconds"] = 5.into();
    strategy.prepare_update(&mut same, &first);
    assert_eq!(generation(&same), "1");
    let mut other = ds.clone();
    other["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2".into();
    strategy.prepare_update(&mut other, &first);
    assert_eq!(generation(&other), "2");
}

#[test]
fn rules_of_daemon_sets() {
    let rolling = |unavailable: Value, surge: Value| json!({"type":"RollingUpdate","rollingUpdate":{"maxUnavailable":unavailable,"maxSurge":surge}});
    let at = "spec.updateStrategy.rollingUpdate";
    let both = format!("{at}.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero");
    let none = format!("{at}.maxUnavailable: Required value: cannot be 0 when maxSurge is 0");
    let percent = format!("{at}.maxUnavailable: Invalid value: \"x%\": a valid percent string must be");
    let much = format!("{at}.maxUnavailable: Invalid value: \"200%\": must not be greater than 100%");
    each(
        "daemonsets.apps",
        &[
            ("/spec/selector", Value::Null, &[MISMATCH]),
            ("/spec/selector", json!({"matchLabels":{"app":"db"}}), &[MISMATCH]),
            (
                "/spec/selector",
                json!({}),
                &["spec.selector: Invalid value: {}: empty selector is invalid for daemonset"],
            ),
            ("/spec/updateStrategy", rolling(json!(1), json!(1)), &[&both]),
            ("/spec/updateStrategy", rolling(json!(0), json!("0%")), &[&none]),
            ("/spec/updateStrategy", rolling(json!("200%"), json!(0)), &[&much]),
            ("/spec/updateStrategy", rolling(json!("x%"), json!(1)), &[&percent]),
            (
                "/spec/updateStrategy",
                json!({"type":"Now"}),
                &[
                    "spec.updateStrategy: Unsupported value: {\"type\":\"Now\"}: supported values: \"RollingUpdate\", \"OnDelete\"",
                ],
            ),
            ("/spec/minReadySeconds", json!(-1), &["spec.minReadySeconds: Invalid value: -1"]),
            ("/spec/revisionHistoryLimit", json!(-1), &["spec.revisionHistoryLimit: Invalid value: -1"]),
            (
                "/spec/template/spec/activeDeadlineSeconds",
                json!(5),
                &[
                    "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in DaemonSet is not Supported",
                ],
            ),
        ],
    );
    let old = samples()["daemonsets.apps"].clone();
    let new = changed("daemonsets.apps", "/spec/selector", json!({"matchLabels":{"app":"db"}}));
    assert_eq!(
        update_errors("daemonsets.apps", old, new),
        ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"db\"}}: field is immutable"]
    );
}

#[test]
fn a_replication_controller_takes_its_labels_from_the_template() {
    let rc = defaulted("replicationcontrollers", samples()["replicationcontrollers"].clone());
    assert_eq!((&rc["spec"]["selector"], &rc["metadata"]["labels"]), (&json!({"app":"web"}), &json!({"app":"web"})));
    assert_eq!(rc["spec"]["replicas"], 1);
    let own = json!({"metadata":{"labels":{"a":"b"}},"spec":{"selector":{"app":"x"},"replicas":0,
        "template":{"metadata":{"labels":{"app":"x"}},"spec":{}}}});
    let own = defaulted("replicationcontrollers", own);
    assert_eq!((&own["metadata"]["labels"], &own["spec"]["replicas"]), (&json!({"a":"b"}), &json!(0)));
    each(
        "replicationcontrollers",
        &[
            ("/spec/selector", json!({"app":"db"}), &[MISMATCH]),
            ("/spec/replicas", json!(-3), &["spec.replicas: Invalid value: -3"]),
            (
                "/spec/template/spec/restartPolicy",
                json!("OnFailure"),
                &["spec.template.spec.restartPolicy: Unsupported value: \"OnFailure\": supported values: \"Always\""],
            ),
        ],
    );
    assert_eq!(
        errors("replicationcontrollers", json!({"spec":{}})),
        ["spec.selector: Required value", "spec.template: Required value"]
    );
}

#[test]
fn a_controller_revision_keeps_its_data() {
    each(
        "controllerrevisions.apps",
        &[
            ("/data", Value::Null, &["data: Required value: data is mandatory"]),
            ("/revision", json!(-1), &["revision: Invalid value: -1: must be greater than or equal to 0"]),
        ],
    );
    let old = samples()["controllerrevisions.apps"].clone();
    let new = changed("controllerrevisions.apps", "/data", json!({"x":1}));
    assert_eq!(
        update_errors("controllerrevisions.apps", old, new),
        ["data: Invalid value: {\"x\":1}: field is immutable"]
    );
}

#[test]
fn statuses_add_up() {
    let kinds = Kinds::builtin();
    let errors = |resource: &str, status: Value, old: Value| {
        let mut errors = Vec::new();
        let strategy = &kinds.group_resource(resource).unwrap().strategy;
        strategy.validate_status(&json!({ "status": status }), &json!({ "status": old }), &mut errors);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        errors("statefulsets.apps", json!({"replicas":1,"readyReplicas":2,"availableReplicas":-1}), json!({})),
        [
            "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
        ]
    );
    assert_eq!(
        errors("daemonsets.apps", json!({"numberReady":-1,"collisionCount":1}), json!({"collisionCount":2})),
        [
            "status.numberReady: Invalid value: -1: must be greater than or equal to 0",
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ]
    );
    assert_eq!(
        errors("replicationcontrollers", json!({"replicas":2,"readyReplicas":1,"availableReplicas":2}), json!({})),
        ["status.availableReplicas: Invalid value: 2: cannot be greater than readyReplicas"]
    );
    for resource in ["deployments.apps", "replicasets.apps"] {
        assert_eq!(
            errors(resource, json!({"replicas":1,"readyReplicas":2,"availableReplicas":-1}), json!({})),
            [
                "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            ]
        );
    }
    assert_eq!(
        errors("deployments.apps", json!({"updatedReplicas":1,"collisionCount":1}), json!({"collisionCount":2})),
        [
            "status.updatedReplicas: Invalid value: 1: cannot be greater than status.replicas",
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ]
    );
    assert!(
        errors("deployments.apps", json!({"replicas":2,"readyReplicas":2,"unavailableReplicas":3}), json!({}))
            .is_empty()
    );
}

#[test]
fn rows_of_workloads() {
    let meta = json!({"name":"x","creationTimestamp":"2026-01-01T00:58:00Z"});
    let template = json!({"spec":{"nodeSelector":{"disk":"ssd"},"containers":[{"name":"a","image":"i"},{"name":"b","image":"j"}]}});
    let spec = json!({"replicas":3,"selector":{"matchLabels":{"app":"web"}},"template":template});
    let sts = json!({"metadata":meta,"spec":spec,"status":{"replicas":3,"readyReplicas":2}});
    assert_eq!(row("statefulsets.apps", sts), ["x", "2/3", "2m", "a,b", "i,j"]);
    let ds = json!({"metadata":meta,"spec":spec,"status":{"desiredNumberScheduled":5,"currentNumberScheduled":4,
        "numberReady":3,"updatedNumberScheduled":2,"numberAvailable":1}});
    assert_eq!(row("daemonsets.apps", ds), ["x", "5", "4", "3", "2", "1", "disk=ssd", "2m", "a,b", "i,j", "app=web"]);
    let rc = json!({"metadata":meta,"spec":{"replicas":3,"selector":{"app":"web"},"template":template},
        "status":{"replicas":2,"readyReplicas":1}});
    assert_eq!(row("replicationcontrollers", rc), ["x", "3", "2", "1", "2m", "a,b", "i,j", "app=web"]);
    let mut owned = meta.clone();
    owned["ownerReferences"] = json!([{"apiVersion":"apps/v1","kind":"StatefulSet","name":"web","controller":true}]);
    let revision = json!({"metadata":owned,"revision":7});
    assert_eq!(row("controllerrevisions.apps", revision), ["x", "statefulset.apps/web", "7", "2m"]);
    assert_eq!(row("controllerrevisions.apps", json!({"metadata":meta})), ["x", "<none>", "0", "2m"]);
}

/// Upstream has the same words for both, each time one kind's.
#[test]
fn deployments_and_replica_sets_are_refused_in_the_same_words() {
    for resource in ["deployments.apps", "replicasets.apps"] {
        each(
            resource,
            &[
                (
                    "/spec/selector",
                    json!({}),
                    &["spec.selector: Invalid value: {}: empty selector is invalid for deployment"],
                ),
                ("/spec/selector", Value::Null, &["spec.selector: Required value", MISMATCH]),
                (
                    "/spec/selector",
                    json!({"matchLabels":{"a b":"c"}}),
                    &[
                        "spec.selector.matchLabels: Invalid value: \"a b\": name part must",
                        "spec.selector: Invalid value: {\"matchLabels\":{\"a b\":\"c\"}}: invalid label selector",
                    ],
                ),
                ("/spec/selector", json!({"matchLabels":{"app":"x"}}), &[MISMATCH]),
                (
                    "/spec/template/spec/activeDeadlineSeconds",
                    json!(5),
                    &[
                        "spec.template.spec.activeDeadlineSeconds: Forbidden: activeDeadlineSeconds in ReplicaSet is not Supported",
                    ],
                ),
            ],
        );
    }
}
