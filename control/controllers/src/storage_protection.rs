//! Lets go of claims that no pod uses and of volumes that are bound to no claim, once they are deleted (upstream's
//! `pvcprotection` and `pvprotection`). Admission gives new ones the finalizers that keep them until then.

use copepod_machine::{Plan, View};
use copepod_model::kinds::core::podspec::uses_claim;
use copepod_model::request::PatchType;
use copepod_model::{Key, Object, Time};
use serde_json::json;

use crate::support::{keys_of, patch_this_version, text};
use crate::{Config, Controller};

const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
/// The resources with their finalizers.
const PROTECTED: [(&str, &str); 2] =
    [(CLAIMS, "kubernetes.io/pvc-protection"), (VOLUMES, "kubernetes.io/pv-protection")];

struct StorageProtection;

pub(crate) fn new(_: &Config) -> impl Controller + use<> {
    StorageProtection
}

impl Controller for StorageProtection {
    fn name(&self) -> &'static str {
        "storage-protection"
    }

    fn watches(&self) -> &'static [&'static str] {
        &[CLAIMS, VOLUMES, "pods"]
    }

    fn keys(&self, view: &dyn View, old: Option<&Object>, new: Option<&Object>) -> Vec<Key> {
        let Some(object) = new.or(old) else { return vec![] };
        if &*object.key.resource != "pods" {
            return if object.meta.deletion_timestamp.is_some() { vec![object.key.clone()] } else { vec![] };
        }
        // A claim that is deleted may have waited for this pod.
        let waiting = view.list(CLAIMS, Some(object.namespace())).filter(|c| c.meta.deletion_timestamp.is_some());
        let names: Vec<Key> = waiting.map(|c| c.key.clone()).collect();
        if names.is_empty() {
            return names;
        }
        let (spec, _) = object.spec_and_status();
        let pod = object.name();
        names.into_iter().filter(|c| uses_claim(&spec, pod, &c.name)).collect()
    }

    fn all(&self, view: &dyn View) -> Vec<Key> {
        let mut all = keys_of(view, CLAIMS);
        all.extend(keys_of(view, VOLUMES));
        all
    }

    fn reconcile(&self, view: &dyn View, key: &Key, _: Time) -> Plan {
        let mut plan = Plan::none();
        let Some((_, finalizer)) = PROTECTED.iter().find(|(r, _)| *r == &*key.resource) else { return plan };
        let Some(object) = view.get(&key.resource, &key.namespace, &key.name) else { return plan };
        let held = object.meta.finalizers.iter().any(|f| &**f == *finalizer);
        if object.meta.deletion_timestamp.is_none() || !held {
            return plan;
        }
        let used = match &*key.resource {
            CLAIMS => view.list("pods", Some(&key.namespace)).any(|pod| uses(&pod, &key.name)),
            _ => object.value()["status"]["phase"] == "Bound",
        };
        if !used {
            let rest: Vec<&str> = object.meta.finalizers.iter().map(|f| &**f).filter(|f| f != finalizer).collect();
            let body = json!({"metadata": {"finalizers": rest}});
            plan.push(patch_this_version(&object, PatchType::Merge, body), "nothing uses it");
        }
        plan
    }
}

/// Whether a pod that runs, or will, has the claim among its volumes. One that is on no node is none.
fn uses(pod: &Object, claim: &str) -> bool {
    let (spec, status) = pod.spec_and_status();
    let ended = matches!(text(&status["phase"]), "Failed" | "Succeeded");
    !ended && !text(&spec["nodeName"]).is_empty() && uses_claim(&spec, pod.name(), claim)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::support::sim::{TestView, config};

    fn deleted(name: &str, finalizer: &str) -> Value {
        json!({"metadata": {"name": name, "uid": name, "finalizers": [finalizer, "a/b"],
            "deletionTimestamp": "2026-01-01T00:00:00Z"}})
    }

    #[test]
    fn a_claim_is_kept_while_a_pod_runs_with_it() {
        let mut view = TestView::default();
        let mut claim = deleted("data", PROTECTED[0].1);
        claim["metadata"]["namespace"] = "a".into();
        let key = view.put(CLAIMS, claim);
        let pod = view.put(
            "pods",
            json!({"metadata": {"name": "p", "namespace": "a"}, "spec": {"nodeName": "n",
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}]}}),
        );
        let controller = new(&config());
        let plan = |view: &TestView| controller.reconcile(view, &key, Time::default()).to_string();
        assert_eq!(plan(&view), "");
        let before = view.objects[&pod].clone();
        view.edit(&pod, |v| v["status"] = json!({"phase": "Succeeded"}));
        assert_eq!(controller.keys(&view, Some(&before), Some(&view.objects[&pod])), std::slice::from_ref(&key));
        assert!(plan(&view).contains("\"finalizers\":[\"a/b\"]"), "{}", plan(&view));
        view.edit(&pod, |v| v["status"] = json!({}));
        view.edit(&pod, |v| v["spec"]["nodeName"] = "".into());
        assert!(plan(&view).contains("nothing uses it"), "what is on no node uses nothing");
    }

    #[test]
    fn a_volume_is_kept_while_it_is_bound() {
        let mut view = TestView::default();
        let mut volume = deleted("v", PROTECTED[1].1);
        volume["status"] = json!({"phase": "Bound"});
        let key = view.put(VOLUMES, volume);
        let controller = new(&config());
        assert!(controller.reconcile(&view, &key, Time::default()).is_empty());
        view.edit(&key, |v| v["status"]["phase"] = "Released".into());
        let plan = controller.reconcile(&view, &key, Time::default()).to_string();
        assert!(plan.ends_with("(nothing uses it)"), "{plan}");
        view.edit(&key, |v| {
            v["metadata"].as_object_mut().unwrap().remove("deletionTimestamp");
        });
        assert!(controller.reconcile(&view, &key, Time::default()).is_empty(), "what is not deleted is kept anyway");
    }
}
