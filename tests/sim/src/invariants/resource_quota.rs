//! A ResourceQuota is never exceeded, whoever creates at the same time wherever: what is there is counted, not what the quota
//! says is used.

use copepod_machine::View as _;
use copepod_state::{Change, Tables};

use super::Broken;

/// Where the quota is.
pub const NAMESPACE: &str = "default";
/// What it allows; it is there from the beginning and stays as it is.
pub const HARD: [(&str, usize); 3] = [("secrets", 3), ("services", 3), ("services.nodeports", 1)];

/// Checks what a change has led to.
pub fn check(change: &Change, tables: &Tables) -> Result<(), Broken> {
    if change.new.is_none() || &*change.key.namespace != NAMESPACE {
        return Ok(());
    }
    let resource = &*change.key.resource;
    let below = |name: &str| name.strip_prefix(resource).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    for (name, hard) in HARD.iter().filter(|(name, _)| below(name)) {
        let all = tables.list(resource, Some(NAMESPACE));
        let there: usize = match *name {
            "services.nodeports" => all.map(|s| node_ports(&s.value())).sum(),
            _ => all.count(),
        };
        if there > *hard {
            return Err(("resource_quota", format!("{} made them {there} {name}, {hard} may be", change.key)));
        }
    }
    Ok(())
}

/// The node ports that a Service costs: one for each of its ports.
fn node_ports(service: &serde_json::Value) -> usize {
    match service["spec"]["type"].as_str() {
        Some("NodePort" | "LoadBalancer") => service["spec"]["ports"].as_array().map_or(0, Vec::len),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use copepod_model::{Key, object};
    use copepod_state::{Op, Txn, apply};
    use serde_json::json;

    use super::*;

    fn make(tables: &mut Tables, resource: &str, name: &str, kind: &str) -> Result<(), Broken> {
        let object = json!({
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"type": kind, "ports": [{"port": 80}]},
        });
        let put = Op::Put { key: Key::new(resource, NAMESPACE, name), body: object::encode(&object), revised: true };
        let (_, changes) = apply(tables, 1, &Txn { ops: vec![put], ..Txn::default() });
        changes.iter().try_for_each(|change| check(change, tables))
    }

    #[test]
    fn one_too_many_is_found() {
        let mut tables = Tables::default();
        for name in ["a", "b", "c"] {
            make(&mut tables, "secrets", name, "").unwrap();
            make(&mut tables, "configmaps", name, "").unwrap();
        }
        assert!(make(&mut tables, "secrets", "d", "").is_err());
        make(&mut tables, "configmaps", "d", "").unwrap();
        make(&mut tables, "services", "a", "NodePort").unwrap();
        make(&mut tables, "services", "b", "ClusterIP").unwrap();
        assert!(make(&mut tables, "services", "c", "NodePort").is_err(), "two node ports");
    }
}
