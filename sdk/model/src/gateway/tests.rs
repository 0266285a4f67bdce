use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::Key;
use crate::object::{encode, with_revision};

fn object(resource: &str, namespace: &str, name: &str, value: Value) -> Object {
    let mut value = value;
    value["metadata"]["name"] = name.into();
    Object::decode(Key::new(resource, namespace, name), 1, with_revision(&encode(&value), 1))
}

fn class(name: &str, controller: &str, parameters: Value) -> Object {
    let spec = json!({"controllerName": controller, "parametersRef": parameters});
    object(GATEWAY_CLASSES, "", name, json!({ "spec": spec }))
}

fn gateway(name: &str, created: &str, listeners: Value) -> Object {
    let spec = json!({"gatewayClassName": "copepod", "listeners": listeners});
    object(GATEWAYS, "infra", name, json!({"metadata": {"creationTimestamp": created}, "spec": spec}))
}

fn route(namespace: &str, spec: Value) -> Object {
    object(HTTP_ROUTES, namespace, "r", json!({ "spec": spec }))
}

fn judged(gateways: &[Object]) -> Vec<JudgedGateway> {
    judge(&[class("copepod", GATEWAY_CONTROLLER, Value::Null)], gateways, &Grants::default())
}

const OLD: &str = "2026-01-01T00:00:00Z";
const NEW: &str = "2026-01-02T00:00:00Z";

#[test]
fn host_names_meet() {
    for (listener, route, want) in [
        (None, &[][..], Some(&[][..])),
        (None, &["a.test"], Some(&["a.test"])),
        (Some("a.test"), &[], Some(&["a.test"])),
        (Some("a.test"), &["a.test", "b.test"], Some(&["a.test"])),
        (Some("*.test"), &["a.test", "a.b.test", "test", "a.other"], Some(&["a.test", "a.b.test"])),
        (Some("a.b.test"), &["*.test"], Some(&["a.b.test"])),
        (Some("*.test"), &["*.b.test"], Some(&["*.b.test"])),
        (Some("*.b.test"), &["*.test", "*.b.test"], Some(&["*.b.test"])),
        (Some("a.test"), &["b.test"], None),
        (Some("*.test"), &["*.other"], None),
        (Some("test"), &["*.test"], None),
    ] {
        let got = intersection(listener, route);
        let want = want.map(|w: &[&str]| w.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(got, want, "{listener:?} {route:?}");
    }
}

#[test]
fn only_gateways_of_a_class_of_ours_are_judged() {
    let http = json!([{"name": "http", "port": 80, "protocol": "HTTP"}]);
    let gateways = [gateway("a", OLD, http)];
    for (class, ours) in [
        (class("copepod", GATEWAY_CONTROLLER, Value::Null), true),
        (class("copepod", "example.com/other", Value::Null), false),
        (class("other", GATEWAY_CONTROLLER, Value::Null), false),
        (class("copepod", GATEWAY_CONTROLLER, json!({"group": "", "kind": "ConfigMap", "name": "x"})), false),
    ] {
        assert_eq!(judge(&[class], &gateways, &Grants::default()).len(), usize::from(ours));
    }
}

#[test]
fn listeners_are_judged() {
    let tls = |refs: Value| json!({"mode": "Terminate", "certificateRefs": refs});
    let cases = [
        (json!({"name": "a", "port": 80, "protocol": "HTTP"}), "served: HTTPRoute GRPCRoute"),
        (json!({"name": "a", "port": 80, "protocol": "UDP"}), "refused UnsupportedProtocol:"),
        (json!({"name": "a", "port": 80, "protocol": "TCP"}), "served: TCPRoute"),
        (json!({"name": "a", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}}), "served: TLSRoute"),
        (
            json!({"name": "a", "port": 443, "protocol": "TLS", "tls": tls(json!([{"name": "c"}]))}),
            "served: TLSRoute TCPRoute",
        ),
        (
            json!({"name": "a", "port": 443, "protocol": "TLS", "tls": {"mode": "Terminate", "options": {"a": "b"}}}),
            "unresolved InvalidCertificateRef: TLSRoute TCPRoute",
        ),
        (
            json!({"name": "a", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"},
                "allowedRoutes": {"kinds": [{"kind": "TCPRoute"}, {"kind": "TLSRoute"}]}}),
            "served unresolved InvalidRouteKinds: TLSRoute",
        ),
        (
            json!({"name": "a", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "TLSRoute"}]}}),
            "served unresolved InvalidRouteKinds:",
        ),
        (
            json!({"name": "a", "port": 443, "protocol": "HTTPS", "tls": tls(json!([{"name": "c"}]))}),
            "served: HTTPRoute GRPCRoute",
        ),
        (
            json!({"name": "a", "port": 443, "protocol": "HTTPS"}),
            "unresolved InvalidCertificateRef: HTTPRoute GRPCRoute",
        ),
        (
            json!({"name": "a", "port": 443, "protocol": "HTTPS", "tls": tls(json!([{"name": "c", "namespace": "other"}]))}),
            "unresolved RefNotPermitted: HTTPRoute GRPCRoute",
        ),
        (
            json!({"name": "a", "port": 443, "protocol": "HTTPS", "tls": tls(json!([{"name": "c", "kind": "X"}]))}),
            "unresolved InvalidCertificateRef: HTTPRoute GRPCRoute",
        ),
        (
            json!({"name": "a", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "GRPCRoute"}]}}),
            "served: GRPCRoute",
        ),
        (
            json!({"name": "a", "port": 80, "protocol": "HTTP", "allowedRoutes": {"kinds": [{"kind": "X"}, {"kind": "HTTPRoute"}]}}),
            "served unresolved InvalidRouteKinds: HTTPRoute",
        ),
    ];
    for (listener, want) in cases {
        let all = judged(&[gateway("a", OLD, json!([listener]))]);
        let l = &all[0].listeners[0];
        let mut words: Vec<String> = Vec::new();
        if l.served() {
            words.push("served".into());
        }
        words.extend(l.refused.iter().map(|(reason, _)| format!("refused {reason}")));
        words.extend(l.unresolved.iter().map(|(reason, _)| format!("unresolved {reason}")));
        let kinds: Vec<&str> = l.kinds.iter().map(|k| k.name()).collect();
        assert_eq!(format!("{}: {}", words.join(" "), kinds.join(" ")).trim(), want, "{listener}");
    }
}

