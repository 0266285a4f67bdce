use super::*;
use crate::support::sim::{TestView, config};
use copepod_model::kinds::{Kind, Plain};

fn controller() -> Box<dyn Controller> {
    let mut config = config();
    let mut kinds = (*config.kinds).clone();
    for (kind, names) in [("ResourceQuota", ("resourcequotas", "resourcequota")), ("Secret", ("secrets", "secret"))] {
        kinds.add(Kind { status: true, ..Kind::new(("", "v1"), kind, names, Plain) });
    }
    config.kinds = Arc::new(kinds);
    Box::new(new(&config))
}

fn quota(hard: Value, spec: Value) -> Value {
    let mut object = json!({"metadata": {"name": "q", "namespace": "a", "uid": "u"}, "spec": spec});
    object["spec"]["hard"] = hard;
    object
}

fn pod(name: &str, cpu: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "a"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
}

#[test]
fn it_counts_what_there_is_and_takes_back_what_is_gone() {
    let mut view = TestView::default();
    let key = view.put(
        RESOURCE,
        quota(json!({"pods": "4", "requests.cpu": "2", "count/secrets": "9", "services": "1"}), json!({})),
    );
    let one = view.put("pods", pod("one", "500m"));
    view.put("pods", pod("two", "250m"));
    view.put("secrets", json!({"metadata": {"name": "s", "namespace": "a"}}));
    view.put("secrets", json!({"metadata": {"name": "s", "namespace": "other"}}));
    let controllers = vec![controller()];
    let mut queue = BTreeSet::new();
    view.settle(&controllers, &mut queue);
    let want = json!({"pods": "2", "requests.cpu": "750m", "count/secrets": "1", "services": "0"});
    assert_eq!(view.value(&key)["status"]["used"], want);
    assert_eq!(view.value(&key)["status"]["hard"], view.value(&key)["spec"]["hard"]);
    // A pod that has ended takes nothing any more.
    view.edit(&one, |v| v["status"]["phase"] = "Succeeded".into());
    view.settle(&controllers, &mut queue);
    assert_eq!(view.value(&key)["status"]["used"]["pods"], "1");
    view.remove(&one);
    // What is no longer limited is no longer counted.
    view.edit(&key, |v| v["spec"]["hard"] = json!({"requests.cpu": "1"}));
    view.settle(&controllers, &mut queue);
    assert_eq!(view.value(&key)["status"], json!({"hard": {"requests.cpu": "1"}, "used": {"requests.cpu": "250m"}}));
}

#[test]
fn only_what_is_in_scope_counts() {
    let mut view = TestView::default();
    let key = view.put(RESOURCE, quota(json!({"pods": "4"}), json!({"scopes": ["BestEffort"]})));
    view.put("pods", pod("burstable", "1"));
    view.put("pods", json!({"metadata": {"name": "best", "namespace": "a"}, "spec": {"containers": [{"name": "c"}]}}));
    let mut queue = BTreeSet::new();
    view.settle(&[controller()], &mut queue);
    assert_eq!(view.value(&key)["status"]["used"], json!({"pods": "1"}));
}

#[test]
fn it_writes_only_over_the_version_that_it_counted_by() {
    let mut view = TestView::default();
    let key = view.put(RESOURCE, quota(json!({"pods": "4"}), json!({})));
    let plan = controller().reconcile(&view, &key, Time::default());
    view.edit(&key, |v| v["status"] = json!({"used": {"pods": "3"}}));
    assert!(!view.execute(&plan), "an older count must not overwrite a newer one");
    assert_eq!(view.value(&key)["status"]["used"]["pods"], "3");
}

#[test]
fn only_what_may_free_something_makes_it_count() {
    let mut view = TestView::default();
    view.put(RESOURCE, quota(json!({"pods": "4"}), json!({})));
    let pod = view.put("pods", pod("p", "1"));
    view.edit(&pod, |v| v["status"] = json!({"phase": "Running"}));
    view.edit(&pod, |v| v["metadata"]["labels"] = json!({"a": "b"}));
    view.edit(&pod, |v| v["status"]["phase"] = "Failed".into());
    view.remove(&pod);
    assert_eq!(wakes(&mut view), [1, 0, 0, 0, 1, 1], "the quota itself, the end, and the deletion");
}

/// How many keys each change since the last time is about.
fn wakes(view: &mut TestView) -> Vec<usize> {
    let changes = std::mem::take(&mut view.changes);
    let keys = |(old, new): &(Option<Arc<Object>>, Option<Arc<Object>>)| {
        controller().keys(view, old.as_deref(), new.as_deref()).len()
    };
    changes.iter().map(keys).collect()
}

#[test]
fn what_admission_charges_is_not_counted_again() {
    let mut view = TestView::default();
    let key = view.put(RESOURCE, quota(json!({"pods": "4", "services": "1"}), json!({})));
    let status = |pods: &str| json!({"hard": {"pods": "4", "services": "1"}, "used": {"pods": pods, "services": "0"}});
    view.edit(&key, |v| v["status"] = status("0"));
    assert_eq!(wakes(&mut view), [1, 1], "it is new, and has a first count");
    view.edit(&key, |v| v["status"] = status("1"));
    view.edit(&key, |v| v["metadata"]["labels"] = json!({"a": "b"}));
    assert_eq!(wakes(&mut view), [0, 0]);
    view.edit(&key, |v| v["spec"]["hard"]["pods"] = "5".into());
    view.edit(&key, |v| v["spec"]["scopes"] = json!(["NotTerminating"]));
    view.edit(&key, |v| v["status"]["hard"]["pods"] = "9".into());
    view.edit(&key, |v| v["status"]["used"] = json!({"pods": "1"}));
    assert_eq!(wakes(&mut view), [1; 4]);
}
