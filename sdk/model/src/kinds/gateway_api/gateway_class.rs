//! GatewayClass.

use serde_json::Value;

use super::{AGE, Outline, Rules, SPEC, cell, column, condition, structure};
use crate::kinds::fields::immutable;
use crate::kinds::table::name;
use crate::kinds::{Column, Kind, NAME, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        short_names: &["gc"],
        ..super::kind("GatewayClass", ("gatewayclasses", "gatewayclass"), GatewayClass)
    }
}

struct GatewayClass;

impl Rules for GatewayClass {
    fn outline(&self) -> &'static Outline {
        static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1", "GatewayClass"));
        &OUTLINE
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let (new, old) = (&new["spec"]["controllerName"], &old["spec"]["controllerName"]);
        immutable(SPEC.child("controllerName"), new, old, errors);
    }

    fn pending(&self) -> &'static [&'static str] {
        &["Accepted"]
    }

    fn columns(&self) -> Vec<Column> {
        let accepted = "Custom resource definition column (in JSONPath format): .status.conditions[?(@.type==\"Accepted\")].status";
        let description = "Custom resource definition column (in JSONPath format): .spec.description";
        vec![
            NAME,
            column("Controller", "Custom resource definition column (in JSONPath format): .spec.controllerName"),
            column("Accepted", accepted),
            AGE,
            Column { priority: 1, ..column("Description", description) },
        ]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        vec![name(o), cell(spec, "controllerName"), condition(o, "Accepted"), age(o, now), cell(spec, "description")]
    }
}
