//! Says in the status of each FlowSchema whether its priority level is there (upstream's API server does, in
//! `util/flowcontrol`). Nobody asks FlowSchemas here, so that nothing else comes of it.

use copepod_machine::{Plan, View};
use copepod_model::kinds::flowcontrol::flow_schema::{DANGLING, dangling};
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::json;

use crate::support::conditions::{self, Wanted};
use crate::support::{keys_of, patch, text};
use crate::{Config, Controller};

const SCHEMAS: &str = "flowschemas.flowcontrol.apiserver.k8s.io";
const LEVELS: &str = "prioritylevelconfigurations.flowcontrol.apiserver.k8s.io";

struct FlowSchema;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    FlowSchema
}

impl Controller for FlowSchema {
    fn name(&self) -> &'static str {
        "flow-schema"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[SCHEMAS, LEVELS]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        match (old, new) {
            (_, Some(schema)) if &*schema.key.resource == SCHEMAS => vec![schema.key.clone()],
            // A level that has come or gone.
            (None, Some(_)) | (Some(_), None) => self.all(view),
            _ => vec![],
        }
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        keys_of(view, SCHEMAS)
    }

    fn reconcile(&self, view: &dyn View, key: &Key, now: Time) -> Plan {
        let mut plan = Plan::none();
        let Some(schema) = view.get(SCHEMAS, "", &key.name) else { return plan };
        let value = schema.value();
        let level = text(&value["spec"]["priorityLevelConfiguration"]["name"]);
        let (status, reason, message) = dangling(level, view.get(LEVELS, "", level).is_some());
        let mut all = conditions::of(&value);
        let had = conditions::find(&all, DANGLING);
        if had.is_some_and(|c| c["status"] == status && c["reason"] == reason && c["message"] == message.as_str()) {
            return plan;
        }
        conditions::replace(&mut all, &Wanted { kind: DANGLING, status, reason, message }, false, now);
        let status = json!({"status": {"conditions": all}});
        plan.push(patch(&schema, "status", PatchType::Merge, status), "whether its priority level is there");
        plan
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::support::sim::{TestView, config};

    #[test]
    fn a_schema_without_its_level_dangles() {
        let mut view = TestView::default();
        let schema = |level: &str| {
            json!({"metadata": {"name": "s", "uid": "s"}, "spec": {"priorityLevelConfiguration": {"name": level}},
                "status": {}})
        };
        let key = view.put(SCHEMAS, schema("low"));
        let controller = new(&config());
        let said = |view: &mut TestView, seconds: u64| {
            let now = Time::from_secs(seconds);
            let plan = controller.reconcile(view, &key, now);
            assert!(view.execute(&plan));
            assert!(controller.reconcile(view, &key, now).is_empty(), "it goes quiet");
            let c = view.value(&key)["status"]["conditions"][0].clone();
            ["status", "reason", "lastTransitionTime", "message"].map(|f| c[f].as_str().unwrap_or_default().to_string())
        };
        let about = "This FlowSchema references the PriorityLevelConfiguration object named \"low\"";
        let none = format!("{about} but there is no such object");
        assert_eq!(said(&mut view, 10), ["True", "NotFound", "1970-01-01T00:00:10Z", none.as_str()]);
        assert_eq!(said(&mut view, 20), ["True", "NotFound", "1970-01-01T00:00:10Z", none.as_str()]);
        let level = view.put(LEVELS, json!({"metadata": {"name": "low", "uid": "l"}}));
        let there = format!("{about} and it exists");
        assert_eq!(said(&mut view, 30), ["False", "Found", "1970-01-01T00:00:30Z", there.as_str()]);
        let (old, new): (Option<&Object>, Option<&Object>) = (view.objects.get(&level).map(|o| &**o), None);
        assert_eq!(controller.keys(&view, old, new), std::slice::from_ref(&key));
        assert_eq!(controller.keys(&view, old, old), Vec::<Key>::new());
        view.edit(&key, |s: &mut Value| s["spec"] = json!({"priorityLevelConfiguration": {"name": "other"}}));
        assert_eq!(said(&mut view, 40)[..3], ["True", "NotFound", "1970-01-01T00:00:40Z"]);
    }
}
