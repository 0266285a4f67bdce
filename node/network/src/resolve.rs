//! Names to addresses: the cluster's zone in process, then the host's resolver.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use async_trait::async_trait;
use copepod_dns_zone::{Answer, NDOTS, RecordType, Zone, search};

use crate::error::NetError;
use crate::network::Network;
use crate::pod::PodHandle;
use crate::stub;

/// How many aliases a lookup follows.
const ALIASES: usize = 8;

/// Resolves names that are not the cluster's.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// The addresses of an absolute name (without the final dot), or [`NetError::NameUnresolvable`].
    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, NetError>;

    /// The same for a name of any sort, as any program of the host resolves it.
    async fn lookup_on_host(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        HostResolver.lookup(name).await
    }
}

/// How a pod resolves names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Whom to ask, in order; the next one where one does not answer.
    pub servers: Vec<NameServer>,
    /// The search list.
    pub search: Vec<String>,
    /// How many dots make a name be tried as it is before the search list.
    pub ndots: usize,
}

/// Whom a pod asks for names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameServer {
    /// The cluster's zone, and the upstream for what is not in it.
    Cluster,
    /// The host's own resolver.
    Host,
    /// A server at port 53 of an address, reached from the pod.
    At(IpAddr),
}

impl Default for Dns {
    fn default() -> Self {
        Dns { servers: vec![NameServer::Cluster], search: Vec::new(), ndots: NDOTS }
    }
}

/// The host's own resolver.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostResolver;

#[async_trait]
impl Upstream for HostResolver {
    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, NetError> {
        match tokio::net::lookup_host((name, 0)).await {
            Ok(found) => Ok(found.map(|a| a.ip()).collect()),
            // getaddrinfo's reasons arrive as text only.
            Err(e) if e.to_string().contains("Temporary failure") => Err(NetError::TemporaryResolverFailure),
            Err(_) => Err(NetError::NameUnresolvable),
        }
    }
}

/// What the zone says to both address questions about one name.
enum Found {
    Addresses(Vec<IpAddr>),
    Alias(String),
    Nothing,
    Elsewhere,
}

fn in_zone(zone: &Zone, name: &str) -> Found {
    let mut ips = Vec::new();
    for rtype in [RecordType::A, RecordType::Aaaa] {
        match zone.lookup(name, rtype) {
            Answer::Records(records) => ips.extend(records.answers.iter().filter_map(|r| r.data.ip())),
            Answer::External(target) => return Found::Alias(target),
            Answer::NotOurs => return Found::Elsewhere,
            Answer::NxDomain => return Found::Nothing,
            Answer::NoData => {}
        }
    }
    if ips.is_empty() { Found::Nothing } else { Found::Addresses(ips) }
}

/// What nobody needs to be asked for: an address as text, and the loopback one.
pub(crate) fn without_dns(name: &str) -> Option<IpAddr> {
    let literal = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = literal.parse::<IpAddr>() {
        return Some(ip);
    }
    let bare = name.strip_suffix('.').unwrap_or(name);
    let local = |suffix: &str| {
        bare.len() >= suffix.len()
            && bare.is_char_boundary(bare.len() - suffix.len())
            && bare[bare.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
    };
    (bare.eq_ignore_ascii_case("localhost") || local(".localhost")).then(|| Ipv4Addr::LOCALHOST.into())
}

impl Network {
    /// The addresses of a name with a search list, for the node itself.
    pub async fn resolve(&self, name: &str, list: &[String]) -> Result<Vec<IpAddr>, NetError> {
        self.find(name, list, NDOTS, None).await
    }

    /// The addresses of a name as a pod resolves it.
    pub(crate) async fn resolve_for(&self, pod: &Arc<PodHandle>, name: &str) -> Result<Vec<IpAddr>, NetError> {
        let Dns { search, ndots, .. } = &pod.identity().dns;
        self.find(name, search, *ndots, Some(pod)).await
    }

    async fn find(
        &self,
        name: &str,
        list: &[String],
        ndots: usize,
        pod: Option<&Arc<PodHandle>>,
    ) -> Result<Vec<IpAddr>, NetError> {
        if let Some(ip) = without_dns(name) {
            return Ok(vec![ip]);
        }
        let bare = name.strip_suffix('.').unwrap_or(name);
        let well_formed = |l: &str| !l.is_empty() && l.len() <= 63 && l.bytes().all(|b| b.is_ascii_graphic());
        if bare.len() > 253 || !bare.split('.').all(well_formed) {
            return Err(NetError::NameUnresolvable);
        }
        let mut result = Err(NetError::NameUnresolvable);
        for candidate in search(name, list, ndots) {
            let found = match pod {
                Some(pod) => self.ask_servers(pod, candidate).await,
                None => self.resolve_absolute(candidate).await,
            };
            match found {
                Ok(ips) if !ips.is_empty() => return Ok(ips),
                Ok(_) | Err(NetError::NameUnresolvable) => {}
                // A later candidate may still have an answer.
                Err(e) => result = Err(e),
            }
        }
        result
    }

    /// Asks a pod's servers until one has an answer.
    async fn ask_servers(&self, pod: &Arc<PodHandle>, name: String) -> Result<Vec<IpAddr>, NetError> {
        let mut result = Err(NetError::TemporaryResolverFailure);
        self.acquainted(pod).await;
        for server in &pod.identity().dns.servers {
            result = match server {
                // As when nobody answers, at once. Other servers are asked by datagrams of the pod, which policies see.
                NameServer::Cluster | NameServer::Host if !self.may_look_up(pod) => {
                    Err(NetError::TemporaryResolverFailure)
                }
                NameServer::Cluster => self.resolve_absolute(name.clone()).await,
                NameServer::Host => self.0.config.upstream.lookup_on_host(&name).await,
                NameServer::At(ip) => stub::addresses(pod, *ip, &name).await,
            };
            if matches!(result, Ok(_) | Err(NetError::NameUnresolvable)) {
                break;
            }
        }
        result
    }

    async fn resolve_absolute(&self, name: String) -> Result<Vec<IpAddr>, NetError> {
        match self.resolve_inside(name) {
            Ok(found) => found,
            Err(outside) => self.0.config.upstream.lookup(&outside).await,
        }
    }

    /// What the cluster's zone says of an absolute name; or, as an error, the name outside that it leads to.
    pub(crate) fn resolve_inside(&self, mut name: String) -> Result<Result<Vec<IpAddr>, NetError>, String> {
        for _ in 0..ALIASES {
            match in_zone(&self.zone(), &name) {
                Found::Addresses(ips) => return Ok(Ok(ips)),
                Found::Nothing => return Ok(Err(NetError::NameUnresolvable)),
                Found::Alias(target) => name = target,
                Found::Elsewhere => return Err(name),
            }
        }
        Ok(Err(NetError::NameUnresolvable))
    }
}
