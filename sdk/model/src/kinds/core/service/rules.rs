//! Rules of a Service (`ValidateService`).

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::{is_external, is_headless, wants_health_check};
use crate::FieldError;
use crate::kinds::fields::{PROTOCOLS, Path, check, list, one_of, port_number, required, required_one_of, text};
use crate::kinds::{core::podspec, metadata, names};

const SPEC: Path<'static> = Path::root("spec");
const ANNOTATIONS: Path<'static> = Path::root("metadata.annotations");
const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const POLICIES: [&str; 2] = ["Cluster", "Local"];
const FAMILY_POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
/// For how long a client may stick to its endpoint, in seconds.
const AFFINITY: i64 = 86_400;
/// The two names of one annotation, the older one first.
const TOPOLOGY: [&str; 2] = ["service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"];
/// What was there before `loadBalancerSourceRanges`.
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const BALANCED: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn validate(object: &Value, errors: &mut Vec<FieldError>) {
    let (spec, annotations) = (&object["spec"], &object["metadata"]["annotations"]);
    let kind = text(spec, "type");
    let [hints, mode] = TOPOLOGY.map(|name| annotations[name].as_str());
    if let (Some(hints), Some(mode)) = (hints, mode)
        && hints != mode
    {
        let why = format!("must match annotations[{}] when both are specified", TOPOLOGY[0]);
        errors.push(FieldError::invalid(ANNOTATIONS.key(TOPOLOGY[1]), mode, why));
    }
    if list(spec, "ports").is_empty() && !is_headless(spec) && kind != "ExternalName" {
        errors.push(FieldError::required(SPEC.child("ports"), ""));
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let why = format!("may not be set to 'None' for {kind} services");
            errors.push(FieldError::invalid("spec.clusterIPs[0]", "None", why));
        }
        "ExternalName" => external_name(spec, errors),
        _ => {}
    }
    ports(spec, kind, errors);
    metadata::validate_labels(SPEC.child("selector"), &spec["selector"], errors);
    affinity(spec, errors);
    validate_addresses(spec, errors);
    for (i, ip) in list(spec, "externalIPs").iter().filter_map(Value::as_str).enumerate() {
        let path = SPEC.child("externalIPs");
        check(path.index(i), ip, names::endpoint_ip, errors);
    }
    required_one_of(SPEC.child("type"), kind, &TYPES, errors);
    balancer(spec, annotations, errors);
    traffic(spec, errors);
    if let Some(distribution) = spec["trafficDistribution"].as_str() {
        let known = ["PreferClose", "PreferSameNode", "PreferSameZone"];
        one_of(SPEC.child("trafficDistribution"), distribution, &known, errors);
    }
}

/// What stands for a name outside has no address, and the name may end in a dot.
fn external_name(spec: &Value, errors: &mut Vec<FieldError>) {
    let why = "may not be set for ExternalName services";
    for field in ["clusterIPs", "ipFamilies"] {
        if !list(spec, field).is_empty() {
            errors.push(FieldError::forbidden(SPEC.child(field), why));
        }
    }
    if !spec["ipFamilyPolicy"].is_null() {
        errors.push(FieldError::forbidden(SPEC.child("ipFamilyPolicy"), why));
    }
    let target = text(spec, "externalName");
    required(SPEC.child("externalName"), target.strip_suffix('.').unwrap_or(target), names::subdomain, errors);
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
        port_number(path.child("port"), &p["port"], errors);
        required_one_of(path.child("protocol"), protocol, &PROTOCOLS, errors);
        podspec::port(path.child("targetPort"), &p["targetPort"], errors);
        if let Some(protocol) = p["appProtocol"].as_str() {
            check(path.child("appProtocol"), protocol, names::qualified, errors);
        }
        let port = p["port"].as_i64().unwrap_or(0);
        if !used.insert((port, protocol)) {
            errors.push(FieldError::duplicate(path, json!({"protocol": protocol, "port": port})));
        }
        let node = p["nodePort"].as_i64().unwrap_or(0);
        if node != 0 && kind == "ClusterIP" {
            errors.push(FieldError::forbidden(path.child("nodePort"), "may not be used when `type` is 'ClusterIP'"));
        }
        if node != 0 && !nodes.insert((node, protocol)) {
            errors.push(FieldError::duplicate(path.child("nodePort"), node));
        }
    }
}

