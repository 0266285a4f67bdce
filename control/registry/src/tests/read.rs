use std::sync::Arc;

use copepod_machine::View;
use copepod_model::{Object, UserInfo, Verb};
use copepod_state::Tables;
use serde_json::json;

use crate::testing::{Cluster, pod, request};
use crate::{Attributes, EventKind, continue_revision};

fn cluster() -> Cluster {
    let mut c = Cluster::new();
    for ns in ["default", "kube-public"] {
        for name in ["a", "b", "c"] {
            c.create(&format!("configmaps {ns}/"), json!({"metadata":{"name":name,"labels":{"name":name}}})).unwrap();
        }
    }
    c
}

fn names(items: &[Arc<Object>]) -> Vec<String> {
    items.iter().map(|o| format!("{}/{}", o.namespace(), o.name())).collect()
}

#[test]
fn pages_follow_each_other() {
    let c = cluster();
    for (what, all) in [
        ("configmaps default/", vec!["default/a", "default/b", "default/c"]),
        ("configmaps", vec!["default/a", "default/b", "default/c", "kube-public/a", "kube-public/b", "kube-public/c"]),
    ] {
        let mut req = request(Verb::List, what);
        req.list.limit = 2;
        let (mut seen, mut remaining) = (Vec::new(), Vec::new());
        loop {
            let page = c.registry.list(&c.tables, &req).unwrap();
            assert_eq!(page.revision, c.tables.revision());
            seen.extend(names(&page.items));
            remaining.push(page.remaining);
            if page.continue_token.is_empty() {
                break;
            }
            assert_eq!(continue_revision(&page.continue_token).unwrap(), c.tables.revision());
            req.list.continue_token = page.continue_token;
        }
        assert_eq!(seen, all);
        let want: Vec<Option<u64>> = (1..=all.len().div_ceil(2))
            .map(|i| all.len().checked_sub(2 * i).map(|n| n as u64).filter(|n| *n > 0))
            .collect();
        assert_eq!(remaining, want, "{what}");
    }
}

#[test]
fn selectors_choose() {
    let mut c = cluster();
    c.create("pods default/", pod("p")).unwrap();
    c.create("pods default/", pod("q")).unwrap();
    c.create("pods default/p binding", json!({"target":{"name":"n1"}})).unwrap();
    for (what, labels, fields, want) in [
        ("configmaps", "name in (a)", "", vec!["default/a", "kube-public/a"]),
        ("configmaps", "", "metadata.name=b,metadata.namespace=default", vec!["default/b"]),
        ("configmaps default/", "", "metadata.name=b", vec!["default/b"]),
        ("configmaps default/", "name!=b", "metadata.name=b", vec![]),
        ("configmaps default/", "", "metadata.name!=b", vec!["default/a", "default/c"]),
        ("pods", "", "spec.nodeName=n1", vec!["default/p"]),
        ("pods", "", "spec.nodeName=", vec!["default/q"]),
        ("pods default/", "", "status.phase=Pending,spec.nodeName!=n1", vec!["default/q"]),
    ] {
        let mut req = request(Verb::List, what);
        req.list.label_selector = labels.into();
        req.list.field_selector = fields.into();
        req.list.limit = 10;
        let page = c.registry.list(&c.tables, &req).unwrap();
        assert_eq!(names(&page.items), want, "{what} {labels} {fields}");
        assert_eq!(page.remaining, None);
    }
}

/// Shows pods by their node only, as a view does whose other pods are too many to look at.
struct ByNode<'t>(&'t Tables);

impl View for ByNode<'_> {
    fn revision(&self) -> u64 {
        self.0.revision()
    }
    fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
        self.0.get(resource, namespace, name)
    }
    fn list(&self, resource: &str, namespace: Option<&str>) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        assert_ne!(resource, "pods", "all of them are looked at");
        self.0.list(resource, namespace)
    }
    fn on_node(
        &self,
        resource: &str,
        node: &str,
        namespace: Option<&str>,
    ) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
        View::on_node(self.0, resource, node, namespace)
    }
}

