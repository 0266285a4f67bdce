//! Which port of which pod a proxied request goes to (registry/core `pod.ResourceLocation`,
//! `service/storage.REST.ResourceLocation`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use copepod_machine::View;
use copepod_model::facts::{EndpointSliceFacts, SERVICE_NAME_LABEL};
use copepod_model::{Object, Status};
use serde_json::Value;

const SLICES: &str = "endpointslices.discovery.k8s.io";

/// A port of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// The node that has the pod.
    pub node: String,
    /// The pod's namespace.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// Whether it is to be spoken to over TLS.
    pub https: bool,
    /// Address and port.
    pub to: SocketAddr,
    /// The host of the URL that upstream would dial: the port is left out where nobody names one.
    pub host: String,
}

impl Target {
    /// The beginning of the path by which a node is asked for it; the pod's own path follows.
    pub fn at_node(&self) -> String {
        let Target { namespace, pod, to, .. } = self;
        let scheme = if self.https { "https" } else { "http" };
        format!("/podProxy/{namespace}/{pod}/{scheme}/{}/{}", to.ip(), to.port())
    }
}

/// `[scheme:]name[:port]`.
struct Id<'a> {
    https: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Id<'a> {
    fn parse(id: &'a str) -> Option<Id<'a>> {
        let (scheme, name, port) = match id.split(':').collect::<Vec<_>>()[..] {
            [name] => ("", name, ""),
            [name, port] => ("", name, port),
            [scheme, name, port] => (scheme, name, port),
            _ => return None,
        };
        let good = !name.is_empty() && matches!(scheme, "" | "http" | "https");
        good.then_some(Id { https: scheme == "https", name, port })
    }
}

/// The port of a pod that `id` names; without one it is the first that a container declares, or that of the scheme.
pub(super) fn of_pod(view: &dyn View, namespace: &str, id: &str) -> Result<Target, Status> {
    let Some(Id { https, name, port }) = Id::parse(id) else {
        return Err(Status::bad_request(format!("invalid pod request {id:?}")));
    };
    let pod = view.get("pods", namespace, name).ok_or_else(|| Status::not_found("pods", name))?;
    let value = pod.value();
    let containers = value["spec"]["containers"].as_array().into_iter().flatten();
    let declared = containers.map(|c| &c["ports"][0]["containerPort"]).find_map(Value::as_u64);
    let port = match (port, declared) {
        ("", Some(declared)) => declared.to_string(),
        (port, _) => port.to_string(),
    };
    let ip = ips(&value).next().filter(|ip| is_global_unicast(*ip));
    let ip = ip.ok_or_else(|| Status::bad_request("address not allowed"))?;
    let (number, host) = match port.as_str() {
        "" if ip.is_ipv6() => (if https { 443 } else { 80 }, format!("[{ip}]")),
        "" => (if https { 443 } else { 80 }, ip.to_string()),
        port => {
            let number = number(port).map_err(|why| unreachable(&why))?;
            (number, SocketAddr::new(ip, number).to_string())
        }
    };
    Ok(target(&pod, https, SocketAddr::new(ip, number), host))
}

/// A ready endpoint of a Service's port, which `id` names by its name or number; an unnamed port needs none. `seed` chooses.
pub(super) fn of_service(view: &dyn View, namespace: &str, id: &str, seed: u64) -> Result<Target, Status> {
    let Some(Id { https, name, port }) = Id::parse(id) else {
        return Err(Status::bad_request(format!("invalid service request {id:?}")));
    };
    let service = view.get("services", namespace, name).ok_or_else(|| Status::not_found("services", name))?;
    let value;
    let wanted = match port.parse::<i64>() {
        Err(_) => port,
        Ok(number) => {
            value = service.value();
            let mut ports = value["spec"]["ports"].as_array().into_iter().flatten();
            let found = ports
                .find(|p| p["port"].as_i64() == Some(number))
                .ok_or_else(|| Status::unavailable(format!("no service port {number} found for service {name:?}")))?;
            found["name"].as_str().unwrap_or_default()
        }
    };
    let slices = view.list(SLICES, Some(namespace));
    let slices: Vec<Arc<Object>> =
        slices.filter(|s| s.meta.labels.get(SERVICE_NAME_LABEL).is_some_and(|of| **of == *name)).collect();
    let (mut any, mut ready) = (false, Vec::new());
    for slice in &slices {
        let facts = slice.facts::<EndpointSliceFacts>();
        any |= !facts.endpoints.is_empty();
        let ports = facts.ports.iter().filter(|(n, protocol, _)| n == wanted && protocol == "TCP");
        let Some((.., port)) = ports.into_iter().next() else { continue };
        let value = slice.value();
        for endpoint in value["endpoints"].as_array().into_iter().flatten() {
            let refers = &endpoint["targetRef"];
            // An address that is no pod's may be anybody's: nobody is helped to reach those.
            let is_pod = refers["kind"] == "Pod" && refers["namespace"] == namespace;
            if is_pod && endpoint["conditions"]["ready"] != false {
                let pod = refers["name"].as_str().unwrap_or_default().to_string();
                let ip = endpoint["addresses"][0].as_str().and_then(|a| a.parse::<IpAddr>().ok());
                ready.extend(ip.map(|ip| (pod, SocketAddr::new(ip, *port))));
            }
        }
    }
    if !any {
        return Err(Status::unavailable(format!("no endpoints available for service {name:?}")));
    }
    let first = usize::try_from(seed % ready.len().max(1) as u64).unwrap_or(0);
    let found = ready[first..].iter().chain(&ready[..first]).find_map(|(name, to)| {
        let pod = view.get("pods", namespace, name)?;
        let has = ips(&pod.value()).any(|ip| ip == to.ip());
        has.then(|| target(&pod, https, *to, to.to_string()))
    });
    found.ok_or_else(|| Status::unavailable(format!("no endpoints available for service {id:?}")))
}

