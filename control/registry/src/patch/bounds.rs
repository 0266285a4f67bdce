//! How much a JSON patch may make of little: a few copies of copies are more than any memory, and a value that is put into
//! itself again and again is deeper than any stack.

use json_patch::{PatchOperation, jsonptr::Pointer};
use serde_json::Value;

/// So many bytes of JSON may be copied by one patch: as many as a request's body has (upstream's `AccumulatedCopySizeLimit`).
const COPIED: usize = 3 * 1024 * 1024;
/// So many objects and lists may be around a value: what can be read again.
const DEPTH: usize = 127;

/// What one patch has done so far.
pub(super) struct Bounds {
    copied: usize,
    /// The document is no deeper.
    deepest: usize,
}

impl Bounds {
    pub(super) fn of(document: &Value) -> Bounds {
        Bounds { copied: 0, deepest: depth(document) }
    }

    /// Counts the next operation on the document; nothing if it goes too far, or copies what is not there.
    pub(super) fn take(&mut self, document: &Value, operation: &PatchOperation) -> Option<()> {
        let around = |path: &Pointer| path.count();
        let (path, inner) = match operation {
            PatchOperation::Add(op) => (&op.path, depth(&op.value)),
            PatchOperation::Replace(op) => (&op.path, depth(&op.value)),
            PatchOperation::Copy(op) => {
                let value = document.pointer(op.from.as_str())?;
                self.copied += value.to_string().len();
                (&op.path, depth(value))
            }
            PatchOperation::Move(op) => {
                // Moves are many and their values large: none is looked through while all of them are far from the limit.
                let most = self.deepest.saturating_sub(around(&op.from));
                if around(&op.path) + most <= DEPTH {
                    (&op.path, most)
                } else {
                    self.copied += document.to_string().len();
                    self.deepest = depth(document);
                    (&op.path, depth(document.pointer(op.from.as_str())?))
                }
            }
            PatchOperation::Remove(_) | PatchOperation::Test(_) => return Some(()),
        };
        self.deepest = self.deepest.max(around(path) + inner);
        (self.copied <= COPIED && self.deepest <= DEPTH).then_some(())
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// How many of the operations may be applied, and what the document is then.
    fn applied(document: Value, operations: Value) -> (usize, Value) {
        let operations: json_patch::Patch = serde_json::from_value(operations).unwrap();
        let (mut bounds, mut document) = (Bounds::of(&document), document);
        for (i, operation) in operations.0.iter().enumerate() {
            if bounds.take(&document, operation).is_none() {
                return (i, document);
            }
            json_patch::patch_unsafe(&mut document, std::slice::from_ref(operation)).unwrap();
        }
        (operations.0.len(), document)
    }

    #[test]
    fn copies_of_copies_end() {
        let double = |i: usize| json!({"op":"copy","from":"/a","path":format!("/a/{i}")});
        let all: Vec<Value> = (0..60).map(double).collect();
        let (taken, document) = applied(json!({"a": {"x": "y".repeat(100)}}), all.into());
        assert!((10..20).contains(&taken), "{taken}");
        assert!(document.to_string().len() < 2 * COPIED);
    }

    #[test]
    fn nothing_becomes_deeper_than_can_be_read() {
        let nested = |n: usize| (0..n).fold(json!(1), |inner, _| json!([inner]));
        let path = |n: usize| "/0".repeat(n);
        let document = json!({"a": nested(60), "b": nested(60)});
        for (operation, want) in [
            (json!({"op":"add","path":format!("/a{}", path(59)),"value":nested(67)}), 1),
            (json!({"op":"add","path":format!("/a{}", path(59)),"value":nested(68)}), 0),
            (json!({"op":"replace","path":format!("/a{}", path(60)),"value":nested(67)}), 0),
            (json!({"op":"copy","from":"/b","path":format!("/a{}", path(60))}), 1),
            (json!({"op":"move","from":"/b","path":format!("/a{}", path(60))}), 1),
            (json!({"op":"test","path":"/b","value":nested(500)}), 1),
        ] {
            let operations: json_patch::Patch = serde_json::from_value(json!([operation])).unwrap();
            let taken = Bounds::of(&document).take(&document, &operations.0[0]).is_some();
            assert_eq!(usize::from(taken), want, "{operation}");
        }
        let twice = json!([{"op":"copy","from":"/b","path":"/c"}, {"op":"move","from":"/c","path":format!("/b{}", path(60))},
            {"op":"move","from":"/a","path":format!("/b{}", path(121))}]);
        assert_eq!(applied(document, twice).0, 2);
    }

    #[test]
    fn many_moves_are_no_depth() {
        let there = |i: usize| json!({"op":"move","from":format!("/a/{i}"),"path":format!("/b/c/{i}")});
        let items: serde_json::Map<String, Value> = (0..500).map(|i| (i.to_string(), json!([i]))).collect();
        let all: Vec<Value> = (0..500).map(there).collect();
        let (taken, document) = applied(json!({"a": items, "b": {"c": {}}}), all.into());
        assert_eq!((taken, document["b"]["c"].as_object().map(|m| m.len())), (500, Some(500)));
    }
}
