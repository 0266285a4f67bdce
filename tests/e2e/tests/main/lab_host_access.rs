//! Pods' and Services' addresses on a node's own machine, and a network namespace there that was made by hand: what containers
//! will use. The machine is as it was after a clean stop, and after the start that follows a kill.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Stdio;

use e2e::lab::{CLIENT, IPV6, LabCluster};
use e2e::process::Process;
use e2e::{has, needs, root, text, until};

/// The namespace, as a pod and as a machine of the lab, and the machine's interface to it.
const OUTSIDER: &str = "outsider";
const INTERFACE: &str = "vpod";

/// Answers each line and each datagram with the address that it came from and itself, at port 9000 of the families that there are.
const SERVER: &str = "
import socket, threading
def serve(stream, peer):
    for line in stream.makefile():
        stream.sendall(f'{peer[0]} said {line}'.encode())
def lines(family, at):
    listener = socket.create_server((at, 9000), family=family)
    while True:
        threading.Thread(target=serve, args=listener.accept(), daemon=True).start()
def datagrams(family, at):
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        if family == socket.AF_INET6:
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((at, 9000))
        while True:
            data, peer = s.recvfrom(1500)
            s.sendto(f'{peer[0]} said {data.decode()}'.encode(), peer)
families = [(socket.AF_INET, '0.0.0.0')]
if socket.has_dualstack_ipv6():
    families.append((socket.AF_INET6, '::'))
for family in families:
    for how in lines, datagrams:
        threading.Thread(target=how, args=family).start()
";

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
";

/// The IPv6 address beside one of the pod network: behind fd00:10:244::/96.
fn beside(ip: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfd00_0010_0244 << 80) | u128::from(ip.to_bits()))
}

/// A host and a port, as clients are told.
fn with_port(ip: &str, port: u16) -> String {
    if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

/// Servers on both nodes, and a Service whose endpoint is the namespace.
fn manifest(outsider: Ipv4Addr) -> String {
    let mut out = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {OUTSIDER}}}
