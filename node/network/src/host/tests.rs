use std::net::SocketAddr;

use copepod_node_routes::{Config, PodPort, RouteTable};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::*;
use crate::network::tests::{attach, ip, network, object, web};
use crate::{Identity, Interface, PodHandle};

/// A port of the host's loopback address that is free, or was a moment ago.
fn free() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn listeners(net: &Network) -> HostListeners {
    HostListeners::new(net.clone(), vec![ip("127.0.0.1")])
}

/// A pod with host ports: (port, protocol, the pod's own).
fn exposed(net: &Network, n: u8, ports: &[(u16, Protocol, u16)]) -> Arc<PodHandle> {
    let plain = attach(net, n).identity().clone();
    let host_ports =
        ports.iter().map(|(port, protocol, to)| PodPort { ip: None, port: *port, protocol: *protocol, to: *to });
    net.attach(Identity { host_ports: host_ports.collect(), ..plain })
}

/// A node port over UDP that leads to these endpoints' port 5353.
fn node_port(net: &Network, port: u16, endpoints: &[(u8, bool)], affinity: Value) {
    let ports = json!([{"name": "dns", "port": 53, "nodePort": port, "protocol": "UDP"}]);
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.7", "ports": ports, "sessionAffinity": affinity});
    let services = [object("services", "web", json!({"spec": spec}))];
    let (_, slices) = web(endpoints, json!({}));
    let none: [copepod_model::Object; 0] = [];
    net.set_routes(Arc::new(RouteTable::build(&services, &slices, &none, &none, Config::default())));
}

async fn client(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    // Connected: an answer from anywhere else would not be seen.
    socket.connect(("127.0.0.1", port)).await.unwrap();
    socket
}

async fn answer(client: &UdpSocket) -> String {
    let mut buffer = [0; 100];
    let n = client.recv(&mut buffer).await.unwrap();
    String::from_utf8_lossy(&buffer[..n]).into_owned()
}

