//! No address is given twice, at no step: Services' own, node ports, nodes' parts of the pod network, pods' own.

use std::collections::BTreeSet;
use std::sync::Arc;

use copepod_machine::View as _;
use copepod_model::Object;
use copepod_state::{Change, Tables};
use serde_json::Value;

use super::Broken;
use crate::group::Origin;

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
        // A pod that has ended keeps only the memory of it.
        "pods" if !matches!(v["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) => {
            text("pod address", &v["status"]["podIP"]).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// What is known of who has which.
#[derive(Default)]
pub struct Addresses {
    /// Pods whose address was written by an agent that had ended when its write came: the next one could not know of it, and
    /// writes what it has given instead.
    late: BTreeSet<Arc<str>>,
}

impl Addresses {
    /// Checks what a change took against what all others hold.
    pub fn check(&mut self, change: &Change, origin: &Origin, tables: &Tables) -> Result<(), Broken> {
        let Some(new) = change.new.as_ref() else { return Ok(()) };
        let mine = held(new);
        let before = change.old.as_ref().map(|o| held(o)).unwrap_or_default();
        if mine.is_empty() || mine == before {
            return Ok(());
        }
        if &*change.key.resource == "pods" {
            self.late.remove(&new.meta.uid);
            if origin.lives.as_ref().is_some_and(|lives| !lives.get()) {
                self.late.insert(new.meta.uid.clone());
                return Ok(());
            }
        }
        let others = tables.list(&change.key.resource, None);
        for other in others.filter(|o| o.key != new.key && !self.late.contains(&o.meta.uid)) {
            if let Some((what, which)) = held(&other).into_iter().find(|h| mine.contains(h)) {
                return Err(("addresses", format!("{} and {} have the {what} {which}", new.key, other.key)));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use copepod_model::{Key, object};
    use copepod_state::{Op, Txn, apply};
    use serde_json::json;

    use super::*;

    /// What a pod's new address comes to, by an agent that lives or has ended.
    fn give(all: &mut Addresses, tables: &mut Tables, name: &str, ip: &str, lives: bool) -> Result<(), Broken> {
        let pod = json!({
            "metadata": {"name": name, "namespace": "d", "uid": name}, "status": {"phase": "Running", "podIP": ip},
        });
        let put = Op::Put { key: Key::new("pods", "d", name), body: object::encode(&pod), revised: true };
        let (_, changes) = apply(tables, 1, &Txn { ops: vec![put], ..Txn::default() });
        let origin = Origin { lives: Some(Rc::new(Cell::new(lives))), ..Origin::of("node") };
        changes.iter().try_for_each(|change| all.check(change, &origin, tables))
    }

    #[test]
    fn an_address_given_twice_is_found_unless_an_agent_that_has_ended_gave_it() {
        let (mut all, mut tables) = (Addresses::default(), Tables::default());
        give(&mut all, &mut tables, "a", "10.0.0.2", true).unwrap();
        give(&mut all, &mut tables, "b", "10.0.0.3", true).unwrap();
        assert!(give(&mut all, &mut tables, "b", "10.0.0.2", true).is_err());
        give(&mut all, &mut tables, "b", "10.0.0.3", true).unwrap();
        give(&mut all, &mut tables, "b", "10.0.0.2", false).unwrap();
        // The next one gives it to another pod, too, and takes back what it did not know of.
        give(&mut all, &mut tables, "a", "10.0.0.4", true).unwrap();
        give(&mut all, &mut tables, "c", "10.0.0.2", true).unwrap();
        give(&mut all, &mut tables, "b", "10.0.0.3", true).unwrap();
        assert!(give(&mut all, &mut tables, "a", "10.0.0.3", true).is_err());
    }
}
