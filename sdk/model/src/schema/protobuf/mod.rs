//! Kubernetes' protobuf: `k8s\0`, then `runtime.Unknown` with apiVersion, kind and the message.

mod decode;
mod encode;
pub(super) mod wire;

use serde_json::Value;

use super::{DecodeError, EncodeError, Schema};
use wire::{Reader, bytes_field, text_field};

/// How every protobuf body begins.
pub const MAGIC: &[u8; 4] = b"k8s\0";
/// So many objects and lists may be around a value: what serde_json reads again as JSON.
const MAX_DEPTH: u32 = 127;

/// Whether a body is protobuf rather than JSON or YAML.
pub fn is_protobuf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

impl Schema {
    /// Decodes a body to the object it holds, apiVersion and kind included. Zero scalars are absent unless upstream's
    /// field is a pointer or always written.
    pub fn decode_protobuf(&self, bytes: &[u8]) -> Result<Value, DecodeError> {
        self.decode_envelope(bytes, 0)
    }

    /// What an envelope holds that is within `depth` objects and lists.
    fn decode_envelope(&self, bytes: &[u8], depth: u32) -> Result<Value, DecodeError> {
        let body = bytes
            .strip_prefix(MAGIC)
            .ok_or(DecodeError::Protobuf("provided data does not appear to be a protobuf message"))?;
        let unknown = Unknown::read(body)?;
        if !unknown.encoding.is_empty() {
            return Err(DecodeError::Protobuf("content encodings are not supported"));
        }
        if unknown.content_type == "application/json" {
            return decode::json(unknown.raw, depth);
        }
        let not_registered =
            || DecodeError::NotRegistered { version: unknown.api_version.into(), kind: unknown.kind.into() };
        let ty = self.lookup(unknown.api_version, unknown.kind).ok_or_else(not_registered)?;
        if self.get(ty).openapi.is_some() {
            // Custom resources have no protobuf.
            return Err(not_registered());
        }
        let mut map = serde_json::Map::new();
        map.insert("apiVersion".into(), unknown.api_version.into());
        map.insert("kind".into(), unknown.kind.into());
        self.decode_message(ty, unknown.raw, &mut map, depth)?;
        Ok(Value::Object(map))
    }

    /// apiVersion and kind of a protobuf body.
    pub fn peek_protobuf(bytes: &[u8]) -> Option<(&str, &str)> {
        let unknown = Unknown::read(bytes.strip_prefix(MAGIC)?).ok()?;
        Some((unknown.api_version, unknown.kind))
    }

    /// Whether a kind has a protobuf form. Custom resources have none.
    pub fn has_protobuf(&self, api_version: &str, kind: &str) -> bool {
        self.lookup(api_version, kind).is_some_and(|ty| !self.get(ty).wire.is_empty())
    }

    /// Encodes an object or list, envelope included.
    pub fn encode_protobuf(&self, value: &Value) -> Result<Vec<u8>, EncodeError> {
        let text = |name: &str| value[name].as_str().unwrap_or_default();
        let (version, kind) = (text("apiVersion"), text("kind"));
        // What every group has is the same in its beta.
        let stable = if version == "meta.k8s.io/v1beta1" { "meta.k8s.io/v1" } else { version };
        let ty = self
            .lookup(stable, kind)
            .ok_or_else(|| EncodeError::NotRegistered { version: version.into(), kind: kind.into() })?;
        if self.get(ty).wire.is_empty() {
            return Err(EncodeError::NoProtobuf);
        }
        let mut type_meta = vec![];
        text_field(&mut type_meta, 1, version);
        text_field(&mut type_meta, 2, kind);
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(MAGIC);
        bytes_field(&mut out, 1, &type_meta);
        wire::nested(&mut out, 2, |out| self.encode_message(ty, value, out))?;
        // Go writes these two even if they are empty.
        text_field(&mut out, 3, "");
        text_field(&mut out, 4, "");
        Ok(out)
    }

    /// The body of one frame of a protobuf watch: a `metav1.WatchEvent` in no envelope, whose object is in one. The
    /// transport puts its length in four bytes, big-endian, before it.
    pub fn encode_protobuf_watch(&self, event: &str, object: &Value) -> Result<Vec<u8>, EncodeError> {
        let object = self.encode_protobuf(object)?;
        let mut out = Vec::with_capacity(object.len() + 32);
        text_field(&mut out, 1, event);
        wire::nested(&mut out, 2, |out| {
            bytes_field(out, 1, &object);
            Ok::<(), EncodeError>(())
        })?;
        Ok(out)
    }
}

#[derive(Default)]
struct Unknown<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    encoding: &'a str,
    content_type: &'a str,
}

impl<'a> Unknown<'a> {
    fn read(body: &'a [u8]) -> Result<Unknown<'a>, DecodeError> {
        let text = |b: &'a [u8]| std::str::from_utf8(b).map_err(|_| DecodeError::Protobuf("text is not UTF-8"));
        let mut unknown = Unknown::default();
        let mut reader = Reader(body);
        while let Some((tag, value)) = reader.next()? {
            match tag {
                1 => {
                    let mut meta = Reader(value.bytes()?);
                    while let Some((tag, value)) = meta.next()? {
                        match tag {
                            1 => unknown.api_version = text(value.bytes()?)?,
                            2 => unknown.kind = text(value.bytes()?)?,
                            _ => {}
                        }
                    }
                }
                2 => unknown.raw = value.bytes()?,
                3 => unknown.encoding = text(value.bytes()?)?,
                4 => unknown.content_type = text(value.bytes()?)?,
                _ => {}
            }
        }
        Ok(unknown)
    }
}
