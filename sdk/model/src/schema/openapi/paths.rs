//! The operations on each kind's resource, as far as clients look for them: addresses, verbs, parameters, bodies.

use serde_json::{Map, Value, json};

use super::definitions::Definitions;
use super::{Dialect, root};
use crate::kinds::Kind;

const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
const PATCH_TYPES: [&str; 5] = [
    "application/apply-patch+yaml",
    "application/apply-patch+cbor",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];
const MEDIA: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const WRITE: [(&str, &str, &str); 3] = [
    ("dryRun", "string", "When present, indicates that modifications should not be persisted. Valid value: All."),
    ("fieldManager", "string", "A name for the actor or entity that is making these changes."),
    ("fieldValidation", "string", "How the server treats unknown or duplicate fields: Ignore, Warn or Strict."),
];
const FORCE: (&str, &str, &str) = ("force", "boolean", "Take fields over from other managers; for apply patches only.");
const LIST: [(&str, &str, &str); 10] = [
    ("allowWatchBookmarks", "boolean", "Whether to send bookmarks in a watch."),
    ("continue", "string", "The token of the next page."),
    ("fieldSelector", "string", "Restricts the objects by their fields."),
    ("labelSelector", "string", "Restricts the objects by their labels."),
    ("limit", "integer", "The greatest number of objects in a page."),
    ("resourceVersion", "string", "The version to read at or watch from."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant."),
    ("sendInitialEvents", "boolean", "Whether a watch begins with the objects that exist."),
    ("timeoutSeconds", "integer", "How long the list or watch may take."),
    ("watch", "boolean", "Watch for changes instead of listing."),
];
const DELETE: [(&str, &str, &str); 4] = [
    ("dryRun", "string", "When present, indicates that modifications should not be persisted. Valid value: All."),
    ("gracePeriodSeconds", "integer", "Seconds before the object is deleted; zero is at once."),
    ("orphanDependents", "boolean", "Deprecated; use propagationPolicy."),
    ("propagationPolicy", "string", "Orphan, Background or Foreground."),
];

type Parameter = (&'static str, &'static str, &'static str);

/// Adds the paths of a kind.
pub(super) fn add(defined: &mut Definitions<'_>, paths: &mut Map<String, Value>, kind: &Kind) {
    let version = kind.api_version();
    let base = format!("/{}", root(kind.group, kind.version));
    let collection = match kind.namespaced {
        true => format!("{base}/namespaces/{{namespace}}/{}", kind.plural),
        false => format!("{base}/{}", kind.plural),
    };
    let Some(object) = defined.kind(&version, kind.kind) else { return };
    let list = defined.kind(&version, &format!("{}List", kind.kind)).unwrap_or_else(|| object.clone());
    let status = reference(defined, STATUS);
    let options = defined.kind(&version, "DeleteOptions");
    defined.kind(&version, "WatchEvent");
    let mut op = Operations { defined, kind, version };

    if kind.namespaced {
        let operations = vec![("get", op.make("list", "", &LIST, None, &list))];
        op.add(paths, format!("{base}/{}", kind.plural), operations, &["pretty"]);
    }
    let outer: &[&str] = if kind.namespaced { &["namespace", "pretty"] } else { &["pretty"] };
    let many = [LIST.as_slice(), &DELETE].concat();
    let operations = vec![
        ("get", op.make("list", "", &LIST, None, &list)),
        ("post", op.make("post", "", &WRITE, Some(&object), &object)),
        ("delete", op.make("deletecollection", "", &many, options.as_ref(), &status)),
    ];
    op.add(paths, collection.clone(), operations, outer);

    let inner = [&["name"], outer].concat();
    let address = format!("{collection}/{{name}}");
    let mut operations = op.read_write("", &object);
    operations.push(("delete", op.make("delete", "", &DELETE, options.as_ref(), &status)));
    op.add(paths, address.clone(), operations, &inner);
    if kind.status {
        let operations = op.read_write("Status", &object);
        paths.insert(format!("{address}/status"), op.item(&operations, &inner));
    }
    if kind.scale.is_some()
        && let Some(scale) = op.defined.kind("autoscaling/v1", "Scale")
    {
        let operations = op.read_write("Scale", &scale);
        paths.insert(format!("{address}/scale"), op.item(&operations, &inner));
    }
    for (name, takes, verbs) in kind.subresources {
        let body = ["", "policy/v1", "authentication.k8s.io/v1", "autoscaling/v1"]
            .iter()
            .find_map(|v| op.defined.kind(if v.is_empty() { op.version.as_str() } else { v }, takes))
            .unwrap_or_else(|| object.clone());
        let mut suffix: String = name.split('/').map(capital).collect();
        suffix.retain(|c| c.is_ascii_alphanumeric());
        let operations: Vec<(&str, Value)> = verbs
            .iter()
            .filter_map(|verb| {
                Some(match *verb {
                    "get" | "list" | "watch" => ("get", op.make("get", &suffix, &[], None, &body)),
                    "create" => ("post", op.make("post", &suffix, &WRITE, Some(&body), &body)),
                    "update" => ("put", op.make("put", &suffix, &WRITE, Some(&body), &body)),
                    "patch" => ("patch", op.patch(&suffix, &body)),
                    _ => return None,
                })
            })
            .collect();
        paths.insert(format!("{address}/{name}"), op.item(&operations, &inner));
    }
}

/// Adds the paths of a kind that can be got and listed, and nothing else.
pub(super) fn add_read_only(
    defined: &mut Definitions<'_>,
    paths: &mut Map<String, Value>,
    kind: &Kind,
    object: &Value,
    list: &Value,
) {
    let base = format!("/{}", root(kind.group, kind.version));
    let op = Operations { defined, kind, version: kind.api_version() };
    let listed = || op.make("list", "", &LIST, None, list);
    let outer: &[&str] = if kind.namespaced { &["namespace", "pretty"] } else { &["pretty"] };
    let mut collection = format!("{base}/{}", kind.plural);
    if kind.namespaced {
        paths.insert(collection, op.item(&[("get", listed())], &["pretty"]));
        collection = format!("{base}/namespaces/{{namespace}}/{}", kind.plural);
    }
    let one = op.item(&[("get", op.make("get", "", &[], None, object))], &[&["name"], outer].concat());
    paths.insert(format!("{collection}/{{name}}"), one);
    paths.insert(collection, op.item(&[("get", listed())], outer));
}

/// A reference to a type by its name.
pub(super) fn reference(defined: &mut Definitions<'_>, name: &str) -> Value {
    defined.schema.by_name(name).map_or_else(|| json!({"type": "object"}), |id| defined.reference(id))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|c| c.to_ascii_uppercase()).into_iter().chain(chars).collect()
}

struct Operations<'d, 's, 'k> {
    defined: &'d mut Definitions<'s>,
    kind: &'k Kind,
    version: String,
}

