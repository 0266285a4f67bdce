//! Changes for the tests of invariants.

use copepod_model::{Key, object};
use copepod_state::{Change, Op, Tables, Txn, apply};
use serde_json::Value;

/// Puts an object where its metadata says, and gives what that has changed.
pub fn put(tables: &mut Tables, resource: &str, object: &Value) -> Change {
    let of = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
    let key = Key::new(resource, of("namespace"), of("name"));
    change(tables, Op::Put { key, body: object::encode(object), revised: true })
}

/// Deletes one that is there.
pub fn delete(tables: &mut Tables, resource: &str, namespace: &str, name: &str) -> Change {
    change(tables, Op::Delete { key: Key::new(resource, namespace, name) })
}

fn change(tables: &mut Tables, op: Op) -> Change {
    let (_, changes) = apply(tables, 1, &Txn { ops: vec![op], ..Txn::default() });
    changes.into_iter().next().unwrap()
}