#[test]
fn a_grant_permits_what_it_names() {
    let grant = |spec: Value| Grants::of(&[object(REFERENCE_GRANTS, "certs", "g", json!({ "spec": spec }))]);
    let from = json!([{"group": GROUP, "kind": "Gateway", "namespace": "infra"}]);
    for (spec, want) in [
        (json!({"from": from, "to": [{"group": "", "kind": "Secret"}]}), true),
        (json!({"from": from, "to": [{"group": "", "kind": "Secret", "name": "c"}]}), true),
        (json!({"from": from, "to": [{"group": "", "kind": "Secret", "name": "d"}]}), false),
        (json!({"from": from, "to": [{"group": "", "kind": "Service"}]}), false),
        (
            json!({"from": [{"group": GROUP, "kind": "HTTPRoute", "namespace": "infra"}], "to": [{"group": "", "kind": "Secret"}]}),
            false,
        ),
        (
            json!({"from": [{"group": GROUP, "kind": "Gateway", "namespace": "x"}], "to": [{"group": "", "kind": "Secret"}]}),
            false,
        ),
    ] {
        let permitted = grant(spec.clone()).permit("Gateway", "infra", ("", "Secret", "certs", "c"));
        assert_eq!(permitted, want, "{spec}");
    }
    assert!(Grants::default().permit("Gateway", "infra", ("", "Secret", "infra", "c")));
}

#[test]
fn listeners_of_one_port_speak_one_protocol() {
    let tls = json!({"certificateRefs": [{"name": "c"}]});
    let listener = |name: &str, port: u16, https: bool| match https {
        true => json!({"name": name, "port": port, "protocol": "HTTPS", "tls": tls}),
        false => json!({"name": name, "port": port, "protocol": "HTTP"}),
    };
    let all = judged(&[
        gateway("new", NEW, json!([listener("a", 80, true), listener("b", 82, false)])),
        gateway(
            "old",
            OLD,
            json!([
                listener("a", 80, false),
                listener("b", 81, false),
                listener("c", 81, true),
                listener("d", 82, true)
            ]),
        ),
    ]);
    let said: Vec<(&str, Vec<&str>)> = all
        .iter()
        .map(|g| {
            let of = |l: &JudgedListener| l.conflict.as_ref().or(l.refused.as_ref()).map_or("served", |(r, _)| *r);
            (&*g.name.1, g.listeners.iter().map(of).collect())
        })
        .collect();
    let want = [
        ("old", vec!["served", "ProtocolConflict", "ProtocolConflict", "served"]),
        ("new", vec!["PortUnavailable", "PortUnavailable"]),
    ];
    assert_eq!(said, want);
}

