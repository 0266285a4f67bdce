use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use copepod_model::Key;
use copepod_model::gateway::{
    GATEWAY_CLASSES, GATEWAYS, GRPC_ROUTES, HTTP_ROUTES, REFERENCE_GRANTS, TCP_ROUTES, TLS_ROUTES,
};
use copepod_model::object::{encode, with_revision};
use serde_json::{Value, json};

use super::*;
use crate::{Door, HostAddr, HostPort, PodPort, PodPorts, Protocol, RouteTable};

fn object(resource: &str, namespace: &str, name: &str, mut value: Value) -> Object {
    value["metadata"]["name"] = name.into();
    Object::decode(Key::new(resource, namespace, name), 1, with_revision(&encode(&value), 1))
}

#[derive(Default)]
struct World {
    objects: GatewayObjects<Object>,
    ingresses: Vec<Object>,
}

impl World {
    fn new(listeners: Value) -> World {
        let class = json!({"spec": {"controllerName": gateway::GATEWAY_CONTROLLER}});
        let mut world = World::default();
        world.objects.classes.push(object(GATEWAY_CLASSES, "", "copepod", class));
        world.gateway("g", listeners);
        world
    }

    fn gateway(&mut self, name: &str, listeners: Value) {
        let spec = json!({"gatewayClassName": "copepod", "listeners": listeners});
        self.objects.gateways.push(object(GATEWAYS, "infra", name, json!({ "spec": spec })));
    }

    /// A route whose rules lead to Services of the given names.
    fn route(&mut self, name: &str, hosts: &[&str], rules: &[(Value, &str)]) {
        let rules: Vec<Value> = rules
            .iter()
            .map(|(matches, to)| json!({"matches": matches, "backendRefs": [{"name": to, "port": 80}]}))
            .collect();
        self.raw(HTTP_ROUTES, "infra", name, json!({"hostnames": hosts, "rules": rules}));
    }

    fn raw(&mut self, resource: &str, namespace: &str, name: &str, mut spec: Value) {
        if spec["parentRefs"].is_null() {
            spec["parentRefs"] = json!([{"name": "g", "namespace": "infra"}]);
        }
        // The order of their making.
        let created = format!("2026-01-01T00:00:{:02}Z", self.objects.routes.len());
        let value = json!({"metadata": {"creationTimestamp": created}, "spec": spec});
        self.objects.routes.push(object(resource, namespace, name, value));
    }

    fn ingress(&mut self, host: &str, path: &str, to: &str) {
        self.annotated_ingress(host, path, to, json!({}));
    }

    fn annotated_ingress(&mut self, host: &str, path: &str, to: &str, annotations: Value) {
        let backend = json!({"service": {"name": to, "port": {"number": 80}}});
        let paths = json!([{"pathType": "Prefix", "path": path, "backend": backend}]);
        let rule = if host.is_empty() {
            json!({"http": {"paths": paths}})
        } else {
            json!({"host": host, "http": {"paths": paths}})
        };
        let value = json!({"metadata": {"annotations": annotations}, "spec": {"rules": [rule]}});
        self.ingresses.push(object("ingresses.networking.k8s.io", "infra", to, value));
    }

    fn borrowed(&self) -> GatewayObjects<&Object> {
        GatewayObjects {
            classes: self.objects.classes.iter().collect(),
            gateways: self.objects.gateways.iter().collect(),
            routes: self.objects.routes.iter().collect(),
            grants: self.objects.grants.iter().collect(),
            namespaces: self.objects.namespaces.iter().collect(),
        }
    }

    fn table(&self) -> RouteTable {
        let none: &[Object] = &[];
        RouteTable::default().with_ingresses(&self.ingresses, none).with_gateways(&self.borrowed())
    }
}

/// Where `METHOD host/path?query header=value …` leads: a Service's name, `!` if to none, `-` if no rule is for it.
fn leads(table: &RouteTable, door: Door, request: &str) -> String {
    let mut words = request.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let headers: Vec<(&str, &str)> = words.filter_map(|w| w.split_once('=')).collect();
    let (host, rest) = target.split_at(target.find('/').unwrap());
    let (path, query) = rest.split_once('?').map_or((rest, None), |(p, q)| (p, Some(q)));
    let header = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| Cow::Borrowed(*v));
    let asked = Asked { door, host, path, query, method, header: &header };
    match table.match_http(&asked) {
        None => "-".into(),
        Some(found) => match found.rule.choose(0).and_then(|w| w.backend.as_ref()) {
            None => "!".into(),
            Some(b) => b.service.name.to_string(),
        },
    }
}

