//! Every way to a pod, of the client's or a pod's own node and of another one, over HTTP, TCP and UDP; that what goes between
//! nodes cannot be read on the way; and all of it on machines that have addresses of IPv6 alone.

use std::fmt::Write as _;

use e2e::lab::{CLIENT, LabCluster, Packet};
use e2e::manifest::{self, Serves};
use e2e::{has, needs, until};

/// What is looked for on the wire, beside what guests say of themselves.
const MARKER: &str = "marker-6c1f0e-in-plain-sight";
/// The port that the Gateway opens for requests, beside that of the ingress.
const REQUESTS: u16 = 8180;

/// The port that the Gateway opens for bytes to the server of lines on a node.
fn lines_port(node: &str) -> u16 {
    if node == "n1" { 7171 } else { 7172 }
}

/// A pod of a node with a Service that has an address and a node port, and one that has neither.
fn pod(out: &mut String, name: &str, node: &str, serves: Serves) {
    *out += &manifest::pod(name, name, Some(node), serves);
    *out += &manifest::service(name, serves, &["type: NodePort"]);
    *out += &manifest::headless(&format!("{name}-each"), name, serves);
}

/// On n1 and n2 one server each of every kind; on n1 those that ask: one by HTTP, one by lines and datagrams. On n3 nothing.
fn manifest() -> String {
    let mut out = String::new();
    for node in ["n1", "n2"] {
        pod(&mut out, &format!("http-{node}"), node, Serves::Http);
        pod(&mut out, &format!("tcp-{node}"), node, Serves::Lines);
        pod(&mut out, &format!("udp-{node}"), node, Serves::Datagrams);
    }
    pod(&mut out, "front", "n1", Serves::Http);
    pod(&mut out, "relay", "n1", Serves::Lines);
    let path = |node: &str| {
        format!(
            "{{path: /{node}, pathType: Prefix, backend: {{service: {{name: http-{node}, port: {{number: 80}}}}}}}}"
        )
    };
    let _ = write!(
        out,
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: both}}
spec: {{rules: [{{http: {{paths: [{}, {}]}}}}]}}
",
        path("n1"),
        path("n2")
    );
    gateway(&mut out);
    out
}

/// A Gateway that leads where the Ingress does, by a name and paths that the Ingress does not know, and to the servers of
/// lines.
fn gateway(out: &mut String) {
    let own = format!("{{name: own, port: {REQUESTS}, protocol: HTTP}}");
    let lines = |node: &str| format!("{{name: lines-{node}, port: {}, protocol: TCP}}", lines_port(node));
    let (n1, n2) = (lines("n1"), lines("n2"));
    *out += &manifest::gateway("ways", &["{name: http, port: 80, protocol: HTTP}", &own, &n1, &n2]);
    *out += "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: ways}
spec:
  parentRefs: [{name: ways, sectionName: http}, {name: ways, sectionName: own}]
  hostnames: [gateway.test]
  rules:
  - matches: [{path: {type: PathPrefix, value: /way/n1}}]
    backendRefs: [{name: http-n1, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /way/n2}}]
    backendRefs: [{name: http-n2, port: 80}]
";
    for node in ["n1", "n2"] {
        let (name, backend) = (format!("lines-{node}"), format!("tcp-{node}"));
        *out += &manifest::stream_route(&name, ("ways", name.as_str()), &[], (backend.as_str(), 70));
    }
}

/// What the test asks and whom.
struct Paths<'a> {
    cluster: &'a LabCluster,
    front: u64,
    relay: u64,
}

