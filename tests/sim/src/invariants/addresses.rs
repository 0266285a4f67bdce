//! No address is given twice, at no step: Services' own, those set aside for load balancers, node ports, nodes' parts of the pod
//! network, pods' own.

use std::collections::BTreeSet;
use std::sync::Arc;

use copepod_machine::View as _;
use copepod_model::Object;
use copepod_state::{Change, Tables};
use serde_json::Value;

use super::Broken;
use crate::cluster::POOL;
use crate::group::Origin;

/// What an object holds of what there is once, with a word for each kind: of both families, and also where a list repeats the
/// field before it. (Where no addresses are set aside for load balancers they have the nodes', which all share.)
fn held(object: &Object) -> BTreeSet<(&'static str, String)> {
    let v = object.value();
    let mut all = BTreeSet::new();
    let mut hold = |what: &'static str, v: &Value| {
        let text = v.as_str().filter(|t| !["", "None"].contains(t)).map(str::to_string);
        let number = v.as_u64().filter(|n| *n > 0).map(|n| n.to_string());
        all.extend(text.or(number).map(|which| (what, which)));
    };
    let (spec, status) = (&v["spec"], &v["status"]);
    match &*object.key.resource {
        "services" => {
            hold("address", &spec["clusterIP"]);
            each(&spec["clusterIPs"]).for_each(|ip| hold("address", ip));
            each(&spec["ports"]).for_each(|port| hold("node port", &port["nodePort"]));
            hold("node port", &spec["healthCheckNodePort"]);
            let points = each(&status["loadBalancer"]["ingress"]).map(|point| &point["ip"]);
            let own = points.filter(|ip| ip.as_str().is_some_and(|ip| POOL.contains(&ip)));
            own.for_each(|ip| hold("load balancer's address", ip));
        }
        "nodes" => {
            hold("part of the pod network", &spec["podCIDR"]);
            each(&spec["podCIDRs"]).for_each(|part| hold("part of the pod network", part));
        }
        // A pod that has ended keeps only the memory of it.
        "pods" if !matches!(status["phase"].as_str(), Some("Succeeded" | "Failed")) => {
            hold("pod address", &status["podIP"]);
            each(&status["podIPs"]).for_each(|ip| hold("pod address", &ip["ip"]));
        }
        _ => {}
    }
    all
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
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
    use crate::made;

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
    fn what_is_given_twice_in_any_field_is_found() {
        let (mut all, mut tables) = (Addresses::default(), Tables::default());
        let mut take = |resource: &str, name: &str, field: &str, what: Value| {
            let object = json!({"metadata": {"name": name, "namespace": "d", "uid": name}, field: what});
            let change = made::put(&mut tables, resource, &object);
            all.check(&change, &Origin::of("user"), &tables)
        };
        let both =
            json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "healthCheckNodePort": 30001});
        take("services", "a", "spec", both).unwrap();
        assert!(take("services", "b", "spec", json!({"clusterIPs": ["10.0.0.2", "fd00::1"]})).is_err());
        assert!(take("services", "b", "spec", json!({"healthCheckNodePort": 30001})).is_err());
        assert!(take("services", "e", "spec", json!({"ports": [{"nodePort": 30001}]})).is_err());
        let headless = json!({"clusterIP": "None", "clusterIPs": ["None"]});
        take("services", "b", "spec", headless.clone()).unwrap();
        take("services", "c", "spec", headless).unwrap();
        let balanced = |ips: &[&str]| {
            let points: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
            json!({"loadBalancer": {"ingress": points}})
        };
        take("services", "f", "status", balanced(&["192.0.2.1", POOL[0], POOL[4]])).unwrap();
        take("services", "g", "status", balanced(&["192.0.2.1", POOL[1]])).unwrap();
        assert!(take("services", "g", "status", balanced(&[POOL[1], POOL[4]])).is_err());
        take("services", "g", "status", balanced(&[POOL[1], POOL[3]])).unwrap();
        take("nodes", "a", "spec", json!({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd01::/64"]}))
            .unwrap();
        assert!(take("nodes", "b", "spec", json!({"podCIDRs": ["10.1.1.0/24", "fd01::/64"]})).is_err());
        let ips = |a: &str, b: &str| json!({"podIP": a, "podIPs": [{"ip": a}, {"ip": b}]});
        take("pods", "a", "status", ips("10.1.0.2", "fd01::2")).unwrap();
        assert!(take("pods", "b", "status", ips("10.1.0.3", "fd01::2")).is_err());
        take("pods", "b", "status", ips("10.1.0.3", "fd01::3")).unwrap();
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
