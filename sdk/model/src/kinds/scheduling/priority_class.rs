//! PriorityClass.

use serde_json::{Value, json};

use crate::kinds::fields::{Path, fill_absent, immutable, is_true, required_one_of, text};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// What every priority that users may define is at most.
const HIGHEST: i64 = 1_000_000_000;
const PREFIX: &str = "system-";
/// The classes that every cluster has: name, value, description.
const SYSTEM: [(&str, i64, &str); 2] = [
    (
        "system-node-critical",
        2 * HIGHEST + 1000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2 * HIGHEST,
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
    ),
];

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["pc"],
        namespaced: false,
        generation: true,
        ..Kind::new(("scheduling.k8s.io", "v1"), "PriorityClass", ("priorityclasses", "priorityclass"), PriorityClass)
    }
}

/// Whether it is one of the classes that every cluster has.
pub fn is_system(name: &str) -> bool {
    SYSTEM.iter().any(|(system, ..)| *system == name)
}

/// The classes that every cluster has, by name.
pub fn system() -> Vec<(&'static str, Value)> {
    let class = |(name, value, description): &(&'static str, i64, &str)| {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name, "generation": 1},
            "value": value, "description": description, "preemptionPolicy": "PreemptLowerPriority",
        });
        (*name, object)
    };
    SYSTEM.iter().map(class).collect()
}

struct PriorityClass;

fn value(class: &Value) -> i64 {
    class["value"].as_i64().unwrap_or(0)
}

impl Strategy for PriorityClass {
    fn default(&self, object: &mut Value) {
        if let Some(o) = object.as_object_mut() {
            fill_absent(o, "preemptionPolicy", || "PreemptLowerPriority".into());
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let class = text(&object["metadata"], "name");
        if class.starts_with(PREFIX) {
            if let Some(why) = not_system(class, object) {
                let why = format!(
                    "priority class names with '{PREFIX}' prefix are reserved for system use only. error: {why}"
                );
                errors.push(FieldError::forbidden("metadata.name", why));
            }
        } else if value(object) > HIGHEST {
            let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
            errors.push(FieldError::forbidden("value", why));
        }
        if let Some(policy) = object["preemptionPolicy"].as_str() {
            required_one_of(Path::root("preemptionPolicy"), policy, &["PreemptLowerPriority", "Never"], errors);
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        if value(new) != value(old) {
            errors.push(FieldError::forbidden("value", "may not be changed in an update."));
        }
        immutable(Path::root("preemptionPolicy"), &new["preemptionPolicy"], &old["preemptionPolicy"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        let mut out = columns(
            &[
                col("Value", "integer", "value represents the integer value of this priority class."),
                col(
                    "Global-Default",
                    "boolean",
                    "globalDefault marks the default priority of pods that have no class.",
                ),
            ],
            &[],
        );
        out.push(col(
            "PreemptionPolicy",
            "string",
            "preemptionPolicy is the Policy for preempting pods with lower priority.",
        ));
        out
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let policy = text(o, "preemptionPolicy");
        vec![name(o), value(o).into(), is_true(o, "globalDefault").into(), age(o, now), policy.into()]
    }
}

/// Why a class is not the system's own of that name.
fn not_system(name: &str, object: &Value) -> Option<String> {
    match SYSTEM.iter().find(|(system, ..)| *system == name) {
        None => Some(format!("{name} is not a known system priority class")),
        Some((_, wanted, _)) if *wanted != value(object) => {
            Some(format!("value of {name} PriorityClass must be {wanted}"))
        }
        Some(_) if is_true(object, "globalDefault") => {
            Some(format!("globalDefault of {name} PriorityClass must be false"))
        }
        Some(_) => None,
    }
}
