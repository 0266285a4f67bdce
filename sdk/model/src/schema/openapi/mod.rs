//! The OpenAPI documents of the kinds that are served: v3 by group and version with its index, and v2 as JSON and as
//! protobuf. `kubectl explain`, client-side validation and the check for server support of dry run and field validation
//! read these.

mod definitions;
mod measured;
mod paths;
mod v2_protobuf;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::Schema;
use crate::kinds::{Kind, Kinds};
use definitions::Definitions;

pub use measured::{GROUP as METRICS_GROUP, VERSION as METRICS_VERSION};
pub use v2_protobuf::encode as v2_protobuf;

/// The two versions of OpenAPI.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

impl Dialect {
    /// Where definitions stand.
    fn reference(self, name: &str) -> Value {
        let at = if self == Dialect::V2 { "#/definitions/" } else { "#/components/schemas/" };
        json!({"$ref": format!("{at}{name}")})
    }
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": "v1.35.0"})
}

/// `api/v1` or `apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// The index at `/openapi/v3`: where each group and version's document is. The address changes when the document does.
pub fn v3_index(schema: &Schema, kinds: &Kinds) -> Value {
    let mut versions: BTreeSet<(&str, &str)> = kinds.every_version().map(|k| (k.group, k.version)).collect();
    versions.insert((measured::GROUP, measured::VERSION));
    let mut paths = Map::new();
    for (group, version) in versions {
        let root = root(group, version);
        let hash = hash(schema, kinds, group, version);
        let address = format!("/openapi/v3/{root}?hash={hash}");
        paths.insert(root, json!({"serverRelativeURL": address}));
    }
    json!({"paths": paths})
}

/// The document of one group and version; `None` when no kind is in it.
pub fn v3(schema: &Schema, kinds: &Kinds, group: &str, version: &str) -> Option<Value> {
    let mut defined = Definitions::new(schema, Dialect::V3);
    let mut paths = Map::new();
    for kind in kinds.every_version().filter(|k| k.group == group && k.version == version) {
        paths::add(&mut defined, &mut paths, kind);
    }
    let mut measured = Map::new();
    if (group, version) == (measured::GROUP, measured::VERSION) {
        measured = measured::add(&mut defined, &mut paths);
    }
    if paths.is_empty() {
        return None;
    }
    let schemas = with(defined.finish(), measured);
    Some(json!({"openapi": "3.0.0", "info": info(), "paths": paths, "components": {"schemas": schemas}}))
}

/// The document of everything at `/openapi/v2`.
pub fn v2(schema: &Schema, kinds: &Kinds) -> Value {
    let mut defined = Definitions::new(schema, Dialect::V2);
    let mut paths = Map::new();
    for kind in kinds.every_version() {
        paths::add(&mut defined, &mut paths, kind);
    }
    let measured = measured::add(&mut defined, &mut paths);
    json!({"swagger": "2.0", "info": info(), "paths": paths, "definitions": with(defined.finish(), measured)})
}

fn with(mut definitions: Value, more: Map<String, Value>) -> Value {
    if let Some(all) = definitions.as_object_mut() {
        all.extend(more);
    }
    definitions
}

/// A hash of all that a document depends on (FNV-1a, twice).
pub fn hash(schema: &Schema, kinds: &Kinds, group: &str, version: &str) -> String {
    let mut text = format!("{} {}", env!("CARGO_PKG_VERSION"), super::table::TABLE.len());
    for kind in kinds.every_version().filter(|k| k.group == group && k.version == version) {
        text.push_str(&signature(schema, kind));
    }
    let fnv = |seed: u64| text.bytes().fold(seed, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3));
    format!("{:016X}{:016X}", fnv(0xcbf2_9ce4_8422_2325), fnv(0x9E37_79B9_7F4A_7C15))
}

fn signature(schema: &Schema, kind: &Kind) -> String {
    let custom = schema.lookup(&kind.api_version(), kind.kind).and_then(|t| schema.get(t).openapi.as_ref());
    let custom = custom.map(Value::to_string).unwrap_or_default();
    format!(
        "\n{} {} {} {:?} {} {} {:?} {custom}",
        kind.kind,
        kind.plural,
        kind.namespaced,
        kind.verbs,
        kind.status,
        kind.scale.is_some(),
        kind.subresources
    )
}

#[cfg(test)]
mod tests;
