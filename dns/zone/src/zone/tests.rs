use copepod_model::Key;
use copepod_model::facts::SERVICE_NAME_LABEL;
use copepod_model::object::{encode, with_revision};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn object(resource: &str, namespace: &str, name: &str, value: Value) -> Object {
    Object::decode(Key::new(resource, namespace, name), 1, with_revision(&encode(&value), 1))
}

fn service(name: &str, spec: Value) -> Object {
    object("services", "shop", name, json!({"metadata": {"name": name}, "spec": spec}))
}

fn slice(service: &str, ports: Value, endpoints: Value) -> Object {
    let metadata = json!({"labels": {SERVICE_NAME_LABEL: service}});
    object("endpointslices", "shop", service, json!({"metadata": metadata, "ports": ports, "endpoints": endpoints}))
}

pub(crate) fn example() -> Zone {
    let services = [
        service(
            "web",
            json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
            "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}),
        ),
        service(
            "dual",
            json!({"clusterIPs": ["10.96.0.8", "fd00::8"], "clusterIP": "10.96.0.8", "ports": [{"port": 1}]}),
        ),
        service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
        service("empty", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
        service("ext", json!({"type": "ExternalName", "externalName": "WWW.example.com."})),
    ];
    let slices = [
        slice(
            "db",
            json!([{"name": "sql", "port": 15432}]),
            json!([
            {"addresses": ["10.244.0.5"], "hostname": "db-0"},
            {"addresses": ["10.244.0.6"]},
            {"addresses": ["10.244.0.7"], "hostname": "db-2", "conditions": {"ready": false}}]),
        ),
        slice(
            "empty",
            json!([{"name": "sql", "port": 1}]),
            json!([
            {"addresses": ["10.244.0.9"], "conditions": {"ready": false}}]),
        ),
        slice("web", json!([{"name": "http", "port": 8080}]), json!([{"addresses": ["10.244.0.20"], "hostname": "w"}])),
    ];
    let namespaces = [object("namespaces", "", "quiet", json!({"metadata": {"name": "quiet"}}))];
    let config = Config {
        dns_ip: Some("10.96.0.10".parse().unwrap()),
        networks: vec![("10.244.0.0".parse().unwrap(), 16), ("fd00::".parse().unwrap(), 64)],
        ..Config::default()
    };
    Zone::build(&namespaces, &services, &slices, config)
}

/// An answer in one line.
fn show(answer: &Answer) -> String {
    let Answer::Records(r) = answer else { return format!("{answer:?}") };
    let one = |r: &Record| match &r.data {
        Data::A(ip) => ip.to_string(),
        Data::Aaaa(ip) => ip.to_string(),
        Data::Srv { port, target, .. } => format!("{port} {target}"),
        Data::Cname(n) | Data::Ns(n) | Data::Ptr(n) | Data::Txt(n) => n.clone(),
        Data::Soa { mname, rname, .. } => format!("{mname} {rname}"),
    };
    r.answers.iter().map(one).collect::<Vec<_>>().join(", ")
}

#[test]
fn answers_by_the_specification() {
    use RecordType::*;
    let zone = example();
    let (nx, nodata) = ("NxDomain", "NoData");
    for (name, rtype, want) in [
        ("dns-version.cluster.local", Txt, "1.1.0"),
        ("dns-version.cluster.local", A, nodata),
        // A Service with an address.
        ("web.shop.svc.cluster.local", A, "10.96.0.7"),
        ("WEB.Shop.svc.CLUSTER.local.", A, "10.96.0.7"),
        ("web.shop.svc.cluster.local", Aaaa, nodata),
        // Every port, whether it has a name or not.
        ("web.shop.svc.cluster.local", Srv, "53 web.shop.svc.cluster.local, 80 web.shop.svc.cluster.local"),
        ("dual.shop.svc.cluster.local", Srv, "1 dual.shop.svc.cluster.local"),
        ("_._tcp.dual.shop.svc.cluster.local", Srv, nx),
        (
            "db.shop.svc.cluster.local",
            Srv,
            "15432 10-244-0-6.db.shop.svc.cluster.local, 15432 db-0.db.shop.svc.cluster.local",
        ),
        ("empty.shop.svc.cluster.local", Srv, nx),
        ("web.shop.svc.cluster.local", Other(15), nodata),
        ("web.shop.svc.cluster.local", Any, "10.96.0.7"),
        ("dual.shop.svc.cluster.local", Aaaa, "fd00::8"),
        ("_http._tcp.web.shop.svc.cluster.local", Srv, "80 web.shop.svc.cluster.local"),
        ("_dns._udp.web.shop.svc.cluster.local", Srv, "53 web.shop.svc.cluster.local"),
        ("_http._udp.web.shop.svc.cluster.local", Srv, nx),
        ("_http._tcp.web.shop.svc.cluster.local", A, nodata),
        ("_tcp.web.shop.svc.cluster.local", Srv, nodata),
        ("_sctp.web.shop.svc.cluster.local", Srv, nx),
        ("http.tcp.web.shop.svc.cluster.local", Srv, nx),
        ("_http._tcp.dual.shop.svc.cluster.local", Srv, nx),
        ("w.web.shop.svc.cluster.local", A, nx),
        ("7.0.96.10.in-addr.arpa", Ptr, "web.shop.svc.cluster.local"),
        ("7.0.96.10.in-addr.arpa.", A, nodata),
        // A headless one.
        ("db.shop.svc.cluster.local", A, "10.244.0.6, 10.244.0.5"),
        ("db.shop.svc.cluster.local", Aaaa, nodata),
        ("db-0.db.shop.svc.cluster.local", A, "10.244.0.5"),
        ("DB-0.db.shop.svc.cluster.local", Aaaa, nodata),
        ("10-244-0-6.db.shop.svc.cluster.local", A, "10.244.0.6"),
        ("db-2.db.shop.svc.cluster.local", A, nx),
        (
            "_sql._tcp.db.shop.svc.cluster.local",
            Srv,
            "15432 10-244-0-6.db.shop.svc.cluster.local, 15432 db-0.db.shop.svc.cluster.local",
        ),
        ("5.0.244.10.in-addr.arpa", Ptr, "db-0.db.shop.svc.cluster.local"),
        ("empty.shop.svc.cluster.local", A, nx),
        ("_sql._tcp.empty.shop.svc.cluster.local", Srv, nx),
        // An alias.
        ("ext.shop.svc.cluster.local", Cname, "www.example.com"),
        ("ext.shop.svc.cluster.local", A, "External(\"www.example.com\")"),
        ("x.ext.shop.svc.cluster.local", A, nx),
        // Names made of addresses.
        ("10-244-0-5.shop.pod.cluster.local", A, "10.244.0.5"),
        ("10-244-0-5.shop.pod.cluster.local", Aaaa, nodata),
        ("fd00--5.shop.pod.cluster.local", Aaaa, "fd00::5"),
        ("10-244-0.shop.pod.cluster.local", A, nx),
        ("10-244-0-5.nobody.pod.cluster.local", A, nx),
        // Names in between exist.
        ("cluster.local", A, nodata),
        ("cluster.local", Soa, "ns.dns.cluster.local hostmaster.cluster.local"),
        ("cluster.local", Ns, "ns.dns.cluster.local"),
        ("ns.dns.cluster.local", A, "10.96.0.10"),
        ("dns.cluster.local", A, nodata),
        ("svc.cluster.local", A, nodata),
        ("pod.cluster.local", A, nodata),
        ("shop.svc.cluster.local", A, nodata),
        ("quiet.svc.cluster.local", A, nodata),
        ("quiet.pod.cluster.local", A, nodata),
        ("nobody.svc.cluster.local", A, nx),
        ("nobody.pod.cluster.local", A, nx),
        ("missing.shop.svc.cluster.local", A, nx),
        ("a.b.c.web.shop.svc.cluster.local", A, nx),
        ("other.cluster.local", A, nx),
        (".cluster.local", A, nx),
        // Reverse names of our networks are ours even when free.
        ("99.0.244.10.in-addr.arpa", Ptr, nx),
        ("99.0.9.10.in-addr.arpa", Ptr, "NotOurs"),
        (
            "8.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa",
            Ptr,
            "dual.shop.svc.cluster.local",
        ),
        ("9.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", Ptr, nx),
        ("1.244.10.in-addr.arpa", Ptr, "NotOurs"),
        // Everything else is not.
        ("example.com", A, "NotOurs"),
        ("notcluster.local", A, "NotOurs"),
        ("", A, "NotOurs"),
    ] {
        assert_eq!(show(&zone.lookup(name, rtype)), want, "{name} {rtype:?}");
    }
}

#[test]
fn locations_bring_their_addresses() {
    let Answer::Records(r) = example().lookup("_sql._tcp.db.shop.svc.cluster.local", RecordType::Srv) else { panic!() };
    let names: Vec<_> = r.additional.iter().map(|r| (r.name.as_str(), r.data.ip().unwrap().to_string())).collect();
    assert_eq!(
        names,
        [
            ("10-244-0-6.db.shop.svc.cluster.local", "10.244.0.6".to_string()),
            ("db-0.db.shop.svc.cluster.local", "10.244.0.5".to_string())
        ]
    );
    assert_eq!(r.ttl, 5);
    assert_eq!(r.answers[0].name, "_sql._tcp.db.shop.svc.cluster.local");
}

#[test]
fn endpoints_of_both_families_share_their_names() {
    let ports = json!([{"name": "sql", "port": 1}]);
    let headless = service("db", json!({"clusterIP": "None", "ipFamilies": ["IPv4", "IPv6"], "ports": ports}));
    let of =
        |ip: &str| slice("db", json!([{"name": "sql", "port": 2}]), json!([{"addresses": [ip], "hostname": "db-0"}]));
    let zone = example().with_service("shop", "db", Some(&headless), &[of("10.244.0.5"), of("fd00::5")]);
    use RecordType::{A, Aaaa, Ptr, Srv};
    let host = "db-0.db.shop.svc.cluster.local";
    for (name, rtype, want) in [
        ("db.shop.svc.cluster.local", A, "10.244.0.5"),
        ("db.shop.svc.cluster.local", Aaaa, "fd00::5"),
        (host, A, "10.244.0.5"),
        (host, Aaaa, "fd00::5"),
        ("_sql._tcp.db.shop.svc.cluster.local", Srv, "2 db-0.db.shop.svc.cluster.local"),
        ("5.0.244.10.in-addr.arpa", Ptr, host),
        ("5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa", Ptr, host),
    ] {
        assert_eq!(show(&zone.lookup(name, rtype)), want, "{name} {rtype:?}");
    }
    let Answer::Records(r) = zone.lookup("_sql._tcp.db.shop.svc.cluster.local", Srv) else { panic!() };
    let beside: Vec<_> = r.additional.iter().filter_map(|r| Some(r.data.ip()?.to_string())).collect();
    assert_eq!(beside, ["10.244.0.5", "fd00::5"]);
}

#[test]
fn a_change_leaves_nothing_behind() {
    let zone = example();
    let none: [Object; 0] = [];
    let without = zone.with_service("shop", "db", None, &none);
    for name in ["db.shop.svc.cluster.local", "5.0.244.10.in-addr.arpa"] {
        assert_eq!(without.lookup(name, RecordType::Any), Answer::NxDomain, "{name}");
        assert_ne!(zone.lookup(name, RecordType::Any), Answer::NxDomain, "{name}");
    }
    let web = service("web", json!({"clusterIP": "10.96.0.70", "ports": []}));
    let moved = without.with_service("shop", "web", Some(&web), &none);
    assert_eq!(show(&moved.lookup("web.shop.svc.cluster.local", RecordType::A)), "10.96.0.70");
    assert_eq!(moved.lookup("7.0.96.10.in-addr.arpa", RecordType::Ptr), Answer::NotOurs);
    let gone = ["web", "dual", "empty", "ext"].iter().fold(moved, |z, name| z.with_service("shop", name, None, &none));
    assert_eq!(gone.lookup("shop.svc.cluster.local", RecordType::A), Answer::NxDomain);
    assert!(gone.reverse.is_empty());
}

proptest! {
    /// No question makes the zone fail, and what has records of some type is never denied for another (RFC 2308).
    #[test]
    fn a_name_exists_for_all_types_or_for_none(
        labels in prop::collection::vec("(_?[a-z0-9-]{0,9}|web|db|shop|svc|pod|_sql|_tcp|10-244-0-5|db-0)", 0..7),
        numbers in (any::<u16>(), any::<u16>()),
    ) {
        let zone = example();
        let name = labels.into_iter().chain(["cluster.local".into()]).collect::<Vec<_>>().join(".");
        let a = zone.lookup(&name, numbers.0.into());
        let b = zone.lookup(&name.to_uppercase(), numbers.1.into());
        prop_assert_eq!(a == Answer::NxDomain, b == Answer::NxDomain, "{}", name);
        prop_assert_ne!(a, Answer::NotOurs);
    }
}
