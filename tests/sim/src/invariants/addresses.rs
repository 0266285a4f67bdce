//! No address is given twice: Services' own, node ports, nodes' parts of the pod network. (Pods' addresses are their
//! node's to give, and are looked at when all is settled: what an agent that has ended wrote last may come late.)

use copepod_machine::View as _;
use copepod_model::Object;
use copepod_state::{Change, Tables};
use serde_json::Value;

use super::Broken;

/// What an object holds of what there is once, with a word for each kind.
fn held(object: &Object) -> Vec<(&'static str, String)> {
    let v = object.value();
    let text = |what: &'static str, v: &Value| v.as_str().filter(|t| !t.is_empty()).map(|t| (what, t.to_string()));
    match &*object.key.resource {
        "services" => {
            let ip = text("address", &v["spec"]["clusterIP"]).filter(|(_, ip)| ip != "None");
            let ports = v["spec"]["ports"].as_array().into_iter().flatten();
            let ports =
                ports.filter_map(|p| Some(("node port", p["nodePort"].as_u64().filter(|n| *n > 0)?.to_string())));
            ip.into_iter().chain(ports).collect()
        }
        "nodes" => text("part of the pod network", &v["spec"]["podCIDR"]).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Checks what a change took against what all others hold.
pub fn check(change: &Change, tables: &Tables) -> Result<(), Broken> {
    let Some(new) = change.new.as_ref() else { return Ok(()) };
    let mine = held(new);
    let before = change.old.as_ref().map(|o| held(o)).unwrap_or_default();
    if mine.is_empty() || mine == before {
        return Ok(());
    }
    for other in tables.list(&change.key.resource, None).filter(|o| o.key != new.key) {
        if let Some((what, which)) = held(&other).into_iter().find(|h| mine.contains(h)) {
            return Err(("addresses", format!("{} and {} have the {what} {which}", new.key, other.key)));
        }
    }
    Ok(())
}
