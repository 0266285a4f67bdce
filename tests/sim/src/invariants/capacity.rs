//! No node is given more than it has.

use copepod_machine::View as _;
use copepod_model::quantity::Quantity;
use copepod_state::{Change, Tables};
use serde_json::Value;

use super::Broken;

/// A quantity in thousandths, 0 where there is none.
fn milli(v: &Value) -> i128 {
    let text = match v {
        Value::String(s) => s.clone(),
        Value::Number(n) => n.to_string(),
        _ => return 0,
    };
    text.parse::<Quantity>().map_or(0, |q| i128::from(q.millis()))
}

/// Checks the node to which a change has bound a pod.
pub fn check(change: &Change, tables: &Tables) -> Result<(), Broken> {
    if &*change.key.resource != "pods" {
        return Ok(());
    }
    let Some(new) = &change.new else { return Ok(()) };
    let Some(node) = new.meta.node_name.as_deref() else { return Ok(()) };
    if change.old.as_ref().is_some_and(|o| o.meta.node_name.is_some()) {
        return Ok(());
    }
    let has = tables.get("nodes", "", node).map(|n| n.value()["status"]["allocatable"].clone()).unwrap_or_default();
    if has.is_null() {
        return Ok(());
    }
    for what in ["cpu", "memory"] {
        let mut given = 0;
        for pod in tables.on_node("pods", node, None).map(|p| p.value()) {
            if matches!(pod["status"]["phase"].as_str(), Some("Failed" | "Succeeded")) {
                continue;
            }
            let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
            given += containers.map(|c| milli(&c["resources"]["requests"][what])).sum::<i128>();
        }
        if given > milli(&has[what]) {
            return Err(("capacity", format!("{node} has {} {what} and has given {given} m", has[what])));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::made;

    #[test]
    fn a_pod_for_which_there_is_no_room_is_found() {
        let mut tables = Tables::default();
        let node = json!({
            "metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}},
        });
        made::put(&mut tables, "nodes", &node);
        let mut bind = |name: &str, cpu: &str, memory: &str, phase: &str| {
            let containers = json!([{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]);
            let pod = json!({
                "metadata": {"name": name, "namespace": "d"},
                "spec": {"nodeName": "n", "containers": containers}, "status": {"phase": phase},
            });
            let change = made::put(&mut tables, "pods", &pod);
            check(&change, &tables)
        };
        bind("a", "600m", "8Mi", "Succeeded").unwrap();
        bind("b", "600m", "8Mi", "Running").unwrap();
        bind("c", "400m", "8Mi", "Pending").unwrap();
        assert!(bind("d", "1m", "8Mi", "Pending").is_err());
        // One that is no more takes nothing, and neither must the next.
        bind("d", "1m", "8Mi", "Failed").unwrap();
        assert!(bind("e", "0", "1Gi", "Pending").is_err());
    }
}
