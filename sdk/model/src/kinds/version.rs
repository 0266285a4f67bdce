//! The other versions of a kind: what clients see and send, converted from and to the one that is stored.

use std::sync::Arc;

use serde_json::Value;

use super::{Column, Kind, Strategy};
use crate::object::{encode, with_revision};
use crate::schema::Schema;
use crate::{FieldError, Object, Time};

/// A version that is served besides the stored one. The functions see whole objects; `apiVersion` is set by the caller.
#[derive(Clone, Copy, Debug)]
pub struct Version {
    /// Its name, such as `v1`.
    pub name: &'static str,
    /// Fills in this version's own defaults, before the object is converted.
    pub default: fn(&mut Value),
    /// Makes the stored version of an object of this one. What it cannot express there does not exist.
    pub to_storage: fn(&mut Value),
    /// Makes this version of a stored object.
    pub from_storage: fn(&mut Value),
}

impl Kind {
    /// The version of that name, if it is not the stored one.
    pub fn other_version(&self, name: &str) -> Option<&'static Version> {
        self.strategy.versions().iter().find(|v| v.name == name)
    }
    /// Whether clients may ask for that version.
    pub fn serves(&self, version: &str) -> bool {
        self.version == version || self.other_version(version).is_some()
    }
    /// `v1` or `apps/v1`, of another version of this kind.
    pub fn api_version_at(&self, version: &str) -> String {
        if self.group.is_empty() { version.into() } else { format!("{}/{version}", self.group) }
    }
    /// The kind as clients of that version see it.
    pub(super) fn at(&self, version: &'static Version) -> Kind {
        let strategy = Arc::new(At { storage: self.strategy.clone(), version });
        Kind { version: version.name, strategy, ..self.clone() }
    }
    /// Makes that version of a stored object's value.
    pub fn from_storage(&self, version: &Version, value: &mut Value) {
        let api_version = self.api_version_at(version.name);
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
    fn selectable_fields(&self) -> &'static [&'static str] {
        self.storage.selectable_fields()
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
