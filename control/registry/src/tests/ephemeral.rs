use copepod_model::Verb;
use copepod_model::request::PatchType::{Merge, Strategic};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, pod, request, user};

const POD: &str = "pods default/p";
const AT: &str = "pods default/p ephemeralcontainers";

fn one(name: &str, image: &str) -> Value {
    json!({"spec":{"ephemeralContainers":[{"name":name,"image":image,"targetContainerName":"c"}]}})
}

fn cluster() -> Cluster {
    let mut c = Cluster::new();
    c.create("pods default/", pod("p")).unwrap();
    c
}

#[test]
fn ephemeral_containers_are_added_with_their_defaults() {
    let mut c = cluster();
    let (code, v) = c.patch(Strategic, AT, one("d", "copepod.dev/toolbox")).unwrap();
    let added = &v["spec"]["ephemeralContainers"][0];
    assert_eq!((code, v["metadata"]["generation"].as_i64()), (200, Some(2)));
    assert_eq!((&added["imagePullPolicy"], &added["targetContainerName"]), (&json!("Always"), &json!("c")));
    assert_eq!(added["terminationMessagePath"], "/dev/termination-log");
    let (_, v) = c.patch(Strategic, AT, one("e", "x:1")).unwrap();
    assert_eq!(v["spec"]["ephemeralContainers"].as_array().unwrap().len(), 2);
    let managers = v["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|m| m["subresource"] == "ephemeralcontainers"), "{managers:?}");
    // Nothing else is written there.
    let mut changed = c.value(POD);
    changed["metadata"]["labels"] = json!({"a":"b"});
    changed["spec"]["containers"][0]["image"] = "other".into();
    let (_, v) = c.update(AT, changed).unwrap();
    assert_eq!((v["spec"]["containers"][0]["image"].as_str(), v["metadata"].get("labels")), (Some("i"), None));
}

#[test]
fn and_never_changed_or_taken_away() {
    let mut c = cluster();
    c.patch(Strategic, AT, one("d", "x:1")).unwrap();
    let refused = |seen, what: &str| {
        let text = error(seen);
        assert!(text.starts_with("422 Pod \"p\" is invalid: ") && text.contains(what), "{what}: {text}");
    };
    let gone = c.patch(Merge, AT, json!({"spec":{"ephemeralContainers":null}}));
    refused(gone, "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"d\" may not be removed");
    refused(c.patch(Strategic, AT, one("d", "y:1")), "existing ephemeral containers \"d\" may not be changed");
    refused(c.patch(Strategic, AT, one("c", "x:1")), "name: Duplicate value: \"c\"");
    refused(c.patch(Strategic, POD, one("e", "x:1")), "spec: Forbidden: pod updates may not change fields other than");
    let mut with = pod("q");
    with["spec"]["ephemeralContainers"] = one("d", "x:1")["spec"]["ephemeralContainers"].clone();
    let text = error(c.create("pods default/", with));
    assert!(text.contains("spec.ephemeralContainers: Forbidden: cannot be set on create"), "{text}");
    assert!(error(c.patch(Strategic, "pods default/none ephemeralcontainers", one("d", "x"))).starts_with("404 "));

    let mut mirror = pod("p2");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror":"x"});
    mirror["spec"]["nodeName"] = "n".into();
    c.create("pods default/", mirror).unwrap();
    let text = error(c.patch(Strategic, "pods default/p2 ephemeralcontainers", one("d", "x:1")));
    assert!(text.contains("Forbidden: static pods do not support ephemeral containers"), "{text}");
}

/// Whoever may change pods may not add containers to them unless a role says so, as upstream; and nodes never do.
#[test]
fn who_may_add_them() {
    let mut c = cluster();
    let role = json!({"kind":"ClusterRole","name":"admin"});
    let subject = json!({"kind":"User","name":"ann"});
    let binding = json!({"metadata":{"name":"b"},"roleRef":role,"subjects":[subject]});
    c.create("rolebindings.rbac.authorization.k8s.io default/", binding).unwrap();
    let mut req = request(Verb::Patch, AT);
    for (who, groups, want) in
        [("ann", &[][..], false), ("root", &["system:masters"], true), ("system:node:n", &["system:nodes"], false)]
    {
        req.user = user(who, groups);
        let allowed = c.registry.authorize(&c.tables, &crate::Attributes::of(&req)).allowed;
        assert_eq!(allowed, want, "{who}");
    }
}
