//! Gateway.

use std::net::IpAddr;

use serde_json::Value;

use super::{AGE, Outline, Rules, SPEC, cell, column, condition, rule, structure};
use crate::kinds::fields::{Path, list, text};
use crate::kinds::table::name;
use crate::kinds::{Column, Kind, NAME, age};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { short_names: &["gtw"], ..super::kind("Gateway", ("gateways", "gateway"), Gateway) }
}

struct Gateway;

impl Rules for Gateway {
    fn outline(&self) -> &'static Outline {
        static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1", "Gateway"));
        &OUTLINE
    }

    fn validate(&self, spec: &Value, errors: &mut Vec<FieldError>) {
        addresses(SPEC.child("addresses"), list(spec, "addresses"), errors);
        listeners(SPEC.child("listeners"), list(spec, "listeners"), errors);
    }

    fn pending(&self) -> &'static [&'static str] {
        &["Accepted", "Programmed"]
    }

    fn columns(&self) -> Vec<Column> {
        let programmed = "Custom resource definition column (in JSONPath format): .status.conditions[?(@.type==\"Programmed\")].status";
        vec![
            NAME,
            column("Class", "Custom resource definition column (in JSONPath format): .spec.gatewayClassName"),
            column("Address", "Custom resource definition column (in JSONPath format): .status.addresses[*].value"),
            column("Programmed", programmed),
            AGE,
        ]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let address = list(&o["status"], "addresses").first().map(|a| cell(a, "value")).unwrap_or_default();
        vec![name(o), cell(&o["spec"], "gatewayClassName"), address, condition(o, "Programmed"), age(o, now)]
    }
}

fn addresses(path: Path<'_>, all: &[Value], errors: &mut Vec<FieldError>) {
    for ty in ["IPAddress", "Hostname"] {
        let values: Vec<&Value> = all.iter().filter(|a| a["type"] == ty).filter_map(|a| a.get("value")).collect();
        let unique = values.iter().enumerate().all(|(i, v)| !values[..i].contains(v));
        rule(path, "array", unique, &format!("{ty} values must be unique"), errors);
    }
    for (i, address) in all.iter().enumerate().filter(|(_, a)| a["type"] == "IPAddress") {
        if address["value"].as_str().is_some_and(|v| v.parse::<IpAddr>().is_err()) {
            let path = path.index(i);
            let why = format!("{path} in body must validate one and only one schema (oneOf). Found none valid");
            errors.push(FieldError::invalid(path, "", why));
        }
    }
}

fn listeners(path: Path<'_>, all: &[Value], errors: &mut Vec<FieldError>) {
    let protocol = |l: &Value, of: &[&str]| of.contains(&text(l, "protocol"));
    let each = |holds: &dyn Fn(&Value) -> bool| all.iter().all(holds);
    let unique = |same: &dyn Fn(&Value, &Value) -> bool| {
        all.iter().enumerate().all(|(i, a)| all[..i].iter().all(|b| !same(a, b)))
    };
    let rules = [
        (
            each(&|l| !protocol(l, &["HTTP", "TCP", "UDP"]) || l.get("tls").is_none()),
            "tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
        ),
        (
            each(&|l| !protocol(l, &["HTTPS"]) || ["", "Terminate"].contains(&text(&l["tls"], "mode"))),
            "tls mode must be Terminate for protocol HTTPS",
        ),
        (
            each(&|l| !protocol(l, &["TLS"]) || !text(&l["tls"], "mode").is_empty()),
            "tls mode must be set for protocol TLS",
        ),
        (
            each(&|l| !protocol(l, &["TCP", "UDP"]) || text(l, "hostname").is_empty()),
            "hostname must not be specified for protocols ['TCP', 'UDP']",
        ),
        (unique(&|a, b| a["name"] == b["name"]), "Listener name must be unique within the Gateway"),
        (
            unique(&|a, b| ["port", "protocol", "hostname"].iter().all(|f| a[*f] == b[*f])),
            "Combination of port, protocol and hostname must be unique for each listener",
        ),
    ];
    for (holds, message) in rules {
        rule(path, "array", holds, message, errors);
    }
    for (i, listener) in all.iter().enumerate() {
        let tls = &listener["tls"];
        let options = tls["options"].as_object().is_some_and(|o| !o.is_empty());
        let bare = text(tls, "mode") == "Terminate" && list(tls, "certificateRefs").is_empty() && !options;
        let message = "certificateRefs or options must be specified when mode is Terminate";
        rule(path.index(i).child("tls"), "object", !bare, message, errors);
    }
}
