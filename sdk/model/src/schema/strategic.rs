//! Strategic merge patch (apimachinery `pkg/util/strategicpatch`): lists merge by their patch keys, and directives say
//! what a merge cannot.

use serde_json::{Map, Value};

use super::go::print;
use super::{Elem, Field, PatchError, Schema, Shape, Special, TypeId};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

type Object = Map<String, Value>;
type Result<T> = std::result::Result<T, PatchError>;

fn err<T>(text: impl Into<String>) -> Result<T> {
    Err(PatchError(text.into()))
}

/// What is known about the object that is being merged.
#[derive(Clone, Copy)]
enum At<'s> {
    Struct(TypeId),
    /// A map, whose values are the field's elements.
    Map(&'s Field),
    /// Free-form JSON: objects merge, lists are replaced.
    Free,
}

impl Schema {
    /// `target` with `patch` applied.
    pub fn strategic_merge(&self, ty: TypeId, target: &Value, patch: &Value) -> Result<Value> {
        let original = match target {
            Value::Object(map) => map.clone(),
            _ => Object::new(),
        };
        let Value::Object(patch) = patch else { return err("invalid JSON document") };
        self.merge_map(original, patch.clone(), At::Struct(ty)).map(Value::Object)
    }

    fn field_at<'s>(&'s self, at: At<'s>, key: &str) -> Option<&'s Field> {
        match at {
            At::Struct(id) => self.get(id).field(key),
            At::Map(_) | At::Free => None,
        }
    }

    /// The object that a key of `at` holds.
    fn inner<'s>(&'s self, at: At<'s>, key: &str) -> Result<At<'s>> {
        let message = |elem| match elem {
            Elem::Message(id) if self.get(id).special == Special::None => At::Struct(id),
            _ => At::Free,
        };
        Ok(match at {
            At::Free => At::Free,
            At::Map(field) => message(field.elem),
            At::Struct(id) => match self.get(id).field(key) {
                Some(field) if field.shape == Shape::Map => At::Map(field),
                Some(field) => message(field.elem),
                None if self.get(id).preserve_unknown => At::Free,
                None => {
                    let name = self.get(id).short_name();
                    return err(format!("unable to find api field in struct {name} for the json field {key:?}"));
                }
            },
        })
    }

    fn merge_map(&self, mut original: Object, mut patch: Object, at: At<'_>) -> Result<Object> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(patch),
                Some("delete") => Ok(Object::new()),
                _ => {
                    patch.insert(DIRECTIVE.into(), directive.clone());
                    err(format!("unknown patch type: {} in map: {}", print(&directive), print(&Value::Object(patch))))
                }
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.set_orders(&mut original, &mut patch, at)?;
        for (key, mut value) in patch {
            if let Some(rest) = key.strip_prefix(DELETE_FROM_LIST) {
                let key = rest.strip_prefix('/').ok_or(PatchError("invalid patch format of primitive list".into()))?;
                if let (Some(Value::Array(items)), Value::Array(gone)) = (original.get_mut(key), &value) {
                    items.retain(|i| !gone.contains(i));
                }
                continue;
            }
            if value.is_null() {
                original.remove(&key);
                continue;
            }
            let merged = match (original.remove(&key), value) {
                (Some(Value::Object(old)), Value::Object(new)) => {
                    let replaces = self.field_at(at, &key).is_some_and(Field::patch_replaces);
                    if replaces {
                        Some(Value::Object(new))
                    } else {
                        Some(Value::Object(self.merge_map(old, new, self.inner(at, &key)?)?))
                    }
                }
                (Some(Value::Array(old)), Value::Array(new)) => {
                    Some(Value::Array(self.merge_field(old, new, at, &key)?))
                }
                (_, new) => {
                    value = new;
                    discard_nulls(&mut value);
                    without_directives(value)
                }
            };
            if let Some(merged) = merged {
                original.insert(key, merged);
            }
        }
        Ok(original)
    }

    fn merge_field(&self, old: Vec<Value>, new: Vec<Value>, at: At<'_>, key: &str) -> Result<Vec<Value>> {
        match self.field_at(at, key) {
            Some(field) if field.patch_merges() => {
                self.merge_list(old, new, self.inner(at, key)?, field.patch_key.as_deref().unwrap_or_default())
            }
            _ => Ok(new),
        }
    }

