//! A node with the pods on it.

use serde_json::Value;

use super::page::{Page, list, plain};

pub fn describe(page: &mut Page, node: &Value, pods: &Value) {
    page.head(node);
    let (spec, status) = (&node["spec"], &node["status"]);
    let mut name = "Taints:";
    for t in list(&spec["taints"]) {
        let value = t["value"].as_str().filter(|v| !v.is_empty()).map(|v| format!("={v}")).unwrap_or_default();
        page.line(0, format!("{name}\t{}{value}:{}", plain(&t["key"]), plain(&t["effect"])));
        name = "";
    }
    if !name.is_empty() {
        page.field(0, "Taints", "<none>");
    }
    page.field(0, "Unschedulable", (spec["unschedulable"] == true).to_string());
    page.conditions(&status["conditions"]);
    page.line(0, "Addresses:");
    for a in list(&status["addresses"]) {
        page.field(1, &plain(&a["type"]), plain(&a["address"]));
    }
    for (title, field) in [("Capacity", "capacity"), ("Allocatable", "allocatable"), ("System Info", "nodeInfo")] {
        page.line(0, format!("{title}:"));
        for (k, v) in status[field].as_object().into_iter().flatten() {
            page.field(1, k, plain(v));
        }
    }
    page.some(0, "PodCIDR", &spec["podCIDR"]);
    let cidrs = list(&spec["podCIDRs"]);
    if !cidrs.is_empty() {
        page.field(0, "PodCIDRs", cidrs.iter().map(plain).collect::<Vec<_>>().join(","));
    }
    let row = |p: &Value| {
        let meta = |k: &str| plain(&p["metadata"][k]);
        let sum = |what: &str| {
            let amounts =
                list(&p["spec"]["containers"]).iter().filter_map(|c| c["resources"]["requests"][what].as_str());
            let parsed = amounts.filter_map(|a| a.parse::<copepod_model::quantity::Quantity>().ok());
            parsed.fold(copepod_model::quantity::Quantity::default(), |a, b| a + b).to_string()
        };
        vec![meta("namespace"), meta("name"), sum("cpu"), sum("memory"), plain(&p["status"]["phase"])]
    };
    let running = |p: &&Value| !matches!(p["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let rows: Vec<Vec<String>> = list(&pods["items"]).iter().filter(running).map(row).collect();
    let title = format!("Non-terminated Pods ({} in total)", rows.len());
    page.table(&title, 0, &["Namespace", "Name", "CPU Requests", "Memory Requests", "Phase"], rows);
}
