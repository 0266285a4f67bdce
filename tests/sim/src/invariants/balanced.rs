//! In a cluster that has gone quiet load balancers have what there is to be had, and nothing is held that no Service has.

use std::collections::BTreeSet;

use copepod_machine::View as _;
use copepod_model::kinds::networking::ip_address;
use copepod_state::Tables;
use serde_json::Value;

use super::Broken;
use crate::cluster::POOL;

/// Every Service of type LoadBalancer has the nodes' addresses of its families or, where addresses are set aside, one of each as
/// long as there are any; no other Service has some. What is held of addresses and node ports is what Services have.
pub fn check(view: &Tables, pool: bool) -> Result<(), Broken> {
    balanced(view, pool).and_then(|()| held(view)).map_err(|how| ("settled", how))
}

fn balanced(view: &Tables, pool: bool) -> Result<(), String> {
    let (services, nodes): (Vec<_>, Vec<_>) = (
        view.list("services", None).map(|s| (s.key.clone(), s.value())).collect(),
        view.list("nodes", None).map(|n| n.value()).collect(),
    );
    let given: BTreeSet<&str> = services.iter().flat_map(|(_, service)| ingress(service)).collect();
    let of_nodes: BTreeSet<&str> = nodes
        .iter()
        .flat_map(|node| each(&node["status"]["addresses"]))
        .filter(|address| address["type"] == "InternalIP")
        .filter_map(|address| address["address"].as_str())
        .collect();
    for (key, service) in &services {
        let (spec, has) = (&service["spec"], ingress(service).collect::<BTreeSet<&str>>());
        let families: Vec<&str> = each(&spec["ipFamilies"]).filter_map(Value::as_str).collect();
        if spec["type"] != "LoadBalancer" {
            if !has.is_empty() {
                return Err(format!("{key} has no load balancer and {has:?} of one"));
            }
            continue;
        }
        if !pool {
            let should: BTreeSet<&str> = of_nodes.iter().copied().filter(|ip| families.contains(&family(ip))).collect();
            // Of local traffic those of nodes with endpoints are a part of them.
            let all = spec["externalTrafficPolicy"] != "Local";
            if !has.is_subset(&should) || all && has != should {
                return Err(format!("{key} has {has:?} of a load balancer, and the nodes have {should:?}"));
            }
            continue;
        }
        let asked = spec["loadBalancerIP"].as_str().filter(|ip| !ip.is_empty());
        let may = |ip: &str| families.contains(&family(ip)) && asked.is_none_or(|asked| asked == ip);
        if let Some(odd) = has.iter().find(|ip| !POOL.contains(ip) || !may(ip)) {
            return Err(format!("{key} has {odd} of a load balancer, which is not for it: {spec}"));
        }
        for of in &families {
            let mut free = POOL.into_iter().filter(|ip| family(ip) == *of && may(ip) && !given.contains(ip));
            if let (false, Some(ip)) = (has.iter().any(|ip| family(ip) == *of), free.next()) {
                return Err(format!("{key} has no {of} address of a load balancer, and {ip} is free"));
            }
        }
    }
    Ok(())
}

/// Everything that Services have is held for them, and nothing else.
fn held(view: &Tables) -> Result<(), String> {
    let (mut addresses, mut ports) = (BTreeSet::new(), BTreeSet::new());
    for service in view.list("services", None) {
        let v = service.value();
        let spec = &v["spec"];
        let ips = each(&spec["clusterIPs"]).filter_map(Value::as_str).filter(|ip| *ip != "None");
        addresses.extend(ips.map(str::to_string));
        let numbers = each(&spec["ports"]).map(|port| &port["nodePort"]).chain([&spec["healthCheckNodePort"]]);
        ports.extend(numbers.filter_map(Value::as_u64).filter(|n| *n > 0).map(|n| n.to_string()));
    }
    for (resource, has) in [("_serviceips", &addresses), (ip_address::RESOURCE, &addresses), ("_nodeports", &ports)] {
        let held: BTreeSet<String> = view.scan(resource, None).map(|o| o.key.name.to_string()).collect();
        if held != *has {
            let (lost, lacking): (Vec<_>, Vec<_>) = (held.difference(has).collect(), has.difference(&held).collect());
            return Err(format!("of {resource} {lost:?} are no Service's, and {lacking:?} of Services are not there"));
        }
    }
    Ok(())
}

/// The addresses of a Service's load balancer.
fn ingress(service: &Value) -> impl Iterator<Item = &str> {
    each(&service["status"]["loadBalancer"]["ingress"]).filter_map(|point| point["ip"].as_str())
}

