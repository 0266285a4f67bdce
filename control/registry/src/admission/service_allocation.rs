//! Addresses ([`addresses`]) and node ports of Services. Each is a key of its own, so that of two Services racing for one the
//! second fails its precondition and is decided again. Beside the key of an address is its IPAddress, which anyone may see, and
//! which keeps an address from Services where somebody else has made one.

mod addresses;

use std::collections::BTreeSet;

use bytes::Bytes;
use copepod_machine::{Ids, Time, View};
use copepod_model::kinds::core::service::wants_health_check;
use copepod_model::kinds::networking::ip_address;
use copepod_model::object::encode;
use copepod_model::{FieldError, Key, Object, Status};
use copepod_state::{Op, Require};
use serde_json::Value;

use super::Review;
use crate::value::{self, list, text, texts};

/// Who has which cluster IP. The name is the address, the value `NAMESPACE/NAME` of the Service.
const ADDRESSES: &str = "_serviceips";
/// Who has which node port, likewise.
const NODE_PORTS: &str = "_nodeports";
const NONE: &str = "None";
const TAKEN: &str = "provided port is already allocated";

pub(super) fn mutate(review: &mut Review<'_>, service: &mut Value) -> Result<(), Status> {
    if &*review.key.resource != "services" || !review.whole() {
        return Ok(());
    }
    // Whatever was allocated and the client left out, the kind's strategy has carried over.
    addresses::assign(review, service)?;
    node_ports(review, service)?;
    let (had, has) = (review.old.map(owned).unwrap_or_default(), owned(service));
    let body = Bytes::from(format!("{}/{}", review.key.namespace, review.key.name));
    for key in has.difference(&had) {
        review.effects.require.push(Require::Absent(key.clone()));
        review.effects.ops.push(Op::Put { key: key.clone(), body: body.clone(), revised: false });
        if let Some(key) = shown(key) {
            let (require, put) = show(key, &review.key.namespace, &review.key.name, review.now, review.ids);
            review.effects.require.push(require);
            review.effects.ops.push(put);
        }
    }
    review.effects.ops.extend(had.difference(&has).flat_map(gone));
    Ok(())
}

/// The key of the IPAddress beside that of an address.
fn shown(key: &Key) -> Option<Key> {
    (&*key.resource == ADDRESSES).then(|| Key::new(ip_address::RESOURCE, "", &*key.name))
}

/// What makes that IPAddress, on the condition that there is none.
fn show(key: Key, namespace: &str, service: &str, now: Time, ids: &mut dyn Ids) -> (Require, Op) {
    let mut object = ip_address::of_service(&key.name, namespace, service);
    object["metadata"]["uid"] = ids.uid().into();
    object["metadata"]["creationTimestamp"] = now.rfc3339().into();
    (Require::Absent(key.clone()), Op::Put { key, body: encode(&object), revised: true })
}

/// What takes back an address or a port.
fn gone(key: &Key) -> impl Iterator<Item = Op> + use<> {
    [Some(key.clone()), shown(key)].into_iter().flatten().map(|key| Op::Delete { key })
}

/// What makes the IPAddresses that Services should have and lack, because an earlier release gave them their addresses or
/// somebody has deleted them: for each such Service the conditions and the writes.
pub fn missing_addresses(view: &dyn View, now: Time, ids: &mut dyn Ids) -> Vec<(Vec<Require>, Vec<Op>)> {
    let lacking = |service: &Object| -> Vec<Key> {
        let keys = owned(&service.value()).into_iter().filter_map(|key| shown(&key));
        keys.filter(|key| view.get(&key.resource, &key.namespace, &key.name).is_none()).collect()
    };
    let mut out = Vec::new();
    for service in view.list("services", None) {
        let keys = lacking(&service);
        if keys.is_empty() {
            continue;
        }
        let mut require = vec![Require::At(service.key.clone(), service.revision)];
        let mut ops = Vec::new();
        for key in keys {
            let (absent, put) = show(key, &service.key.namespace, &service.key.name, now, ids);
            require.push(absent);
            ops.push(put);
        }
        out.push((require, ops));
    }
    out
}

/// Takes back everything that the Service owns.
pub(super) fn release(review: &mut Review<'_>, service: &Value) {
    if &*review.key.resource == "services" {
        review.effects.ops.extend(owned(service).iter().flat_map(gone));
    }
}

