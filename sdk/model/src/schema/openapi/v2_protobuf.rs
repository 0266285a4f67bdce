//! The v2 document in protobuf: gnostic's `openapi.v2.Document`, which is how kubectl reads it. A description of its
//! messages, and a walk of the JSON by it.

use serde_json::{Map, Value};

use crate::schema::protobuf::wire::{bytes_field, double_field, nested, text_field, varint_field};

/// What a key of the JSON becomes.
#[derive(Clone, Copy)]
enum To {
    Text,
    Texts,
    Bool,
    Int,
    Double,
    /// Any JSON, as YAML text.
    Any,
    Anys,
    One(&'static Message),
    Many(&'static Message),
    /// An object whose keys are names, as a message of (name, value) pairs in field 1.
    Named(&'static Message),
    /// `type`: text or a list of texts, in a message of its own.
    Types,
    /// `items`: one schema in a message of its own.
    Items,
    /// `additionalProperties`: a schema or a boolean.
    SchemaOrBool,
    /// A schema in a message that has alternatives.
    Alternative(&'static Message),
}

/// Keys in the order of their numbers, and the number of `x-` extensions.
struct Message {
    keys: &'static [(&'static str, u32, To)],
    extensions: Option<u32>,
    shape: Shape,
}

/// How the value stands in the message.
#[derive(PartialEq)]
enum Shape {
    Plain,
    /// Keys are paths: pairs in field 2.
    Paths,
    /// Keys are status codes: pairs in field 1, whose value holds a response in its field 1.
    Responses,
    /// A parameter, in the message for where it is.
    Parameter,
}

const fn plain(keys: &'static [(&'static str, u32, To)], extensions: Option<u32>) -> Message {
    Message { keys, extensions, shape: Shape::Plain }
}

static DOCUMENT: Message = plain(
    &[
        ("swagger", 1, To::Text),
        ("info", 2, To::One(&INFO)),
        ("paths", 8, To::One(&PATHS)),
        ("definitions", 9, To::Named(&SCHEMA)),
    ],
    Some(16),
);
static INFO: Message =
    plain(&[("title", 1, To::Text), ("version", 2, To::Text), ("description", 3, To::Text)], Some(7));
static PATHS: Message = Message { keys: &[], extensions: Some(1), shape: Shape::Paths };
static PATH: Message = plain(
    &[
        ("get", 2, To::One(&OPERATION)),
        ("put", 3, To::One(&OPERATION)),
        ("post", 4, To::One(&OPERATION)),
        ("delete", 5, To::One(&OPERATION)),
        ("patch", 8, To::One(&OPERATION)),
        ("parameters", 9, To::Many(&PARAMETER)),
    ],
    Some(10),
);
static OPERATION: Message = plain(
    &[
        ("tags", 1, To::Texts),
        ("description", 3, To::Text),
        ("operationId", 5, To::Text),
        ("produces", 6, To::Texts),
        ("consumes", 7, To::Texts),
        ("parameters", 8, To::Many(&PARAMETER)),
        ("responses", 9, To::One(&RESPONSES)),
        ("schemes", 10, To::Texts),
        ("deprecated", 11, To::Bool),
    ],
    Some(13),
);
static RESPONSES: Message = Message { keys: &[], extensions: Some(2), shape: Shape::Responses };
static RESPONSE: Message = plain(&[("description", 1, To::Text), ("schema", 2, To::Alternative(&SCHEMA))], Some(5));
static PARAMETER: Message = Message { keys: &[], extensions: None, shape: Shape::Parameter };
static BODY: Message = plain(
    &[
        ("description", 1, To::Text),
        ("name", 2, To::Text),
        ("in", 3, To::Text),
        ("required", 4, To::Bool),
        ("schema", 5, To::One(&SCHEMA)),
    ],
    Some(6),
);
static QUERY: Message = plain(
    &[
        ("required", 1, To::Bool),
        ("in", 2, To::Text),
        ("description", 3, To::Text),
        ("name", 4, To::Text),
        ("type", 6, To::Text),
        ("format", 7, To::Text),
        ("uniqueItems", 20, To::Bool),
    ],
    Some(23),
);
static IN_PATH: Message = plain(
    &[
        ("required", 1, To::Bool),
        ("in", 2, To::Text),
        ("description", 3, To::Text),
        ("name", 4, To::Text),
        ("type", 5, To::Text),
        ("format", 6, To::Text),
        ("uniqueItems", 19, To::Bool),
    ],
    Some(22),
);
static SCHEMA: Message = plain(
    &[
        ("$ref", 1, To::Text),
        ("format", 2, To::Text),
        ("title", 3, To::Text),
        ("description", 4, To::Text),
        ("default", 5, To::Any),
        ("multipleOf", 6, To::Double),
        ("maximum", 7, To::Double),
        ("exclusiveMaximum", 8, To::Bool),
        ("minimum", 9, To::Double),
        ("exclusiveMinimum", 10, To::Bool),
        ("maxLength", 11, To::Int),
        ("minLength", 12, To::Int),
        ("pattern", 13, To::Text),
        ("maxItems", 14, To::Int),
        ("minItems", 15, To::Int),
        ("uniqueItems", 16, To::Bool),
        ("maxProperties", 17, To::Int),
        ("minProperties", 18, To::Int),
        ("required", 19, To::Texts),
        ("enum", 20, To::Anys),
        ("additionalProperties", 21, To::SchemaOrBool),
        ("type", 22, To::Types),
        ("items", 23, To::Items),
        ("allOf", 24, To::Many(&SCHEMA)),
        ("properties", 25, To::Named(&SCHEMA)),
    ],
    Some(31),
);