impl Paths<'_> {
    /// Waits until all pods of the manifest run.
    fn to(cluster: &LabCluster) -> Paths<'_> {
        cluster.apply(&manifest());
        until("all pods run", || (cluster.ok(&["get", "pods"]).matches(" 1/1 ").count() == 8).then_some(()));
        for pod in ["udp-n1", "udp-n2"] {
            // A datagram that comes too early is lost.
            until("it listens", || cluster.ok(&["logs", pod]).contains("listening").then_some(()));
        }
        Paths { cluster, front: Paths::node_port(cluster, "front"), relay: Paths::node_port(cluster, "relay") }
    }

    fn node_port(cluster: &LabCluster, service: &str) -> u64 {
        cluster.get("service", service)["spec"]["ports"][0]["nodePort"].as_u64().expect("a node port")
    }

    fn address(&self, pod: &str) -> String {
        self.cluster.get("pod", pod)["status"]["podIP"].as_str().expect("an address").to_string()
    }

    fn host(&self, node: &str) -> String {
        self.cluster.lab.host(node)
    }

    /// The client GETs from outside.
    fn client_gets(&self, pod: &str, url: &str, more: &[&str]) {
        until(&format!("{pod} answers the client at {url}"), || {
            let (code, body) = self.cluster.lab.curl(CLIENT, url, more);
            (code == 200 && body.starts_with(&format!("Hello from {pod}\n")) && body.contains(MARKER)).then_some(())
        });
    }

    /// The pod `front` GETs.
    fn pod_gets(&self, pod: &str, url: &str) {
        let ask = format!("http://{}:{}/fetch?url={url}", self.host("n1"), self.front);
        until(&format!("{pod} answers a pod at {url}"), || {
            let (code, body) = self.cluster.lab.curl(CLIENT, &ask, &[]);
            (code == 200 && body.starts_with(&format!("200 Hello from {pod}\n")) && body.contains(MARKER)).then_some(())
        });
    }

    /// The client sends a line or a datagram from outside.
    fn client_says(&self, how: &str, at: &str) {
        until(&format!("{how} from the client come back from {at}"), || {
            self.cluster.lab.echo(CLIENT, how, at, MARKER).filter(|said| said == MARKER)
        });
    }

    /// The pod `relay` sends one: its own words, of which `HOST:PORT` is said to have heard them.
    fn pod_says(&self, verb: &str, at: &str) {
        let relay = format!("{}:{}", self.host("n1"), self.relay);
        until(&format!("{verb} {at} by a pod"), || {
            let said = self.cluster.lab.echo(CLIENT, "lines", &relay, &format!("{verb} {at}"))?;
            said.contains(" says: hello from ").then_some(())
        });
    }

    /// What the pod network carries: to pods by their addresses and Services, from pods and from node ports and the
    /// ingress of n1.
    fn inside(&self, node: &str) {
        let [http, tcp, udp] = ["http", "tcp", "udp"].map(|kind| format!("{kind}-{node}"));
        self.pod_gets(&http, &format!("http://{}:8080/{MARKER}", self.address(&http)));
        self.pod_gets(&http, &format!("http://{http}/{MARKER}"));
        self.pod_gets(&http, &format!("http://{http}.default.svc.cluster.local/{MARKER}"));
        self.pod_gets(&http, &format!("http://{http}-each:8080/{MARKER}"));
        for (verb, pod) in [("connect", &tcp), ("udp", &udp)] {
            self.pod_says(verb, &format!("{}:7000", self.address(pod)));
            self.pod_says(verb, &format!("{pod}:70"));
            self.pod_says(verb, &format!("{pod}-each:7000"));
        }
        self.outside(node, "n1");
    }

    /// By node ports, the ingress and the Gateway's ports of the node `by`, from the client.
    fn outside(&self, node: &str, by: &str) {
        let [http, tcp, udp] = ["http", "tcp", "udp"].map(|kind| format!("{kind}-{node}"));
        let at = self.host(by);
        self.client_gets(&http, &format!("http://{at}:{}/{MARKER}", Paths::node_port(self.cluster, &http)), &[]);
        self.client_gets(&http, &format!("http://{at}:8080/{node}/{MARKER}"), &[]);
        self.client_gets(&http, &format!("https://{at}:8443/{node}/{MARKER}"), &["-k"]);
        self.client_says("lines", &format!("{at}:{}", Paths::node_port(self.cluster, &tcp)));
        self.client_says("datagram", &format!("{at}:{}", Paths::node_port(self.cluster, &udp)));
        for port in [8080, REQUESTS] {
            let url = format!("http://{at}:{port}/way/{node}/{MARKER}");
            self.client_gets(&http, &url, &["-H", "Host: gateway.test"]);
        }
        self.client_says("lines", &format!("{at}:{}", lines_port(node)));
    }

    /// By node ports and the ingress of any node, from a pod: that is traffic with hosts, and as open as the pod makes it.
    fn by_hosts_from_a_pod(&self, node: &str, by: &str) {
        let [http, tcp, udp] = ["http", "tcp", "udp"].map(|kind| format!("{kind}-{node}"));
        let at = self.host(by);
        self.pod_gets(&http, &format!("http://{at}:{}/{MARKER}", Paths::node_port(self.cluster, &http)));
        self.pod_gets(&http, &format!("http://{at}:8080/{node}/{MARKER}"));
        self.pod_says("connect", &format!("{at}:{}", Paths::node_port(self.cluster, &tcp)));
        // The guest sends its datagrams by a socket of IPv4.
        if self.cluster.lab.ip(by).is_ipv4() {
            self.pod_says("udp", &format!("{at}:{}", Paths::node_port(self.cluster, &udp)));
        }
    }

    /// A node's DNS.
    fn names(&self, by: &str) {
        let server = format!("@{}", self.cluster.lab.ip(by));
        let dig = |args: &[&str]| {
            let all = [&[server.as_str(), "-p", "8053", "+short", "+tries=1", "+time=5"], args].concat();
            e2e::text(&self.cluster.lab.run(CLIENT, "dig", &all).stdout).trim().to_string()
        };
        let vip = self.cluster.get("service", "http-n2")["spec"]["clusterIP"].as_str().expect("a VIP").to_string();
        for way in ["+notcp", "+tcp"] {
            until(&format!("{by} knows the Service"), || {
                (dig(&[way, "http-n2.default.svc.cluster.local"]) == vip).then_some(())
            });
            assert_eq!(dig(&[way, "http-n2-each.default.svc.cluster.local"]), self.address("http-n2"));
        }
    }

    /// The doors of every node, beside those that [`Paths::inside`] has tried.
    fn every_node(&self) {
        for by in ["n1", "n2", "n3"] {
            self.names(by);
            for node in ["n1", "n2"] {
                if by != "n1" {
                    self.outside(node, by);
                }
                self.by_hosts_from_a_pod(node, by);
            }
        }
    }
}

