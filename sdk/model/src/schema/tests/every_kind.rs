use k8s_openapi::api;
use serde_json::Value;

use super::random::Random;
use super::*;

#[test]
fn the_table_has_the_kinds() {
    let schema = Schema::builtin();
    for (version, kind) in [
        ("v1", "Pod"),
        ("v1", "PodList"),
        ("apps/v1", "Deployment"),
        ("v1", "Status"),
        ("v1", "DeleteOptions"),
        ("apps/v1", "DeleteOptions"),
        ("autoscaling/v1", "Scale"),
        ("v1", "Binding"),
        ("policy/v1", "Eviction"),
        ("authentication.k8s.io/v1", "TokenRequest"),
        ("authorization.k8s.io/v1", "SelfSubjectAccessReview"),
        ("v1", "WatchEvent"),
        ("meta.k8s.io/v1", "PartialObjectMetadataList"),
        ("v1", "List"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
        ("apiregistration.k8s.io/v1", "APIServiceList"),
        ("metrics.k8s.io/v1beta1", "PodMetricsList"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
    ] {
        assert!(schema.lookup(version, kind).is_some(), "{version} {kind}");
    }
    assert!(schema.lookup("v1", "Deployment").is_none());
    let ports = schema.get(ty("v1", "Service"));
    let Elem::Message(spec) = ports.field("spec").unwrap().elem else { panic!() };
    let ports = schema.get(spec).field("ports").unwrap();
    assert_eq!((ports.patch_key.as_deref(), ports.list_keys.join(",").as_str()), (Some("port"), "port,protocol"));
}

/// All kinds but those that upstream has by definitions: they have no protobuf.
fn in_protobuf(schema: &Schema) -> impl Iterator<Item = (&str, &str, TypeId)> {
    schema.kinds().filter(|(version, ..)| !version.starts_with("gateway."))
}

/// Kinds by definitions survive JSON, and nobody takes or gives them in protobuf.
#[test]
fn kinds_by_definitions_have_no_protobuf() {
    let schema = Schema::builtin();
    let (version, kind) = ("gateway.networking.k8s.io/v1", "HTTPRoute");
    let given = serde_json::json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"},
        "spec": {"hostnames": ["a.test"], "rules": [{"backendRefs": [{"name": "b", "port": 80, "weight": 0}]}]}});
    let decoded = schema.decode_json(ty(version, kind), given.to_string().as_bytes());
    assert_eq!(decoded, Ok((given.clone(), vec![])));
    let odd = serde_json::json!({"spec": {"rules": [{"backendRef": []}]}});
    let (_, warnings) = schema.decode_json(ty(version, kind), odd.to_string().as_bytes()).unwrap();
    assert_eq!(warnings, ["unknown field \"spec.rules[0].backendRef\""]);
    assert_eq!(schema.encode_protobuf(&given), Err(EncodeError::NoProtobuf));
    let list = serde_json::json!({"apiVersion": version, "kind": "HTTPRouteList", "metadata": {}, "items": []});
    assert_eq!(schema.encode_protobuf(&list), Err(EncodeError::NoProtobuf));
    let mut body = MAGIC.to_vec();
    let mut meta = vec![];
    put(&mut meta, 1, version.as_bytes());
    put(&mut meta, 2, kind.as_bytes());
    put(&mut body, 1, &meta);
    assert!(matches!(schema.decode_protobuf(&body), Err(DecodeError::NotRegistered { .. })));
}

/// JSON → protobuf → JSON, strict JSON decoding, and normalising change nothing in canonical objects.
#[test]
fn every_kind_survives() {
    let schema = Schema::builtin();
    let mut kinds = 0;
    for (version, kind, id) in in_protobuf(schema) {
        kinds += 1;
        for seed in 0..40 {
            let given = schema.random(id, &mut Random::new(seed * 1000 + u64::from(id.0)));
            let mut normal = given.clone();
            schema.normalise(id, &mut normal);
            assert_eq!(normal, given, "{version} {kind} {seed}: normalise");
            let bytes = schema.encode_protobuf(&given).unwrap_or_else(|e| panic!("{version} {kind} {seed}: {e}"));
            let back = schema.decode_protobuf(&bytes).unwrap_or_else(|e| panic!("{version} {kind} {seed}: {e}"));
            assert_eq!(back, given, "{version} {kind} {seed}: protobuf");
            let decoded = schema.decode_json(id, given.to_string().as_bytes());
            assert_eq!(decoded, Ok((given.clone(), vec![])), "{version} {kind} {seed}: JSON");
            let mut conformed = given.clone();
            assert_eq!(schema.conform(id, &mut conformed), Ok(vec![]));
            assert_eq!(conformed, given);
            let mut complete = given.clone();
            schema.complete(id, &mut complete);
            let mut normal = complete.clone();
            schema.normalise(id, &mut normal);
            assert_eq!(normal, complete, "{version} {kind} {seed}: complete");
        }
    }
    assert!(kinds > 180, "{kinds}");
}

