//! The node's DNS: sockets for whoever asks, and the way of its pods to names outside the cluster.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use copepod_dns_server::{Access, DnsServer, Forwarder, Found, Sockets, ZoneSource};
use copepod_node_network::{Dns, HostResolver, NameServer, NetError, Upstream};
use copepod_node_plan::{NameServer as Named, PodDns};

use crate::config::AgentConfig;

/// What answers names outside the cluster, for pods and for clients on sockets.
#[derive(Clone)]
pub(crate) struct Outside {
    forwarder: Arc<Forwarder>,
    /// Whether the servers were named, so that the host's resolver is not asked.
    named: bool,
    access: Access,
}

impl Outside {
    /// As `config` says; `own` is where this node answers, which is nobody to ask. Names outside are told to the host, to
    /// pods and to whom the configuration names.
    pub fn new(config: &AgentConfig, own: Option<SocketAddr>) -> Outside {
        let dns = &config.dns;
        let named = !dns.upstreams.is_empty();
        let forwarder = match named {
            true => Forwarder::new(dns.upstreams.clone(), &dns.stub_domains),
            false => {
                let own = own.unwrap_or(([127, 0, 0, 1], 53).into());
                Forwarder::following(&dns.resolv_conf, own, &dns.stub_domains)
            }
        };
        let whole = |ip: IpAddr| (ip, if ip.is_ipv4() { 32 } else { 128 });
        let hosts = config.node_addresses.iter().copied().chain([config.host_ip]).chain(own.map(|at| at.ip()));
        let hosts = hosts.filter(|ip| !ip.is_unspecified()).map(whole);
        Outside {
            forwarder: Arc::new(forwarder),
            named,
            access: Access::new(hosts.chain(config.networks()).chain(dns.recursion.iter().copied())),
        }
    }

    /// Serves `zone` and these names.
    pub fn serve(&self, sockets: Sockets, zone: ZoneSource, connections: usize) -> io::Result<DnsServer> {
        copepod_dns_server::serve(sockets, zone, self.forwarder.clone(), self.access.clone(), connections)
    }
}

/// How a pod resolves names, in the network's words.
pub(crate) fn of_pod(dns: &PodDns) -> Dns {
    let server = |server: &Named| match server {
        Named::Cluster => NameServer::Cluster,
        Named::Host => NameServer::Host,
        Named::At(ip) => NameServer::At(*ip),
    };
    Dns {
        servers: dns.servers.iter().map(server).collect(),
        search: dns.search.iter().map(ToString::to_string).collect(),
        ndots: dns.ndots.into(),
    }
}

#[async_trait]
impl Upstream for Outside {
    async fn lookup(&self, name: &str, client: IpAddr) -> Result<Vec<IpAddr>, NetError> {
        // The host's resolver knows more than DNS: its hosts file, say.
        if !self.named && !self.forwarder.is_stub(name) {
            return HostResolver.lookup(name, client).await;
        }
        match self.forwarder.addresses(name, client).await {
            Found::Addresses(ips) => Ok(ips),
            Found::Nothing => Err(NetError::NameUnresolvable),
            Found::Failed => Err(NetError::TemporaryResolverFailure),
        }
    }
}
