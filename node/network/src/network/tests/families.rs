//! Addresses of IPv4 and of IPv6, side by side.

use tokio::sync::mpsc;

use super::*;
use crate::pod::Scope;

#[tokio::test]
async fn a_pod_has_an_address_of_either_family() {
    let net = network();
    let (a, b) = (attach_dual(&net, 1), attach_dual(&net, 2));
    let (four, six) = (at("10.244.0.2:8080"), at("[fd00:10:244::af4:2]:8080"));
    let only = b.listen_tcp(at("0.0.0.0:8080")).unwrap();
    assert_eq!(a.connect_tcp(six).await.unwrap_err(), NetError::ConnectionRefused, "it listens for the other family");
    assert_eq!(b.listen_tcp(at("[::]:8080")).unwrap_err(), NetError::AddressInUse, "which is for both");
    assert!(b.listen_tcp(six).is_ok());
    drop(only);
    let listener = b.listen_tcp(at("[::]:8080")).unwrap();
    for (to, from) in [(four, "10.244.0.1"), (six, "fd00:10:244::af4:1")] {
        let conn = a.connect_tcp(to).await.unwrap();
        let taken = listener.try_accept().unwrap().unwrap();
        assert_eq!((conn.local.ip(), taken.peer, taken.local), (ip(from), conn.local, to));
    }
    let conn = b.connect_tcp(at("[::1]:8080")).await.unwrap();
    assert_eq!((conn.local.ip(), listener.try_accept().unwrap().unwrap().peer), (ip("::1"), conn.local));
    assert_eq!(b.listen_tcp(six).unwrap_err(), NetError::AddressInUse);
    assert_eq!(a.listen_tcp(six).unwrap_err(), NetError::AddressNotBindable);
    assert!(b.listen_tcp(at("[fd00:10:244::af4:2]:81")).is_ok());
    assert_eq!(b.resolve("pod-2").await, Ok(vec![four.ip(), six.ip()]));
    let (x, y) = (a.bind_udp(at("[::]:0")).unwrap(), b.bind_udp(at("[::]:5353")).unwrap());
    x.send_to(&b"ask"[..], at("[fd00:10:244::af4:2]:5353")).unwrap();
    let asked = y.try_recv_from().unwrap().unwrap();
    assert_eq!(asked.from, SocketAddr::new(ip("fd00:10:244::af4:1"), x.local_addr().port()));
    assert!(b.bind_udp(at("0.0.0.0:5353")).is_ok(), "of datagrams each family has its own");
    y.send_to(&b"answer"[..], asked.from).unwrap();
    assert_eq!(x.try_recv_from().unwrap().unwrap().from, at("[fd00:10:244::af4:2]:5353"));
    // What the node opens comes from its address of the family, once it has one.
    let shown = async || {
        let _conn = net.connect(Source::Node, six).await.unwrap();
        listener.try_accept().unwrap().unwrap().peer.ip()
    };
    assert_eq!(shown().await, ip("10.244.0.0"));
    net.set_second_ip(ip("fd00:10:244::af4:0"));
    assert_eq!(shown().await, ip("fd00:10:244::af4:0"));
    assert_eq!(net.pods().len(), 2);
    net.detach("uid-2");
    assert!(net.pod(four.ip()).is_none() && net.pod(six.ip()).is_none());
    assert_eq!(a.connect_tcp(six).await.unwrap_err(), NetError::RemoteUnreachable, "not sought outside");
}

#[tokio::test]
async fn a_virtual_address_leads_to_endpoints_of_its_family() {
    let net = network();
    let (a, b) = (attach_dual(&net, 1), attach_dual(&net, 2));
    let listener = b.listen_tcp(at("[::]:8080")).unwrap();
    let spec = json!({"clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00:10:96::7"], "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"name": "http", "port": 80}]});
    let slice = |name: &str, address: &str| {
        let value = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": [address]}]});
        object("endpointslices", name, value)
    };
    let services = [object("services", "web", json!({ "spec": spec }))];
    let slices = [slice("web-4", "10.244.0.2"), slice("web-6", "fd00:10:244::af4:2")];
    let none: &[Object] = &[];
    net.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, routes::Config::default())));
    for (vip, from, to) in [
        ("10.96.0.7:80", "10.244.0.1", "10.244.0.2:8080"),
        ("[fd00:10:96::7]:80", "fd00:10:244::af4:1", "[fd00:10:244::af4:2]:8080"),
    ] {
        let conn = a.connect_tcp(at(vip)).await.unwrap();
        let taken = listener.try_accept().unwrap().unwrap();
        assert_eq!((conn.peer, taken.local, taken.peer.ip()), (at(vip), at(to), ip(from)), "{vip}");
    }
    // By its text in a URL too.
    drop(listener);
    let echo = Arc::new(Echo { name: "echo".into(), ..Echo::default() });
    let _guard = net.serve_http(b.ip(), 8080, echo).unwrap();
    let response = a.send_http(get("http://[fd00:10:96::7]/"), HttpOptions::default()).await.unwrap();
    assert_eq!(response.status(), 200);
}

