//! The other versions of a kind, in its own group or in another: what clients see and send, converted from and to the one that is
//! stored.

use std::sync::Arc;

use serde_json::Value;

use super::{Column, Kind, Strategy, api_version};
use crate::object::{encode, with_revision};
use crate::schema::Schema;
use crate::{FieldError, Object, Time};

/// A version that is served besides the stored one. The functions see whole objects; `apiVersion` is set by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// Its group, where that is not the stored version's.
    pub group: Option<&'static str>,
    /// Its name, such as `v1`.
    pub name: &'static str,
    /// Fills in this version's own defaults, before the object is converted.
    pub default: fn(&mut Value),
    /// Makes the stored version of an object of this one. What it cannot express there does not exist.
    pub to_storage: fn(&mut Value),
    /// Makes this version of a stored object.
    pub from_storage: fn(&mut Value),
    /// Further errors of what is written by this version: of the new object and, of a change, of the old one, both as they are
    /// stored. The errors so far are given, to be called by this version's names.
    pub validate: fn(&Value, Option<&Value>, &mut Vec<FieldError>),
    /// The selectable fields by their names in this version, and by those in the stored one; none where they are the same.
    pub fields: Option<&'static [(&'static str, &'static str)]>,
}

impl Version {
    /// A version in the stored one's group that has no rules and no selectable fields of its own.
    pub const fn new(
        name: &'static str,
        default: fn(&mut Value),
        to_storage: fn(&mut Value),
        from_storage: fn(&mut Value),
    ) -> Version {
        Version { group: None, name, default, to_storage, from_storage, validate: |_, _, _| {}, fields: None }
    }
}

impl Kind {
    /// The version of that group and name, if it is not the stored one.
    pub fn other_version(&self, group: &str, name: &str) -> Option<&'static Version> {
        let served = |v: &&Version| v.name == name && v.group.unwrap_or(self.group) == group;
        self.strategy.versions().iter().find(served)
    }
    /// Whether clients may ask for that version.
    pub fn serves(&self, group: &str, version: &str) -> bool {
        (self.group, self.version) == (group, version) || self.other_version(group, version).is_some()
    }
    /// The kind as clients of that version see it.
    pub(super) fn at(&self, version: &'static Version) -> Kind {
        let strategy = Arc::new(At { storage: self.strategy.clone(), version });
        Kind { group: version.group.unwrap_or(self.group), version: version.name, strategy, ..self.clone() }
    }
    /// `v1` or `apps/v1`, of another version of this kind.
    pub fn api_version_at(&self, version: &Version) -> String {
        api_version(version.group.unwrap_or(self.group), version.name)
    }
    /// What the stored version calls a field that clients of that one (none: the stored one) may select by, besides
    /// `metadata.name` and `metadata.namespace`; none of what they may not.
    pub fn selectable<'f>(&self, version: Option<&Version>, field: &'f str) -> Option<&'f str> {
        match version.and_then(|v| v.fields) {
            Some(fields) => fields.iter().find(|(here, _)| *here == field).map(|(_, stored)| *stored),
            None => self.strategy.selectable_fields().contains(&field).then_some(field),
        }
    }
    /// Makes that version of a stored object's value.
    pub fn from_storage(&self, version: &Version, value: &mut Value) {
        let api_version = self.api_version_at(version);
        (version.from_storage)(value);
        value["apiVersion"] = api_version.as_str().into();
        let schema = Schema::builtin();
        if let Some(ty) = schema.lookup(&api_version, self.kind) {
            schema.complete(ty, value);
        }
    }
    /// Makes the stored version of an object of that one.
    pub fn to_storage(&self, version: &Version, value: &mut Value) {
        (version.default)(value);
        (version.to_storage)(value);
        value["apiVersion"] = self.api_version().into();
    }
    /// A stored object as clients of that version see it.
    pub fn convert(&self, version: &Version, object: &Object) -> Arc<Object> {
        let mut value = object.value();
        self.from_storage(version, &mut value);
        let body = with_revision(&encode(&value), object.revision);
        Arc::new(Object::decode(object.key.clone(), object.revision, body))
    }
}

/// The strategy of a kind at another version: it only shows objects. What is written is converted first.
struct At {
    storage: Arc<dyn Strategy>,
    version: &'static Version,
}

impl Strategy for At {
    fn default(&self, object: &mut Value) {
        (self.version.default)(object);
    }
    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let mut stored = object.clone();
        (self.version.default)(&mut stored);
        (self.version.to_storage)(&mut stored);
        self.storage.default(&mut stored);
        self.storage.validate(&stored, errors);
    }
    fn validate_name(&self, name: &str) -> Result<(), String> {
        self.storage.validate_name(name)
    }
    fn columns(&self) -> Vec<Column> {
        self.storage.columns()
    }
    fn cells(&self, object: &Value, now: Time) -> Vec<Value> {
        let mut stored = object.clone();
        (self.version.to_storage)(&mut stored);
        self.storage.cells(&stored, now)
    }
}
