use std::borrow::Cow;
use std::time::Duration;

use copepod_model::Key;
use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::object::{encode, with_revision};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{Affinity, Balancer, Door, HostAddr, HostPort, PodPort, PodPorts, Side};

fn object(resource: &str, name: &str, value: Value) -> Object {
    let namespace = if resource.starts_with("ingressclasses") { "" } else { "shop" };
    Object::decode(Key::new(resource, namespace, name), 1, with_revision(&encode(&value), 1))
}

fn service(name: &str, spec: Value) -> Object {
    object("services", name, json!({"metadata": {"name": name}, "spec": spec}))
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Object {
    let metadata = json!({"labels": {SERVICE_NAME_LABEL: service}});
    object("endpointslices", service, json!({"metadata": metadata, "ports": ports, "endpoints": endpoints}))
}

fn ingress(name: &str, created: &str, spec: Value) -> Object {
    object("ingresses", name, json!({"metadata": {"name": name, "creationTimestamp": created}, "spec": spec}))
}

fn table(services: &[Object], slices: &[Object]) -> RouteTable {
    let config = Config { node: Some("n1".into()), ..Config::default() };
    RouteTable::build(services, slices, &[], &[], config)
}

fn rules(ingresses: &[Object], classes: &[Object]) -> RouteTable {
    RouteTable::default().with_ingresses(ingresses, classes)
}

fn ip(s: &str) -> IpAddr {
    s.parse().unwrap()
}

fn picks(t: &RouteTable, port: u16, n: u64) -> Vec<String> {
    let port = t.service(ip("10.96.0.7"), port, Protocol::Tcp).unwrap();
    (0..n).filter_map(|i| port.candidates(Side::Inside, None, i).next()).map(|e| e.addr.to_string()).collect()
}

#[test]
fn a_vip_leads_to_the_ready_endpoints_by_port_name() {
    let t = table(
        &[service(
            "web",
            json!({"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [
            {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080}, {"name": "admin", "port": 81}]}),
        )],
        &[
            slice(
                "web",
                json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 9000}]),
                json!([
                {"addresses": ["10.244.0.6"], "nodeName": "n2"},
                {"addresses": ["10.244.0.5"], "nodeName": "n1"},
                {"addresses": ["10.244.0.7"], "conditions": {"ready": false, "serving": true, "terminating": true}}]),
            ),
            slice("other", json!([{"name": "http", "port": 1}]), json!([{"addresses": ["10.244.0.9"]}])),
        ],
    );
    assert_eq!(picks(&t, 80, 3), ["10.244.0.5:8080", "10.244.0.6:8080", "10.244.0.5:8080"]);
    assert_eq!(picks(&t, 81, 1), ["10.244.0.5:9000"]);
    assert!(t.service(ip("10.96.0.7"), 82, Protocol::Tcp).is_none());
    assert!(t.service(ip("10.96.0.7"), 80, Protocol::Udp).is_none());
    assert!(t.is_vip(ip("10.96.0.7")) && !t.is_vip(ip("10.96.0.6")) && !t.is_vip(ip("10.96.0.8")));
    assert_eq!(t.node_port(30080, Protocol::Tcp).unwrap().port, 80);
    let all = t.service(ip("10.96.0.7"), 80, Protocol::Tcp).unwrap();
    assert_eq!(all.endpoints.len(), 3);
    assert_eq!(all.endpoints[0].node.as_deref(), Some("n1"));
}

#[test]
fn who_is_eligible() {
    let unready = json!({"ready": false, "serving": false});
    let draining = json!({"ready": false, "serving": true, "terminating": true});
    let starting = json!({"ready": false, "serving": true});
    let cases = [
        ("ready beats draining", json!({}), vec![("n1", json!({})), ("n1", draining.clone())], 1),
        ("draining serves when nobody is ready", json!({}), vec![("n1", unready.clone()), ("n2", draining)], 1),
        ("serving alone is not draining", json!({}), vec![("n1", starting)], 0),
        ("nobody", json!({}), vec![("n1", unready)], 0),
        ("local only", json!("Local"), vec![("n1", json!({})), ("n2", json!({}))], 1),
        ("local only, all remote", json!("Local"), vec![("n2", json!({}))], 0),
    ];
    for (what, policy, endpoints, eligible) in cases {
        let mut spec = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]});
        if policy.is_string() {
            spec["internalTrafficPolicy"] = policy;
        }
        let endpoints: Vec<Value> = endpoints
            .into_iter()
            .enumerate()
            .map(|(i, (node, c))| json!({"addresses": [format!("10.244.0.{i}")], "nodeName": node, "conditions": c}))
            .collect();
        let t = table(&[service("web", spec)], &[slice("web", json!([{"name": "", "port": 8080}]), json!(endpoints))]);
        assert_eq!(t.service(ip("10.96.0.7"), 80, Protocol::Tcp).unwrap().eligible.len(), eligible, "{what}");
    }
}

