//! Server-side printing: `meta.k8s.io/v1 Table` and `PartialObjectMetadata`.

use copepod_model::Time;
use copepod_model::kinds::{AGE, Column, Kind, NAME, age};
use copepod_model::quantity::Quantity;
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
    let definitions = if columns { kind.strategy.columns() } else { Vec::new() };
    of(&definitions, |o| kind.strategy.cells(o, now), objects, list_meta, include, beta)
}

/// A Table of Scales, which are no kind of their own.
pub fn scales(scales: &[Value], list_meta: Value, include: Include, beta: bool, now: Time) -> Value {
    let count = |name, description| Column { name, kind: "integer", format: "", priority: 0, description };
    let columns = [
        NAME,
        count("Desired", "The number of instances that are wanted."),
        count("Available", "The number of instances that there are."),
        AGE,
    ];
    let cells = |o: &Value| {
        let number = |part: &str| o[part]["replicas"].as_i64().unwrap_or(0).into();
        vec![o["metadata"]["name"].clone(), number("spec"), number("status"), age(o, now)]
    };
    of(&columns, cells, scales, list_meta, include, beta)
}

/// A Table of NodeMetrics or PodMetrics, with the sum of a pod's containers (metrics-server's columns).
pub fn usages(items: &[Value], include: Include, beta: bool) -> Value {
    let column = |name, format, description| Column { name, kind: "string", format, priority: 0, description };
    let columns = [
        NAME,
        column("cpu", "quantity", "CPU that is used."),
        column("memory", "quantity", "Memory that is used."),
        column("Window", "duration", "Over how long it was measured."),
    ];
    let cells = |o: &Value| {
        let containers = o["containers"].as_array().into_iter().flatten().map(|c| &c["usage"]);
        let usages: Vec<&Value> = Some(&o["usage"]).filter(|u| u.is_object()).into_iter().chain(containers).collect();
        let sum = |resource: &str| {
            let amounts = usages.iter().filter_map(|u| u[resource].as_str()?.parse::<Quantity>().ok());
            amounts.fold(Quantity::default(), |sum, q| sum + q).to_string().into()
        };
        vec![o["metadata"]["name"].clone(), sum("cpu"), sum("memory"), o["window"].clone()]
    };
    of(&columns, cells, items, json!({}), include, beta)
}

fn of(
    columns: &[Column],
    cells: impl Fn(&Value) -> Vec<Value>,
    objects: &[Value],
    list_meta: Value,
    include: Include,
    beta: bool,
) -> Value {
    let version = api_version(beta);
    let definitions: Vec<Value> = columns
        .iter()
        .map(|c| {
            json!({
                "name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority,
            })
        })
        .collect();
    let rows: Vec<Value> = objects
        .iter()
        .map(|o| {
            let mut row = json!({"cells": cells(o)});
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

/// The metadata of the objects of a list, whose own is `list_meta`.
pub fn partials(objects: &[Value], list_meta: Value, beta: bool) -> Value {
    let items: Vec<Value> = objects.iter().map(|o| partial(o, beta)).collect();
    json!({
        "kind": "PartialObjectMetadataList", "apiVersion": api_version(beta), "metadata": list_meta, "items": items,
    })
}

fn api_version(beta: bool) -> &'static str {
    if beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
}
