use serde_json::{Value, json};

use crate::Time;
use crate::kinds::Kinds;

fn defaulted(resource: &str, mut object: Value) -> Value {
    let kinds = Kinds::builtin();
    kinds.group_resource(resource).unwrap().strategy.default(&mut object);
    object
}

fn errors(resource: &str, object: Value) -> Vec<String> {
    let object = defaulted(resource, object);
    let mut errors = vec![];
    Kinds::builtin().group_resource(resource).unwrap().strategy.validate(&object, &mut errors);
    errors.iter().map(ToString::to_string).collect()
}

const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";
const HTTP: &str = "httproutes.gateway.networking.k8s.io";
const GRPC: &str = "grpcroutes.gateway.networking.k8s.io";
const TLS: &str = "tlsroutes.gateway.networking.k8s.io";
const TCP: &str = "tcproutes.gateway.networking.k8s.io";
const CLASSES: &str = "gatewayclasses.gateway.networking.k8s.io";

#[test]
fn defaults_are_those_of_the_definitions() {
    let gateway = json!({"spec": {"gatewayClassName": "a", "listeners": [{"name": "h", "port": 443, "protocol": "HTTPS",
        "tls": {"certificateRefs": [{"name": "c"}]}}]}});
    let listener = json!({"name": "h", "port": 443, "protocol": "HTTPS",
        "allowedRoutes": {"namespaces": {"from": "Same"}},
        "tls": {"mode": "Terminate", "certificateRefs": [{"group": "", "kind": "Secret", "name": "c"}]}});
    assert_eq!(defaulted(GATEWAYS, gateway)["spec"]["listeners"][0], listener);

    let slash = json!([{"path": {"type": "PathPrefix", "value": "/"}}]);
    let route = json!({"spec": {"parentRefs": [{"name": "g"}], "rules": [{"backendRefs": [{"name": "b", "port": 80}]},
        {"matches": [{"headers": [{"name": "a", "value": "b"}]}]},
        {"filters": [{"type": "RequestRedirect", "requestRedirect": {}}]}]}});
    let spec = json!({"parentRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "g"}], "rules": [
        {"matches": slash, "backendRefs": [{"group": "", "kind": "Service", "name": "b", "port": 80, "weight": 1}]},
        {"matches": [{"path": {"type": "PathPrefix", "value": "/"}, "headers": [{"name": "a", "value": "b", "type": "Exact"}]}]},
        {"matches": slash, "filters": [{"type": "RequestRedirect", "requestRedirect": {"statusCode": 302}}]}]});
    assert_eq!(defaulted(HTTP, route)["spec"], spec);
    assert_eq!(defaulted(HTTP, json!({"spec": {}}))["spec"]["rules"], json!([{ "matches": slash }]));
    assert!(defaulted(GRPC, json!({"spec": {}}))["spec"].get("rules").is_none());
    for resource in [TLS, TCP] {
        let stream = defaulted(resource, json!({"spec": {"rules": [{"backendRefs": [{"name": "b", "port": 80}]}]}}));
        let backend = json!({"group": "", "kind": "Service", "name": "b", "port": 80, "weight": 1});
        assert_eq!(stream["spec"]["rules"], json!([{ "backendRefs": [backend] }]));
    }
}