#[test]
fn hints_keep_traffic_near_as_long_as_each_endpoint_has_one() {
    let spec =
        |policy: &str| json!({"clusterIP": "10.96.0.7", "internalTrafficPolicy": policy, "ports": [{"port": 80}]});
    let endpoint = |n: usize, node: &str, zone: Option<&str>, for_node: bool, ready: bool| {
        let mut e = json!({"addresses": [format!("10.244.0.{n}")], "nodeName": node, "hints": {},
            "conditions": {"ready": ready, "serving": true, "terminating": !ready}});
        if let Some(zone) = zone {
            e["hints"]["forZones"] = json!([{"name": zone}]);
        }
        if for_node {
            e["hints"]["forNodes"] = json!([{"name": node}]);
        }
        e
    };
    let e = |n, node, zone| endpoint(n, node, Some(zone), false, true);
    let same_node = |n, node, zone| endpoint(n, node, Some(zone), true, true);
    let cases = [
        ("its zone", "Cluster", Some("a"), vec![e(1, "n1", "a"), e(2, "n2", "b"), e(3, "n3", "a")], vec![1, 3]),
        ("no zone", "Cluster", None, vec![e(1, "n1", "a"), e(2, "n2", "b")], vec![1, 2]),
        ("nobody in its zone", "Cluster", Some("c"), vec![e(1, "n1", "a"), e(2, "n2", "b")], vec![1, 2]),
        (
            "one has no hint",
            "Cluster",
            Some("a"),
            vec![e(1, "n2", "a"), endpoint(2, "n2", None, false, true)],
            vec![1, 2],
        ),
        ("its node", "Cluster", Some("a"), vec![same_node(1, "n1", "a"), same_node(2, "n2", "a")], vec![1]),
        (
            "none here, some in its zone",
            "Cluster",
            Some("a"),
            vec![same_node(1, "n3", "b"), same_node(2, "n2", "a")],
            vec![2],
        ),
        ("not each has a node", "Cluster", Some("a"), vec![same_node(1, "n1", "a"), e(2, "n2", "a")], vec![1, 2]),
        ("the policy comes first", "Local", Some("b"), vec![e(1, "n1", "a"), e(2, "n2", "b")], vec![1]),
        (
            "who goes does not count",
            "Cluster",
            Some("a"),
            vec![endpoint(1, "n1", Some("a"), false, false), e(2, "n2", "b")],
            vec![2],
        ),
        (
            "all go",
            "Cluster",
            Some("a"),
            vec![endpoint(1, "n1", Some("a"), false, false), endpoint(2, "n2", None, false, false)],
            vec![1, 2],
        ),
    ];
    for (what, policy, zone, endpoints, want) in cases {
        let slices = [slice("web", json!([{"name": "", "port": 8080}]), json!(endpoints))];
        let web = service("web", spec(policy));
        let table = table(&[], &[]).with_zone(zone.map(Into::into)).with_service("shop", "web", Some(&web), &slices);
        let port = table.service(ip("10.96.0.7"), 80, Protocol::Tcp).unwrap().clone();
        let found: Vec<String> = port.eligible.iter().map(|e| e.addr.ip().to_string()).collect();
        let want: Vec<String> = want.into_iter().map(|n| format!("10.244.0.{n}")).collect();
        assert_eq!(found, want, "{what}");
    }
}

#[test]
fn those_that_are_out_are_tried_after_all_others() {
    let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]});
    let endpoints: Vec<Value> = (0..4).map(|i| json!({"addresses": [format!("10.244.0.{i}")]})).collect();
    let t = table(&[service("web", spec)], &[slice("web", json!([{"name": "", "port": 80}]), json!(endpoints))]);
    let port = t.service(ip("10.96.0.7"), 80, Protocol::Tcp).unwrap();
    let mut balancer = Balancer::default();
    for _ in 0..5 {
        balancer.failed("10.244.0.2:80".parse().unwrap(), port.eligible(Side::Inside), Duration::ZERO);
    }
    let order = |now| {
        let choice = balancer.choose(port.eligible(Side::Inside), None, 1, now);
        let last = |e: &crate::Endpoint| e.addr.ip().to_string().rsplit('.').next().unwrap().to_string();
        port.in_order(Side::Inside, &choice).map(last).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(order(Duration::ZERO), "1 3 0 2");
    assert_eq!(order(Duration::from_secs(60)), "1 2 3 0");
}

#[test]
fn an_endpoint_in_two_slices_counts_once() {
    let spec = json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]});
    let ports = json!([{"name": "", "port": 8080}]);
    let a = slice("web", ports.clone(), json!([{"addresses": ["10.244.0.5"], "conditions": {"ready": false}}]));
    let b = slice("web", ports, json!([{"addresses": ["10.244.0.5"]}]));
    let t = table(&[service("web", spec)], &[a, b]);
    assert_eq!(t.service(ip("10.96.0.7"), 80, Protocol::Tcp).unwrap().endpoints.len(), 1);
    assert_eq!(picks(&t, 80, 1), ["10.244.0.5:8080"]);
}