fn http(name: &str, port: u16, host: Option<&str>) -> Value {
    json!({"name": name, "port": port, "protocol": "HTTP", "hostname": host})
}

fn prefix(path: &str) -> Value {
    json!({"path": {"type": "PathPrefix", "value": path}})
}

const DOOR: Door = Door { ports: [8080, 80], tls: false, ingress: true };

fn all(table: &RouteTable, cases: &[(&str, &str)]) {
    for (request, want) in cases {
        assert_eq!(leads(table, DOOR, request), *want, "{request}");
    }
}

#[test]
fn the_closest_match_wins() {
    let mut w = World::new(json!([http("http", 80, None)]));
    let header = |name: &str, value: &str| json!({"name": name, "value": value});
    w.route(
        "r",
        &["shop.test"],
        &[
            (json!([prefix("/")]), "root"),
            (json!([prefix("/api/")]), "api"),
            (json!([{"path": {"type": "Exact", "value": "/api/v1"}}]), "exact"),
            (json!([{"path": {"type": "RegularExpression", "value": "/re/[0-9]+"}}]), "regex"),
            (json!([{"path": {"type": "PathPrefix", "value": "/api"}, "method": "POST"}]), "post"),
            (
                json!([{"path": {"type": "PathPrefix", "value": "/api"}, "headers": [header("X-Canary", "yes")]}]),
                "canary",
            ),
            (
                json!([{"path": {"type": "PathPrefix", "value": "/api"},
                    "headers": [header("X-Canary", "yes"), {"name": "x-b", "type": "RegularExpression", "value": "b+"}]}]),
                "canary2",
            ),
            (
                json!([{"path": {"type": "PathPrefix", "value": "/api"}, "queryParams": [{"name": "v", "value": "2"}]}]),
                "query",
            ),
        ],
    );
    all(
        &w.table(),
        &[
            ("GET shop.test/", "root"),
            ("GET Shop.Test:8080/x", "root"),
            ("GET other.test/", "-"),
            ("GET shop.test/api", "api"),
            ("GET shop.test/api/x/y", "api"),
            ("GET shop.test/apis", "root"),
            ("GET shop.test/api/v1", "exact"),
            ("GET shop.test/api/v1/", "api"),
            ("GET shop.test/re/12", "regex"),
            ("GET shop.test/re/12x", "root"),
            ("POST shop.test/api/x", "post"),
            ("GET shop.test/api x-canary=yes", "canary"),
            ("GET shop.test/api x-canary=no", "api"),
            ("GET shop.test/api x-canary=yes x-b=bbb", "canary2"),
            ("GET shop.test/api x-canary=yes x-b=abbb", "canary"),
            ("GET shop.test/api?v=2", "query"),
            ("GET shop.test/api?v=3&v=2", "api"),
            ("POST shop.test/api?v=2 x-canary=yes", "post"),
        ],
    );
}

#[test]
fn of_equal_matches_the_older_routes_wins() {
    let mut w = World::new(json!([http("http", 80, None)]));
    w.route("z", &[], &[(json!([prefix("/")]), "first")]);
    w.route("a", &[], &[(json!([prefix("/")]), "second"), (json!([prefix("/x")]), "x"), (json!([prefix("/x")]), "y")]);
    all(&w.table(), &[("GET a/", "first"), ("GET a/x", "x")]);
}

#[test]
fn hosts_of_listeners_and_routes_meet() {
    let listeners = json!([http("any", 80, None), http("wild", 80, Some("*.test")), http("one", 80, Some("a.test"))]);
    let mut w = World::new(listeners);
    let to = |section: &str, hosts: &[&str], service: &str| {
        json!({"parentRefs": [{"name": "g", "sectionName": section}], "hostnames": hosts,
            "rules": [{"backendRefs": [{"name": service, "port": 80}]}]})
    };
    for (section, hosts, service) in [
        ("any", &[][..], "any"),
        ("any", &["a.test"], "never"),
        ("wild", &["*.b.test", "c.test"], "wild"),
        ("wild", &["x.b.test"], "x"),
        ("one", &[], "one"),
    ] {
        w.raw(HTTP_ROUTES, "infra", service, to(section, hosts, service));
    }
    all(
        &w.table(),
        &[
            ("GET a.test/", "one"),
            ("GET c.test/", "wild"),
            ("GET y.b.test/", "wild"),
            ("GET z.y.b.test/", "wild"),
            ("GET x.b.test/", "x"),
            // The closest listener has no such route, and no other one answers.
            ("GET d.test/", "-"),
            ("GET other/", "any"),
            ("GET test/", "any"),
        ],
    );
}