    fn merge_list(
        &self,
        mut original: Vec<Value>,
        patch: Vec<Value>,
        at: At<'_>,
        merge_key: &str,
    ) -> Result<Vec<Value>> {
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        if !maps(&[&original, &patch])? {
            let patch_order = patch.clone();
            let mut both = original.clone();
            both.extend(patch);
            return order(deduplicate(both), &patch_order, &original, "");
        }
        if merge_key.is_empty() {
            let name = match at {
                At::Struct(id) => self.get(id).short_name(),
                _ => "",
            };
            return err(format!("cannot merge lists without merge key for {name}"));
        }
        let mut replace = false;
        let mut plain = vec![];
        for item in patch {
            let directive = item.get(DIRECTIVE).cloned();
            match directive.as_ref().map(|d| d.as_str().unwrap_or_default()) {
                None => plain.push(item),
                Some("delete") => {
                    let gone = key_of(&item, merge_key)?.clone();
                    original.retain(|i| i.get(merge_key) != Some(&gone));
                }
                Some("replace") => replace = true,
                Some("merge") => return err("merging lists cannot yet be specified in the patch"),
                Some(other) => return err(format!("unknown patch type: {other} in map: {}", print(&item))),
            }
        }
        let (mut merged, patch) = if replace { (plain, vec![]) } else { (original, plain) };
        let server_order = merged.clone();
        for item in &patch {
            let key = key_of(item, merge_key)?;
            match merged.iter_mut().find(|m| m.get(merge_key) == Some(key)) {
                Some(found) => {
                    let (Value::Object(old), Value::Object(new)) = (found.take(), item.clone()) else { continue };
                    *found = Value::Object(self.merge_map(old, new, at)?);
                }
                None => merged.push(item.clone()),
            }
        }
        order(merged, &patch, &server_order, merge_key)
    }

    /// Applies `$setElementOrder/<list>`: merges the list and puts its elements in that order.
    fn set_orders(&self, original: &mut Object, patch: &mut Object, at: At<'_>) -> Result<()> {
        let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(SET_ORDER)).cloned().collect();
        for directive in directives {
            let bad = || PatchError("invalid patch format of setElementOrder list".into());
            let Some(wanted) = patch.remove(&directive) else { continue };
            let Value::Array(wanted) = wanted else {
                return err(format!("expected a []interface {{}}, but received a {}", go_kind(&wanted)));
            };
            let key = directive.strip_prefix(SET_ORDER).and_then(|k| k.strip_prefix('/')).ok_or_else(bad)?;
            let list = |v: Option<&Value>| match v {
                None | Some(Value::Null) => Ok(None),
                Some(Value::Array(items)) => Ok(Some(items.clone())),
                Some(other) => err(format!("expected a []interface {{}}, but received a {}", go_kind(other))),
            };
            let (old, new) = (list(original.get(key))?, list(patch.get(key))?);
            let field = self.field_at(at, key);
            let merge_key = field.and_then(|f| f.patch_key.as_deref()).unwrap_or_default();
            check_order(new.as_deref().unwrap_or_default(), &wanted, merge_key)?;
            let server_order = old.clone().unwrap_or_default();
            let merged = match (old, new) {
                (Some(old), None) => old,
                (None, Some(new)) => match without_directives(Value::Array(new)) {
                    Some(Value::Array(items)) => items,
                    _ => continue,
                },
                (Some(old), Some(new)) => self.merge_field(old, new, at, key)?,
                (None, None) => continue,
            };
            let null_patch = patch.get(key).is_some_and(Value::is_null);
            if !null_patch {
                patch.remove(key);
                original.insert(key.to_string(), Value::Array(order(merged, &wanted, &server_order, merge_key)?));
            }
        }
        Ok(())
    }
}

fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<()> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let Value::Array(keys) = keys else { return err("invalid patch format of retainKeys") };
    let kept = |k: &str| keys.iter().any(|x| x == k);
    let directive = |k: &str| k.starts_with(DELETE_FROM_LIST) || k.starts_with(SET_ORDER);
    if patch.iter().any(|(k, v)| !v.is_null() && !directive(k) && !kept(k)) {
        return err("invalid patch format of retainKeys");
    }
    original.retain(|k, _| kept(k));
    Ok(())
}

/// Whether the lists hold objects; an error when their elements are of several types.
fn maps(lists: &[&Vec<Value>]) -> Result<bool> {
    let mut first: Option<&Value> = None;
    for item in lists.iter().flat_map(|l| l.iter()) {
        if item.is_array() {
            return err("lists of lists are not supported");
        }
        match first {
            None => first = Some(item),
            Some(f) if go_kind(f) == go_kind(item) => {}
            Some(_) => {
                let all: Vec<Value> = lists.iter().map(|l| Value::Array((*l).clone())).collect();
                return err(format!("list element types are not identical: {}", print(&Value::Array(all))));
            }
        }
    }
    Ok(first.is_some_and(Value::is_object))
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn key_of<'v>(item: &'v Value, merge_key: &str) -> Result<&'v Value> {
    item.get(merge_key)
        .map_or_else(|| err(format!("map: {} does not contain declared merge key: {merge_key}", print(item))), Ok)
}

/// Drops later copies as upstream does, which moves the last element into the gap.
fn deduplicate(mut items: Vec<Value>) -> Vec<Value> {
    let mut i = 0;
    while i < items.len() {
        let mut j = i + 1;
        while j < items.len() {
            if items[i] == items[j] {
                items.swap_remove(j);
            } else {
                j += 1;
            }
        }
        i += 1;
    }
    items
}

/// Orders a merged list: what the patch names in the patch's order, the rest in the server's, interleaved so that pairs
/// known to the server keep its order.
fn order(merged: Vec<Value>, patch: &[Value], server: &[Value], merge_key: &str) -> Result<Vec<Value>> {
    let same = |a: &Value, b: &Value| if merge_key.is_empty() { a == b } else { a.get(merge_key) == b.get(merge_key) };
    let index = |list: &[Value], item: &Value| list.iter().position(|x| same(x, item));
    if !merge_key.is_empty() {
        merged.iter().chain(patch).try_for_each(|i| key_of(i, merge_key).map(drop))?;
    }
    let (mut named, mut others): (Vec<Value>, Vec<Value>) = merged.into_iter().partition(|i| index(patch, i).is_some());
    named.sort_by_key(|i| index(patch, i));
    others.sort_by_key(|i| index(server, i).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(other), Some(item)) = (others.peek(), named.peek()) {
        let before = index(server, other).zip(index(server, item)).is_some_and(|(o, i)| o < i);
        out.extend(if before { others.next() } else { named.next() });
    }
    out.extend(named);
    out.extend(others);
    Ok(out)
}

/// The patch's list must be in the order that it asks for.
fn check_order(patch: &[Value], wanted: &[Value], merge_key: &str) -> Result<()> {
    if wanted.is_empty() || patch.is_empty() {
        return Ok(());
    }
    let mut wanted_items = wanted.iter();
    for item in patch.iter().filter(|i| i.get(DIRECTIVE).is_none()) {
        let found = if merge_key.is_empty() {
            wanted_items.any(|w| w == item)
        } else {
            let key = key_of(item, merge_key)?;
            let mut found = false;
            for w in wanted_items.by_ref() {
                if key_of(w, merge_key)? == key {
                    found = true;
                    break;
                }
            }
            found
        };
        if !found {
            let show = |l: &[Value]| print(&Value::Array(l.to_vec()));
            return err(format!(
                "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
                show(patch),
                show(wanted)
            ));
        }
    }
    Ok(())
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, v| !v.is_null());
            map.iter_mut().for_each(|(_, v)| discard_nulls(v));
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// What is left of a patch where there is nothing to merge it with; `None` when it is a directive.
fn without_directives(value: Value) -> Option<Value> {
    Some(match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => return None,
        Value::Object(map) => {
            Value::Object(map.into_iter().filter_map(|(k, v)| Some((k, without_directives(v)?))).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().filter_map(without_directives).collect()),
        other => other,
    })
}
