//! ValidatingWebhookConfiguration.

use serde_json::Value;

use super::webhook;
use crate::kinds::fields::list;
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    let names = ("validatingwebhookconfigurations", "validatingwebhookconfiguration");
    super::kind("ValidatingWebhookConfiguration", names, ValidatingWebhookConfiguration)
}

struct ValidatingWebhookConfiguration;

impl Strategy for ValidatingWebhookConfiguration {
    fn unenforced(&self, _: &Value) -> Option<&'static str> {
        Some(webhook::UNCALLED)
    }

    fn default(&self, object: &mut Value) {
        webhook::default(object, |_| {});
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        webhook::validate(object, errors, |_, _, _| {});
    }

    fn columns(&self) -> Vec<Column> {
        let description = "Webhooks indicates the number of webhooks configured in this object";
        columns(&[col("Webhooks", "integer", description)], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), list(o, "webhooks").len().into(), age(o, now)]
    }
}