fn target(pod: &Object, https: bool, to: SocketAddr, host: String) -> Target {
    let node = pod.meta.node_name.as_deref().unwrap_or_default().to_string();
    Target { node, namespace: pod.namespace().into(), pod: pod.name().into(), https, to, host }
}

/// The addresses of a pod.
fn ips(pod: &Value) -> impl Iterator<Item = IpAddr> {
    let ips = pod["status"]["podIPs"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["ip"].as_str()?.parse().ok())
}

/// Go's `net.IP.IsGlobalUnicast`.
fn is_global_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_link_local() || ip.is_broadcast())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

/// A port that can be dialled; the error is that of Go's dialler.
fn number(port: &str) -> Result<u16, String> {
    match port.parse::<u64>() {
        Ok(number) => {
            let fits = u16::try_from(number).ok().filter(|n| *n > 0);
            fits.ok_or_else(|| format!("dial tcp: address {port}: invalid port"))
        }
        Err(_) => Err(format!("dial tcp: lookup tcp/{port}: unknown port")),
    }
}

fn unreachable(why: &str) -> Status {
    Status::unavailable(format!("error trying to reach service: {why}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use copepod_model::{Key, object};
    use serde_json::json;

    use super::*;

    #[derive(Default)]
    struct Store(BTreeMap<Key, Arc<Object>>);

    impl Store {
        fn put(&mut self, resource: &str, name: &str, value: Value) {
            let key = Key::new(resource, "ns", name);
            let body = object::with_revision(&object::encode(&value), 1);
            self.0.insert(key.clone(), Arc::new(Object::decode(key, 1, body)));
        }

        fn pod(&mut self, name: &str, ip: &str, ports: Value) {
            let spec = json!({"nodeName": "n", "containers": [{"name": "a"}, {"name": "b", "ports": ports}]});
            let ips: Vec<Value> = if ip.is_empty() { vec![] } else { vec![json!({"ip": ip})] };
            let meta = json!({"name": name, "namespace": "ns"});
            self.put("pods", name, json!({"metadata": meta, "spec": spec, "status": {"podIPs": ips}}));
        }

        fn slice(&mut self, name: &str, service: &str, ports: Value, endpoints: Value) {
            let labels = json!({SERVICE_NAME_LABEL: service});
            let meta = json!({"name": name, "namespace": "ns", "labels": labels});
            self.put(SLICES, name, json!({"metadata": meta, "ports": ports, "endpoints": endpoints}));
        }
    }

    impl View for Store {
        fn revision(&self) -> u64 {
            1
        }
        fn get(&self, resource: &str, namespace: &str, name: &str) -> Option<Arc<Object>> {
            self.0.get(&Key::new(resource, namespace, name)).cloned()
        }
        fn list(&self, resource: &str, namespace: Option<&str>) -> Box<dyn Iterator<Item = Arc<Object>> + '_> {
            let (resource, namespace) = (resource.to_string(), namespace.map(str::to_string));
            let fits =
                move |k: &Key| *k.resource == *resource && namespace.as_deref().is_none_or(|n| n == &*k.namespace);
            Box::new(self.0.iter().filter(move |(k, _)| fits(k)).map(|(_, o)| o.clone()))
        }
    }

    fn said(target: Result<Target, Status>) -> String {
        match target {
            Ok(t) => format!("{} {}", t.host, t.at_node()),
            Err(e) => format!("{} {}", e.code, e.message),
        }
    }

    fn ready(pod: &str, ip: &str) -> Value {
        json!({"addresses": [ip], "conditions": {"ready": true}, "targetRef": {"kind": "Pod", "name": pod, "namespace": "ns"}})
    }

    #[test]
    fn a_pod_by_its_port_or_the_first_that_it_declares() {
        let mut s = Store::default();
        s.pod("p", "10.244.0.7", json!([{"containerPort": 8080}, {"containerPort": 9090}]));
        s.pod("bare", "10.244.0.8", json!([]));
        s.pod("six", "fd00::7", json!([]));
        s.pod("new", "", json!([]));
        s.pod("odd", "127.0.0.1", json!([]));
        let reach = "503 error trying to reach service: dial tcp: ";
        for (id, want) in [
            ("p", "10.244.0.7:8080 /podProxy/ns/p/http/10.244.0.7/8080".to_string()),
            ("p:9090", "10.244.0.7:9090 /podProxy/ns/p/http/10.244.0.7/9090".into()),
            ("https:p:", "10.244.0.7:8080 /podProxy/ns/p/https/10.244.0.7/8080".into()),
            ("bare", "10.244.0.8 /podProxy/ns/bare/http/10.244.0.8/80".into()),
            ("https:bare:", "10.244.0.8 /podProxy/ns/bare/https/10.244.0.8/443".into()),
            ("six", "[fd00::7] /podProxy/ns/six/http/fd00::7/80".into()),
            ("six:81", "[fd00::7]:81 /podProxy/ns/six/http/fd00::7/81".into()),
            ("new", "400 address not allowed".into()),
            ("odd", "400 address not allowed".into()),
            ("gone", "404 pods \"gone\" not found".into()),
            ("ftp:p:21", "400 invalid pod request \"ftp:p:21\"".into()),
            ("a:b:c:d", "400 invalid pod request \"a:b:c:d\"".into()),
            (":80", "400 invalid pod request \":80\"".into()),
            ("p:web", format!("{reach}lookup tcp/web: unknown port")),
            ("p:70000", format!("{reach}address 70000: invalid port")),
        ] {
            assert_eq!(said(of_pod(&s, "ns", id)), want, "{id}");
        }
    }

    #[test]
    fn a_service_by_a_ready_pod_of_a_port_with_that_name_or_number() {
        let mut s = Store::default();
        s.pod("a", "10.244.0.1", json!([]));
        s.pod("b", "10.244.0.2", json!([]));
        let spec = json!({"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]});
        s.put("services", "web", json!({"metadata": {"name": "web"}, "spec": spec}));
        s.put("services", "one", json!({"metadata": {"name": "one"}, "spec": {"ports": [{"port": 80}]}}));
        s.put("services", "none", json!({"metadata": {"name": "none"}, "spec": {"ports": [{"port": 80}]}}));
        let not_ready = json!({"addresses": ["10.244.0.3"], "conditions": {"ready": false},
            "targetRef": {"kind": "Pod", "name": "c", "namespace": "ns"}});
        // Not any more, or not of a pod at all.
        let moved = ready("a", "10.244.0.9");
        let outside = json!({"addresses": ["192.0.2.1"], "conditions": {"ready": true}});
        let http = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
        s.slice("web-1", "web", http.clone(), json!([moved, outside, not_ready, ready("a", "10.244.0.1")]));
        s.slice("web-2", "web", http, json!([ready("b", "10.244.0.2")]));
        s.slice(
            "web-3",
            "other",
            json!([{"name": "http", "port": 1, "protocol": "TCP"}]),
            json!([ready("a", "10.244.0.1")]),
        );
        let plain = json!([{"name": "", "port": 9000, "protocol": "TCP"}]);
        s.slice("one-1", "one", plain, json!([ready("b", "10.244.0.2")]));
        let (a, b) = (
            "10.244.0.1:8080 /podProxy/ns/a/http/10.244.0.1/8080",
            "10.244.0.2:8080 /podProxy/ns/b/http/10.244.0.2/8080",
        );
        for (id, seed, want) in [
            ("web:http", 1, a),
            ("web:http", 2, b),
            // The one that it begins with is not its pod's address any more.
            ("web:80", 3, a),
            ("https:one:", 0, "10.244.0.2:9000 /podProxy/ns/b/https/10.244.0.2/9000"),
            ("one:80", 0, "10.244.0.2:9000 /podProxy/ns/b/http/10.244.0.2/9000"),
            ("web", 0, "503 no endpoints available for service \"web\""),
            ("web:81", 0, "503 no endpoints available for service \"web:81\""),
            ("web:82", 0, "503 no service port 82 found for service \"web\""),
            ("none", 0, "503 no endpoints available for service \"none\""),
            ("none:80", 0, "503 no endpoints available for service \"none\""),
            ("gone", 0, "404 services \"gone\" not found"),
            ("a:b:c:d", 0, "400 invalid service request \"a:b:c:d\""),
        ] {
            assert_eq!(said(of_service(&s, "ns", id, seed)), want, "{id} {seed}");
        }
    }
}
