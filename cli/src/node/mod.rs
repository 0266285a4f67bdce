//! What the verbs that run a node share: its flags, its set-up, and what it says when it is there.

mod dns;
mod images;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use copepod_agent::{AccessLogTo, Agent, AgentConfig, NamespacePod, POD_CIDR};
use copepod_client::Client;

use crate::cmd::Error;

/// Upstream's, where nothing was said.
const KUBELET_PORT: u16 = 10250;

/// Flags of a node.
#[derive(Debug, Args)]
pub struct NodeFlags {
    /// Port of the ingress over HTTP; 0 takes any free one.
    #[arg(long, env = "COPEPOD_INGRESS_PORT", default_value_t = 8080, value_name = "PORT")]
    ingress_port: u16,
    /// Port of the ingress over HTTPS; 0 takes any free one.
    #[arg(long, env = "COPEPOD_INGRESS_TLS_PORT", default_value_t = 8443, value_name = "PORT")]
    ingress_tls_port: u16,
    /// Write a line of JSON for each request and stream at the ingress: to a file, or to the standard output for `-` or nothing.
    #[arg(
        long,
        env = "COPEPOD_INGRESS_ACCESS_LOG",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "-",
        value_name = "FILE|-",
        value_parser = AccessLogTo::parse
    )]
    ingress_access_log: Option<AccessLogTo>,
    /// Port of the cluster's DNS, UDP and TCP; 0 takes any free one.
    #[arg(long, env = "COPEPOD_DNS_PORT", default_value_t = 8053, value_name = "PORT")]
    dns_port: u16,
    /// Port of the node's own API, as the kubelet's, for the servers; 0 takes any free one. Default: 10250; of `up` any free one
    /// where that is taken.
    #[arg(long, env = "COPEPOD_KUBELET_PORT", value_name = "PORT")]
    kubelet_port: Option<u16>,
    /// Another address of this host, of the other IP family: the ingress, DNS and node ports listen there as well, and the Node
    /// and its pods show it (`status.hostIPs`).
    #[arg(long, env = "COPEPOD_ALSO_BIND", value_name = "IP")]
    also_bind: Option<IpAddr>,
    /// Folder of static pods: manifests of pods that the node runs by itself. Default: `manifests` in the data folder.
    #[arg(long, env = "COPEPOD_STATIC_PODS", visible_alias = "pod-manifest-path", value_name = "DIR")]
    static_pods: Option<PathBuf>,
    /// How often it is measured what pods use, for `kubectl top`, such as `15s` or `500ms`.
    #[arg(long, env = "COPEPOD_METRIC_RESOLUTION", default_value = "15s", value_name = "DURATION", value_parser = period)]
    metric_resolution: Duration,
    /// Let this host's own processes reach pods and Services at their addresses. Changes the host's routes and nftables while the
    /// node runs; takes CAP_NET_ADMIN, `ip` and `nft`.
    #[arg(long, env = "COPEPOD_HOST_ACCESS")]
    host_access: bool,
    /// A pod in a network namespace that was made by hand, to try what containers will use.
    #[arg(long, hide = true, requires = "host_access", value_name = "NAMESPACE/NAME=ADDRESS@INTERFACE")]
    namespace_pod: Vec<NamespacePod>,
    #[command(flatten)]
    dns: dns::DnsFlags,
    #[command(flatten)]
    images: images::ImageFlags,
}

/// What a node shows to who connects to it.
pub struct NodeTls {
    /// The ingress, where no Secret names a certificate.
    pub ingress: Arc<rustls::ServerConfig>,
    /// The node's own API.
    pub kubelet: Arc<rustls::ServerConfig>,
}

impl NodeFlags {
    /// How the agent of the node `name` is set up that listens on `bind` and keeps its things in `dir`, the data folder.
    pub fn config(
        &self,
        name: &str,
        bind: IpAddr,
        dir: &Path,
        client: Client,
        tls: NodeTls,
    ) -> Result<AgentConfig, Error> {
        let at = |port| SocketAddr::new(bind, port);
        let mut config = AgentConfig::new(name, dir.join("node"), client);
        config.allow_file_images = true;
        config.node_addresses = vec![bind];
        if !bind.is_unspecified() {
            config.host_ip = bind;
        }
        if let Some(second) = self.also_bind {
            if second.is_ipv4() == bind.is_ipv4() || second.is_unspecified() {
                return Err(
                    format!("--also-bind {second}: it must be an address of the other IP family than {bind}").into()
                );
            }
            config.second_ip = Some(second);
            config.node_addresses.push(second);
        }
        config.allow_host_path = true;
        self.images.set(&mut config, dir)?;
        self.dns.set(&mut config)?;
        let manifests = match &self.static_pods {
            Some(given) => std::path::absolute(given).map_err(|e| format!("{}: {e}", given.display()))?,
            None => dir.join("manifests"),
        };
        config.static_pods = Some(manifests);
        config.ingress_addr = Some(at(self.ingress_port));
        config.access_log = self.ingress_access_log.clone();
        config.ingress_tls = Some((at(self.ingress_tls_port), tls.ingress));
        config.dns_addr = Some(at(self.dns_port));
        config.kubelet = Some((at(self.kubelet_port.unwrap_or(KUBELET_PORT)), tls.kubelet));
        config.usage_period = self.metric_resolution;
        config.host_access = self.host_access;
        config.namespaces = self.namespace_pod.clone();
        Ok(config)
    }

    /// Whether somebody said at which port the node's own API is to be.
    pub fn names_kubelet_port(&self) -> bool {
        self.kubelet_port.is_some()
    }
}

/// The address in the pod network that stands for an API that listens at `ip`, where pods cannot reach that.
pub fn api_alias(ip: IpAddr) -> Option<IpAddr> {
    (ip.is_loopback() || ip.is_unspecified()).then_some(POD_CIDR.0.into())
}

/// Says where the node's front doors are: on stdout, one `name value` per line.
pub fn places(agent: &Agent) {
    if let Some(at) = agent.ingress_addr() {
        println!("Ingress  http://{at}");
    }
    if let Some(at) = agent.ingress_tls_addr() {
        println!("         https://{at}");
    }
    if let Some(at) = agent.dns_addr() {
        println!("DNS      {at}");
    }
}

/// A duration in whole seconds or milliseconds, from 10 ms to an hour.
fn period(text: &str) -> Result<Duration, String> {
    let parsed = match text.strip_suffix("ms") {
        Some(n) => n.parse().ok().map(Duration::from_millis),
        None => text.strip_suffix('s').and_then(|n| n.parse().ok()).map(Duration::from_secs),
    };
    parsed
        .filter(|d| (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(d))
        .ok_or_else(|| "must be a duration from 10ms to 3600s".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods() {
        assert_eq!(period("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(period("500ms"), Ok(Duration::from_millis(500)));
        for bad in ["", "s", "15", "0s", "9ms", "-1s", "1.5s", "3601s", "1h"] {
            assert!(period(bad).is_err(), "{bad}");
        }
    }
}
