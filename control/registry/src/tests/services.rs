use copepod_model::Verb;
use copepod_model::request::{Body, PatchType};
use copepod_state::{Outcome, apply};
use serde_json::{Value, json};

use crate::testing::{Cluster, error, request};
use crate::{Decision, Env};

fn service(name: &str, spec: Value) -> Value {
    let mut v = json!({"metadata":{"name":name},"spec":{"ports":[{"port":80}],"selector":{"a":"b"}}});
    for (k, x) in spec.as_object().unwrap() {
        v["spec"][k] = x.clone();
    }
    v
}

/// A cluster of one family.
fn single() -> Cluster {
    let mut c = Cluster::new();
    c.registry.config.service_cidrs.truncate(1);
    c
}

#[test]
fn each_type_gets_what_it_needs() {
    let mut c = Cluster::new();
    let (_, v) = c.create("services default/", service("a", json!({}))).unwrap();
    let ip = v["spec"]["clusterIP"].as_str().unwrap().to_string();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(v["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(
        (v["spec"]["ipFamilies"].clone(), v["spec"]["ipFamilyPolicy"].as_str()),
        (json!(["IPv4"]), Some("SingleStack"))
    );
    let (_, v) = c.create("services default/", service("h", json!({"clusterIP":"None"}))).unwrap();
    assert_eq!(v["spec"]["clusterIPs"], json!(["None"]));
    let (_, v) = c.create("services default/", service("hs", json!({"clusterIP":"None","selector":null}))).unwrap();
    assert_eq!(
        (v["spec"]["ipFamilies"].clone(), v["spec"]["ipFamilyPolicy"].as_str()),
        (json!(["IPv4", "IPv6"]), Some("RequireDualStack"))
    );
    let (_, v) =
        c.create("services default/", service("e", json!({"type":"ExternalName","externalName":"x.io"}))).unwrap();
    assert!(v["spec"].get("clusterIP").is_none() && v["spec"].get("ipFamilies").is_none());
    let ports =
        json!([{"name":"t","port":53,"protocol":"TCP"},{"name":"u","port":53,"protocol":"UDP"},{"name":"x","port":1}]);
    let (_, v) = c.create("services default/", service("n", json!({"type":"NodePort","ports":ports}))).unwrap();
    let got: Vec<u64> =
        v["spec"]["ports"].as_array().unwrap().iter().map(|p| p["nodePort"].as_u64().unwrap()).collect();
    assert!(got.iter().all(|p| (30000..=32767).contains(p)) && got[0] == got[1] && got[0] != got[2], "{got:?}");
    assert_eq!((c.internal("_serviceips").len(), c.internal("_nodeports").len()), (2, 2));
    for name in ["a", "h", "hs", "e", "n"] {
        c.delete(&format!("services default/{name}")).unwrap();
    }
    assert_eq!((c.internal("_serviceips").len(), c.internal("_nodeports").len()), (0, 0));
}

#[test]
fn what_is_asked_for_is_given_or_refused() {
    let mut c = single();
    let (_, v) = c.create("services default/", service("dns", json!({"clusterIP":"10.96.0.10"}))).unwrap();
    assert_eq!(v["spec"]["clusterIP"], "10.96.0.10");
    c.create("services default/", service("n", json!({"type":"NodePort","ports":[{"port":1,"nodePort":30001}]})))
        .unwrap();
    for (spec, want) in [
        (
            json!({"clusterIP":"10.96.0.10"}),
            "422 Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: \
             provided IP is already allocated",
        ),
        (
            json!({"clusterIP":"1.2.3.4"}),
            "422 Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP 1.2.3.4: the \
             provided IP (1.2.3.4) is not in the valid range. The range of valid IPs is 10.96.0.0/16",
        ),
        (
            json!({"clusterIP":"zero"}),
            "422 Service \"x\" is invalid: spec.clusterIPs[0]: Invalid value: \"zero\": must be a valid IP address",
        ),
        (
            json!({"type":"NodePort","ports":[{"port":1,"nodePort":30001}]}),
            "422 Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated",
        ),
        (
            json!({"type":"NodePort","ports":[{"port":1,"nodePort":80}]}),
            "422 Service \"x\" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. \
             The range of valid ports is 30000-32767",
        ),
        (
            json!({"ipFamilyPolicy":"RequireDualStack"}),
            "422 Service \"x\" is invalid: spec.ipFamilyPolicy: Invalid value",
        ),
        (
            json!({"clusterIPs":["10.96.0.9"]}),
            "422 Service \"x\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: must be empty when `clusterIP` is \
             not specified",
        ),
        (
            json!({"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":30001}),
            "500 Internal error occurred: failed to allocate requested HealthCheck NodePort 30001: provided port is already \
             allocated",
        ),
        (
            json!({"type":"LoadBalancer","externalTrafficPolicy":"Local","healthCheckNodePort":80}),
            "500 Internal error occurred: failed to allocate requested HealthCheck NodePort 80: provided port is not in the valid \
             range. The range of valid ports is 30000-32767",
        ),
        (json!({"ipFamilies":["IPv6"]}), "422 Service \"x\" is invalid: spec.ipFamilies[0]: Invalid value: \"IPv6\""),
    ] {
        let got = error(c.create("services default/", service("x", spec.clone())));
        assert!(got.starts_with(want), "{spec}\n got {got}\nwant {want}");
    }
    assert_eq!((c.internal("_serviceips").len(), c.internal("_nodeports").len()), (2, 1));
}

#[test]
fn changes_keep_give_and_release() {
    let mut c = Cluster::new();
    let what = "services default/a";
    let (_, v) = c.create("services default/", service("a", json!({}))).unwrap();
    let ip = v["spec"]["clusterIP"].clone();
    // Whoever sends the manifest again without the address keeps it.
    let (_, v) = c.update(what, service("a", json!({"sessionAffinity":"ClientIP"}))).unwrap();
    assert_eq!(v["spec"]["clusterIP"], ip);
    let got =
        error(c.patch(PatchType::Merge, what, json!({"spec":{"clusterIP":"10.96.0.77","clusterIPs":["10.96.0.77"]}})));
    assert!(got.starts_with("422 ") && got.contains("may not change once set"), "{got}");
    // One that knows the old field only means both.
    let got = error(c.patch(PatchType::Merge, what, json!({"spec":{"clusterIP":"10.96.0.77"}})));
    assert!(got.contains("spec.clusterIPs[0]: Invalid value: [\"10.96.0.77\"]: may not change once set"), "{got}");
    let (_, v) = c.patch(PatchType::Merge, what, json!({"spec":{"type":"NodePort"}})).unwrap();
    let port = v["spec"]["ports"][0]["nodePort"].clone();
    assert_eq!(c.internal("_nodeports"), [port.to_string()]);
    let (_, v) = c.patch(PatchType::Merge, what, json!({"spec":{"type":"ClusterIP"}})).unwrap();
    assert!(v["spec"]["ports"][0].get("nodePort").is_none());
    assert!(c.internal("_nodeports").is_empty());
    c.patch(PatchType::Merge, what, json!({"spec":{"type":"ExternalName","externalName":"x.io"}})).unwrap();
    assert!(c.internal("_serviceips").is_empty());
    let (_, v) = c.patch(PatchType::Merge, what, json!({"spec":{"type":"ClusterIP","externalName":null}})).unwrap();
    assert_eq!(c.internal("_serviceips"), [v["spec"]["clusterIP"].as_str().unwrap()]);
}

fn families(v: &Value) -> (String, String, usize) {
    let spec = &v["spec"];
    let texts =
        |name: &str| -> Vec<&str> { spec[name].as_array().into_iter().flatten().filter_map(Value::as_str).collect() };
    assert_eq!(spec["clusterIP"], spec["clusterIPs"][0]);
    (spec["ipFamilyPolicy"].as_str().unwrap().into(), texts("ipFamilies").join(" "), texts("clusterIPs").len())
}

#[test]
fn families_follow_the_policy() {
    let mut c = Cluster::new();
    let six = "fd00:10:96::";
    for (name, spec, policy, all) in [
        ("a", json!({}), "SingleStack", "IPv4"),
        ("b", json!({"ipFamilyPolicy":"PreferDualStack"}), "PreferDualStack", "IPv4 IPv6"),
        ("c", json!({"ipFamilyPolicy":"RequireDualStack"}), "RequireDualStack", "IPv4 IPv6"),
        ("d", json!({"ipFamilies":["IPv6"]}), "SingleStack", "IPv6"),
        ("e", json!({"ipFamilyPolicy":"RequireDualStack","ipFamilies":["IPv6"]}), "RequireDualStack", "IPv6 IPv4"),
        ("f", json!({"clusterIP":format!("{six}7")}), "SingleStack", "IPv6"),
        (
            "g",
            json!({"ipFamilyPolicy":"PreferDualStack","clusterIP":format!("{six}8"),
            "clusterIPs":[format!("{six}8"),"10.96.0.8"]}),
            "PreferDualStack",
            "IPv6 IPv4",
        ),
        ("h", json!({"ipFamilyPolicy":"PreferDualStack","clusterIP":"None"}), "PreferDualStack", "IPv4 IPv6"),
        ("i", json!({"type":"NodePort","ipFamilyPolicy":"RequireDualStack"}), "RequireDualStack", "IPv4 IPv6"),
    ] {
        let (_, v) = c.create("services default/", service(name, spec)).unwrap();
        let addresses = if v["spec"]["clusterIP"] == "None" { 1 } else { all.split(' ').count() };
        assert_eq!(families(&v), (policy.into(), all.into(), addresses), "{name}: {v}");
        for (i, family) in all.split(' ').enumerate().take(if addresses == 1 { 1 } else { 2 }) {
            let ip = v["spec"]["clusterIPs"][i].as_str().unwrap();
            assert!(ip == "None" || ip.starts_with(if family == "IPv4" { "10.96." } else { six }), "{name}: {ip}");
        }
    }
    assert_eq!(c.value("services default/g")["spec"]["clusterIPs"], json!(["fd00:10:96::8", "10.96.0.8"]));
    // Each address is a key of its own, with its IPAddress beside it.
    assert_eq!(c.internal("_serviceips").len(), 13);
    assert_eq!(c.value("ipaddresses.networking.k8s.io fd00:10:96::8")["spec"]["parentRef"]["name"], "g");
    for name in ["a", "b", "c", "d", "e", "f", "g", "h", "i"] {
        c.delete(&format!("services default/{name}")).unwrap();
    }
    assert!(c.internal("_serviceips").is_empty() && c.internal("ipaddresses.networking.k8s.io").is_empty());
}

#[test]
fn families_that_cannot_be_are_refused() {
    let mut c = Cluster::new();
    c.create("services default/", service("taken", json!({"clusterIP":"fd00:10:96::a"}))).unwrap();
    for (spec, want) in [
        (
            json!({"ipFamilyPolicy":"SingleStack","ipFamilies":["IPv4","IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
             multiple IP families are specified",
        ),
        (
            json!({"clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","fd00:10:96::9"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when \
             multiple cluster IPs are specified",
        ),
        (
            json!({"ipFamilyPolicy":"RequireDualStack","clusterIP":"10.96.0.9","clusterIPs":["10.96.0.9","10.96.0.8"]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\",\"10.96.0.8\"]: may specify no more than one IP for each IP family",
        ),
        (
            json!({"ipFamilies":["IPv6"],"clusterIP":"10.96.0.9"}),
            "spec.clusterIPs[0]: Invalid value: \"10.96.0.9\": expected an IPv6 value as indicated by `ipFamilies[0]`",
        ),
        (
            json!({"clusterIPs":["10.96.0.9"]}),
            "spec.clusterIPs: Invalid value: [\"10.96.0.9\"]: must be empty when `clusterIP` is not specified",
        ),
        (
            json!({"clusterIP":"None","clusterIPs":["None","fd00:10:96::9"]}),
            "spec.clusterIPs: Invalid value: [\"None\",\"fd00:10:96::9\"]: 'None' must be the first and only value",
        ),
        (json!({"ipFamilies":["IPv4","IPv4"]}), "spec.ipFamilies[1]: Duplicate value: \"IPv4\""),
        (
            json!({"ipFamilies":["IPX"]}),
            "spec.ipFamilies[0]: Unsupported value: \"IPX\": supported values: \"IPv4\", \"IPv6\"",
        ),
        (json!({"ipFamilyPolicy":"Both"}), "spec.ipFamilyPolicy: Unsupported value: \"Both\""),
        (
            json!({"clusterIP":"fd00:10:96::a"}),
            "spec.clusterIPs: Invalid value: [\"fd00:10:96::a\"]: failed to allocate IP fd00:10:96::a: provided IP is \
             already allocated",
        ),
        (
            json!({"clusterIP":"fd00:10:97::a"}),
            "spec.clusterIPs: Invalid value: [\"fd00:10:97::a\"]: failed to allocate IP fd00:10:97::a: the provided IP \
             (fd00:10:97::a) is not in the valid range. The range of valid IPs is fd00:10:96::/112",
        ),
        (
            json!({"type":"ExternalName","externalName":"x.io","ipFamilies":["IPv4"]}),
            "spec.ipFamilies: Forbidden: may not be",
        ),
    ] {
        let got = error(c.create("services default/", service("x", spec.clone())));
        let want = format!("422 Service \"x\" is invalid: {want}");
        assert!(got.starts_with(&want), "{spec}\n got {got}\nwant {want}");
    }
    let mut c = single();
    let got = error(c.create("services default/", service("x", json!({"clusterIP":"fd00:10:96::9"}))));
    assert!(got.contains("spec.clusterIPs[0]: Invalid value: [\"fd00:10:96::9\"]: IPv6 is not configured on"), "{got}");
    let (_, v) = c.create("services default/", service("p", json!({"ipFamilyPolicy":"PreferDualStack"}))).unwrap();
    assert_eq!(families(&v), ("PreferDualStack".into(), "IPv4".into(), 1));
}

#[test]
fn the_second_address_comes_and_goes_with_the_policy() {
    let mut c = Cluster::new();
    let what = "services default/a";
    let (_, v) = c.create("services default/", service("a", json!({}))).unwrap();
    let first = v["spec"]["clusterIP"].clone();
    let merge = |c: &mut Cluster, spec: Value| c.patch(PatchType::Merge, what, json!({ "spec": spec }));
    let (_, v) = merge(&mut c, json!({"ipFamilyPolicy":"RequireDualStack"})).unwrap();
    assert_eq!((families(&v), &v["spec"]["clusterIP"]), (("RequireDualStack".into(), "IPv4 IPv6".into(), 2), &first));
    let second = v["spec"]["clusterIPs"][1].clone();
    assert_eq!(c.internal("_serviceips").len(), 2);
    for (spec, want) in [
        (json!({"clusterIPs":[first]}), "must be 'SingleStack' to release the secondary cluster IP"),
        (json!({"ipFamilies":["IPv4"]}), "must be 'SingleStack' to release the secondary IP family"),
        (json!({"clusterIPs":[first,"fd00:10:96::77"]}), "spec.clusterIPs[1]: Invalid value"),
        (json!({"ipFamilies":["IPv6","IPv4"]}), "expected an IPv6 value as indicated by `ipFamilies[0]`"),
        (json!({"clusterIP":"10.96.0.77","clusterIPs":["10.96.0.77",second]}), "may not change once set"),
    ] {
        let got = error(merge(&mut c, spec.clone()));
        assert!(got.starts_with("422 ") && got.contains(want), "{spec}: {got}");
    }
    // Whoever sends the manifest again, without a word of families, changes nothing.
    let (_, v) = c.update(what, service("a", json!({"sessionAffinity":"ClientIP"}))).unwrap();
    assert_eq!((families(&v).2, &v["spec"]["clusterIPs"][1]), (2, &second));
    let (_, v) = merge(&mut c, json!({"ipFamilyPolicy":"SingleStack"})).unwrap();
    assert_eq!((families(&v), &v["spec"]["clusterIP"]), (("SingleStack".into(), "IPv4".into(), 1), &first));
    assert_eq!(c.internal("_serviceips"), [first.as_str().unwrap()]);
    // Of one that prefers both, neither a cluster with a second family nor one without it takes or gives any.
    merge(&mut c, json!({"ipFamilyPolicy":"PreferDualStack"})).unwrap();
    c.registry.config.service_cidrs.truncate(1);
    let (_, v) = merge(&mut c, json!({"sessionAffinity":"None"})).unwrap();
    assert_eq!(families(&v), ("PreferDualStack".into(), "IPv4 IPv6".into(), 2));
    let (_, v) = merge(&mut c, json!({"type":"ExternalName","externalName":"x.io"})).unwrap();
    assert!(v["spec"].get("clusterIPs").is_none() && v["spec"].get("ipFamilies").is_none(), "{v}");
    assert!(c.internal("_serviceips").is_empty());
}

#[test]
fn of_two_that_race_for_an_address_one_decides_again() {
    let mut c = Cluster::new();
    let decide = |c: &mut Cluster, name: &str| {
        let mut req = request(Verb::Create, "services default/");
        req.body = Body::Object(service(name, json!({"clusterIP":"10.96.0.10"})));
        let mut env = Env::new(&c.tables, c.now, &mut c.ids);
        c.registry.decide(&mut env, &req)
    };
    let (Decision::Write(a), Decision::Write(b)) = (decide(&mut c, "a").unwrap(), decide(&mut c, "b").unwrap()) else {
        panic!()
    };
    assert!(matches!(apply(&mut c.tables, 1, &a.txn).0, Outcome::Applied(_)));
    assert!(matches!(apply(&mut c.tables, 1, &b.txn).0, Outcome::Failed(_)));
    assert_eq!(decide(&mut c, "b").unwrap_err().code, 422);
}

#[test]
fn addresses_are_shown_as_objects() {
    const ADDRESSES: &str = "ipaddresses.networking.k8s.io";
    let mut c = Cluster::new();
    c.create("services default/", service("a", json!({"clusterIP":"10.96.0.10"}))).unwrap();
    let at = format!("{ADDRESSES} 10.96.0.10");
    let shown = c.value(&at);
    assert_eq!(shown["spec"], json!({"parentRef":{"resource":"services","namespace":"default","name":"a"}}));
    assert_eq!(shown["metadata"]["labels"]["ipaddress.kubernetes.io/ip-family"], "IPv4");
    assert!(shown["metadata"]["uid"].is_string() && shown["metadata"]["creationTimestamp"].is_string(), "{shown}");
    // Headless Services and those of type ExternalName have none.
    c.create("services default/", service("h", json!({"clusterIP":"None"}))).unwrap();
    c.create("services default/", service("e", json!({"type":"ExternalName","externalName":"x.io"}))).unwrap();
    assert_eq!(c.internal(ADDRESSES), ["10.96.0.10"]);
    // What somebody else has taken is not given to a Service.
    let other =
        json!({"metadata":{"name":"10.96.0.11"},"spec":{"parentRef":{"group":"a.b","resource":"c","name":"d"}}});
    c.create(ADDRESSES, other).unwrap();
    let got = error(c.create("services default/", service("b", json!({"clusterIP":"10.96.0.11"}))));
    assert!(got.contains("failed to allocate IP 10.96.0.11: provided IP is already allocated"), "{got}");
    // One that somebody has deleted is made again for the Service that has the address, and for no other.
    c.delete(&at).unwrap();
    let missing = |c: &mut Cluster| crate::missing_addresses(&c.tables, c.now, &mut c.ids);
    let found = missing(&mut c);
    assert_eq!(found.len(), 1);
    for (require, ops) in found {
        let txn = copepod_state::Txn { fence: None, require, ops };
        assert!(matches!(apply(&mut c.tables, 1, &txn).0, Outcome::Applied(_)));
    }
    assert_eq!(c.value(&at)["spec"]["parentRef"]["name"], "a");
    assert!(missing(&mut c).is_empty());
    c.delete("services default/a").unwrap();
    assert_eq!(c.internal(ADDRESSES), ["10.96.0.11"]);
}
