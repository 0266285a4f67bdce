//! Small helpers on dynamic objects. What has the wrong JSON type counts as absent: types are checked at decoding.

use serde_json::{Map, Value};

/// The fields of a JSON object.
pub(crate) type Fields = Map<String, Value>;

/// The text of a field, empty when absent.
pub(crate) fn text<'a>(v: &'a Value, name: &str) -> &'a str {
    v[name].as_str().unwrap_or_default()
}

/// The items of a list field, none when absent.
pub(crate) fn list<'a>(v: &'a Value, name: &str) -> &'a [Value] {
    v[name].as_array().map_or(&[], Vec::as_slice)
}

/// The texts in a list field.
pub(crate) fn texts<'a>(v: &'a Value, name: &str) -> impl Iterator<Item = &'a str> {
    list(v, name).iter().filter_map(Value::as_str)
}

/// The object at `name`, made when absent or of another type.
pub(crate) fn child<'a>(v: &'a mut Value, name: &str) -> &'a mut Fields {
    let parent = object(v);
    object(parent.entry(name).or_insert_with(|| Value::Object(Map::new())))
}

/// The fields of `v`, which becomes an empty object if it is none.
pub(crate) fn object(v: &mut Value) -> &mut Fields {
    if !v.is_object() {
        *v = Value::Object(Map::new());
    }
    match v {
        Value::Object(fields) => fields,
        _ => unreachable!("made an object just above"),
    }
}

/// Removes a field.
pub(crate) fn remove(v: &mut Value, name: &str) {
    if let Some(fields) = v.as_object_mut() {
        fields.remove(name);
    }
}

/// Sets `name` of `to` to what it is in `from`, absence included.
pub(crate) fn restore(to: &mut Fields, from: &Value, name: &str) {
    match from.get(name) {
        // What is the same already is not copied: managed fields and specs are large.
        Some(v) if to.get(name) == Some(v) => {}
        Some(v) => {
            to.insert(name.into(), v.clone());
        }
        None => {
            to.remove(name);
        }
    }
}

/// Makes `to` what `from` is, but for some fields that stay as they are.
pub(crate) fn restore_all_but(to: &mut Fields, from: &Value, except: &[&str]) {
    let stays = |name: &str| except.contains(&name);
    to.retain(|name, _| stays(name) || from.get(name).is_some());
    for name in from.as_object().into_iter().flat_map(Map::keys).filter(|name| !stays(name)) {
        restore(to, from, name);
    }
}

/// The value at a dotted path.
pub(crate) fn at<'a>(v: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(v, |v, part| &v[part])
}

/// Sets the value at a dotted path, making the objects on the way.
pub(crate) fn set_at(v: &mut Value, path: &str, value: Value) {
    let mut v = v;
    for part in path.split('.') {
        v = object(v).entry(part).or_insert(Value::Null);
    }
    *v = value;
}

/// Whether two objects are the same but for what every write touches: resourceVersion and managedFields.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    same_but(a, b, &["metadata"]) && same_but(&a["metadata"], &b["metadata"], &["resourceVersion", "managedFields"])
}

/// Whether two objects have the same spec: everything but metadata and status.
pub(crate) fn same_spec(a: &Value, b: &Value) -> bool {
    same_but(a, b, &["metadata", "status"])
}

/// Whether two objects are the same but for some fields.
pub(crate) fn same_but(a: &Value, b: &Value, except: &[&str]) -> bool {
    let rest = |v: &'_ Value| -> usize {
        v.as_object().map_or(0, |m| m.len() - except.iter().filter(|k| m.contains_key(**k)).count())
    };
    rest(a) == rest(b)
        && a.as_object()
            .into_iter()
            .flatten()
            .filter(|(k, _)| !except.contains(&k.as_str()))
            .all(|(k, v)| b.get(k) == Some(v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sameness_ignores_what_every_write_touches() {
        let a = json!({"metadata":{"name":"a","resourceVersion":"1"},"spec":{"x":1},"status":{"y":1}});
        let mut b = json!({"metadata":{"name":"a","managedFields":[]},"spec":{"x":1},"status":{"y":1}});
        assert!(same(&a, &b) && same_spec(&a, &b));
        b["status"]["y"] = 2.into();
        assert!(!same(&a, &b) && same_spec(&a, &b));
        b["data"] = json!({});
        assert!(!same_spec(&a, &b));
    }

    #[test]
    fn all_but_some_fields_are_restored() {
        let from = json!({"a":1,"b":{"c":2},"kept":1,"gone":1});
        for (to, want) in [
            (json!({"a":5,"x":1,"kept":7,"gone":1}), json!({"a":1,"b":{"c":2},"kept":7,"gone":1})),
            (json!({}), json!({"a":1,"b":{"c":2}})),
            (json!({"b":{"c":2}}), json!({"a":1,"b":{"c":2}})),
        ] {
            let mut to = to;
            restore_all_but(object(&mut to), &from, &["kept", "gone"]);
            assert_eq!(to, want);
        }
        let mut to = json!({"x":1,"kept":1});
        restore_all_but(object(&mut to), &Value::Null, &["kept"]);
        assert_eq!(to, json!({"kept":1}));
    }

    #[test]
    fn paths_are_read_and_made() {
        let mut v = json!({"spec":1});
        set_at(&mut v, "spec.replicas", 3.into());
        assert_eq!(at(&v, "spec.replicas"), 3);
        assert!(at(&v, "status.x").is_null());
    }
}