#[test]
fn every_path_leads_to_its_pod_and_none_between_nodes_can_be_read() {
    let tools = ["curl", "dig", "python3", "tcpdump"];
    if !needs("curl, dig, python3 and tcpdump", tools.iter().all(|tool| has(tool))) {
        return;
    }
    let Some(cluster) = LabCluster::start(&["n1"], &["n1", "n2", "n3"]) else { return };
    let paths = Paths::to(&cluster);
    let (n1, n2) = (cluster.lab.ip("n1"), cluster.lab.ip("n2"));

    let capture = cluster.lab.capture("n2", cluster.dir.path());
    for node in ["n1", "n2"] {
        paths.inside(node);
    }
    // What is not encrypted is seen.
    let port = Paths::node_port(&cluster, "tcp-n2");
    paths.client_says("lines", &format!("{n2}:{port}"));
    let (says, port) = (|p: &Packet| p.says(MARKER) || p.says("ello from "), u16::try_from(port).expect("a port"));
    let packets = capture.until("plain text is seen", |p| p.is_of(port) && says(p));
    let between: Vec<&Packet> = packets.iter().filter(|p| p.between(n1, n2)).collect();
    let read: Vec<_> = between.iter().filter(|p| says(p)).collect();
    assert!(read.is_empty(), "can be read between the nodes: {:?}", read[0]);
    let data = between.iter().filter(|p| p.is_of(10251) && !p.payload.is_empty()).count();
    // A record of a TLS handshake (RFC 8446, section 5.1).
    assert!(between.iter().any(|p| p.is_of(10251) && p.payload.starts_with(&[22, 3])), "TLS on the data port");
    let known = [6443, 10250, 10251];
    let others: Vec<_> = between.iter().filter(|p| p.udp || !known.iter().any(|port| p.is_of(*port))).collect();
    assert!(others.is_empty(), "something else goes between the nodes: {:?}", others[0]);
    println!(
        "{} packets of which {} between the nodes, {data} with data on the data port",
        packets.len(),
        between.len()
    );
    assert!(data >= 20, "{data} packets for twenty paths and more");

    // The server of another node knows who has come.
    let relay = paths.address("relay");
    until("the relay's address is in the server's log", || {
        cluster.ok(&["logs", "tcp-n2"]).contains(&format!("{relay}:")).then_some(())
    });
    paths.every_node();
}

