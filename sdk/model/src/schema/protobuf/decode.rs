//! Protobuf to JSON.

use serde_json::{Map, Value};

use super::super::normalise::is_zero;
use super::super::{DecodeError, Elem, Field, Schema, Shape, Special, TypeId, WireTo, values};
use super::wire::{Raw, Reader};
use super::{MAGIC, MAX_DEPTH};
use crate::{Time, go_duration};

type Result<T> = std::result::Result<T, DecodeError>;

impl Schema {
    /// Reads a message's fields into `out`, an object that is within `depth` objects and lists.
    pub(super) fn decode_message(
        &self,
        id: TypeId,
        bytes: &[u8],
        out: &mut Map<String, Value>,
        depth: u32,
    ) -> Result<()> {
        let inside = deeper(depth)?;
        let ty = self.get(id);
        let mut reader = Reader(bytes);
        while let Some((tag, raw)) = reader.next()? {
            let Ok(at) = ty.wire.binary_search_by_key(&tag, |w| w.tag) else { continue };
            match ty.wire[at].to {
                WireTo::Inline(inner) => self.decode_message(inner, raw.bytes()?, out, depth)?,
                WireTo::Field(at) => self.decode_field(&ty.fields[at as usize], raw, out, inside)?,
            }
        }
        Ok(())
    }

    fn decode_field(&self, field: &Field, raw: Raw<'_>, out: &mut Map<String, Value>, depth: u32) -> Result<()> {
        let name = field.name.as_ref();
        match field.shape {
            Shape::One => {
                // A message that comes in several pieces is one message.
                if let (Elem::Message(id), Some(Value::Object(map))) = (field.elem, out.get_mut(name))
                    && self.get(id).special == Special::None
                {
                    return self.decode_message(id, raw.bytes()?, map, depth);
                }
                match self.decode_one(field.elem, raw, depth)? {
                    Some(value) if field.pointer || field.always || !is_zero(field.elem, &value) => {
                        out.insert(name.into(), value);
                    }
                    // The last one counts, and it says zero.
                    _ => drop(out.remove(name)),
                }
            }
            Shape::List => {
                let inside = deeper(depth)?;
                let Value::Array(items) = out.entry(name).or_insert_with(|| Value::Array(vec![])) else {
                    return Ok(());
                };
                if let (Elem::Int32 | Elem::Int64, Raw::Bytes(packed)) = (field.elem, raw) {
                    let mut packed = Reader(packed);
                    while !packed.0.is_empty() {
                        let n = packed.varint()?;
                        items.push(if field.elem == Elem::Int32 { (n as i32).into() } else { (n as i64).into() });
                    }
                    return Ok(());
                }
                items.push(self.decode_one(field.elem, raw, inside)?.unwrap_or(Value::Null));
            }
            Shape::Map => {
                let inside = deeper(depth)?;
                let (mut key, mut value) = (String::new(), None);
                let mut entry = Reader(raw.bytes()?);
                while let Some((tag, raw)) = entry.next()? {
                    match tag {
                        1 => key = text(raw.bytes()?),
                        2 => value = self.decode_one(field.elem, raw, inside)?,
                        _ => {}
                    }
                }
                let value = match value {
                    Some(value) => value,
                    None => self.decode_empty(field.elem)?,
                };
                if let Value::Object(map) = out.entry(name).or_insert_with(|| Value::Object(Map::new())) {
                    map.insert(key, value);
                }
            }
        }
        Ok(())
    }

    /// The value of a map entry that has none on the wire.
    fn decode_empty(&self, elem: Elem) -> Result<Value> {
        let raw = match elem {
            Elem::Bool | Elem::Int32 | Elem::Int64 => Raw::Varint(0),
            Elem::Double => Raw::Fixed64(0),
            Elem::String | Elem::Bytes | Elem::Message(_) => Raw::Bytes(&[]),
        };
        Ok(self.decode_one(elem, raw, 0)?.unwrap_or(Value::Null))
    }

    fn decode_one(&self, elem: Elem, raw: Raw<'_>, depth: u32) -> Result<Option<Value>> {
        Ok(Some(match elem {
            Elem::String => text(raw.bytes()?).into(),
            Elem::Bool => (raw.varint()? != 0).into(),
            Elem::Int32 => (raw.varint()? as i32).into(),
            Elem::Int64 => (raw.varint()? as i64).into(),
            Elem::Double => return Ok(values::number(raw.double()?)),
            Elem::Bytes => values::base64_encode(raw.bytes()?).into(),
            Elem::Message(id) => return self.decode_value(id, raw.bytes()?, depth),
        }))
    }

