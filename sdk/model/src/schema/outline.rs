//! Kinds that upstream defines by CustomResourceDefinitions and this server has built in: a short table becomes the structural
//! schemas that their definitions have (facts only: types, limits, defaults).
//!
//! `~ name type key=value…` names a scalar. `= Type [apiVersion]` begins an object; one with an apiVersion is a kind. Then one
//! line per field: its JSON name, `!` if it is required, its type and `key=value`s. Types: `s` string, `b` boolean, `i` int32,
//! `l` int64, `t` a time, a scalar or an object; `[` before it a list, `{` a map. Keys: `min` and `max` (of a number, a
//! text's length, or how many items), `pat` a regular expression, `enum`, `df` default as JSON, `lt` list type, `lk` its key,
//! `st` map type.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Map, Value, json};

/// The kinds of `gateway.networking.k8s.io` at the level of Gateway API 1.6's standard channel, with `retry` of the
/// experimental one.
const GATEWAY: &str = include_str!("gateway.txt");

/// A kind and its `openAPIV3Schema`, but for `apiVersion`, `kind` and `metadata`.
pub(super) struct Outlined {
    pub(super) api_version: &'static str,
    pub(super) kind: &'static str,
    pub(super) schema: Value,
}

/// All such kinds.
pub(super) fn kinds() -> &'static [Outlined] {
    static KINDS: OnceLock<Vec<Outlined>> = OnceLock::new();
    KINDS.get_or_init(|| read(GATEWAY))
}

#[derive(Default)]
struct Table {
    scalars: BTreeMap<&'static str, &'static str>,
    objects: BTreeMap<&'static str, Vec<&'static str>>,
}

fn read(text: &'static str) -> Vec<Outlined> {
    let (mut table, mut kinds, mut current) = (Table::default(), vec![], "");
    for line in text.lines() {
        if let Some((name, rest)) = line.strip_prefix("~ ").and_then(|l| l.split_once(' ')) {
            table.scalars.insert(name, rest);
        } else if let Some(head) = line.strip_prefix("= ") {
            let (name, version) = head.split_once(' ').unwrap_or((head, ""));
            current = name;
            table.objects.insert(name, vec![]);
            if !version.is_empty() {
                kinds.push((version, name));
            }
        } else if let Some(fields) = table.objects.get_mut(current) {
            fields.push(line);
        }
    }
    let outlined = |(api_version, kind)| Outlined { api_version, kind, schema: table.object(kind) };
    kinds.into_iter().map(outlined).collect()
}

impl Table {
    fn object(&self, name: &str) -> Value {
        let (mut properties, mut required) = (Map::new(), vec![]);
        for line in self.objects.get(name).into_iter().flatten() {
            let Some((field, rest)) = line.split_once(' ') else { continue };
            let name = field.trim_end_matches('!');
            if name != field {
                required.push(name);
            }
            properties.insert(name.into(), self.field(rest));
        }
        let mut out = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            out["required"] = required.into();
        }
        out
    }

    /// A type with its keys.
    fn field(&self, text: &str) -> Value {
        let mut words = text.split(' ');
        let ty = words.next().unwrap_or_default();
        let mut out = match (ty.strip_prefix('['), ty.strip_prefix('{')) {
            (Some(item), _) => {
                json!({"type": "array", "items": self.one(item), "x-kubernetes-list-type": "atomic"})
            }
            (_, Some(item)) => json!({"type": "object", "additionalProperties": self.one(item)}),
            (None, None) => self.one(ty),
        };
        for (key, value) in words.filter_map(|w| w.split_once('=')) {
            let many = if ty.starts_with('[') { "Items" } else { "Properties" };
            let number = || value.parse::<i64>().map_or(Value::Null, Value::from);
            let bound = |which: &str| match out["type"].as_str() {
                Some("string") => format!("{which}Length"),
                Some("integer") => format!("{which}imum"),
                _ => format!("{which}{many}"),
            };
            let (name, value) = match key {
                "min" | "max" => (bound(key), number()),
                "pat" => ("pattern".into(), value.into()),
                "enum" if out["type"] == "integer" => {
                    ("enum".into(), value.split(',').filter_map(|n| n.parse::<i64>().ok()).collect())
                }
                "enum" => ("enum".into(), value.split(',').collect()),
                "df" => ("default".into(), serde_json::from_str(value).unwrap_or_default()),
                "lt" => ("x-kubernetes-list-type".into(), value.into()),
                "lk" => ("x-kubernetes-list-map-keys".into(), json!([value])),
                "st" => ("x-kubernetes-map-type".into(), value.into()),
                _ => continue,
            };
            out[name] = value;
        }
        out
    }

    fn one(&self, ty: &str) -> Value {
        match ty {
            "s" => json!({"type": "string"}),
            "b" => json!({"type": "boolean"}),
            "i" => json!({"type": "integer", "format": "int32"}),
            "l" => json!({"type": "integer", "format": "int64"}),
            "t" => json!({"type": "string", "format": "date-time"}),
            name => match self.scalars.get(name) {
                Some(scalar) => self.field(scalar),
                None => self.object(name),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_that_is_named_exists_and_every_default_is_json() {
        let mut table = Table::default();
        let mut current = "";
        for line in GATEWAY.lines() {
            match line.split_once(' ') {
                Some(("~", rest)) => drop(rest.split_once(' ').map(|(n, r)| table.scalars.insert(n, r))),
                Some(("=", rest)) => {
                    current = rest.split(' ').next().unwrap();
                    table.objects.insert(current, vec![]);
                }
                _ => table.objects.get_mut(current).unwrap().push(line),
            }
        }
        for (of, field) in table.objects.iter().flat_map(|(of, all)| all.iter().map(move |f| (of, f))) {
            let mut words = field.split(' ').skip(1);
            let ty = words.next().unwrap().trim_start_matches(['[', '{']);
            let known = ty.len() == 1 || table.scalars.contains_key(ty) || table.objects.contains_key(ty);
            assert!(known, "{of}: {field}");
            for word in words {
                let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{of}: {field}"));
                assert!(["min", "max", "pat", "enum", "df", "lt", "lk", "st"].contains(&key), "{of}: {field}");
                assert!(key != "df" || serde_json::from_str::<Value>(value).is_ok(), "{of}: {field}");
            }
        }
        assert_eq!(kinds().len(), 7);
    }

    #[test]
    fn a_table_becomes_a_schema() {
        let made = read(
            "~ port i min=1 max=9\n= A g/v1\nspec! B\n= B\nlist [port min=2 lt=set\nmap {s max=3\nname s max=4 df=\"x\"\n",
        );
        let want = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object", "properties": {
            "list": {"type": "array", "minItems": 2, "x-kubernetes-list-type": "set",
                "items": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 9}},
            "map": {"type": "object", "maxProperties": 3, "additionalProperties": {"type": "string"}},
            "name": {"type": "string", "maxLength": 4, "default": "x"},
        }}}});
        assert_eq!((made[0].api_version, made[0].kind, &made[0].schema), ("g/v1", "A", &want));
    }
}
