//! Reading, defaulting and naming the fields of dynamic objects. Whatever has the wrong JSON type counts as absent here:
//! types are checked where requests are decoded.

use serde_json::{Map, Value};

use super::names;
use crate::FieldError;

/// The fields of an object.
pub type Fields = Map<String, Value>;

/// Where a field is, linked on the stack: text is made only for an error.
#[derive(Clone, Copy)]
pub struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    part: Part<'a>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Name(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> Path<'a> {
    /// A field of the object itself; dots are taken as they are.
    pub const fn root(name: &'a str) -> Path<'a> {
        Path { parent: None, part: Part::Name(name) }
    }
    /// `self.name`.
    pub const fn child(&'a self, name: &'a str) -> Path<'a> {
        Path { parent: Some(self), part: Part::Name(name) }
    }
    /// `self[i]`.
    pub const fn index(&'a self, i: usize) -> Path<'a> {
        Path { parent: Some(self), part: Part::Index(i) }
    }
    /// `self[key]`.
    pub const fn key(&'a self, key: &'a str) -> Path<'a> {
        Path { parent: Some(self), part: Part::Key(key) }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(p) = self.parent {
            p.fmt(f)?;
        }
        match (self.part, self.parent) {
            (Part::Name(n), Some(_)) => write!(f, ".{n}"),
            (Part::Name(n), None) => f.write_str(n),
            (Part::Index(i), _) => write!(f, "[{i}]"),
            (Part::Key(k), _) => write!(f, "[{k}]"),
        }
    }
}

impl From<Path<'_>> for String {
    fn from(p: Path<'_>) -> String {
        p.to_string()
    }
}
impl From<&Path<'_>> for String {
    fn from(p: &Path<'_>) -> String {
        p.to_string()
    }
}

/// The text of a field, empty when absent.
pub fn text<'a>(v: &'a Value, name: &str) -> &'a str {
    v[name].as_str().unwrap_or_default()
}

/// The items of a list field, none when absent.
pub fn list<'a>(v: &'a Value, name: &str) -> &'a [Value] {
    v[name].as_array().map_or(&[], Vec::as_slice)
}

/// The entries of a map field, none when absent.
pub fn entries<'a>(v: &'a Value, name: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    v[name].as_object().into_iter().flatten()
}

/// Whether a field is `true`.
pub fn is_true(v: &Value, name: &str) -> bool {
    v[name].as_bool().unwrap_or(false)
}

/// The objects in a list field, to be changed.
pub fn items_mut<'a>(m: &'a mut Fields, name: &str) -> impl Iterator<Item = &'a mut Fields> {
    m.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// An object field that exists, to be changed.
pub fn child_mut<'a>(m: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    m.get_mut(name).and_then(Value::as_object_mut)
}

/// An object field, made when absent; `None` when it is something else.
pub fn ensure<'a>(m: &'a mut Fields, name: &str) -> Option<&'a mut Fields> {
    fill_absent(m, name, || Value::Object(Fields::new()));
    child_mut(m, name)
}

/// Sets a field that upstream declares without a pointer: zero values (`""`, `0`) count as absent.
pub fn fill(m: &mut Fields, name: &str, value: impl Into<Value>) {
    let unset = match m.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Number(n)) => n.as_i64() == Some(0),
        Some(_) => false,
    };
    if unset {
        m.insert(name.into(), value.into());
    }
}

/// Sets a field that upstream declares as a pointer: only absence counts.
pub fn fill_absent(m: &mut Fields, name: &str, value: impl FnOnce() -> Value) {
    if m.get(name).is_none_or(Value::is_null) {
        m.insert(name.into(), value());
    }
}

/// `spec` of an object, made when absent, because upstream's is a struct and its defaults apply all the same.
pub fn spec_mut(object: &mut Value) -> Option<&mut Fields> {
    ensure(object.as_object_mut()?, "spec")
}

/// Adds `Invalid value` with the check's words, if it fails.
pub fn check(path: Path<'_>, value: &str, rule: impl FnOnce(&str) -> Result<(), String>, errors: &mut Vec<FieldError>) {
    if let Err(why) = rule(value) {
        errors.push(FieldError::invalid(path, value, why));
    }
}

/// Adds `Required value` if the text is empty; otherwise runs the check.
pub fn required(
    path: Path<'_>,
    value: &str,
    rule: impl FnOnce(&str) -> Result<(), String>,
    errors: &mut Vec<FieldError>,
) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        check(path, value, rule, errors);
    }
}

/// Any text will do.
pub fn any(_: &str) -> Result<(), String> {
    Ok(())
}

/// Adds `Unsupported value` unless the text is one of a few.
pub fn one_of(path: Path<'_>, value: &str, supported: &[&str], errors: &mut Vec<FieldError>) {
    if !supported.contains(&value) {
        errors.push(FieldError::not_supported(path, value, supported));
    }
}

/// The same of a text that must not be empty.
pub fn required_one_of(path: Path<'_>, value: &str, supported: &[&str], errors: &mut Vec<FieldError>) {
    if value.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else {
        one_of(path, value, supported, errors);
    }
}

/// Adds upstream's errors for what is no subdomain, a `/` and a path (`IsDomainPrefixedPath`).
pub fn domain_prefixed_path(path: Path<'_>, value: &str, errors: &mut Vec<FieldError>) {
    match value.split_once('/') {
        _ if value.is_empty() => errors.push(FieldError::required(path, "")),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            check(path, domain, names::subdomain, errors);
            check(path, rest, names::http_path, errors);
        }
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.push(FieldError::invalid(path, value, why));
        }
    }
}

/// What a port may speak.
pub const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// Adds upstream's error for what is no port's number. Where none is given it is zero.
pub fn port_number(path: Path<'_>, value: &Value, errors: &mut Vec<FieldError>) {
    let n = value.as_i64().unwrap_or(0);
    if let Err(why) = names::port_number(n) {
        errors.push(FieldError::invalid(path, n, why));
    }
}

/// Adds upstream's error for a number below zero.
pub fn nonnegative(path: Path<'_>, value: &Value, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|n| n < 0) {
        errors.push(FieldError::invalid(path, value.clone(), "must be greater than or equal to 0"));
    }
}

/// Adds upstream's error for a number outside `min..=max`.
pub fn within(path: Path<'_>, value: &Value, min: i64, max: i64, errors: &mut Vec<FieldError>) {
    if value.as_i64().is_some_and(|n| n < min || n > max) {
        errors.push(FieldError::invalid(path, value.clone(), format!("must be between {min} and {max}, inclusive")));
    }
}

/// Adds `field is immutable` when a field differs.
pub fn immutable(path: Path<'_>, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    if new != old {
        errors.push(FieldError::invalid(path, new.clone(), "field is immutable"));
    }
}
