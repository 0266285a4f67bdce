use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::support::sim::{TestView, config};

fn world() -> TestView {
    let mut view = TestView { now: Time::parse("2026-01-01T00:00:00Z").unwrap(), ..TestView::default() };
    let spec = json!({"controllerName": gateway::GATEWAY_CONTROLLER});
    view.put(GATEWAY_CLASSES, json!({"metadata": {"name": "copepod", "uid": "c", "generation": 1}, "spec": spec}));
    for name in ["infra", "apps"] {
        let labels = json!({"kubernetes.io/metadata.name": name});
        view.put("namespaces", json!({"metadata": {"name": name, "uid": name, "labels": labels}}));
    }
    view.put(
        NODES,
        json!({"metadata": {"name": "n", "uid": "n"}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}),
    );
    let service = |name: &str, namespace: &str| {
        json!({"metadata": {"name": name, "namespace": namespace, "uid": name},
            "spec": {"ports": [{"port": 80, "protocol": "TCP"}]}})
    };
    view.put(SERVICES, service("web", "infra"));
    view.put(SERVICES, service("far", "apps"));
    view
}

fn gateway(view: &mut TestView, name: &str, listeners: Value) -> Key {
    let metadata = json!({"name": name, "namespace": "infra", "uid": name, "generation": 2});
    view.put(GATEWAYS, json!({"metadata": metadata, "spec": {"gatewayClassName": "copepod", "listeners": listeners}}))
}

fn route(view: &mut TestView, name: &str, namespace: &str, spec: Value) -> Key {
    route_of(view, HTTP_ROUTES, name, namespace, spec)
}

fn route_of(view: &mut TestView, resource: &str, name: &str, namespace: &str, spec: Value) -> Key {
    let metadata = json!({"name": name, "namespace": namespace, "uid": name, "generation": 3});
    view.put(resource, json!({ "metadata": metadata, "spec": spec }))
}

/// Runs the controller until it is quiet.
fn settle(view: &mut TestView) {
    let controllers: Vec<Box<dyn Controller>> = vec![Box::new(new(&config()))];
    let mut queue: BTreeSet<(usize, Key)> = controllers[0].all(view).into_iter().map(|k| (0, k)).collect();
    view.settle(&controllers, &mut queue);
}

/// `Type=Status Reason` of each condition.
fn said(conditions: &Value) -> Vec<String> {
    let text = |c: &Value, f: &str| c[f].as_str().unwrap_or("").to_string();
    let one = |c: &Value| format!("{}={} {}", text(c, "type"), text(c, "status"), text(c, "reason"));
    conditions.as_array().unwrap_or(&vec![]).iter().map(one).collect()
}

fn http(name: &str) -> Value {
    json!({"name": name, "port": 80, "protocol": "HTTP"})
}

