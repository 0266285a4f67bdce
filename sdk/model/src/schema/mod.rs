//! The schema of every kind, as data, and what it drives: JSON ⇄ protobuf, strict decoding, pruning, normalising and
//! patches. Nothing here knows a kind by name; about a dozen types whose JSON is not their protobuf are known by
//! [`Special`].
//!
//! The built-in kinds come from `table.txt`, which `sdk/model/generator` makes, and from `gateway.txt`. Custom resources join a
//! clone of [`Schema::builtin`] by [`Schema::add_custom`].

mod custom;
mod error;
mod go;
mod json;
pub mod merge_patch;
mod normalise;
pub mod openapi;
mod outline;
mod protobuf;
mod strategic;
pub mod structural;
mod syntax;
mod table;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

pub use error::{DecodeError, EncodeError, PatchError};
pub use json::strict_error;
pub use protobuf::{MAGIC, is_protobuf};

/// Text that is either in the built-in table or made at run time.
pub(crate) type Text = Cow<'static, str>;

/// A type in a [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub(crate) u32);

/// Facts about types, and which kinds they are. Cheap to clone.
#[derive(Clone, Default)]
pub struct Schema {
    types: Vec<Arc<Type>>,
    /// apiVersion → kind → type.
    kinds: BTreeMap<Text, BTreeMap<Text, TypeId>>,
}

/// An object type.
#[derive(Debug, Default)]
pub struct Type {
    /// OpenAPI name, such as `io.k8s.api.apps.v1.Deployment`.
    pub name: Text,
    /// Fields of its JSON, in the order of their names; those of inlined messages included.
    pub fields: Vec<Field>,
    /// Whether its JSON is made by hand upstream.
    pub special: Special,
    /// (apiVersion, kind) when it is a kind; then its JSON has these two fields.
    pub gvk: Option<(Text, Text)>,
    /// Whether it is owned and applied as a whole.
    pub atomic: bool,
    /// Whether unknown fields stay (custom resources).
    pub preserve_unknown: bool,
    /// The schema of a custom resource as its definition gives it, for OpenAPI.
    pub openapi: Option<serde_json::Value>,
    /// Fields of its protobuf, in the order of their numbers.
    pub(crate) wire: Vec<Wire>,
    /// Line of its description.
    pub(crate) line: Option<u32>,
}

/// A field of a protobuf message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    pub tag: u32,
    pub to: WireTo,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum WireTo {
    /// Index into [`Type::fields`].
    Field(u16),
    /// A message whose fields stand in the same JSON object.
    Inline(TypeId),
}

/// A field of an object.
#[derive(Clone, Debug, Default)]
pub struct Field {
    /// JSON name.
    pub name: Text,
    /// One value, a list or a map of them.
    pub shape: Shape,
    /// What the values are.
    pub elem: Elem,
    /// Upstream's Go field is a pointer to a scalar (or list): zero is not the same as absent.
    pub pointer: bool,
    /// A scalar, list or map that upstream writes even if it is empty.
    pub always: bool,
    /// A message that upstream writes even if it is empty.
    pub value: bool,
    /// OpenAPI says that it is required.
    pub required: bool,
    /// How server-side apply merges it, if it is a list.
    pub list_type: ListType,
    /// The keys of a list of type map.
    pub list_keys: Vec<Text>,
    /// Whether a struct or map is replaced as a whole by server-side apply.
    pub atomic: bool,
    /// Strategic merge: the key of the elements.
    pub patch_key: Option<Text>,
    /// Strategic merge: `merge`, `replace`, `retainKeys`, or a list of these.
    pub patch_strategy: Text,
    /// Default as JSON text.
    pub default: Option<Text>,
    /// Custom resources: a value of the wrong type stays for validation to refuse.
    pub lenient: bool,
    /// Go type, where it has a name of its own.
    pub(crate) go: Option<Text>,
    pub(crate) line: Option<u32>,
}

/// How many values a field has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    /// One.
    #[default]
    One,
    /// A JSON array.
    List,
    /// A JSON object with any keys.
    Map,
}

/// What a field's value is, or the elements of its list or map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Elem {
    /// Text.
    #[default]
    String,
    /// true or false.
    Bool,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Any number.
    Double,
    /// base64 in JSON.
    Bytes,
    /// Object, or a [`Special`].
    Message(TypeId),
}

/// Upstream's list types.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// Replaced as a whole; also what a list without a marker is.
    #[default]
    Atomic,
    /// A set of scalars.
    Set,
    /// Elements have keys.
    Map,
}

