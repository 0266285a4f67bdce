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

/// Names outside the cluster that are sought for pods at once, and for one of them: whoever wants more waits. Few enough to
/// leave threads to others where the host's resolver has one for each.
pub(crate) const AT_ONCE: (usize, usize) = (256, 32);

/// Resolves names that are not the cluster's.
#[async_trait]
pub trait Upstream: Send + Sync + 'static {
    /// The addresses of an absolute name (without the final dot), or [`NetError::NameUnresolvable`]. `client` is the address
    /// of the pod that asks, or of the node.
    async fn lookup(&self, name: &str, client: IpAddr) -> Result<Vec<IpAddr>, NetError>;

    /// The same for a name of any sort, as any program of the host resolves it.
    async fn lookup_on_host(&self, name: &str, client: IpAddr) -> Result<Vec<IpAddr>, NetError> {
        HostResolver.lookup(name, client).await
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
    async fn lookup(&self, name: &str, _client: IpAddr) -> Result<Vec<IpAddr>, NetError> {
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
                None => match self.resolve_inside(candidate) {
                    Ok(found) => found,
                    Err(outside) => self.0.config.upstream.lookup(&outside, self.0.config.node_ip).await,
                },
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
                NameServer::Cluster => match self.resolve_inside(name.clone()) {
                    Ok(found) => found,
                    Err(outside) => self.resolve_outside(pod, outside, false).await,
                },
                NameServer::Host => self.resolve_outside(pod, name.clone(), true).await,
                NameServer::At(ip) => stub::addresses(pod, *ip, &name).await,
            };
            if matches!(result, Ok(_) | Err(NetError::NameUnresolvable)) {
                break;
            }
        }
        result
    }

    /// What others say of a pod's name, when there is room for it.
    async fn resolve_outside(&self, pod: &PodHandle, name: String, on_host: bool) -> Result<Vec<IpAddr>, NetError> {
        let failed = NetError::TemporaryResolverFailure;
        // Its own room first: no pod waits with more than its share in the line for everybody's.
        let own = pod.lookups.clone().acquire_owned().await.map_err(|_| failed)?;
        let all = self.0.lookups.clone().acquire_owned().await.map_err(|_| failed)?;
        let (upstream, client) = (self.0.config.upstream.clone(), pod.ip());
        // A task of its own: the host's resolver goes on when nobody waits any more, and so must its places.
        let task = self.0.runtime.spawn(async move {
            let found = match on_host {
                true => upstream.lookup_on_host(&name, client).await,
                false => upstream.lookup(&name, client).await,
            };
            drop((own, all));
            found
        });
        task.await.unwrap_or(Err(failed))
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

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::network::NetworkConfig;
    use crate::network::tests::attach;
    use crate::pod::Identity;
    use crate::sync::lock;

    /// Answers with the client's own address when it is told to, and counts how often each has asked.
    struct Silent(Mutex<HashMap<IpAddr, usize>>, Semaphore);

    #[async_trait]
    impl Upstream for Silent {
        async fn lookup(&self, _: &str, client: IpAddr) -> Result<Vec<IpAddr>, NetError> {
            *lock(&self.0).entry(client).or_default() += 1;
            self.1.acquire().await.unwrap().forget();
            Ok(vec![client])
        }

        async fn lookup_on_host(&self, name: &str, client: IpAddr) -> Result<Vec<IpAddr>, NetError> {
            self.lookup(name, client).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn no_pod_keeps_the_resolver_from_the_others() {
        let upstream = Arc::new(Silent(Mutex::default(), Semaphore::new(0)));
        let network = Network::new(NetworkConfig { upstream: upstream.clone(), ..NetworkConfig::default() });
        let asked = |pod: &PodHandle| lock(&upstream.0).get(&pod.ip()).copied().unwrap_or(0);
        // Those who gave up leave their places taken.
        let seek = async |pod: &Arc<PodHandle>, times: usize| {
            for n in 0..times {
                let name = format!("n{n}.test");
                assert!(tokio::time::timeout(Duration::from_secs(1), pod.resolve(&name)).await.is_err());
            }
        };
        let (total, each) = AT_ONCE;
        let greedy = attach(&network, 1);
        seek(&greedy, 2 * total).await;
        assert_eq!(asked(&greedy), each);
        let like = attach(&network, 2).identity().clone();
        let host = network.attach(Identity { dns: Dns { servers: vec![NameServer::Host], ..Dns::default() }, ..like });
        seek(&host, 2 * total).await;
        assert_eq!(asked(&host), each, "of the host's resolver alone");
        let others: Vec<Arc<PodHandle>> = (3..40).map(|n| attach(&network, n)).collect();
        for pod in &others {
            seek(pod, 20).await;
        }
        assert_eq!(lock(&upstream.0).values().sum::<usize>(), total);
        let node = tokio::time::timeout(Duration::from_secs(1), network.resolve("n.test", &[])).await;
        assert!(node.is_err(), "the node is not answered either");
        assert_eq!(lock(&upstream.0).get(&network.0.config.node_ip), Some(&1), "but it did ask");
        upstream.1.add_permits(1000);
        for pod in others.iter().chain([&greedy, &host]) {
            assert_eq!(pod.resolve("n.test").await, Ok(vec![pod.ip()]), "places come back");
        }
    }
}