fn affinity(spec: &Value, errors: &mut Vec<FieldError>) {
    let affinity = text(spec, "sessionAffinity");
    required_one_of(SPEC.child("sessionAffinity"), affinity, &["ClientIP", "None"], errors);
    let (path, config) = (SPEC.child("sessionAffinityConfig"), &spec["sessionAffinityConfig"]);
    let client = path.child("clientIP");
    let at = client.child("timeoutSeconds");
    let why = "when session affinity type is ClientIP";
    match (affinity, &config["clientIP"]["timeoutSeconds"]) {
        ("ClientIP", _) if config.is_null() => errors.push(FieldError::required(path, why)),
        ("ClientIP", _) if config["clientIP"].is_null() => errors.push(FieldError::required(client, why)),
        ("ClientIP", Value::Null) => errors.push(FieldError::required(at, why)),
        ("ClientIP", seconds) if !seconds.as_i64().is_some_and(|s| (1..=AFFINITY).contains(&s)) => {
            let why = format!("must be greater than 0 and less than {AFFINITY}");
            errors.push(FieldError::invalid(at, seconds.clone(), why));
        }
        ("None", _) if !config.is_null() => {
            errors.push(FieldError::forbidden(path, "must not be set when session affinity is None"));
        }
        _ => {}
    }
}

/// Rules of addresses and their families (KEP-563, `ValidateServiceClusterIPsRelatedFields`), which what allocates them asks
/// first.
pub fn validate_addresses(spec: &Value, errors: &mut Vec<FieldError>) {
    if is_external(spec) {
        return;
    }
    let (first, ips, path) = (text(spec, "clusterIP"), list(spec, "clusterIPs"), SPEC.child("clusterIPs"));
    let wrong = |why: &str| FieldError::invalid(path, spec["clusterIPs"].clone(), why);
    match ips.first() {
        None if !first.is_empty() => errors.push(FieldError::required(path, "")),
        Some(_) if first.is_empty() => errors.push(wrong("must be empty when `clusterIP` is not specified")),
        Some(ip) if *ip != first => errors.push(wrong("first value must match `clusterIP`")),
        _ => {}
    }
    let families: Vec<&str> = list(spec, "ipFamilies").iter().filter_map(Value::as_str).collect();
    for (i, family) in families.iter().enumerate() {
        let path = SPEC.child("ipFamilies");
        one_of(path.index(i), family, &["IPv4", "IPv6"], errors);
        if families[..i].contains(family) {
            errors.push(FieldError::duplicate(path.index(i), *family));
        }
    }
    if let Some(policy) = spec["ipFamilyPolicy"].as_str() {
        one_of(SPEC.child("ipFamilyPolicy"), policy, &FAMILY_POLICIES, errors);
    }
    let before = errors.len();
    let mut parsed: Vec<IpAddr> = Vec::new();
    for (i, ip) in ips.iter().enumerate() {
        let ip = ip.as_str().unwrap_or_default();
        if i == 0 && ip == "None" {
            if ips.len() > 1 {
                errors.push(wrong("'None' must be the first and only value"));
            }
            continue;
        }
        check(path.index(i), ip, names::ip, errors);
        parsed.extend(ip.parse::<IpAddr>());
    }
    let bad = errors.len() > before;
    if ips.len() > 2 {
        errors.push(wrong("may only hold up to 2 values"));
    }
    if bad {
        return;
    }
    if parsed.len() > 1 && parsed.iter().all(|ip| ip.is_ipv4() == parsed[0].is_ipv4()) {
        errors.push(wrong("may specify no more than one IP for each IP family"));
    }
    if !is_headless(spec) {
        for (i, (family, ip)) in families.iter().zip(&parsed).enumerate() {
            if matches!((*family, ip), ("IPv4", IpAddr::V6(_)) | ("IPv6", IpAddr::V4(_))) {
                let why = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.push(FieldError::invalid(path.index(i), ips[i].clone(), why));
            }
        }
    }
}

