//! Strategic merge patches of stored objects.

use copepod_model::request::PatchType;

use crate::patches::{self, Patch};
use crate::support::OBJECT_WORDS;
use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target =
    Target { name: "strategic_merge_patch", run, seeds, words: OBJECT_WORDS, room: Room { base: 8 << 20, each: 8192 } };

fn run(input: &[u8]) -> Outcome {
    patches::run(PatchType::Strategic, input)
}

fn seeds() -> Vec<Seed> {
    patches::seeds(PATCHES)
}

const PATCHES: &[Patch] = &[
    (
        "merge",
        "Deployment",
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"j"},{"name":"d","image":"k"}]}}}}"#,
    ),
    (
        "delete",
        "Pod",
        r#"{"metadata":{"labels":{"$patch":"delete"}},"spec":{"tolerations":[{"$patch":"replace"},{"key":"a","operator":"Exists"}]}}"#,
    ),
    (
        "order",
        "Service",
        r#"{"spec":{"$setElementOrder/ports":[{"port":53},{"port":80}],"ports":[{"port":80,"name":"web"}]}}"#,
    ),
    ("retain", "Deployment", r#"{"spec":{"strategy":{"$retainKeys":["type"],"type":"Recreate"}}}"#),
    (
        "primitive",
        "Pod",
        r#"{"metadata":{"$deleteFromPrimitiveList/finalizers":["a/b"],"finalizers":["c/d"],"$setElementOrder/finalizers":["c/d"]}}"#,
    ),
    (
        "replace",
        "ClusterRole",
        r#"{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}],"metadata":{"$patch":"merge"}}"#,
    ),
];