#[test]
fn machines_with_addresses_of_ipv6_alone_are_a_cluster_as_others_are() {
    if !needs("curl, dig and python3", ["curl", "dig", "python3"].iter().all(|tool| has(tool))) {
        return;
    }
    let nodes = ["n1", "n2", "n3"];
    let Some(mut cluster) = LabCluster::start_over_ipv6(&nodes, &nodes) else { return };
    for name in nodes {
        let ip = cluster.lab.ip(name).to_string();
        let node = cluster.get("node", name);
        let addresses = node["status"]["addresses"].as_array().expect("addresses");
        let internal: Vec<_> = addresses.iter().filter(|a| a["type"] == "InternalIP").map(|a| &a["address"]).collect();
        assert_eq!(internal, [&ip], "{name}");
        let kubeconfig = std::fs::read_to_string(cluster.kubeconfig(name)).expect("a kubeconfig");
        assert!(kubeconfig.contains(&format!("https://[{ip}]:6443")), "{kubeconfig}");
    }
    until("all servers are the API's endpoints", || {
        let slice = cluster.get("endpointslice", "kubernetes");
        assert_eq!(slice["addressType"], "IPv6");
        slice["endpoints"].as_array().is_some_and(|all| all.len() == nodes.len()).then_some(())
    });
    // They are told from each other by certificates that are for these addresses.
    for server in nodes {
        let answered = cluster.copepod("n1", server, &["get", "nodes"]);
        assert!(answered.status.success(), "{server}: {}", e2e::text(&answered.stderr));
    }

    let paths = Paths::to(&cluster);
    for node in ["n1", "n2"] {
        paths.inside(node);
    }
    let api = format!("http://{}:{}/fetch?url=https://kubernetes/version", paths.host("n1"), paths.front);
    until("a pod reaches the API by its Service", || {
        let (code, body) = cluster.lab.curl(CLIENT, &api, &[]);
        (code == 200 && body.starts_with("200 ") && body.contains("gitVersion")).then_some(())
    });
    paths.every_node();
    // To a guest whose socket is of IPv4 a client outside shows as its node, whichever node it has come to.
    let (log, client) = (cluster.ok(&["logs", "tcp-n2"]), cluster.lab.host(CLIENT));
    assert!(log.contains(" connected") && !log.contains(&client), "{log}");

    // What has joined comes back by what it has learned.
    cluster.kill_server("n2");
    cluster.kill_agent("n3");
    cluster.start_server("n2", &[]);
    until("all servers vote", || (cluster.voters() == nodes.len()).then_some(()));
    cluster.start_agent("n3", &[]);
    cluster.nodes_are_ready(nodes.len());
    Paths::to(&cluster).outside("n2", "n3");
}
