//! Classes of volumes, and what CSI drivers say of themselves, of nodes, of capacities and of what is attached.

use super::storage::{change, each, with};
use super::*;

#[test]
fn classes_keep_what_volumes_were_made_by() {
    let class = |pointer: &str, v: Value| with("storageclasses.storage.k8s.io", pointer, v);
    let topologies = |terms: Value| class("/allowedTopologies", terms);
    let zone = |values: Value| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
    assert!(
        errors("storageclasses.storage.k8s.io", topologies(json!([zone(json!(["x"])), zone(json!(["y"]))]))).is_empty()
    );
    each(
        "storageclasses.storage.k8s.io",
        &[
            (class("/provisioner", json!("")), "provisioner: Required value"),
            (
                class("/reclaimPolicy", json!("Recycle")),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
            (class("/volumeBindingMode", json!("Later")), "volumeBindingMode: Unsupported value: \"Later\""),
            (class("/parameters", json!({"": "x"})), "parameters: Invalid value: \"\": field can not be empty."),
            (topologies(json!([{}])), "allowedTopologies[0].matchLabelExpressions: Duplicate value: \"\""),
            (
                topologies(json!([zone(json!(["x", "y"])), zone(json!(["y", "x"]))])),
                "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
            ),
            (
                topologies(json!([zone(json!([]))])),
                "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            ),
            (
                topologies(json!([zone(json!(["x", "x"]))])),
                "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"x\"",
            ),
            (
                topologies(json!([{"matchLabelExpressions": [{"key": "-", "values": ["x"]}]}])),
                "allowedTopologies[0].matchLabelExpressions[0].key: Invalid value: \"-\": name part must",
            ),
            (
                topologies(
                    json!([{"matchLabelExpressions": [{"key": "a", "values": ["x"]}, {"key": "a", "values": ["y"]}]}]),
                ),
                "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"a\"",
            ),
        ],
    );
    let what = "storageclasses.storage.k8s.io";
    change(what, "/provisioner", json!("b"), Some("provisioner: Forbidden: updates to provisioner are forbidden."));
    change(what, "/parameters", json!({"a": "b"}), Some("parameters: Forbidden: updates to parameters are forbidden."));
    change(
        what,
        "/reclaimPolicy",
        json!("Retain"),
        Some("reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."),
    );
    change(
        what,
        "/volumeBindingMode",
        json!("WaitForFirstConsumer"),
        Some("volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable"),
    );
    change(what, "/allowVolumeExpansion", json!(true), None);
    let mut shown = class("/allowVolumeExpansion", json!(true));
    shown["metadata"] = json!({"name": "s", "creationTimestamp": "2026-01-01T00:58:00Z",
        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}});
    assert_eq!(row(what, shown), ["s (default)", "example.com/a", "Delete", "Immediate", "true", "2m"]);
}

#[test]
fn drivers_say_what_they_need() {
    let driver = defaulted("csidrivers.storage.k8s.io", json!({"metadata": {"name": "d"}}));
    assert_eq!(
        driver["spec"],
        json!({"attachRequired": true, "podInfoOnMount": false, "requiresRepublish": false, "seLinuxMount": false,
            "storageCapacity": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"]})
    );
    let what = "csidrivers.storage.k8s.io";
    change(
        what,
        "/spec/attachRequired",
        json!(false),
        Some("spec.attachedRequired: Invalid value: false: field is immutable"),
    );
    change(what, "/spec/podInfoOnMount", json!(true), None);
    change(
        what,
        "/spec/volumeLifecycleModes",
        json!(["Ephemeral"]),
        Some("spec.volumeLifecycleModes: Invalid value: [\"Ephemeral\"]: field is immutable"),
    );
    let tokens = |requests: Value| with(what, "/spec/tokenRequests", requests);
    each(
        what,
        &[
            (
                with(what, "/spec/fsGroupPolicy", json!("Odd")),
                "spec.fsGroupPolicy: Unsupported value: \"Odd\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            ),
            (
                tokens(json!([{"audience": "a"}, {"audience": "a", "expirationSeconds": 1}])),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                tokens(json!([{"expirationSeconds": 599}])),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 599: may not specify a duration less than 10 minutes",
            ),
            (
                tokens(json!([{"expirationSeconds": 4_294_967_297_i64}])),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 4294967297: may not specify a duration larger than 2^32 \
                 seconds",
            ),
            (
                with(what, "/spec/volumeLifecycleModes", json!(["Odd"])),
                "spec.volumeLifecycleModes: Unsupported value: \"Odd\": supported values: \"Persistent\", \"Ephemeral\"",
            ),
            (
                with(what, "/spec/nodeAllocatableUpdatePeriodSeconds", json!(9)),
                "spec.nodeAllocatableUpdatePeriodSeconds: Invalid value: 9: must be greater than or equal to 10 seconds",
            ),
            (
                with(what, "/spec/serviceAccountTokenInSecrets", json!(true)),
                "spec.serviceAccountTokenInSecrets: Invalid value: true: serviceAccountTokenInSecrets is set but no tokenRequests are \
                 specified",
            ),
        ],
    );
    let mut asks = tokens(json!([{"audience": "a", "expirationSeconds": 600}]));
    asks["spec"]["serviceAccountTokenInSecrets"] = true.into();
    assert_eq!(errors(what, asks), Vec::<String>::new());
}

#[test]
fn nodes_tell_what_their_drivers_take() {
    let what = "csinodes.storage.k8s.io";
    let driver = |driver: Value| {
        let mut all = json!({"name": "a", "nodeID": "n"});
        all.as_object_mut().unwrap().extend(driver.as_object().unwrap().clone());
        json!({"spec": {"drivers": [all]}})
    };
    assert_eq!(errors(what, driver(json!({"nodeID": "n".repeat(256)}))), Vec::<String>::new());
    let long = errors(what, driver(json!({"nodeID": "n".repeat(257)})));
    assert!(long.len() == 1 && long[0].ends_with("n\": must be 256 characters or less"), "{long:?}");
    each(
        what,
        &[
            (driver(json!({"nodeID": ""})), "spec.drivers[0].nodeID: Required value"),
            (driver(json!({"name": ""})), "spec.drivers[0].name: Required value"),
            (driver(json!({"topologyKeys": ["a", "a"]})), "spec.drivers[0]: Duplicate value: \"a\""),
            (driver(json!({"topologyKeys": ["-"]})), "spec.drivers[0]: Invalid value: \"-\": name part must consist"),
            (
                driver(json!({"allocatable": {"count": -1}})),
                "spec.drivers[0].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"spec": {"drivers": [{"name": "a", "nodeID": "n"}, {"name": "a", "nodeID": "n"}]}}),
                "spec.drivers[1].name: Duplicate value: \"a\"",
            ),
        ],
    );
    assert_eq!(
        errors(what, driver(json!({"topologyKeys": [""]}))),
        ["spec.drivers[0]: Required value", "spec.drivers[0]: Invalid value: \"\": name part must be non-empty",]
    );
    change(
        what,
        "/spec/drivers/0/nodeID",
        json!("m"),
        Some("spec.drivers: Invalid value: {\"name\":\"a\",\"nodeID\":\"m\"}: field is immutable"),
    );
    change(what, "/spec/drivers/0/allocatable", json!({"count": 3}), None);
    change(what, "/spec/drivers", json!([]), None);
}

#[test]
fn attachments_and_capacities() {
    let source = |source: Value| json!({"spec": {"attacher": "a", "nodeName": "n", "source": source}});
    each(
        "volumeattachments.storage.k8s.io",
        &[
            (
                source(json!({})),
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
            (
                source(json!({"persistentVolumeName": ""})),
                "spec.source.persistentVolumeName: Required value: must specify non empty persistentVolumeName",
            ),
        ],
    );
    let what = "volumeattachments.storage.k8s.io";
    change(what, "/spec/nodeName", json!("m"), Some("spec: Invalid value: {"));
    let what = "csistoragecapacities.storage.k8s.io";
    change(what, "/storageClassName", json!("b"), Some("storageClassName: Invalid value: \"b\": field is immutable"));
    change(
        what,
        "/nodeTopology",
        json!({"matchLabels": {"a": "b"}}),
        Some("nodeTopology: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: field is immutable"),
    );
    change(what, "/capacity", json!("2Gi"), None);
    each(
        what,
        &[
            (with(what, "/storageClassName", json!("")), "storageClassName: Invalid value: \"\": a lowercase RFC 1123"),
            (
                with(what, "/capacity", json!("-1")),
                "capacity: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                with(what, "/nodeTopology", json!({"matchLabels": {"-": "x"}})),
                "nodeTopology.matchLabels: Invalid value: \"-\": name part must",
            ),
        ],
    );
    assert_eq!(errors(what, with(what, "/maximumVolumeSize", json!("-1"))), Vec::<String>::new());
    let what = "volumeattachments.storage.k8s.io";
    let status = |field: &str, error: Value| with(what, "/status", json!({field: error}));
    each(
        what,
        &[
            (
                status("attachError", json!({"errorCode": -1})),
                "status.attachError.errorCode: Invalid value: -1: must be between 0 and 2147483647, inclusive",
            ),
            (
                status("detachError", json!({"message": "x".repeat(1025)})),
                "status.detachError.message: Too long: may not be more than 262144 bytes",
            ),
        ],
    );
    let what = "volumeattributesclasses.storage.k8s.io";
    change(what, "/driverName", json!("b"), Some("driverName: Forbidden: updates to driverName are forbidden."));
    change(what, "/parameters", json!({"a": "b"}), Some("parameters: Forbidden: updates to parameters are forbidden."));
    each(
        what,
        &[
            (with(what, "/driverName", json!("")), "driverName: Required value"),
            (
                with(what, "/parameters", json!({})),
                "parameters: Required value: must contain at least one key/value pair",
            ),
        ],
    );
}
