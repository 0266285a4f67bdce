use serde_json::json;

use super::*;

fn strict(version: &str, kind: &str, body: &str) -> Vec<String> {
    Schema::builtin().decode_json(ty(version, kind), body.as_bytes()).unwrap().1
}

fn refused(version: &str, kind: &str, body: &str) -> String {
    Schema::builtin().decode_json(ty(version, kind), body.as_bytes()).unwrap_err().to_string()
}

#[test]
fn strict_decoding_speaks_as_upstream() {
    let body = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","labels":{"x":"1","x":"2"}},
        "spec":{"replicas":1,"replicas":2,"foo":{"a":1},"template":{"spec":{"containers":[{"name":"c"},{"Name":"d"}]}}}}"#;
    let (value, warnings) = Schema::builtin().decode_json(ty("apps/v1", "Deployment"), body.as_bytes()).unwrap();
    assert_eq!(
        warnings,
        [
            "duplicate field \"metadata.labels.x\"",
            "duplicate field \"spec.replicas\"",
            "unknown field \"spec.foo\"",
            "unknown field \"spec.template.spec.containers[1].Name\"",
        ]
    );
    assert_eq!(value["spec"], json!({"replicas":2,"template":{"spec":{"containers":[{"name":"c"},{}]}}}));
    let status = strict_error("apps/v1", "Deployment", &warnings[2..3]);
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            400,
            "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"spec.foo\""
        )
    );
    assert_eq!(strict("v1", "ConfigMap", r#"{"data":{"a":"b"},"binaryData":{"c":"aGk="}}"#), Vec::<String>::new());
}

#[test]
fn wrong_types_are_refused_as_go_does() {
    for (version, kind, body, want) in [
        (
            "apps/v1",
            "Deployment",
            r#"{"spec":{"replicas":"3"}}"#,
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"containers":"x"}}"#,
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"containers":[{"name":1}]}}"#,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
        ),
        (
            "v1",
            "Pod",
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"restartPolicy":true}}"#,
            "json: cannot unmarshal bool into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"containers":[{"ports":[{"containerPort":99999999999}]}]}}"#,
            "json: cannot unmarshal number 99999999999 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":[]}"#,
            "json: cannot unmarshal array into Go struct field Pod.spec of type v1.PodSpec",
        ),
        (
            "v1",
            "Pod",
            r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#,
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        ("v1", "Secret", r#"{"data":{"a":"*"}}"#, "illegal base64 data at input byte 0"),
        (
            "v1",
            "Pod",
            r#"{"metadata":{"creationTimestamp":"x"}}"#,
            r#"parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006""#,
        ),
        ("v1", "Pod", r#"{"metadata":"#, "unexpected end of JSON input"),
        ("v1", "Pod", r#"{"spec":1,}"#, "invalid character '}' looking for beginning of object key string"),
        ("v1", "Pod", "[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
    ] {
        assert_eq!(refused(version, kind, body), want);
    }
    let e = Schema::builtin().decode_json(ty("apps/v1", "Deployment"), br#"{"spec":{"replicas":"3"}}"#).unwrap_err();
    assert_eq!(
        e.status("apps/v1", "Deployment").message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field \
         DeploymentSpec.spec.replicas of type int32"
    );
}

#[test]
fn nulls_are_absent_and_values_canonical() {
    let body = r#"{"metadata":{"creationTimestamp":null,"labels":{"a":null}},"spec":{"volumes":null,"containers":[
        {"name":"c","resources":{"requests":{"cpu":0.5,"memory":"1024Ki","x":1000}}}]}}"#;
    let (value, _) = Schema::builtin().decode_json(ty("v1", "Pod"), body.as_bytes()).unwrap();
    assert_eq!(
        value,
        json!({"metadata":{"labels":{"a":""}},"spec":{"containers":[
            {"name":"c","resources":{"requests":{"cpu":"500m","memory":"1Mi","x":"1k"}}}]}})
    );
}

/// What client-go sends for `kubectl create namespace demo`: every scalar that is no pointer, empty or not.
#[test]
fn what_kubectl_sends() {
    let mut bytes = b"k8s\0".to_vec();
    bytes.extend([0x0a, 0x0f, 0x0a, 2]);
    bytes.extend(b"v1");
    bytes.extend([0x12, 9]);
    bytes.extend(b"Namespace");
    bytes.extend([0x12, 0x1c, 0x0a, 0x14, 0x0a, 4]);
    bytes.extend(b"demo");
    bytes.extend([0x12, 0, 0x1a, 0, 0x22, 0, 0x2a, 0, 0x32, 0, 0x38, 0, 0x42, 0]);
    bytes.extend([0x12, 0, 0x1a, 2, 0x0a, 0]);
    bytes.extend([0x1a, 0, 0x22, 0]);
    assert!(is_protobuf(&bytes));
    assert_eq!(Schema::peek_protobuf(&bytes), Some(("v1", "Namespace")));
    assert_eq!(
        Schema::builtin().decode_protobuf(&bytes).unwrap(),
        json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":"demo"},"spec":{},"status":{}})
    );
}

#[test]
fn zeros_of_pointers_stay() {
    let schema = Schema::builtin();
    for (given, want) in [
        (
            json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a","generation":0,"namespace":""},
                "spec":{"replicas":0,"paused":false,"minReadySeconds":0,"template":{"spec":{
                    "automountServiceAccountToken":false,"hostNetwork":false,"restartPolicy":""}}}}),
            json!({"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},
                "spec":{"replicas":0,"template":{"spec":{"automountServiceAccountToken":false}}}}),
        ),
        (
            json!({"apiVersion":"v1","kind":"PersistentVolumeClaim","spec":{"storageClassName":"","volumeName":""}}),
            json!({"apiVersion":"v1","kind":"PersistentVolumeClaim","spec":{"storageClassName":""}}),
        ),
    ] {
        let bytes = schema.encode_protobuf(&given).unwrap();
        assert_eq!(schema.decode_protobuf(&bytes).unwrap(), want);
        let mut normal = given.clone();
        schema.normalise(
            schema.lookup(given["apiVersion"].as_str().unwrap(), given["kind"].as_str().unwrap()).unwrap(),
            &mut normal,
        );
        assert_eq!(normal, want);
    }
}