#[test]
fn slices_made_by_others_may_lead_out_of_the_cluster() {
    let ports = json!([{"name": "http", "port": 80}, {"name": "admin", "port": 81}]);
    let spec = |policy: &str| json!({"clusterIP": "10.96.0.7", "ports": ports, "internalTrafficPolicy": policy});
    // A mirror has no condition but `ready`; a slice by hand need not have any, and may lack a port.
    let mirrored = slice(
        "web",
        json!([{"name": "http", "port": 8080}, {"name": "admin", "port": 8081}]),
        json!([{"addresses": ["192.0.2.1"], "conditions": {"ready": true}},
            {"addresses": ["192.0.2.2"], "conditions": {"ready": false}, "nodeName": "n1"}]),
    );
    let by_hand = slice("web", json!([{"name": "http", "port": 9090}]), json!([{"addresses": ["2001:db8::1"]}]));
    let named = slice("web", json!([{"name": "http", "port": 80}]), json!([{"addresses": ["www.example.com"]}]));
    let slices = [mirrored, by_hand, named];
    let t = table(&[service("web", spec("Cluster"))], &slices);
    assert_eq!(picks(&t, 80, 2), ["192.0.2.1:8080", "[2001:db8::1]:9090"]);
    assert_eq!(picks(&t, 81, 2), ["192.0.2.1:8081", "192.0.2.1:8081"]);
    // None of them is on this node, and one that is not ready does not drain.
    let t = table(&[service("web", spec("Local"))], &slices);
    assert_eq!(picks(&t, 80, 1), Vec::<String>::new());
}

#[test]
fn affinity_keeps_a_client_where_it_is() {
    let spec = json!({"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP", "ports": [{"port": 80}]});
    let of = |hosts: std::ops::Range<u8>| {
        let endpoints: Vec<Value> = hosts.map(|i| json!({"addresses": [format!("10.244.0.{i}")]})).collect();
        table(&[service("web", spec.clone())], &[slice("web", json!([{"name": "", "port": 80}]), json!(endpoints))])
    };
    let (big, small) = (of(1..9), of(1..8));
    let port = |t: &RouteTable| t.service(ip("10.96.0.7"), 80, Protocol::Tcp).unwrap().clone();
    let (big, small) = (port(&big), port(&small));
    let at = Duration::from_secs;
    let mut affinity = Affinity::default();
    let mut used = std::collections::BTreeSet::new();
    let mut first = std::collections::BTreeMap::new();
    for c in 0..64u8 {
        let client = ip(&format!("10.244.1.{c}"));
        let chosen = affinity.choose(&small, Side::Inside, client, at(0)).unwrap();
        let same = affinity.choose(&big, Side::Inside, client, at(10_799));
        assert_eq!(same, Some(chosen), "a new endpoint moves nobody within the time");
        first.insert(client, chosen);
        used.insert(chosen);
    }
    assert!(used.len() > 4, "clients spread: {used:?}");
    let moved = |affinity: &mut Affinity, port: &ServicePort, now| {
        first.iter().filter(|(c, e)| affinity.choose(port, Side::Inside, **c, now) != Some(**e)).count()
    };
    assert_eq!(moved(&mut affinity, &big, at(10_799 + 10_799)), 0, "each connection renews it");
    let late = moved(&mut affinity, &big, at(10_799 + 2 * 10_800));
    assert!((1..32).contains(&late), "only some prefer the new endpoint once their time is over: {late}");
    let client = ip("10.244.1.1");
    affinity.moved(&big, client, big.eligible[7].addr, at(40_000));
    assert_eq!(affinity.choose(&big, Side::Inside, client, at(40_001)), Some(big.eligible[7].addr));
    let gone = affinity.choose(&small, Side::Inside, client, at(40_002)).unwrap();
    assert_ne!(gone, big.eligible[7].addr, "an endpoint that is gone is left");
    let none = table(&[service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]}))], &[]);
    assert_eq!(affinity.choose(&port(&none), Side::Inside, client, at(0)), None);
}

