//! Whatever is asked, what is stored is valid, and what is allocated has an owner.

use std::collections::BTreeSet;

use copepod_machine::View;
use copepod_model::kinds::metadata::validate_metadata;
use copepod_model::request::{Body, PatchType, Propagation};
use copepod_model::{ApiRequest, Verb};
use copepod_state::Tables;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::testing::{Cluster, deployment, pod, request};

const RESOURCES: [&str; 5] = ["configmaps", "secrets", "services", "pods", "deployments.apps"];

fn base(resource: &str, name: &str) -> Value {
    match resource {
        "pods" => pod(name),
        "deployments.apps" => deployment(name),
        "services" => json!({"metadata":{"name":name},"spec":{"ports":[{"port":80}]}}),
        _ => json!({"metadata":{"name":name},"data":{"k":"c2VjcmV0"}}),
    }
}

/// Patches good and bad.
fn change() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({"metadata":{"labels":{"a":"b"}}})),
        Just(json!({"metadata":{"labels":{"a b":"c d"}}})),
        Just(json!({"metadata":{"finalizers":["x.io/f"]}})),
        Just(json!({"metadata":{"finalizers":null}})),
        Just(json!({"metadata":{"uid":"x"}})),
        Just(json!({"spec":{"replicas":3}})),
        Just(json!({"spec":{"replicas":-3}})),
        Just(json!({"spec":{"type":"NodePort"}})),
        Just(json!({"spec":{"type":"ClusterIP"}})),
        Just(json!({"spec":{"type":"ExternalName","externalName":"x.io"}})),
        Just(json!({"spec":{"clusterIP":"10.96.0.5"}})),
        Just(json!({"spec":{"clusterIP":"None"}})),
        Just(json!({"spec":{"ports":[{"port":80},{"port":81,"name":"b"}]}})),
        Just(json!({"spec":{"ports":[{"port":82,"nodePort":30005}]}})),
        Just(json!({"spec":null})),
        Just(json!({"data":{"k":"bm8="}})),
        Just(json!({"data":{"k":7}})),
        Just(json!({"immutable":true})),
        Just(json!({"status":{"phase":"Running"}})),
    ]
}

fn requests() -> impl Strategy<Value = ApiRequest> {
    let place = (prop::sample::select(&RESOURCES[..]), prop::sample::select(&["a", "b"][..]));
    (place, change(), 0u8..9, any::<bool>(), any::<bool>()).prop_map(|((resource, name), change, what, status, dry)| {
        let place = format!("{resource} default/{name}");
        let mut req = match what {
            0..=2 => {
                let mut object = base(resource, name);
                json_patch::merge(&mut object, &change);
                let mut req = request(Verb::Create, &format!("{resource} default/"));
                req.body = Body::Object(object);
                req
            }
            3..=6 => {
                let mut req = request(Verb::Patch, &place);
                let format = [PatchType::Merge, PatchType::Strategic][usize::from(what % 2)];
                req.body = Body::Patch(format, change);
                req.subresource = (status && what > 4).then(|| "status".into());
                req
            }
            7 => {
                let mut req = request(Verb::Delete, &place);
                req.delete.propagation = status.then_some(Propagation::Foreground);
                req
            }
            _ => {
                let mut req = request(Verb::Update, &place);
                let mut object = base(resource, name);
                json_patch::merge(&mut object, &change);
                req.body = Body::Object(object);
                req
            }
        };
        req.dry_run = dry && status;
        req
    })
}

fn check(c: &Cluster) {
    let mut addresses = BTreeSet::new();
    let mut ports = BTreeSet::new();
    for resource in RESOURCES {
        let kind = c.registry.kinds.group_resource(resource).unwrap();
        for object in View::list(&c.tables, resource, None) {
            let v = c.registry.unseal(&c.tables, &object).unwrap();
            let mut errors = Vec::new();
            validate_metadata(kind, &v, &mut errors);
            kind.strategy.validate(&v, &mut errors);
            assert!(errors.is_empty(), "{object:?} is invalid: {errors:?}\n{v}");
            assert_eq!(
                (&*object.key.name, &*object.meta.uid),
                (v["metadata"]["name"].as_str().unwrap(), v["metadata"]["uid"].as_str().unwrap())
            );
            let ip = v["spec"]["clusterIP"].as_str().filter(|ip| *ip != "None" && resource == "services");
            if let Some(ip) = ip {
                assert!(addresses.insert(ip.to_string()), "{ip} twice");
            }
            // As upstream, a Service of type ExternalName may name a port of the node that it does not have.
            let outside = matches!(v["spec"]["type"].as_str(), Some("NodePort" | "LoadBalancer"));
            let given = v["spec"]["ports"].as_array().filter(|_| outside);
            for port in given.into_iter().flatten().filter_map(|p| p["nodePort"].as_u64()) {
                ports.insert(port.to_string());
            }
        }
    }
    let stored = |resource| c.internal(resource).into_iter().collect::<BTreeSet<_>>();
    assert_eq!(stored("_serviceips"), addresses);
    assert_eq!(stored("_nodeports"), ports);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_the_store_stays_valid(all in prop::collection::vec(requests(), 1..25)) {
        let mut c = Cluster::new();
        for req in &all {
            let before = c.tables.revision();
            let seen = c.send(req);
            if seen.is_err() || req.dry_run {
                prop_assert_eq!(Tables::revision(&c.tables), before, "an error or a dry run writes nothing");
            }
            if let Err(status) = seen {
                prop_assert!(status.code != 500, "{}", status);
            }
            check(&c);
        }
    }
}
