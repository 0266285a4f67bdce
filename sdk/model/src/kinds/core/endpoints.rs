//! Endpoints.

use serde_json::Value;

use crate::kinds::fields::{PROTOCOLS, Path, check, fill, items_mut, list, port_number, required_one_of, text};
use crate::kinds::table::{col, columns, name, three};
use crate::kinds::{Column, Kind, Strategy, age, names};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["ep"],
        deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
        ..Kind::new(super::V1, "Endpoints", ("endpoints", "endpoints"), Endpoints)
    }
}

struct Endpoints;

impl Strategy for Endpoints {
    fn default(&self, object: &mut Value) {
        let Some(o) = object.as_object_mut() else { return };
        for subset in items_mut(o, "subsets") {
            for port in items_mut(subset, "ports") {
                fill(port, "protocol", "TCP");
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let subsets = Path::root("subsets");
        for (i, s) in list(object, "subsets").iter().enumerate() {
            let subset = subsets.index(i);
            if list(s, "addresses").is_empty() && list(s, "notReadyAddresses").is_empty() {
                errors.push(FieldError::required(subset, "must specify `addresses` or `notReadyAddresses`"));
            }
            for field in ["addresses", "notReadyAddresses"] {
                let path = subset.child(field);
                for (j, a) in list(s, field).iter().enumerate() {
                    address(path.index(j), a, errors);
                }
            }
            let (path, ports) = (subset.child("ports"), list(s, "ports"));
            for (j, p) in ports.iter().enumerate() {
                port(path.index(j), p, ports.len() > 1, errors);
            }
        }
    }

    fn columns(&self) -> Vec<Column> {
        columns(&[col("Endpoints", "string", "The ready addresses with their ports.")], &[])
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        vec![name(o), addresses(o).into(), age(o, now)]
    }
}

fn address(path: Path<'_>, a: &Value, errors: &mut Vec<FieldError>) {
    check(path.child("ip"), text(a, "ip"), names::endpoint_ip, errors);
    if !text(a, "hostname").is_empty() {
        check(path.child("hostname"), text(a, "hostname"), names::label, errors);
    }
    if let Some(node) = a["nodeName"].as_str() {
        check(path.child("nodeName"), node, names::subdomain, errors);
    }
}

fn port(path: Path<'_>, p: &Value, needs_name: bool, errors: &mut Vec<FieldError>) {
    match text(p, "name") {
        "" if needs_name => errors.push(FieldError::required(path.child("name"), "")),
        "" => {}
        name => check(path.child("name"), name, names::label, errors),
    }
    port_number(path.child("port"), &p["port"], errors);
    required_one_of(path.child("protocol"), text(p, "protocol"), &PROTOCOLS, errors);
    if let Some(protocol) = p["appProtocol"].as_str() {
        check(path.child("appProtocol"), protocol, names::qualified, errors);
    }
}

/// Each ready address with each port, three of them; the address alone in a subset without ports.
fn addresses(o: &Value) -> String {
    let subsets = list(o, "subsets");
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut all = Vec::new();
    for s in subsets {
        let ips = list(s, "addresses").iter().map(|a| text(a, "ip"));
        if list(s, "ports").is_empty() {
            all.extend(ips.clone().map(String::from));
        }
        for port in list(s, "ports").iter().map(|p| p["port"].as_i64().unwrap_or(0)) {
            let at = |ip: &str| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            all.extend(ips.clone().map(at));
        }
    }
    three(&all)
}
