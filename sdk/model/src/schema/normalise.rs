//! Equal objects, equal bytes: nulls go, empty values go where upstream's JSON omits them, quantities and times become
//! canonical. And the opposite: what upstream writes even when it is empty.

use serde_json::{Map, Value};

use super::{Elem, Field, Schema, Shape, Special, TypeId, values};

impl Schema {
    /// Brings `value` into canonical form. Values of the wrong type stay: decoding has refused them before.
    ///
    /// Messages stay even if they are empty (`emptyDir: {}`, `podSelector: {}`), and so do zeros of upstream's pointers
    /// (`replicas: 0`).
    pub fn normalise(&self, ty: TypeId, value: &mut Value) {
        if let Value::Object(map) = value {
            self.normalise_struct(ty, map);
        }
    }

    fn normalise_struct(&self, ty: TypeId, map: &mut Map<String, Value>) {
        let ty = self.get(ty);
        map.retain(|name, value| match ty.field(name) {
            Some(field) => self.normalise_field(field, value),
            None => true,
        });
    }

    /// Whether the field stays.
    fn normalise_field(&self, field: &Field, value: &mut Value) -> bool {
        let keep_empty = field.pointer || field.always;
        match (field.shape, value) {
            (_, Value::Null) => field.lenient,
            (Shape::One, value) => self.normalise_one(field.elem, value) && (keep_empty || !is_zero(field.elem, value)),
            (Shape::List, Value::Array(items)) => {
                for item in items.iter_mut() {
                    self.normalise_one(field.elem, item);
                }
                keep_empty || !items.is_empty()
            }
            (Shape::Map, Value::Object(map)) => {
                if matches!(field.elem, Elem::Message(_)) {
                    for (_, item) in map.iter_mut() {
                        self.normalise_one(field.elem, item);
                    }
                }
                keep_empty || !map.is_empty()
            }
            _ => true,
        }
    }

    /// Whether the value stays.
    fn normalise_one(&self, elem: Elem, value: &mut Value) -> bool {
        let Elem::Message(id) = elem else {
            if let (Elem::Double, Some(n)) = (elem, value.as_f64()) {
                *value = values::number(n).unwrap_or_default();
            }
            return true;
        };
        let special = self.get(id).special;
        match (special, &mut *value) {
            (Special::None, Value::Object(map)) => self.normalise_struct(id, map),
            (Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStringArray, _) => {
                let inner = super::json::schema_of(self, elem);
                match value {
                    Value::Object(_) => {
                        self.normalise_one(inner, value);
                    }
                    Value::Array(items) => {
                        for item in items {
                            self.normalise_one(inner, item);
                        }
                    }
                    _ => {}
                }
            }
            (Special::Quantity, Value::Number(n)) => {
                if let Ok(Some(text)) = values::canonical(special, &n.to_string()) {
                    *value = text.into();
                }
            }
            (Special::Quantity | Special::Time | Special::MicroTime | Special::Duration, Value::String(text)) => {
                match values::canonical(special, text) {
                    Ok(Some(canonical)) => *text = canonical,
                    Ok(None) => return false,
                    Err(_) => {}
                }
            }
            _ => {}
        }
        true
    }

    /// Adds what kube-apiserver shows even if nobody set it, because upstream's JSON does not omit it: `resources: {}`,
    /// `status: {}`, `restartCount: 0`. For after defaulting; [`Schema::normalise`] keeps what it adds.
    pub fn complete(&self, ty: TypeId, value: &mut Value) {
        if let Value::Object(map) = value {
            self.complete_struct(ty, map);
        }
    }

    fn complete_struct(&self, ty: TypeId, map: &mut Map<String, Value>) {
        for field in &self.get(ty).fields {
            if let Some(value) = map.get_mut(field.name.as_ref()) {
                self.complete_field(field, value);
                continue;
            }
            let Some(mut value) = self.empty(field) else { continue };
            self.complete_field(field, &mut value);
            map.insert(field.name.to_string(), value);
        }
    }

    /// The value of a field that is absent, if it has one.
    fn empty(&self, field: &Field) -> Option<Value> {
        match (field.shape, field.elem) {
            (Shape::List, _) if field.always => Some(Value::Array(vec![])),
            (Shape::Map, _) if field.always => Some(Value::Object(Map::new())),
            (Shape::One, Elem::Message(id)) if field.value => match self.get(id).special {
                Special::None => Some(Value::Object(Map::new())),
                Special::Quantity => Some("0".into()),
                Special::IntOrString => Some(0.into()),
                _ => None,
            },
            (Shape::One, Elem::String) if field.always => Some("".into()),
            (Shape::One, Elem::Bool) if field.always => Some(false.into()),
            (Shape::One, Elem::Int32 | Elem::Int64 | Elem::Double) if field.always => Some(0.into()),
            _ => None,
        }
    }

    fn complete_field(&self, field: &Field, value: &mut Value) {
        let Elem::Message(id) = field.elem else { return };
        if self.get(id).special != Special::None {
            return;
        }
        match (field.shape, value) {
            (Shape::One, value) => self.complete(id, value),
            (Shape::List, Value::Array(items)) => items.iter_mut().for_each(|i| self.complete(id, i)),
            (Shape::Map, Value::Object(map)) => map.iter_mut().for_each(|(_, i)| self.complete(id, i)),
            _ => {}
        }
    }
}

/// Whether a scalar is what a Go client sends for a field that it never set.
pub(super) fn is_zero(elem: Elem, value: &Value) -> bool {
    match (elem, value) {
        (Elem::Message(_), _) => false,
        (_, Value::String(s)) => s.is_empty(),
        (_, Value::Bool(b)) => !b,
        (_, Value::Number(n)) => n.as_f64() == Some(0.0),
        _ => false,
    }
}
