//! `metadata.managedFields`: an entry per manager, operation and subresource.

use copepod_model::Time;
use copepod_model::schema::Schema;
use serde_json::{Value, json};

use super::walk::{self, Diff};
use super::{Set, told};
use crate::adapt::{self, Ty};
use crate::call::Call;
use crate::value::{self, list, text};

pub(super) const UPDATE: &str = "Update";
pub(super) const APPLY: &str = "Apply";
/// So many entries of plain updates are kept apart; older ones become one.
const MAX_UPDATES: usize = 10;
const ANCIENT: &str = "ancient-changes";

/// What server-side apply knows of the entries.
pub(crate) struct Applied {
    /// Its own: the fields that the applied configuration names.
    pub(crate) fields: Set,
    /// One for what was set before anyone applied, if nobody had one.
    pub(crate) first: Option<Entry>,
}

/// One entry, decoded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: String,
    pub(crate) operation: String,
    pub(crate) api_version: String,
    pub(crate) time: String,
    pub(crate) subresource: String,
    pub(crate) fields: Set,
}

impl Entry {
    pub(super) fn of(v: &Value) -> Entry {
        let own = |name| text(v, name).to_string();
        Entry {
            manager: own("manager"),
            operation: own("operation"),
            api_version: own("apiVersion"),
            time: own("time"),
            subresource: own("subresource"),
            fields: told::fields(&v["fieldsV1"]),
        }
    }

    /// Whether it is the same manager's, in the same way.
    pub(super) fn is_like(&self, other: &Entry) -> bool {
        (&self.manager, &self.operation, &self.subresource) == (&other.manager, &other.operation, &other.subresource)
            && (self.operation == APPLY || self.api_version == other.api_version)
    }

    pub(super) fn to_json(&self) -> Value {
        let mut out = json!({
            "manager": self.manager, "operation": self.operation, "apiVersion": self.api_version,
            "fieldsType": "FieldsV1", "fieldsV1": self.fields.to_json(),
        });
        for (name, value) in [("time", &self.time), ("subresource", &self.subresource)] {
            if !value.is_empty() {
                out[name] = value.as_str().into();
            }
        }
        out
    }

    /// Whether it is the entry of who sends this request, by this operation.
    pub(crate) fn is_of(&self, call: &Call<'_, '_>, applied: bool) -> bool {
        let Entry { manager, operation, api_version, subresource, .. } = self;
        Whose { manager, operation, api_version, subresource }.is(call, applied)
    }

    /// How upstream's messages name it.
    pub(crate) fn describe(&self) -> String {
        let mut out = format!("{:?}", self.manager);
        if !self.subresource.is_empty() {
            out.push_str(&format!(" with subresource {:?}", self.subresource));
        }
        if self.operation == UPDATE {
            out.push_str(&format!(" using {}", self.api_version));
        }
        out
    }
}

/// Whose an entry is.
struct Whose<'e> {
    manager: &'e str,
    operation: &'e str,
    api_version: &'e str,
    subresource: &'e str,
}

impl Whose<'_> {
    fn of(entry: &Value) -> Whose<'_> {
        let [manager, operation, api_version, subresource] =
            ["manager", "operation", "apiVersion", "subresource"].map(|name| text(entry, name));
        Whose { manager, operation, api_version, subresource }
    }

    /// Whether it is that of who sends this request, by this operation.
    fn is(&self, call: &Call<'_, '_>, applied: bool) -> bool {
        self.operation == if applied { APPLY } else { UPDATE }
            && self.manager == manager(call)
            && self.subresource == call.part.name()
            && (applied || self.api_version == call.kind.api_version())
    }
}

/// Who sends the request, at most 128 characters of it.
fn manager(call: &Call<'_, '_>) -> String {
    match &*call.req.field_manager {
        "" => "unknown".into(),
        name => name.chars().take(128).collect(),
    }
}

fn fresh(call: &Call<'_, '_>, applied: bool, fields: Set) -> Entry {
    Entry {
        manager: manager(call),
        operation: if applied { APPLY } else { UPDATE }.into(),
        api_version: call.kind.api_version(),
        time: call.env.now.rfc3339(),
        subresource: call.part.name().into(),
        fields,
    }
}

/// The entries of an object.
pub(crate) fn entries(object: &Value) -> Vec<Entry> {
    list(&object["metadata"], "managedFields").iter().map(Entry::of).collect()
}

/// The fields of metadata that belong to the server, and what names the object.
const UNOWNED: &[&str] = &[
    "f:name",
    "f:namespace",
    "f:creationTimestamp",
    "f:selfLink",
    "f:uid",
    "f:generation",
    "f:managedFields",
    "f:resourceVersion",
];

