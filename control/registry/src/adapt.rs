//! The schema table as the registry uses it: one place to change when the table's interface does.

use copepod_model::Status;
use copepod_model::schema::{self, Elem, ListType, Schema, Special};
use serde_json::Value;

/// A type of the schema table.
pub(crate) type Ty = schema::TypeId;

/// Decodes JSON of a type: the value, and what is unknown or twice in it.
pub(crate) fn decode(schema: &Schema, ty: Option<Ty>, bytes: &[u8]) -> Result<(Value, Vec<String>), String> {
    match ty {
        Some(ty) => schema.decode_json(ty, bytes).map_err(|e| e.to_string()),
        None => serde_json::from_slice(bytes).map(|v| (v, Vec::new())).map_err(|e| e.to_string()),
    }
}

/// Checks a value against a type and drops what is unknown: returns what that was.
pub(crate) fn conform(schema: &Schema, ty: Option<Ty>, value: &mut Value) -> Result<Vec<String>, String> {
    ty.map_or(Ok(Vec::new()), |ty| schema.conform(ty, value).map_err(|e| e.to_string()))
}

/// Brings a value of a type into canonical form.
pub(crate) fn normalise(schema: &Schema, ty: Option<Ty>, value: &mut Value) {
    if let Some(ty) = ty {
        schema.normalise(ty, value);
    }
}

/// Adds what upstream shows although nobody set it, such as `status: {}`.
pub(crate) fn complete(schema: &Schema, ty: Option<Ty>, value: &mut Value) {
    if let Some(ty) = ty {
        schema.complete(ty, value);
    }
}

/// Applies a strategic merge patch.
pub(crate) fn strategic_merge(
    schema: &Schema,
    ty: Option<Ty>,
    current: &Value,
    patch: &Value,
) -> Result<Value, Status> {
    // Custom resources have no strategy; upstream answers so.
    let ty = ty
        .filter(|ty| schema.get(*ty).openapi.is_none())
        .ok_or_else(|| Status::unsupported_media_type("application/json-patch+json, application/merge-patch+json"))?;
    schema.strategic_merge(ty, current, patch).map_err(|e| Status::bad_request(e.to_string()))
}

/// Applies a JSON merge patch (RFC 7386).
pub(crate) fn merge_patch(current: &Value, patch: &Value) -> Value {
    let mut out = current.clone();
    schema::merge_patch::merge_patch(&mut out, patch.clone());
    out
}

/// How the values at one place merge, and who can own what of them.
#[derive(Clone, Copy)]
pub(crate) enum Shape<'s> {
    /// Owned and replaced as a whole.
    Leaf,
    /// Fields of their own.
    Struct(Ty),
    /// Entries, each owned alone.
    Map(Elem),
    /// A set of scalars.
    Set,
    /// Items told apart by the values of these fields.
    Keyed(&'s schema::Field),
}

/// The shape of a kind's objects.
pub(crate) fn root<'s>(ty: Option<Ty>) -> Shape<'s> {
    ty.map_or(Shape::Leaf, Shape::Struct)
}

/// The shape of a field of a struct. What the table does not know is owned as a whole.
pub(crate) fn field<'s>(schema: &'s Schema, ty: Ty, name: &str) -> Shape<'s> {
    let Some(field) = schema.get(ty).field(name) else { return Shape::Leaf };
    match (field.shape, field.list_type) {
        _ if field.atomic => Shape::Leaf,
        (schema::Shape::One, _) => element(schema, field.elem),
        (schema::Shape::Map, _) => Shape::Map(field.elem),
        (schema::Shape::List, ListType::Atomic) => Shape::Leaf,
        (schema::Shape::List, ListType::Set) => Shape::Set,
        (schema::Shape::List, ListType::Map) => Shape::Keyed(field),
    }
}

/// The shape of the elements of a list or map.
pub(crate) fn element<'s>(schema: &Schema, elem: Elem) -> Shape<'s> {
    match elem {
        Elem::Message(ty) if schema.get(ty).special == Special::None && !schema.get(ty).atomic => Shape::Struct(ty),
        _ => Shape::Leaf,
    }
}

/// The keys of an item of a keyed list and their values, defaults filled in, as JSON text. One that is
/// absent is left out; `None` if all are.
pub(crate) fn item_key(schema: &Schema, field: &schema::Field, item: &Value) -> Option<String> {
    let Elem::Message(ty) = field.elem else { return None };
    let mut out = serde_json::Map::new();
    for key in &field.list_keys {
        let value = match item.get(key.as_ref()) {
            Some(value) if !value.is_null() => value.clone(),
            _ => {
                let default = schema.get(ty).field(key).and_then(|f| f.default.as_deref());
                match default.and_then(|text| serde_json::from_str(text).ok()) {
                    Some(default) => default,
                    None => continue,
                }
            }
        };
        out.insert(key.to_string(), value);
    }
    (!out.is_empty()).then(|| Value::Object(out).to_string())
}
