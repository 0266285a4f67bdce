//! How an agent is set up.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use copepod_client::Client;
use copepod_dns_server::StubDomain;
use copepod_images::Registries;
use copepod_model::networks;
use copepod_node_network::{AccessLogTo, Interface};
use copepod_node_plan::{Descriptors, ImageGcPolicy};
use rustls::pki_types::CertificateDer;

use crate::addresses::Cidr;

/// Addresses of pods, if nothing else is said. The first one is the node's own in the pod network.
pub const POD_CIDR: Cidr = networks::PODS;

/// How a node and others carry streams of their pods to each other.
#[derive(Clone)]
pub struct DataPort {
    /// Where others' streams are taken; port 0 takes a free one.
    pub addr: SocketAddr,
    /// With what: clients must show a certificate of the cluster's CA.
    pub server: Arc<rustls::ServerConfig>,
    /// For connections to others, which must show the cluster's certificate for their node's name.
    pub client: Arc<rustls::ClientConfig>,
}

/// What DNS does with names outside the cluster.
#[derive(Clone, Debug)]
pub struct DnsConfig {
    /// Servers to ask, in order; without any those that `resolv_conf` names.
    pub upstreams: Vec<SocketAddr>,
    /// Domains with servers of their own.
    pub stub_domains: Vec<StubDomain>,
    /// The host's resolv.conf.
    pub resolv_conf: PathBuf,
    /// Networks (address, prefix length) whose clients may ask, besides the cluster's own and this node's addresses.
    pub recursion: Vec<(IpAddr, u8)>,
}

impl Default for DnsConfig {
    fn default() -> Self {
        DnsConfig {
            upstreams: Vec::new(),
            stub_domains: Vec::new(),
            resolv_conf: "/etc/resolv.conf".into(),
            recursion: Vec::new(),
        }
    }
}

/// How an agent is set up.
#[derive(Clone)]
pub struct AgentConfig {
    /// The node's name.
    pub node_name: String,
    /// Images, compiled modules and logs are kept below it.
    pub data_dir: PathBuf,
    /// The API, as `system:node:<name>`.
    pub client: Client,
    /// Addresses of pods.
    pub pod_cidr: Cidr,
    /// The part of them that is this node's alone; without one the node takes blocks of its own accord, which only does
    /// where it is the only node. Its first address is the node's own in the pod network.
    pub pod_block: Option<Cidr>,
    /// Addresses of Services.
    pub service_cidr: Cidr,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// Address of the cluster's DNS Service, for the zone's own records.
    pub cluster_dns: Option<IpAddr>,
    /// Certificates that pods trust besides the host's roots: the cluster's CA.
    pub roots: Vec<CertificateDer<'static>>,
    /// The node's own address, as its status shows it.
    pub host_ip: IpAddr,
    /// The one of the other family, where the ingress and DNS listen as well.
    pub second_ip: Option<IpAddr>,
    /// Addresses of the host that node ports and host ports listen on. Name them: a wildcard would take a port from all.
    pub node_addresses: Vec<IpAddr>,
    /// Labels of the node besides the usual ones.
    pub labels: BTreeMap<String, String>,
    /// Whether images may be files of this host.
    pub allow_file_images: bool,
    /// Mirrors, certificates and credentials of registries.
    pub registries: Registries,
    /// The name that the cluster's own registry has in images; it is reached through the API.
    pub cluster_registry: Option<String>,
    /// When images are removed.
    pub image_gc: ImageGcPolicy,
    /// How often that is looked at.
    pub image_gc_period: Duration,
    /// Whether pods may mount paths of this host.
    pub allow_host_path: bool,
    /// How often volumes with a limit are measured.
    pub volume_check: Duration,
    /// Where the ingress listens; port 0 takes a free one. Name an address: a wildcard would take the port from all.
    pub ingress_addr: Option<SocketAddr>,
    /// Where the ingress listens for TLS, and with what.
    pub ingress_tls: Option<(SocketAddr, Arc<rustls::ServerConfig>)>,
    /// Where each request at the ingress has a line, if anywhere.
    pub access_log: Option<AccessLogTo>,
    /// Where the node's API (the kubelet's) is served over TLS, and with what; client certificates are asked for, not
    /// required. Port 0 takes a free one; upstream's is 10250.
    pub kubelet: Option<(SocketAddr, Arc<rustls::ServerConfig>)>,
    /// Whether any free port will do for it where that is taken: where the server does not ask there.
    pub kubelet_any_port: bool,
    /// The way to pods of other nodes, and theirs to those of this one; without it the node reaches its own pods only.
    pub data: Option<DataPort>,
    /// Where DNS is served, over UDP and TCP.
    pub dns_addr: Option<SocketAddr>,
    /// What it does with names outside the cluster.
    pub dns: DnsConfig,
    /// How long requests at the ingress may go on after the agent was told to stop.
    pub drain: Duration,
    /// Whether pods may connect to the world outside the cluster.
    pub egress: bool,
    /// With less memory available than this, in bytes, pods are evicted.
    pub eviction_memory: i64,
    /// With less left of the disk than this, images are removed and pods are evicted.
    pub eviction_disk: copepod_node_plan::eviction::DiskThresholds,
    /// How often it is measured what containers use.
    pub usage_period: Duration,
    /// What may be open at once of what guests and clients decide the number of.
    pub descriptors: Descriptors,
    /// How many pods the node takes.
    pub max_pods: u32,
    /// The folder of static pods.
    pub static_pods: Option<PathBuf>,
    /// Whether the host's own processes reach pods and Services at their addresses: its routes and its nftables are changed for
    /// that while the agent runs, which takes CAP_NET_ADMIN.
    pub host_access: bool,
    /// Pods that live in network namespaces which somebody else has made, and that the API need not know.
    pub namespaces: Vec<NamespacePod>,
}