/// Takes out of a set of an object's fields what nobody manages.
pub(super) fn strip(fields: &mut Set) {
    fields.member = false;
    fields.children.remove("f:apiVersion");
    fields.children.remove("f:kind");
    if let Some(meta) = fields.children.get_mut("f:metadata") {
        meta.member = false;
        for name in UNOWNED {
            meta.children.remove(*name);
        }
        if meta.is_empty() {
            fields.children.remove("f:metadata");
        }
    }
}

/// What differs between two versions of a complete object, as far as anyone manages it. What a new object differs from is
/// an empty one.
pub(super) fn difference(schema: &Schema, ty: Option<Ty>, old: Option<&Value>, new: &Value) -> Diff {
    let empty;
    let old = match old {
        Some(old) => old,
        None => {
            let mut value = json!({});
            adapt::complete(schema, ty, &mut value);
            empty = value;
            &empty
        }
    };
    let mut diff = walk::compare(schema, adapt::root(ty), Some(old), Some(new));
    strip(&mut diff.changed);
    strip(&mut diff.removed);
    diff
}

/// The entries of a new object as its client has sent it, complete and defaulted: upstream settles them before admission
/// and storage add what is theirs. Who is `told` to manage fields of it keeps what the creator does not set.
pub(crate) fn created(
    call: &Call<'_, '_>,
    object: &Value,
    applied: Option<Applied>,
    told: Option<Vec<Entry>>,
) -> Entries {
    let is_applied = applied.is_some();
    let fields = match applied {
        Some(applied) => applied.fields,
        None => difference(&call.registry.schema, call.ty, None, object).changed,
    };
    let mut all = told.unwrap_or_default();
    let mut entry = fresh(call, is_applied, fields);
    all.iter_mut().for_each(|e| e.fields.subtract(&entry.fields));
    if let Some(mine) = all.iter().position(|e| e.is_like(&entry)) {
        entry.fields.union(&all.swap_remove(mine).fields);
    }
    all.push(entry);
    Entries::New(listed(all))
}

/// The entries that manage something, in their order.
fn listed(mut all: Vec<Entry>) -> Value {
    all.retain(|e| !e.fields.is_empty());
    forget_old(&mut all);
    let mut all: Vec<Value> = all.iter().map(Entry::to_json).collect();
    all.sort_by(|a, b| order(a).cmp(&order(b)));
    all.into()
}

/// What a change makes of the entries.
#[derive(Debug, PartialEq)]
pub(crate) enum Entries {
    /// They stay; the one at this place, if any, has the time of the change.
    Kept(Option<usize>),
    /// They are these from now on.
    New(Value),
}

impl Entries {
    /// Whether they say something else than those of the stored object do. When is not what: it is no reason to write an object.
    pub(crate) fn differ_from(&self, stored: &Value) -> bool {
        matches!(self, Entries::New(entries) if !same(entries, stored))
    }

    /// Writes them at `now` into an object that has the stored ones, if there are any; one that nobody manages has none.
    pub(crate) fn write(self, object: &mut Value, now: Time) {
        let meta = value::child(object, "metadata");
        match self {
            Entries::Kept(None) => {}
            Entries::Kept(Some(place)) => {
                let all = meta.get_mut("managedFields").and_then(Value::as_array_mut);
                let Some(all) = all.filter(|all| all.len() > place) else { return };
                all[place]["time"] = now.rfc3339().into();
                all.sort_by(|a, b| order(a).cmp(&order(b)));
            }
            Entries::New(Value::Array(entries)) if !entries.is_empty() => {
                meta.insert("managedFields".into(), entries.into());
            }
            Entries::New(_) => drop(meta.remove("managedFields")),
        }
    }
}

/// The entries of a list in their order: appliers first, then by age, as upstream.
fn order(entry: &Value) -> [&str; 3] {
    ["operation", "time", "manager"].map(|name| text(entry, name))
}

/// The entries after a change as its client wants it, complete and defaulted, as for a new object: who sends it owns what
/// it changed, and nobody owns what is gone. `told` are those that it starts from, if not the stored ones.
pub(crate) fn updated(
    call: &Call<'_, '_>,
    before: &Value,
    after: &Value,
    applied: Option<Applied>,
    told: Option<Vec<Entry>>,
) -> Entries {
    let stored = list(&before["metadata"], "managedFields");
    if applied.is_none() && told.as_ref().map_or(stored.is_empty(), Vec::is_empty) {
        // Of an object that nobody manages no account is kept until somebody applies to it.
        return Entries::New(json!([]));
    }
    let diff = difference(&call.registry.schema, call.ty, Some(before), after);
    if applied.is_none()
        && told.is_none()
        && let Some(kept) = kept(call, stored, &diff)
    {
        return kept;
    }
    let mut all = told.unwrap_or_else(|| entries(before));
    all.extend(applied.as_ref().and_then(|a| a.first.clone()));
    Entries::New(moved(call, all, &diff, applied))
}

