//! Pods in network namespaces of their own: their addresses are the kernel's to route, by the host's ends of their veth pairs.
//! What they send comes to the listener of [`crate::HostAccess`], which knows them by their addresses; what is for them leaves by
//! a socket that bears its source's address (IP_TRANSPARENT), so that they see who has come.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::time::timeout;

use crate::connect::{Conn, Source, Target};
use crate::error::NetError;
use crate::network::Network;
use crate::pod::{Interface, PodHandle, Scope};
use crate::policy::{Who, flow};
use crate::stream::Stream;
use crate::transparent;

impl Network {
    /// Every address behind an interface of this host.
    pub(crate) fn namespaces(&self) -> BTreeSet<(IpAddr, Interface)> {
        let pods = self.pods();
        let all = pods.iter().filter_map(|pod| Some((pod, pod.identity().interface.as_ref()?)));
        all.flat_map(|(pod, interface)| pod.identity().ips().map(move |ip| (ip, interface.clone()))).collect()
    }

    /// The pod with this address, if it lives in a namespace.
    pub(crate) fn in_namespace(&self, ip: IpAddr) -> Option<Arc<PodHandle>> {
        self.pod(ip.to_canonical()).filter(|pod| pod.identity().interface.is_some())
    }

    /// Who has come to an address of this host: a pod in a namespace, or a client.
    pub(crate) fn who_came(&self, ip: IpAddr) -> Who {
        match self.in_namespace(ip) {
            Some(pod) => Who::of(&pod, ip),
            None => Who::client(ip),
        }
    }

    /// The address by which whoever has `ip` is seen at an address of a namespace. Answers to others' addresses would not come back
    /// here: clients outside show as the node, as behind kube-proxy.
    pub(crate) fn shown_in_namespace(&self, ip: IpAddr, to: IpAddr) -> IpAddr {
        let ip = ip.to_canonical();
        if self.in_cluster(ip) { ip } else { self.node_ip_for(to) }
    }

    /// A connection to a pod in a namespace.
    pub(crate) async fn open_namespace(
        &self,
        from: &Source,
        pod: &Arc<PodHandle>,
        interface: &Interface,
        to: SocketAddr,
    ) -> Result<Conn, NetError> {
        let target = Target::Pod(pod.clone(), Scope::Pod);
        self.permit(from, &target, to)?;
        let room = self.outgoing(1)?;
        let there = SocketAddr::new(to.ip().to_canonical(), to.port());
        let shown = self.shown_in_namespace(from.ip_for(self, to.ip()), there.ip());
        // One of them has no address of the other's family.
        if shown.is_ipv4() != there.is_ipv4() {
            return Err(NetError::RemoteUnreachable);
        }
        let socket = transparent::stream_of(shown, interface)?;
        let connecting = timeout(self.0.config.connect_timeout, socket.connect(there));
        let tcp = connecting.await.map_err(|_| NetError::Timeout)??;
        let _ = tcp.set_nodelay(true);
        let local = SocketAddr::new(from.ip_for(self, to.ip()), tcp.local_addr()?.port());
        let mut stream = Stream::host(tcp, room).watched(&pod.tracker, flow(from, &target, to));
        if let Some(tracker) = from.tracker() {
            stream = stream.also_tracked(tracker);
        }
        // Policies may have changed while it was opened.
        self.permit(from, &target, to)?;
        Ok(Conn { local, peer: to, stream })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;
    use crate::network::tests::{attach, ip, network};

    #[tokio::test]
    async fn addresses_of_namespaces_are_known_while_their_pods_are_there() {
        let net = network();
        let plain = attach(&net, 1).identity().clone();
        assert!(net.namespaces().is_empty() && net.in_namespace(plain.ip).is_none());
        let veth = Interface::new("veth1").unwrap();
        let second = ip("fd00:10:244::af4:1");
        let pod = net.attach(Identity { interface: Some(veth.clone()), second_ip: Some(second), ..plain });
        assert_eq!(net.namespaces(), BTreeSet::from([(pod.ip(), veth.clone()), (second, veth)]));
        assert!(net.in_namespace(second).is_some());
        let found = net.in_namespace(ip("::ffff:10.244.0.1")).unwrap();
        assert!(Arc::ptr_eq(&found, &pod));
        assert!(matches!(net.who_came(pod.ip()), Who::Pod(..)), "it is no client outside");
        assert!(matches!(net.who_came(ip("10.244.0.2")), Who::Outside(_)));
        net.detach("uid-1");
        assert!(net.namespaces().is_empty());
    }

    #[tokio::test]
    async fn clients_outside_show_as_the_node() {
        let net = network();
        net.set_second_ip(ip("fd00:10:244::"));
        let shown = |from: &str, to: &str| net.shown_in_namespace(ip(from), ip(to)).to_string();
        assert_eq!(shown("10.244.3.7", "10.244.0.1"), "10.244.3.7");
        assert_eq!(shown("::ffff:10.244.3.7", "10.244.0.1"), "10.244.3.7");
        assert_eq!(shown("192.0.2.9", "10.244.0.1"), "10.244.0.0");
        assert_eq!(shown("fd00:10:244::af4:307", "fd00:10:244::af4:1"), "fd00:10:244::af4:307");
        assert_eq!(shown("2001:db8::1", "fd00:10:244::af4:1"), "fd00:10:244::");
    }

    #[tokio::test]
    async fn a_namespace_that_is_gone_is_not_sought_elsewhere() {
        let net = network();
        let plain = attach(&net, 1).identity().clone();
        // There is no such interface; or this user may not say from whom it comes, or by which it goes.
        let pod = net.attach(Identity { interface: Interface::new("copepod-none"), ..plain });
        let refused = net.connect(Source::Node, SocketAddr::new(pod.ip(), 80)).await.unwrap_err();
        assert!(
            matches!(refused, NetError::Other(_) | NetError::AccessDenied | NetError::RemoteUnreachable),
            "{refused}"
        );
    }

    #[test]
    fn names_of_interfaces() {
        for good in ["veth0", "cali1234.5_6-7", "x", "fifteen-bytes-x"] {
            assert_eq!(Interface::new(good).unwrap().name(), good);
        }
        for bad in ["", "sixteen-bytes-xx", "a b", "a\"", "a/b", "a\n", "ä"] {
            assert_eq!(Interface::new(bad), None, "{bad:?}");
        }
    }
}
