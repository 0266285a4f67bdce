//! Datagrams that the kernel has led here: each goes on to where it was to go, as part of its sender's flow.

use std::net::SocketAddr;

use copepod_node_routes::{FlowKey, Protocol, Side};
use tokio::time::sleep;

use super::BREATH;
use crate::connect::{Source, Target};
use crate::host::Entrance;
use crate::pod::Scope;
use crate::transparent::{Passing, Receiver};

/// Serves what comes to a receiver, for ever.
pub(super) async fn serve(entrance: &Entrance, receiver: &mut Receiver) {
    let own = receiver.local_addr().ok();
    loop {
        match receiver.receive().await {
            // Somebody has come to the receiver itself.
            Ok(Some(Passing { to, .. })) if Some(to) == own => {}
            Ok(Some(Passing { from, to, data })) => forward(entrance, from, to, data),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "cannot receive the host's datagrams");
                sleep(BREATH).await;
            }
        }
    }
}

/// Takes a datagram to where it was to go. What leads nowhere is lost, as datagrams are.
fn forward(entrance: &Entrance, client: SocketAddr, to: SocketAddr, data: &[u8]) {
    let network = entrance.network();
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    let source = match network.in_namespace(client.ip()) {
        Some(pod) => Source::Pod(pod),
        // A pod that has just gone, of which the table does not know yet.
        None if network.in_cluster(client.ip()) => return,
        // Nobody else is let in but this host's processes.
        None => Source::Node,
    };
    let key = FlowKey { client, at: to };
    match network.target(&source, to, Protocol::Udp) {
        Ok(Target::Service(port)) => entrance.to_service(key, &port, Side::Inside, data),
        Ok(Target::Pod(_, Scope::Pod) | Target::Remote(_) | Target::Outside(_)) => entrance.to_endpoint(key, to, data),
        Ok(Target::Pod(_, Scope::Loopback)) | Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::host::Answers;
    use crate::network::Network;
    use crate::network::tests::{at, attach, attach_dual, ip, network, set_web};
    use crate::{Identity, Interface};

    /// A way in whose answers leave by a socket of the host, and a client of it.
    async fn entrance(net: &Network) -> (Entrance, tokio::net::UdpSocket) {
        let answers = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        answers.set_nonblocking(true).unwrap();
        let client = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        (Entrance::new(net.clone(), Answers::Listener(Arc::new(answers))), client)
    }

    async fn heard(client: &tokio::net::UdpSocket) -> String {
        let mut buffer = [0; 100];
        let n = client.recv(&mut buffer).await.unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    }

    #[tokio::test]
    async fn datagrams_reach_pods_at_either_address_and_are_answered() {
        let net = network();
        net.set_second_ip(ip("fd00:10:244::"));
        let pod = attach_dual(&net, 1);
        let (entrance, client) = entrance(&net).await;
        let from = client.local_addr().unwrap();
        for (bound, own, node) in [
            ("0.0.0.0:5353", "10.244.0.1:5353", "10.244.0.0"),
            ("[::]:5353", "[fd00:10:244::af4:1]:5353", "fd00:10:244::"),
        ] {
            let server = pod.bind_udp(at(bound)).unwrap();
            for round in ["one", "two"] {
                forward(&entrance, from, at(own), round.as_bytes());
                let got = server.recv_from().await.unwrap();
                let shown = SocketAddr::new(ip(node), from.port());
                assert_eq!((&got.data[..], got.from), (round.as_bytes(), shown), "it is the node");
                server.send_to(format!("re: {round}"), got.from).unwrap();
                assert_eq!(heard(&client).await, format!("re: {round}"));
            }
        }
        // A port where nobody is, an address that nobody has, and whoever says to be a pod that is not there.
        forward(&entrance, from, at("10.244.0.1:1"), b"lost");
        forward(&entrance, from, at("10.244.0.9:5353"), b"lost");
        forward(&entrance, at("10.244.0.9:4000"), at("10.244.0.1:5353"), b"lost");
        assert_eq!(net.flow_count(), 2);
    }

    #[tokio::test]
    async fn datagrams_reach_services_from_the_host_and_from_namespaces() {
        let net = network();
        let server = attach(&net, 1).bind_udp("0.0.0.0:5353".parse().unwrap()).unwrap();
        set_web(&net, &[(1, true)]);
        let like = attach(&net, 2).identity().clone();
        net.attach(Identity { interface: Interface::new("veth2"), ..like });
        let (entrance, client) = entrance(&net).await;
        let vip = at("10.96.0.7:53");

        forward(&entrance, client.local_addr().unwrap(), vip, b"ask");
        let got = server.recv_from().await.unwrap();
        assert_eq!(got.from.ip(), net.0.config.node_ip, "it is the node");
        server.send_to("answer", got.from).unwrap();
        assert_eq!(heard(&client).await, "answer");

        let own = at("10.244.0.2:4000");
        forward(&entrance, own, vip, b"ask");
        assert_eq!(server.recv_from().await.unwrap().from, own, "it is the pod");
        forward(&entrance, own, at("10.96.0.7:54"), b"lost");
        assert_eq!(net.flow_count(), 2);
    }
}
