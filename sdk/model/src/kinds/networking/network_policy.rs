//! NetworkPolicy.

use serde_json::{Value, json};

use crate::kinds::fields::{
    Fields, Path, check, fill_absent, items_mut, list, one_of, port_number, required, spec_mut, text,
};
use crate::kinds::table::{self, col, columns, name};
use crate::kinds::{Column, Kind, Strategy, age, metadata, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["netpol"],
        generation: true,
        ..Kind::new(super::V1, "NetworkPolicy", ("networkpolicies", "networkpolicy"), NetworkPolicy)
    }
}

const SPEC: Path<'static> = Path::root("spec");
const TYPES: [&str; 2] = ["Ingress", "Egress"];

struct NetworkPolicy;

impl Strategy for NetworkPolicy {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        for rules in ["ingress", "egress"] {
            for port in items_mut(spec, rules).flat_map(|rule| items_mut(rule, "ports")) {
                fill_absent(port, "protocol", || "TCP".into());
            }
        }
        let is_empty = |spec: &Fields, field| spec.get(field).and_then(Value::as_array).is_none_or(Vec::is_empty);
        if is_empty(spec, "policyTypes") {
            let types = if is_empty(spec, "egress") { &TYPES[..1] } else { &TYPES[..] };
            spec.insert("policyTypes".into(), json!(types));
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        metadata::validate_selector(SPEC.child("podSelector"), &spec["podSelector"], errors);
        for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
            for (i, rule) in list(spec, rules).iter().enumerate() {
                let path = SPEC.child(rules);
                let path = path.index(i);
                for (j, p) in list(rule, "ports").iter().enumerate() {
                    let path = path.child("ports");
                    port(path.index(j), p, errors);
                }
                for (j, p) in list(rule, peers).iter().enumerate() {
                    let path = path.child(peers);
                    peer(path.index(j), p, errors);
                }
            }
        }
        let (types, path) = (list(spec, "policyTypes"), SPEC.child("policyTypes"));
        if types.len() > TYPES.len() {
            let why = "may not specify more than two policyTypes";
            errors.push(FieldError::invalid(path, spec["policyTypes"].clone(), why));
            return;
        }
        for (i, t) in types.iter().enumerate() {
            one_of(path.index(i), t.as_str().unwrap_or_default(), &TYPES, errors);
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Pod-Selector", "string", "The pods of its namespace that the policy is for.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), table::selector(&o["spec"]["podSelector"]), age(o, now)]
    }
}

fn port(path: Path<'_>, p: &Value, errors: &mut Vec<FieldError>) {
    if let Some(protocol) = p["protocol"].as_str() {
        one_of(path.child("protocol"), protocol, &["TCP", "UDP", "SCTP"], errors);
    }
    let end = p["endPort"].as_i64();
    let end_is_wrong = |why: &str, errors: &mut Vec<FieldError>| {
        if let Some(end) = end {
            errors.push(FieldError::invalid(path.child("endPort"), end, why));
        }
    };
    match &p["port"] {
        Value::Number(n) => {
            let n = n.as_i64().unwrap_or(0);
            port_number(path.child("port"), &p["port"], errors);
            let Some(end) = end else { return };
            if end < n {
                // Upstream shows the first port here.
                errors.push(FieldError::invalid(path.child("endPort"), n, "must be greater than or equal to `port`"));
            }
            port_number(path.child("endPort"), &p["endPort"], errors);
        }
        Value::String(named) => {
            end_is_wrong("may not be specified when `port` is non-numeric", errors);
            check(path.child("port"), named, names::port_name, errors);
        }
        _ => end_is_wrong("may not be specified when `port` is not specified", errors),
    }
}

fn peer(path: Path<'_>, p: &Value, errors: &mut Vec<FieldError>) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if p[field].is_object() {
            count += 1;
            metadata::validate_selector(path.child(field), &p[field], errors);
        }
    }
    let block = &p["ipBlock"];
    if block.is_object() {
        count += 1;
        ip_block(path.child("ipBlock"), block, errors);
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a peer"));
    } else if count > 1 && block.is_object() {
        errors.push(FieldError::forbidden(path, "may not specify both ipBlock and another peer"));
    }
}

fn ip_block(path: Path<'_>, block: &Value, errors: &mut Vec<FieldError>) {
    let cidr = text(block, "cidr");
    required(path.child("cidr"), cidr, |c| names::cidr(c).map(drop), errors);
    let Ok((network, bits)) = names::cidr(cidr) else { return };
    for (i, except) in list(block, "except").iter().enumerate() {
        let path = path.child("except");
        let (path, except) = (path.index(i), except.as_str().unwrap_or_default());
        match names::cidr(except) {
            Err(why) => errors.push(FieldError::invalid(path, except, why)),
            Ok((inner, longer)) if longer <= bits || !names::in_network(inner, network, bits) => {
                errors.push(FieldError::invalid(path, except, "must be a strict subset of `cidr`"));
            }
            Ok(_) => {}
        }
    }
}