/// A network whose node has an address of either family.
fn dual() -> Network {
    let net = network();
    net.set_second_ip(ip("fd00:10:244::af4:0"));
    net
}

#[tokio::test]
async fn a_client_outside_of_the_other_family_shows_as_the_node() {
    let net = dual();
    let (one, two) = (attach_dual(&net, 1), attach_dual(&net, 2));
    let (four, six) = (at("10.244.0.1:8080"), at("[fd00:10:244::af4:2]:8080"));
    let listeners = [one.listen_tcp(at("0.0.0.0:8080")).unwrap(), two.listen_tcp(six).unwrap()];
    for (listener, to, client, shown) in [
        (&listeners[0], four, "192.0.2.7:4000", "192.0.2.7:4000"),
        (&listeners[0], four, "[2001:db8::7]:4001", "10.244.0.0:4001"),
        (&listeners[1], six, "[2001:db8::7]:4002", "[2001:db8::7]:4002"),
        (&listeners[1], six, "192.0.2.7:4003", "[fd00:10:244::af4:0]:4003"),
    ] {
        let target = net.endpoint_target(to).unwrap();
        let conn = net.open(&Source::Client(at(client)), &target, to, None).await.unwrap();
        assert_eq!((conn.local, conn.peer), (at(client), to), "it knows itself");
        assert_eq!(listener.try_accept().unwrap().unwrap().peer, at(shown), "{client}");
    }
    // Who takes requests is told whose they are.
    drop(listeners);
    let _guard = net.serve_http(one.ip(), 8080, Arc::new(Peers)).unwrap();
    let target = net.endpoint_target(four).unwrap();
    let mut conn = net.open(&Source::Client(at("[2001:db8::7]:4004")), &target, four, None).await.unwrap();
    conn.stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    conn.stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("[2001:db8::7]:4004"), "{answer}");
}

/// Answers with the address that a request has come from.
struct Peers;

#[async_trait]
impl HttpService for Peers {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let peer = request.extensions().get::<ConnInfo>().map(|info| info.peer.to_string());
        Ok(Response::new(full(peer.unwrap_or_default())))
    }
}

#[tokio::test]
async fn datagrams_of_a_client_outside_of_the_other_family_are_answered() {
    let net = dual();
    let pod = attach_dual(&net, 1);
    let socket = pod.bind_udp(at("0.0.0.0:5353")).unwrap();
    let to = at("10.244.0.1:5353");
    let mailbox = pod.udp(Scope::Pod, to).unwrap();
    // Two clients whose ports are the same are two for the pod.
    for (client, shown) in [("[2001:db8::7]:4000", "10.244.0.0:4000"), ("[2001:db8::8]:4000", "10.244.0.0:4001")] {
        let (answers, mut answered) = mpsc::channel(1);
        let key = net.stream_flow(at(client));
        net.deliver(key, &mailbox, to, &answers, Bytes::from_static(b"ask"));
        let asked = socket.try_recv_from().unwrap().unwrap();
        assert_eq!(asked.from, at(shown));
        socket.send_to(&b"answer"[..], asked.from).unwrap();
        assert_eq!(answered.try_recv().unwrap(), &b"answer"[..], "{client}");
    }
}

#[tokio::test]
async fn a_connection_to_a_service_has_the_family_of_its_address() {
    let net = dual();
    let (a, b) = (attach_dual(&net, 1), attach_dual(&net, 2));
    let listener = b.listen_tcp(at("[::]:8080")).unwrap();
    let (services, _) = web(&[], json!({}));
    // As the API has them on machines whose addresses are of IPv6.
    let slice = json!({"metadata": {"labels": {SERVICE_NAME_LABEL: "web"}}, "ports": [{"name": "http", "port": 8080}],
        "addressType": "IPv6", "endpoints": [{"addresses": ["fd00:10:244::af4:2"]}]});
    let slices = [object("endpointslices", "web", slice)];
    let none: &[Object] = &[];
    net.set_routes(Arc::new(RouteTable::build(&services, &slices, none, none, routes::Config::default())));
    let conn = a.connect_tcp(at("10.96.0.7:80")).await.unwrap();
    assert_eq!((conn.local.ip(), conn.peer), (a.ip(), at("10.96.0.7:80")));
    assert_eq!(
        listener.try_accept().unwrap().unwrap().peer,
        SocketAddr::new(ip("fd00:10:244::af4:1"), conn.local.port())
    );
}
