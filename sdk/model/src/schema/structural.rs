//! Structural schemas at work: what CustomResourceDefinitions promise of their objects, checked and filled in. The messages are
//! those of `k8s.io/apiextensions-apiserver/pkg/apiserver/validation`.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

use regex::Regex;
use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::Path;

/// How long a compiled pattern may be, in bytes of its automaton.
const PATTERN_SIZE: usize = 1 << 20;
/// So many mistakes are told of one object, whose lists may have no end of them.
const MISTAKES: usize = 100;

/// An `openAPIV3Schema`, ready to be asked.
#[derive(Debug, Default)]
pub struct Structure {
    ty: &'static str,
    properties: BTreeMap<Box<str>, Structure>,
    required: Vec<Box<str>>,
    items: Option<Box<Structure>>,
    additional: Option<Box<Structure>>,
    default: Option<Value>,
    supported: Vec<Value>,
    /// Of a number, a text's characters, a list's items or a map's entries.
    least: Option<i64>,
    most: Option<i64>,
    pattern: Option<Pattern>,
    keys: Vec<Box<str>>,
    set: bool,
}

#[derive(Debug)]
struct Pattern {
    text: Box<str>,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        let compile = || regex::RegexBuilder::new(&self.text).size_limit(PATTERN_SIZE).build().ok();
        self.compiled.get_or_init(compile).as_ref().is_none_or(|r| r.is_match(text))
    }
}

impl Structure {
    /// Reads a schema; keywords that it does not know count for nothing.
    pub fn of(schema: &Value) -> Structure {
        let ty =
            ["object", "array", "string", "integer", "number", "boolean"].into_iter().find(|t| schema["type"] == *t);
        let ty = ty.unwrap_or("");
        let number = |names: [&str; 4]| names.iter().find_map(|n| schema[*n].as_i64());
        let texts = |name: &str| -> Vec<Box<str>> {
            schema[name].as_array().into_iter().flatten().filter_map(|v| Some(v.as_str()?.into())).collect()
        };
        let inner = |name: &str| schema[name].is_object().then(|| Box::new(Structure::of(&schema[name])));
        let properties = schema["properties"].as_object().into_iter().flatten();
        Structure {
            ty,
            properties: properties.map(|(k, v)| (k.as_str().into(), Structure::of(v))).collect(),
            required: texts("required"),
            items: inner("items"),
            additional: inner("additionalProperties"),
            default: schema.get("default").filter(|d| !d.is_null()).cloned(),
            supported: schema["enum"].as_array().cloned().unwrap_or_default(),
            least: number(["minimum", "minLength", "minItems", "minProperties"]),
            most: number(["maximum", "maxLength", "maxItems", "maxProperties"]),
            pattern: schema["pattern"].as_str().map(|text| Pattern { text: text.into(), compiled: OnceLock::new() }),
            keys: texts("x-kubernetes-list-map-keys"),
            set: schema["x-kubernetes-list-type"] == "set",
        }
    }

    /// The schema of a property.
    pub fn property(&self, name: &str) -> Option<&Structure> {
        self.properties.get(name)
    }

