//! A stored object: its encoded JSON, shared by everyone who reads it, and its metadata, decoded once.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::facts::Facts;
use crate::{Key, Time};

/// Every stored body begins with this text, and the resourceVersion's digits follow it: the revision is known only when
/// the write is applied, so it is spliced in there, once.
const HEAD: &str = "{\"metadata\":{\"resourceVersion\":\"";

/// One version of one object, immutable. Clone the `Arc` around it, never the object.
pub struct Object {
    /// Where it is stored.
    pub key: Key,
    /// The revision of its last change: its `metadata.resourceVersion`.
    pub revision: u64,
    /// Its decoded metadata, and the few other fields that indexes need.
    pub meta: Meta,
    /// Its JSON in storage version, resourceVersion included; Secret values stay sealed in it.
    pub body: Bytes,
    facts: OnceLock<Arc<dyn Any + Send + Sync>>,
}

/// The metadata that generic code needs without decoding the whole object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta {
    /// UID.
    pub uid: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<Box<str>, Box<str>>,
    /// Annotations.
    pub annotations: BTreeMap<Box<str>, Box<str>>,
    /// Finalizers.
    pub finalizers: Vec<Box<str>>,
    /// Owner references.
    pub owner_references: Vec<OwnerReference>,
    /// Set once deletion has begun; the time is parsed on demand by [`Meta::deletion`].
    pub deletion_timestamp: Option<Box<str>>,
    /// RFC 3339.
    pub creation_timestamp: Option<Box<str>>,
    /// Generation.
    pub generation: i64,
    /// `spec.nodeName`, of pods: watches are indexed by it. Filled by [`Object::decode`].
    #[serde(skip)]
    pub node_name: Option<Arc<str>>,
}

/// `metav1.OwnerReference`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// API version of the owner.
    pub api_version: Box<str>,
    /// Kind of the owner.
    pub kind: Box<str>,
    /// Name of the owner.
    pub name: Box<str>,
    /// UID of the owner.
    pub uid: Box<str>,
    /// Whether the owner is the managing controller.
    pub controller: bool,
    /// Whether foreground deletion of the owner waits for this object.
    pub block_owner_deletion: bool,
}

impl Meta {
    /// When deletion began (plus grace), if it has.
    pub fn deletion(&self) -> Option<Time> {
        self.deletion_timestamp.as_deref().and_then(Time::parse)
    }
    /// When the object was created.
    pub fn created(&self) -> Option<Time> {
        self.creation_timestamp.as_deref().and_then(Time::parse)
    }
    /// The managing controller's reference.
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|o| o.controller)
    }
}

#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    metadata: Meta,
    #[serde(default)]
    spec: Option<SpecHead>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SpecHead {
    node_name: Option<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Parts {
    spec: Value,
    status: Value,
}

/// Encodes `value` for a Put: any `metadata.resourceVersion` is dropped, and the place for the digits is
/// [`revision_at`] bytes from the start. `apiVersion` and `kind` come last, where [`untyped`] can cut them off.
pub fn encode(value: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(HEAD.as_bytes());
    out.push(b'"');
    fields(&mut out, &value["metadata"], |k| k != "resourceVersion");
    out.push(b'}');
    fields(&mut out, value, |k| !matches!(k, "metadata" | "apiVersion" | "kind"));
    fields(&mut out, value, |k| matches!(k, "apiVersion" | "kind"));
    out.push(b'}');
    out.into()
}

/// A stored body without its type and without its closing brace: a list says for all of its items what they are, so
/// upstream's items do not say it again. `type_meta` is [`type_meta`]'s text; `None` if the body does not end with it.
pub fn untyped<'b>(body: &'b [u8], type_meta: &str) -> Option<&'b [u8]> {
    body.strip_suffix(type_meta.as_bytes())
}

/// How an [`encode`]d body of this kind ends.
pub fn type_meta(api_version: &str, kind: &str) -> String {
    format!(",\"apiVersion\":\"{api_version}\",\"kind\":\"{kind}\"}}")
}

fn fields(out: &mut Vec<u8>, object: &Value, wanted: impl Fn(&str) -> bool) {
    for (k, v) in object.as_object().into_iter().flatten().filter(|(k, _)| wanted(k)) {
        out.push(b',');
        // Writing JSON values to a Vec cannot fail.
        let _ = serde_json::to_writer(&mut *out, k);
        out.push(b':');
        let _ = serde_json::to_writer(&mut *out, v);
    }
}

/// Where in an [`encode`]d body the revision's digits go, in bytes.
pub const fn revision_at() -> usize {
    HEAD.len()
}

/// Splices `revision` into an [`encode`]d body.
pub fn with_revision(body: &[u8], revision: u64) -> Bytes {
    splice(body, revision_at(), revision_at(), revision)
}