#[test]
fn of_a_nodes_pods_no_others_are_looked_at() {
    let mut c = cluster();
    for (name, node) in [("p", "n1"), ("q", "n2"), ("r", "n1")] {
        c.create("pods default/", pod(name)).unwrap();
        c.create(&format!("pods default/{name} binding"), json!({"target":{"name":node}})).unwrap();
    }
    let view = ByNode(&c.tables);
    for what in ["pods", "pods default/"] {
        let mut req = request(Verb::List, what);
        req.list.field_selector = "spec.nodeName=n1".into();
        req.list.limit = 1;
        let first = c.registry.list(&view, &req).unwrap();
        assert_eq!((names(&first.items), first.remaining), (vec!["default/p".to_string()], None));
        req.list.continue_token = first.continue_token;
        let second = c.registry.list(&view, &req).unwrap();
        assert_eq!((names(&second.items), &*second.continue_token), (vec!["default/r".to_string()], ""));
    }
    let mut req = request(Verb::List, "pods kube-public/");
    req.list.field_selector = "spec.nodeName=n1".into();
    assert!(c.registry.list(&view, &req).unwrap().items.is_empty());
    let mut req = request(Verb::Get, "configmaps default/a");
    req.user = Arc::new(UserInfo {
        name: "system:node:n1".into(),
        groups: vec!["system:nodes".into()],
        ..UserInfo::default()
    });
    assert!(!c.registry.authorize(&view, &Attributes::of(&req)).allowed, "no pod of the node refers to it");
}

#[test]
fn bad_lists_get_upstreams_errors() {
    let c = cluster();
    type Change = fn(&mut copepod_model::request::ListOptions);
    let cases: [(Change, &str); 8] = [
        (
            |l| l.field_selector = "spec.x=1".into(),
            "400 \"spec.x\" is not a known field selector: only \"metadata.name\"",
        ),
        (|l| l.label_selector = "a in b".into(), "400 unable to parse requirement"),
        (|l| l.continue_token = "%%".into(), "400 continue key is not valid: "),
        (|l| l.continue_token = "e30".into(), "400 continue key is not valid: "),
        (
            |l| l.resource_version_match = Some("Exact".into()),
            "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden",
        ),
        (
            |l| {
                l.resource_version = Some("0".into());
                l.resource_version_match = Some("Exact".into());
            },
            "422 ListOptions.meta.k8s.io",
        ),
        (
            |l| {
                l.resource_version = Some("1".into());
                l.resource_version_match = Some("x".into());
            },
            "422 ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: \"x\"",
        ),
        (
            |l| l.send_initial_events = Some(true),
            "422 ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden",
        ),
    ];
    for (change, want) in cases {
        let mut req = request(Verb::List, "configmaps");
        change(&mut req.list);
        let status = c.registry.list(&c.tables, &req).unwrap_err();
        let got = format!("{} {}", status.code, status.message);
        assert!(got.starts_with(want), "got {got}\nwant {want}");
    }
    assert_eq!(c.registry.get(&c.tables, &request(Verb::Get, "configmaps default/x")).unwrap_err().code, 404);
    assert_eq!(c.registry.get(&c.tables, &request(Verb::Get, "configmaps default/a")).unwrap().name(), "a");
}

#[test]
fn a_watch_turns_changes_into_what_its_selector_sees() {
    let mut c = cluster();
    let get = |c: &Cluster, what: &str| c.find(what).unwrap();
    let old = get(&c, "configmaps default/a");
    c.update("configmaps default/a", json!({"metadata":{"name":"a","labels":{"name":"z"}}})).unwrap();
    let new = get(&c, "configmaps default/a");
    let mut req = request(Verb::Watch, "configmaps default/");
    req.list.label_selector = "name=a".into();
    let f = c.registry.watch_filter(&req).unwrap();
    let kind = |e: Option<(EventKind, &Object)>| e.map(|(k, o)| (k, o.revision));
    assert_eq!(kind(f.event(None, Some(&old))), Some((EventKind::Added, old.revision)));
    assert_eq!(kind(f.event(Some(&old), Some(&old))), Some((EventKind::Modified, old.revision)));
    assert_eq!(kind(f.event(Some(&old), Some(&new))), Some((EventKind::Deleted, old.revision)));
    assert_eq!(kind(f.event(Some(&new), Some(&old))), Some((EventKind::Added, old.revision)));
    assert_eq!(kind(f.event(Some(&old), None)), Some((EventKind::Deleted, old.revision)));
    assert_eq!(kind(f.event(Some(&new), None)), None);
    let elsewhere = get(&c, "configmaps kube-public/a");
    assert_eq!(kind(f.event(None, Some(&elsewhere))), None);
    assert_eq!(EventKind::Deleted.as_str(), "DELETED");
    let mut req = request(Verb::Watch, "configmaps");
    req.list.field_selector = "metadata.name=b".into();
    assert_eq!(c.registry.watch_filter(&req).unwrap().name(), Some("b"));
    req.list.send_initial_events = Some(true);
    assert_eq!(c.registry.watch_filter(&req).err().map(|s| s.code), Some(422));
    req.list.resource_version_match = Some("NotOlderThan".into());
    assert!(c.registry.watch_filter(&req).is_ok());
}
