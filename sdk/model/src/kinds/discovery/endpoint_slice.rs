//! EndpointSlice.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use crate::kinds::fields::{Path, check, fill, fill_absent, immutable, items_mut, list, one_of, text};
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
        match family {
            "" => errors.push(FieldError::required("addressType", "")),
            other => one_of(Path::root("addressType"), other, &["FQDN", "IPv4", "IPv6"], errors),
        }
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
    }
}

fn address(path: Path<'_>, text: &str, family: &str, errors: &mut Vec<FieldError>) {
    let ip = text.parse::<IpAddr>();
    match (family, &ip) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => {}
        ("IPv4" | "IPv6", _) => {
            let article = if family == "IPv4" { "an IPv4" } else { "an IPv6" };
            errors.push(FieldError::invalid(path, text, format!("must be {article} address")));
            return;
        }
        ("FQDN", _) => {
            check(path, text, names::subdomain, errors);
            return;
        }
        _ => return,
    }
    let Ok(ip) = ip else { return };
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let why = if ip.is_unspecified() {
        format!("may not be unspecified ({ip})")
    } else if ip.is_loopback() {
        "may not be in the loopback range (127.0.0.0/8, ::1/128)".into()
    } else if link_local {
        "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into()
    } else if ip.is_multicast() {
        "may not be in the multicast range (224.0.0.0/4, ff00::/8)".into()
    } else {
        return;
    };
    errors.push(FieldError::invalid(path, text, why));
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
        match text(p, "protocol") {
            "" => errors.push(FieldError::required(path.child("protocol"), "")),
            other => one_of(path.child("protocol"), other, &["SCTP", "TCP", "UDP"], errors),
        }
    }
}
