//! IngressClass.

use serde_json::Value;

use crate::kinds::fields::{
    Path, check, child_mut, domain_prefixed_path, fill_absent, immutable, required_one_of, spec_mut, text,
};
use crate::kinds::table::{col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        namespaced: false,
        generation: true,
        ..Kind::new(super::V1, "IngressClass", ("ingressclasses", "ingressclass"), IngressClass)
    }
}

struct IngressClass;

const CONTROLLER: Path<'static> = Path::root("spec.controller");

impl Strategy for IngressClass {
    fn default(&self, object: &mut Value) {
        if let Some(p) = spec_mut(object).and_then(|s| child_mut(s, "parameters")) {
            fill_absent(p, "scope", || "Cluster".into());
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let controller = text(spec, "controller");
        if controller.len() > 250 {
            errors.push(FieldError::too_long(CONTROLLER, 250));
        }
        domain_prefixed_path(CONTROLLER, controller, errors);
        let parameters = &spec["parameters"];
        if parameters.is_object() {
            const PATH: Path<'static> = Path::root("spec.parameters");
            super::reference(PATH, parameters, errors);
            let (at, namespace) = (PATH.child("namespace"), parameters["namespace"].as_str());
            match (text(parameters, "scope"), namespace) {
                ("Namespace", None) => {
                    errors.push(FieldError::required(at, "`parameters.scope` is set to 'Namespace'"));
                }
                ("Namespace", Some(namespace)) => check(at, namespace, names::label, errors),
                ("Cluster", Some(_)) => {
                    errors.push(FieldError::forbidden(at, "`parameters.scope` is set to 'Cluster'"));
                }
                (scope, _) => required_one_of(PATH.child("scope"), scope, &["Cluster", "Namespace"], errors),
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(CONTROLLER, &new["spec"]["controller"], &old["spec"]["controller"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Controller", "string", "Controller that is responsible for handling this class"),
                col("Parameters", "string", "A reference to a resource with additional parameters"),
            ],
            &[],
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let spec = &o["spec"];
        let p = &spec["parameters"];
        let parameters = match (p.is_object(), text(p, "apiGroup")) {
            (false, _) => "<none>".into(),
            (true, "") => format!("{}/{}", text(p, "kind"), text(p, "name")),
            (true, group) => format!("{}.{group}/{}", text(p, "kind"), text(p, "name")),
        };
        vec![name(o), text(spec, "controller").into(), parameters.into(), age(o, now)]
    }
}
