//! Strict decoding of JSON by the schema, in one pass: unknown fields are pruned and reported, duplicates reported, types
//! checked, quantities and times made canonical. The same visitor reads values that were parsed before.

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::error::cannot_be_handled;
use super::{DecodeError, Elem, Field, Schema, Shape, Special, Type, TypeId, syntax, values};
use crate::Status;

/// More strict errors than this are not collected, as upstream's decoder.
const MAX_WARNINGS: usize = 100;

/// The 400 for a request that asked for strict decoding and has `warnings`, in upstream's words.
pub fn strict_error(api_version: &str, kind: &str, warnings: &[String]) -> Status {
    let text = format!("strict decoding error: {}", warnings.join(", "));
    Status::bad_request(cannot_be_handled(api_version, kind, text))
}

impl Schema {
    /// Decodes JSON. The second value says what strict decoding would refuse.
    pub fn decode_json(&self, ty: TypeId, bytes: &[u8]) -> Result<(Value, Vec<String>), DecodeError> {
        let mut de = serde_json::Deserializer::from_slice(bytes);
        let decoded = self.read(ty, |root| {
            let value = root.deserialize(&mut de)?;
            de.end()?;
            Ok(value)
        });
        // Go checks the whole text before it decodes, so an error of syntax comes before one of types.
        decoded.map_err(|e| syntax::error(bytes).map_or(e, DecodeError::Json))
    }

    /// The same for a value that was parsed before, such as the result of a patch.
    pub fn conform(&self, ty: TypeId, value: &mut Value) -> Result<Vec<String>, DecodeError> {
        let (decoded, warnings) = self.read(ty, |root| root.deserialize(value.take()))?;
        *value = decoded;
        Ok(warnings)
    }

    fn read(
        &self,
        ty: TypeId,
        run: impl FnOnce(One<'_, '_>) -> Result<Option<Value>, serde_json::Error>,
    ) -> Result<(Value, Vec<String>), DecodeError> {
        let root = Field { elem: Elem::Message(ty), ..Field::default() };
        let mut ctx = Ctx { schema: self, path: vec![], owner: None, warnings: vec![], error: None };
        match run(One { ctx: &mut ctx, field: &root, shape: Shape::One }) {
            Ok(value) => Ok((value.unwrap_or_else(|| Value::Object(Map::new())), ctx.warnings)),
            Err(e) => Err(DecodeError::Json(ctx.error.unwrap_or_else(|| e.to_string()))),
        }
    }
}

struct Ctx<'s> {
    schema: &'s Schema,
    path: Vec<Part>,
    /// The struct that is being read.
    owner: Option<&'s Type>,
    warnings: Vec<String>,
    error: Option<String>,
}

enum Part {
    Field(super::Text),
    Index(usize),
    Key(String),
}

impl Ctx<'_> {
    fn warn(&mut self, what: &str, leaf: &str) {
        if self.warnings.len() >= MAX_WARNINGS {
            return;
        }
        let mut path = String::new();
        for part in &self.path {
            match part {
                Part::Index(i) => path.push_str(&format!("[{i}]")),
                Part::Field(_) | Part::Key(_) if !path.is_empty() => path.push('.'),
                _ => {}
            }
            match part {
                Part::Field(f) => path.push_str(f),
                Part::Key(k) => path.push_str(k),
                Part::Index(_) => {}
            }
        }
        if !path.is_empty() {
            path.push('.');
        }
        let text = format!("{what} field \"{path}{leaf}\"");
        if !self.warnings.contains(&text) {
            self.warnings.push(text);
        }
    }

    fn fail<E: serde::de::Error>(&mut self, text: String) -> E {
        self.error.get_or_insert(text);
        E::custom("")
    }

    fn mismatch<E: serde::de::Error>(&mut self, got: &str, go_type: &str) -> E {
        let path: Vec<&str> = self
            .path
            .iter()
            .filter_map(|p| match p {
                Part::Field(f) => Some(f.as_ref()),
                _ => None,
            })
            .collect();
        let text = match self.owner {
            Some(owner) => format!(
                "json: cannot unmarshal {got} into Go struct field {}.{} of type {go_type}",
                owner.short_name(),
                path.join(".")
            ),
            None => format!("json: cannot unmarshal {got} into Go value of type {go_type}"),
        };
        self.fail(text)
    }
}

/// Reads one value of a field, or of its elements when `shape` is `One` and the field's is not.
struct One<'c, 's> {
    ctx: &'c mut Ctx<'s>,
    field: &'c Field,
    shape: Shape,
}

