//! The patch of a three-way merge (apimachinery `strategicpatch.CreateThreeWayMergePatch`): what the manifest has and the
//! live object has not is set; what was applied before and is in the manifest no more is removed; what others have set is
//! left alone.

use copepod_model::schema::{Elem, Field, Schema, Shape, Special, TypeId};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// What is known about the fields of an object.
#[derive(Clone, Copy)]
enum At {
    Struct(TypeId),
    /// A map of these.
    Map(Elem),
    Free,
}

/// The patch: strategic where there is a type, else a JSON merge patch. Empty if there is nothing to do.
pub fn patch(schema: &Schema, ty: Option<TypeId>, last: &Value, live: &Value, new: &Value) -> Value {
    let at = ty.map_or(At::Free, At::Struct);
    Diff { schema }.map(at, &object(last), &object(live), &object(new)).into()
}

fn object(v: &Value) -> Object {
    v.as_object().cloned().unwrap_or_default()
}

fn list(v: Option<&Value>) -> &[Value] {
    v.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

struct Diff<'s> {
    schema: &'s Schema,
}

impl<'s> Diff<'s> {
    fn field(&self, at: At, key: &str) -> Option<&'s Field> {
        match at {
            At::Struct(id) => self.schema.get(id).field(key),
            At::Map(_) | At::Free => None,
        }
    }

    fn inner(&self, at: At, key: &str) -> At {
        let elem = |elem| match elem {
            Elem::Message(id) if self.schema.get(id).special == Special::None => At::Struct(id),
            _ => At::Free,
        };
        match at {
            At::Map(e) => elem(e),
            At::Free => At::Free,
            At::Struct(_) => match self.field(at, key) {
                Some(f) if f.shape == Shape::Map => At::Map(f.elem),
                Some(f) => elem(f.elem),
                None => At::Free,
            },
        }
    }

    fn map(&self, at: At, last: &Object, live: &Object, new: &Object) -> Object {
        let mut out = Object::new();
        for (key, n) in new {
            let field = self.field(at, key);
            match (live.get(key), n) {
                (None, Value::Null) => {}
                (None, n) => drop(out.insert(key.clone(), n.clone())),
                (Some(l), n) if l == n => {}
                (Some(Value::Object(l)), Value::Object(n)) if !field.is_some_and(Field::patch_replaces) => {
                    let before = last.get(key).map(object).unwrap_or_default();
                    let mut sub = self.map(self.inner(at, key), &before, l, n);
                    retain(&mut sub, field, n);
                    if !sub.is_empty() {
                        out.insert(key.clone(), sub.into());
                    }
                }
                (Some(Value::Array(l)), Value::Array(n)) if field.is_some_and(Field::patch_merges) => {
                    let Some(field) = field else { continue };
                    self.list(self.inner(at, key), field, list(last.get(key)), l, n, &mut out);
                }
                (Some(_), n) => drop(out.insert(key.clone(), n.clone())),
            }
        }
        for key in last.keys().filter(|k| !new.contains_key(*k) && live.contains_key(*k)) {
            out.insert(key.clone(), Value::Null);
        }
        out
    }

    /// A list that the server merges.
    fn list(&self, at: At, field: &Field, last: &[Value], live: &[Value], new: &[Value], out: &mut Object) {
        let name = field.name.as_ref();
        let Some(merge_key) = field.patch_key.as_deref() else {
            return primitives(name, last, live, new, out);
        };
        let find = |items: &[Value], key: &Value| items.iter().find(|i| i[merge_key] == *key).cloned();
        if !keyed(new, merge_key) || !keyed(live, merge_key) {
            // The server cannot tell the elements apart either, so the list is replaced, if the manifest has changed.
            if last != new {
                let mut all = new.to_vec();
                all.push(json!({"$patch": "replace"}));
                out.insert(name.into(), all.into());
            }
            return;
        }
        let mut changes = Vec::new();
        for n in new {
            let key = &n[merge_key];
            let Some(l) = find(live, key) else {
                changes.push(n.clone());
                continue;
            };
            let before = find(last, key).as_ref().map(object).unwrap_or_default();
            let mut sub = self.map(at, &before, &object(&l), &object(n));
            retain(&mut sub, Some(field), &object(n));
            if !sub.is_empty() {
                sub.insert(merge_key.into(), key.clone());
                changes.push(sub.into());
            }
        }
        for key in last.iter().map(|i| &i[merge_key]) {
            if find(new, key).is_none() && find(live, key).is_some() {
                changes.push(json!({"$patch": "delete", merge_key: key}));
            }
        }
        let order: Vec<Value> = new.iter().map(|n| json!({merge_key: n[merge_key]})).collect();
        let shared =
            live.iter().filter(|l| find(new, &l[merge_key]).is_some()).map(|l| json!({merge_key: l[merge_key]}));
        let moved = order.len() > 1 && !shared.eq(order.iter().cloned());
        if !changes.is_empty() || moved {
            out.insert(format!("$setElementOrder/{name}"), order.into());
        }
        if !changes.is_empty() {
            out.insert(name.into(), changes.into());
        }
    }
}

