//! Walking objects along their schema: which fields a value names, what differs between two, merging and taking away.

use std::borrow::Cow;
use std::collections::BTreeMap;

use copepod_model::schema::{self, Schema};
use serde_json::{Map, Value};

use super::Set;
use crate::adapt::{self, Shape};

fn child_shape<'s>(schema: &'s Schema, shape: Shape<'s>, name: &str) -> Shape<'s> {
    match shape {
        Shape::Struct(ty) => adapt::field(schema, ty, name),
        Shape::Map(elem) => adapt::element(schema, elem),
        _ => Shape::Leaf,
    }
}

fn is_object(shape: Shape<'_>) -> bool {
    matches!(shape, Shape::Struct(_) | Shape::Map(_))
}

fn field_name(name: &str) -> String {
    format!("f:{name}")
}

/// The items of a keyed list by their keys; `None` if one has none, or two the same: then the list counts as a whole.
fn keyed<'v>(schema: &Schema, field: &schema::Field, list: &'v Value) -> Option<Vec<(String, &'v Value)>> {
    let items = list.as_array()?;
    let mut seen = BTreeMap::new();
    let mut out = Vec::with_capacity(items.len());
    for item in items {
        let key = format!("k:{}", adapt::item_key(schema, field, item)?);
        if seen.insert(key.clone(), ()).is_some() {
            return None;
        }
        out.push((key, item));
    }
    Some(out)
}

fn set_item(value: &Value) -> String {
    format!("v:{value}")
}

/// The fields that `value` names.
pub(super) fn named(schema: &Schema, shape: Shape<'_>, value: &Value) -> Set {
    let mut out = Set::default();
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) if !fields.is_empty() => {
            for (name, value) in fields {
                let mut child = named(schema, child_shape(schema, shape, name), value);
                child.member |= matches!(shape, Shape::Map(_));
                out.add(field_name(name), child);
            }
        }
        (Shape::Set, Value::Array(items)) if !items.is_empty() => {
            for item in items {
                out.add(set_item(item), Set::leaf());
            }
        }
        (Shape::Keyed(field), Value::Array(items)) if !items.is_empty() => match keyed(schema, field, value) {
            Some(items) => {
                for (key, item) in items {
                    let mut child = named(schema, adapt::element(schema, field.elem), item);
                    child.member = true;
                    out.add(key, child);
                }
            }
            None => out.member = true,
        },
        _ => out.member = true,
    }
    out
}

/// What differs between two objects.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Diff {
    /// Fields that are new or have another value.
    pub(super) changed: Set,
    /// Fields that are gone.
    pub(super) removed: Set,
}

/// Compares two values at the same place, of which at least one exists.
pub(super) fn compare(schema: &Schema, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Diff {
    let mut out = Diff::default();
    if old == new {
        return out;
    }
    let fits = |v: Option<&Value>| match v {
        None => true,
        Some(v) if is_object(shape) => v.is_object(),
        Some(v) => v.is_array() && !matches!(shape, Shape::Leaf),
    };
    if matches!(shape, Shape::Leaf) || !fits(old) || !fits(new) {
        return whole(new.is_some());
    }
    // A map that comes or goes is itself a change; a struct is one only if there is nothing in it.
    let empty = |v: Option<&Value>| match v {
        Some(Value::Object(m)) => m.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        _ => false,
    };
    let counts = |v| matches!(shape, Shape::Map(_)) || empty(v);
    out.changed.member = old.is_none() && counts(new);
    out.removed.member = new.is_none() && counts(old);
    let mut child = |name: &str, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>, item: bool| {
        if old == new {
            return;
        }
        let mut diff = compare(schema, shape, old, new);
        if item {
            diff.changed.member |= old.is_none();
            diff.removed.member |= new.is_none();
        }
        out.changed.add(name, diff.changed);
        out.removed.add(name, diff.removed);
    };
    match shape {
        Shape::Struct(_) | Shape::Map(_) => {
            let (old, new) = (fields(old), fields(new));
            for (name, value) in new.iter() {
                child(&field_name(name), child_shape(schema, shape, name), old.get(name), Some(value), false);
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                child(&field_name(name), child_shape(schema, shape, name), Some(value), None, false);
            }
        }
        Shape::Set => {
            let (old, new) = (items(old), items(new));
            for item in new.iter().filter(|i| !old.contains(i)) {
                child(&set_item(item), Shape::Leaf, None, Some(item), false);
            }
            for item in old.iter().filter(|i| !new.contains(i)) {
                child(&set_item(item), Shape::Leaf, Some(item), None, false);
            }
        }
        Shape::Keyed(field) => {
            let none = || Some(Vec::new());
            let (Some(old), Some(new_items)) = (
                old.map_or_else(none, |v| keyed(schema, field, v)),
                new.map_or_else(none, |v| keyed(schema, field, v)),
            ) else {
                return whole(new.is_some());
            };
            let element = adapt::element(schema, field.elem);
            let mut old: BTreeMap<String, &Value> = old.into_iter().collect();
            for (key, item) in new_items {
                let before = old.remove(&key);
                child(&key, element, before, Some(item), true);
            }
            for (key, item) in old {
                child(&key, element, Some(item), None, true);
            }
        }
        Shape::Leaf => {}
    }
    out
}

fn whole(exists: bool) -> Diff {
    match exists {
        true => Diff { changed: Set::leaf(), removed: Set::default() },
        false => Diff { changed: Set::default(), removed: Set::leaf() },
    }
}

fn fields(v: Option<&Value>) -> Cow<'_, Map<String, Value>> {
    v.and_then(Value::as_object).map_or_else(|| Cow::Owned(Map::new()), Cow::Borrowed)
}

