//! Server-side apply: configurations of two managers, one after the other, onto a stored object.

use copepod_model::Verb;
use copepod_model::request::{Body, PatchType};
use serde_json::Value;

use crate::cluster::{Cluster, change};
use crate::support::{OBJECT_WORDS, joined, parts, same};
use crate::{Outcome, Room, Seed, Target, samples};

pub(super) const TARGET: Target =
    Target { name: "apply", run, seeds, words: OBJECT_WORDS, room: Room { base: 8 << 20, each: 8192 } };

fn run(input: &[u8]) -> Outcome {
    let mut cluster = Cluster::new();
    let (mut taken, mut class) = (0, Outcome::refused(""));
    for (i, text) in parts::<3>(input).iter().enumerate() {
        let Ok(config) = serde_json::from_slice::<Value>(text) else { continue };
        let Some(mut request) = change(Verb::Patch, &config, Body::Patch(PatchType::Apply, config.clone())) else {
            continue;
        };
        request.field_manager = ["one", "two", "one"][i].into();
        request.force = i == 1;
        match cluster.send(&request) {
            Err(status) => class = class.and(Outcome::refused(status.message).class),
            Ok(object) => {
                taken += 1;
                // The same configuration again changes nothing, and nobody else owns what it sets.
                let again = cluster.send(&request).unwrap_or_else(|e| panic!("applied again: {}", e.message));
                assert!(same(&again, &object), "applied again: {object} {again}");
                class = class.and(object.to_string().len().ilog2());
            }
        }
    }
    Outcome { taken: taken > 0, ..class.and(taken) }
}

fn seeds() -> Vec<Seed> {
    let pick =
        |kind: &str| samples::OBJECTS.iter().find(|o| samples::kind_of(o).ends_with(kind)).copied().unwrap_or_default();
    let all = [
        ("map", "ConfigMap", r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"config"},"data":{"b":"2"}}"#),
        (
            "keyed",
            "Service",
            r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"service"},"spec":{"ports":[{"port":80,"protocol":"TCP","name":"web"}]}}"#,
        ),
        (
            "containers",
            "Deployment",
            r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"deployment"},"spec":{"template":{"spec":{"containers":[{"name":"d","image":"j"}]}}}}"#,
        ),
        ("set", "Pod", r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pod","finalizers":["a/b"]}}"#),
        (
            "atomic",
            "ClusterRole",
            r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"role"},"rules":[]}"#,
        ),
    ];
    let small = |kind: &str, second: &str| {
        let mut first: Value = serde_json::from_str(pick(kind)).unwrap_or_default();
        first["metadata"]["labels"] = serde_json::json!({"one": "1"});
        let first = first.to_string();
        joined(&[&first, second, &first])
    };
    all.iter().map(|(name, kind, second)| ((*name).to_string(), small(kind, second))).collect()
}
