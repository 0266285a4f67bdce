//! `copepod agent`: a node of a cluster whose servers are elsewhere.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use copepod_agent::{Agent as Node, Cidr, DataPort};
use copepod_client::join::self_made;
use copepod_client::tls::{Clients, Rotating};
use copepod_node_plan::Descriptors;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::{Error, default_data_dir};
use crate::descriptors;
use crate::identity::{Identity, api_aliases};
use crate::joining::JoinFlags;
use crate::node::{self, NodeFlags, NodeTls};
use crate::stop::Stop;

/// Run a node of a cluster: it joins by a token once, and comes back by itself from then on.
#[derive(Debug, Args)]
pub struct Agent {
    #[command(flatten)]
    join: JoinFlags,
    /// Where everything is kept. Default: the XDG data folder.
    #[arg(long, env = "COPEPOD_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Name of the node. Default: the host's, or the one that it joined by.
    #[arg(long, env = "COPEPOD_NODE_NAME", value_name = "NAME")]
    node_name: Option<String>,
    /// Address that the ingress, DNS, node ports and the node's API listen on, and by which the node is known. Default: the
    /// one from which this host reaches the servers.
    #[arg(long, env = "COPEPOD_BIND", value_name = "IP")]
    bind: Option<IpAddr>,
    /// Port at which other nodes bring streams and requests for pods of this one; 0 takes any free one.
    #[arg(long, env = "COPEPOD_DATA_PORT", default_value_t = 10251, value_name = "PORT")]
    data_port: u16,
    #[command(flatten)]
    node: NodeFlags,
}

impl Agent {
    /// Runs the node until it is told to stop.
    pub async fn run(self) -> Result<(), Error> {
        let started = Instant::now();
        let dir = self.data_dir.clone().unwrap_or_else(default_data_dir);
        let dir = std::path::absolute(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let name = self.node_name.as_deref().filter(|n| !n.is_empty());
        if let Some(name) = name {
            copepod_model::kinds::names::subdomain(name).map_err(|e| format!("--node-name {name:?}: {e}"))?;
        }
        let say = |text: &str| eprintln!("{:>6.2}s  {text}", started.elapsed().as_secs_f64());
        say(&format!("starting in {}", dir.display()));
        // Signals first: a Ctrl-C during the start must stop cleanly too.
        let mut stop = Stop::new()?;
        let identity = tokio::select! {
            identity = Identity::open(&dir, &self.join, name, self.bind) => identity?,
            () = stop.wait() => return Err("stopped before the node had joined".into()),
        };
        say(&format!("node {} of the cluster at {}", identity.name(), identity.servers().join(", ")));
        let name = identity.name().to_string();

        let bind = self.bind.unwrap_or(identity.address);
        let own = Rotating::new(&self_made(&["localhost", "*.localhost"])?)?;
        let kubelet = identity.serving.server_config(Clients::Optional(&identity.ca))?;
        let tls = NodeTls { ingress: own.server_config(Clients::Unasked)?, kubelet };
        let mut config = self.node.config(&name, bind, &dir, identity.client(), tls)?;
        config.host_ip = identity.address;
        config.data = Some(DataPort {
            addr: SocketAddr::new(bind, self.data_port),
            server: identity.serving.server_config(Clients::Required(&identity.ca))?,
            client: Arc::new(identity.node_tls()?),
        });
        config.descriptors = Descriptors::split(descriptors::raise());
        config.pod_block = Some(cidr(identity.pod_cidr())?);
        config.roots = CertificateDer::pem_slice_iter(identity.ca.as_bytes()).flatten().collect();
        let node = Node::start(config).await?;
        let network = node.network().clone();
        let expose = move |servers: &[String]| {
            for (alias, at) in api_aliases(servers) {
                network.expose_host(alias, at);
            }
        };
        expose(identity.servers());
        let fresh = tokio::spawn(identity.keep_fresh(expose));

        let ready = tokio::select! {
            () = node.ready() => true,
            () = stop.wait() => false,
        };
        if ready {
            say("the node is ready");
            println!("Node     {name}");
            node::places(&node);
            stop.wait().await;
        }
        eprintln!("stopping");
        fresh.abort();
        tokio::select! {
            () = node.shutdown() => Ok(()),
            // Whoever asks twice has no more patience.
            () = stop.wait() => Err("stopped at once, without waiting for what was under way".into()),
        }
    }
}

fn cidr(text: &str) -> Result<Cidr, Error> {
    let bad = || format!("the node's part of the pod network is no IPv4 network: {text:?}");
    let (first, bits) = text.split_once('/').ok_or_else(bad)?;
    let bits = bits.parse::<u8>().ok().filter(|b| (8..=24).contains(b)).ok_or_else(bad)?;
    Ok((first.parse().map_err(|_| bad())?, bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_the_pod_network() {
        assert_eq!(cidr("10.244.240.0/20").ok(), Some(([10, 244, 240, 0].into(), 20)));
        for bad in ["", "10.244.240.0", "10.244.240.0/25", "10.244.240.0/x", "fd00::/20"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }
}