#[test]
fn backends_that_may_not_be_used_are_errors() {
    let mut w = World::new(json!([http("http", 80, None)]));
    let rules = |namespace: &str, kind: &str| {
        json!({"hostnames": [format!("{namespace}{}", kind.to_lowercase())],
            "rules": [{"backendRefs": [{"name": "b", "namespace": namespace, "kind": kind, "port": 80}]}]})
    };
    for (namespace, kind) in [("infra", "Service"), ("apps", "Service"), ("infra", "Bucket")] {
        w.raw(HTTP_ROUTES, "infra", &format!("{namespace}{kind}"), rules(namespace, kind));
    }
    w.raw(HTTP_ROUTES, "infra", "none", json!({"hostnames": ["none"], "rules": [{}]}));
    all(
        &w.table(),
        &[("GET infraservice/", "b"), ("GET appsservice/", "!"), ("GET infrabucket/", "!"), ("GET none/", "!")],
    );
    let spec = json!({"from": [{"group": gateway::GROUP, "kind": "HTTPRoute", "namespace": "infra"}],
        "to": [{"group": "", "kind": "Service", "name": "b"}]});
    w.objects.grants.push(object(REFERENCE_GRANTS, "apps", "grant", json!({ "spec": spec })));
    all(&w.table(), &[("GET appsservice/", "b")]);
}

#[test]
fn ingresses_and_routes_share_a_listener() {
    let mut w = World::new(json!([http("http", 80, None)]));
    w.route("any", &[], &[(json!([prefix("/")]), "route")]);
    w.route("shop", &["shop.test"], &[(json!([prefix("/")]), "shop")]);
    w.ingress("ing.test", "/", "ing");
    w.ingress("shop.test", "/api", "api");
    w.ingress("", "/", "anyhost");
    let table = w.table();
    all(
        &table,
        &[
            ("GET ing.test/", "ing"),
            ("GET shop.test/", "shop"),
            ("GET shop.test/api", "api"),
            ("GET other.test/", "route"),
        ],
    );
    assert_eq!(
        leads(&table, Door::gateway(80, false), "GET ing.test/"),
        "route",
        "a Gateway's own port has no Ingresses"
    );
}

#[test]
fn ports_and_protocols_are_apart() {
    let tls = json!({"certificateRefs": [{"name": "c"}]});
    let mut w = World::new(json!([
        http("a", 80, None),
        http("b", 8080, Some("b.test")),
        http("c", 9000, None),
        {"name": "d", "port": 443, "protocol": "HTTPS", "hostname": "*.d.test", "tls": tls},
        {"name": "e", "port": 444, "protocol": "HTTPS"},
    ]));
    for section in ["a", "b", "c", "d", "e"] {
        let parents = json!([{"name": "g", "sectionName": section}]);
        let rules = json!([{"backendRefs": [{"name": section, "port": 80}]}]);
        w.raw(HTTP_ROUTES, "infra", section, json!({"parentRefs": parents, "rules": rules}));
    }
    let table = w.table();
    for (door, request, want) in [
        (DOOR, "GET x/", "a"),
        (DOOR, "GET b.test/", "b"),
        (Door::gateway(9000, false), "GET x/", "c"),
        (Door::gateway(9000, true), "GET x/", "-"),
        (Door::ingress(8443, true), "GET x.d.test/", "d"),
        (Door::ingress(8443, true), "GET x/", "-"),
        (Door::gateway(444, true), "GET x/", "-"),
    ] {
        assert_eq!(leads(&table, door, request), want, "{door:?} {request}");
    }
    let secret = TlsSecret { hosts: vec!["*.d.test".into()], namespace: "infra".into(), secret: "c".into() };
    assert_eq!(table.tls(), [secret]);
    // What the node opens, but for what it has opened for others.
    let node: IpAddr = "192.0.2.1".parse().unwrap();
    let pods = [PodPorts {
        uid: "u".into(),
        ip: "10.244.0.1".parse().unwrap(),
        ports: vec![PodPort { ip: None, port: 9000, protocol: Protocol::Tcp, to: 80 }],
    }];
    let listen = table.host_ports(&[node], &pods).listen;
    let opened: Vec<(u16, Layer)> = listen
        .iter()
        .filter_map(|(HostAddr { addr, .. }, port)| match port {
            HostPort::Gateway(layer) => Some((SocketAddr::port(addr), *layer)),
            _ => None,
        })
        .collect();
    assert_eq!(opened, [(80, Layer::Http), (443, Layer::Tls), (8080, Layer::Http)]);
}