/// What is for load balancers alone.
fn balancer(spec: &Value, annotations: &Value, errors: &mut Vec<FieldError>) {
    let balanced = spec["type"] == "LoadBalancer";
    // The path is spelt as upstream spells it.
    let (path, ranges) = (SPEC.child("LoadBalancerSourceRanges"), list(spec, "loadBalancerSourceRanges"));
    if !ranges.is_empty() {
        if !balanced {
            errors.push(FieldError::forbidden(path, BALANCED));
        }
        for (i, range) in ranges.iter().enumerate() {
            check(path.index(i), range.as_str().unwrap_or_default().trim(), |r| names::cidr(r).map(drop), errors);
        }
    } else if let Some(ranges) = annotations[RANGES].as_str() {
        let path = ANNOTATIONS.key(RANGES);
        if !balanced {
            errors.push(FieldError::forbidden(path, BALANCED));
        }
        for range in ranges.trim().split(',').filter(|_| !ranges.trim().is_empty()) {
            check(path, range.trim(), |r| names::cidr(r).map(drop), errors);
        }
    }
    let allocate = &spec["allocateLoadBalancerNodePorts"];
    if !allocate.is_null() && !balanced {
        errors.push(FieldError::forbidden(SPEC.child("allocateLoadBalancerNodePorts"), BALANCED));
    }
    if let Some(class) = spec["loadBalancerClass"].as_str() {
        match balanced {
            true => check(SPEC.child("loadBalancerClass"), class, names::qualified, errors),
            false => errors.push(FieldError::forbidden(SPEC.child("loadBalancerClass"), BALANCED)),
        }
    }
}

fn traffic(spec: &Value, errors: &mut Vec<FieldError>) {
    let (path, policy) = (SPEC.child("externalTrafficPolicy"), text(spec, "externalTrafficPolicy"));
    if super::is_reached_from_outside(spec) {
        required_one_of(path, policy, &POLICIES, errors);
    } else if !policy.is_empty() {
        errors.push(FieldError::invalid(path, policy, "may only be set for externally-accessible services"));
    }
    let (path, port) = (SPEC.child("healthCheckNodePort"), &spec["healthCheckNodePort"]);
    match (wants_health_check(spec), port.as_i64().unwrap_or(0)) {
        (false, 0) => {}
        (false, n) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.push(FieldError::invalid(path, n, why));
        }
        (true, 0) => errors.push(FieldError::required(path, "")),
        (true, _) => port_number(path, port, errors),
    }
    if let Some(policy) = spec["internalTrafficPolicy"].as_str() {
        one_of(SPEC.child("internalTrafficPolicy"), policy, &POLICIES, errors);
    }
}

/// Rules of `status.loadBalancer` (`ValidateLoadBalancerStatus`).
pub(super) fn validate_status(object: &Value, errors: &mut Vec<FieldError>) {
    let path = Path::root("status.loadBalancer.ingress");
    let all = list(&object["status"]["loadBalancer"], "ingress");
    if !all.is_empty() && object["spec"]["type"] != "LoadBalancer" {
        let why = "may only be used when `spec.type` is 'LoadBalancer'";
        return errors.push(FieldError::forbidden(path, why));
    }
    for (i, point) in all.iter().enumerate() {
        let path = path.index(i);
        metadata::validate_ingress_point(path, point, errors);
        let at = path.child("ipMode");
        match (text(point, "ip").is_empty(), point["ipMode"].as_str()) {
            (false, None) => errors.push(FieldError::required(at, "must be specified when `ip` is set")),
            (true, Some(_)) => errors.push(FieldError::forbidden(at, "may not be specified when `ip` is not set")),
            (false, Some(mode)) => one_of(at, mode, &["Proxy", "VIP"], errors),
            (true, None) => {}
        }
    }
}
