use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::support::sim::{TestView, config};

fn object(name: &str, owners: &[(&str, &str)]) -> Value {
    let owners: Vec<Value> = owners
        .iter()
        .map(|(resource, name)| {
            let (api, kind) = match *resource {
                "deployments.apps" => ("apps/v1", "Deployment"),
                "replicasets.apps" => ("apps/v1", "ReplicaSet"),
                "configmaps" => ("v1", "ConfigMap"),
                _ => ("v1", "Node"),
            };
            json!({"apiVersion": api, "kind": kind, "name": name, "uid": format!("uid-{name}"), "blockOwnerDeletion": true})
        })
        .collect();
    json!({"metadata": {"name": name, "namespace": "a", "uid": format!("uid-{name}"), "ownerReferences": owners}})
}

/// Resource, name, and the owners as (resource, name).
type Given<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

struct Cluster {
    view: TestView,
    controllers: Vec<Box<dyn Controller>>,
    queue: BTreeSet<(usize, Key)>,
}

impl Cluster {
    fn new(objects: &[Given<'_>]) -> Cluster {
        let mut view = TestView { now: Time::from_secs(1_800_000_000), ..TestView::default() };
        for (resource, name, owners) in objects {
            view.put(resource, object(name, owners));
        }
        Cluster { view, controllers: vec![Box::new(new(&config()))], queue: BTreeSet::new() }
    }
    fn delete(&mut self, resource: &str, name: &str, propagation: Propagation) {
        let mut plan = Plan::none();
        let (resource, namespace, name, uid) = (resource.into(), "a".into(), name.into(), format!("uid-{name}"));
        let propagation = Some(propagation);
        plan.push(Action::Delete { resource, namespace, name, uid, propagation, grace_seconds: None }, "");
        assert!(self.view.execute(&plan));
    }
    fn settle(&mut self) -> String {
        self.view.settle(&self.controllers, &mut self.queue);
        let names: Vec<String> = self
            .view
            .objects
            .values()
            .map(|o| {
                let owners: Vec<&str> = o.meta.owner_references.iter().map(|r| &*r.name).collect();
                let going = if deleting(o) { "!" } else { "" };
                if owners.is_empty() {
                    format!("{}{going}", o.name())
                } else {
                    format!("{}{going}<{}", o.name(), owners.join(","))
                }
            })
            .collect();
        names.join(" ")
    }
}

const TREE: &[Given<'_>] = &[
    ("deployments.apps", "d", &[]),
    ("replicasets.apps", "r", &[("deployments.apps", "d")]),
    ("configmaps", "c", &[("replicasets.apps", "r")]),
    ("pods", "p", &[("replicasets.apps", "r")]),
];

#[test]
fn background() {
    let mut c = Cluster::new(TREE);
    assert_eq!(c.settle(), "c<r d p<r r<d");
    c.delete("deployments.apps", "d", Propagation::Background);
    assert_eq!(c.settle(), "p!<r");
}

#[test]
fn foreground_waits_for_the_leaves() {
    let mut c = Cluster::new(TREE);
    c.settle();
    c.delete("deployments.apps", "d", Propagation::Foreground);
    assert_eq!(c.settle(), "d! p!<r r!<d");
    c.view.remove(&Key::new("pods", "a", "p"));
    assert_eq!(c.settle(), "");
}

#[test]
fn orphans_stay() {
    let mut c = Cluster::new(TREE);
    c.settle();
    c.delete("deployments.apps", "d", Propagation::Orphan);
    assert_eq!(c.settle(), "c<r p<r r");
}

#[test]
fn another_owner_keeps_it() {
    let mut c = Cluster::new(&[
        ("configmaps", "o1", &[]),
        ("configmaps", "o2", &[]),
        ("configmaps", "x", &[("configmaps", "o1"), ("configmaps", "o2")]),
    ]);
    c.settle();
    c.delete("configmaps", "o1", Propagation::Foreground);
    assert_eq!(c.settle(), "o2 x<o2");
    c.delete("configmaps", "o2", Propagation::Background);
    assert_eq!(c.settle(), "");
}

#[test]
fn an_owner_of_the_same_name_is_not_the_owner() {
    let mut c = Cluster::new(&[("configmaps", "o", &[]), ("configmaps", "x", &[("configmaps", "o")])]);
    c.settle();
    c.view.remove(&Key::new("configmaps", "a", "o"));
    let mut other = object("o", &[]);
    other["metadata"]["uid"] = "another".into();
    c.view.put("configmaps", other);
    assert_eq!(c.settle(), "o");
}

#[test]
fn what_cannot_be_looked_up_costs_nothing() {
    let mut c = Cluster::new(&[]);
    let mut unknown = object("x", &[("configmaps", "o")]);
    unknown["metadata"]["ownerReferences"][0]["kind"] = "Widget".into();
    c.view.put("configmaps", unknown);
    let mut wide = object("n", &[("configmaps", "o")]);
    wide["metadata"]["namespace"] = Value::Null;
    c.view.put("nodes", wide);
    assert_eq!(c.settle(), "x<o n<o");
}

#[test]
fn a_cycle_in_the_foreground_ends() {
    let mut c =
        Cluster::new(&[("configmaps", "a", &[("configmaps", "b")]), ("configmaps", "b", &[("configmaps", "a")])]);
    c.settle();
    c.delete("configmaps", "a", Propagation::Foreground);
    assert_eq!(c.settle(), "");
}

#[test]
fn a_restart_finds_what_was_missed() {
    let mut c = Cluster::new(TREE);
    c.view.remove(&Key::new("deployments.apps", "a", "d"));
    c.view.changes.clear();
    c.queue.extend(c.controllers[0].all(&c.view).into_iter().map(|k| (0, k)));
    assert_eq!(c.settle(), "p!<r");
}

proptest! {
    /// Of any acyclic ownership, what is left when its roots are gone is what still has a living owner or never had one.
    #[test]
    fn no_orphans_and_no_victims(owners in prop::collection::vec(prop::collection::vec(0usize..12, 0..3), 12),
        gone in prop::collection::vec((0usize..12, any::<bool>()), 1..6)) {
        let name = |n: usize| format!("o{n:02}");
        let mut c = Cluster::new(&[]);
        let edges: Vec<BTreeSet<usize>> =
            owners.iter().enumerate().map(|(i, o)| o.iter().copied().filter(|o| *o < i).collect()).collect();
        for (i, set) in edges.iter().enumerate() {
            let names: Vec<String> = set.iter().map(|o| name(*o)).collect();
            let refs: Vec<(&str, &str)> = names.iter().map(|n| ("configmaps", n.as_str())).collect();
            c.view.put("configmaps", object(&name(i), &refs));
        }
        c.settle();
        let mut dead = BTreeSet::new();
        for (n, foreground) in gone {
            if c.view.objects.contains_key(&Key::new("configmaps", "a", name(n))) {
                let how = if foreground { Propagation::Foreground } else { Propagation::Background };
                c.delete("configmaps", &name(n), how);
                c.settle();
            }
            dead.insert(n);
        }
        for (i, owners) in edges.iter().enumerate() {
            if !owners.is_empty() && owners.iter().all(|o| dead.contains(o)) {
                dead.insert(i);
            }
        }
        let left: Vec<String> = c.view.objects.keys().map(|k| k.name.to_string()).collect();
        let want: Vec<String> = (0..12).filter(|i| !dead.contains(i)).map(name).collect();
        prop_assert_eq!(left, want);
    }
}
