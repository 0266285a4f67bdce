//! ComponentStatus: how the control plane's parts are. Nothing of it is stored: the API server says it when somebody asks.

use serde_json::{Value, json};

use crate::Time;
use crate::kinds::fields::{list, text};
use crate::kinds::table::{col, name};
use crate::kinds::{Column, Kind, NAME, Strategy};

/// Its GroupResource.
pub const RESOURCE: &str = "componentstatuses";

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["cs"],
        namespaced: false,
        verbs: &["get", "list"],
        deprecation: Some("v1 ComponentStatus is deprecated in v1.19+"),
        ..Kind::new(super::V1, "ComponentStatus", (RESOURCE, "componentstatus"), ComponentStatus)
    }
}

/// What there is to say of a part: `ok`, or why not.
pub fn status(name: &str, health: Result<(), String>) -> Value {
    let condition = match health {
        Ok(()) => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Err(why) => json!({"type": "Healthy", "status": "False", "error": why}),
    };
    json!({"apiVersion": "v1", "kind": "ComponentStatus", "metadata": {"name": name}, "conditions": [condition]})
}

struct ComponentStatus;

impl Strategy for ComponentStatus {
    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            col("Status", "string", "Whether the component is healthy."),
            col("Message", "string", "What it says of itself."),
            col("Error", "string", "What is wrong with it."),
        ]
    }

    fn cells(&self, o: &Value, _: Time) -> Vec<Value> {
        let condition = list(o, "conditions").iter().find(|c| c["type"] == "Healthy").unwrap_or(&Value::Null);
        let status = match text(condition, "status") {
            "" => "Unknown",
            "True" => "Healthy",
            _ => "Unhealthy",
        };
        vec![name(o), status.into(), text(condition, "message").into(), text(condition, "error").into()]
    }
}
