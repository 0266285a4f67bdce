use copepod_model::request::PatchType::Strategic;
use serde_json::{Value, json};

use crate::testing::{Cluster, error, pod};

fn with(name: &str, image: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["image"] = image.into();
    pod
}

fn cluster() -> Cluster {
    let mut c = Cluster::new();
    for name in ["team", "other"] {
        c.create("namespaces", json!({"metadata":{"name":name}})).unwrap();
        c.create(&format!("serviceaccounts {name}/"), json!({"metadata":{"name":"default"}})).unwrap();
    }
    c
}

#[test]
fn images_of_a_namespace_are_for_its_pods() {
    let mut c = cluster();
    let (own, shared) = ("registry.cluster.local/team/app:1", "registry.cluster.local/app:1");
    c.create("pods team/", with("own", own)).unwrap();
    c.create("pods other/", with("shared", shared)).unwrap();
    let why = |name: &str, image: &str| {
        format!(
            "403 pods {name:?} is forbidden: image {image:?} is of the namespace \"team\": User \
             \"system:serviceaccount:other:default\" cannot get resource \"images\" in API group \"copepod.dev\" there"
        )
    };
    assert_eq!(error(c.create("pods other/", with("p", own))), why("p", own));
    let mut init = with("p", shared);
    init["spec"]["initContainers"] = json!([{"name": "i", "image": own}]);
    assert_eq!(error(c.create("pods other/", init)), why("p", own));
    let change = json!({"spec":{"containers":[{"name":"c","image":own}]}});
    assert_eq!(error(c.patch(Strategic, "pods other/shared", change)), why("shared", own));
    let debug = json!({"spec":{"ephemeralContainers":[{"name":"d","image":own}]}});
    assert_eq!(error(c.patch(Strategic, "pods other/shared ephemeralcontainers", debug)), why("shared", own));
    // What has nothing to do with images goes on.
    c.patch(Strategic, "pods other/shared", json!({"metadata":{"labels":{"a":"b"}}})).unwrap();
}

#[test]
fn others_have_them_by_a_role_there() {
    let mut c = cluster();
    let (image, second) = ("registry.cluster.local/team/app:1", "registry.cluster.local/team/second");
    let role = json!({"metadata":{"name":"app"},
        "rules":[{"apiGroups":["copepod.dev"],"resources":["images"],"resourceNames":["app"],"verbs":["get"]}]});
    c.create("roles.rbac.authorization.k8s.io team/", role).unwrap();
    let group = json!({"kind":"Group","apiGroup":"rbac.authorization.k8s.io","name":"system:serviceaccounts:other"});
    let binding = json!({"metadata":{"name":"app"},"subjects":[group],
        "roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"app"}});
    c.create("rolebindings.rbac.authorization.k8s.io team/", binding).unwrap();
    c.create("pods other/", with("p", image)).unwrap();
    assert!(error(c.create("pods other/", with("q", second))).starts_with("403 "), "of that repository alone");
    assert!(error(c.create("pods default/", with("p", image))).starts_with("403 "), "for that namespace alone");
    // A pod that has its image keeps it when the role goes.
    c.delete("rolebindings.rbac.authorization.k8s.io team/app").unwrap();
    c.patch(Strategic, "pods other/p", json!({"metadata":{"labels":{"a":"b"}}})).unwrap();
    assert!(error(c.create("pods other/", with("r", image))).starts_with("403 "));
}
