//! Fits the wanted endpoints into slices with as few writes as possible: endpoints stay in the slice they are in; what is
//! new goes into slices that change anyway, then into one with room, then into new slices.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Slices, Wanted, identity};
use crate::support::ports::Port;

/// A write.
#[derive(Debug, PartialEq)]
pub(super) enum Change {
    /// A new slice of these ports and endpoints.
    Create(Vec<Port>, Vec<Value>),
    /// This object, in full but for its metadata.
    Update(Value),
    /// This object is to go.
    Delete(Value),
}

struct Slice {
    object: Value,
    endpoints: Vec<Value>,
    changed: bool,
}

/// The changes that turn `existing` (of one address type) into `wanted`.
pub(super) fn pack(existing: Vec<Value>, mut wanted: Wanted, slices: &Slices<'_>) -> Vec<Change> {
    if wanted.is_empty() && slices.keep_one {
        wanted.insert(Vec::new(), BTreeMap::new());
    }
    let mut out = Vec::new();
    let mut by_ports: BTreeMap<Vec<Port>, Vec<Value>> = BTreeMap::new();
    for object in existing {
        let group = Port::list(&object["ports"]);
        if wanted.contains_key(&group) {
            by_ports.entry(group).or_default().push(object);
        } else {
            out.push(Change::Delete(object));
        }
    }
    for (ports, endpoints) in wanted {
        one_group(by_ports.remove(&ports).unwrap_or_default(), ports, endpoints, slices, &mut out);
    }
    out
}

fn one_group(
    existing: Vec<Value>,
    ports: Vec<Port>,
    mut wanted: BTreeMap<String, Value>,
    terms: &Slices<'_>,
    out: &mut Vec<Change>,
) {
    let placeholder = wanted.is_empty();
    let mut slices: Vec<Slice> = existing.into_iter().map(|object| keep(object, &mut wanted, terms)).collect();
    let mut fresh = wanted.into_values();
    for slice in slices.iter_mut().filter(|s| s.changed) {
        let room = terms.max.saturating_sub(slice.endpoints.len());
        slice.endpoints.extend(fresh.by_ref().take(room));
    }
    // The remainder that fills no slice of its own goes where it fits, into the fullest such slice.
    let mut rest: Vec<Value> = fresh.collect();
    let tail = rest.len() % terms.max;
    if tail > 0 {
        let fits = |s: &&mut Slice| !s.changed && s.endpoints.len() + tail <= terms.max;
        if let Some(slice) = slices.iter_mut().filter(fits).max_by_key(|s| s.endpoints.len()) {
            slice.endpoints.extend(rest.split_off(rest.len() - tail));
            slice.changed = true;
        }
    }
    let mut kept = 0;
    for slice in slices {
        let empty = slice.endpoints.is_empty();
        if empty && !(placeholder && kept == 0) {
            out.push(Change::Delete(slice.object));
            continue;
        }
        kept += 1;
        if slice.changed {
            let mut object = slice.object;
            object["endpoints"] = slice.endpoints.into();
            out.push(Change::Update(object));
        }
    }
    while !rest.is_empty() || (placeholder && kept == 0) {
        let more = rest.split_off(rest.len().min(terms.max));
        out.push(Change::Create(ports.clone(), std::mem::replace(&mut rest, more)));
        kept += 1;
    }
}

/// Takes out of `wanted` what this slice already lists.
fn keep(object: Value, wanted: &mut BTreeMap<String, Value>, terms: &Slices<'_>) -> Slice {
    let mut changed = !terms.described(&object);
    let mut endpoints = Vec::new();
    for old in object["endpoints"].as_array().into_iter().flatten() {
        match wanted.remove(&identity(old)) {
            Some(new) => {
                changed |= new != *old;
                endpoints.push(new);
            }
            None => changed = true,
        }
    }
    Slice { object, endpoints, changed }
}
