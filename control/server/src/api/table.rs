//! Server-side printing: `meta.k8s.io/v1 Table` and `PartialObjectMetadata`.

use copepod_model::Time;
use copepod_model::kinds::Kind;
use serde_json::{Value, json};

/// What each row carries of its object: the query's `includeObject`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// PartialObjectMetadata, the default.
    Metadata,
    /// The whole object.
    Object,
}

impl Include {
    /// From the query.
    pub fn parse(text: &str) -> Include {
        match text {
            "None" => Include::None,
            "Object" => Include::Object,
            _ => Include::Metadata,
        }
    }
}

/// A Table of objects. `columns` says whether the column definitions are wanted: a watch sends them once.
pub fn table(
    kind: &Kind,
    objects: &[Value],
    list_meta: Value,
    columns: bool,
    include: Include,
    beta: bool,
    now: Time,
) -> Value {
    let version = api_version(beta);
    let definitions: Vec<Value> = kind
        .strategy
        .columns()
        .iter()
        .filter(|_| columns)
        .map(|c| {
            json!({
                "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority,
            })
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|o| {
            let mut row = json!({"cells": kind.strategy.cells(o, now)});
            match include {
                Include::None => {}
                Include::Metadata => row["object"] = partial(o, beta),
                Include::Object => row["object"] = o.clone(),
            }
            row
        })
        .collect();
    json!({"kind": "Table", "apiVersion": version, "metadata": list_meta, "columnDefinitions": definitions, "rows": rows})
}

/// The object's metadata alone.
pub fn partial(object: &Value, beta: bool) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": api_version(beta), "metadata": object["metadata"]})
}

fn api_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}
