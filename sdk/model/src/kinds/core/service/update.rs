//! What stays as it is when a Service changes: the addresses and ports that were allocated for it.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Fields, Path, fill, fill_absent, immutable, items_mut, list, text};

/// Errors of a change of the spec.
pub(super) fn validate(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let external = |spec: &Value| text(spec, "type") == "ExternalName";
    // To become, or stop being, an ExternalName is to get or lose the address.
    if external(new) || external(old) || text(old, "clusterIP").is_empty() {
        return;
    }
    // The second one may come and go.
    let changes = |name| list(old, name).iter().zip(list(new, name)).position(|(was, is)| was != is);
    if let Some(i) = changes("clusterIPs") {
        let why = "may not change once set";
        errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]"), new["clusterIPs"].clone(), why));
    }
    // Without addresses a Service merely says which families it is for.
    let headless = [old, new].iter().any(|spec| spec["clusterIP"] == "None");
    if !headless && changes("ipFamilies").is_some() {
        let why = "may not change once set";
        errors.push(FieldError::invalid("spec.ipFamilies[0]", new["ipFamilies"].clone(), why));
    }
    immutable(Path::root("spec.clusterIP"), &new["clusterIP"], &old["clusterIP"], errors);
}

/// Keeps what a client that sends its own manifest again does not know of.
pub(super) fn carry_over(new: &mut Fields, old: &Value) {
    let kind = new.get("type").and_then(Value::as_str).unwrap_or_default().to_string();
    let was = text(old, "type");
    if kind == "ExternalName" {
        if was != "ExternalName" {
            // An unchanged address was merely sent along; a changed one is the client's mistake, and validation says so.
            for name in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy"] {
                if new.get(name).is_some_and(|v| *v == old[name]) {
                    new.remove(name);
                }
            }
        }
        return;
    }
    if was == "ExternalName" {
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
    let opened = |kind: &str| matches!(kind, "NodePort" | "LoadBalancer");
    for p in items_mut(new, "ports") {
        let same = |o: &&Value| p.get("port") == Some(&o["port"]) && p.get("protocol") == Some(&o["protocol"]);
        let before = list(old, "ports").iter().find(same).map_or(&Value::Null, |o| &o["nodePort"]);
        if opened(&kind) && !before.is_null() {
            fill(p, "nodePort", before.clone());
        } else if !opened(&kind) && opened(was) && p.get("nodePort") == Some(before) {
            p.remove("nodePort");
        }
    }
    if kind == "LoadBalancer" && was == "LoadBalancer" && !old["healthCheckNodePort"].is_null() {
        fill_absent(new, "healthCheckNodePort", || old["healthCheckNodePort"].clone());
    }
    if !opened(&kind) && opened(was) && new.get("externalTrafficPolicy") == Some(&old["externalTrafficPolicy"]) {
        new.remove("externalTrafficPolicy");
        new.remove("allocateLoadBalancerNodePorts");
    }
}