/// The keys of the addresses and ports that a Service owns.
fn owned(service: &Value) -> BTreeSet<Key> {
    let spec = &service["spec"];
    let mut out = BTreeSet::new();
    if has_address(spec) {
        let addresses = texts(spec, "clusterIPs").chain([text(spec, "clusterIP")]);
        out.extend(addresses.filter(|ip| !ip.is_empty() && *ip != NONE).map(|ip| Key::new(ADDRESSES, "", ip)));
    }
    if has_node_ports(spec) {
        let ports = list(spec, "ports").iter().map(|p| &p["nodePort"]).chain([&spec["healthCheckNodePort"]]);
        let ports = ports.filter_map(Value::as_u64).filter(|p| *p != 0);
        out.extend(ports.map(|p| Key::new(NODE_PORTS, "", p.to_string())));
    }
    out
}

fn has_address(spec: &Value) -> bool {
    text(spec, "type") != "ExternalName"
}

fn has_node_ports(spec: &Value) -> bool {
    matches!(text(spec, "type"), "NodePort" | "LoadBalancer")
}

fn wants_node_ports(spec: &Value) -> bool {
    match text(spec, "type") {
        "NodePort" => true,
        "LoadBalancer" => spec["allocateLoadBalancerNodePorts"] != false,
        _ => false,
    }
}

fn is_headless(spec: &Value) -> bool {
    text(spec, "clusterIP") == NONE || texts(spec, "clusterIPs").next() == Some(NONE)
}

fn node_ports(review: &mut Review<'_>, service: &mut Value) -> Result<(), Status> {
    let spec = &service["spec"];
    if !has_node_ports(spec) {
        return Ok(());
    }
    let (wants, health) = (wants_node_ports(spec), wants_health_check(spec));
    let own: BTreeSet<Key> = review.old.map(owned).unwrap_or_default();
    let range = review.config.node_ports.clone();
    let view = review.view;
    let key = |port: u64| Key::new(NODE_PORTS, "", port.to_string());
    let taken = |port: u64| !own.contains(&key(port)) && view.get(NODE_PORTS, "", &port.to_string()).is_some();
    let outside = || {
        let (first, last) = (range.start(), range.end());
        format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
    };
    let mut errors = Vec::new();
    let mut used: Vec<(Value, u64)> = Vec::new();
    let given = |port: &Value| port["nodePort"].as_u64().filter(|p| *p != 0);
    for (i, port) in list(spec, "ports").iter().enumerate() {
        let Some(number) = given(port) else { continue };
        let field = format!("spec.ports[{i}].nodePort");
        if !u16::try_from(number).is_ok_and(|p| range.contains(&p)) {
            if !own.contains(&key(number)) {
                errors.push(FieldError::invalid(field, number, outside()));
            }
        } else if taken(number) {
            errors.push(FieldError::invalid(field, number, TAKEN));
        }
        used.push((port["port"].clone(), number));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("", "Service", &review.key.name, &errors));
    }
    let checked = service["spec"]["healthCheckNodePort"].as_u64().filter(|p| *p != 0 && !own.contains(&key(*p)));
    if let Some(port) = checked {
        let why = match u16::try_from(port).is_ok_and(|p| range.contains(&p)) {
            false => Some(outside()),
            true => (taken(port) || used.iter().any(|(_, u)| *u == port)).then(|| TAKEN.to_string()),
        };
        if let Some(why) = why {
            return Err(Status::internal(format!("failed to allocate requested HealthCheck NodePort {port}: {why}")));
        }
    }
    let full = || Status::internal("failed to allocate a nodePort: range is full");
    let ids = &mut *review.ids;
    let mut pick = |used: &[(Value, u64)]| -> Option<u64> {
        let (start, count) = (u64::from(*range.start()), u64::from(*range.end() - *range.start()) + 1);
        let mut random = [0u8; 8];
        ids.fill(&mut random);
        let from = u64::from_le_bytes(random) % count;
        let mut all = (0..count).map(|i| start + (from + i) % count);
        all.find(|p| used.iter().all(|(_, u)| u != p) && !taken(*p) && !own.contains(&key(*p)))
    };
    if wants {
        for port in service["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if given(port).is_some() {
                continue;
            }
            // One number serves the same port over TCP and UDP.
            let twin = used.iter().find(|(p, _)| *p == port["port"]).map(|(_, n)| *n);
            let number = twin.or_else(|| pick(&used)).ok_or_else(full)?;
            used.push((port["port"].clone(), number));
            port["nodePort"] = number.into();
        }
    }
    if health && service["spec"]["healthCheckNodePort"].as_u64().unwrap_or(0) == 0 {
        let number = pick(&used).ok_or_else(full)?;
        value::child(service, "spec").insert("healthCheckNodePort".into(), number.into());
    }
    Ok(())
}
