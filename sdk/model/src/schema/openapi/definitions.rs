//! Types as OpenAPI schemas, with what they refer to.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::Dialect;
use crate::schema::{Elem, Field, ListType, Schema, Shape, Special, Type, TypeId};

/// The definitions of a document under construction.
pub(super) struct Definitions<'s> {
    pub schema: &'s Schema,
    pub dialect: Dialect,
    wanted: BTreeSet<TypeId>,
    pending: Vec<TypeId>,
    /// Type → the (group, version, kind)s it is in this document.
    kinds: BTreeMap<TypeId, BTreeSet<(String, String, String)>>,
}

impl<'s> Definitions<'s> {
    pub fn new(schema: &'s Schema, dialect: Dialect) -> Definitions<'s> {
        Definitions { schema, dialect, wanted: BTreeSet::new(), pending: vec![], kinds: BTreeMap::new() }
    }

    /// A reference to a type, which the document then defines.
    pub fn reference(&mut self, id: TypeId) -> Value {
        if self.wanted.insert(id) {
            self.pending.push(id);
        }
        self.dialect.reference(&self.schema.get(id).name)
    }

    /// A reference to a kind; `None` when the schema does not have it. A kind that every version has is known by it.
    pub fn kind(&mut self, api_version: &str, kind: &str) -> Option<Value> {
        let id = self.schema.lookup(api_version, kind)?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.kinds.entry(id).or_default().insert((group.into(), version.into(), kind.into()));
        Some(self.reference(id))
    }

    /// All definitions.
    pub fn finish(mut self) -> Value {
        let mut out = Map::new();
        while let Some(id) = self.pending.pop() {
            let defined = self.define(id);
            out.insert(self.schema.get(id).name.to_string(), defined);
        }
        Value::Object(out)
    }

    fn define(&mut self, id: TypeId) -> Value {
        let schema = self.schema;
        let ty = schema.get(id);
        let mut out = match &ty.openapi {
            Some(custom) => {
                let mut custom = custom.clone();
                if self.dialect == Dialect::V2 {
                    without_v3(&mut custom);
                }
                custom.as_object().cloned().unwrap_or_default()
            }
            None if ty.special != Special::None => self.special(ty),
            None => Map::from_iter([("type".to_string(), json!("object"))]),
        };
        let description = schema.description(ty);
        if !description.is_empty() {
            out.insert("description".into(), description.into());
        }
        if ty.openapi.is_some() {
            out.entry("properties").or_insert_with(|| json!({}));
            for name in ["apiVersion", "kind", "metadata"] {
                if let (Some(field), Some(properties)) = (ty.field(name), out["properties"].as_object_mut()) {
                    properties.insert(name.into(), self.property(field));
                }
            }
        } else if ty.special == Special::None && !ty.fields.is_empty() {
            let properties: Map<String, Value> =
                ty.fields.iter().map(|f| (f.name.to_string(), self.property(f))).collect();
            out.insert("properties".into(), Value::Object(properties));
            let required: Vec<&str> = ty.fields.iter().filter(|f| f.required).map(|f| f.name.as_ref()).collect();
            if !required.is_empty() {
                out.insert("required".into(), required.into());
            }
        }
        if ty.atomic {
            out.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if ty.preserve_unknown && ty.openapi.is_none() {
            out.insert("x-kubernetes-preserve-unknown-fields".into(), true.into());
        }
        let mut kinds = self.kinds.remove(&id).unwrap_or_default();
        if let Some((version, kind)) = &ty.gvk {
            let (group, version) = version.split_once('/').unwrap_or(("", version));
            kinds.insert((group.into(), version.into(), kind.to_string()));
        }
        if !kinds.is_empty() {
            let kinds: Vec<Value> =
                kinds.into_iter().map(|(g, v, k)| json!({"group": g, "kind": k, "version": v})).collect();
            out.insert("x-kubernetes-group-version-kind".into(), kinds.into());
        }
        Value::Object(out)
    }

    fn special(&mut self, ty: &Type) -> Map<String, Value> {
        let v3 = self.dialect == Dialect::V3;
        let value = match ty.special {
            Special::IntOrString if v3 => {
                json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
            }
            Special::IntOrString => json!({"format": "int-or-string", "type": "string"}),
            Special::Quantity if v3 => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
            Special::Quantity | Special::Duration => json!({"type": "string"}),
            Special::Time | Special::MicroTime => json!({"format": "date-time", "type": "string"}),
            Special::RawExtension => json!({"type": "object"}),
            Special::Json if ty.short_name() == "FieldsV1" => json!({"type": "object"}),
            Special::Strings => json!({"items": {"type": "string"}, "type": "array"}),
            _ => json!({}),
        };
        value.as_object().cloned().unwrap_or_default()
    }

    fn property(&mut self, field: &Field) -> Value {
        let elem = self.elem(field.elem);
        let mut out = match field.shape {
            Shape::One => elem,
            Shape::List => json!({"items": self.defaulted(field.elem, elem), "type": "array"}),
            Shape::Map => json!({"additionalProperties": self.defaulted(field.elem, elem), "type": "object"}),
        };
        // In v3 a reference with anything beside it must be wrapped.
        let description = self.schema.field_description(field);
        let mut beside = Map::new();
        if !description.is_empty() {
            beside.insert("description".into(), description.into());
        }
        if let Some(Ok(default)) = field.default.as_deref().map(serde_json::from_str::<Value>) {
            beside.insert("default".into(), default);
        } else if self.dialect == Dialect::V3 && field.value && field.shape == Shape::One {
            beside.insert("default".into(), json!({}));
        }
        match field.list_type {
            ListType::Map => drop(beside.insert("x-kubernetes-list-type".into(), "map".into())),
            ListType::Set => drop(beside.insert("x-kubernetes-list-type".into(), "set".into())),
            ListType::Atomic if field.shape == Shape::List && field.patch_strategy.is_empty() => {
                drop(beside.insert("x-kubernetes-list-type".into(), "atomic".into()))
            }
            ListType::Atomic => {}
        }
        if !field.list_keys.is_empty() {
            let keys: Vec<&str> = field.list_keys.iter().map(AsRef::as_ref).collect();
            beside.insert("x-kubernetes-list-map-keys".into(), keys.into());
        }
        if field.atomic {
            beside.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if let Some(key) = &field.patch_key {
            beside.insert("x-kubernetes-patch-merge-key".into(), key.as_ref().into());
        }
        if !field.patch_strategy.is_empty() {
            beside.insert("x-kubernetes-patch-strategy".into(), field.patch_strategy.as_ref().into());
        }
        if out.get("$ref").is_some() && !beside.is_empty() && self.dialect == Dialect::V3 {
            out = json!({"allOf": [out]});
        }
        if let Some(map) = out.as_object_mut() {
            map.extend(beside);
        }
        out
    }

    /// An element of a list or map, with the default that upstream's v3 gives to values.
    fn defaulted(&self, elem: Elem, value: Value) -> Value {
        match (self.dialect, elem) {
            (Dialect::V3, Elem::Message(_)) if value.get("$ref").is_some() => json!({"allOf": [value], "default": {}}),
            (Dialect::V3, Elem::String) => json!({"default": "", "type": "string"}),
            (Dialect::V3, Elem::Int32 | Elem::Int64) => {
                let mut value = value;
                value["default"] = 0.into();
                value
            }
            _ => value,
        }
    }

    fn elem(&mut self, elem: Elem) -> Value {
        match elem {
            Elem::String => json!({"type": "string"}),
            Elem::Bool => json!({"type": "boolean"}),
            Elem::Int32 => json!({"format": "int32", "type": "integer"}),
            Elem::Int64 => json!({"format": "int64", "type": "integer"}),
            Elem::Double => json!({"format": "double", "type": "number"}),
            Elem::Bytes => json!({"format": "byte", "type": "string"}),
            Elem::Message(id) if self.schema.get(id).special == Special::Strings => {
                json!({"items": {"type": "string"}, "type": "array"})
            }
            Elem::Message(id) => self.reference(id),
        }
    }
}

/// Drops what a custom resource's schema may say and v2 cannot.
fn without_v3(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|k, v| {
                let keyword = match k.as_str() {
                    "oneOf" | "anyOf" | "not" => v.is_array() || v.is_object(),
                    "nullable" => v.is_boolean(),
                    _ => false,
                };
                !keyword
            });
            map.values_mut().for_each(without_v3);
        }
        Value::Array(items) => items.iter_mut().for_each(without_v3),
        _ => {}
    }
}
