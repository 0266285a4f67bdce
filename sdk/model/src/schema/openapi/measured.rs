//! `metrics.k8s.io/v1beta1`: kinds that are measured when somebody asks, so that the table of what is stored and decoded
//! has none of them. Their definitions are those of `k8s.io/metrics`.

use serde_json::{Map, Value, json};

use super::definitions::Definitions;
use super::{Dialect, paths};
use crate::kinds::{Kind, Plain};

/// The group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";

const NAME: &str = "io.k8s.metrics.pkg.apis.metrics.v1beta1.";

/// Adds the paths of the group; answers the definitions of its kinds.
pub(super) fn add(defined: &mut Definitions<'_>, paths: &mut Map<String, Value>) -> Map<String, Value> {
    let all = definitions(defined);
    for (kind, plural, namespaced) in [("NodeMetrics", "nodes", false), ("PodMetrics", "pods", true)] {
        let [object, list] =
            [kind.into(), format!("{kind}List")].map(|n| defined.dialect.reference(&format!("{NAME}{n}")));
        let kind = Kind { namespaced, ..Kind::new((GROUP, VERSION), kind, (plural, ""), Plain) };
        paths::add_read_only(defined, paths, &kind, &object, &list);
    }
    all
}

fn definitions(defined: &mut Definitions<'_>) -> Map<String, Value> {
    let text = |description: &str| json!({"description": description, "type": "string"});
    let version = || text("APIVersion is the group and version of this object's schema.");
    let kind = || text("Kind is the name of this object's type.");
    let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.";
    let metadata = message(defined, &format!("{meta}ObjectMeta"), "The name and the labels of what was measured.");
    let list_metadata = message(defined, &format!("{meta}ListMeta"), "Standard metadata of a list.");
    let timestamp = message(defined, &format!("{meta}Time"), "When the time of measurement ended.");
    let window = message(defined, &format!("{meta}Duration"), "How long it was: from timestamp - window to timestamp.");
    let quantity = paths::reference(defined, "io.k8s.apimachinery.pkg.api.resource.Quantity");
    let usage = json!({
        "additionalProperties": quantity, "type": "object",
        "description": "How much of each resource was used. Memory is the working set.",
    });
    let containers = list(defined, &format!("{NAME}ContainerMetrics"), "What each of the pod's containers used.");
    let mut out = Map::new();
    let mut add = |name: &str, description: &str, properties: Value, required: &[&str]| {
        let mut definition = json!({
            "description": description, "properties": properties, "required": required, "type": "object",
        });
        if name != "ContainerMetrics" {
            definition["properties"]["apiVersion"] = version();
            definition["properties"]["kind"] = kind();
            definition["x-kubernetes-group-version-kind"] = json!([{"group": GROUP, "kind": name, "version": VERSION}]);
        }
        out.insert(format!("{NAME}{name}"), definition);
    };
    add(
        "ContainerMetrics",
        "ContainerMetrics is what a container used.",
        json!({"name": text("The container's name."), "usage": usage}),
        &["name", "usage"],
    );
    add(
        "NodeMetrics",
        "NodeMetrics is what a node used.",
        json!({"metadata": metadata, "timestamp": timestamp, "window": window, "usage": usage}),
        &["timestamp", "window", "usage"],
    );
    add(
        "PodMetrics",
        "PodMetrics is what a pod used.",
        json!({"metadata": metadata, "timestamp": timestamp, "window": window, "containers": containers}),
        &["timestamp", "window", "containers"],
    );
    for (item, what) in [("NodeMetrics", "nodes"), ("PodMetrics", "pods")] {
        let items = list(defined, &format!("{NAME}{item}"), &format!("What each of the {what} used."));
        add(
            &format!("{item}List"),
            &format!("{item}List is a list of {item}."),
            json!({"metadata": list_metadata, "items": items}),
            &["items"],
        );
    }
    out
}

/// A property that refers to a message. In v3 a reference with anything beside it must be wrapped.
fn message(defined: &mut Definitions<'_>, name: &str, description: &str) -> Value {
    let reference = paths::reference(defined, name);
    match defined.dialect {
        Dialect::V2 => json!({"$ref": reference["$ref"], "description": description}),
        Dialect::V3 => json!({"allOf": [reference], "default": {}, "description": description}),
    }
}

/// A property that is a list of one of the group's own messages.
fn list(defined: &Definitions<'_>, name: &str, description: &str) -> Value {
    let reference = defined.dialect.reference(name);
    let items = match defined.dialect {
        Dialect::V2 => reference,
        Dialect::V3 => json!({"allOf": [reference], "default": {}}),
    };
    json!({"description": description, "items": items, "type": "array"})
}
