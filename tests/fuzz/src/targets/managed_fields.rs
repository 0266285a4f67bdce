//! `FieldsV1` of managed fields.

use copepod_registry::fuzzing::fields;
use serde_json::Value;

use crate::{Outcome, Room, Seed, Target};

pub(super) const TARGET: Target = Target { name: "managed_fields", run, seeds, words: WORDS, room: Room::VALUES };

const WORDS: &[&str] = &[
    "\"f:metadata\":{",
    "\".\":{},",
    "\"k:{\\\"name\\\":\\\"a\\\"}\":{",
    "\"v:\\\"x\\\"\":{}",
    "\"i:0\":{}",
    "}",
    "{",
    ":",
    "null",
];

fn run(input: &[u8]) -> Outcome {
    let value: Value = match serde_json::from_slice(input) {
        Ok(value) => value,
        Err(e) => return Outcome::refused(e),
    };
    let (written, paths) = fields(&value);
    let (again, more) = fields(&written);
    assert_eq!((&again, &more), (&written, &paths), "it is not stable");
    let text = written.to_string();
    assert!(text.len() <= input.len() + 16, "it grows");
    Outcome::taken(text.len()).and(paths.len().min(8))
}

fn seeds() -> Vec<Seed> {
    let all = [
        ("fields", r#"{"f:metadata":{"f:labels":{".":{},"f:a":{}}},"f:spec":{"f:replicas":{}}}"#),
        ("keyed", r#"{"f:spec":{"f:ports":{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:name":{}}}}}"#),
        ("set", r#"{"f:metadata":{"f:finalizers":{"v:\"a/b\"":{}}}}"#),
    ];
    all.map(|(name, text)| (name.to_string(), text.as_bytes().to_vec())).into()
}