#[test]
fn listeners_of_one_port_are_told_apart_by_their_hosts() {
    let tls = json!({"certificateRefs": [{"name": "c"}], "mode": "Terminate"});
    let listener = |port: u16, protocol: &str, host: &str| {
        let (tls, protocol) = match protocol {
            "HTTP" | "TCP" => (Value::Null, protocol),
            "pass" => (json!({"mode": "Passthrough"}), "TLS"),
            _ => (tls.clone(), protocol),
        };
        json!({"name": format!("{port}{protocol}{host}"), "port": port, "protocol": protocol, "hostname": host, "tls": tls})
    };
    let old = [
        (443, "HTTPS", "a", "served"),
        (443, "TLS", "b", "served"),
        (443, "pass", "c", "served"),
        (444, "HTTPS", "", "HostnameConflict"),
        (444, "pass", "", "HostnameConflict"),
        (444, "TLS", "b", "served"),
        (445, "TCP", "", "ProtocolConflict"),
        (445, "pass", "a", "ProtocolConflict"),
        (446, "TCP", "", "ProtocolConflict"),
        (446, "HTTP", "a", "ProtocolConflict"),
        (447, "TCP", "", "served"),
    ];
    let new = [
        (443, "TLS", "a", "PortUnavailable"),
        (443, "pass", "c", "served"),
        (443, "HTTPS", "d", "served"),
        (447, "TCP", "", "served"),
        (448, "pass", "", "served"),
    ];
    let bytes = [(443, "TCP", "", "PortUnavailable")];
    let all = |of: &[(u16, &str, &str, &str)]| of.iter().map(|(p, s, h, _)| listener(*p, s, h)).collect::<Value>();
    for new in [&new[..], &bytes[..]] {
        let judged = judged(&[gateway("new", NEW, all(new)), gateway("old", OLD, all(&old))]);
        for (gateway, of) in judged.iter().zip([&old[..], new]) {
            for (listener, (port, speech, host, want)) in gateway.listeners.iter().zip(of) {
                let said = listener.conflict.as_ref().or(listener.refused.as_ref()).map_or("served", |(r, _)| *r);
                assert_eq!(said, *want, "{port} {speech} {host}");
            }
        }
    }
}