spec: {{ipFamilyPolicy: PreferDualStack, ports: [{{name: lines, port: 90}}, {{name: datagrams, port: 90, protocol: UDP}}]}}
"
    );
    for (family, ip) in [("IPv4", IpAddr::from(outsider)), ("IPv6", beside(outsider).into())] {
        let _ = write!(
            out,
            "---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {OUTSIDER}-{}, labels: {{kubernetes.io/service-name: {OUTSIDER}}}}}
addressType: {family}
ports: [{{name: lines, port: 9000}}, {{name: datagrams, port: 9000, protocol: UDP}}]
endpoints: [{{addresses: ['{ip}']}}]
",
            family.to_lowercase()
        );
    }
    for (name, node, image, arg, protocol, port, target, policy) in [
        ("http-n1", "n1", "hello", "", "TCP", 80, 8080, "PreferDualStack"),
        ("http-n2", "n2", "hello", "", "TCP", 80, 8080, "PreferDualStack"),
        // It listens at 0.0.0.0.
        ("tcp-n1", "n1", "tcp-echo", "", "TCP", 70, 7000, "SingleStack"),
        ("udp-n1", "n1", "tcp-echo", "serve-udp", "UDP", 70, 7000, "SingleStack"),
        ("udp-n2", "n2", "tcp-echo", "serve-udp", "UDP", 70, 7000, "SingleStack"),
    ] {
        let _ = write!(
            out,
            "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  nodeName: {node}
  containers:
  - {{name: c, image: 'file://examples/{image}/{image}.wasm', args: [{arg}], ports: [{{containerPort: {target}, protocol: {protocol}}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{ipFamilyPolicy: {policy}, selector: {{app: {name}}}, ports: [{{port: {port}, targetPort: {target}, protocol: {protocol}}}]}}
"
        );
    }
    out
}

/// What the test asks, and where.
struct Host<'a>(&'a LabCluster);

impl Host<'_> {
    fn vip(&self, service: &str) -> String {
        self.0.get("service", service)["spec"]["clusterIP"].as_str().expect("an address").to_string()
    }

    fn address(&self, pod: &str) -> String {
        self.0.get("pod", pod)["status"]["podIP"].as_str().expect("an address").to_string()
    }

    /// The addresses of a Service of both families, and of a pod, the first ones first.
    fn vips(&self, service: &str) -> Vec<String> {
        let found = self.0.get("service", service)["spec"]["clusterIPs"].as_array().cloned().unwrap_or_default();
        found.iter().filter_map(|ip| ip.as_str().map(String::from)).collect()
    }

    fn addresses(&self, pod: &str) -> Vec<String> {
        let found = self.0.get("pod", pod)["status"]["podIPs"].as_array().cloned().unwrap_or_default();
        found.iter().filter_map(|one| one["ip"].as_str().map(String::from)).collect()
    }

    /// What the kernel of n1 knows of networks. Of IPv6 it does more by itself, in tables that are nobody's but its own.
    fn state(&self) -> String {
        let said = |program: &str, args: &str| {
            text(&self.0.lab.run("n1", program, &args.split(' ').collect::<Vec<_>>()).stdout)
        };
        let of_ip = [
            "-4 route show table all",
            "-4 rule show",
            "-6 route show table main",
            "-6 route show table all proto 107",
            "-6 rule show",
        ];
        of_ip.map(|what| said("ip", what)).concat() + &said("nft", "list ruleset")
    }

    /// Whether somebody answers a GET from a machine at once.
    fn gets(&self, from: &str, url: &str) -> bool {
        self.0.lab.curl(from, url, &["-m", "2"]).0 == 200
    }

    fn hears(&self, from: &str, pod: &str, url: &str) {
        until(&format!("{pod} answers {from} at {url}"), || {
            let (code, body) = self.0.lab.curl(from, url, &[]);
            (code == 200 && body.starts_with(&format!("Hello from {pod}\n"))).then_some(())
        });
    }

    fn says(&self, from: &str, how: &str, at: &str) {
        until(&format!("{how} from {from} come back from {at}"), || {
            self.0.lab.echo(from, how, at, "hi").filter(|said| said == "hi")
        });
    }

    /// What is answered to a line that the pod tcp-n1 has sent, at the word of n1.
    fn relayed(&self, to: &str) -> String {
        let at = format!("{}:70", self.vip("tcp-n1"));
        until("the relay answers", || self.0.lab.echo("n1", "lines", &at, &format!("connect {to}")))
    }

    /// `copepod up` on n1 that is to end by itself; what it says.
    fn refused(&self, program: &str, before: &[&str]) -> String {
        let mut command = self.0.lab.command("n1", program);
        command.args(before).args(["up", "--host-access", "--api-port", "0", "--ingress-port", "0"]);
        command.args(["--ingress-tls-port", "0", "--dns-port", "0", "--kubelet-port", "0", "--data-dir"]);
        command.arg(self.0.dir.path().join("other")).current_dir(root());
        let (status, said) = Process::run(command, "up").ended();
        assert!(!status.success(), "{said}");
        said
    }
}