#[test]
fn no_routing_decision_loses_a_request_that_could_be_answered() {
    // Every combination of three endpoints' conditions, under both policies.
    let conditions = [
        json!({}),
        json!({"ready": false, "serving": false}),
        json!({"ready": false, "serving": true, "terminating": true}),
        json!({"ready": false, "serving": false, "terminating": true}),
    ];
    let nodes = ["n1", "n2", "n1"];
    for n in 0..conditions.len().pow(3) * 2 {
        let pick = |i: usize| n / 4usize.pow(i as u32) % 4;
        let local = n >= 64;
        let endpoints: Vec<Value> = (0..3)
            .map(|i| json!({"addresses": [format!("10.244.0.{i}")], "nodeName": nodes[i], "conditions": conditions[pick(i)]}))
            .collect();
        let policy = if local { "Local" } else { "Cluster" };
        let spec = json!({"clusterIP": "10.96.0.7", "externalTrafficPolicy": policy, "ports": [{"port": 80}]});
        let t = table(&[service("web", spec)], &[slice("web", json!([{"name": "", "port": 8080}]), json!(endpoints))]);
        let port = t.service(ip("10.96.0.7"), 80, Protocol::Tcp).unwrap();
        for side in [Side::Inside, Side::Outside] {
            let seen = |i: usize| side == Side::Inside || !local || nodes[i] == "n1";
            let ready: Vec<usize> = (0..3).filter(|i| seen(*i) && pick(*i) == 0).collect();
            let draining: Vec<usize> = (0..3).filter(|i| seen(*i) && pick(*i) == 2).collect();
            let want = if ready.is_empty() { draining } else { ready };
            for seq in 0..4 {
                let mut tried: Vec<usize> = port
                    .candidates(side, None, seq)
                    .map(|e| e.addr.ip().to_string().rsplit('.').next().unwrap().parse().unwrap())
                    .collect();
                assert_eq!(tried.first(), want.get(seq as usize % want.len().max(1)), "{endpoints:?}");
                tried.sort();
                assert_eq!(tried, want, "each of them, once, and no other: {endpoints:?}");
            }
        }
        assert_eq!(port.may_recover(), (0..3).any(|i| pick(i) < 2), "{endpoints:?}");
    }
}

#[test]
fn a_change_of_one_service_equals_a_rebuild() {
    let web = service(
        "web",
        json!({"type": "NodePort", "clusterIP": "10.96.0.7", "ports": [{"port": 80, "nodePort": 30000}]}),
    );
    let api = service(
        "api",
        json!({"clusterIP": "10.96.0.8", "externalIPs": ["10.96.0.7", "192.0.2.1"],
        "ports": [{"port": 80}]}),
    );
    let slices = [
        slice("web", json!([{"name": "", "port": 1}]), json!([{"addresses": ["10.244.0.5"]}])),
        slice("api", json!([{"name": "", "port": 2}]), json!([{"addresses": ["10.244.0.6"]}])),
    ];
    let start = table(&[], &[]);
    let both = start.with_service("shop", "web", Some(&web), &slices).with_service("shop", "api", Some(&api), &slices);
    assert_eq!(picks(&both, 80, 1), ["10.244.0.5:1"], "another Service's external address does not take the VIP");
    assert!(both.is_vip(ip("192.0.2.1")));
    let without = both.with_service("shop", "api", None, &slices);
    assert!(!without.is_vip(ip("192.0.2.1")) && without.is_vip(ip("10.96.0.7")));
    let moved = service("web", json!({"clusterIP": "10.96.0.9", "ports": [{"port": 81}]}));
    let moved = without.with_service("shop", "web", Some(&moved), &slices);
    assert!(!moved.is_vip(ip("10.96.0.7")) && moved.node_port(30000, Protocol::Tcp).is_none());
    assert!(both.is_vip(ip("10.96.0.7")), "tables are immutable");
}