impl Operations<'_, '_, '_> {
    /// A path with its operations and the parameters that they share.
    fn item(&self, operations: &[(&str, Value)], shared: &[&str]) -> Value {
        let mut out: Map<String, Value> = operations.iter().map(|(k, v)| (k.to_string(), v.clone())).collect();
        let parameter = |name: &&str| match *name {
            "name" => self.parameter(("name", "string", "The name of the object."), "path"),
            "namespace" => self.parameter(("namespace", "string", "The namespace of the object."), "path"),
            _ => self.parameter(("pretty", "string", "If 'true', the output is pretty printed."), "query"),
        };
        out.insert("parameters".into(), shared.iter().map(parameter).collect());
        Value::Object(out)
    }

    /// Adds a path of the objects themselves with those of the operations that the kind has.
    fn add(
        &self,
        paths: &mut Map<String, Value>,
        path: String,
        mut operations: Vec<(&'static str, Value)>,
        shared: &[&str],
    ) {
        operations.retain(|(_, operation)| {
            let verb = match operation["x-kubernetes-action"].as_str().unwrap_or_default() {
                "post" => "create",
                "put" => "update",
                action => action,
            };
            self.kind.verbs.contains(&verb)
        });
        if !operations.is_empty() {
            paths.insert(path, self.item(&operations, shared));
        }
    }

    fn read_write(&mut self, suffix: &str, object: &Value) -> Vec<(&'static str, Value)> {
        vec![
            ("get", self.make("get", suffix, &[], None, object)),
            ("put", self.make("put", suffix, &WRITE, Some(object), object)),
            ("patch", self.patch(suffix, object)),
        ]
    }

    fn patch(&mut self, suffix: &str, object: &Value) -> Value {
        let patch = reference(self.defined, PATCH);
        let parameters = [WRITE.as_slice(), &[FORCE]].concat();
        self.make("patch", suffix, &parameters, Some(&patch), object)
    }

    fn parameter(&self, (name, ty, description): Parameter, place: &str) -> Value {
        let mut out = json!({"description": description, "in": place, "name": name});
        if place == "path" {
            out["required"] = true.into();
        }
        match self.defined.dialect {
            Dialect::V3 => out["schema"] = json!({"type": ty, "uniqueItems": true}),
            Dialect::V2 => {
                out["type"] = ty.into();
                out["uniqueItems"] = true.into();
            }
        }
        out
    }

    /// One operation; `action` is upstream's `x-kubernetes-action`.
    fn make(&self, action: &str, suffix: &str, query: &[Parameter], body: Option<&Value>, answer: &Value) -> Value {
        let kind = self.kind;
        let mut parameters: Vec<Value> = query.iter().map(|p| self.parameter(*p, "query")).collect();
        let verb = match action {
            "post" => "create",
            "get" => "read",
            "put" => "replace",
            "deletecollection" => "deleteCollection",
            other => other,
        };
        let group = if kind.group.is_empty() { "core" } else { kind.group.split('.').next().unwrap_or_default() };
        let scope = if kind.namespaced { "Namespaced" } else { "" };
        let id = format!("{verb}{}{}{scope}{}{suffix}", capital(group), capital(kind.version), kind.kind);
        let mut out = json!({
            "description": format!("{verb} {} {}", kind.kind, suffix.to_lowercase()).trim(),
            "operationId": id,
            "tags": [format!("{}_{}", group, kind.version)],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": kind.group, "kind": kind.kind, "version": kind.version},
        });
        let success = if action == "post" { "201" } else { "200" };
        match self.defined.dialect {
            Dialect::V3 => {
                let content = |types: &[&str], schema: &Value| -> Value {
                    let types = types.iter().map(|t| (t.to_string(), json!({"schema": schema})));
                    Value::Object(types.collect())
                };
                if let Some(body) = body {
                    let types: &[&str] = if action == "patch" { &PATCH_TYPES } else { &["*/*"] };
                    out["requestBody"] = json!({"content": content(types, body), "required": action != "delete"});
                }
                out["responses"] = json!({
                    success: {"description": "OK", "content": content(&MEDIA, answer)},
                    "401": {"description": "Unauthorized"},
                });
            }
            Dialect::V2 => {
                if let Some(body) = body {
                    let required = !action.starts_with("delete");
                    parameters.push(json!({"in": "body", "name": "body", "required": required, "schema": body}));
                }
                out["consumes"] = if action == "patch" { json!(PATCH_TYPES) } else { json!(["*/*"]) };
                out["produces"] = json!(MEDIA);
                out["schemes"] = json!(["https"]);
                out["responses"] = json!({
                    success: {"description": "OK", "schema": answer},
                    "401": {"description": "Unauthorized"},
                });
            }
        }
        if !parameters.is_empty() {
            out["parameters"] = parameters.into();
        }
        out
    }
}
