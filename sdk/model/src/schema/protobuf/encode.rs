//! JSON to protobuf.

use serde_json::Value;

use super::super::{Elem, EncodeError, Field, Schema, Shape, Special, TypeId, WireTo, values};
use super::wire::{bytes_field, double_field, nested, text_field, varint_field};
use crate::{Time, go_duration};

type Result = std::result::Result<(), EncodeError>;

impl Schema {
    /// Writes the fields of an object.
    pub(super) fn encode_message(&self, id: TypeId, value: &Value, out: &mut Vec<u8>) -> Result {
        let ty = self.get(id);
        let Some(map) = value.as_object() else { return wrong(ty.short_name()) };
        for wire in &ty.wire {
            match wire.to {
                WireTo::Inline(inner) => nested(out, wire.tag, |out| self.encode_message(inner, value, out))?,
                WireTo::Field(at) => {
                    let field = &ty.fields[at as usize];
                    if let Some(value) = map.get(field.name.as_ref()).filter(|v| !v.is_null()) {
                        self.encode_field(field, wire.tag, value, out)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn encode_field(&self, field: &Field, tag: u32, value: &Value, out: &mut Vec<u8>) -> Result {
        match (field.shape, value) {
            (Shape::One, value) => self.encode_one(field, tag, value, out),
            (Shape::List, Value::Array(items)) => items.iter().try_for_each(|i| self.encode_one(field, tag, i, out)),
            (Shape::Map, Value::Object(map)) => map.iter().try_for_each(|(key, value)| {
                nested(out, tag, |out| {
                    text_field(out, 1, key);
                    self.encode_one(field, 2, value, out)
                })
            }),
            _ => wrong(&field.name),
        }
    }

    fn encode_one(&self, field: &Field, tag: u32, value: &Value, out: &mut Vec<u8>) -> Result {
        match (field.elem, value) {
            (Elem::String, Value::String(s)) => text_field(out, tag, s),
            (Elem::Bool, Value::Bool(b)) => varint_field(out, tag, u64::from(*b)),
            (Elem::Int32 | Elem::Int64, Value::Number(n)) => match n.as_i64() {
                Some(n) => varint_field(out, tag, n as u64),
                None => return wrong(&field.name),
            },
            (Elem::Double, Value::Number(n)) => double_field(out, tag, n.as_f64().unwrap_or_default()),
            (Elem::Bytes, Value::String(s)) => match values::base64_decode(s) {
                Some(bytes) => bytes_field(out, tag, &bytes),
                None => return wrong(&field.name),
            },
            (Elem::Message(id), value) => return nested(out, tag, |out| self.encode_value(id, field, value, out)),
            _ => return wrong(&field.name),
        }
        Ok(())
    }

    fn encode_value(&self, id: TypeId, field: &Field, value: &Value, out: &mut Vec<u8>) -> Result {
        let ty = self.get(id);
        let inner = |name: &str, value: &Value, out: &mut Vec<u8>| match (ty.position(name), ty.field(name)) {
            (Some(at), Some(f)) => {
                let wire = ty.wire.iter().find(|w| matches!(w.to, WireTo::Field(i) if i as usize == at));
                self.encode_field(f, wire.map_or(1, |w| w.tag), value, out)
            }
            _ => wrong(&field.name),
        };
        match (ty.special, value) {
            (Special::None, value) => return self.encode_message(id, value, out),
            // A null in a list is Go's zero: an empty message.
            (_, Value::Null) => {}
            (Special::Quantity, Value::String(s)) => text_field(out, 1, s),
            (Special::Quantity, Value::Number(n)) => text_field(out, 1, &n.to_string()),
            (Special::Time | Special::MicroTime, Value::String(s)) => match Time::parse(s) {
                Some(t) => {
                    varint_field(out, 1, t.secs());
                    let nanos = if ty.special == Special::Time { 0 } else { t.0 % 1_000_000_000 };
                    varint_field(out, 2, nanos);
                }
                None => return wrong(&field.name),
            },
            (Special::Duration, Value::String(s)) => match go_duration::parse(s) {
                Some(nanos) => varint_field(out, 1, nanos as u64),
                None => return wrong(&field.name),
            },
            (Special::IntOrString, Value::Number(n)) => {
                varint_field(out, 1, 0);
                varint_field(out, 2, n.as_i64().unwrap_or_default() as u64);
                text_field(out, 3, "");
            }
            (Special::IntOrString, Value::String(s)) => {
                varint_field(out, 1, 1);
                varint_field(out, 2, 0);
                text_field(out, 3, s);
            }
            (Special::Strings, Value::Array(items)) => {
                for item in items {
                    text_field(out, 1, item.as_str().unwrap_or_default());
                }
            }
            (Special::Json | Special::RawExtension, value) => bytes_field(out, 1, value.to_string().as_bytes()),
            (Special::SchemaOrBool, Value::Bool(_)) => return inner("allows", value, out),
            (Special::SchemaOrBool, Value::Object(_)) => {
                inner("allows", &Value::Bool(true), out)?;
                return inner("schema", value, out);
            }
            (Special::SchemaOrArray | Special::SchemaOrStringArray, Value::Object(_)) => {
                return inner("schema", value, out);
            }
            (Special::SchemaOrArray, Value::Array(_)) => return inner("jSonSchemas", value, out),
            (Special::SchemaOrStringArray, Value::Array(_)) => return inner("property", value, out),
            _ => return wrong(&field.name),
        }
        Ok(())
    }
}

fn wrong(field: &str) -> Result {
    Err(EncodeError::Type { field: field.into() })
}
