use copepod_model::Key;
use copepod_model::object::{encode, with_revision};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

mod naive;

fn object(resource: &str, namespace: &str, name: &str, value: Value) -> Object {
    Object::decode(Key::new(resource, namespace, name), 1, with_revision(&encode(&value), 1))
}

fn namespace(name: &str, labels: Value) -> Object {
    object("namespaces", "", name, json!({"metadata": {"name": name, "labels": labels}}))
}

fn pod(namespace: &str, name: &str, n: u8, labels: Value) -> Object {
    let value = json!({"metadata": {"namespace": namespace, "name": name, "uid": format!("{namespace}-{name}"), "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8000 + u16::from(n)},
            {"name": "dns", "containerPort": 53, "protocol": "UDP"}]}]},
        "status": {"phase": "Running", "podIP": format!("10.244.0.{n}")}});
    object("pods", namespace, name, value)
}

fn policy(namespace: &str, name: &str, spec: Value) -> Object {
    object("networkpolicies.networking.k8s.io", namespace, name, json!({ "spec": spec }))
}

fn source(namespace: &str, name: &str) -> SourcePod {
    SourcePod {
        uid: format!("{namespace}-{name}").into(),
        namespace: namespace.into(),
        name: name.into(),
        service_account: "default".into(),
    }
}

fn ip(n: u8) -> IpAddr {
    [10, 244, 0, n].into()
}

/// Two namespaces: `a` (team red) with `web` at 1, `api` at 2 and `job` at 3, and `b` (team blue) with `web` at 4.
fn world() -> Policies {
    let mut all = Policies::default();
    all.put_namespace(&namespace("a", json!({"team": "red"})));
    all.put_namespace(&namespace("b", json!({"team": "blue"})));
    for (ns, name, n, labels) in [
        ("a", "web", 1, json!({"app": "web"})),
        ("a", "api", 2, json!({"app": "api", "tier": "back"})),
        ("a", "job", 3, json!({})),
        ("b", "web", 4, json!({"app": "web"})),
    ] {
        all.put_pod(&pod(ns, name, n, labels));
    }
    all
}

/// `a/web`: whoever stands in the world.
const PODS: [(&str, &str, u8); 4] = [("a", "web", 1), ("a", "api", 2), ("a", "job", 3), ("b", "web", 4)];

/// Whether a stream comes through both ends.
fn reaches(all: &Policies, from: usize, to: usize, protocol: Protocol, port: u16) -> bool {
    let ((ns, name, n), (to_ns, to_name, to_n)) = (PODS[from], PODS[to]);
    let (from, to) = (source(ns, name), source(to_ns, to_name));
    all.may_leave(&from, Party::Pod(&to, ip(to_n)), protocol, port)
        && all.may_enter(&to, Party::Pod(&from, ip(n)), protocol, port)
}

