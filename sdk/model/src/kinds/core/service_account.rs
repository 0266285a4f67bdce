//! ServiceAccount.

use serde_json::Value;

use crate::Time;
use crate::kinds::fields::list;
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["sa"],
        subresources: &[("token", "TokenRequest", &["create"])],
        ..Kind::new(super::V1, "ServiceAccount", ("serviceaccounts", "serviceaccount"), ServiceAccount)
    }
}

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn columns(&self) -> Vec<Column> {
        columns(&[col("Secrets", "string", "Secrets that pods running as this account may use.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), list(o, "secrets").len().into(), age(o, now)]
    }
}
