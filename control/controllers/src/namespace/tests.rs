use serde_json::json;

use super::*;
use crate::support::sim::{TestView, config};

const NOW: Time = Time::from_secs(1_800_000_000);

fn plan(view: &TestView) -> Plan {
    new(&config()).reconcile(view, &Key::new(RESOURCE, "", "a"), NOW)
}

fn deeds(plan: &Plan) -> Vec<String> {
    let status = |a: &Action| matches!(a, Action::Patch { .. });
    plan.0.iter().filter(|s| !status(&s.action)).map(|s| s.action.to_string()).collect()
}

#[test]
fn pods_go_first_then_the_rest_then_the_namespace() {
    let mut view = TestView::default();
    let key =
        view.put(RESOURCE, json!({"metadata": {"name": "a", "uid": "ns"}, "spec": {"finalizers": ["kubernetes"]}}));
    assert!(plan(&view).is_empty());
    view.edit(&key, |n| n["metadata"]["deletionTimestamp"] = NOW.rfc3339().into());
    let pod = view.put("pods", json!({"metadata": {"name": "p", "namespace": "a", "uid": "p"}}));
    view.put("configmaps", json!({"metadata": {"name": "c", "namespace": "a", "uid": "c", "finalizers": ["x/y"]}}));
    view.put("configmaps", json!({"metadata": {"name": "c", "namespace": "b", "uid": "b"}}));

    let first = plan(&view);
    assert_eq!(deeds(&first), ["delete pods/p"]);
    assert!(view.execute(&first));
    assert_eq!(deeds(&plan(&view)), [""; 0], "the pod is still terminating");
    assert!(plan(&view).is_empty(), "and nothing new to report");
    view.remove(&pod);
    let second = plan(&view);
    assert_eq!(deeds(&second), ["delete configmaps/c"]);
    assert!(view.execute(&second));
    let conditions = conditions::of(&view.value(&key));
    let text = |kind: &str| {
        let c = conditions::find(&conditions, kind).unwrap();
        format!("{} {}: {}", c["status"], c["reason"], c["message"])
    };
    assert_eq!(
        text("NamespaceFinalizersRemaining"),
        "\"True\" \"SomeFinalizersRemain\": \"Some content in the namespace has finalizers remaining: x/y in 1 resource \
         instances\""
    );
    assert!(text("NamespaceContentRemaining").starts_with("\"True\" \"SomeResourcesRemain\""));
    assert_eq!(deeds(&plan(&view)), [""; 0]);

    view.edit(&Key::new("configmaps", "a", "c"), |c| c["metadata"]["finalizers"] = json!([]));
    let last = plan(&view);
    assert_eq!(deeds(&last), ["update namespaces/a/finalize"]);
    assert!(view.execute(&last));
    assert!(!view.objects.contains_key(&key));
    assert_eq!(view.list("configmaps", Some("b")).count(), 1);
}

#[test]
fn content_of_a_dying_namespace_wakes_it() {
    let mut view = TestView::default();
    view.put(
        RESOURCE,
        json!({"metadata": {"name": "a", "deletionTimestamp": NOW.rfc3339()}, "spec": {"finalizers": ["kubernetes"]}}),
    );
    view.put(RESOURCE, json!({"metadata": {"name": "b"}}));
    let (a, b) = ["a", "b"]
        .map(|n| view.put("pods", json!({"metadata": {"name": "p", "namespace": n}})))
        .map(|k| view.objects[&k].clone())
        .into();
    let controller = new(&config());
    assert_eq!(controller.keys(&view, Some(&a), None), [Key::new(RESOURCE, "", "a")]);
    assert!(controller.keys(&view, None, Some(&b)).is_empty());
}

#[test]
fn every_namespace_gets_its_account_and_its_ca() {
    let mut view = TestView::default();
    let ns = view.put(RESOURCE, json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}}));
    let controllers: Vec<Box<dyn Controller>> =
        vec![Box::new(crate::service_account::new(&config())), Box::new(crate::root_ca::new(&config()))];
    let mut queue = Default::default();
    view.settle(&controllers, &mut queue);
    let account = Key::new("serviceaccounts", "a", "default");
    let ca = Key::new("configmaps", "a", "kube-root-ca.crt");
    assert!(view.objects.contains_key(&account));
    assert_eq!(view.value(&ca)["data"], json!({"ca.crt": "PEM"}));
    view.remove(&account);
    view.edit(&ca, |c| c["data"]["ca.crt"] = "forged".into());
    view.settle(&controllers, &mut queue);
    assert!(view.objects.contains_key(&account));
    assert_eq!(view.value(&ca)["data"], json!({"ca.crt": "PEM"}));
    view.edit(&ns, |n| n["metadata"]["deletionTimestamp"] = NOW.rfc3339().into());
    view.remove(&account);
    view.settle(&controllers, &mut queue);
    assert!(!view.objects.contains_key(&account), "not in a namespace that is going");
}
