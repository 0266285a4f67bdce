//! What stays as it is when a Service changes: the addresses and ports that were allocated for it.

use serde_json::{Value, json};

use super::{is_external, is_headless, is_reached_from_outside, wants_health_check};
use crate::FieldError;
use crate::kinds::fields::{Fields, Path, fill, fill_absent, items_mut, list, text};

const SPEC: Path<'static> = Path::root("spec");
const FIXED: &str = "may not change once set";

/// Errors of a change of the spec.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    // To become, or stop being, an ExternalName is to get or lose the address.
    if !is_external(new) && !is_external(old) {
        if !(is_headless(new) && is_headless(old)) {
            kept("clusterIPs", "clusterIP", new, old, errors);
        }
        // Without addresses a Service merely says which families it is for.
        if !is_headless(new) && !is_headless(old) {
            kept("ipFamilies", "ipFamily", new, old, errors);
        }
    }
    let balanced = |spec: &Value| spec["type"] == "LoadBalancer";
    if balanced(new) && balanced(old) && new["loadBalancerClass"] != old["loadBalancerClass"] {
        let class = new["loadBalancerClass"].clone();
        errors.push(FieldError::invalid(SPEC.child("loadBalancerClass"), class, FIXED));
    }
    let port = |spec: &Value| spec["healthCheckNodePort"].as_i64().unwrap_or(0);
    if wants_health_check(new) && wants_health_check(old) && port(new) != port(old) {
        errors.push(FieldError::forbidden(SPEC.child("healthCheckNodePort"), "field is immutable"));
    }
}

/// A second address and its family may come and go, the first ones stay.
fn kept(field: &str, one: &str, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (now, was, path) = (list(new, field), list(old, field), SPEC.child(field));
    let shown = || json!(now);
    if now.len() == was.len() {
        for (i, _) in now.iter().zip(was).enumerate().filter(|(_, (n, o))| n != o) {
            errors.push(FieldError::invalid(path.index(i), shown(), FIXED));
        }
        return;
    }
    match (now.first(), was.first()) {
        (None, _) => {
            errors.push(FieldError::invalid(path.index(0), shown(), format!("primary {one} can not be unset")))
        }
        (Some(n), Some(o)) if n != o => errors.push(FieldError::invalid(path.index(0), shown(), FIXED)),
        _ => {}
    }
    if now.len() == 1 && was.len() > 1 && new["ipFamilyPolicy"] != "SingleStack" {
        let why = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        errors.push(FieldError::invalid(SPEC.child("ipFamilyPolicy"), new["ipFamilyPolicy"].clone(), why));
    }
}

/// A client that knows `clusterIP` alone means both it and `clusterIPs` (`NormalizeClusterIPs`).
pub(super) fn pair_addresses(new: &mut Fields, old: &Value) {
    let first = new.get("clusterIP").and_then(Value::as_str).filter(|ip| !ip.is_empty()).map(String::from);
    let Some(first) = first else { return };
    let all = new.get("clusterIPs").unwrap_or(&Value::Null);
    let left_out = all.as_array().is_none_or(Vec::is_empty);
    if left_out || (old["clusterIP"] != first.as_str() && *all == old["clusterIPs"]) {
        new.insert("clusterIPs".into(), json!([first]));
    }
}

/// Keeps what a client that sends its own manifest again does not know of (`patchAllocatedValues`).
pub(super) fn carry_over(new: &mut Fields, old: &Value) {
    let kind = new.get("type").and_then(Value::as_str).unwrap_or_default().to_string();
    if kind == "ExternalName" || is_external(old) {
        return;
    }
    for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let (mine, theirs) = (new.get(name), &old[name]);
        let unset = match mine {
            None | Some(Value::Null) => true,
            Some(Value::String(s)) => s.is_empty(),
            Some(Value::Array(a)) => a.is_empty(),
            Some(_) => false,
        };
        // A client that changes `clusterIP` alone means both; what does not fit is found by validation.
        let fits = name != "clusterIPs" || new.get("clusterIP") == Some(&old["clusterIP"]);
        if unset && fits && !theirs.is_null() {
            new.insert(name.into(), theirs.clone());
        }
    }
    if opened(&kind) {
        for p in items_mut(new, "ports") {
            let before = node_port(p, old);
            if !before.is_null() {
                fill(p, "nodePort", before.clone());
            }
        }
    }
    if kind == "LoadBalancer" && old["type"] == "LoadBalancer" && !old["healthCheckNodePort"].is_null() {
        fill_absent(new, "healthCheckNodePort", || old["healthCheckNodePort"].clone());
    }
}

/// Drops what the new type has no use for and was merely sent along (`dropTypeDependentFields`); what was changed is the
/// client's mistake, and validation says so.
pub(super) fn drop_unused(new: &mut Fields, old: &Value) {
    let now = Value::Object(new.clone());
    let mut gone: Vec<&str> = Vec::new();
    if is_external(&now) && !is_external(old) {
        gone.extend(["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"]);
    }
    if now["type"] != "LoadBalancer" && old["type"] == "LoadBalancer" {
        gone.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    if !is_reached_from_outside(&now) && is_reached_from_outside(old) {
        gone.push("externalTrafficPolicy");
    }
    if !wants_health_check(&now) && wants_health_check(old) {
        gone.push("healthCheckNodePort");
    }
    for name in gone {
        if new.get(name).is_some_and(|v| *v == old[name]) {
            new.remove(name);
        }
    }
    if !opened(text(&now, "type")) && opened(text(old, "type")) {
        for p in items_mut(new, "ports") {
            if p.get("nodePort") == Some(node_port(p, old)) {
                p.remove("nodePort");
            }
        }
    }
}

/// Whether a type has ports on the nodes.
fn opened(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}

/// The node port that a port had.
fn node_port<'a>(port: &Fields, old: &'a Value) -> &'a Value {
    let same = |o: &&Value| port.get("port") == Some(&o["port"]) && port.get("protocol") == Some(&o["protocol"]);
    list(old, "ports").iter().find(same).map_or(&Value::Null, |o| &o["nodePort"])
}