/// Who may come to `to` by TCP at a port, as a list of names.
fn guests(all: &Policies, to: usize, port: u16) -> String {
    let from = (0..PODS.len()).filter(|from| *from != to && reaches(all, *from, to, Protocol::Tcp, port));
    from.map(|i| format!("{}/{}", PODS[i].0, PODS[i].1)).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_pod_is_isolated_by_the_policies_that_are_for_it_and_they_add_up() {
    let web = json!({"matchLabels": {"app": "web"}});
    let only = |from: Value| json!({"podSelector": web, "policyTypes": ["Ingress"], "ingress": [{ "from": from }]});
    let api = json!({"podSelector": {"matchLabels": {"app": "api"}}});
    let everyone = "a/api a/job b/web";
    for (specs, want) in [
        (vec![], everyone),
        // Another pod's.
        (vec![json!({"podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress"]})], everyone),
        // Default deny, and its opposite.
        (vec![json!({"podSelector": {}, "policyTypes": ["Ingress"]})], ""),
        (vec![json!({"podSelector": {}})], ""),
        (vec![json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}]})], everyone),
        (
            vec![json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [], "ports": []}]})],
            everyone,
        ),
        // Rules that are not of its types say nothing.
        (vec![json!({"podSelector": {}, "policyTypes": ["Egress"], "ingress": [], "egress": [{}]})], everyone),
        // Pods of its own namespace.
        (vec![only(json!([api]))], "a/api"),
        (vec![only(json!([{"podSelector": {}}]))], "a/api a/job"),
        (
            vec![only(json!([{"podSelector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}}]))],
            "a/job",
        ),
        // All pods of some namespaces.
        (vec![only(json!([{"namespaceSelector": {}}]))], everyone),
        (vec![only(json!([{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]))], "b/web"),
        (
            vec![only(json!([{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "a"}}}]))],
            "a/api a/job",
        ),
        // Both at once is both, two peers are either.
        (
            vec![only(
                json!([{"namespaceSelector": {"matchLabels": {"team": "red"}}, "podSelector": api["podSelector"]}]),
            )],
            "a/api",
        ),
        (vec![only(json!([{"namespaceSelector": {"matchLabels": {"team": "blue"}}}, api]))], "a/api b/web"),
        (
            vec![only(
                json!([{"namespaceSelector": {"matchLabels": {"team": "blue"}}, "podSelector": api["podSelector"]}]),
            )],
            "",
        ),
        // Policies add up.
        (
            vec![
                json!({"podSelector": {}}),
                only(json!([api])),
                only(json!([{"namespaceSelector": {"matchLabels": {"team": "blue"}}}])),
            ],
            "a/api b/web",
        ),
        // Addresses, those of pods too.
        (vec![only(json!([{"ipBlock": {"cidr": "10.244.0.0/30"}}]))], "a/api a/job"),
        (
            vec![only(json!([{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.244.0.3/32", "192.0.2.0/24"]}}]))],
            "a/api b/web",
        ),
        (vec![only(json!([{"ipBlock": {"cidr": "::/0"}}]))], ""),
        // The other end's egress.
        (vec![json!({"podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Egress"]})], "a/job b/web"),
        (
            vec![
                json!({"podSelector": {"matchLabels": {"app": "api"}}, "egress": [{"to": [{"podSelector": web}]}]}),
                json!({"podSelector": web, "ingress": [{}]}),
            ],
            everyone,
        ),
    ] {
        let mut all = world();
        for (i, spec) in specs.iter().enumerate() {
            assert!(all.put_policy(&policy("a", &format!("p{i}"), spec.clone())));
            assert!(!all.put_policy(&policy("a", &format!("p{i}"), spec.clone())), "nothing new");
        }
        assert_eq!(guests(&all, 0, 8001), want, "{specs:?}");
        assert!(guests(&all, 3, 8004).contains("a/job"), "policies are for their own namespace");
        assert!(reaches(&all, 0, 0, Protocol::Tcp, 8001), "a pod reaches itself");
        assert!(all.may_enter(&source("a", "web"), Party::Node, Protocol::Tcp, 8001), "a node reaches its pods");
        for i in 0..specs.len() {
            assert!(all.remove_policy("a", &format!("p{i}")) && !all.remove_policy("a", &format!("p{i}")));
        }
        assert!(all.is_empty() && guests(&all, 0, 8001) == everyone, "{specs:?}");
    }
}

#[test]
fn ports_are_numbers_ranges_and_names_of_the_pod_that_is_connected_to() {
    use Protocol::{Tcp, Udp};
    for (ports, through, stopped) in [
        (json!([{"port": 80}]), vec![(Tcp, 80)], vec![(Udp, 80), (Tcp, 81)]),
        (json!([{"protocol": "UDP"}]), vec![(Udp, 1), (Udp, 65_535)], vec![(Tcp, 1)]),
        (
            json!([{"port": 80, "endPort": 90}]),
            vec![(Tcp, 80), (Tcp, 85), (Tcp, 90)],
            vec![(Tcp, 79), (Tcp, 91), (Udp, 85)],
        ),
        (json!([{"port": "http"}]), vec![(Tcp, 8001)], vec![(Tcp, 8004), (Udp, 8001), (Tcp, 80)]),
        (json!([{"port": "dns", "protocol": "UDP"}]), vec![(Udp, 53)], vec![(Tcp, 53)]),
        (json!([{"port": "dns"}]), vec![], vec![(Tcp, 53), (Udp, 53)]),
        (json!([{"port": "none"}, {"port": 7, "protocol": "UDP"}]), vec![(Udp, 7)], vec![(Tcp, 8001), (Tcp, 7)]),
        (json!([{"protocol": "SCTP"}]), vec![], vec![(Tcp, 1), (Udp, 1)]),
    ] {
        let mut ingress = world();
        ingress.put_policy(&policy("a", "p", json!({"podSelector": {}, "ingress": [{ "ports": ports }]})));
        let mut egress = world();
        let spec = json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "ports": ports }]});
        egress.put_policy(&policy("b", "p", spec));
        for (want, at) in [(true, &through), (false, &stopped)] {
            for (protocol, port) in at {
                assert_eq!(reaches(&ingress, 3, 0, *protocol, *port), want, "into: {ports} {protocol:?} {port}");
                assert_eq!(reaches(&egress, 3, 0, *protocol, *port), want, "out: {ports} {protocol:?} {port}");
            }
        }
    }
}

#[test]
fn who_is_known_by_an_address_only_is_the_pod_that_runs_there_or_nobody() {
    let mut all = world();
    let to_web = json!({"podSelector": {}, "egress": [{"to": [{"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}]}]});
    all.put_policy(&policy("a", "p", to_web));
    let leave = |all: &Policies, to| all.may_leave(&source("a", "job"), Party::Address(to), Protocol::Tcp, 80);
    assert!(
        leave(&all, ip(4)) && !leave(&all, ip(2)) && !leave(&all, ip(9)) && !leave(&all, "192.0.2.1".parse().unwrap())
    );
    assert!(leave(&all, "::ffff:10.244.0.4".parse().unwrap()));
    // It has ended, and another one gets its address before it goes.
    let mut ended = pod("b", "web", 4, json!({"app": "web"})).value();
    ended["status"]["phase"] = "Succeeded".into();
    assert!(all.put_pod(&object("pods", "b", "web", ended)) && !leave(&all, ip(4)));
    assert!(all.put_pod(&pod("b", "new", 4, json!({"app": "web"}))) && leave(&all, ip(4)));
    assert!(all.remove_pod("b", "web") && leave(&all, ip(4)) && all.knows_address(ip(4)));
    assert!(all.keep_pods([]) && !leave(&all, ip(4)) && !all.knows_address(ip(4)));
    let block = json!({"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "192.0.2.0/24"}}], "ports": [{"port": 80, "endPort": 89}, {"port": "http"}]}]});
    all.put_policy(&policy("a", "p", block));
    assert!(leave(&all, "192.0.2.1".parse().unwrap()) && !leave(&all, "192.0.3.1".parse().unwrap()));
}

#[test]
fn a_pod_is_known_at_its_addresses_of_both_families() {
    let mut all = world();
    let (web, api) = (source("a", "web"), source("a", "api"));
    let six = |n: u8| -> IpAddr { format!("fd00::{n}").parse().unwrap() };
    let mut dual = pod("a", "api", 2, json!({"app": "api"})).value();
    dual["status"]["podIPs"] = json!([{"ip": "10.244.0.2"}, {"ip": "fd00::2"}]);
    assert!(all.put_pod(&object("pods", "a", "api", dual)));
    assert!(all.knows_address(six(2)) && all.knows_address(ip(2)));
    all.put_policy(&policy(
        "a",
        "p",
        json!({"podSelector": {"matchLabels": {"app": "api"}}, "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"ipBlock": {"cidr": "fd00::/64", "except": ["fd00::4/128"]}}]}]}),
    ));
    assert!(all.guards(six(2)) && all.guards(ip(2)));
    for (from, want) in [(six(1), true), (six(4), false), (ip(1), false)] {
        assert_eq!(all.may_enter(&api, Party::Pod(&web, from), Protocol::Tcp, 80), want, "{from}");
        assert_eq!(all.may_enter(&api, Party::Outside(from), Protocol::Tcp, 80), want, "{from} outside");
    }
    // By a selector it is the same pod at either address.
    all.put_policy(&policy(
        "a",
        "q",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": {"matchLabels": {"app": "api"}}}]}]}),
    ));
    for to in [ip(2), six(2)] {
        assert!(all.may_leave(&web, Party::Address(to), Protocol::Tcp, 80), "{to}");
    }
    assert!(!all.may_leave(&web, Party::Address(six(3)), Protocol::Tcp, 80));
    all.remove_pod("a", "api");
    assert!(!all.knows_address(six(2)) && !all.knows_address(ip(2)));
}

#[test]
fn name_lookups_are_traffic_to_the_pods_that_other_clusters_have_for_them() {
    let dns = |to: Value, ports: Value| {
        let mut all = world();
        all.put_policy(&policy(
            "a",
            "p",
            json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": to, "ports": ports}]}),
        ));
        [Protocol::Udp, Protocol::Tcp]
            .map(|p| all.may_leave(&source("a", "web"), Party::Dns([10, 96, 0, 10].into()), p, 53))
    };
    let system = json!({"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}});
    let both = json!([{"port": 53, "protocol": "UDP"}, {"port": 53}]);
    let kube_dns = json!([{"namespaceSelector": system, "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}}}]);
    assert_eq!(dns(kube_dns.clone(), both.clone()), [true, true]);
    assert_eq!(dns(kube_dns.clone(), json!([{"port": "dns", "protocol": "UDP"}])), [true, false]);
    assert_eq!(dns(json!([{"namespaceSelector": {}}]), json!([{"port": 53, "protocol": "UDP"}])), [true, false]);
    assert_eq!(dns(json!([]), json!([{"port": "dns-tcp"}])), [false, true]);
    assert_eq!(dns(json!([{"ipBlock": {"cidr": "10.96.0.10/32"}}]), both.clone()), [true, true]);
    assert_eq!(dns(json!([{"podSelector": {}}]), both), [false, false], "not in the pod's namespace");
    assert_eq!(dns(kube_dns, json!([{"port": 80}])), [false, false]);
}

#[test]
fn no_gap_opens_while_a_pod_is_not_known() {
    let mut all = world();
    all.put_policy(&policy("a", "one", json!({"podSelector": {"matchLabels": {"app": "api"}}, "ingress": [{}]})));
    let (new, web) = (source("a", "new"), source("a", "web"));
    let enter = |all: &Policies| all.may_enter(&new, Party::Pod(&web, ip(1)), Protocol::Tcp, 80);
    assert!(!all.knows(&new) && !enter(&all), "the policy may be for it");
    assert!(all.may_leave(&new, Party::Pod(&web, ip(1)), Protocol::Tcp, 80), "no policy isolates that way");
    assert!(!all.is_open(&new) && all.is_open(&web) && all.is_open(&source("b", "new")));
    all.put_policy(&policy(
        "a",
        "all",
        json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]}),
    ));
    assert!(enter(&all), "this one is for it");
    // One of its name that has gone is not it.
    all.put_pod(&pod("a", "new", 9, json!({"app": "api"})));
    assert!(enter(&all) && all.knows(&new));
    let other = SourcePod { uid: "other".into(), ..new.clone() };
    assert!(!all.knows(&other) && !all.may_enter(&web, Party::Pod(&other, ip(9)), Protocol::Tcp, 80));
    // As a peer it is a pod of its namespace and no more.
    let mut peers = world();
    let from = |from: Value| policy("a", "p", json!({"podSelector": {}, "ingress": [{ "from": from }]}));
    let enter = |all: &Policies| all.may_enter(&web, Party::Pod(&source("b", "new"), ip(9)), Protocol::Tcp, 80);
    for (peer, want) in [
        (json!([{"namespaceSelector": {"matchLabels": {"team": "blue"}}}]), true),
        (
            json!([{"namespaceSelector": {}, "podSelector": {"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}}]),
            false,
        ),
    ] {
        peers.put_policy(&from(peer));
        assert_eq!(enter(&peers), want);
    }
}

#[test]
fn a_change_is_news_only_if_it_may_change_a_decision() {
    let mut all = world();
    assert!(!all.put_pod(&pod("a", "web", 1, json!({"app": "web"}))), "another status");
    assert!(all.put_pod(&pod("a", "web", 1, json!({"app": "new"}))));
    assert!(!all.put_namespace(&namespace("a", json!({"team": "red"}))));
    assert!(all.put_namespace(&namespace("a", json!({"team": "blue"}))));
    assert!(all.keep_namespaces([&namespace("a", json!({}))]) && !all.keep_namespaces([&namespace("a", json!({}))]));
    all.put_policy(&policy("b", "p", json!({"podSelector": {}})));
    assert!(!all.keep_policies([&policy("b", "p", json!({}))]) && all.keep_policies([]) && all.is_empty());
}

/// Something that happens to the world.
#[derive(Clone, Debug)]
enum Event {
    Namespace(usize, Option<Value>),
    Pod(usize, Option<Value>),
    Policy(usize, usize, Option<Value>),
}

const NAMESPACES: [&str; 2] = ["a", "b"];

fn labels() -> impl Strategy<Value = Value> {
    let value = prop::option::of(prop::sample::select(vec!["0", "1"]));
    (value.clone(), value).prop_map(|(x, y)| {
        let all = [("x", x), ("y", y)].into_iter().filter_map(|(k, v)| Some((k.to_string(), v?.into())));
        Value::Object(all.collect())
    })
}

fn selector() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec!["x", "y"]);
    let value = prop::sample::select(vec!["0", "1"]);
    prop_oneof![
        Just(json!({})),
        (key.clone(), value.clone()).prop_map(|(k, v)| json!({"matchLabels": { k: v }})),
        (key.clone(), value, prop::bool::ANY).prop_map(|(k, v, is)| {
            json!({"matchExpressions": [{"key": k, "operator": if is { "In" } else { "NotIn" }, "values": [v]}]})
        }),
        (key, prop::bool::ANY).prop_map(|(k, is)| {
            json!({"matchExpressions": [{"key": k, "operator": if is { "Exists" } else { "DoesNotExist" }}]})
        }),
    ]
}

fn peer() -> impl Strategy<Value = Value> {
    prop_oneof![
        selector().prop_map(|s| json!({"podSelector": s})),
        selector().prop_map(|s| json!({"namespaceSelector": s})),
        (selector(), selector()).prop_map(|(n, p)| json!({"namespaceSelector": n, "podSelector": p})),
        (30u8..=32, 0u8..8, prop::option::of(0u8..8)).prop_map(|(bits, n, except)| {
            let except: Vec<String> = except.into_iter().map(|n| format!("10.244.0.{n}/32")).collect();
            json!({"ipBlock": {"cidr": format!("10.244.0.{n}/{bits}"), "except": except}})
        }),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = prop::option::of(prop::sample::select(vec!["TCP", "UDP", "SCTP"]));
    let which = prop_oneof![
        Just(json!({})),
        (8000u16..8008).prop_map(|n| json!({"port": n})),
        (8000u16..8008, 0u16..4).prop_map(|(n, more)| json!({"port": n, "endPort": n + more})),
        prop::sample::select(vec!["http", "dns", "none"]).prop_map(|n| json!({"port": n})),
    ];
    (protocol, which).prop_map(|(protocol, mut port)| {
        if let Some(protocol) = protocol {
            port["protocol"] = protocol.into();
        }
        port
    })
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (prop::collection::vec(peer(), 0..3), prop::collection::vec(port(), 0..3))
        .prop_map(move |(who, ports)| json!({peers: who, "ports": ports}));
    prop::collection::vec(rule, 0..3).prop_map(Value::Array)
}

fn spec() -> impl Strategy<Value = Value> {
    let types = prop::sample::subsequence(vec!["Ingress", "Egress"], 0..=2);
    (selector(), types, rules("from"), rules("to")).prop_map(|(pods, types, ingress, egress)| {
        json!({"podSelector": pods, "policyTypes": types, "ingress": ingress, "egress": egress})
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (0..2usize, prop::option::weighted(0.8, labels())).prop_map(|(n, l)| Event::Namespace(n, l)),
        3 => (0..PODS.len(), prop::option::weighted(0.8, labels())).prop_map(|(n, l)| Event::Pod(n, l)),
        3 => (0..2usize, 0..2usize, prop::option::weighted(0.8, spec())).prop_map(|(ns, n, s)| Event::Policy(ns, n, s)),
    ]
}

/// Whose policies are asked; who is at the other end, if it is a pod, whether that is known by who it is, and its address;
/// which port.
type Question = (usize, Option<usize>, bool, IpAddr, (Protocol, u16));

/// Every question about the pods.
fn questions() -> impl Iterator<Item = Question> {
    let pods = || 0..PODS.len();
    let ends = pods().flat_map(move |own| pods().map(move |other| (own, other)));
    ends.flat_map(|(own, other)| {
        let (here, there) = (PODS[own].2, PODS[other].2);
        let at = [(Protocol::Tcp, here), (Protocol::Tcp, there), (Protocol::Tcp, 7)];
        let at = at.map(|(protocol, n)| (protocol, 8000 + u16::from(n)));
        at.into_iter().chain([(Protocol::Udp, 53)]).flat_map(move |at| {
            let known = |by_name| (own, Some(other), by_name, ip(there), at);
            // A pod is itself by who it is, not by its address.
            let by_address = (own != other).then(|| known(false));
            [Some(known(true)), by_address, Some((own, None, false, ip(there + 4), at))].into_iter().flatten()
        })
    })
}

/// Whether it may enter, and whether it may leave.
fn asked(all: &Policies, (own, other, by_name, address, (protocol, port)): Question) -> [bool; 2] {
    let (own, other) = (source(PODS[own].0, PODS[own].1), other.map(|n| source(PODS[n].0, PODS[n].1)));
    let party = other.as_ref().filter(|_| by_name).map_or(Party::Address(address), |o| Party::Pod(o, address));
    [all.may_enter(&own, party, protocol, port), all.may_leave(&own, party, protocol, port)]
}

proptest! {
    #[test]
    fn whatever_has_happened_decisions_are_those_of_the_naive_reading(events in prop::collection::vec(event(), 1..24)) {
        let (mut all, mut plain) = (Policies::default(), naive::World::default());
        for event in events {
            let before = all.clone();
            let news = match &event {
                Event::Namespace(n, Some(labels)) => all.put_namespace(&namespace(NAMESPACES[*n], labels.clone())),
                Event::Namespace(n, None) => all.remove_namespace(NAMESPACES[*n]),
                Event::Pod(n, Some(labels)) => all.put_pod(&pod(PODS[*n].0, PODS[*n].1, PODS[*n].2, labels.clone())),
                Event::Pod(n, None) => all.remove_pod(PODS[*n].0, PODS[*n].1),
                Event::Policy(ns, n, Some(spec)) => all.put_policy(&policy(NAMESPACES[*ns], &format!("p{n}"), spec.clone())),
                Event::Policy(ns, n, None) => all.remove_policy(NAMESPACES[*ns], &format!("p{n}")),
            };
            plain.take(&event);
            prop_assert_eq!(all.is_empty(), plain.policies.is_empty());
            if !news {
                prop_assert!(questions().all(|q| asked(&all, q) == asked(&before, q)), "no news of {:?}", event);
            }
        }
        for question in questions() {
            let (own, other, _, address, at) = question;
            // Of whom nothing is known there is no naive reading.
            if plain.pods.contains_key(&own) && other.is_none_or(|other| plain.pods.contains_key(&other)) {
                let want = [true, false].map(|enters| plain.may(enters, own, other, address, at));
                prop_assert_eq!(asked(&all, question), want, "enter, leave: {:?}", question);
            }
        }
    }
}
