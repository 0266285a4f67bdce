use super::*;
use crate::refs::ServicePort;
use serde_json::json;

struct Known;

impl Refs for Known {
    fn config_map(&self, _: &str, name: &str, _: Time) -> Lookup {
        match name {
            "cm" => Lookup::Found(Arc::new(
                [("A", "1"), ("b=d", "x"), ("C-D", "3")].map(|(k, v)| (k.into(), v.into())).into(),
            )),
            "later" => Lookup::Unknown,
            _ => Lookup::Missing,
        }
    }
    fn secret(&self, _: &str, name: &str, _: Time) -> Lookup {
        if name == "s" {
            Lookup::Found(Arc::new([("k".to_string(), b"hush".to_vec())].into()))
        } else {
            Lookup::Missing
        }
    }
    fn services(&self, namespace: &str) -> Vec<ServiceRecord> {
        let port = |name: &str, port| ServicePort { name: name.into(), port, protocol: "TCP".into() };
        match namespace {
            "default" => vec![ServiceRecord {
                name: "kubernetes".into(),
                ip: "10.96.0.1".into(),
                ports: vec![port("https", 443)],
            }],
            _ => vec![ServiceRecord { name: "my-db".into(), ip: "10.96.0.7".into(), ports: vec![port("", 5432)] }],
        }
    }
}

fn run(container: serde_json::Value, spec: serde_json::Value) -> (Result<BTreeMap<String, String>, EnvError>, Found) {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"app": "x"}, "annotations": {"a/b": "y"}},
        "spec": spec,
    });
    let mut c = container;
    c["name"] = "c".into();
    pod["spec"]["containers"] = json!([c]);
    pod["spec"]["serviceAccountName"] = "sa".into();
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let mut node = crate::node::NodeFacts::example();
    node.second_host_ip = Some("2001:db8::1".parse().unwrap());
    let mut found = Found::default();
    let source =
        Source { pod: &pod, ip: "10.244.0.9".parse().unwrap(), node: &node, refs: &Known, now: Time::from_secs(1) };
    let env = resolve(&source, &pod.spec.as_ref().unwrap().containers[0], "host", &mut found);
    (env.map(|l| l.into_iter().collect()), found)
}

#[test]
fn every_source_resolves() {
    let env = json!({
        "envFrom": [{"configMapRef": {"name": "cm"}, "prefix": "P_"}, {"secretRef": {"name": "none", "optional": true}},
            {"secretRef": {"name": "s"}, "prefix": "S_"}],
        "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}},
        "env": [
            {"name": "X", "value": "1"}, {"name": "Y", "value": "$(X)-$(P_A)-$(Z)"}, {"name": "P_A", "value": "own"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            {"name": "UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NOTE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.annotations['a/b']"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "SA", "valueFrom": {"fieldRef": {"fieldPath": "spec.serviceAccountName"}}},
            {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "HOST_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "HUSH", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {"name": "GONE", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "zz", "optional": true}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MCPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
            {"name": "NODEMEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
        ],
    });
    let (got, found) = run(env, json!({}));
    let got = got.unwrap();
    for (k, v) in [
        ("X", "1"),
        ("Y", "1-1-$(Z)"),
        ("P_A", "own"),
        ("P_C-D", "3"),
        ("S_k", "hush"),
        ("NAME", "p"),
        ("NAMESPACE", "ns"),
        ("UID", "u"),
        ("HOST_IP", "192.0.2.1"),
        ("HOST_IPS", "192.0.2.1,2001:db8::1"),
        ("LABEL", "x"),
        ("NOTE", "y"),
        ("NODE", "node"),
        ("SA", "sa"),
        ("IP", "10.244.0.9"),
        ("IPS", "10.244.0.9"),
        ("HUSH", "hush"),
        ("CPU", "2"),
        ("MCPU", "1500"),
        ("MEM", "100"),
        ("HOSTNAME", "host"),
        ("NODEMEM", "1073741824"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
        ("MY_DB_SERVICE_PORT", "5432"),
        ("MY_DB_PORT_5432_TCP_ADDR", "10.96.0.7"),
        ("MY_DB_PORT", "tcp://10.96.0.7:5432"),
    ] {
        assert_eq!(got.get(k).map(String::as_str), Some(v), "{k}");
    }
    assert!(!got.contains_key("GONE") && !got.contains_key("P_b=d"));
    assert!(
        found.skipped[0].starts_with("Keys [P_b=d] from the EnvFrom configMap ns/cm were skipped"),
        "{:?}",
        found.skipped
    );
}

#[test]
fn links_can_be_switched_off_except_for_the_api() {
    let got = run(json!({}), json!({"enableServiceLinks": false})).0.unwrap();
    assert!(got.contains_key("KUBERNETES_SERVICE_HOST") && !got.contains_key("MY_DB_SERVICE_HOST"));
}

#[test]
fn what_is_missing_is_named_as_the_kubelet_does() {
    for (env, want) in [
        (
            json!({"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "k"}}}]}),
            "configmap \"no\" not found",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "no", "key": "k"}}}]}),
            "secret \"no\" not found",
        ),
        (
            json!({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "q"}}}]}),
            "couldn't find key q in Secret ns/s",
        ),
        (json!({"envFrom": [{"configMapRef": {"name": "no"}}]}), "configmap \"no\" not found"),
        (
            json!({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "status.x"}}}]}),
            "unsupported fieldPath: status.x",
        ),
    ] {
        assert_eq!(run(env, json!({})).0, Err(EnvError::Config(want.into())));
    }
}

#[test]
fn what_is_unknown_is_asked_for_all_at_once() {
    let env = json!({"envFrom": [{"configMapRef": {"name": "later"}}],
        "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "later", "key": "k"}}}]});
    let (got, found) = run(env, json!({}));
    assert_eq!(got, Err(EnvError::Unknown));
    assert_eq!(found.fetch.len(), 1);
}
