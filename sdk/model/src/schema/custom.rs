//! Custom resources: their structural schemas as types of the same kind as the built-in ones.
//!
//! Their values are checked by validation (422), not by decoding (400): so their fields are lenient, keep a JSON value of
//! the wrong type as it is, and know no empty values.

use serde_json::Value;

use super::{Elem, Field, ListType, Schema, Shape, Special, Type, TypeId};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";
const JSON: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

impl Schema {
    /// Adds a custom kind and its list from the `openAPIV3Schema` of one of its versions (`null` for none, which keeps
    /// every field). What was known by that name is replaced.
    pub fn add_custom(&mut self, api_version: &str, kind: &str, list_kind: &str, schema: &Value) -> TypeId {
        let name = |kind: &str| {
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let group: Vec<&str> = group.rsplit('.').collect();
            format!("{}.{version}.{kind}", group.join("."))
        };
        let full = name(kind);
        let mut ty = self.custom_type(&full, schema);
        ty.preserve_unknown |= schema.is_null();
        ty.openapi = (!schema.is_null()).then(|| schema.clone());
        ty.gvk = Some((api_version.to_string().into(), kind.to_string().into()));
        self.add_resource_fields(&mut ty);
        let id = self.add_type(ty);
        self.add_kind(api_version, kind, id);

        let items = Field {
            name: "items".into(),
            shape: Shape::List,
            elem: Elem::Message(id),
            always: true,
            ..Field::default()
        };
        let mut list = Type {
            name: name(list_kind).into(),
            fields: vec![items],
            gvk: Some((api_version.to_string().into(), list_kind.to_string().into())),
            ..Type::default()
        };
        self.put_message(&mut list, "metadata", LIST_META);
        super::table::builtin_type_meta().into_iter().for_each(|f| put(&mut list, f));
        let list = self.add_type(list);
        self.add_kind(api_version, list_kind, list);
        id
    }

    fn add_resource_fields(&self, ty: &mut Type) {
        super::table::builtin_type_meta().into_iter().for_each(|f| put(ty, f));
        self.put_message(ty, "metadata", OBJECT_META);
    }

    fn put_message(&self, ty: &mut Type, name: &'static str, of: &str) {
        if let Some(id) = self.by_name(of) {
            put(ty, Field { name: name.into(), elem: Elem::Message(id), value: true, ..Field::default() });
        }
    }

    fn custom_type(&mut self, name: &str, schema: &Value) -> Type {
        let preserve = schema["x-kubernetes-preserve-unknown-fields"] == true;
        let mut ty = Type { name: name.to_string().into(), preserve_unknown: preserve, ..Type::default() };
        for (property, schema) in schema["properties"].as_object().into_iter().flatten() {
            let mut field = self.custom_field(&format!("{name}.{property}"), schema);
            field.name = property.clone().into();
            put(&mut ty, field);
        }
        if schema["x-kubernetes-embedded-resource"] == true {
            self.add_resource_fields(&mut ty);
        }
        ty
    }

    fn custom_field(&mut self, name: &str, schema: &Value) -> Field {
        let items = &schema["items"];
        let additional = &schema["additionalProperties"];
        let (shape, of) = match schema["type"].as_str() {
            Some("array") if items["type"] != "array" && items["additionalProperties"].is_null() => {
                (Shape::List, items)
            }
            Some("array") => (Shape::One, &Value::Null),
            Some("object") if additional.is_object() && additional["type"] != "array" => {
                let nested = !additional["additionalProperties"].is_null();
                if nested { (Shape::One, &Value::Null) } else { (Shape::Map, additional) }
            }
            _ => (Shape::One, schema),
        };
        let elem = self.custom_elem(name, of);
        let keys = schema["x-kubernetes-list-map-keys"].as_array();
        let atomic = ["x-kubernetes-map-type", "x-kubernetes-list-type"].iter().any(|k| schema[*k] == "atomic");
        Field {
            shape,
            elem,
            lenient: true,
            pointer: true,
            atomic,
            list_type: match schema["x-kubernetes-list-type"].as_str() {
                Some("map") => ListType::Map,
                Some("set") => ListType::Set,
                _ => ListType::Atomic,
            },
            list_keys: keys.into_iter().flatten().filter_map(|k| Some(k.as_str()?.to_string().into())).collect(),
            default: (!schema["default"].is_null()).then(|| schema["default"].to_string().into()),
            ..Field::default()
        }
    }

    fn custom_elem(&mut self, name: &str, schema: &Value) -> Elem {
        let known = |schema: &Schema, name: &str| schema.by_name(name).map_or(Elem::String, Elem::Message);
        if schema["x-kubernetes-int-or-string"] == true {
            return known(self, INT_OR_STRING);
        }
        match schema["type"].as_str() {
            Some("string") => Elem::String,
            Some("boolean") => Elem::Bool,
            Some("integer") => Elem::Int64,
            Some("number") => Elem::Double,
            Some("object") if schema["properties"].is_object() || schema["x-kubernetes-embedded-resource"] == true => {
                let ty = self.custom_type(name, schema);
                Elem::Message(self.add_type(ty))
            }
            // An object without properties loses all its fields, unless it preserves them.
            Some("object")
                if schema["x-kubernetes-preserve-unknown-fields"] != true
                    && !schema["additionalProperties"].is_object() =>
            {
                Elem::Message(self.add_type(Type {
                    name: name.to_string().into(),
                    special: Special::None,
                    ..Type::default()
                }))
            }
            _ => known(self, JSON),
        }
    }
}

/// Adds a field in its place, instead of one of the same name.
fn put(ty: &mut Type, field: Field) {
    match ty.fields.binary_search_by(|f| f.name.cmp(&field.name)) {
        Ok(at) => ty.fields[at] = field,
        Err(at) => ty.fields.insert(at, field),
    }
}
