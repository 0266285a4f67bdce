//! Pods' and Services' addresses on a node's own machine, and a network namespace there that was made by hand: what containers
//! will use. The machine is as it was after a clean stop, and after the start that follows a kill.

use std::net::Ipv4Addr;
use std::process::Stdio;

use e2e::lab::{CLIENT, LabCluster};
use e2e::manifest::{self, Serves};
use e2e::process::Process;
use e2e::{has, needs, root, text, until};

/// The namespace, as a pod and as a machine of the lab, and the machine's interface to it.
const OUTSIDER: &str = "outsider";
const INTERFACE: &str = "vpod";

/// Answers each line with the address that it came from and itself.
const SERVER: &str = "
import socket, threading
def serve(stream, peer):
    for line in stream.makefile():
        stream.sendall(f'{peer[0]} said {line}'.encode())
listener = socket.create_server(('0.0.0.0', 9000))
while True:
    threading.Thread(target=serve, args=listener.accept(), daemon=True).start()
";

const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny}
spec: {podSelector: {}, policyTypes: [Ingress]}
";

/// Servers on both nodes, and a Service whose endpoint is the namespace.
fn manifest(outsider: Ipv4Addr) -> String {
    let mut out = format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {OUTSIDER}}}
spec: {{ports: [{{port: 90}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {OUTSIDER}-1, labels: {{kubernetes.io/service-name: {OUTSIDER}}}}}
addressType: IPv4
ports: [{{port: 9000}}]
endpoints: [{{addresses: [{outsider}]}}]
"
    );
    for (name, node, serves) in [
        ("http-n1", "n1", Serves::Http),
        ("http-n2", "n2", Serves::Http),
        ("tcp-n1", "n1", Serves::Lines),
        ("udp-n1", "n1", Serves::Datagrams),
    ] {
        out += &manifest::pod(name, name, Some(node), serves);
        out += &manifest::service(name, serves, &[]);
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

    /// What the kernel of n1 knows of networks.
    fn state(&self) -> String {
        let said = |program: &str, args: &[&str]| text(&self.0.lab.run("n1", program, args).stdout);
        ["route show table all", "rule show"]
            .map(|what| said("ip", &[&["-4"], what.split(' ').collect::<Vec<_>>().as_slice()].concat()))
            .concat()
            + &said("nft", &["list", "ruleset"])
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
    cluster.lab.pod("n1", OUTSIDER, INTERFACE, outsider);
    cluster.apply(&manifest(outsider));
    let all_run = |cluster: &LabCluster| {
        until("all pods run", || (cluster.ok(&["get", "pods"]).matches(" 1/1 ").count() == 4).then_some(()));
        until("it listens", || cluster.ok(&["logs", "udp-n1"]).contains("listening").then_some(()));
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
        let pod = format!("http-{node}");
        host.hears("n1", &pod, &format!("http://{}/", host.vip(&pod)));
        host.hears("n1", &pod, &format!("http://{}:8080/", host.address(&pod)));
    }
    host.says("n1", "lines", &format!("{}:70", host.vip("tcp-n1")));
    host.says("n1", "lines", &format!("{}:7000", host.address("tcp-n1")));
    host.says("n1", "datagram", &format!("{}:70", host.vip("udp-n1")));
    assert!(!host.gets("n1", &format!("http://{}:81/", host.vip("http-n1"))), "a port that the Service has not");

    // Not whoever routes there.
    let by = cluster.lab.ip("n1").to_string();
    let routed = cluster.lab.run(CLIENT, "ip", &["route", "add", "10.96.0.0/12", "via", &by]);
    assert!(routed.status.success(), "{}", text(&routed.stderr));
    assert!(!host.gets(CLIENT, &vip));

    // The namespace, by its address, to Services and pods, and whoever has its address is not the host.
    host.hears(OUTSIDER, "http-n1", &vip);
    host.hears(OUTSIDER, "http-n1", &format!("http://{}:8080/", host.address("http-n1")));
    host.says(OUTSIDER, "lines", &format!("{}:70", host.vip("tcp-n1")));
    host.says(OUTSIDER, "datagram", &format!("{}:70", host.vip("udp-n1")));
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
    let service = format!("{}:90", host.vip(OUTSIDER));
    until("the host reaches the namespace by a Service", || {
        cluster.lab.echo("n1", "lines", &service, "hi").filter(|said| *said == format!("{first} said hi"))
    });
    until("the host reaches the namespace", || {
        cluster.lab.echo("n1", "lines", &at, "hi").filter(|said| said.ends_with(" said hi"))
    });

    // Policies: the host reaches all pods, the namespace none, and none reaches it.
    cluster.apply(DENY);
    until("the namespace is refused", || (!host.gets(OUTSIDER, &vip)).then_some(()));
    until("pods are refused", || host.relayed(&at).contains("refused").then_some(()));
    host.hears("n1", "http-n1", &vip);
    assert_eq!(cluster.lab.echo(OUTSIDER, "datagram", &format!("{}:70", host.vip("udp-n1")), "hi"), None);
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
}