fn each(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn family(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

#[cfg(test)]
mod tests {
    use copepod_model::Key;
    use copepod_state::{Op, Txn, apply};
    use serde_json::json;

    use super::*;
    use crate::made;

    fn balancer(tables: &mut Tables, name: &str, spec: Value, ips: &[&str]) {
        let points: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip, "ipMode": "VIP"})).collect();
        let mut service = json!({
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "LoadBalancer", "ipFamilies": ["IPv4"]},
            "status": {"loadBalancer": {"ingress": points}},
        });
        for (field, value) in spec.as_object().into_iter().flatten() {
            service["spec"][field] = value.clone();
        }
        made::put(tables, "services", &service);
    }

    /// What becomes of one Service beside another that has the first address of the pool and the last one.
    fn beside(spec: Value, ips: &[&str]) -> Result<(), Broken> {
        let mut tables = Tables::default();
        balancer(&mut tables, "other", json!({"ipFamilies": ["IPv4", "IPv6"]}), &[POOL[0], POOL[4]]);
        balancer(&mut tables, "app", spec, ips);
        check(&tables, true)
    }

    #[test]
    fn an_address_of_the_pool_that_is_not_given_or_is_not_for_it_is_found() {
        beside(json!({}), &[POOL[1]]).unwrap();
        assert!(beside(json!({}), &[]).is_err(), "two are free");
        assert!(beside(json!({}), &["192.0.2.1"]).is_err(), "none of the pool");
        assert!(beside(json!({}), &[POOL[1], POOL[3]]).is_err(), "another family");
        let both = || json!({"ipFamilies": ["IPv6", "IPv4"]});
        beside(both(), &[POOL[3], POOL[1]]).unwrap();
        assert!(beside(both(), &[POOL[1]]).is_err(), "one of each family");
        let asks = |ip: &str| json!({"loadBalancerIP": ip});
        beside(asks(POOL[2]), &[POOL[2]]).unwrap();
        beside(asks(POOL[0]), &[]).unwrap();
        beside(asks(POOL[3]), &[]).unwrap();
        assert!(beside(asks(POOL[2]), &[]).is_err(), "it is free");
        assert!(beside(asks(POOL[2]), &[POOL[1]]).is_err(), "another one was asked for");
        let plain = || json!({"type": "NodePort"});
        beside(plain(), &[]).unwrap();
        assert!(beside(plain(), &[POOL[1]]).is_err());
        let mut tables = Tables::default();
        POOL[..3].iter().for_each(|ip| balancer(&mut tables, &ip.replace('.', "-"), json!({}), &[*ip]));
        balancer(&mut tables, "late", json!({}), &[]);
        check(&tables, true).unwrap();
    }

    #[test]
    fn without_a_pool_the_nodes_addresses_are_listed() {
        let beside = |spec: Value, ips: &[&str]| {
            let mut tables = Tables::default();
            for ip in ["192.0.2.1", "192.0.2.2"] {
                let addresses = json!([{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": "n"}]);
                let node = json!({"metadata": {"name": ip}, "status": {"addresses": addresses}});
                made::put(&mut tables, "nodes", &node);
            }
            balancer(&mut tables, "app", spec, ips);
            check(&tables, false)
        };
        beside(json!({}), &["192.0.2.1", "192.0.2.2"]).unwrap();
        assert!(beside(json!({}), &["192.0.2.1"]).is_err());
        assert!(beside(json!({"ipFamilies": ["IPv6"]}), &["192.0.2.1", "192.0.2.2"]).is_err());
        beside(json!({"ipFamilies": ["IPv6"]}), &[]).unwrap();
        let local = || json!({"externalTrafficPolicy": "Local"});
        beside(local(), &["192.0.2.1"]).unwrap();
        assert!(beside(local(), &["192.0.2.3"]).is_err());
    }

    #[test]
    fn what_is_held_for_nobody_and_what_is_not_held_are_found() {
        let mut tables = Tables::default();
        let spec = json!({"clusterIPs": ["10.96.0.9", "fd00::9"], "ports": [{"nodePort": 30001}]});
        let service = json!({"metadata": {"name": "app", "namespace": "default"}, "spec": spec});
        made::put(&mut tables, "services", &service);
        assert!(check(&tables, true).is_err(), "nothing is held");
        let keys = |resource: &'static str, all: &[&str]| -> Vec<Key> {
            all.iter().map(|name| Key::new(resource, "", *name)).collect()
        };
        let ips = ["10.96.0.9", "fd00::9"];
        let mut all = keys("_serviceips", &ips);
        all.extend(keys(ip_address::RESOURCE, &ips));
        all.extend(keys("_nodeports", &["30001"]));
        let hold = |tables: &mut Tables, key: Key| {
            let op = Op::Put { key, body: r#"{"metadata":{}}"#.into(), revised: false };
            apply(tables, 1, &Txn { ops: vec![op], ..Txn::default() });
        };
        all.into_iter().for_each(|key| hold(&mut tables, key));
        check(&tables, true).unwrap();
        for key in [Key::new("_serviceips", "", "10.96.0.8"), Key::new("_nodeports", "", "30002")] {
            let mut more = tables.clone();
            hold(&mut more, key);
            assert!(check(&more, true).is_err());
        }
        made::delete(&mut tables, ip_address::RESOURCE, "", "fd00::9");
        assert!(check(&tables, true).is_err());
    }
}
