//! Rules of a Service's spec.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::FieldError;
use crate::kinds::fields::{Path, check, list, one_of, required, text, within};
use crate::kinds::{metadata, names};
use crate::networks::family;

const SPEC: Path<'static> = Path::root("spec");

pub(super) fn validate(spec: &Value, errors: &mut Vec<FieldError>) {
    let kind = text(spec, "type");
    let headless = text(spec, "clusterIP") == "None";
    if list(spec, "ports").is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required(SPEC.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", why));
        }
        "ExternalName" => {
            if !text(spec, "clusterIP").is_empty() || !list(spec, "clusterIPs").is_empty() {
                errors
                    .push(FieldError::forbidden(SPEC.child("clusterIPs"), "may not be set for ExternalName services"));
            }
            for name in ["ipFamilies", "ipFamilyPolicy"] {
                if !list(spec, name).is_empty() || !text(spec, name).is_empty() {
                    errors.push(FieldError::forbidden(SPEC.child(name), "may not be set for ExternalName services"));
                }
            }
            let target = text(spec, "externalName");
            required(SPEC.child("externalName"), target.strip_suffix('.').unwrap_or(target), names::subdomain, errors);
        }
        _ => {}
    }
    ports(spec, kind, errors);
    metadata::validate_labels(SPEC.child("selector"), &spec["selector"], errors);
    match text(spec, "sessionAffinity") {
        "" => errors.push(FieldError::required(SPEC.child("sessionAffinity"), "")),
        other => one_of(SPEC.child("sessionAffinity"), other, &["ClientIP", "None"], errors),
    }
    let timeout = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    within(SPEC.child("sessionAffinityConfig.clientIP.timeoutSeconds"), timeout, 1, 86_400, errors);
    match kind {
        "" => errors.push(FieldError::required(SPEC.child("type"), "")),
        other => one_of(SPEC.child("type"), other, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"], errors),
    }
    for (i, ip) in list(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        let path = SPEC.child("externalIPs");
        check(path.index(i), ip, names::ip, errors);
    }
    for name in ["externalTrafficPolicy", "internalTrafficPolicy"] {
        if let Some(policy) = spec[name].as_str().filter(|p| !p.is_empty()) {
            one_of(SPEC.child(name), policy, &["Cluster", "Local"], errors);
        }
    }
    if !text(spec, "externalTrafficPolicy").is_empty()
        && !matches!(kind, "NodePort" | "LoadBalancer")
        && list(spec, "externalIPs").is_empty()
    {
        let why = "may only be set for externally-accessible services";
        errors.push(FieldError::invalid(
            SPEC.child("externalTrafficPolicy"),
            spec["externalTrafficPolicy"].clone(),
            why,
        ));
    }
    if let Some(distribution) = spec["trafficDistribution"].as_str() {
        one_of(
            SPEC.child("trafficDistribution"),
            distribution,
            &["PreferClose", "PreferSameNode", "PreferSameZone"],
            errors,
        );
    }
    addresses(spec, errors);
}

fn ports(spec: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    let all = list(spec, "ports");
    let (mut named, mut used, mut nodes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, p) in all.iter().enumerate() {
        let path = SPEC.child("ports");
        let path = path.index(i);
        let (name, protocol) = (text(p, "name"), text(p, "protocol"));
        if name.is_empty() {
            if all.len() > 1 {
                errors.push(FieldError::required(path.child("name"), ""));
            }
        } else {
            check(path.child("name"), name, names::label, errors);
            if !named.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
        let port = p["port"].as_i64().unwrap_or(0);
        if let Err(why) = names::port_number(port) {
            errors.push(FieldError::invalid(path.child("port"), port, why));
        }
        match protocol {
            "" => errors.push(FieldError::required(path.child("protocol"), "")),
            other => one_of(path.child("protocol"), other, &["SCTP", "TCP", "UDP"], errors),
        }
        crate::kinds::core::podspec::port(path.child("targetPort"), &p["targetPort"], errors);
        if !used.insert((port, protocol)) {
            errors.push(FieldError::duplicate(path, json!({"protocol": protocol, "port": port})));
        }
        match p["nodePort"].as_i64().unwrap_or(0) {
            0 => {}
            _ if kind == "ClusterIP" => {
                errors
                    .push(FieldError::forbidden(path.child("nodePort"), "may not be used when `type` is 'ClusterIP'"));
            }
            n => {
                if let Err(why) = names::port_number(n) {
                    errors.push(FieldError::invalid(path.child("nodePort"), n, why));
                }
                if !nodes.insert((n, protocol)) {
                    errors.push(FieldError::duplicate(path.child("nodePort"), n));
                }
            }
        }
    }
}

/// Addresses and families (KEP-563).
pub(super) fn addresses(spec: &Value, errors: &mut Vec<FieldError>) {
    if spec["type"] == "ExternalName" {
        return;
    }
    let path = SPEC.child("clusterIPs");
    let (first, all) = (text(spec, "clusterIP"), &spec["clusterIPs"]);
    let ips: Vec<&str> = list(spec, "clusterIPs").iter().filter_map(Value::as_str).collect();
    match ips.first() {
        None if !first.is_empty() && all.is_array() => errors.push(FieldError::required(path, "")),
        Some(_) if first.is_empty() => {
            errors.push(FieldError::invalid(path, all.clone(), "must be empty when `clusterIP` is not specified"));
        }
        Some(ip) if *ip != first => {
            errors.push(FieldError::invalid(path, all.clone(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    if ips.is_empty() && !matches!(first, "" | "None") {
        check(SPEC.child("clusterIP"), first, names::ip, errors);
    }
    let families: Vec<&str> = list(spec, "ipFamilies").iter().filter_map(Value::as_str).collect();
    let mut seen = BTreeSet::new();
    for (i, of) in families.iter().enumerate() {
        let path = SPEC.child("ipFamilies");
        one_of(path.index(i), of, &["IPv4", "IPv6"], errors);
        if !seen.insert(of) {
            errors.push(FieldError::duplicate(path.index(i), *of));
        }
    }
    if let Some(policy) = spec["ipFamilyPolicy"].as_str() {
        one_of(SPEC.child("ipFamilyPolicy"), policy, &["PreferDualStack", "RequireDualStack", "SingleStack"], errors);
    }
    if ips == ["None"] {
        return;
    }
    if ips.first() == Some(&"None") {
        errors.push(FieldError::invalid(path, all.clone(), "'None' must be the first and only value"));
    }
    for (i, ip) in ips.iter().enumerate().filter(|(i, ip)| *i > 0 || **ip != "None") {
        check(path.index(i), ip, names::ip, errors);
    }
    if ips.len() > 2 {
        errors.push(FieldError::invalid(path, all.clone(), "may only hold up to 2 values"));
    }
    // What is no address is of no family.
    let Ok(parsed) = ips.iter().map(|ip| ip.parse::<IpAddr>()).collect::<Result<Vec<_>, _>>() else { return };
    if parsed.len() > 1 && parsed.iter().all(|ip| family(*ip) == family(parsed[0])) {
        errors.push(FieldError::invalid(path, all.clone(), "may specify no more than one IP for each IP family"));
    }
    for (i, (ip, expected)) in parsed.iter().zip(families).enumerate().filter(|(_, (ip, of))| family(**ip) != *of) {
        let why = format!("expected an {expected} value as indicated by `ipFamilies[{i}]`");
        errors.push(FieldError::invalid(path.index(i), ip.to_string(), why));
    }
}
