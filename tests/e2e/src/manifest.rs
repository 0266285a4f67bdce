//! Manifests that several tests apply: pods of the examples, the Services that lead to them, Gateways and what they pass on.
//! Each begins with the mark of a document, so that they can be put behind each other.

/// What a pod of the examples does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Answers requests (`hello`).
    Http,
    /// Answers each line with itself over TCP, one connection after another (`tcp-echo`).
    Lines,
    /// Answers each datagram with itself (`tcp-echo`).
    Datagrams,
}

impl Serves {
    /// The port of its Service, the pod's own, and the protocol.
    fn ports(self) -> (u16, u16, &'static str) {
        match self {
            Serves::Http => (80, 8080, "TCP"),
            Serves::Lines => (70, 7000, "TCP"),
            Serves::Datagrams => (70, 7000, "UDP"),
        }
    }

    /// What the port of its Service is called.
    fn name(self) -> &'static str {
        match self {
            Serves::Http => "http",
            Serves::Lines => "lines",
            Serves::Datagrams => "datagrams",
        }
    }

    fn container(self) -> String {
        let (image, args) = match self {
            Serves::Http => ("hello", ""),
            Serves::Lines => ("tcp-echo", ""),
            Serves::Datagrams => ("tcp-echo", "serve-udp"),
        };
        let (_, port, protocol) = self.ports();
        format!(
            "{{name: c, image: 'file://examples/{image}/{image}.wasm', args: [{args}], ports: [{{containerPort: {port}, protocol: {protocol}}}]}}"
        )
    }
}

fn document(api_version: &str, kind: &str, metadata: &str, spec: &str) -> String {
    format!("---\napiVersion: {api_version}\nkind: {kind}\nmetadata: {{{metadata}}}\nspec: {{{spec}}}\n")
}

/// A pod with the label `app`, on a node, or without one wherever it is put.
pub fn pod(name: &str, app: &str, node: Option<&str>, serves: Serves) -> String {
    let node = node.map(|node| format!("nodeName: {node}, ")).unwrap_or_default();
    let metadata = format!("name: {name}, labels: {{app: {app}}}");
    document("v1", "Pod", &metadata, &format!("{node}containers: [{}]", serves.container()))
}

/// A Deployment of one pod, whose label `app` is its name.
pub fn deployment(name: &str, serves: Serves) -> String {
    let labels = format!("{{app: {name}}}");
    let template = format!("{{metadata: {{labels: {labels}}}, spec: {{containers: [{}]}}}}", serves.container());
    let spec = format!("selector: {{matchLabels: {labels}}}, template: {template}");
    document("apps/v1", "Deployment", &format!("name: {name}"), &spec)
}

/// A Service for the pods whose label `app` is its name, with more fields of its spec, such as `type: NodePort`.
pub fn service(name: &str, serves: Serves, more: &[&str]) -> String {
    let (port, target, _) = serves.ports();
    service_of(name, name, serves, &format!("port: {port}, targetPort: {target}"), more)
}

/// The same at a port of every node that is not left to the cluster.
pub fn service_at(name: &str, serves: Serves, node_port: u16) -> String {
    let (port, target, _) = serves.ports();
    let port = format!("port: {port}, targetPort: {target}, nodePort: {node_port}");
    service_of(name, name, serves, &port, &["type: NodePort"])
}

/// A Service without an address, whose name leads to the pods with the label `app` themselves.
pub fn headless(name: &str, app: &str, serves: Serves) -> String {
    let (_, port, _) = serves.ports();
    service_of(name, app, serves, &format!("port: {port}"), &["clusterIP: None"])
}

fn service_of(name: &str, app: &str, serves: Serves, port: &str, more: &[&str]) -> String {
    let (port_name, (_, _, protocol)) = (serves.name(), serves.ports());
    let mut fields: Vec<String> = more.iter().map(ToString::to_string).collect();
    fields.push(format!("selector: {{app: {app}}}"));
    fields.push(format!("ports: [{{name: {port_name}, protocol: {protocol}, {port}}}]"));
    document("v1", "Service", &format!("name: {name}"), &fields.join(", "))
}

const GATEWAY_API: &str = "gateway.networking.k8s.io/v1";

/// A Gateway of the cluster's own class with these listeners, each as it stands in a list.
pub fn gateway(name: &str, listeners: &[&str]) -> String {
    let spec = format!("gatewayClassName: copepod, listeners: [{}]", listeners.join(", "));
    document(GATEWAY_API, "Gateway", &format!("name: {name}"), &spec)
}

/// A route that takes all that comes to a listener of a Gateway to a port of a Service: a TCPRoute, or for some hosts a TLSRoute.
pub fn stream_route(name: &str, parent: (&str, &str), hosts: &[&str], backend: (&str, u16)) -> String {
    let ((gateway, listener), (service, port)) = (parent, backend);
    let rules = format!("rules: [{{backendRefs: [{{name: {service}, port: {port}}}]}}]");
    let mut spec = format!("parentRefs: [{{name: {gateway}, sectionName: {listener}}}], {rules}");
    let kind = if hosts.is_empty() { "TCPRoute" } else { "TLSRoute" };
    if !hosts.is_empty() {
        spec += &format!(", hostnames: ['{}']", hosts.join("', '"));
    }
    document(GATEWAY_API, kind, &format!("name: {name}"), &spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_as_they_would_be_written_by_hand() {
        assert_eq!(
            pod("a", "b", Some("n1"), Serves::Datagrams),
            "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: b}}\nspec: {nodeName: n1, containers: \
             [{name: c, image: 'file://examples/tcp-echo/tcp-echo.wasm', args: [serve-udp], ports: [{containerPort: 7000, \
             protocol: UDP}]}]}\n"
        );
        let service_of =
            |spec: &str| format!("---\napiVersion: v1\nkind: Service\nmetadata: {{name: a}}\nspec: {{{spec}}}\n");
        assert_eq!(
            service("a", Serves::Http, &["type: NodePort"]),
            service_of(
                "type: NodePort, selector: {app: a}, ports: [{name: http, protocol: TCP, port: 80, targetPort: 8080}]"
            )
        );
        assert_eq!(
            headless("a", "b", Serves::Lines),
            service_of("clusterIP: None, selector: {app: b}, ports: [{name: lines, protocol: TCP, port: 7000}]")
        );
        let route = stream_route("r", ("g", "l"), &["x.test", "*.y.test"], ("s", 70));
        assert!(route.contains("kind: TLSRoute") && route.ends_with("hostnames: ['x.test', '*.y.test']}\n"), "{route}");
        assert!(stream_route("r", ("g", "l"), &[], ("s", 70)).contains("kind: TCPRoute"));
    }
}
