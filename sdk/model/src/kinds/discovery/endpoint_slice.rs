//! EndpointSlice.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::kinds::fields::{
    PROTOCOLS, Path, check, fill, fill_absent, immutable, items_mut, list, required, required_one_of, text,
};
use crate::kinds::table::{col, name, three};
use crate::kinds::{AGE, Column, Kind, NAME, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        generation: true,
        ..Kind::new(("discovery.k8s.io", "v1"), "EndpointSlice", ("endpointslices", "endpointslice"), EndpointSlice)
    }
}

struct EndpointSlice;

impl Strategy for EndpointSlice {
    fn default(&self, object: &mut Value) {
        let Some(o) = object.as_object_mut() else { return };
        for p in items_mut(o, "ports") {
            fill_absent(p, "name", || "".into());
            fill(p, "protocol", "TCP");
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let family = text(object, "addressType");
        required_one_of(Path::root("addressType"), family, &["FQDN", "IPv4", "IPv6"], errors);
        endpoints(object, family, errors);
        ports(object, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        immutable(Path::root("addressType"), &new["addressType"], &old["addressType"], errors);
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            NAME,
            col("AddressType", "string", "The type of address carried by this EndpointSlice."),
            col("Ports", "string", "The list of network ports exposed by each endpoint in this slice."),
            col("Endpoints", "string", "A list of unique endpoints in this slice."),
            AGE,
        ]
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let unset = |s: String| if s.is_empty() { "<unset>".to_string() } else { s };
        let port = |p: &Value| match (p["port"].as_i64(), text(p, "name")) {
            (Some(n), _) => n.to_string(),
            (None, "") => "*".into(),
            (None, name) => name.into(),
        };
        let ports: Vec<String> = list(o, "ports").iter().map(port).collect();
        let addresses: Vec<String> = list(o, "endpoints")
            .iter()
            .flat_map(|e| list(e, "addresses"))
            .filter_map(|a| a.as_str().map(Into::into))
            .collect();
        vec![
            name(o),
            text(o, "addressType").into(),
            unset(three(&ports)).into(),
            unset(three(&addresses)).into(),
            age(o, now),
        ]
    }
}

fn endpoints(object: &Value, family: &str, errors: &mut Vec<FieldError>) {
    let path = Path::root("endpoints");
    let all = list(object, "endpoints");
    if all.len() > 1000 {
        errors.push(FieldError::too_many(path, all.len(), 1000));
        return;
    }
    for (i, e) in all.iter().enumerate() {
        let path = path.index(i);
        let addresses = list(e, "addresses");
        if addresses.is_empty() {
            errors.push(FieldError::required(path.child("addresses"), "must contain at least 1 address"));
        } else if addresses.len() > 100 {
            errors.push(FieldError::too_many(path.child("addresses"), addresses.len(), 100));
        }
        for (j, a) in addresses.iter().enumerate() {
            let path = path.child("addresses");
            address(path.index(j), a.as_str().unwrap_or_default(), family, errors);
        }
        for (field, rule) in [("hostname", names::label as fn(&str) -> _), ("nodeName", names::subdomain)] {
            if let Some(value) = e[field].as_str() {
                check(path.child(field), value, rule, errors);
            }
        }
        hints(path.child("hints"), &e["hints"], errors);
    }
}

/// At most eight zones and eight nodes, each once.
fn hints(path: Path<'_>, hints: &Value, errors: &mut Vec<FieldError>) {
    for (field, rule) in [("forZones", names::label_value as fn(&str) -> _), ("forNodes", names::subdomain)] {
        let (path, all) = (path.child(field), list(hints, field));
        if all.len() > 8 {
            errors.push(FieldError::too_many(path, all.len(), 8));
            continue;
        }
        let mut seen = BTreeSet::new();
        for (i, hint) in all.iter().enumerate() {
            let (path, name) = (path.index(i), text(hint, "name"));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
            check(path.child("name"), name, rule, errors);
        }
    }
}

fn address(path: Path<'_>, text: &str, family: &str, errors: &mut Vec<FieldError>) {
    match (family, text.parse()) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => check(path, text, names::endpoint_ip, errors),
        ("IPv4" | "IPv6", _) => {
            let article = if family == "IPv4" { "an IPv4" } else { "an IPv6" };
            errors.push(FieldError::invalid(path, text, format!("must be {article} address")));
        }
        ("FQDN", _) => required(path, text, names::domain, errors),
        _ => {}
    }
}

fn ports(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::root("ports");
    let all = list(object, "ports");
    if all.len() > 20_000 {
        errors.push(FieldError::too_many(path, all.len(), 20_000));
        return;
    }
    let mut seen = BTreeSet::new();
    for (i, p) in all.iter().enumerate() {
        let path = path.index(i);
        let name = text(p, "name");
        if !name.is_empty() {
            check(path.child("name"), name, names::label, errors);
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path.child("name"), name));
        }
        required_one_of(path.child("protocol"), text(p, "protocol"), &PROTOCOLS, errors);
        if let Some(protocol) = p["appProtocol"].as_str() {
            check(path.child("appProtocol"), protocol, names::qualified, errors);
        }
    }
}