/// What becomes of TLS for a name: `requests`, `nobody`, or the Service that it leads to, after `ends` if TLS ends before.
fn greeted(table: &RouteTable, door: Door, name: &str) -> String {
    match table.match_tls(door, Some(name).filter(|n| !n.is_empty())) {
        Greeting::Requests => "requests".into(),
        Greeting::Nobody => "nobody".into(),
        Greeting::Stream { rule, ends_tls } => {
            let to = rule.choose(0).and_then(|w| w.backend.as_ref()).map_or("!", |b| &*b.service.name);
            format!("{}{to}", if ends_tls { "ends " } else { "" })
        }
    }
}

fn tls(name: &str, port: u16, host: Option<&str>, mode: &str) -> Value {
    let certificates = if mode == "Terminate" { json!([{"name": "c"}]) } else { json!([]) };
    let tls = json!({"mode": mode, "certificateRefs": certificates});
    json!({"name": name, "port": port, "protocol": "TLS", "hostname": host, "tls": tls})
}

fn stream(section: &str, hosts: &[&str], to: &str) -> Value {
    json!({"parentRefs": [{"name": "g", "sectionName": section}], "hostnames": hosts,
        "rules": [{"backendRefs": [{"name": to, "port": 80}]}]})
}

#[test]
fn a_name_finds_its_listener_and_then_its_route() {
    let https = json!({"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "web.test",
        "tls": {"certificateRefs": [{"name": "c"}]}});
    let mut w = World::new(json!([
        tls("any", 443, None, "Passthrough"),
        tls("wild", 443, Some("*.wild.test"), "Passthrough"),
        tls("ends", 443, Some("*.ends.test"), "Terminate"),
        https,
        tls("own", 8443, Some("own.test"), "Passthrough"),
        {"name": "plain", "port": 80, "protocol": "HTTP"},
        {"name": "later", "port": 444, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "c"}]}},
    ]));
    for (section, hosts, to) in [
        ("any", &["a.test", "*.b.test"][..], "first"),
        ("any", &["a.test", "x.b.test", "*.wild.test", "web.test"], "second"),
        ("wild", &["x.wild.test"], "x"),
        ("wild", &["*.y.wild.test"], "y"),
        ("ends", &["t.ends.test", "*.deep.ends.test"], "tls"),
        ("own", &["own.test"], "own"),
    ] {
        w.raw(TLS_ROUTES, "infra", to, stream(section, hosts, to));
    }
    w.raw(TCP_ROUTES, "infra", "tcp", stream("ends", &[], "rest"));
    let (ingress, own) = (Door::ingress(8443, true), Door::gateway(443, true));
    let table = w.table();
    for (name, want) in [
        ("a.test", "first"),
        ("A.Test.", "first"),
        ("y.b.test", "first"),
        ("x.b.test", "second"),
        ("z.test", "nobody"),
        ("", "nobody"),
        ("x.wild.test", "x"),
        ("z.y.wild.test", "y"),
        // The closest listener has no such route, and no other one answers.
        ("z.wild.test", "nobody"),
        ("web.test", "requests"),
        ("t.ends.test", "ends tls"),
        ("x.deep.ends.test", "ends tls"),
        ("u.ends.test", "ends rest"),
    ] {
        assert_eq!((greeted(&table, ingress, name), greeted(&table, own, name)), (want.into(), want.into()), "{name}");
    }
    assert_eq!(greeted(&table, ingress, "own.test"), "own");
    assert_eq!(greeted(&table, Door::gateway(8443, true), "a.test"), "nobody", "no listener is for it");
    assert_eq!(greeted(&table, Door::gateway(444, true), "a.test"), "requests");
    let asks = [ingress, own, Door::gateway(444, true), Door::ingress(8080, false)].map(|door| table.asks_names(door));
    assert_eq!(asks, [true, true, false, false]);
    // What is for requests is not found by those listeners' hosts.
    assert_eq!(leads(&table, ingress, "GET a.test/"), "-");

    // Ingresses have what no route is for, at the ingress' own listener.
    w.ingress("ing.test", "/", "ing");
    w.ingress("*.ing.test", "/", "wild");
    w.ingress("a.test", "/", "never");
    let table = w.table();
    for (name, want) in
        [("ing.test", "requests"), ("x.ing.test", "requests"), ("y.x.ing.test", "nobody"), ("a.test", "first")]
    {
        assert_eq!(greeted(&table, ingress, name), want, "{name}");
    }
    assert_eq!(greeted(&table, own, "ing.test"), "nobody");
}

