//! Deployments and ReplicaSets.

use copepod_model::selector::LabelSelector;
use serde_json::Value;

use super::page::{Page, plain};
use super::pod;

pub fn describe(page: &mut Page, object: &Value) {
    page.head(object);
    let (spec, status) = (&object["spec"], &object["status"]);
    let selector = LabelSelector::from_json(&spec["selector"]).map(|s| s.to_string()).unwrap_or_default();
    page.field(0, "Selector", selector);
    page.controlled_by(object);
    let n = |v: &Value| v.as_i64().unwrap_or(0);
    if object["kind"] == "Deployment" {
        page.field(
            0,
            "Replicas",
            format!(
                "{} desired | {} updated | {} total | {} available | {} unavailable",
                n(&spec["replicas"]),
                n(&status["updatedReplicas"]),
                n(&status["replicas"]),
                n(&status["availableReplicas"]),
                n(&status["unavailableReplicas"])
            ),
        );
        page.field(0, "StrategyType", plain(&spec["strategy"]["type"]));
        page.field(0, "MinReadySeconds", n(&spec["minReadySeconds"]).to_string());
        let rolling = &spec["strategy"]["rollingUpdate"];
        if rolling.is_object() {
            let (unavailable, surge) = (plain(&rolling["maxUnavailable"]), plain(&rolling["maxSurge"]));
            page.field(0, "RollingUpdateStrategy", format!("{unavailable} max unavailable, {surge} max surge"));
        }
        if spec["paused"] == true {
            page.field(0, "Paused", "true");
        }
    } else {
        page.field(0, "Replicas", format!("{} current / {} desired", n(&status["replicas"]), n(&spec["replicas"])));
        page.field(0, "Ready", n(&status["readyReplicas"]).to_string());
    }
    pod::template(page, &spec["template"]);
    page.conditions(&status["conditions"]);
}
