//! ValidatingAdmissionPolicyBinding.

use serde_json::Value;

use super::match_resources;
use crate::kinds::fields::{Path, check, child_mut, list, one_of, required, required_one_of, spec_mut, text};
use crate::kinds::metadata::validate_selector;
use crate::kinds::table::{col, columns, name, selector};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    let names = ("validatingadmissionpolicybindings", "validatingadmissionpolicybinding");
    super::kind("ValidatingAdmissionPolicyBinding", names, ValidatingAdmissionPolicyBinding)
}

struct ValidatingAdmissionPolicyBinding;

const SPEC: Path<'static> = Path::root("spec");
const ACTIONS: [&str; 3] = ["Audit", "Deny", "Warn"];

impl Strategy for ValidatingAdmissionPolicyBinding {
    fn unenforced(&self, _: &Value) -> Option<&'static str> {
        Some(super::UNEVALUATED)
    }

    fn default(&self, object: &mut Value) {
        if let Some(matches) = spec_mut(object).and_then(|spec| child_mut(spec, "matchResources")) {
            match_resources::default(matches);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        required(SPEC.child("policyName"), text(spec, "policyName"), names::subdomain, errors);
        if spec["paramRef"].is_object() {
            param_ref(SPEC.child("paramRef"), &spec["paramRef"], errors);
        }
        if spec["matchResources"].is_object() {
            // The path is spelt as upstream spells it.
            match_resources::validate(SPEC.child("matchResouces"), &spec["matchResources"], errors);
        }
        let path = SPEC.child("validationActions");
        let actions: Vec<&str> = list(spec, "validationActions").iter().filter_map(Value::as_str).collect();
        for (i, action) in actions.iter().enumerate() {
            one_of(path.index(i), action, &ACTIONS, errors);
            if actions[..i].contains(action) {
                errors.push(FieldError::duplicate(path.index(i), *action));
            }
        }
        if actions.contains(&"Deny") && actions.contains(&"Warn") {
            let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                 response and headers serves no purpose)";
            errors.push(FieldError::invalid(path, spec["validationActions"].clone(), why));
        }
        if actions.is_empty() {
            errors.push(FieldError::required(path, "at least one validation action is required"));
        }
    }

    fn columns(&self) -> Vec<Column> {
        let policy = "PolicyName indicates the policy definition which the policy binding binded to";
        let params = "ParamRef indicates the param resource which sets the configration param";
        columns(&[col("PolicyName", "string", policy), col("ParamRef", "string", params)], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, params) = (&o["spec"], &o["spec"]["paramRef"]);
        let shown = match (text(params, "namespace"), text(params, "name")) {
            _ if !params.is_object() => "<unset>".into(),
            (_, "") => selector(&params["selector"]),
            ("", name) => name.into(),
            (namespace, name) => format!("{namespace}/{name}").into(),
        };
        vec![name(o), text(spec, "policyName").into(), shown, age(o, now)]
    }
}

fn param_ref(path: Path<'_>, params: &Value, errors: &mut Vec<FieldError>) {
    let (name, selects) = (text(params, "name"), params["selector"].is_object());
    let both = "name and selector are mutually exclusive";
    if !name.is_empty() {
        check(path.child("name"), name, names::path_segment, errors);
        if selects {
            errors.push(FieldError::forbidden(path.child("name"), both));
        }
    }
    if selects {
        validate_selector(path.child("selector"), &params["selector"], errors);
        if !name.is_empty() {
            errors.push(FieldError::forbidden(path.child("selector"), both));
        }
    }
    if name.is_empty() && !selects {
        errors.push(FieldError::required(path, "one of name or selector must be specified"));
    }
    let at = path.child("parameterNotFoundAction");
    required_one_of(at, text(params, "parameterNotFoundAction"), &["Deny", "Allow"], errors);
}