#[test]
fn a_watch_frame_holds_an_envelope() {
    let schema = Schema::builtin();
    let pod = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}});
    let frame = schema.encode_protobuf_watch("ADDED", &pod).unwrap();
    let envelope = schema.encode_protobuf(&pod).unwrap();
    assert_eq!(&frame[..8], b"\x0a\x05ADDED\x12");
    assert!(frame.ends_with(&envelope));
    let kind = schema.encode_protobuf(&json!({"apiVersion":"v1","kind":"Nope"})).unwrap_err();
    assert!(matches!(kind, EncodeError::NotRegistered { .. }));
}

#[test]
fn custom_resources_join() {
    let mut schema = Schema::builtin().clone();
    let id = schema.add_custom(
        "stable.example.com/v1",
        "CronTab",
        "CronTabList",
        &json!({"type":"object","properties":{"spec":{"type":"object","properties":{
            "cronSpec":{"type":"string"},
            "replicas":{"type":"integer"},
            "free":{"type":"object","x-kubernetes-preserve-unknown-fields":true},
            "ports":{"type":"array","x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["port"],
                "items":{"type":"object","properties":{"port":{"type":"integer"}}}}}}}}),
    );
    let mut given = json!({"apiVersion":"stable.example.com/v1","kind":"CronTab","metadata":{"name":"a","nope":1},
        "spec":{"cronSpec":"","replicas":"wrong","free":{"x":1},"ports":[{"port":1,"y":2}],"unknown":true}});
    let warnings = schema.conform(id, &mut given).unwrap();
    assert_eq!(
        warnings,
        ["unknown field \"metadata.nope\"", "unknown field \"spec.ports[0].y\"", "unknown field \"spec.unknown\""]
    );
    assert_eq!(given["spec"], json!({"cronSpec":"","replicas":"wrong","free":{"x":1},"ports":[{"port":1}]}));
    assert_eq!(schema.encode_protobuf(&given), Err(EncodeError::NoProtobuf));
    assert!(schema.lookup("stable.example.com/v1", "CronTabList").is_some());
    assert!(Schema::builtin().lookup("stable.example.com/v1", "CronTab").is_none());
}

#[test]
fn a_status_travels_as_protobuf() {
    let schema = Schema::builtin();
    let status = crate::Status::not_found("deployments.apps", "a").to_json();
    let back = schema.decode_protobuf(&schema.encode_protobuf(&status).unwrap()).unwrap();
    assert_eq!(back, status);
}