#[test]
fn an_ingress_may_pass_its_tls_on() {
    let https = json!({"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "both.test",
        "tls": {"certificateRefs": [{"name": "c"}]}});
    let mut w = World::new(json!([https]));
    let (ingress, own) = (Door::ingress(8443, true), Door::gateway(443, true));
    assert!(!w.table().asks_names(ingress));
    let passes = json!({"nginx.ingress.kubernetes.io/ssl-passthrough": "true"});
    w.annotated_ingress("a.test", "/", "whole", passes.clone());
    w.annotated_ingress("part.test", "/part", "part", passes.clone());
    w.annotated_ingress("*.wild.test", "/", "wild", passes.clone());
    w.annotated_ingress("both.test", "/", "both", passes);
    w.annotated_ingress("b.test", "/", "ends", json!({"copepod.dev/ssl-passthrough": "false"}));
    let table = w.table();
    assert_eq!((table.asks_names(ingress), table.asks_names(own)), (true, false));
    for (name, want) in [
        ("a.test", "whole"),
        ("part.test", "requests"),
        ("x.wild.test", "requests"),
        ("both.test", "requests"),
        ("b.test", "requests"),
        ("z.test", "requests"),
        ("", "requests"),
    ] {
        assert_eq!(greeted(&table, ingress, name), want, "{name}");
    }
    assert_eq!(greeted(&table, own, "a.test"), "nobody", "that is no port of an Ingress");
}

#[test]
fn bytes_go_where_the_oldest_route_says() {
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "protocol": "TCP"});
    let mut w = World::new(json!([port("a", 7000), port("b", 7001)]));
    w.raw(TCP_ROUTES, "infra", "z", stream("a", &[], "old"));
    w.raw(TCP_ROUTES, "infra", "a", json!({"rules": [{"backendRefs": [{"name": "new", "port": 80}]}]}));
    w.raw(TCP_ROUTES, "apps", "b", json!({"rules": [{"backendRefs": [{"name": "foreign", "port": 80}]}]}));
    w.raw(HTTP_ROUTES, "infra", "h", json!({"rules": [{"backendRefs": [{"name": "http", "port": 80}]}]}));
    let table = w.table();
    let to = |port| {
        let rule = table.match_tcp(port)?;
        Some(rule.choose(0)?.backend.as_ref()?.service.name.to_string())
    };
    assert_eq!([7000, 7001, 7002].map(to), [Some("old".into()), Some("new".into()), None]);
    let node: IpAddr = "192.0.2.1".parse().unwrap();
    let listen = table.host_ports(&[node], &[]).listen;
    let opened: Vec<_> = listen.iter().map(|(at, port)| (at.addr.port(), port.clone())).collect();
    assert_eq!(opened, [(7000, HostPort::Gateway(Layer::Tcp)), (7001, HostPort::Gateway(Layer::Tcp))]);
}