#[test]
fn only_changes_that_matter_to_the_host_are_told_it() {
    let spec = |extra: Value| {
        let mut spec =
            json!({"clusterIP": "10.96.0.7", "type": "NodePort", "ports": [{"port": 80, "nodePort": 30000}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        service("web", spec)
    };
    let slices =
        |n: u8| [slice("web", json!([{"name": "", "port": 1}]), json!([{"addresses": [format!("10.244.0.{n}")]}]))];
    let put = |t: &RouteTable, s: &Object, n| t.with_service("shop", "web", Some(s), slices(n));
    let start = put(&table(&[], &[]), &spec(json!({})), 1);
    assert!(start.same_host_ports(&put(&start, &spec(json!({})), 2)), "another endpoint");
    assert!(start.same_host_ports(&put(&start, &spec(json!({"clusterIP": "10.96.0.8"})), 1)));
    let none: [Object; 0] = [];
    assert!(!start.same_host_ports(&start.with_service("shop", "web", None, &none)));
    for change in [
        json!({"ports": [{"port": 80, "nodePort": 30001}]}),
        json!({"ports": [{"port": 80, "nodePort": 30000, "protocol": "UDP"}]}),
        json!({"externalIPs": ["192.0.2.1"]}),
        json!({"healthCheckNodePort": 31000}),
    ] {
        let changed = put(&start, &spec(change.clone()), 1);
        assert!(!start.same_host_ports(&changed), "{change}");
        assert_ne!(start.host_ports(&[ip("192.0.2.9")], &[]), changed.host_ports(&[ip("192.0.2.9")], &[]), "{change}");
    }
}

#[test]
fn a_balanced_address_is_the_oldest_services_and_the_nodes() {
    let balanced = |name: &str, created: &str, own: &str, ranges: Value| {
        let metadata = json!({"name": name, "creationTimestamp": created});
        let spec = json!({"type": "LoadBalancer", "clusterIP": own, "loadBalancerSourceRanges": ranges,
            "ports": [{"port": 80, "nodePort": if name == "b" { 30080 } else { 0 }}]});
        let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}});
        object("services", name, json!({"metadata": metadata, "spec": spec, "status": status}))
    };
    let young = balanced("a", "2026-01-02T00:00:00Z", "10.96.0.7", json!(null));
    let old = balanced("b", "2026-01-01T00:00:00Z", "10.96.0.8", json!(["198.51.100.0/24", "fd00::/8"]));
    let none: [Object; 0] = [];
    let key = |name: &str| ServiceKey { namespace: "shop".into(), name: name.into() };
    let owner = |t: &RouteTable| t.service(ip("192.0.2.1"), 80, Protocol::Tcp).map(|p| p.service.name.to_string());
    let start = table(&[], &[]);
    let first = start.with_service("shop", "a", Some(&young), &none);
    assert_eq!(owner(&first).as_deref(), Some("a"));
    let both = first.with_service("shop", "b", Some(&old), &none);
    assert_eq!(owner(&both).as_deref(), Some("b"));
    let at = HostAddr { addr: "192.0.2.1:80".parse().unwrap(), protocol: Protocol::Tcp };
    let found = both.host_ports(&[], &[]);
    assert_eq!(found.listen.get(&at), Some(&HostPort::Service(key("b"))));
    assert_eq!((found.yielded, found.balanced), (vec![(at, key("a"))], [at].into()));
    assert_eq!(owner(&both.with_service("shop", "b", None, &none)).as_deref(), Some("a"), "the next one has it");
    let neither = both.with_service("shop", "b", None, &none).with_service("shop", "a", None, &none);
    assert_eq!(owner(&neither), None);
    assert!(!both.is_vip(ip("192.0.2.1")), "other ports there are the node's");

    let admits = |name: &str, at: &str, client: &str| {
        let at = HostAddr { addr: at.parse().unwrap(), protocol: Protocol::Tcp };
        both.admits(&key(name), at, ip(client))
    };
    assert!(admits("a", "192.0.2.1:80", "203.0.113.9"), "without ranges it is for everyone");
    for (client, may) in [
        ("198.51.100.7", true),
        ("198.51.101.7", false),
        ("::ffff:198.51.100.7", true),
        ("fd12::1", true),
        ("fe80::1", false),
    ] {
        assert_eq!(admits("b", "192.0.2.1:80", client), may, "{client}");
    }
    for at in ["192.0.2.1:30080", "127.0.0.1:80"] {
        assert!(admits("b", at, "203.0.113.9"), "{at} is for everyone");
    }
}

#[test]
fn headless_services_have_no_vip_but_can_be_a_backend() {
    let t = table(
        &[service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}))],
        &[slice("db", json!([{"name": "sql", "port": 5432}]), json!([{"addresses": ["10.244.0.5"]}]))],
    );
    let key = ServiceKey { namespace: "shop".into(), name: "db".into() };
    assert_eq!(t.service_ports(&key).len(), 1);
    for port in [BackendPort::Number(5432), BackendPort::Name("sql".into())] {
        let backend = Backend { service: key.clone(), port };
        assert!(t.backend(&backend).is_some());
    }
}

#[test]
fn an_external_name_leads_to_the_services_port() {
    let named = |name: &str, external: &str, ports: Value| {
        service(name, json!({"type": "ExternalName", "externalName": external, "ports": ports}))
    };
    let ports = json!([{"name": "web", "port": 81, "targetPort": 9}, {"name": "h2", "port": 82, "appProtocol": H2C}]);
    let objects = [
        named("some", "a.test", ports),
        named("all", "b.test", json!(null)),
        named("none", "", json!([{"port": 80}])),
        service("web", json!({"clusterIP": "10.96.0.7", "ports": [{"port": 80}]})),
    ];
    let t = table(&objects, &[]);
    let leads = |name: &str, port: BackendPort| {
        let service = ServiceKey { namespace: "shop".into(), name: name.into() };
        let to = t.external(&Backend { service, port })?;
        Some(format!("{}:{}{}", to.name, to.port, if to.h2c { " h2c" } else { "" }))
    };
    assert_eq!(leads("some", BackendPort::Number(81)).as_deref(), Some("a.test:81"));
    assert_eq!(leads("some", BackendPort::Name("h2".into())).as_deref(), Some("a.test:82 h2c"));
    assert_eq!(leads("all", BackendPort::Number(8080)).as_deref(), Some("b.test:8080"));
    for (name, port) in [
        ("some", BackendPort::Number(80)),
        ("all", BackendPort::Name("web".into())),
        ("none", BackendPort::Number(80)),
        ("web", BackendPort::Number(80)),
        ("nothing", BackendPort::Number(80)),
    ] {
        assert_eq!(leads(name, port.clone()), None, "{name} {port:?}");
    }
}