#[test]
fn routes_are_attached_where_they_may_be() {
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}});
    let listeners = json!([
        {"name": "same", "port": 80, "protocol": "HTTP", "hostname": "*.same.test"},
        {"name": "all", "port": 81, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}},
        {"name": "some", "port": 82, "protocol": "HTTP", "hostname": "some.test", "allowedRoutes": {"namespaces": selector}},
        {"name": "grpc", "port": 83, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}, "kinds": [{"kind": "GRPCRoute"}]}},
    ]);
    let all = judged(&[gateway("g", OLD, listeners)]);
    let team: BTreeMap<Box<str>, Box<str>> = BTreeMap::from([("team".into(), "a".into())]);
    let none = BTreeMap::new();
    for (namespace, labels, parent, hosts, want) in [
        ("infra", &none, json!({}), json!([]), "same[*.same.test] all[]"),
        ("infra", &none, json!({}), json!(["a.same.test", "x"]), "same[a.same.test] all[a.same.test,x]"),
        ("apps", &none, json!({}), json!([]), "all[]"),
        ("apps", &team, json!({}), json!([]), "all[] some[some.test]"),
        ("apps", &team, json!({"sectionName": "some"}), json!(["*.other"]), "NoMatchingListenerHostname"),
        ("apps", &team, json!({"port": 82}), json!(["some.test"]), "some[some.test]"),
        ("apps", &none, json!({"sectionName": "some"}), json!([]), "NotAllowedByListeners"),
        ("apps", &none, json!({"sectionName": "grpc"}), json!([]), "NotAllowedByListeners"),
        ("apps", &none, json!({"sectionName": "none"}), json!([]), "NoMatchingParent"),
        ("apps", &none, json!({"sectionName": "all", "port": 80}), json!([]), "NoMatchingParent"),
    ] {
        let mut reference = parent.clone();
        reference["name"] = "g".into();
        reference["namespace"] = "infra".into();
        let facts = route(namespace, json!({"parentRefs": [reference], "hostnames": hosts})).facts::<RouteFacts>();
        let got = match attach(&facts, namespace, labels, &facts.parents[0], &all[0]) {
            Err(refusal) => refusal.reason().to_string(),
            Ok(to) => {
                let name = |a: &Attached| format!("{}[{}]", all[0].facts.listeners[a.listener].name, a.hosts.join(","));
                to.iter().map(name).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(got, want, "{namespace} {parent} {hosts}");
    }
}

#[test]
fn routes_for_streams_are_attached_to_listeners_of_their_own() {
    let tls = |mode: &str| json!({"mode": mode, "certificateRefs": [{"name": "c"}]});
    let all = judged(&[gateway(
        "g",
        OLD,
        json!([
            {"name": "http", "port": 80, "protocol": "HTTP"},
            {"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "a.test", "tls": tls("Terminate")},
            {"name": "pass", "port": 443, "protocol": "TLS", "hostname": "*.b.test", "tls": tls("Passthrough")},
            {"name": "ends", "port": 443, "protocol": "TLS", "hostname": "c.test", "tls": tls("Terminate")},
            {"name": "tcp", "port": 7000, "protocol": "TCP"},
        ]),
    )]);
    let none = BTreeMap::new();
    for (resource, section, hosts, want) in [
        (TLS_ROUTES, json!(null), json!(["*.test"]), "pass[*.b.test] ends[c.test]"),
        (TLS_ROUTES, json!(null), json!(["x.b.test", "d.test"]), "pass[x.b.test]"),
        (TLS_ROUTES, json!(null), json!(["a.test"]), "NoMatchingListenerHostname"),
        (TLS_ROUTES, json!("https"), json!(["a.test"]), "NotAllowedByListeners"),
        (TLS_ROUTES, json!("tcp"), json!(["a.test"]), "NotAllowedByListeners"),
        (TCP_ROUTES, json!(null), json!(null), "ends[c.test] tcp[]"),
        (TCP_ROUTES, json!("http"), json!(null), "NotAllowedByListeners"),
        (TCP_ROUTES, json!("pass"), json!(null), "NotAllowedByListeners"),
        (HTTP_ROUTES, json!(null), json!([]), "http[] https[a.test]"),
        (GRPC_ROUTES, json!("ends"), json!([]), "NotAllowedByListeners"),
    ] {
        let spec = json!({"parentRefs": [{"name": "g", "sectionName": section}], "hostnames": hosts});
        let facts = object(resource, "infra", "r", json!({ "spec": spec })).facts::<RouteFacts>();
        let got = match attach(&facts, "infra", &none, &facts.parents[0], &all[0]) {
            Err(refusal) => refusal.reason().to_string(),
            Ok(to) => {
                let name = |a: &Attached| format!("{}[{}]", all[0].facts.listeners[a.listener].name, a.hosts.join(","));
                to.iter().map(name).collect::<Vec<_>>().join(" ")
            }
        };
        assert_eq!(got, want, "{resource} {section} {hosts}");
    }
}

#[test]
fn what_a_rule_cannot_do_is_known() {
    let rules = json!([
        {"matches": [{"path": {"type": "RegularExpression", "value": "("}}, {"path": {"type": "Exact", "value": "/a"}}]},
        {"filters": [{"type": "ExtensionRef", "extensionRef": {"group": "", "kind": "X", "name": "x"}}]},
        {"backendRefs": [{"name": "b", "port": 80, "filters": [{"type": "RequestHeaderModifier",
            "requestHeaderModifier": {"set": [{"name": "a", "value": "b\nc"}]}}]}]},
        {"matches": [{"headers": [{"name": "a", "type": "RegularExpression", "value": "x{99999}{99999}"}]}]},
        {},
    ]);
    let facts = route("a", json!({ "rules": rules })).facts::<RouteFacts>();
    let said: Vec<(usize, &[Problem])> = facts.rules.iter().map(|r| (r.matches.len(), r.problems.as_slice())).collect();
    let of_match = |p: &[Problem]| matches!(p, [Problem::Match(_)]);
    let of_filter = |p: &[Problem]| matches!(p, [Problem::Filter(_)]);
    assert!(said[0].0 == 1 && of_match(said[0].1), "{said:?}");
    assert!(of_filter(said[1].1) && of_filter(said[2].1), "{said:?}");
    assert!(said[3].0 == 0 && of_match(said[3].1), "{said:?}");
    assert_eq!(said[4], (1, &[][..]));
}

#[test]
fn grpc_methods_become_paths() {
    let shown = |method: Value| {
        let spec = json!({"rules": [{"matches": [{ "method": method }]}]});
        let facts = object(GRPC_ROUTES, "a", "r", json!({ "spec": spec })).facts::<RouteFacts>();
        match &facts.rules[0].matches[0].path {
            PathMatch::Exact(p) => format!("exact {p}"),
            PathMatch::Prefix(p) => format!("prefix {p}"),
            PathMatch::Regex(r) => format!("regex {r}"),
        }
    };
    for (method, want) in [
        (json!({"service": "a.B", "method": "C"}), "exact /a.B/C"),
        (json!({"service": "a.B"}), "prefix /a.B"),
        (json!({"method": "C"}), "regex ^(?:/[^/]+/C)$"),
        (json!({"type": "RegularExpression", "service": "a.*"}), "regex ^(?:/(?:a.*)/[^/]+)$"),
        (Value::Null, "prefix "),
    ] {
        assert_eq!(shown(method.clone()), want, "{method}");
    }
}
