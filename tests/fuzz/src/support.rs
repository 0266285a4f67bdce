//! What several targets have in common.

use copepod_model::schema::{Schema, TypeId};
use serde_json::Value;

/// What is between the parts of an input that has several.
const BORDER: &[u8] = b"\n===\n";

/// The parts of an input; those that are not there are empty, and what is more belongs to the last one.
pub(crate) fn parts<const N: usize>(input: &[u8]) -> [&[u8]; N] {
    let (mut out, mut rest) = ([&input[..0]; N], input);
    for (i, part) in out.iter_mut().enumerate() {
        let border = rest.windows(BORDER.len()).position(|w| w == BORDER).filter(|_| i + 1 < N);
        (*part, rest) = match border {
            Some(at) => (&rest[..at], &rest[at + BORDER.len()..]),
            None => (rest, &rest[rest.len()..]),
        };
    }
    out
}

/// An input of these parts.
pub(crate) fn joined(parts: &[&str]) -> Vec<u8> {
    parts.join("\n===\n").into_bytes()
}

/// The kind that a text such as `apps/v1 Deployment` names; a pod where it names none.
pub(crate) fn kind(text: &[u8]) -> (&'static str, &'static str, TypeId) {
    let text = String::from_utf8_lossy(text);
    let (version, kind) = text.trim().split_once(' ').unwrap_or_default();
    let all = || Schema::builtin().kinds();
    let found = all().find(|(v, k, _)| *v == version && *k == kind);
    found.or_else(|| all().find(|(v, k, _)| *v == "v1" && *k == "Pod")).expect("there are pods")
}

/// Whether two values are the same. Numbers with a point are read to within a few units of their last place.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Number(x), Value::Number(y)) if x.is_f64() || y.is_f64() => {
            let (x, y) = (x.as_f64().unwrap_or_default(), y.as_f64().unwrap_or_default());
            (x - y).abs() <= x.abs().max(y.abs()) * 1e-15
        }
        _ => a == b,
    }
}

/// How many objects and arrays are around the innermost value.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Names of fields, values and directives of objects.
pub(crate) const OBJECT_WORDS: &[&str] = &[
    "\"apiVersion\":\"v1\",",
    "\"kind\":\"Pod\",",
    "\"metadata\":{",
    "\"name\":\"a\"",
    "\"namespace\":\"default\",",
    "\"labels\":{\"a\":\"b\"},",
    "\"annotations\":{},",
    "\"finalizers\":[\"a/b\"],",
    "\"ownerReferences\":[],",
    "\"managedFields\":[],",
    "\"creationTimestamp\":null,",
    "\"deletionTimestamp\":\"2026-01-02T03:04:05Z\",",
    "\"resourceVersion\":\"1\",",
    "\"generateName\":\"a-\",",
    "\"spec\":{",
    "\"status\":{",
    "\"containers\":[",
    "\"initContainers\":[",
    "\"ports\":[{\"containerPort\":80}],",
    "\"resources\":{\"limits\":{\"cpu\":\"1\"}},",
    "\"replicas\":1,",
    "\"selector\":{\"matchLabels\":{\"a\":\"b\"}},",
    "\"matchExpressions\":[{\"key\":\"a\",\"operator\":\"In\",\"values\":[\"b\"]}],",
    "\"data\":{\"a\":\"YQ==\"},",
    "\"template\":{",
    "\"strategy\":{\"type\":\"Recreate\"},",
    "\"maxSurge\":\"25%\",",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    ",",
    "\\u0000",
    "\\ud800",
    "\"500m\"",
    "\"1e9\"",
    "\"1.5Gi\"",
    "\"2026-01-02T03:04:05.000006Z\"",
    "\"1h30m\"",
    "\"*\"",
    "\n===\n",
];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn inputs_have_parts() {
        let input = joined(&["a", "b", "c"]);
        assert_eq!(parts::<3>(&input), [b"a", b"b", b"c"]);
        assert_eq!(parts::<2>(&input), [&b"a"[..], b"b\n===\nc"]);
        assert_eq!(parts::<2>(b"a"), [&b"a"[..], b""]);
    }

    #[test]
    fn numbers_may_differ_in_their_last_place_and_nothing_else_may() {
        assert!(same(&json!({"a": [0.1, 1]}), &json!({"a": [0.1 + f64::EPSILON / 16.0, 1]})));
        for (a, b) in
            [(json!(1), json!(2)), (json!(0.1), json!(0.1001)), (json!([1]), json!([1, 2])), (json!({}), json!([]))]
        {
            assert!(!same(&a, &b), "{a} {b}");
        }
        assert_eq!((depth(&json!(1)), depth(&json!([{"a": []}]))), (0, 3));
    }
}
