//! Objects by seed: any shape that the schema allows, in canonical form.

use serde_json::{Map, Value, json};

use crate::schema::{Elem, Field, Schema, Shape, Special, TypeId};

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % n
    }
    fn text(&mut self) -> String {
        (0..=self.below(6)).map(|_| ["a", "Z", "0", "-", "é", "\"", "猫", "\n"][self.below(8) as usize]).collect()
    }
}

impl Schema {
    /// A random object of a kind.
    pub fn random(&self, id: TypeId, r: &mut Random) -> Value {
        let mut value = self.random_struct(id, r, 0);
        if let Some((version, kind)) = &self.get(id).gvk {
            value["apiVersion"] = version.as_ref().into();
            value["kind"] = kind.as_ref().into();
        }
        value
    }

    fn random_struct(&self, id: TypeId, r: &mut Random, depth: u32) -> Value {
        let ty = self.get(id);
        let mut map = Map::new();
        for field in &ty.fields {
            // A nested kind's apiVersion and kind are not in its protobuf.
            if ty.gvk.is_some() && matches!(field.name.as_ref(), "apiVersion" | "kind") {
                continue;
            }
            // What typed clients always write is always there; else deep objects get thinner.
            let forced = field.required || field.always || field.name == "metadata";
            if !forced && (depth > 9 || r.below(u64::from(depth) + 2) > 1) {
                continue;
            }
            map.insert(field.name.to_string(), self.random_field(field, r, depth + 1));
        }
        Value::Object(map)
    }

    fn random_field(&self, field: &Field, r: &mut Random, depth: u32) -> Value {
        let count = 1 + r.below(2);
        match field.shape {
            Shape::One => {
                let keeps_zero = field.pointer || field.always;
                if keeps_zero && r.below(3) == 0 {
                    return match field.elem {
                        Elem::String | Elem::Bytes => "".into(),
                        Elem::Bool => false.into(),
                        Elem::Message(_) => self.random_one(field.elem, r, depth),
                        _ => 0.into(),
                    };
                }
                self.random_one(field.elem, r, depth)
            }
            Shape::List => (0..count).map(|_| self.random_one(field.elem, r, depth)).collect(),
            Shape::Map => {
                let entries = (0..count).map(|_| (r.text(), self.random_one(field.elem, r, depth)));
                Value::Object(entries.collect())
            }
        }
    }

    fn random_one(&self, elem: Elem, r: &mut Random, depth: u32) -> Value {
        match elem {
            Elem::String => r.text().into(),
            Elem::Bool => true.into(),
            Elem::Int32 => ([1, -1, i64::from(i32::MAX), i64::from(i32::MIN)][r.below(4) as usize]).into(),
            Elem::Int64 => ([1, -1, i64::MAX, i64::MIN][r.below(4) as usize]).into(),
            Elem::Double => [json!(1.5), json!(7), json!(-0.25)][r.below(3) as usize].clone(),
            Elem::Bytes => ["AA==", "3q2+7w==", "aGk="][r.below(3) as usize].into(),
            Elem::Message(id) => match self.get(id).special {
                Special::None => self.random_struct(id, r, depth),
                Special::IntOrString => {
                    [json!(0), json!(8080), json!("http"), json!("25%")][r.below(4) as usize].clone()
                }
                Special::Quantity => ["0", "500m", "1536Mi", "2", "1e3"][r.below(5) as usize].into(),
                Special::Time => ["2026-01-02T03:04:05Z", "1970-01-01T00:00:00Z"][r.below(2) as usize].into(),
                Special::MicroTime => {
                    ["2026-01-02T03:04:05.000006Z", "1970-01-01T00:00:00.000000Z"][r.below(2) as usize].into()
                }
                Special::Duration => ["30s", "1m0s", "1.5s"][r.below(3) as usize].into(),
                Special::Json => [json!({"a":{"b":[1,null,""]}}), json!({"f:x":{}})][r.below(2) as usize].clone(),
                Special::RawExtension => json!({"kind":"X","n":[{"deep":""}]}),
                Special::Strings => json!(["x", ""]),
                Special::SchemaOrBool if r.below(2) == 0 => (r.below(2) == 0).into(),
                Special::SchemaOrArray if r.below(2) == 0 => json!([{"type":"string"}, {}]),
                Special::SchemaOrStringArray if r.below(2) == 0 => json!(["a", "b"]),
                Special::SchemaOrBool | Special::SchemaOrArray | Special::SchemaOrStringArray => {
                    json!({"type":"object"})
                }
            },
        }
    }
}
