//! JSON merge patches (RFC 7386) of stored objects.

use copepod_model::request::PatchType;

use crate::patches::{self, Patch};
use crate::support::OBJECT_WORDS;
use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target =
    Target { name: "merge_patch", run, seeds, words: OBJECT_WORDS, room: Room { base: 8 << 20, each: 8192 } };

fn run(input: &[u8]) -> Outcome {
    patches::run(PatchType::Merge, input)
}

fn seeds() -> Vec<Seed> {
    patches::seeds(PATCHES)
}

const PATCHES: &[Patch] = &[
    ("set", "Deployment", r#"{"spec":{"replicas":3,"paused":true},"metadata":{"labels":{"x":"y"}}}"#),
    ("delete", "ConfigMap", r#"{"data":{"a":null,"n":"1"},"binaryData":null}"#),
    ("list", "Service", r#"{"spec":{"ports":[{"port":81}]}}"#),
    ("status", "Pod", r#"{"status":{"phase":"Running"},"metadata":{"finalizers":["a/b"]}}"#),
    ("mode", "StatefulSet", r#"{"spec":{"updateStrategy":{"type":"OnDelete","rollingUpdate":null}}}"#),
    ("free", "ControllerRevision", r#"{"data":{"spec":null},"revision":2}"#),
];
