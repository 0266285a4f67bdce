//! Go's names of things, which clients see in error texts.

use serde_json::Value;

use super::{Elem, Field, Schema, Shape, Type};

impl Schema {
    /// The Go type of a field.
    pub(super) fn go_type(&self, field: &Field) -> String {
        match (&field.go, field.shape) {
            (Some(go), _) => go.to_string(),
            (None, Shape::One) => self.go_elem(field.elem),
            (None, Shape::List) => format!("[]{}", self.go_elem(field.elem)),
            (None, Shape::Map) => format!("map[string]{}", self.go_elem(field.elem)),
        }
    }

    /// The Go type of a list's or map's elements.
    pub(super) fn go_element(&self, field: &Field) -> String {
        match field.go.as_deref().and_then(|g| g.strip_prefix("[]")) {
            Some(named) => named.into(),
            None => self.go_elem(field.elem),
        }
    }

    fn go_elem(&self, elem: Elem) -> String {
        match elem {
            Elem::String => "string".into(),
            Elem::Bool => "bool".into(),
            Elem::Int32 => "int32".into(),
            Elem::Int64 => "int64".into(),
            Elem::Double => "float64".into(),
            Elem::Bytes => "[]uint8".into(),
            Elem::Message(id) => go_struct(self.get(id)),
        }
    }
}

/// `v1.DeploymentSpec`.
fn go_struct(ty: &Type) -> String {
    let mut parts = ty.name.rsplit('.');
    let name = parts.next().unwrap_or_default();
    format!("{}.{name}", parts.next().unwrap_or_default())
}

/// A value as Go's `%v` prints it.
pub(super) fn print(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(print).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by(|a, b| a.0.cmp(b.0));
            format!("map[{}]", fields.iter().map(|(k, v)| format!("{k}:{}", print(v))).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}