fn splice(body: &[u8], from: usize, to: usize, revision: u64) -> Bytes {
    let mut out = BytesMut::with_capacity(body.len() + 20);
    out.put_slice(&body[..from]);
    out.put_slice(revision.to_string().as_bytes());
    out.put_slice(&body[to..]);
    out.freeze()
}

impl Object {
    /// Decodes a stored body that already has its revision. Bodies that are not API objects (internal keys) get empty
    /// metadata; they are never served.
    pub fn decode(key: Key, revision: u64, body: Bytes) -> Object {
        let mut meta = Meta::default();
        if body.starts_with(HEAD.as_bytes())
            && let Ok(head) = serde_json::from_slice::<Head>(&body)
        {
            meta = head.metadata;
            meta.node_name = head.spec.and_then(|s| s.node_name).and_then(|v| v.as_str().map(Into::into));
        }
        Object { key, revision, meta, body, facts: OnceLock::new() }
    }

    /// The same object at another revision: what a DELETED event carries.
    pub fn at_revision(&self, revision: u64) -> Object {
        let end = revision_at() + self.revision.to_string().len();
        let body = if self.body.starts_with(HEAD.as_bytes()) {
            splice(&self.body, revision_at(), end, revision)
        } else {
            self.body.clone()
        };
        Object { key: self.key.clone(), revision, meta: self.meta.clone(), body, facts: OnceLock::new() }
    }

    /// The whole object as JSON.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// `spec` and `status`, null where there is none. Cheaper than [`Object::value`], since `managedFields`, a third or more of
    /// many objects, is skipped.
    pub fn spec_and_status(&self) -> (Value, Value) {
        let parts: Parts = serde_json::from_slice(&self.body).unwrap_or_default();
        (parts.spec, parts.status)
    }

    /// The whole object as one of `k8s-openapi`'s types. Not kept: for an object that one reconcile is about.
    pub fn typed<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The object's small projection, decoded by the first reader and shared by all others. Each resource has one type
    /// of facts; asking for another decodes anew each time.
    pub fn facts<F: Facts>(&self) -> Arc<F> {
        let made = self.facts.get_or_init(|| Arc::new(F::of(self)));
        Arc::downcast(made.clone()).unwrap_or_else(|_| Arc::new(F::of(self)))
    }

    /// The name of the object.
    pub fn name(&self) -> &str {
        &self.key.name
    }

    /// The namespace of the object, empty when it has none.
    pub fn namespace(&self) -> &str {
        &self.key.namespace
    }
}

impl std::fmt::Debug for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.key, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_is_spliced_in_and_replaced() {
        let v = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a","labels":{"x":"y"},"resourceVersion":"9"},
            "spec":{"nodeName":"n1"}});
        let o = Object::decode(Key::new("pods", "d", "a"), 12, with_revision(&encode(&v), 12));
        assert_eq!(o.value()["metadata"]["resourceVersion"], "12");
        assert_eq!(o.meta.node_name.as_deref(), Some("n1"));
        assert_eq!(o.meta.labels["x"].as_ref(), "y");
        let later = o.at_revision(1234);
        assert_eq!(later.value()["metadata"]["resourceVersion"], "1234");
        assert_eq!(later.value()["spec"], v["spec"]);
        assert_eq!(later.at_revision(7).value()["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn spec_and_status_are_read_alone() {
        let v = json!({"metadata":{"name":"a","managedFields":[{"fieldsV1":{"f:spec":{}}}]},"spec":{"x":[1]},"status":{"y":"z"}});
        let parts =
            |v: &Value| Object::decode(Key::new("x", "", "a"), 1, with_revision(&encode(v), 1)).spec_and_status();
        assert_eq!(parts(&v), (v["spec"].clone(), v["status"].clone()));
        assert_eq!(parts(&json!({"metadata":{"name":"a"}})), (Value::Null, Value::Null));
    }

    #[test]
    fn the_type_can_be_cut_off() {
        let v = json!({"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"nodeName":"n1"}});
        let end = type_meta("v1", "Pod");
        let cut = |v: &Value| untyped(&encode(v), &end).map(|b| String::from_utf8(b.to_vec()).unwrap());
        assert_eq!(cut(&v).unwrap(), r#"{"metadata":{"resourceVersion":"","name":"a"},"spec":{"nodeName":"n1"}"#);
        assert_eq!(cut(&json!({"a": 1})), None);
    }

    #[test]
    fn an_object_without_metadata_encodes() {
        let o = Object::decode(Key::new("x", "", "a"), 1, with_revision(&encode(&json!({"a":1})), 1));
        assert_eq!(o.value(), json!({"a":1,"metadata":{"resourceVersion":"1"}}));
    }
}