#[test]
fn what_the_definitions_refuse_is_refused_in_their_words() {
    let listeners = |l: Value| json!({"spec": {"gatewayClassName": "a", "listeners": l}});
    let rule = |r: Value| json!({"spec": {"rules": [r]}});
    let filter = |f: Value| rule(json!({ "filters": [f] }));
    let path = |t: &str, v: &str| rule(json!({"matches": [{"path": {"type": t, "value": v}}]}));
    let http = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "HTTP"});
    let to = |backend: Value| json!({ "backendRefs": [backend] });
    let sni = |hosts: Value, rules: Value| json!({"spec": {"hostnames": hosts, "rules": rules}});
    for (resource, object, want) in [
        (GATEWAYS, json!({}), "spec: Required value"),
        (GATEWAYS, json!({"spec": {"listeners": [http("a", 80)]}}), "spec.gatewayClassName: Required value"),
        (
            GATEWAYS,
            listeners(json!([])),
            "spec.listeners: Invalid value: 0: spec.listeners in body should have at least 1 items",
        ),
        (
            GATEWAYS,
            listeners(json!([http("a", 0)])),
            "spec.listeners[0].port: Invalid value: 0: spec.listeners[0].port in body should be greater than or equal to 1",
        ),
        (
            GATEWAYS,
            listeners(json!([http("a", 80), http("a", 81)])),
            "spec.listeners[1]: Duplicate value: {\"name\":\"a\"}",
        ),
        (
            GATEWAYS,
            listeners(json!([http("a", 80), http("b", 80)])),
            "spec.listeners: Invalid value: \"array\": Combination of port, protocol and hostname must be unique for each listener",
        ),
        (
            GATEWAYS,
            listeners(
                json!([{"name": "a", "port": 80, "protocol": "HTTP", "tls": {"certificateRefs": [{"name": "c"}]}}]),
            ),
            "spec.listeners: Invalid value: \"array\": tls must not be specified for protocols ['HTTP', 'TCP', 'UDP']",
        ),
        (
            GATEWAYS,
            listeners(json!([{"name": "a", "port": 443, "protocol": "HTTPS", "tls": {}}])),
            "spec.listeners[0].tls: Invalid value: \"object\": certificateRefs or options must be specified when mode is Terminate",
        ),
        (
            GATEWAYS,
            json!({"spec": {"gatewayClassName": "a", "listeners": [http("a", 80)], "addresses": [{"value": "x"}]}}),
            "spec.addresses[0]: Invalid value: \"\": spec.addresses[0] in body must validate one and only one schema (oneOf). Found none valid",
        ),
        (
            CLASSES,
            json!({"spec": {"controllerName": "copepod"}}),
            "spec.controllerName: Invalid value: \"copepod\": spec.controllerName in body should match '^[a-z0-9]",
        ),
        (
            HTTP,
            json!({"spec": {"hostnames": ["*.a", "a_b"]}}),
            "spec.hostnames[1]: Invalid value: \"a_b\": spec.hostnames[1] in body should match '^(\\*\\.)?",
        ),
        (
            HTTP,
            rule(json!({"backendRefs": [{"name": "b"}]})),
            "spec.rules[0].backendRefs[0]: Invalid value: \"object\": Must have port for Service reference",
        ),
        (
            HTTP,
            filter(json!({"type": "URLRewrite"})),
            "spec.rules[0].filters[0]: Invalid value: \"object\": filter.urlRewrite must be specified for URLRewrite filter.type",
        ),
        (
            HTTP,
            filter(json!({"type": "Magic"})),
            "spec.rules[0].filters[0].type: Unsupported value: \"Magic\": supported values: \"RequestHeaderModifier\", \"ResponseHeader",
        ),
        (
            HTTP,
            path("PathPrefix", "a"),
            "spec.rules[0].matches[0].path: Invalid value: \"object\": value must be an absolute path and start with '/' when type one of ['Exact', 'PathPrefix']",
        ),
        (
            HTTP,
            path("Exact", "/a//b"),
            "spec.rules[0].matches[0].path: Invalid value: \"object\": must not contain '//' when type one of ['Exact', 'PathPrefix']",
        ),
        (
            HTTP,
            path("Exact", "/a b"),
            "spec.rules[0].matches[0].path: Invalid value: \"object\": must only contain valid characters",
        ),
        (
            HTTP,
            rule(json!({"timeouts": {"request": "1s", "backendRequest": "2s"}})),
            "spec.rules[0].timeouts: Invalid value: \"object\": backendRequest timeout cannot be longer than request timeout",
        ),
        (
            HTTP,
            rule(
                json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {}}], "backendRefs": [{"name": "b", "port": 1}]}),
            ),
            "spec.rules[0]: Invalid value: \"object\": RequestRedirect filter must not be used together with backendRefs",
        ),
        (
            HTTP,
            json!({"spec": {"parentRefs": [{"name": "g"}, {"name": "g", "sectionName": "a"}]}}),
            "spec.parentRefs: Invalid value: \"array\": sectionName must be specified when parentRefs includes 2 or more references to the same parent",
        ),
        (
            GRPC,
            rule(json!({"matches": [{"method": {}}]})),
            "spec.rules[0].matches[0].method: Invalid value: \"object\": One or both of 'service' or 'method' must be specified",
        ),
        (
            GRPC,
            rule(json!({"matches": [{"method": {"service": "a b"}}]})),
            "spec.rules[0].matches[0].method: Invalid value: \"object\": service must only contain valid characters (matching",
        ),
        (TLS, json!({"spec": {"rules": [to(json!({"name": "b", "port": 1}))]}}), "spec.hostnames: Required value"),
        (
            TLS,
            sni(json!([]), json!([to(json!({"name": "b", "port": 1}))])),
            "spec.hostnames: Invalid value: 0: spec.hostnames in body should have at least 1 items",
        ),
        (
            TLS,
            sni(json!(["a.test", "192.0.2.1"]), json!([to(json!({"name": "b", "port": 1}))])),
            "spec.hostnames: Invalid value: \"array\": Hostnames cannot contain an IP",
        ),
        (
            TLS,
            sni(json!(["a.*.test"]), json!([to(json!({"name": "b", "port": 1}))])),
            "spec.hostnames[0]: Invalid value: \"a.*.test\": spec.hostnames[0] in body should match '^(\\*\\.)?",
        ),
        (
            TLS,
            sni(json!(["a"]), json!([])),
            "spec.rules: Invalid value: 0: spec.rules in body should have at least 1 items",
        ),
        (TLS, sni(json!(["a"]), json!([{}])), "spec.rules[0].backendRefs: Required value"),
        (TCP, json!({"spec": {}}), "spec.rules: Required value"),
        (
            TCP,
            json!({"spec": {"rules": [to(json!({"name": "b", "port": 1})), to(json!({"name": "b", "port": 1}))]}}),
            "spec.rules: Too many: 2: must have at most 1 items",
        ),
        (
            TCP,
            rule(to(json!({"name": "b"}))),
            "spec.rules[0].backendRefs[0]: Invalid value: \"object\": Must have port for Service reference",
        ),
        (
            TCP,
            rule(json!({"backendRefs": vec![json!({"name": "b", "port": 1}); 17]})),
            "spec.rules[0].backendRefs: Too many: 17: must have at most 16 items",
        ),
    ] {
        let got = errors(resource, object.clone());
        assert!(got.len() == 1 && got[0].starts_with(want), "{object}\nwant {want}\ngot  {got:#?}");
    }
    for (resource, object) in [
        (HTTP, path("RegularExpression", "a//(b|c)")),
        (HTTP, path("PathPrefix", "/a%20b/~c")),
        (HTTP, rule(json!({"timeouts": {"request": "0s", "backendRequest": "2s"}}))),
        (HTTP, json!({"spec": {"parentRefs": [{"name": "g", "sectionName": "b"}, {"name": "g", "sectionName": "a"}]}})),
        (
            GATEWAYS,
            listeners(json!([http("a", 80), {"name": "b", "port": 80, "protocol": "HTTP", "hostname": "*.a.test"}])),
        ),
        (GRPC, rule(json!({"matches": [{"method": {"service": "a.B", "method": "C_d"}}]}))),
        (TLS, sni(json!(["*.a.test", "1.2.3.4.5"]), json!([to(json!({"name": "b", "port": 1}))]))),
        (TCP, rule(to(json!({"name": "b", "kind": "Bucket"})))),
    ] {
        assert_eq!(errors(resource, object.clone()), Vec::<String>::new(), "{object}");
    }
}