#[test]
fn a_host_and_a_namespace_reach_pods_and_services_and_are_left_alone_afterwards() {
    if !needs("curl, python3 and setpriv", ["curl", "python3", "setpriv"].iter().all(|tool| has(tool))) {
        return;
    }
    let Some(mut cluster) = LabCluster::start(&["n1"], &["n1", "n2"]) else { return };
    let block = cluster.get("node", "n1")["spec"]["podCIDR"].as_str().expect("a part of the network").to_string();
    let first: Ipv4Addr = block.split('/').next().and_then(|ip| ip.parse().ok()).expect("an address");
    let outsider = Ipv4Addr::from_bits(first.to_bits() + 200);
    // How many families there are to try.
    let families = if needs("IPv6", Path::new(IPV6).exists()) { 2 } else { 1 };
    cluster.lab.pod("n1", OUTSIDER, INTERFACE, outsider, beside(outsider));
    cluster.apply(&manifest(outsider));
    let all_run = |cluster: &LabCluster| {
        until("all pods run", || (cluster.ok(&["get", "pods"]).matches(" 1/1 ").count() == 5).then_some(()));
        for pod in ["udp-n1", "udp-n2"] {
            until("it listens", || cluster.ok(&["logs", pod]).contains("listening").then_some(()));
        }
    };
    all_run(&cluster);
    let host = Host(&cluster);
    let (before, vip) = (host.state(), format!("http://{}/", host.vip("http-n1")));
    assert!(!host.gets("n1", &vip), "not without being asked to");

    // Nothing is changed by one that may not.
    let binary = cluster.binary.display().to_string();
    let said = host.refused("setpriv", &["--bounding-set=-net_admin", "--inh-caps=-net_admin", &binary]);
    assert!(said.contains("--host-access: ") && said.contains("CAP_NET_ADMIN"), "{said}");
    assert_eq!(host.state(), before);

    let namespace = format!("default/{OUTSIDER}={outsider}@{INTERFACE}");
    let flags = ["--host-access", "--namespace-pod", &namespace];
    cluster.stop_agent("n1");
    cluster.start_agent("n1", &flags);
    all_run(&cluster);
    let host = Host(&cluster);

    // The machine's own processes, to pods of both nodes.
    for node in ["n1", "n2"] {
        let (http, udp) = (format!("http-{node}"), format!("udp-{node}"));
        let (vips, addresses) = (host.vips(&http), host.addresses(&http));
        assert_eq!((vips.len(), addresses.len()), (2, 2), "{vips:?} {addresses:?}");
        for (vip, address) in vips.iter().zip(&addresses).take(families) {
            host.hears("n1", &http, &format!("http://{}/", with_port(vip, 80)));
            host.hears("n1", &http, &format!("http://{}/", with_port(address, 8080)));
        }
        host.says("n1", "datagram", &format!("{}:70", host.vip(&udp)));
        host.says("n1", "datagram", &format!("{}:7000", host.address(&udp)));
    }
    host.says("n1", "lines", &format!("{}:70", host.vip("tcp-n1")));
    host.says("n1", "lines", &format!("{}:7000", host.address("tcp-n1")));
    let nobody = format!("{}:7001", host.address("udp-n1"));
    assert_eq!(cluster.lab.echo("n1", "datagram", &nobody, "hi"), None, "a port where nobody is");
    assert!(!host.gets("n1", &format!("http://{}:81/", host.vip("http-n1"))), "a port that the Service has not");

    // Not whoever routes there.
    let by = cluster.lab.ip("n1").to_string();
    let routed = cluster.lab.run(CLIENT, "ip", &["route", "add", "10.96.0.0/12", "via", &by]);
    assert!(routed.status.success(), "{}", text(&routed.stderr));
    assert!(!host.gets(CLIENT, &vip));

    // The namespace, by its address, to Services and pods, and whoever has its address is not the host.
    for (vip, address) in host.vips("http-n1").iter().zip(&host.addresses("http-n1")).take(families) {
        host.hears(OUTSIDER, "http-n1", &format!("http://{}/", with_port(vip, 80)));
        host.hears(OUTSIDER, "http-n1", &format!("http://{}/", with_port(address, 8080)));
    }
    host.says(OUTSIDER, "lines", &format!("{}:70", host.vip("tcp-n1")));
    host.says(OUTSIDER, "datagram", &format!("{}:70", host.vip("udp-n1")));
    host.says(OUTSIDER, "datagram", &format!("{}:7000", host.address("udp-n1")));
    until("a pod sees where the namespace's datagrams come from", || {
        cluster.ok(&["logs", "udp-n1"]).contains(&format!("{outsider}:")).then_some(())
    });
    until("a pod sees the namespace's address", || {
        cluster.ok(&["logs", "tcp-n1"]).contains(&format!("{outsider}:")).then_some(())
    });
    // What leaves the cluster is this node's to carry, too.
    until("the namespace reaches the API", || {
        let api = format!("https://{by}:6443/version");
        (cluster.lab.curl(OUTSIDER, &api, &["-k"]).0 != 0).then_some(())
    });

    // To the namespace: a pod, which shows as itself, and the host by a Service.
    let mut server = cluster.lab.command(OUTSIDER, "python3");
    let mut server = server.args(["-c", SERVER]).stdin(Stdio::null()).spawn().expect("ip runs");
    let at = format!("{outsider}:9000");
    let own = host.address("tcp-n1");
    until("a pod reaches the namespace", || {
        host.relayed(&at).contains(&format!("{own} said hello from ")).then_some(())
    });
    let nodes = [IpAddr::from(first), beside(first).into()];
    let own = [IpAddr::from(outsider), beside(outsider).into()];
    for ((vip, node), own) in host.vips(OUTSIDER).iter().zip(nodes).zip(own).take(families) {
        for how in ["lines", "datagram"] {
            until("the host reaches the namespace by a Service", || {
                let said = cluster.lab.echo("n1", how, &with_port(vip, 90), "hi");
                said.filter(|said| *said == format!("{node} said hi"))
            });
        }
        until("the host reaches the namespace", || {
            let said = cluster.lab.echo("n1", "lines", &with_port(&own.to_string(), 9000), "hi");
            said.filter(|said| said.ends_with(" said hi"))
        });
    }

    // Policies: the host reaches all pods, the namespace none, and none reaches it.
    cluster.apply(DENY);
    until("the namespace is refused", || (!host.gets(OUTSIDER, &vip)).then_some(()));
    until("pods are refused", || host.relayed(&at).contains("refused").then_some(()));
    host.hears("n1", "http-n1", &vip);
    for udp in [format!("{}:70", host.vip("udp-n1")), format!("{}:7000", host.address("udp-n1"))] {
        assert_eq!(cluster.lab.echo(OUTSIDER, "datagram", &udp, "hi"), None, "{udp}");
        host.says("n1", "datagram", &udp);
    }
    cluster.ok(&["delete", "networkpolicy", "deny"]);
    host.hears(OUTSIDER, "http-n1", &vip);

    // One at a time.
    let said = host.refused(&binary, &[]);
    assert!(said.contains("another process already answers"), "{said}");
    host.hears("n1", "http-n1", &vip);

    let _ = server.kill();
    let _ = server.wait();
    cluster.kill_agent("n1");
    let left = Host(&cluster).state();
    assert!(left.contains("proto 107") && left.contains("table ip copepod"), "{left}");
    assert_eq!(left.contains("table ip6 copepod"), families == 2, "{left}");
    cluster.start_agent("n1", &[]);
    assert_eq!(Host(&cluster).state(), before, "the next start has undone it");

    cluster.stop_agent("n1");
    cluster.start_agent("n1", &flags);
    all_run(&cluster);
    Host(&cluster).hears("n1", "http-n1", &vip);
    cluster.kill_agent("n1");
    cluster.start_agent("n1", &flags);
    all_run(&cluster);
    Host(&cluster).hears("n1", "http-n1", &vip);
    cluster.stop_agent("n1");
    assert_eq!(Host(&cluster).state(), before, "a clean stop has undone it");
    if families == 1 {
        return;
    }

    // Where IPv6 is switched off there is IPv4.
    let switch = format!("{IPV6}/conf/lo/disable_ipv6");
    let off = cluster.lab.run("n1", "sh", &["-c", &format!("echo 1 > {switch}")]);
    assert!(off.status.success(), "{}", text(&off.stderr));
    cluster.start_agent("n1", &flags);
    all_run(&cluster);
    Host(&cluster).hears("n1", "http-n1", &vip);
    let state = Host(&cluster).state();
    assert!(state.contains("table ip copepod") && !state.contains("table ip6 copepod"), "{state}");
    cluster.stop_agent("n1");
    let on = cluster.lab.run("n1", "sh", &["-c", &format!("echo 0 > {switch}")]);
    assert!(on.status.success(), "{}", text(&on.stderr));
    assert_eq!(Host(&cluster).state(), before, "that, too, is undone");
}
