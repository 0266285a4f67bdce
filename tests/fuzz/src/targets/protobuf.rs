//! A request's protobuf body: the envelope and what is in it, of any kind.

use copepod_model::schema::Schema;
use serde_json::Value;

use crate::support::{depth, same};
use crate::{Outcome, Room, Seed, Target, samples};

pub(super) const TARGET: Target = Target { name: "protobuf", run, seeds, words: WORDS, room: Room::VALUES };

const WORDS: &[&str] =
    &["k8s\0", "v1", "apps/v1", "Pod", "PodList", "application/json", "{\"a\":[]}", "\n\0", "\u{12}\0", "500m"];
/// Containers around the innermost value that serde_json reads.
const DEEPEST: usize = 127;

fn run(input: &[u8]) -> Outcome {
    let schema = Schema::builtin();
    let peeked = Schema::peek_protobuf(input);
    let decoded = match schema.decode_protobuf(input) {
        Ok(decoded) => decoded,
        Err(e) => return Outcome::refused(e),
    };
    let (version, kind) = peeked.expect("what is decoded has an envelope");
    assert!(depth(&decoded) <= DEEPEST, "it cannot be read as JSON: {} levels", depth(&decoded));
    let Some(ty) = schema.lookup(version, kind) else { return Outcome::taken(0) };
    if decoded["apiVersion"] != version || decoded["kind"] != kind {
        // The envelope held JSON, which says itself what it is.
        return Outcome::taken(input.len()).and("JSON");
    }
    let written = decoded.to_string();
    let read: Result<Value, _> = serde_json::from_str(&written);
    assert!(read.is_ok_and(|read| same(&read, &decoded)), "as JSON it differs: {written}");
    let Ok(bytes) = schema.encode_protobuf(&decoded) else { return Outcome::taken(written.len()).and("not written") };
    let again = schema.decode_protobuf(&bytes).unwrap_or_else(|e| panic!("{written} is not decoded again: {e}"));
    assert!(same(&again, &decoded), "decoded again it differs: {decoded} {again}");
    // JSON of the same object is the same protobuf, once both are in their one form.
    if let Ok((mut json, _)) = schema.decode_json(ty, written.as_bytes()) {
        let mut normal = decoded;
        schema.normalise(ty, &mut normal);
        schema.normalise(ty, &mut json);
        assert!(same(&json, &normal), "through JSON it differs: {normal} {json}");
    }
    Outcome::taken(written.len()).and(kind)
}

fn seeds() -> Vec<Seed> {
    let schema = Schema::builtin();
    let all = samples::OBJECTS.iter().chain(samples::OTHERS);
    let bytes = |text: &str| {
        let mut object: Value = serde_json::from_str(text).unwrap_or_default();
        let ty = crate::support::kind(samples::kind_of(text).as_bytes()).2;
        schema.normalise(ty, &mut object);
        schema.encode_protobuf(&object).unwrap_or_else(|e| panic!("{text}: {e}"))
    };
    all.map(|text| (samples::name_of(text), bytes(text))).collect()
}