#[test]
fn a_controller_name_stays() {
    let kinds = Kinds::builtin();
    let class = |name: &str| json!({"spec": {"controllerName": name}});
    let mut errors = vec![];
    kinds.group_resource(CLASSES).unwrap().strategy.validate_update(&class("a.b/c"), &class("a.b/d"), &mut errors);
    assert_eq!(errors[0].to_string(), "spec.controllerName: Invalid value: \"a.b/c\": field is immutable");
}

#[test]
fn a_new_gateway_waits_for_its_controller() {
    let mut gateway = json!({"spec": {}});
    Kinds::builtin().group_resource(GATEWAYS).unwrap().strategy.prepare_create(&mut gateway);
    let conditions = gateway["status"]["conditions"].as_array().unwrap();
    let said: Vec<String> =
        conditions.iter().map(|c| format!("{}={} {}", c["type"], c["status"], c["reason"])).collect();
    assert_eq!(said, ["\"Accepted\"=\"Unknown\" \"Pending\"", "\"Programmed\"=\"Unknown\" \"Pending\""]);
}

#[test]
fn columns_are_those_of_the_definitions() {
    let now = Time::parse("2026-01-01T01:00:00Z").unwrap();
    let born = json!({"name": "a", "creationTimestamp": "2026-01-01T00:58:00Z"});
    let condition = |ty: &str| json!([{"type": ty, "status": "True"}]);
    for (resource, object, want) in [
        (
            GATEWAYS,
            json!({"metadata": born, "spec": {"gatewayClassName": "copepod"},
                "status": {"addresses": [{"value": "192.0.2.1"}, {"value": "192.0.2.2"}], "conditions": condition("Programmed")}}),
            r#"["a","copepod","192.0.2.1","True","2m"]"#,
        ),
        (
            CLASSES,
            json!({"metadata": born, "spec": {"controllerName": "a/b"}, "status": {"conditions": condition("Accepted")}}),
            r#"["a","a/b","True","2m",null]"#,
        ),
        (HTTP, json!({"metadata": born, "spec": {"hostnames": ["a", "b"]}}), r#"["a","[\"a\",\"b\"]","2m"]"#),
        (GRPC, json!({"metadata": born, "spec": {}}), r#"["a",null,"2m"]"#),
        (TLS, json!({"metadata": born, "spec": {"hostnames": ["a"]}}), r#"["a","2m"]"#),
        (TCP, json!({"metadata": born, "spec": {}}), r#"["a","2m"]"#),
    ] {
        let kinds = Kinds::builtin();
        let strategy = &kinds.group_resource(resource).unwrap().strategy;
        let cells = strategy.cells(&object, now);
        assert_eq!(cells.len(), strategy.columns().len());
        assert_eq!(Value::from(cells).to_string(), want);
    }
}