/// A pod in a network namespace that was made by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespacePod {
    /// Its namespace in Kubernetes' sense.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address, of the node's part of the pod network; nobody else's. Its IPv6 address is the one beside it.
    pub ip: Ipv4Addr,
    /// The host's end of its veth pair.
    pub interface: Interface,
}

impl FromStr for NamespacePod {
    type Err = &'static str;

    /// `NAMESPACE/NAME=ADDRESS@INTERFACE`.
    fn from_str(text: &str) -> Result<NamespacePod, Self::Err> {
        let parse = || {
            let (pod, place) = text.split_once('=')?;
            let ((namespace, name), (ip, interface)) = (pod.split_once('/')?, place.split_once('@')?);
            let interface = Interface::new(interface)?;
            let named = !namespace.is_empty() && !name.is_empty();
            named.then_some(NamespacePod {
                namespace: namespace.into(),
                name: name.into(),
                ip: ip.parse().ok()?,
                interface,
            })
        };
        parse().ok_or("must be NAMESPACE/NAME=ADDRESS@INTERFACE")
    }
}

impl AgentConfig {
    /// The networks inside the cluster: address and prefix length.
    pub(crate) fn networks(&self) -> Vec<(IpAddr, u8)> {
        let v4 = [self.pod_cidr, self.service_cidr].map(|(network, bits)| (network.into(), bits));
        let v6 = [networks::PODS_V6, networks::SERVICES_V6].map(|(network, bits)| (network.into(), bits));
        v4.into_iter().chain(v6).collect()
    }

    /// The usual settings.
    pub fn new(node_name: impl Into<String>, data_dir: impl Into<PathBuf>, client: Client) -> AgentConfig {
        AgentConfig {
            node_name: node_name.into(),
            data_dir: data_dir.into(),
            client,
            pod_cidr: POD_CIDR,
            pod_block: None,
            service_cidr: networks::SERVICES,
            cluster_domain: "cluster.local".into(),
            cluster_dns: None,
            roots: Vec::new(),
            host_ip: Ipv4Addr::LOCALHOST.into(),
            second_ip: None,
            node_addresses: Vec::new(),
            labels: BTreeMap::new(),
            allow_file_images: false,
            registries: Registries::default(),
            cluster_registry: None,
            image_gc: ImageGcPolicy::default(),
            image_gc_period: Duration::from_secs(300),
            allow_host_path: false,
            volume_check: Duration::from_secs(10),
            ingress_addr: None,
            ingress_tls: None,
            access_log: None,
            kubelet: None,
            kubelet_any_port: false,
            data: None,
            dns_addr: None,
            dns: DnsConfig::default(),
            drain: Duration::from_secs(10),
            egress: true,
            eviction_memory: copepod_node_plan::eviction::MEMORY_THRESHOLD,
            eviction_disk: Default::default(),
            usage_period: Duration::from_secs(15),
            descriptors: Descriptors::default(),
            max_pods: 10_000,
            static_pods: None,
            host_access: false,
            namespaces: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_in_namespaces() {
        let pod: NamespacePod = "shop/till=10.244.0.9@veth0".parse().unwrap();
        assert_eq!((&*pod.namespace, &*pod.name, pod.interface.name()), ("shop", "till", "veth0"));
        assert_eq!(pod.ip, Ipv4Addr::new(10, 244, 0, 9));
        for bad in
            ["", "till=10.244.0.9@veth0", "/till=10.244.0.9@v", "shop/till@v", "shop/till=x@v", "shop/till=10.244.0.9@"]
        {
            assert!(bad.parse::<NamespacePod>().is_err(), "{bad}");
        }
    }
}
