//! A request's JSON body by the schema, with strict field validation: the kind, then the text.

use copepod_model::schema::{Schema, strict_error};
use serde_json::Value;

use crate::support::{OBJECT_WORDS, joined, kind, parts, same};
use crate::{Outcome, Room, Seed, Target, samples};

pub(super) const TARGET: Target = Target { name: "json", run, seeds, words: OBJECT_WORDS, room: Room::VALUES };

fn run(input: &[u8]) -> Outcome {
    let [head, text] = parts(input);
    let (version, name, ty) = kind(head);
    let schema = Schema::builtin();
    let (decoded, warnings) = match schema.decode_json(ty, text) {
        Ok(decoded) => decoded,
        Err(e) => {
            assert_eq!(e.status(version, name).code, 400);
            return Outcome::refused(e).and(name);
        }
    };
    if !warnings.is_empty() {
        assert_eq!(strict_error(version, name, &warnings).code, 400);
    }
    // What was decoded is of its type, and says the same when it is read again.
    let written = decoded.to_string();
    let again = schema.decode_json(ty, written.as_bytes());
    let (again, more) = again.unwrap_or_else(|e| panic!("{written} is not decoded again: {e}"));
    assert!(same(&again, &decoded), "read again it differs: {decoded} {again}");
    assert!(more.is_empty(), "strict decoding refuses what it has made: {more:?}");
    let mut conformed = decoded.clone();
    assert_eq!(schema.conform(ty, &mut conformed), Ok(vec![]), "as a value");
    assert!(same(&conformed, &decoded), "as a value it differs: {decoded} {conformed}");
    let mut normal = decoded.clone();
    schema.normalise(ty, &mut normal);
    let mut twice = normal.clone();
    schema.normalise(ty, &mut twice);
    assert_eq!(normal, twice, "normalising twice");
    let mut complete = normal.clone();
    schema.complete(ty, &mut complete);
    let mut kept = complete.clone();
    schema.normalise(ty, &mut kept);
    assert_eq!(kept, complete, "normalising keeps what was added");
    through_protobuf((version, name), &normal);
    Outcome::taken(written.len()).and((name, warnings.len().min(3), written.len() > text.len()))
}

/// JSON → protobuf → JSON changes nothing that protobuf can say.
fn through_protobuf((version, name): (&str, &str), normal: &Value) {
    let schema = Schema::builtin();
    let mut object = normal.clone();
    object["apiVersion"] = version.into();
    object["kind"] = name.into();
    let Ok(bytes) = schema.encode_protobuf(&object) else { return };
    let back = schema.decode_protobuf(&bytes).unwrap_or_else(|e| panic!("{object} through protobuf: {e}"));
    let (mut want, mut got) = (object, back.clone());
    said(&mut want);
    said(&mut got);
    assert!(same(&want, &got), "through protobuf it differs: {want} {got}");
    let again = schema.encode_protobuf(&back).ok().and_then(|bytes| schema.decode_protobuf(&bytes).ok());
    assert!(again.is_some_and(|again| same(&again, &back)), "through protobuf twice it differs: {back}");
}

/// Takes out what protobuf cannot say: nulls, empty lists and maps, and what kind an object is within another.
fn said(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|name, value| {
                said(value);
                !matches!(name.as_str(), "apiVersion" | "kind") && !is_nothing(value)
            });
        }
        Value::Array(items) => items.iter_mut().for_each(said),
        _ => {}
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn seeds() -> Vec<Seed> {
    let all = samples::OBJECTS.iter().chain(samples::OTHERS);
    all.map(|text| (samples::name_of(text), joined(&[&samples::kind_of(text), text]))).collect()
}