#[test]
fn streams_keep_weights_and_ask_for_grants() {
    let mut w = World::new(json!([{"name": "tcp", "port": 7000, "protocol": "TCP"}]));
    let backends = json!([{"name": "a", "port": 80, "weight": 3}, {"name": "b", "namespace": "apps", "port": 80}]);
    w.raw(TCP_ROUTES, "infra", "r", json!({"rules": [{ "backendRefs": backends }]}));
    let shares = |w: &World| {
        let table = w.table();
        let rule = table.match_tcp(7000).unwrap();
        let mut counts = [0; 3];
        for seq in 0..400 {
            let name = rule.choose(seq).and_then(|b| b.backend.as_ref()).map(|b| &*b.service.name);
            counts[match name {
                Some("a") => 0,
                Some(_) => 1,
                None => 2,
            }] += 1;
        }
        counts
    };
    let near = |got: [i32; 3], want: [i32; 3]| got.iter().zip(want).all(|(g, w)| (g - w).abs() <= 3);
    let refused = shares(&w);
    assert!(near(refused, [300, 0, 100]), "{refused:?}");
    let grant = |kind: &str| {
        let spec = json!({"from": [{"group": gateway::GROUP, "kind": kind, "namespace": "infra"}],
            "to": [{"group": "", "kind": "Service"}]});
        object(REFERENCE_GRANTS, "apps", kind, json!({ "spec": spec }))
    };
    w.objects.grants.push(grant("TLSRoute"));
    assert_eq!(shares(&w), refused, "that is for another kind");
    w.objects.grants.push(grant("TCPRoute"));
    let permitted = shares(&w);
    assert!(near(permitted, [300, 100, 0]), "{permitted:?}");
}

#[test]
fn calls_are_matched_by_service_and_method() {
    let mut w = World::new(json!([http("http", 80, None)]));
    let rule =
        |method: Value, to: &str| json!({"matches": [{"method": method}], "backendRefs": [{"name": to, "port": 80}]});
    let rules = json!([
        rule(json!({"service": "a.B"}), "service"),
        rule(json!({"service": "a.B", "method": "Get"}), "both"),
        rule(json!({"method": "Put"}), "method"),
        rule(json!({"type": "RegularExpression", "service": "x.*", "method": "G.t"}), "regex"),
        {"backendRefs": [{"name": "rest", "port": 80}]},
    ]);
    w.raw(GRPC_ROUTES, "infra", "calls", json!({ "rules": rules }));
    all(
        &w.table(),
        &[
            ("POST h/a.B/Get", "both"),
            ("POST h/a.B/List", "service"),
            ("POST h/a.BC/List", "rest"),
            ("POST h/c.D/Put", "method"),
            ("POST h/xyz/Got", "regex"),
            ("POST h/xyz/Goot", "rest"),
        ],
    );
    let asked = Asked { door: DOOR, host: "h", path: "/a.B/Get", query: None, method: "POST", header: &|_| None };
    assert!(w.table().match_http(&asked).unwrap().rule.grpc);
}

#[test]
fn what_is_done_on_the_way_is_in_the_rule() {
    let mut w = World::new(json!([http("http", 80, None)]));
    let mirror =
        json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m", "port": 81}, "percent": 25}});
    let far = json!({"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "m", "namespace": "apps", "port": 81}}});
    let rewrite = json!({"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}});
    let rules = json!([{"matches": [prefix("/v1")], "filters": [mirror, far, rewrite], "timeouts": {"request": "2s"},
        "backendRefs": [{"name": "a", "port": 80, "weight": 9}, {"name": "b", "port": 80, "weight": 0}]}]);
    w.raw(HTTP_ROUTES, "infra", "r", json!({ "rules": rules }));
    let asked = Asked { door: DOOR, host: "h", path: "/v1/x", query: None, method: "GET", header: &|_| None };
    let found = w.table().match_http(&asked).unwrap();
    assert_eq!((found.prefix, found.rule.request_timeout), (3, Some(std::time::Duration::from_secs(2))));
    let to = |name: &str, port| Backend {
        service: ServiceKey { namespace: "infra".into(), name: name.into() },
        port: BackendPort::Number(port),
    };
    assert_eq!(found.rule.treatment.mirrors, [(to("m", 81), (25, 100))], "the other one may not be referred to");
    let weights: Vec<(u32, Option<Backend>)> =
        found.rule.backends.iter().map(|b| (b.weight, b.backend.clone())).collect();
    assert_eq!(weights, [(9, Some(to("a", 80))), (0, Some(to("b", 80)))]);
    assert!(found.rule.treatment.rewrite.is_some() && !found.rule.broken);
}

#[test]
fn a_host_hears_of_other_listeners_and_not_of_other_routes() {
    let http = |port: u16| json!([{"name": "http", "port": port, "protocol": "HTTP"}]);
    let mut world = World::new(http(80));
    let start = world.table();
    world.route("r", &["a.test"], &[(json!([]), "web")]);
    assert!(start.same_host_ports(&start.with_gateways(&world.borrowed())));
    let other = World::new(http(8000));
    assert!(!start.same_host_ports(&start.with_gateways(&other.borrowed())));
}
