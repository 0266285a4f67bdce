//! MutatingWebhookConfiguration.

use serde_json::Value;

use super::webhook;
use crate::kinds::fields::{fill_absent, list, one_of};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    let names = ("mutatingwebhookconfigurations", "mutatingwebhookconfiguration");
    super::kind("MutatingWebhookConfiguration", names, MutatingWebhookConfiguration)
}

struct MutatingWebhookConfiguration;

impl Strategy for MutatingWebhookConfiguration {
    fn unenforced(&self, _: &Value) -> Option<&'static str> {
        Some(webhook::UNCALLED)
    }

    fn default(&self, object: &mut Value) {
        webhook::default(object, |hook| fill_absent(hook, "reinvocationPolicy", || "Never".into()));
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        webhook::validate(object, errors, |path, hook, errors| {
            if let Some(policy) = hook["reinvocationPolicy"].as_str() {
                one_of(path.child("reinvocationPolicy"), policy, &["IfNeeded", "Never"], errors);
            }
        });
    }

    fn columns(&self) -> Vec<Column> {
        let description = "Webhooks indicates the number of webhooks configured in this object";
        columns(&[col("Webhooks", "integer", description)], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), list(o, "webhooks").len().into(), age(o, now)]
    }
}