fn items(v: Option<&Value>) -> &[Value] {
    v.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// `live` with what `config` names put in.
pub(super) fn merge(schema: &Schema, shape: Shape<'_>, live: &mut Value, config: &Value) {
    match (shape, &mut *live, config) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(live), Value::Object(config)) => {
            for (name, value) in config.iter().filter(|(_, v)| !v.is_null()) {
                match live.get_mut(name) {
                    Some(old) => merge(schema, child_shape(schema, shape, name), old, value),
                    None => drop(live.insert(name.clone(), value.clone())),
                }
            }
        }
        (Shape::Set, Value::Array(live), Value::Array(config)) => {
            for item in config {
                if !live.contains(item) {
                    live.push(item.clone());
                }
            }
        }
        (Shape::Keyed(field), Value::Array(items), Value::Array(_)) => {
            let Some(wanted) = keyed(schema, field, config) else {
                *live = config.clone();
                return;
            };
            for (key, item) in wanted {
                let same = |i: &&mut Value| adapt::item_key(schema, field, i).is_some_and(|k| key[2..] == k);
                match items.iter_mut().find(same) {
                    Some(old) => merge(schema, adapt::element(schema, field.elem), old, item),
                    None => items.push(item.clone()),
                }
            }
        }
        _ => *live = config.clone(),
    }
}

/// Takes the fields of `gone` out of `value`, except those that are in `kept` or have something below them that is.
pub(super) fn take_away(schema: &Schema, shape: Shape<'_>, value: &mut Value, gone: &Set, kept: &Set) {
    // Whether a child is to go as a whole.
    let goes = |name: &str| {
        let marked = gone.children.get(name).is_some_and(|s| s.member);
        marked && !kept.children.contains_key(name)
    };
    let nothing = Set::default();
    let below = |name: &str| Some((gone.children.get(name)?, kept.children.get(name).unwrap_or(&nothing)));
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
            fields.retain(|name, value| {
                let full = field_name(name);
                if goes(&full) {
                    return false;
                }
                let Some((gone, kept)) = below(&full) else { return true };
                let was_empty = is_void(value);
                take_away(schema, child_shape(schema, shape, name), value, gone, kept);
                // What held only such fields goes with them.
                was_empty || !is_void(value) || !kept.is_empty()
            });
        }
        (Shape::Set, Value::Array(items)) => items.retain(|item| !goes(&set_item(item))),
        (Shape::Keyed(field), Value::Array(items)) => items.retain_mut(|item| {
            let Some(key) = adapt::item_key(schema, field, item).map(|k| format!("k:{k}")) else { return true };
            if goes(&key) {
                return false;
            }
            if let Some((gone, kept)) = below(&key) {
                take_away(schema, adapt::element(schema, field.elem), item, gone, kept);
            }
            true
        }),
        _ => {}
    }
}

fn is_void(value: &Value) -> bool {
    match value {
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}