/// Types whose JSON is not their fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Special {
    /// An ordinary object.
    #[default]
    None,
    /// A number or text.
    IntOrString,
    /// `resource.Quantity`.
    Quantity,
    /// RFC 3339, seconds.
    Time,
    /// RFC 3339, microseconds.
    MicroTime,
    /// Go duration text.
    Duration,
    /// Any JSON that stays as it is: `FieldsV1`, `JSON`.
    Json,
    /// Any object; protobuf may hold it in protobuf form.
    RawExtension,
    /// `JSONSchemaPropsOrBool`; field `schema` of its message is the object.
    SchemaOrBool,
    /// `JSONSchemaPropsOrArray`.
    SchemaOrArray,
    /// `JSONSchemaPropsOrStringArray`.
    SchemaOrStringArray,
    /// A list of strings that is a message in protobuf: `ExtraValue`, `Verbs`.
    Strings,
}

/// Kinds that exist in every group and version.
const EVERYWHERE: [&str; 5] = ["DeleteOptions", "CreateOptions", "UpdateOptions", "PatchOptions", "WatchEvent"];

impl Schema {
    /// The built-in kinds of Kubernetes 1.35, and those that upstream has by CustomResourceDefinitions.
    pub fn builtin() -> &'static Schema {
        static BUILTIN: OnceLock<Schema> = OnceLock::new();
        BUILTIN.get_or_init(|| {
            let mut schema = table::load(table::TABLE);
            for kind in outline::kinds() {
                schema.add_custom(kind.api_version, kind.kind, &format!("{}List", kind.kind), &kind.schema);
            }
            schema
        })
    }

    /// The structural schema of a built-in kind that upstream has by a CustomResourceDefinition.
    pub fn outlined(api_version: &str, kind: &str) -> Option<structural::Structure> {
        let found = outline::kinds().iter().find(|k| k.api_version == api_version && k.kind == kind)?;
        Some(structural::Structure::of(&found.schema))
    }

    /// The type of a kind, its list, or one of the kinds that every version has, such as `DeleteOptions`.
    pub fn lookup(&self, api_version: &str, kind: &str) -> Option<TypeId> {
        let exact = self.kinds.get(api_version).and_then(|k| k.get(kind)).copied();
        exact.or_else(|| {
            if !EVERYWHERE.contains(&kind) {
                return None;
            }
            self.kinds.get("v1")?.get(kind).copied()
        })
    }

    /// The facts about a type.
    pub fn get(&self, ty: TypeId) -> &Type {
        &self.types[ty.0 as usize]
    }

    /// All kinds: (apiVersion, kind, type).
    pub fn kinds(&self) -> impl Iterator<Item = (&str, &str, TypeId)> {
        self.kinds.iter().flat_map(|(v, kinds)| kinds.iter().map(move |(k, t)| (v.as_ref(), k.as_ref(), *t)))
    }

    /// A type by its OpenAPI name.
    pub fn by_name(&self, name: &str) -> Option<TypeId> {
        self.types.iter().position(|t| t.name == name).map(|i| TypeId(i as u32))
    }

    /// The description of a type.
    pub fn description(&self, ty: &Type) -> &'static str {
        table::description(ty.line)
    }

    /// The description of a field.
    pub fn field_description(&self, field: &Field) -> &'static str {
        table::description(field.line)
    }

    /// Adds a type.
    pub fn add_type(&mut self, ty: Type) -> TypeId {
        let id = TypeId(self.types.len() as u32);
        self.types.push(Arc::new(ty));
        id
    }

    /// Makes a type known as a kind, instead of what was known by that name.
    pub fn add_kind(&mut self, api_version: &str, kind: &str, ty: TypeId) {
        self.kinds.entry(api_version.to_string().into()).or_default().insert(kind.to_string().into(), ty);
    }

    /// Forgets a kind.
    pub fn remove_kind(&mut self, api_version: &str, kind: &str) {
        if let Some(kinds) = self.kinds.get_mut(api_version) {
            kinds.remove(kind);
        }
    }

    fn special(&self, elem: Elem) -> Special {
        match elem {
            Elem::Message(id) => self.get(id).special,
            _ => Special::None,
        }
    }
}

impl Type {
    /// A field by its JSON name.
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.position(name).map(|i| &self.fields[i])
    }
    fn position(&self, name: &str) -> Option<usize> {
        self.fields.binary_search_by(|f| f.name.as_ref().cmp(name)).ok()
    }
    /// The last part of the name, as Go calls the type.
    pub fn short_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or_default()
    }
}

impl Field {
    /// Whether strategic merge merges the list's elements.
    pub fn patch_merges(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "merge")
    }
    /// Whether strategic merge replaces the value.
    pub fn patch_replaces(&self) -> bool {
        self.patch_strategy.split(',').any(|s| s == "replace")
    }
}

#[cfg(test)]
mod tests;