#[tokio::test]
async fn a_host_port_leads_to_its_pod_while_that_is_there() {
    let (net, port) = (network(), free());
    let pod = exposed(&net, 1, &[(port, Protocol::Tcp, 8080), (port, Protocol::Udp, 5353)]);
    let mut listeners = listeners(&net);
    assert_eq!(listeners.apply().await, []);
    assert_eq!(listeners.addresses().count(), 2);

    let listener = pod.listen_tcp("0.0.0.0:8080".parse().unwrap()).unwrap();
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(b"ask").await.unwrap();
    let mut conn = listener.accept().await.unwrap();
    assert_eq!(conn.peer, tcp.local_addr().unwrap(), "the pod sees the client");
    let mut asked = [0; 3];
    conn.stream.read_exact(&mut asked).await.unwrap();
    conn.stream.write_all(b"answer").await.unwrap();
    drop(conn);
    let mut answered = String::new();
    tcp.read_to_string(&mut answered).await.unwrap();
    assert_eq!((&asked, answered.as_str()), (b"ask", "answer"));

    let (server, udp) = (pod.bind_udp("0.0.0.0:5353".parse().unwrap()).unwrap(), client(port).await);
    for round in ["one", "two"] {
        udp.send(round.as_bytes()).await.unwrap();
        let got = server.recv_from().await.unwrap();
        let shown = SocketAddr::new(ip("10.244.0.0"), udp.local_addr().unwrap().port());
        assert_eq!((&got.data[..], got.from), (round.as_bytes(), shown), "the host's loopback shows as the node");
        server.send_to(format!("re: {round}"), got.from).unwrap();
        assert_eq!(answer(&udp).await, format!("re: {round}"));
    }

    net.detach("uid-1");
    listeners.apply().await;
    assert_eq!(listeners.addresses().count(), 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
    assert_eq!(net.sweep_flows(), None, "no flow is left");
    // The next pod has the port, and another one that wants it as well is told.
    exposed(&net, 2, &[(port, Protocol::Tcp, 80)]);
    exposed(&net, 3, &[(port, Protocol::Tcp, 80)]);
    let failed = listeners.apply().await;
    assert_eq!((failed.len(), &failed[0].whose), (1, &Beneficiary::Pod("uid-3".into())));
    assert_eq!(listeners.addresses().count(), 1);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_once_and_tried_again() {
    let net = network();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    exposed(&net, 1, &[(port, Protocol::Tcp, 80)]);
    let mut listeners = listeners(&net);
    let at = HostAddr { addr: ([127, 0, 0, 1], port).into(), protocol: Protocol::Tcp };
    let error = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    assert_eq!(listeners.apply().await, [HostPortFailure { whose: Beneficiary::Pod("uid-1".into()), at, error }]);
    assert_eq!(listeners.apply().await, [], "once");
    drop(held);
    assert_eq!(listeners.apply().await, []);
    assert_eq!(listeners.addresses().collect::<Vec<_>>(), [at]);
}

/// A Service that is balanced at 127.0.0.1, open to some.
fn balanced(name: &str, created: &str, port: u16, ranges: Value) -> copepod_model::Object {
    let spec = json!({"type": "LoadBalancer", "clusterIP": "10.96.0.7", "loadBalancerSourceRanges": ranges,
        "ports": [{"name": "http", "port": port}]});
    let status = json!({"loadBalancer": {"ingress": [{"ip": "127.0.0.1", "ipMode": "VIP"}]}});
    object("services", name, json!({"metadata": {"creationTimestamp": created}, "spec": spec, "status": status}))
}

#[tokio::test]
async fn a_load_balancers_port_answers_those_that_it_is_for() {
    let (net, port) = (network(), free());
    let listener = attach(&net, 1).listen_tcp("0.0.0.0:8080".parse().unwrap()).unwrap();
    let (_, slices) = web(&[(1, true)], json!({}));
    let none: [copepod_model::Object; 0] = [];
    let set = |services: &[copepod_model::Object]| {
        net.set_routes(Arc::new(RouteTable::build(services, &slices, &none, &none, Config::default())));
    };
    let mut listeners = listeners(&net);
    let (young, old) = ("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
    set(&[balanced("web", young, port, json!(["10.0.0.0/8", "127.0.0.0/8"])), balanced("zoo", young, port, json!([]))]);
    let failed = listeners.apply().await;
    let zoo = ServiceKey { namespace: "shop".into(), name: "zoo".into() };
    let taken = |failed: &[HostPortFailure]| failed.iter().map(|f| f.whose.clone()).collect::<Vec<_>>();
    assert_eq!(taken(&failed), [Beneficiary::Service(zoo.clone())], "the other one is told");
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    tcp.write_all(b"ask").await.unwrap();
    let mut conn = listener.accept().await.unwrap();
    let mut got = [0; 3];
    conn.stream.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"ask");

    set(&[balanced("web", young, port, json!(["10.0.0.0/8"]))]);
    assert_eq!(listeners.apply().await, []);
    let mut tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // It is closed without an answer.
    assert!(!tcp.read(&mut got).await.is_ok_and(|n| n > 0));

    // The older one has the port, whatever its name.
    set(&[balanced("web", young, port, json!([])), balanced("zoo", old, port, json!([]))]);
    let failed = listeners.apply().await;
    let web = ServiceKey { name: "web".into(), ..zoo };
    assert_eq!(taken(&failed), [Beneficiary::Service(web)]);
}

#[tokio::test]
async fn a_load_balancers_port_that_the_host_has_is_told() {
    let net = network();
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let none: [copepod_model::Object; 0] = [];
    let service = balanced("web", "2026-01-01T00:00:00Z", port, json!([]));
    net.set_routes(Arc::new(RouteTable::build(&[service], &none, &none, &none, Config::default())));
    let mut listeners = listeners(&net);
    let failed = listeners.apply().await;
    let error = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
    assert_eq!(failed.iter().map(|f| &f.error).collect::<Vec<_>>(), [&error]);
    assert_eq!(listeners.apply().await, [], "once");
    drop(held);
    assert_eq!(listeners.apply().await, []);
    assert_eq!(listeners.addresses().count(), 1);
}

#[tokio::test]
async fn a_node_port_over_udp_keeps_to_its_endpoint() {
    let (net, port) = (network(), free());
    let bind = |n| attach(&net, n).bind_udp("0.0.0.0:5353".parse().unwrap()).unwrap();
    let servers = [bind(1), bind(2)];
    node_port(&net, port, &[(1, true), (2, true)], json!("None"));
    let mut listeners = listeners(&net);
    listeners.apply().await;
    // Sends a datagram and answers which endpoint got it.
    let took = async |client: &UdpSocket| {
        client.send(b"ask").await.unwrap();
        let (which, got) = tokio::select! {
            got = servers[0].recv_from() => (0, got.unwrap()),
            got = servers[1].recv_from() => (1, got.unwrap()),
        };
        servers[which].send_to(format!("from {which}"), got.from).unwrap();
        assert_eq!(answer(client).await, format!("from {which}"));
        which
    };
    let a = client(port).await;
    let (mut b, mut first) = (client(port).await, (took(&a).await, 2));
    for _ in 0..64 {
        first.1 = took(&b).await;
        if first.1 != first.0 {
            break;
        }
        b = client(port).await;
    }
    assert_ne!(first.0, first.1, "clients are spread");
    assert_eq!((took(&a).await, took(&b).await), first, "each keeps its endpoint");
    // An endpoint that is not eligible any more is left.
    node_port(&net, port, &[(1, true), (2, false)], json!("None"));
    assert_eq!((took(&a).await, took(&b).await), (0, 0));
    // With affinity it is the address that counts.
    node_port(&net, port, &[(1, true), (2, true)], json!("ClientIP"));
    let stays = took(&client(port).await).await;
    for _ in 0..3 {
        assert_eq!(took(&client(port).await).await, stays);
    }
}

#[tokio::test]
async fn datagrams_of_a_namespace_are_its_pods() {
    let net = network();
    let plain = attach(&net, 1).identity().clone();
    net.attach(Identity { interface: Interface::new("veth1"), ..plain });
    let mut policies = copepod_node_routes::Policies::default();
    policies.put_policy(&object(
        "networkpolicies",
        "confined",
        json!({"spec": {"podSelector": {}, "policyTypes": ["Egress"]}}),
    ));
    let [own, other, endpoint] = ["10.244.0.1:4000", "10.244.0.2:4000", "10.244.0.3:53"].map(|at| at.parse().unwrap());
    let lets_out = |from: SocketAddr| net.lets_out(net.who_came(from.ip()), endpoint);
    assert!(lets_out(own));
    net.set_policies(Arc::new(policies));
    assert!(!lets_out(own), "it may go nowhere");
    assert!(lets_out(other), "of others this node asks nothing");
}

#[tokio::test]
async fn endpoints_where_nobody_listens_are_passed_over_and_others_may_be_outside() {
    let (net, port) = (network(), free());
    attach(&net, 1);
    let outside = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    net.expose_host("10.244.0.9:5353".parse().unwrap(), outside.local_addr().unwrap());
    node_port(&net, port, &[(1, true), (9, true)], json!("None"));
    let mut listeners = listeners(&net);
    listeners.apply().await;
    for _ in 0..2 {
        let client = client(port).await;
        client.send(b"ask").await.unwrap();
        let mut buffer = [0; 10];
        let (n, from) = outside.recv_from(&mut buffer).await.unwrap();
        outside.send_to(&buffer[..n], from).await.unwrap();
        assert_eq!(answer(&client).await, "ask");
    }
}