type Never = std::convert::Infallible;

/// Encodes a document that [`super::v2`] made.
pub fn encode(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 << 20);
    message(&mut out, &DOCUMENT, document);
    out
}

fn inside(out: &mut Vec<u8>, tag: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let done: Result<(), Never> = nested(out, tag, |out| {
        write(out);
        Ok(())
    });
    match done {
        Ok(()) => {}
        Err(never) => match never {},
    }
}

fn pair(out: &mut Vec<u8>, tag: u32, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    inside(out, tag, |out| {
        text_field(out, 1, name);
        inside(out, 2, write);
    });
}

/// gnostic's `Any`: a message whose field 2 is YAML. JSON is YAML.
fn any(out: &mut Vec<u8>, value: &Value) {
    text_field(out, 2, &format!("{value}\n"));
}

fn message(out: &mut Vec<u8>, of: &Message, value: &Value) {
    let Some(map) = value.as_object() else { return };
    match of.shape {
        Shape::Plain => {
            for (key, tag, to) in of.keys {
                if let Some(value) = map.get(*key) {
                    field(out, *tag, *to, value);
                }
            }
            if let Some(tag) = of.extensions {
                extensions(out, tag, map);
            }
        }
        Shape::Paths => {
            for (path, item) in map {
                pair(out, 2, path, |out| message(out, &PATH, item));
            }
        }
        Shape::Responses => {
            for (code, response) in map {
                pair(out, 1, code, |out| inside(out, 1, |out| message(out, &RESPONSE, response)));
            }
        }
        Shape::Parameter => inside(out, 1, |out| match map.get("in").and_then(Value::as_str) {
            Some("body") => inside(out, 1, |out| message(out, &BODY, value)),
            Some("path") => inside(out, 2, |out| inside(out, 4, |out| message(out, &IN_PATH, value))),
            _ => inside(out, 2, |out| inside(out, 3, |out| message(out, &QUERY, value))),
        }),
    }
}

fn extensions(out: &mut Vec<u8>, tag: u32, map: &Map<String, Value>) {
    for (key, value) in map.iter().filter(|(k, _)| k.starts_with("x-")) {
        pair(out, tag, key, |out| any(out, value));
    }
}

fn field(out: &mut Vec<u8>, tag: u32, to: To, value: &Value) {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match to {
        To::Text => text_field(out, tag, value.as_str().unwrap_or_default()),
        To::Texts => list(value).iter().for_each(|v| text_field(out, tag, v.as_str().unwrap_or_default())),
        To::Bool => varint_field(out, tag, u64::from(value.as_bool().unwrap_or_default())),
        To::Int => varint_field(out, tag, value.as_i64().unwrap_or_default() as u64),
        To::Double => double_field(out, tag, value.as_f64().unwrap_or_default()),
        To::Any => inside(out, tag, |out| any(out, value)),
        To::Anys => list(value).iter().for_each(|v| inside(out, tag, |out| any(out, v))),
        To::One(of) => inside(out, tag, |out| message(out, of, value)),
        To::Many(of) => list(value).iter().for_each(|v| inside(out, tag, |out| message(out, of, v))),
        To::Named(of) => inside(out, tag, |out| {
            for (name, value) in value.as_object().into_iter().flatten() {
                pair(out, 1, name, |out| message(out, of, value));
            }
        }),
        To::Types => inside(out, tag, |out| match value {
            Value::String(one) => bytes_field(out, 1, one.as_bytes()),
            many => list(many).iter().for_each(|v| text_field(out, 1, v.as_str().unwrap_or_default())),
        }),
        To::Items => inside(out, tag, |out| inside(out, 1, |out| message(out, &SCHEMA, value))),
        To::SchemaOrBool => inside(out, tag, |out| match value {
            Value::Bool(b) => varint_field(out, 2, u64::from(*b)),
            schema => inside(out, 1, |out| message(out, &SCHEMA, schema)),
        }),
        To::Alternative(of) => inside(out, tag, |out| inside(out, 1, |out| message(out, of, value))),
    }
}