    /// A message that is a value of its own; `None` is absent.
    fn decode_value(&self, id: TypeId, bytes: &[u8], depth: u32) -> Result<Option<Value>> {
        let ty = self.get(id);
        let object = |id: TypeId, bytes: &[u8]| {
            let mut map = Map::new();
            self.decode_message(id, bytes, &mut map, depth).map(|()| Value::Object(map))
        };
        Ok(Some(match ty.special {
            Special::None => object(id, bytes)?,
            Special::Quantity => {
                let given = last_bytes(bytes, 1)?.map(text).filter(|t| !t.is_empty());
                let given = given.unwrap_or_else(|| "0".into());
                match values::canonical(Special::Quantity, &given) {
                    Ok(canonical) => canonical.unwrap_or(given).into(),
                    Err(why) => return Err(DecodeError::Json(why)),
                }
            }
            Special::Time | Special::MicroTime => {
                if bytes.is_empty() {
                    return Ok(None);
                }
                let (seconds, nanos) = (number(bytes, 1)? as i64, number(bytes, 2)?);
                // Before 1970 there are no objects; Go's zero time is far before.
                let Ok(seconds) = u64::try_from(seconds) else { return Ok(None) };
                let nanos = seconds.checked_mul(1_000_000_000).and_then(|s| s.checked_add(nanos % 1_000_000_000));
                let time = Time(nanos.ok_or(DecodeError::Protobuf("time is out of range"))?);
                if ty.special == Special::Time { time.rfc3339() } else { time.rfc3339_micros() }.into()
            }
            Special::Duration => go_duration::print(number(bytes, 1)? as i64).into(),
            Special::IntOrString if number(bytes, 1)? == 0 => (number(bytes, 2)? as i32).into(),
            Special::IntOrString => last_bytes(bytes, 3)?.map(text).unwrap_or_default().into(),
            Special::Strings => {
                deeper(depth)?;
                let (mut items, mut reader) = (vec![], Reader(bytes));
                while let Some((tag, raw)) = reader.next()? {
                    if tag == 1 {
                        items.push(text(raw.bytes()?).into());
                    }
                }
                Value::Array(items)
            }
            Special::Json | Special::RawExtension => {
                let raw = last_bytes(bytes, 1)?.unwrap_or_default();
                if raw.is_empty() {
                    return Ok(None);
                }
                if ty.special == Special::RawExtension && raw.starts_with(MAGIC) {
                    return self.decode_envelope(raw, depth).map(Some);
                }
                match json(raw, depth)? {
                    Value::Null => return Ok(None),
                    value => value,
                }
            }
            Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStringArray => {
                let Value::Object(mut map) = object(id, bytes)? else { return Ok(None) };
                // One of the fields is the value; of an array that is empty nothing is left.
                let empty = match ty.special {
                    Special::SchemaOrBool => false.into(),
                    _ => Value::Array(vec![]),
                };
                let names = ["schema", "allows", "jSonSchemas", "property"];
                names.iter().find_map(|n| map.remove(*n)).unwrap_or(empty)
            }
        }))
    }
}

/// Where the elements of an object or list are that is within `depth` others.
fn deeper(depth: u32) -> Result<u32> {
    if depth < MAX_DEPTH { Ok(depth + 1) } else { Err(DecodeError::Protobuf("messages are nested too deeply")) }
}

/// A JSON text that is within `depth` objects and lists.
pub(super) fn json(text: &[u8], depth: u32) -> Result<Value> {
    let value = serde_json::from_slice(text).map_err(|e| DecodeError::Json(e.to_string()))?;
    fits(&value, depth)?;
    Ok(value)
}

fn fits(value: &Value, depth: u32) -> Result<()> {
    match value {
        Value::Object(map) => {
            let inside = deeper(depth)?;
            map.values().try_for_each(|v| fits(v, inside))
        }
        Value::Array(items) => {
            let inside = deeper(depth)?;
            items.iter().try_for_each(|v| fits(v, inside))
        }
        _ => Ok(()),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last value of a length-delimited field.
fn last_bytes(message: &[u8], tag: u32) -> Result<Option<&[u8]>> {
    let (mut found, mut reader) = (None, Reader(message));
    while let Some((t, raw)) = reader.next()? {
        if t == tag {
            found = Some(raw.bytes()?);
        }
    }
    Ok(found)
}

/// The last value of a varint field, or 0.
fn number(message: &[u8], tag: u32) -> Result<u64> {
    let (mut found, mut reader) = (0, Reader(message));
    while let Some((t, raw)) = reader.next()? {
        if t == tag {
            found = raw.varint()?;
        }
    }
    Ok(found)
}
