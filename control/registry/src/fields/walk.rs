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

/// The shape of the items of a list.
fn item_shape<'s>(schema: &'s Schema, shape: Shape<'s>) -> Shape<'s> {
    match shape {
        Shape::Keyed(field) => adapt::element(schema, field.elem),
        _ => Shape::Leaf,
    }
}

fn is_object(shape: Shape<'_>) -> bool {
    matches!(shape, Shape::Struct(_) | Shape::Map(_))
}

fn field_name(name: &str) -> String {
    format!("f:{name}")
}

/// The items of a keyed list by their keys, in order; `None` if one has none, or two the same: then the list counts as a
/// whole.
fn keyed<'v>(schema: &Schema, field: &schema::Field, list: &'v Value) -> Option<Vec<(String, &'v Value)>> {
    let groups = grouped(schema, Shape::Keyed(field), list.as_array()?)?;
    groups.into_iter().map(|(key, items)| if let [item] = *items { Some((key, item)) } else { None }).collect()
}

/// The items of a keyed list or a set by what tells them apart, in order; `None` if there is nothing that does.
fn grouped<'v>(schema: &Schema, shape: Shape<'_>, items: &'v [Value]) -> Option<Vec<(String, Vec<&'v Value>)>> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut out: Vec<(String, Vec<&Value>)> = Vec::with_capacity(items.len());
    for item in items {
        let key = match shape {
            Shape::Keyed(field) => format!("k:{}", adapt::item_key(schema, field, item)?),
            _ => set_item(item),
        };
        match places.get(&key) {
            Some(place) => out[*place].1.push(item),
            None => {
                places.insert(key.clone(), out.len());
                out.push((key, vec![item]));
            }
        }
    }
    Some(out)
}

fn set_item(value: &Value) -> String {
    format!("v:{value}")
}

/// The fields that `value` names, as upstream's `ToFieldSet` has them: leaves, entries of maps and items of lists.
pub(super) fn named(schema: &Schema, shape: Shape<'_>, value: &Value) -> Set {
    let mut out = Set::default();
    match (shape, value) {
        (Shape::Struct(_) | Shape::Map(_), Value::Object(fields)) => {
            for (name, value) in fields {
                let mut child = named(schema, child_shape(schema, shape, name), value);
                let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                child.member |= empty || matches!(shape, Shape::Map(_));
                out.add(field_name(name), child);
            }
        }
        (Shape::Set | Shape::Keyed(_), Value::Array(items)) => match grouped(schema, shape, items) {
            Some(groups) => {
                for (key, items) in groups {
                    let mut child = match *items {
                        [item] => named(schema, item_shape(schema, shape), item),
                        // Of items that are the same by their keys nobody can tell the fields apart.
                        _ => Set::default(),
                    };
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

/// Compares two values at the same place, of which at least one exists, as upstream's `Compare` does: what comes or goes
/// does so at every level, the place itself included. To say what upstream's answer is, both values have to be complete
/// ([`adapt::complete`]): a struct that is there although it is empty does not come.
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
    let empty = |v: Option<&Value>| match v {
        Some(Value::Object(m)) => m.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        other => other.is_none(),
    };
    if matches!(shape, Shape::Leaf) || !fits(old) || !fits(new) || (empty(old) && empty(new)) {
        return whole(new.is_some());
    }
    let child = |out: &mut Diff, name: &str, shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>| {
        if old != new {
            let diff = compare(schema, shape, old, new);
            out.changed.join(name, diff.changed);
            out.removed.join(name, diff.removed);
        }
    };
    match shape {
        Shape::Struct(_) | Shape::Map(_) => {
            let (old, new) = (fields(old), fields(new));
            for (name, value) in new.iter() {
                child(&mut out, &field_name(name), child_shape(schema, shape, name), old.get(name), Some(value));
            }
            for (name, value) in old.iter().filter(|(name, _)| !new.contains_key(*name)) {
                child(&mut out, &field_name(name), child_shape(schema, shape, name), Some(value), None);
            }
        }
        Shape::Set | Shape::Keyed(_) => {
            let (Some(olds), Some(news)) = (grouped(schema, shape, items(old)), grouped(schema, shape, items(new)))
            else {
                return whole(new.is_some());
            };
            let element = item_shape(schema, shape);
            let mut olds: BTreeMap<String, Vec<&Value>> = olds.into_iter().collect();
            for (key, new) in news {
                let old = olds.remove(&key).unwrap_or_default();
                match (&*old, &*new) {
                    ([] | [_], [new]) => child(&mut out, &key, element, old.first().copied(), Some(*new)),
                    // Items that are the same by their keys come, go and change together.
                    ([] | [_], _) => {
                        old.iter().for_each(|old| child(&mut out, &key, element, Some(*old), None));
                        out.changed.join(&key, Set::leaf());
                    }
                    (_, [new]) => {
                        child(&mut out, &key, element, None, Some(*new));
                        out.removed.join(&key, Set::leaf());
                    }
                    _ if old == new => {}
                    _ => out.changed.join(&key, Set::leaf()),
                }
            }
            for (key, old) in olds {
                match *old {
                    [old] => child(&mut out, &key, element, Some(old), None),
                    _ => out.removed.join(&key, Set::leaf()),
                }
            }
        }
        Shape::Leaf => {}
    }
    out.changed.member |= old.is_none();
    out.removed.member |= new.is_none();
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