impl<'c, 's> One<'c, 's> {
    fn go_type(&self) -> String {
        match (self.shape, self.field.shape) {
            (Shape::One, Shape::List | Shape::Map) => self.ctx.schema.go_element(self.field),
            _ => self.ctx.schema.go_type(self.field),
        }
    }
    fn special(&self) -> Special {
        if self.shape == Shape::One { self.ctx.schema.special(self.field.elem) } else { Special::None }
    }
    /// Refuses a value, or keeps it when the field is lenient.
    fn wrong<E: serde::de::Error>(self, got: &str, value: impl Into<Value>) -> Result<Option<Value>, E> {
        if self.field.lenient {
            return Ok(Some(value.into()));
        }
        let go = match self.special() {
            Special::IntOrString => "int32".into(),
            Special::Time | Special::MicroTime | Special::Duration => "string".into(),
            Special::Quantity => {
                let text = crate::quantity::ParseError.to_string();
                return Err(self.ctx.fail(text));
            }
            _ => self.go_type(),
        };
        Err(self.ctx.mismatch(got, &go))
    }
    fn integer<E: serde::de::Error>(self, n: i64) -> Result<Option<Value>, E> {
        match (self.shape, self.field.elem, self.special()) {
            (Shape::One, Elem::Int64, _) => Ok(Some(n.into())),
            (Shape::One, Elem::Double, _) => Ok(Some(n.into())),
            (Shape::One, Elem::Int32, _) | (_, _, Special::IntOrString) if i32::try_from(n).is_ok() => {
                Ok(Some(n.into()))
            }
            (Shape::One, Elem::Int32, _) | (_, _, Special::IntOrString) => self.wrong(&format!("number {n}"), n),
            (_, _, Special::Quantity) => self.text(n.to_string()),
            _ => self.wrong("number", n),
        }
    }
    fn text<E: serde::de::Error>(self, text: String) -> Result<Option<Value>, E> {
        let made = match (self.shape, self.field.elem, self.special()) {
            (Shape::One, Elem::String, _) | (_, _, Special::IntOrString) => return Ok(Some(Value::String(text))),
            (Shape::One, Elem::Bytes, _) => values::base64_text(text).map(Some),
            (_, _, s @ (Special::Quantity | Special::Time | Special::MicroTime | Special::Duration)) => {
                values::canonical(s, &text)
            }
            _ => return self.wrong("string", text),
        };
        match made {
            Ok(text) => Ok(text.map(Value::String)),
            Err(why) => Err(self.ctx.fail(why)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for One<'_, '_> {
    type Value = Option<Value>;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Option<Value>, D::Error> {
        match self.special() {
            Special::Json | Special::RawExtension => Value::deserialize(de).map(|v| (!v.is_null()).then_some(v)),
            _ => de.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for One<'_, '_> {
    type Value = Option<Value>;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<Value>, E> {
        Ok(self.field.lenient.then_some(Value::Null))
    }
    fn visit_bool<E: serde::de::Error>(self, v: bool) -> Result<Option<Value>, E> {
        match (self.shape, self.field.elem, self.special()) {
            (Shape::One, Elem::Bool, _) | (_, _, Special::SchemaOrBool) => Ok(Some(v.into())),
            _ => self.wrong("bool", v),
        }
    }
    fn visit_i64<E: serde::de::Error>(self, v: i64) -> Result<Option<Value>, E> {
        self.integer(v)
    }
    fn visit_u64<E: serde::de::Error>(self, v: u64) -> Result<Option<Value>, E> {
        match i64::try_from(v) {
            Ok(n) => self.integer(n),
            Err(_) => self.visit_f64(v as f64),
        }
    }
    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Option<Value>, E> {
        match (self.shape, self.field.elem, self.special()) {
            (Shape::One, Elem::Double, _) => Ok(values::number(v)),
            (_, _, Special::Quantity) => self.text(v.to_string()),
            (Shape::One, Elem::Int32 | Elem::Int64, _) | (_, _, Special::IntOrString) => {
                self.wrong(&format!("number {v:?}"), v)
            }
            _ => self.wrong("number", v),
        }
    }
    fn visit_str<E: serde::de::Error>(self, v: &str) -> Result<Option<Value>, E> {
        self.text(v.to_string())
    }
    fn visit_string<E: serde::de::Error>(self, v: String) -> Result<Option<Value>, E> {
        self.text(v)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Option<Value>, A::Error> {
        let strings = Field { shape: Shape::List, ..Field::default() };
        let (field, schemas);
        match (self.shape, self.special()) {
            (Shape::List, _) => field = self.field,
            (_, Special::Strings | Special::SchemaOrStringArray) => field = &strings,
            (_, Special::SchemaOrArray) => {
                schemas =
                    Field { shape: Shape::List, elem: schema_of(self.ctx.schema, self.field.elem), ..Field::default() };
                field = &schemas;
            }
            _ if self.field.lenient => return Value::deserialize(SeqAccessDeserializer::new(seq)).map(Some),
            _ => return self.wrong("array", Value::Null),
        }
        let ctx = self.ctx;
        let mut out = Vec::with_capacity(seq.size_hint().unwrap_or(0).min(64));
        let messages = matches!(field.elem, Elem::Message(_));
        loop {
            if messages {
                ctx.path.push(Part::Index(out.len()));
            }
            let item = seq.next_element_seed(One { ctx: &mut *ctx, field, shape: Shape::One })?;
            if messages {
                ctx.path.pop();
            }
            match item {
                Some(item) => out.push(item.unwrap_or_else(|| zero(ctx.schema, field.elem))),
                None => return Ok(Some(Value::Array(out))),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Option<Value>, A::Error> {
        match (self.shape, self.field.elem, self.special()) {
            (Shape::Map, ..) => read_map(self, map),
            (Shape::One, Elem::Message(id), Special::None) => read_struct(self.ctx, id, map),
            (
                Shape::One,
                elem @ Elem::Message(_),
                Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStringArray,
            ) => match schema_of(self.ctx.schema, elem) {
                Elem::Message(id) => read_struct(self.ctx, id, map),
                _ => self.wrong("object", Value::Null),
            },
            _ if self.field.lenient => Value::deserialize(MapAccessDeserializer::new(map)).map(Some),
            _ => self.wrong("object", Value::Null),
        }
    }
}

/// The schema type inside one of the `JSONSchemaPropsOr*`.
pub(super) fn schema_of(schema: &Schema, elem: Elem) -> Elem {
    match elem {
        Elem::Message(id) => schema.get(id).field("schema").map_or(elem, |f| f.elem),
        _ => elem,
    }
}

/// What a null element of a list or map is in Go.
fn zero(schema: &Schema, elem: Elem) -> Value {
    match elem {
        Elem::String | Elem::Bytes => "".into(),
        Elem::Bool => false.into(),
        Elem::Int32 | Elem::Int64 | Elem::Double => 0.into(),
        Elem::Message(id) => match schema.get(id).special {
            Special::Json | Special::RawExtension | Special::Time | Special::MicroTime => Value::Null,
            Special::Quantity => "0".into(),
            Special::IntOrString => 0.into(),
            Special::Strings => Value::Array(vec![]),
            _ => Value::Object(Map::new()),
        },
    }
}

fn read_map<'de, A: MapAccess<'de>>(one: One<'_, '_>, mut map: A) -> Result<Option<Value>, A::Error> {
    let (ctx, field) = (one.ctx, one.field);
    let messages = matches!(field.elem, Elem::Message(_));
    let mut out = Map::new();
    while let Some(key) = map.next_key::<String>()? {
        if messages {
            ctx.path.push(Part::Key(key.clone()));
        }
        let value = map.next_value_seed(One { ctx: &mut *ctx, field, shape: Shape::One })?;
        if messages {
            ctx.path.pop();
        }
        if out.contains_key(&key) {
            ctx.warn("duplicate", &key);
        }
        out.insert(key, value.unwrap_or_else(|| zero(ctx.schema, field.elem)));
    }
    Ok(Some(Value::Object(out)))
}

fn read_struct<'de, A: MapAccess<'de>>(ctx: &mut Ctx<'_>, id: TypeId, mut map: A) -> Result<Option<Value>, A::Error> {
    let schema = ctx.schema;
    let ty = schema.get(id);
    let outer = ctx.owner.replace(ty);
    let mut out = Map::new();
    let mut seen = 0u128;
    while let Some(key) = map.next_key_seed(KeySeed(ty))? {
        match key {
            Key::Known(at) => {
                let field = &ty.fields[at];
                ctx.path.push(Part::Field(field.name.clone()));
                let value = map.next_value_seed(One { ctx: &mut *ctx, field, shape: field.shape })?;
                ctx.path.pop();
                let bit = 1u128.checked_shl(at as u32).unwrap_or(0);
                if seen & bit != 0 {
                    ctx.warn("duplicate", &field.name);
                }
                seen |= bit;
                match value {
                    Some(value) => drop(out.insert(field.name.to_string(), value)),
                    None => drop(out.remove(field.name.as_ref())),
                }
            }
            Key::Unknown(name) if ty.preserve_unknown => {
                let value: Value = map.next_value()?;
                if out.insert(name.clone(), value).is_some() {
                    ctx.warn("duplicate", &name);
                }
            }
            Key::Unknown(name) => {
                map.next_value::<serde::de::IgnoredAny>()?;
                ctx.warn("unknown", &name);
            }
        }
    }
    ctx.owner = outer;
    Ok(Some(Value::Object(out)))
}

enum Key {
    Known(usize),
    Unknown(String),
}

struct KeySeed<'s>(&'s Type);

impl<'de> DeserializeSeed<'de> for KeySeed<'_> {
    type Value = Key;
    fn deserialize<D: Deserializer<'de>>(self, de: D) -> Result<Key, D::Error> {
        de.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed<'_> {
    type Value = Key;
    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a field name")
    }
    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Key, E> {
        Ok(self.0.position(name).map_or_else(|| Key::Unknown(name.to_string()), Key::Known))
    }
}