/// Every kind that the registry serves is in the table, and so are its lists and what its subresources take.
#[test]
fn every_served_kind_is_known() {
    let schema = Schema::builtin();
    for kind in crate::kinds::Kinds::builtin().every_version().filter(|k| !k.group.ends_with("copepod.dev")) {
        let version = kind.api_version();
        let id = schema.lookup(&version, kind.kind).unwrap_or_else(|| panic!("{version} {}", kind.kind));
        assert!(!kind.status || schema.get(id).field("status").is_some(), "{version} {}", kind.kind);
        for (name, takes, _) in kind.subresources {
            let known = [version.as_str(), "v1", "policy/v1", "authentication.k8s.io/v1", "autoscaling/v1"]
                .iter()
                .any(|v| schema.lookup(v, takes).is_some() || takes.ends_with("Options"));
            assert!(known, "{version} {} {name}: {takes}", kind.kind);
        }
    }
}

/// A patch that is the object itself, or empty, changes nothing.
#[test]
fn patching_with_itself_changes_nothing() {
    let schema = Schema::builtin();
    for (_, kind, id) in in_protobuf(schema) {
        let given = schema.random(id, &mut Random::new(u64::from(id.0)));
        assert_eq!(schema.strategic_merge(id, &given, &serde_json::json!({})), Ok(given.clone()), "{kind}");
        // A null in free-form JSON would delete, as everywhere in a patch.
        if !given.to_string().contains("null") && unique(&given) {
            assert_eq!(schema.strategic_merge(id, &given, &given), Ok(given.clone()), "{kind}");
        }
    }
}

/// Whether no list has two elements that could share a merge key or lack it.
fn unique(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(unique),
        Value::Array(items) => items.len() < 2 && items.iter().all(|i| !i.is_object()),
        _ => true,
    }
}

/// Cut, changed and lengthened messages are errors or other objects, never panics.
#[test]
fn malformed_protobuf_is_refused() {
    let schema = Schema::builtin();
    let mut r = Random::new(7);
    for (_, _, id) in in_protobuf(schema) {
        let given = schema.random(id, &mut r);
        let bytes = schema.encode_protobuf(&given).unwrap();
        for _ in 0..20 {
            let mut bad = bytes.clone();
            let at = 4 + r.below(bad.len() as u64 - 4) as usize;
            match r.below(3) {
                0 => bad.truncate(at),
                1 => bad[at] = r.below(256) as u8,
                _ => bad.insert(at, r.below(256) as u8),
            }
            drop(schema.decode_protobuf(&bad));
        }
    }
    assert!(schema.decode_protobuf(b"k8s").is_err());
    assert!(schema.decode_protobuf(b"{}").is_err());
    assert!(schema.decode_protobuf(&[b'k', b'8', b's', 0, 0x0a, 0xff]).is_err());
}