    /// Sets what has a default and is absent; a null counts as absent.
    pub fn fill(&self, value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.retain(|name, v| !v.is_null() || !self.properties.contains_key(name.as_str()));
                for (name, property) in &self.properties {
                    if let (false, Some(default)) = (map.contains_key(&**name), &property.default) {
                        map.insert(name.to_string(), default.clone());
                    }
                    if let Some(value) = map.get_mut(&**name) {
                        property.fill(value);
                    }
                }
                for (_, value) in map.iter_mut().filter(|_| self.additional.is_some()) {
                    self.additional.iter().for_each(|a| a.fill(value));
                }
            }
            Value::Array(items) => {
                items.iter_mut().for_each(|item| self.items.iter().for_each(|schema| schema.fill(item)));
            }
            _ => {}
        }
    }

    /// Adds what is wrong with `value`, which stands at `path`.
    pub fn check(&self, path: Path<'_>, value: &Value, errors: &mut Vec<FieldError>) {
        let fits = match self.ty {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            _ => true,
        };
        if !fits {
            let got = type_of(value);
            let why = format!("{path} in body must be of type {}: \"{got}\"", self.ty);
            return errors.push(FieldError::type_invalid(path, got, why));
        }
        if !self.supported.is_empty() && !self.supported.contains(value) {
            let texts: Vec<String> =
                self.supported.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), String::from)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            errors.push(FieldError::not_supported(path, value.clone(), &texts));
        }
        match value {
            Value::Object(map) => self.check_object(path, map, errors),
            Value::Array(items) => self.check_list(path, items, errors),
            Value::String(text) => self.check_text(path, text, errors),
            Value::Number(n) => {
                let Some(n) = n.as_i64() else { return };
                let bounds = [(self.least.filter(|l| n < *l), "greater"), (self.most.filter(|m| n > *m), "less")];
                for (bound, word) in bounds {
                    let Some(bound) = bound else { continue };
                    let why = format!("{path} in body should be {word} than or equal to {bound}");
                    errors.push(FieldError::invalid(path, n, why));
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn check_object(&self, path: Path<'_>, map: &serde_json::Map<String, Value>, errors: &mut Vec<FieldError>) {
        for name in self.required.iter().filter(|name| !map.contains_key(&***name)) {
            errors.push(FieldError::required(path.child(name), ""));
        }
        for (name, property) in &self.properties {
            if let Some(value) = map.get(&**name) {
                property.check(path.child(name), value, errors);
            }
        }
        if let Some(additional) = &self.additional {
            if let Some(most) = self.most.filter(|m| map.len() as i64 > *m) {
                return errors.push(FieldError::too_many(path, map.len(), most as usize));
            }
            for (name, value) in map {
                if errors.len() >= MISTAKES {
                    return;
                }
                additional.check(path.child(name), value, errors);
            }
        }
    }

    fn check_list(&self, path: Path<'_>, items: &[Value], errors: &mut Vec<FieldError>) {
        if let Some(most) = self.most.filter(|m| items.len() as i64 > *m) {
            return errors.push(FieldError::too_many(path, items.len(), most as usize));
        }
        if let Some(least) = self.least.filter(|l| (items.len() as i64) < *l) {
            let why = format!("{path} in body should have at least {least} items");
            errors.push(FieldError::invalid(path, items.len(), why));
        }
        let (mut seen, mut keys) = (HashSet::new(), HashSet::new());
        for (i, item) in items.iter().enumerate() {
            if errors.len() >= MISTAKES {
                return;
            }
            if let Some(schema) = &self.items {
                schema.check(path.index(i), item, errors);
            }
            if self.set && !seen.insert(item) {
                errors.push(FieldError::duplicate(path.index(i), item.clone()));
            }
            let key = || self.keys.iter().map(|k| &item[&**k]).collect::<Vec<_>>();
            if !self.keys.is_empty() && !keys.insert(key()) {
                let key: serde_json::Map<String, Value> =
                    self.keys.iter().map(|k| (k.to_string(), item[&**k].clone())).collect();
                errors.push(FieldError::duplicate(path.index(i), key));
            }
        }
    }

    fn check_text(&self, path: Path<'_>, text: &str, errors: &mut Vec<FieldError>) {
        let length = text.chars().count() as i64;
        if let Some(most) = self.most.filter(|m| length > *m) {
            errors.push(FieldError::too_long(path, most as usize));
        }
        if let Some(least) = self.least.filter(|l| length < *l) {
            let why = format!("{path} in body should be at least {least} chars long");
            errors.push(FieldError::invalid(path, text, why));
        }
        if let Some(pattern) = self.pattern.as_ref().filter(|p| !p.matches(text)) {
            let why = format!("{path} in body should match '{}'", pattern.text);
            errors.push(FieldError::invalid(path, text, why));
        }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Structure {
        Structure::of(&json!({"type": "object", "required": ["name"], "properties": {
            "name": {"type": "string", "maxLength": 3, "minLength": 1, "pattern": "^a+$"},
            "port": {"type": "integer", "minimum": 1, "maximum": 9, "default": 5},
            "mode": {"type": "string", "enum": ["A", "B"]},
            "list": {"type": "array", "maxItems": 2, "minItems": 1, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object", "properties": {"k": {"type": "string"},
                    "w": {"type": "integer", "default": 1}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "map": {"type": "object", "maxProperties": 1, "additionalProperties": {"type": "string", "maxLength": 1}},
        }}))
    }

    #[test]
    fn defaults_are_filled_in_wherever_there_is_room_for_them() {
        let mut value = json!({"name": "a", "port": null, "list": [{"k": "x"}, {"k": "y", "w": 3}], "other": null});
        schema().fill(&mut value);
        let want = json!({"name": "a", "port": 5, "list": [{"k": "x", "w": 1}, {"k": "y", "w": 3}], "other": null});
        assert_eq!(value, want);
    }

    #[test]
    fn what_is_wrong_is_said_as_upstream_says_it() {
        for (value, want) in [
            (json!({"name": "aa", "port": 1, "mode": "B", "list": [{"k": "x"}], "map": {"x": "y"}}), vec![]),
            (json!({}), vec!["spec.name: Required value"]),
            (
                json!({"name": ""}),
                vec![
                    "spec.name: Invalid value: \"\": spec.name in body should be at least 1 chars long",
                    "spec.name: Invalid value: \"\": spec.name in body should match '^a+$'",
                ],
            ),
            (json!({"name": "aaaa"}), vec!["spec.name: Too long: may not be more than 3 bytes"]),
            (
                json!({"name": 1}),
                vec!["spec.name: Invalid value: \"integer\": spec.name in body must be of type string: \"integer\""],
            ),
            (
                json!({"name": "a", "port": 0}),
                vec!["spec.port: Invalid value: 0: spec.port in body should be greater than or equal to 1"],
            ),
            (
                json!({"name": "a", "port": 10}),
                vec!["spec.port: Invalid value: 10: spec.port in body should be less than or equal to 9"],
            ),
            (
                json!({"name": "a", "mode": "C"}),
                vec!["spec.mode: Unsupported value: \"C\": supported values: \"A\", \"B\""],
            ),
            (
                json!({"name": "a", "list": []}),
                vec!["spec.list: Invalid value: 0: spec.list in body should have at least 1 items"],
            ),
            (
                json!({"name": "a", "list": [{"k": "x"}, {"k": "y"}, {"k": "x"}]}),
                vec!["spec.list: Too many: 3: must have at most 2 items"],
            ),
            (
                json!({"name": "a", "list": [{"k": "x"}, {"k": "x", "w": 2}]}),
                vec!["spec.list[1]: Duplicate value: {\"k\":\"x\"}"],
            ),
            (
                json!({"name": "a", "map": {"x": "yy", "y": "yy"}}),
                vec!["spec.map: Too many: 2: must have at most 1 items"],
            ),
            (json!({"name": "a", "set": ["x", "x"]}), vec!["spec.set[1]: Duplicate value: \"x\""]),
            (json!({"name": "a", "map": {"x": "yy"}}), vec!["spec.map.x: Too long: may not be more than 1 bytes"]),
        ] {
            let mut errors = vec![];
            schema().check(Path::root("spec"), &value, &mut errors);
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{value}");
        }
    }

    #[test]
    fn lists_of_any_length_are_harmless() {
        let check = |set: Value| {
            let mut errors = vec![];
            schema().check(Path::root("spec"), &json!({"name": "a", "set": set}), &mut errors);
            errors.len()
        };
        assert_eq!(check((0..300_000).map(|i| i.to_string()).collect()), 0, "each is compared with few others");
        assert_eq!(check((0..300_000).map(|_| "x").collect()), MISTAKES);
        assert_eq!(check((0..300_000).collect()), MISTAKES, "numbers are no texts");
    }
}