/// Where only the fields of the manifest may stay, says so.
fn retain(sub: &mut Object, field: Option<&Field>, new: &Object) {
    if !sub.is_empty() && field.is_some_and(|f| f.patch_strategy.split(',').any(|s| s == "retainKeys")) {
        sub.insert("$retainKeys".into(), new.keys().map(|k| Value::from(k.as_str())).collect());
    }
}

/// Whether every element is an object with a key of its own.
fn keyed(items: &[Value], merge_key: &str) -> bool {
    let key = |i: &Value| i.get(merge_key).filter(|k| !k.is_null()).map(ToString::to_string);
    let keys: Option<std::collections::BTreeSet<String>> = items.iter().map(key).collect();
    keys.is_some_and(|k| k.len() == items.len())
}

/// A set of plain values, such as finalizers.
fn primitives(name: &str, last: &[Value], live: &[Value], new: &[Value], out: &mut Object) {
    let added: Vec<Value> = new.iter().filter(|n| !live.contains(n)).cloned().collect();
    let gone: Vec<Value> = last.iter().filter(|l| !new.contains(l) && live.contains(l)).cloned().collect();
    if added.is_empty() && gone.is_empty() {
        return;
    }
    if !gone.is_empty() {
        out.insert(format!("$deleteFromPrimitiveList/{name}"), gone.into());
    }
    out.insert(format!("$setElementOrder/{name}"), new.to_vec().into());
    if !added.is_empty() {
        out.insert(name.into(), added.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(change: impl FnOnce(&mut Value)) -> Value {
        let mut v = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"a": "1"}},
            "spec": {"replicas": 2, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
                "template": {"spec": {
                    "containers": [{"name": "c", "image": "v1", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}],
                    "volumes": [{"name": "v", "emptyDir": {}}],
                }}},
        });
        change(&mut v);
        v
    }

    /// What the server adds and others change.
    fn grown(mut v: Value) -> Value {
        v["metadata"]["uid"] = "u".into();
        v["metadata"]["labels"]["other"] = "x".into();
        v["spec"]["progressDeadlineSeconds"] = 600.into();
        v["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] = "25%".into();
        v["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Always".into();
        v["status"] = json!({"replicas": 2});
        v
    }

    /// The patch, and what the server makes of it.
    fn patched(last: &Value, live: &Value, new: &Value) -> (Value, Value) {
        let schema = Schema::builtin();
        let ty = schema.lookup("apps/v1", "Deployment").unwrap();
        let patch = patch(schema, Some(ty), last, live, new);
        let after = schema.strategic_merge(ty, live, &patch).unwrap();
        (patch, after)
    }

    #[test]
    fn nothing_to_do_is_an_empty_patch() {
        let d = deployment(|_| {});
        assert_eq!(patched(&d, &grown(d.clone()), &d).0, json!({}));
    }

    #[test]
    fn sets_adds_and_removes_but_leaves_others_fields() {
        let last = deployment(|_| {});
        let live = grown(last.clone());
        let new = deployment(|d| {
            d["metadata"]["labels"] = json!({"b": "2"});
            let c = &mut d["spec"]["template"]["spec"]["containers"][0];
            c["image"] = "v2".into();
            c["env"] = json!([{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]);
        });
        let (patch, after) = patched(&last, &live, &new);
        assert_eq!(
            patch,
            json!({
                "metadata": {"labels": {"a": null, "b": "2"}},
                "spec": {"template": {"spec": {
                    "$setElementOrder/containers": [{"name": "c"}],
                    "containers": [{"name": "c", "image": "v2",
                        "$setElementOrder/env": [{"name": "B"}, {"name": "C"}],
                        "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}, {"$patch": "delete", "name": "A"}]}],
                }}},
            })
        );
        assert_eq!(after["metadata"]["labels"], json!({"b": "2", "other": "x"}));
        let c = &after["spec"]["template"]["spec"]["containers"][0];
        assert_eq!((&c["imagePullPolicy"], &c["image"]), (&json!("Always"), &json!("v2")));
        assert_eq!(c["env"], new["spec"]["template"]["spec"]["containers"][0]["env"]);
        assert_eq!(after["spec"]["progressDeadlineSeconds"], 600);
    }

    #[test]
    fn retain_keys_drops_what_the_server_had_defaulted() {
        let last = deployment(|_| {});
        let new = deployment(|d| {
            d["spec"]["strategy"] = json!({"type": "Recreate"});
            d["spec"]["template"]["spec"]["volumes"] = json!([{"name": "v", "configMap": {"name": "m"}}]);
        });
        let (_, after) = patched(&last, &grown(last.clone()), &new);
        assert_eq!(after["spec"]["strategy"], json!({"type": "Recreate"}));
        assert_eq!(after["spec"]["template"]["spec"]["volumes"], new["spec"]["template"]["spec"]["volumes"]);
    }

    #[test]
    fn plain_json_for_kinds_without_schema() {
        let schema = Schema::builtin();
        let got =
            patch(schema, None, &json!({"a": 1, "b": [1]}), &json!({"a": 1, "b": [1], "c": 2}), &json!({"b": [2]}));
        assert_eq!(got, json!({"a": null, "b": [2]}));
    }

    #[test]
    fn sets_of_plain_values() {
        let mut out = Object::new();
        let l = |s: &str| -> Vec<Value> { s.split(' ').map(Value::from).collect() };
        primitives("finalizers", &l("a b"), &l("a b x"), &l("b c"), &mut out);
        assert_eq!(
            Value::from(out),
            json!({"finalizers": ["c"], "$setElementOrder/finalizers": ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"]})
        );
    }

    #[test]
    fn equal_keys_are_replaced_only_if_the_manifest_changed() {
        let ports = |n: i64| json!([{"port": 53, "protocol": "TCP"}, {"port": n, "protocol": "UDP"}]);
        let service = |p: Value| json!({"spec": {"ports": p}});
        let schema = Schema::builtin();
        let ty = schema.lookup("v1", "Service");
        let mut live = service(ports(53));
        live["spec"]["ports"][0]["nodePort"] = 30000.into();
        assert_eq!(patch(schema, ty, &service(ports(53)), &live, &service(ports(53))), json!({}));
        let got = patch(schema, ty, &service(ports(53)), &live, &service(ports(54)));
        let after = schema.strategic_merge(ty.unwrap(), &live, &got).unwrap();
        assert_eq!(after["spec"]["ports"], ports(54));
    }
}
