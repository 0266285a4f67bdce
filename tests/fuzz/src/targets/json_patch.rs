//! JSON patches (RFC 6902) of stored objects.

use copepod_model::request::PatchType;

use crate::patches::{self, Patch};
use crate::support::OBJECT_WORDS;
use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target =
    Target { name: "json_patch", run, seeds, words: OBJECT_WORDS, room: Room { base: 8 << 20, each: 8192 } };

fn run(input: &[u8]) -> Outcome {
    patches::run(PatchType::Json, input)
}

fn seeds() -> Vec<Seed> {
    patches::seeds(PATCHES)
}

const PATCHES: &[Patch] = &[
    (
        "add",
        "Deployment",
        r#"[{"op":"add","path":"/spec/replicas","value":3},{"op":"add","path":"/metadata/labels","value":{"x":"y"}}]"#,
    ),
    (
        "test",
        "ConfigMap",
        r#"[{"op":"test","path":"/data/a","value":"1"},{"op":"replace","path":"/data/a","value":"2"}]"#,
    ),
    (
        "move",
        "Service",
        r#"[{"op":"move","from":"/spec/ports/1","path":"/spec/ports/0"},{"op":"copy","from":"/spec/selector","path":"/metadata/labels"}]"#,
    ),
    (
        "remove",
        "Pod",
        r#"[{"op":"remove","path":"/metadata/annotations/x~1y"},{"op":"remove","path":"/metadata/labels"}]"#,
    ),
    (
        "end",
        "ClusterRole",
        r#"[{"op":"add","path":"/rules/-","value":{"apiGroups":["x"],"resources":["~"],"verbs":["get"]}}]"#,
    ),
    (
        "whole",
        "Lease",
        r#"[{"op":"replace","path":"","value":{"metadata":{"name":"lease"},"spec":{"leaseDurationSeconds":1}}}]"#,
    ),
];