#[test]
fn depth_is_limited() {
    let schema = Schema::builtin();
    // JSONSchemaProps.not within itself, 500 times, in a CustomResourceDefinition.
    let mut body = vec![];
    let props =
        schema.get(schema.by_name("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps").unwrap());
    let not = props.position("not").unwrap();
    let tag = props.wire.iter().find(|w| matches!(w.to, WireTo::Field(i) if i as usize == not)).unwrap().tag;
    for _ in 0..500 {
        let mut outer = vec![];
        put(&mut outer, tag, &body);
        body = outer;
    }
    for tag in [1, 4, 7, 2] {
        // schema, versions[0], spec
        let mut outer = vec![];
        if tag != 2 {
            put(&mut outer, tag, &body);
        } else {
            put(&mut outer, 2, &body);
        }
        body = outer;
    }
    let mut meta = vec![];
    put(&mut meta, 1, b"apiextensions.k8s.io/v1");
    put(&mut meta, 2, b"CustomResourceDefinition");
    let mut bytes = MAGIC.to_vec();
    put(&mut bytes, 1, &meta);
    put(&mut bytes, 2, &body);
    assert_eq!(schema.decode_protobuf(&bytes), Err(DecodeError::Protobuf("messages are nested too deeply")));
    // allOf within itself is a list and an object each time: what is decoded can be read as JSON, or is refused.
    let all = props.position("allOf").unwrap();
    let tag = props.wire.iter().find(|w| matches!(w.to, WireTo::Field(i) if i as usize == all)).unwrap().tag;
    for (times, want) in [(40, true), (59, true), (61, false), (70, false)] {
        let mut body = vec![];
        for _ in 0..times {
            body = wrapped(tag, &body);
        }
        // openAPIV3Schema of a version's schema, of the spec.
        for tag in [1, 4, 7, 2] {
            body = wrapped(tag, &body);
        }
        let decoded = schema.decode_protobuf(&enveloped("apiextensions.k8s.io/v1", "CustomResourceDefinition", &body));
        assert_eq!(decoded.is_ok(), want, "{times}: {:?}", decoded.as_ref().err());
        if let Ok(value) = decoded {
            assert_eq!(serde_json::from_str::<Value>(&value.to_string()).ok(), Some(value), "{times}");
        }
    }
    // JSON in protobuf counts, too.
    for (times, want) in [(126, true), (127, false)] {
        let json = format!("{}{}", "[".repeat(times), "]".repeat(times));
        let data = wrapped(2, &wrapped(1, json.as_bytes()));
        let decoded = schema.decode_protobuf(&enveloped("apps/v1", "ControllerRevision", &data));
        assert_eq!(decoded.is_ok(), want, "{times}: {:?}", decoded.as_ref().err());
    }
    let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
    let deep = format!(r#"{{"data":{deep}}}"#);
    assert!(schema.decode_json(ty("apps/v1", "ControllerRevision"), deep.as_bytes()).is_err());
}

/// A null in free-form JSON is what is absent there, as where the whole object is JSON.
#[test]
fn a_null_in_protobuf_is_absent() {
    let schema = Schema::builtin();
    let data = wrapped(2, &wrapped(1, b"null"));
    let decoded = schema.decode_protobuf(&enveloped("apps/v1", "ControllerRevision", &data)).unwrap();
    assert_eq!(decoded.get("data"), None, "{decoded}");
}

/// A field that holds these bytes.
fn wrapped(tag: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![];
    put(&mut out, tag, bytes);
    out
}

/// A body that holds a message of this kind.
fn enveloped(version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let meta = [wrapped(1, version.as_bytes()), wrapped(2, kind.as_bytes())].concat();
    [&MAGIC[..], &wrapped(1, &meta), &wrapped(2, message)].concat()
}

fn put(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    let mut varint = |mut n: usize| {
        while n >= 0x80 {
            out.push(n as u8 | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
    };
    varint((tag as usize) << 3 | 2);
    varint(bytes.len());
    out.extend_from_slice(bytes);
}

/// k8s-openapi's types agree with the table about names and types.
#[test]
fn typed_clients_agree() {
    fn check<T: k8s_openapi::Resource + serde::Serialize + serde::de::DeserializeOwned>() {
        let schema = Schema::builtin();
        let id = ty(T::API_VERSION, T::KIND);
        for seed in 0..60 {
            let given = schema.random(id, &mut Random::new(seed));
            let typed: T =
                serde_json::from_value(given.clone()).unwrap_or_else(|e| panic!("{} {seed}: {e}\n{given}", T::KIND));
            let mut back: Value = serde_json::to_value(typed).unwrap();
            let mut want = given;
            for value in [&mut back, &mut want] {
                schema.complete(id, value);
                schema.normalise(id, value);
                prune_empty(value);
            }
            assert_eq!(back, want, "{} {seed}", T::KIND);
        }
    }
    check::<api::core::v1::Pod>();
    check::<api::core::v1::Service>();
    check::<api::core::v1::ConfigMap>();
    check::<api::core::v1::Secret>();
    check::<api::core::v1::Node>();
    check::<api::core::v1::Event>();
    check::<api::core::v1::PersistentVolume>();
    check::<api::apps::v1::Deployment>();
    check::<api::apps::v1::StatefulSet>();
    check::<api::apps::v1::DaemonSet>();
    check::<api::batch::v1::CronJob>();
    check::<api::networking::v1::NetworkPolicy>();
    check::<api::networking::v1::Ingress>();
    check::<api::rbac::v1::ClusterRole>();
    check::<api::rbac::v1::RoleBinding>();
    check::<api::discovery::v1::EndpointSlice>();
    check::<api::coordination::v1::Lease>();
    check::<api::autoscaling::v2::HorizontalPodAutoscaler>();
    check::<api::storage::v1::StorageClass>();
    check::<k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition>();
}

/// k8s-openapi's types write some empty objects and lists that it calls required, and the kind of nested kinds.
fn prune_empty(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for claim in map.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut).into_iter().flatten() {
                claim.as_object_mut().unwrap().retain(|k, _| k != "apiVersion" && k != "kind");
            }
            map.iter_mut().for_each(|(_, v)| prune_empty(v));
            map.retain(|_, v| {
                !matches!(v, Value::Object(m) if m.is_empty()) && !matches!(v, Value::Array(a) if a.is_empty())
            });
        }
        Value::Array(items) => items.iter_mut().for_each(prune_empty),
        _ => {}
    }
}