fn path(kind: &str, path: &str, service: &str) -> Value {
    json!({"pathType": kind, "path": path, "backend": {"service": {"name": service, "port": {"number": 80}}}})
}

fn asked<'a>(
    door: Door,
    host: &'a str,
    target: &'a str,
    method: &'a str,
    header: &'a dyn Fn(&str) -> Option<Cow<'a, str>>,
) -> Asked<'a> {
    let (path, query) = target.split_once('?').map_or((target, None), |(p, q)| (p, Some(q)));
    Asked { door, host, path, query, method, header }
}

fn hit(t: &RouteTable, host: &str, path: &str) -> String {
    let found = t.match_http(&asked(Door::ingress(8080, false), host, path, "GET", &|_| None));
    found.and_then(|f| Some(f.rule.backends.first()?.backend.as_ref()?.service.name.to_string())).unwrap_or("-".into())
}

#[test]
fn hosts_and_paths() {
    let t = rules(
        &[ingress(
            "a",
            "2026-01-01T00:00:00Z",
            json!({"rules": [
            {"host": "Shop.example.com", "http": {"paths": [path("Prefix", "/", "root"), path("Prefix", "/a/b", "ab"),
                path("Prefix", "/c/", "c"), path("Exact", "/a/b", "exact"), path("ImplementationSpecific", "/i", "impl")]}},
            {"host": "*.example.com", "http": {"paths": [path("Prefix", "/", "wild")]}},
            {"host": "only.example.org", "http": {"paths": [path("Prefix", "/x", "x")]}},
            {"http": {"paths": [path("Prefix", "/any", "any")]}},
            {"host": "bare.example.org"}],
            "defaultBackend": {"service": {"name": "default", "port": {"name": "http"}}}}),
        )],
        &[],
    );
    for (host, path, want) in [
        ("shop.example.com", "/", "root"),
        ("SHOP.example.com:8080", "/zzz", "root"),
        ("shop.example.com.", "/a/b", "exact"),
        ("shop.example.com", "/a/b/", "ab"),
        ("shop.example.com", "/a/b/c", "ab"),
        ("shop.example.com", "/a/bc", "root"),
        ("shop.example.com", "/a", "root"),
        ("shop.example.com", "/c", "c"),
        ("shop.example.com", "/c/d", "c"),
        ("shop.example.com", "/i/j", "impl"),
        ("x.example.com", "/a/b", "wild"),
        ("x.y.example.com", "/", "default"),
        ("example.com", "/", "default"),
        (".example.com", "/", "default"),
        ("only.example.org", "/y", "default"),
        ("only.example.org", "/any/thing", "any"),
        ("bare.example.org", "/q", "default"),
        ("", "/any", "any"),
        ("[::1]:8080", "/any", "any"),
        ("nowhere", "*", "default"),
    ] {
        assert_eq!(hit(&t, host, path), want, "{host} {path}");
    }
}

#[test]
fn the_older_ingress_wins() {
    let of = |name: &str, created: &str, service: &str| {
        ingress(
            name,
            created,
            json!({"defaultBackend": {"service": {"name": service, "port": {"number": 1}}},
            "rules": [{"host": "h", "http": {"paths": [path("Prefix", "/", service)]}}]}),
        )
    };
    let t = rules(&[of("a", "2026-01-02T00:00:00Z", "young"), of("b", "2026-01-01T00:00:00Z", "old")], &[]);
    assert_eq!((hit(&t, "h", "/").as_str(), hit(&t, "other", "/").as_str()), ("old", "old"));
}

#[test]
fn which_ingresses_are_ours() {
    let class = |name: &str, controller: &str, default: bool| {
        object(
            "ingressclasses",
            name,
            json!({"spec": {"controller": controller}, "metadata": {"name": name,
            "annotations": {"ingressclass.kubernetes.io/is-default-class": default.to_string()}}}),
        )
    };
    let ours = || class("mine", "copepod.dev/ingress", false);
    let theirs = |default| class("nginx", "k8s.io/ingress-nginx", default);
    for (what, name, classes, served) in [
        ("no class, no default", None, vec![], true),
        ("no class, default is another's", None, vec![theirs(true)], false),
        ("no class, another's that is not default", None, vec![theirs(false)], true),
        ("ours by name without an object", Some("copepod"), vec![], true),
        ("ours by controller", Some("mine"), vec![ours(), theirs(true)], true),
        ("another's", Some("nginx"), vec![theirs(false)], false),
        ("unknown", Some("haproxy"), vec![], false),
        ("our name taken by another controller", Some("copepod"), vec![class("copepod", "x", false)], false),
    ] {
        let mut spec = json!({"rules": [{"http": {"paths": [path("Prefix", "/", "s")]}}]});
        if let Some(name) = name {
            spec["ingressClassName"] = json!(name);
        }
        let t = rules(&[ingress("a", "2026-01-01T00:00:00Z", spec)], &classes);
        assert_eq!(hit(&t, "h", "/") == "s", served, "{what}");
    }
}