#[test]
fn a_class_of_ours_is_accepted_and_others_are_left_alone() {
    let mut view = world();
    let other = json!({"metadata": {"name": "other", "uid": "o"}, "spec": {"controllerName": "a.b/c"}});
    let other = view.put(GATEWAY_CLASSES, other);
    settle(&mut view);
    let status = view.value(&Key::new(GATEWAY_CLASSES, "", "copepod"))["status"].clone();
    assert_eq!(said(&status["conditions"]), ["Accepted=True Accepted", "SupportedVersion=True SupportedVersion"]);
    assert_eq!(status["conditions"][0]["observedGeneration"], 1);
    let names: Vec<&str> =
        status["supportedFeatures"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert!(names.is_sorted() && names.contains(&"HTTPRouteRequestMirror"), "{names:?}");
    assert!(view.value(&other)["status"].is_null());
}

#[test]
fn a_gateway_says_where_it_answers_and_what_is_attached() {
    let mut view = world();
    let key = gateway(&mut view, "g", json!([http("http"), {"name": "udp", "port": 90, "protocol": "UDP"}]));
    route(&mut view, "a", "infra", json!({"parentRefs": [{"name": "g"}], "rules": [{}]}));
    route(&mut view, "b", "apps", json!({"parentRefs": [{"name": "g", "namespace": "infra"}], "rules": [{}]}));
    settle(&mut view);
    let status = view.value(&key)["status"].clone();
    assert_eq!(said(&status["conditions"]), ["Accepted=True ListenersNotValid", "Programmed=True Programmed"]);
    assert_eq!(status["addresses"], json!([{"type": "IPAddress", "value": "192.0.2.1"}]));
    let listeners = status["listeners"].as_array().unwrap();
    let want = [
        "Accepted=True Accepted",
        "Conflicted=False NoConflicts",
        "ResolvedRefs=True ResolvedRefs",
        "Programmed=True Programmed",
    ];
    assert_eq!(said(&listeners[0]["conditions"]), want);
    assert_eq!((&listeners[0]["attachedRoutes"], &listeners[1]["attachedRoutes"]), (&json!(1), &json!(0)));
    assert_eq!(listeners[0]["supportedKinds"][1]["kind"], "GRPCRoute");
    assert_eq!(said(&listeners[1]["conditions"])[0], "Accepted=False UnsupportedProtocol");
    // A later look changes nothing, and a change keeps the times of what stays.
    let before = view.revision;
    view.now = Time::parse("2026-01-02T00:00:00Z").unwrap();
    settle(&mut view);
    assert_eq!(view.revision, before);
    view.edit(&Key::new(NODES, "", "n"), |n| n["status"]["conditions"][0]["status"] = "False".into());
    settle(&mut view);
    let status = view.value(&key)["status"].clone();
    assert_eq!(said(&status["conditions"]), ["Accepted=True ListenersNotValid", "Programmed=False AddressNotAssigned"]);
    assert!(status["addresses"].is_null());
    let since = |i: usize| status["conditions"][i]["lastTransitionTime"].as_str().unwrap().to_string();
    assert_eq!((since(0), since(1)), ("2026-01-01T00:00:00Z".into(), "2026-01-02T00:00:00Z".into()));
}

#[test]
fn a_listener_waits_for_its_certificate() {
    let mut view = world();
    let tls = json!({"mode": "Terminate", "certificateRefs": [{"name": "cert", "kind": "Secret", "group": ""}]});
    let key = gateway(&mut view, "g", json!([{"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls}]));
    settle(&mut view);
    let listener = |view: &TestView| said(&view.value(&key)["status"]["listeners"][0]["conditions"]);
    assert_eq!(listener(&view)[2..], ["ResolvedRefs=False InvalidCertificateRef", "Programmed=False Invalid"]);
    view.put(
        SECRETS,
        json!({"metadata": {"name": "cert", "namespace": "infra", "uid": "s"}, "data": {"tls.crt": "eA==", "tls.key": "eA=="}}),
    );
    settle(&mut view);
    assert_eq!(listener(&view)[2..], ["ResolvedRefs=True ResolvedRefs", "Programmed=True Programmed"]);
}

#[test]
fn a_route_is_told_why_it_is_not_followed() {
    let mut view = world();
    let all = json!({"namespaces": {"from": "All"}});
    let listener =
        json!({"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.a.test", "allowedRoutes": all});
    gateway(&mut view, "g", json!([listener, {"name": "own", "port": 81, "protocol": "HTTP"}]));
    let to = |name: &str| json!([{"backendRefs": [{"name": name, "port": 80, "group": "", "kind": "Service", "weight": 1}]}]);
    let parent = json!([{"name": "g", "namespace": "infra", "sectionName": "http"}]);
    let grant = json!({"metadata": {"name": "r", "namespace": "apps", "uid": "r", "generation": 1}, "spec": {
        "from": [{"group": gateway::GROUP, "kind": "HTTPRoute", "namespace": "infra"}], "to": [{"group": "", "kind": "Service"}]}});
    let far = json!([{"backendRefs": [{"name": "far", "namespace": "apps", "port": 80}]}]);
    let cases = [
        (
            "good",
            "infra",
            json!({"parentRefs": parent, "rules": to("web")}),
            "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs",
        ),
        (
            "host",
            "infra",
            json!({"parentRefs": parent, "hostnames": ["b.test"], "rules": to("web")}),
            "Accepted=False NoMatchingListenerHostname, ResolvedRefs=True ResolvedRefs",
        ),
        (
            "section",
            "infra",
            json!({"parentRefs": [{"name": "g", "sectionName": "x"}], "rules": to("web")}),
            "Accepted=False NoMatchingParent, ResolvedRefs=True ResolvedRefs",
        ),
        (
            "allowed",
            "apps",
            json!({"parentRefs": [{"name": "g", "namespace": "infra", "sectionName": "own"}], "rules": to("far")}),
            "Accepted=False NotAllowedByListeners, ResolvedRefs=True ResolvedRefs",
        ),
        (
            "lost",
            "infra",
            json!({"parentRefs": parent, "rules": to("nobody")}),
            "Accepted=True Accepted, ResolvedRefs=False BackendNotFound",
        ),
        (
            "port",
            "infra",
            json!({"parentRefs": parent, "rules": [{"backendRefs": [{"name": "web", "port": 99}]}]}),
            "Accepted=True Accepted, ResolvedRefs=False BackendNotFound",
        ),
        (
            "kind",
            "infra",
            json!({"parentRefs": parent, "rules": [{"backendRefs": [{"name": "web", "kind": "Bucket", "port": 80}]}]}),
            "Accepted=True Accepted, ResolvedRefs=False InvalidKind",
        ),
        (
            "far",
            "infra",
            json!({"parentRefs": parent, "rules": far}),
            "Accepted=True Accepted, ResolvedRefs=False RefNotPermitted",
        ),
        (
            "filter",
            "infra",
            json!({"parentRefs": parent, "rules": [{"filters": [{"type": "ExtensionRef"}]}]}),
            "Accepted=False UnsupportedValue, ResolvedRefs=False InvalidKind",
        ),
        (
            "partly",
            "infra",
            json!({"parentRefs": parent, "rules": [{"matches": [{"path": {"type": "RegularExpression", "value": "("}}]}, {}]}),
            "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs, PartiallyInvalid=True UnsupportedValue",
        ),
        ("elsewhere", "infra", json!({"parentRefs": [{"name": "other"}], "rules": to("web")}), ""),
    ];
    let keys: Vec<Key> =
        cases.iter().map(|(name, namespace, spec, _)| route(&mut view, name, namespace, spec.clone())).collect();
    settle(&mut view);
    for ((name, _, spec, want), key) in cases.iter().zip(&keys) {
        let parents = view.value(key)["status"]["parents"].clone();
        assert_eq!(said(&parents[0]["conditions"]).join(", "), *want, "{name}");
        if !want.is_empty() {
            assert_eq!(parents[0]["parentRef"], spec["parentRefs"][0]);
            assert_eq!(parents[0]["conditions"][0]["observedGeneration"], 3);
        }
    }
    view.put(REFERENCE_GRANTS, grant);
    settle(&mut view);
    let far = |view: &TestView| said(&view.value(&keys[7])["status"]["parents"][0]["conditions"]);
    assert_eq!(far(&view)[1], "ResolvedRefs=True ResolvedRefs");
    // What other controllers say stays; the own word goes with its reason.
    let theirs = json!({"controllerName": "a.b/c", "parentRef": {"name": "x"}, "conditions": []});
    view.edit(&keys[0], |r| {
        r["status"]["parents"].as_array_mut().unwrap().push(theirs.clone());
        r["spec"]["parentRefs"] = json!([]);
        r["metadata"]["generation"] = 4.into();
    });
    settle(&mut view);
    assert_eq!(view.value(&keys[0])["status"]["parents"], json!([theirs]));
}

#[test]
fn listeners_for_streams_say_what_they_take() {
    let mut view = world();
    let tls = |name: &str, host: &str, mode: &str| {
        let certificates = if mode == "Terminate" { json!([{"name": "cert"}]) } else { json!([]) };
        json!({"name": name, "port": 443, "protocol": "TLS", "hostname": host,
            "tls": {"mode": mode, "certificateRefs": certificates}})
    };
    let tcp = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
    let key = gateway(
        &mut view,
        "g",
        json!([
            tls("pass", "*.a.test", "Passthrough"),
            tls("ends", "b.test", "Terminate"),
            tcp("tcp", 7000),
            tcp("bad", 7001),
            {"name": "worse", "port": 7001, "protocol": "HTTP"},
        ]),
    );
    let parents = json!([{"name": "g"}]);
    let rules = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let sni = |hosts: Value| json!({"parentRefs": parents, "hostnames": hosts, "rules": rules});
    let bytes = json!({"parentRefs": parents, "rules": rules});
    let external = json!({"metadata": {"name": "out", "namespace": "infra", "uid": "out"},
        "spec": {"type": "ExternalName", "externalName": "out.test", "ports": [{"port": 80}]}});
    view.put(SERVICES, external);
    let grant = json!({"metadata": {"name": "r", "namespace": "apps", "uid": "r", "generation": 1}, "spec": {
        "from": [{"group": gateway::GROUP, "kind": "TLSRoute", "namespace": "infra"}], "to": [{"group": "", "kind": "Service"}]}});
    view.put(REFERENCE_GRANTS, grant);
    let far = json!([{"backendRefs": [{"name": "far", "namespace": "apps", "port": 80}]}]);
    let out = json!([{"backendRefs": [{"name": "out", "port": 80}]}]);
    let to = |section: &str| json!([{"name": "g", "sectionName": section}]);
    let good = "Accepted=True Accepted, ResolvedRefs=True ResolvedRefs";
    let cases = [
        (TLS_ROUTES, "both", sni(json!(["x.a.test", "b.test"])), good),
        (TLS_ROUTES, "one", sni(json!(["*.test"])), good),
        (
            TLS_ROUTES,
            "none",
            sni(json!(["c.test"])),
            "Accepted=False NoMatchingListenerHostname, ResolvedRefs=True ResolvedRefs",
        ),
        (
            TLS_ROUTES,
            "kind",
            json!({"parentRefs": to("tcp"), "hostnames": ["b.test"], "rules": rules}),
            "Accepted=False NotAllowedByListeners, ResolvedRefs=True ResolvedRefs",
        ),
        (TLS_ROUTES, "far", json!({"parentRefs": to("pass"), "hostnames": ["y.a.test"], "rules": far}), good),
        (TCP_ROUTES, "old", bytes.clone(), good),
        (TCP_ROUTES, "new", bytes, good),
        (
            TCP_ROUTES,
            "passed",
            json!({"parentRefs": to("pass"), "rules": rules}),
            "Accepted=False NotAllowedByListeners, ResolvedRefs=True ResolvedRefs",
        ),
        (
            TCP_ROUTES,
            "foreign",
            json!({"parentRefs": to("tcp"), "rules": far}),
            "Accepted=True Accepted, ResolvedRefs=False RefNotPermitted",
        ),
        (
            TCP_ROUTES,
            "out",
            json!({"parentRefs": to("tcp"), "rules": out}),
            "Accepted=True Accepted, ResolvedRefs=False InvalidKind",
        ),
    ];
    let keys: Vec<Key> =
        cases.iter().map(|(of, name, spec, _)| route_of(&mut view, of, name, "infra", spec.clone())).collect();
    settle(&mut view);
    for ((_, name, _, want), key) in cases.iter().zip(&keys) {
        let parents = view.value(key)["status"]["parents"].clone();
        assert_eq!(said(&parents[0]["conditions"]).join(", "), *want, "{name}");
    }
    let status = view.value(&key)["status"].clone();
    let listeners: Vec<String> = status["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|l| {
            let kinds: Vec<&str> =
                l["supportedKinds"].as_array().unwrap().iter().map(|k| k["kind"].as_str().unwrap()).collect();
            let programmed = said(&l["conditions"]).pop().unwrap();
            format!("{} {} {} {programmed}", l["name"].as_str().unwrap(), l["attachedRoutes"], kinds.join("+"))
        })
        .collect();
    assert_eq!(
        listeners,
        [
            "pass 3 TLSRoute Programmed=True Programmed",
            // Its certificate is not there.
            "ends 4 TLSRoute+TCPRoute Programmed=False Invalid",
            "tcp 4 TCPRoute Programmed=True Programmed",
            "bad 2 TCPRoute Programmed=False Invalid",
            "worse 0 HTTPRoute+GRPCRoute Programmed=False Invalid",
        ]
    );
    let conflict = said(&status["listeners"][3]["conditions"]);
    assert_eq!(conflict[..2], ["Accepted=False ProtocolConflict", "Conflicted=True ProtocolConflict"]);
}

#[test]
fn changes_wake_what_they_concern() {
    let mut view = world();
    gateway(&mut view, "g", json!([http("http")]));
    let backends = json!([{"backendRefs": [{"name": "web", "port": 80}]}]);
    let r = route(&mut view, "a", "infra", json!({"parentRefs": [{"name": "g"}], "rules": backends}));
    let controller = new(&config());
    let object = |view: &TestView, key: &Key| view.objects[key].clone();
    let keys = |view: &TestView, old: Option<&Arc<Object>>, new: Option<&Arc<Object>>| {
        let keys = controller.keys(view, old.map(|o| &**o), new.map(|o| &**o));
        keys.iter().map(|k| k.name.to_string()).collect::<Vec<_>>()
    };
    let before = object(&view, &r);
    assert_eq!(keys(&view, None, Some(&before)), ["a", "g"]);
    view.edit(&r, |v| v["status"] = json!({"parents": []}));
    assert_eq!(keys(&view, Some(&before), Some(&object(&view, &r))), ["a"], "a status is nobody else's business");
    let (web, far) = (Key::new(SERVICES, "infra", "web"), Key::new(SERVICES, "apps", "far"));
    assert_eq!(keys(&view, Some(&object(&view, &web)), None), ["a"]);
    assert!(keys(&view, Some(&object(&view, &far)), None).is_empty());
    let before = object(&view, &web);
    view.edit(&web, |v| v["metadata"]["labels"] = json!({"a": "b"}));
    assert!(keys(&view, Some(&before), Some(&object(&view, &web))).is_empty());
}
