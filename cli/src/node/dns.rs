//! Whom a node's DNS asks for names outside the cluster, and for whom.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use copepod_agent::{AgentConfig, DnsConfig, StubDomain, dns_server};

use crate::cmd::Error;

/// Flags about names outside the cluster.
#[derive(Debug, Args)]
pub struct DnsFlags {
    /// Name servers for names outside the cluster, in the order in which they are asked. Default: those of the host's
    /// resolv.conf.
    #[arg(long, env = "COPEPOD_DNS_UPSTREAM", value_name = "IP[:PORT],…", value_delimiter = ',', value_parser = dns_server)]
    dns_upstream: Vec<SocketAddr>,
    /// A domain whose names other servers know, as `corp.example=10.0.0.53,10.0.1.53:5353`. May be given again; in the
    /// environment several are separated by `;`.
    #[arg(long, env = "COPEPOD_DNS_STUB_DOMAIN", value_name = "DOMAIN=IP[:PORT],…", value_delimiter = ';')]
    dns_stub_domain: Vec<StubDomain>,
    /// Networks whose clients may ask this node's DNS for names outside the cluster, besides the cluster and this host.
    #[arg(long, env = "COPEPOD_DNS_ALLOW_RECURSION", value_name = "CIDR,…", value_delimiter = ',', value_parser = network)]
    dns_allow_recursion: Vec<(IpAddr, u8)>,
    /// The host's resolv.conf.
    #[arg(long, env = "COPEPOD_RESOLV_CONF", default_value = "/etc/resolv.conf", value_name = "FILE")]
    resolv_conf: PathBuf,
}

impl DnsFlags {
    /// Sets an agent up.
    pub fn set(&self, config: &mut AgentConfig) -> Result<(), Error> {
        let cluster = &config.cluster_domain;
        let mut domains = Vec::new();
        for StubDomain { domain, .. } in &self.dns_stub_domain {
            if domain == cluster || domain.ends_with(&format!(".{cluster}")) {
                return Err(format!("--dns-stub-domain {domain}: names of {cluster} are the cluster's own").into());
            }
            if domains.contains(&domain) {
                return Err(format!("--dns-stub-domain {domain} is given twice").into());
            }
            domains.push(domain);
        }
        config.dns = DnsConfig {
            upstreams: self.dns_upstream.clone(),
            stub_domains: self.dns_stub_domain.clone(),
            resolv_conf: self.resolv_conf.clone(),
            recursion: self.dns_allow_recursion.clone(),
        };
        Ok(())
    }
}

/// `192.0.2.0/24` or `2001:db8::/32`.
fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let parsed =
        text.split_once('/').and_then(|(ip, bits)| Some((ip.parse::<IpAddr>().ok()?, bits.parse::<u8>().ok()?)));
    let longest = |ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 };
    parsed
        .filter(|(ip, bits)| *bits <= longest(*ip))
        .ok_or_else(|| "must be a network such as 192.0.2.0/24 or 2001:db8::/32".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        dns: DnsFlags,
    }

    fn flags(args: &[&str]) -> Result<DnsFlags, String> {
        let line = std::iter::once("copepod").chain(args.iter().copied());
        Line::try_parse_from(line).map(|l| l.dns).map_err(|e| e.to_string())
    }

    #[test]
    fn servers_domains_and_networks() {
        let dns = flags(&[
            "--dns-upstream=192.0.2.1,[2001:db8::1]:5353",
            "--dns-stub-domain=corp.example=10.0.0.53,10.0.1.53:5353",
            "--dns-stub-domain=10.in-addr.arpa=10.0.0.53",
            "--dns-allow-recursion=192.0.2.0/24,2001:db8::/32",
        ])
        .unwrap();
        let shown: Vec<String> = dns.dns_upstream.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.1:53", "[2001:db8::1]:5353"]);
        let shown: Vec<String> = dns.dns_stub_domain.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["corp.example=10.0.0.53:53,10.0.1.53:5353", "10.in-addr.arpa=10.0.0.53:53"]);
        assert_eq!(dns.dns_allow_recursion[1], ("2001:db8::".parse().unwrap(), 32));
        assert_eq!(dns.resolv_conf, PathBuf::from("/etc/resolv.conf"));
        for bad in [
            "--dns-upstream=x",
            "--dns-stub-domain=corp.example",
            "--dns-stub-domain=corp.example=x",
            "--dns-allow-recursion=192.0.2.0",
            "--dns-allow-recursion=192.0.2.0/33",
        ] {
            assert!(flags(&[bad]).is_err(), "{bad}");
        }
    }
}