#[test]
fn tls_secrets_are_kept() {
    let t =
        rules(&[ingress("a", "2026-01-01T00:00:00Z", json!({"tls": [{"hosts": ["A.b"], "secretName": "cert"}]}))], &[]);
    assert_eq!((&*t.tls()[0].hosts[0], &*t.tls()[0].namespace, &*t.tls()[0].secret), ("a.b", "shop", "cert"));
}

/// The specification in words, written as one comparison over all rules.
fn naive(rules: &[(String, &'static str, String)], host: &str, path: &str) -> Option<usize> {
    let host_rank = |rule: &str| match rule {
        "" => Some(0),
        _ if rule == host => Some(2),
        _ => {
            let (first, rest) = host.split_once('.')?;
            (rule.strip_prefix("*.") == Some(rest) && !first.is_empty()).then_some(1)
        }
    };
    let elements = |p: &str| p.split('/').filter(|e| !e.is_empty()).map(String::from).collect::<Vec<_>>();
    let path_rank = |kind: &str, rule: &str| match kind {
        "Exact" => (rule == path).then_some(usize::MAX),
        _ => {
            let rule = elements(rule);
            elements(path).starts_with(&rule).then_some(rule.len())
        }
    };
    let ranked = rules
        .iter()
        .enumerate()
        .filter_map(|(i, (h, kind, p))| Some(((host_rank(h)?, path_rank(kind, p)?), std::cmp::Reverse(i))));
    ranked.max().map(|(_, std::cmp::Reverse(i))| i)
}

proptest! {
    #[test]
    fn matching_agrees_with_the_naive_model(
        rules_in in prop::collection::vec(("(|a\\.b|\\*\\.b|b|\\*\\.a\\.b)", prop::bool::ANY, "(/[xy]){0,3}/?"), 0..12),
        host in "([ab]\\.){0,2}[ab]",
        path_in in "(/[xy]){1,3}/?",
    ) {
        let named: Vec<(String, &'static str, String)> = rules_in
            .into_iter()
            .map(|(h, exact, p)| {
                (h, if exact { "Exact" } else { "Prefix" }, if p.starts_with('/') { p } else { format!("/{p}") })
            })
            .collect();
        let spec: Vec<Value> = named
            .iter()
            .enumerate()
            .map(|(i, (h, kind, p))| json!({"host": h, "http": {"paths": [path(kind, p, &i.to_string())]}}))
            .collect();
        let t = rules(&[ingress("a", "2026-01-01T00:00:00Z", json!({"rules": spec}))], &[]);
        let want = naive(&named, &host, &path_in).map_or("-".to_string(), |i| i.to_string());
        prop_assert_eq!(hit(&t, &host, &path_in), want);
    }
}

#[test]
fn where_the_node_listens() {
    let plain = service(
        "web",
        json!({"type": "NodePort", "clusterIP": "10.96.0.7", "externalIPs": ["192.0.2.1"], "ports": [{"port": 80, "nodePort": 30080},
            {"name": "dns", "port": 53, "nodePort": 30053, "protocol": "UDP"}]}),
    );
    let local = service(
        "api",
        json!({"type": "LoadBalancer", "clusterIP": "10.96.0.8", "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30001, "ports": [{"port": 80, "nodePort": 30081}]}),
    );
    let ends =
        json!([{"addresses": ["10.244.0.5"], "nodeName": "n1"}, {"addresses": ["10.244.0.6"], "nodeName": "n2"}]);
    let t = table(&[plain, local], &[slice("api", json!([{"name": "", "port": 8080}]), ends)]);
    let listens = |pods: &[PodPorts]| {
        let found = t.host_ports(&[ip("127.0.0.1"), ip("::1")], pods);
        let is_v4 = |at: &&HostAddr| at.addr.is_ipv4();
        let listen: Vec<String> = found.listen.keys().filter(is_v4).map(ToString::to_string).collect();
        let refused: Vec<String> = found.refused.iter().map(|(at, uid)| format!("{uid} {at}")).collect();
        (found, listen.join(", "), refused.join(", "))
    };
    let services = "tcp 127.0.0.1:30001, udp 127.0.0.1:30053, tcp 127.0.0.1:30080, tcp 127.0.0.1:30081, \
        udp 192.0.2.1:53, tcp 192.0.2.1:80";
    assert_eq!((listens(&[]).1.as_str(), listens(&[]).0.listen.len()), (services, 10));
    let service = |at: &str, protocol| {
        let at = HostAddr { addr: at.parse().unwrap(), protocol };
        t.host_service(at).map(|p| p.service.name.to_string())
    };
    assert_eq!(service("127.0.0.1:30081", Protocol::Tcp).as_deref(), Some("api"));
    assert_eq!(service("127.0.0.1:30053", Protocol::Udp).as_deref(), Some("web"));
    assert_eq!(service("127.0.0.1:30053", Protocol::Tcp), None);
    assert_eq!(service("192.0.2.1:80", Protocol::Tcp).as_deref(), Some("web"));
    assert_eq!(service("127.0.0.1:80", Protocol::Tcp), None);

    let pod = |n: u8, host: Option<&str>, port: u16, protocol| {
        let ports = vec![PodPort { ip: host.map(ip), port, protocol, to: 8080 }];
        PodPorts { uid: format!("p{n}").into(), ip: IpAddr::from([10, 244, 0, n]), ports }
    };
    let one = listens(&[pod(5, None, 90, Protocol::Tcp)]).0;
    let at = |addr: &str| HostAddr { addr: addr.parse().unwrap(), protocol: Protocol::Tcp };
    let leads = HostPort::Pod { uid: "p5".into(), to: "10.244.0.5:8080".parse().unwrap() };
    assert_eq!((one.listen.get(&at("127.0.0.1:90")), one.listen.get(&at("[::1]:90"))), (Some(&leads), Some(&leads)));
    let one = listens(&[pod(5, Some("0.0.0.0"), 90, Protocol::Tcp)]).0;
    assert_eq!((one.listen.get(&at("127.0.0.1:90")), one.listen.get(&at("[::1]:90"))), (Some(&leads), None));
    let (found, _, refused) = listens(&[
        pod(1, Some("192.0.2.1"), 80, Protocol::Tcp),
        pod(2, Some("127.0.0.1"), 30080, Protocol::Tcp),
        pod(3, Some("127.0.0.1"), 30080, Protocol::Udp),
        pod(4, Some("0.0.0.0"), 30080, Protocol::Udp),
    ]);
    assert_eq!(refused, "p2 tcp 127.0.0.1:30080, p4 udp 127.0.0.1:30080", "a node port and an earlier pod come first");
    assert!(matches!(&found.listen[&at("192.0.2.1:80")], HostPort::Pod { uid, .. } if **uid == *"p1"));
    let key = |name: &str| ServiceKey { namespace: "shop".into(), name: name.into() };
    assert_eq!((t.local_endpoints(&key("api")), t.local_endpoints(&key("web"))), (1, 0));
}

#[test]
fn each_family_of_a_service_has_endpoints_of_its_own() {
    let ports = json!([{"name": "", "port": 8080}]);
    let spec = |families: Value| {
        json!({"type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"], "ipFamilies": families,
            "externalTrafficPolicy": "Local", "ports": [{"port": 80, "nodePort": 30080}]})
    };
    let of = |ip: &str| slice("web", ports.clone(), json!([{"addresses": [ip], "nodeName": "n1"}]));
    let slices = [of("10.244.0.5"), of("fd00::5")];
    let both = service("web", spec(json!(["IPv4", "IPv6"])));
    let t = table(std::slice::from_ref(&both), &slices);
    let shown = |port: Option<&Arc<ServicePort>>| -> String {
        let all = port.into_iter().flat_map(|p| p.endpoints.iter());
        all.map(|e| e.addr.to_string()).collect::<Vec<_>>().join(" ")
    };
    let vip = |t: &RouteTable, at: &str| shown(t.service(ip(at), 80, Protocol::Tcp));
    let (four, six) = ("10.244.0.5:8080", "[fd00::5]:8080");
    assert_eq!((vip(&t, "10.96.0.7").as_str(), vip(&t, "fd00::7").as_str()), (four, six));
    let by_node_port = |at: &str| {
        let at = HostAddr { addr: at.parse().unwrap(), protocol: Protocol::Tcp };
        shown(t.host_service(at))
    };
    assert_eq!((by_node_port("127.0.0.1:30080").as_str(), by_node_port("[::1]:30080").as_str()), (four, six));
    let key = ServiceKey { namespace: "shop".into(), name: "web".into() };
    assert_eq!(t.local_endpoints(&key), 1, "one pod is one");
    let backend = Backend { service: key, port: BackendPort::Number(80) };
    assert_eq!(shown(t.backend(&backend)), four);
    // The ingress takes what there is.
    assert_eq!(shown(table(std::slice::from_ref(&both), &slices[1..]).backend(&backend)), six);
    // One that gives up its second family is still the same.
    let first = t.service(ip("fd00::7"), 80, Protocol::Tcp).unwrap();
    assert_eq!(shown(t.again(first)), six);
    let one = table(&[service("web", spec(json!(["IPv4"])))], &slices[..1]);
    assert_eq!(shown(one.again(first)), four);
}