/// What most changes come to, without a look at more than they touch: who sends one owns all of it already, or it changes
/// nothing that anyone owns. `None` if it is another.
fn kept(call: &Call<'_, '_>, stored: &[Value], diff: &Diff) -> Option<Entries> {
    let mut mine = None;
    for (place, entry) in stored.iter().enumerate() {
        let fields = &entry["fieldsV1"];
        if touches(fields, &diff.removed) {
            return None;
        }
        if Whose::of(entry).is(call, false) {
            mine = Some(place).filter(|_| holds(fields, &diff.changed));
            mine?;
        } else if touches(fields, &diff.changed) {
            return None;
        }
    }
    match diff.changed.is_empty() {
        true => Some(Entries::Kept(None)),
        false => mine.map(|place| Entries::Kept(Some(place))),
    }
}

/// Whether fields as they are stored have a place of a set.
pub(super) fn touches(fields: &Value, set: &Set) -> bool {
    set.children.iter().any(|(name, below)| {
        fields.get(&**name).is_some_and(|there| below.member && is_member(there) || touches(there, below))
    })
}

/// Whether they have all of it.
pub(super) fn holds(fields: &Value, set: &Set) -> bool {
    set.children.iter().all(|(name, below)| {
        fields.get(&**name).is_some_and(|there| (!below.member || is_member(there)) && holds(there, below))
    })
}

fn is_member(there: &Value) -> bool {
    there.as_object().is_some_and(|below| below.is_empty() || below.contains_key("."))
}

/// The entries when what differs has changed hands.
fn moved(call: &Call<'_, '_>, mut all: Vec<Entry>, diff: &Diff, applied: Option<Applied>) -> Value {
    let is_applied = applied.is_some();
    let mine = all.iter().position(|e| e.is_of(call, is_applied));
    let had = mine.map(|i| all[i].fields.clone());
    let changes = !diff.changed.is_empty();
    for (i, entry) in all.iter_mut().enumerate() {
        entry.fields.subtract(&diff.removed);
        if Some(i) != mine {
            entry.fields.subtract(&diff.changed);
        }
    }
    let mut fields = match (&applied, mine) {
        (Some(applied), _) => applied.fields.clone(),
        (None, Some(i)) => all[i].fields.clone(),
        (None, None) => Set::default(),
    };
    if !is_applied {
        fields.union(&diff.changed);
    }
    // Who writes another value into a field of its own is there anew.
    let same = !changes && had.is_some_and(|had| had == fields);
    match mine {
        Some(i) if same => all[i].fields = fields,
        Some(i) => all[i] = fresh(call, is_applied, fields),
        None => all.push(fresh(call, is_applied, fields)),
    }
    listed(all)
}

/// Makes one entry of the oldest plain updates when there are too many.
fn forget_old(all: &mut Vec<Entry>) {
    loop {
        let mut updates: Vec<usize> = (0..all.len()).filter(|i| all[*i].operation == UPDATE).collect();
        if updates.len() <= MAX_UPDATES {
            return;
        }
        // One that was made so before comes first, whatever its time.
        updates.sort_by(|a, b| {
            (all[*a].manager != ANCIENT, &all[*a].time).cmp(&(all[*b].manager != ANCIENT, &all[*b].time))
        });
        let (oldest, next) = (updates[0], updates[1]);
        let time = all[oldest].time.clone().max(all[next].time.clone());
        let fields = std::mem::take(&mut all[next].fields);
        let into = &mut all[oldest];
        into.fields.union(&fields);
        into.manager = ANCIENT.into();
        into.subresource = String::new();
        into.time = time;
        all.remove(next);
    }
}

/// Whether two lists of entries say the same, whenever it was said.
fn same(a: &Value, b: &Value) -> bool {
    let items = |v: &'_ Value| v.as_array().map_or(0, Vec::len);
    items(a) == items(b)
        && a.as_array()
            .into_iter()
            .flatten()
            .zip(b.as_array().into_iter().flatten())
            .all(|(a, b)| value::same_but(a, b, &["time"]))
}
