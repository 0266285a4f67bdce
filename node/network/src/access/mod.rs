//! Pods' and Services' addresses on the host itself, for its own processes and for pods in network namespaces of this host.
//! Routes make the addresses this host's (AnyIP), tables of nftables lead what comes for any port of them to one listener of each
//! family and protocol (IP_TRANSPARENT, TPROXY), and where something was to go is told there. From there on it is like anything
//! of the node itself or of the pod that has come. It takes CAP_NET_ADMIN, and is undone when it ends.

mod commands;
mod datagrams;
mod rules;
mod streams;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use rules::Range;

use crate::host::{Answers, Entrance, Senders};
use crate::network::Network;
use crate::transparent::{self, Receiver};
use rules::{Family, Ports};

/// capability(7).
const CAP_NET_ADMIN: u32 = 12;
/// Taken by whoever has the addresses: a name of the network namespace, free again when its process ends.
const NAME: &str = "copepod.dev/host-access";
/// There where the kernel has IPv6.
const IPV6: &str = "/proc/sys/net/ipv6";
/// How long a listener rests after an error, lest it does nothing but fail.
const BREATH: Duration = Duration::from_millis(20);
/// How long until namespaces that could not be let in are tried again.
const RETRY: Duration = Duration::from_secs(5);

/// The host's processes cannot reach pods and Services.
#[derive(Debug, thiserror::Error)]
pub enum HostAccessError {
    /// This process may not change the host's network.
    #[error("pods' and Services' addresses on the host take the capability CAP_NET_ADMIN, which this process has not")]
    NotPermitted,
    /// Another process of this host does it.
    #[error("another process already answers at pods' and Services' addresses on this host")]
    Taken,
    /// One of the ranges is not the cluster's alone.
    #[error("{}/{} cannot be the cluster's on this host, where it is in use: {what}", .range.0, .range.1)]
    InUse {
        /// Which one.
        range: Range,
        /// The host's address or route, as `ip` says it.
        what: String,
    },
    /// A command has failed.
    #[error("{command}: {why}")]
    Command {
        /// `ip` or `nft`.
        command: &'static str,
        /// What it has said, or why it cannot be run.
        why: String,
    },
    /// A socket or a file.
    #[error("{0}: {1}")]
    Io(String, io::Error),
}

/// The host's way to pods and Services, once the kernel knows of it. [`HostAccess::run`] must be called.
pub struct HostAccess {
    network: Network,
    /// Those that the host has.
    families: Vec<Family>,
    listeners: Vec<TcpListener>,
    receivers: Vec<Receiver>,
    mark: PathBuf,
    _name: UnixListener,
}

impl HostAccess {
    /// Leads the host's traffic for `ranges`, the cluster's, to the network; where the host has no IPv6, for those of IPv4 alone. On
    /// failure everything is as it was. `mark` is a file that is there while anything of the host is changed, for the next start
    /// after a crash: see [`HostAccess::clean_up`].
    pub async fn start(network: Network, ranges: &[Range], mark: &Path) -> Result<HostAccess, HostAccessError> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        if !is_capable(&status, CAP_NET_ADMIN) {
            return Err(HostAccessError::NotPermitted);
        }
        let name = take_name()?;
        // Whoever has left it does not run any more.
        commands::forget(&known_families()).await?;
        let switch = std::fs::read_to_string(Path::new(IPV6).join("conf/lo/disable_ipv6")).ok();
        let families = match without_ipv6(switch.as_deref()) {
            None => Family::ALL.to_vec(),
            Some(why) => {
                tracing::warn!("the host reaches pods and Services over IPv4 alone: {why}");
                vec![Family::V4]
            }
        };
        for range in ranges.iter().filter(|range| families.contains(&Family::of(range.0))) {
            if let Some(what) = commands::use_of(*range).await? {
                return Err(HostAccessError::InUse { range: *range, what });
            }
        }
        let failed = |what: &str| {
            let what = what.to_string();
            move |e| HostAccessError::Io(what, e)
        };
        let (mut listeners, mut receivers, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for family in &families {
            let (tcp, udp, at) = open(*family).map_err(failed("the listeners for the host's traffic"))?;
            listeners.push(tcp);
            receivers.push(udp);
            ports.push(at);
        }
        std::fs::write(mark, "").map_err(failed(&mark.display().to_string()))?;
        let access = HostAccess { network, families, listeners, receivers, mark: mark.into(), _name: name };
        for (family, ports) in access.families.iter().zip(ports) {
            if let Err(e) = commands::tell(*family, ranges, ports).await {
                access.undo().await;
                return Err(e);
            }
        }
        Ok(access)
    }

    /// Serves what comes, and lets in the namespaces of the network's pods, until `stop` ends; then open connections end, and the
    /// host is as it was.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let senders = Arc::new(Senders::default());
        self.serve(&mut connections, &senders, stop).await;
        // While the way back to their clients is there.
        connections.shutdown().await;
        senders.close();
        self.undo().await;
    }

    async fn serve(&mut self, connections: &mut JoinSet<()>, senders: &Arc<Senders>, stop: impl Future<Output = ()>) {
        let HostAccess { network, families, listeners, receivers, .. } = self;
        let network: &Network = network;
        let mut stop = std::pin::pin!(stop);
        let mut known = BTreeSet::new();
        let entrance = Entrance::new(network.clone(), Answers::Anywhere(senders.clone()));
        let mut streams = std::pin::pin!(streams::serve(network, listeners, connections));
        let mut datagrams = std::pin::pin!(join_all(receivers.iter_mut().map(|r| datagrams::serve(&entrance, r))));
        let mut idle = std::pin::pin!(senders.close_idle(network));
        loop {
            let news = network.0.namespaces_changed.notified();
            let wanted = network.namespaces();
            let mut retry = false;
            if wanted != known {
                let all: String = families.iter().map(|family| rules::pods(*family, &wanted)).collect();
                match commands::nft(&all).await {
                    Ok(_) => known = wanted,
                    Err(error) => {
                        tracing::warn!(%error, "network namespaces cannot be let in");
                        retry = true;
                    }
                }
            }
            tokio::select! {
                () = &mut stop => return,
                () = &mut streams => return,
                _ = &mut datagrams => return,
                () = &mut idle => return,
                () = news => {}
                () = sleep(RETRY), if retry => {}
            }
        }
    }

    async fn undo(&self) {
        match commands::forget(&known_families()).await {
            Ok(()) => drop(std::fs::remove_file(&self.mark)),
            Err(error) => tracing::warn!(%error, "the host's routes are not as they were"),
        }
    }

    /// Undoes what a process has left that was killed, if the file `mark` says that there may be something, and no other process
    /// has taken it over.
    pub async fn clean_up(mark: &Path) -> Result<(), HostAccessError> {
        if !mark.exists() {
            return Ok(());
        }
        match take_name() {
            Ok(_name) => commands::forget(&known_families()).await?,
            Err(HostAccessError::Taken) => {}
            Err(e) => return Err(e),
        }
        std::fs::remove_file(mark).map_err(|e| HostAccessError::Io(mark.display().to_string(), e))
    }
}

fn take_name() -> Result<UnixListener, HostAccessError> {
    let taken = UnixAddr::from_abstract_name(NAME).and_then(|name| UnixListener::bind_addr(&name));
    taken.map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => HostAccessError::Taken,
        _ => HostAccessError::Io(format!("@{NAME}"), e),
    })
}

/// Whether a process with this `/proc/PID/status` may do what a capability is for.
fn is_capable(status: &str, capability: u32) -> bool {
    let set = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let set = set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    (set >> capability) & 1 == 1
}

/// The families that the kernel knows, in use or not: what is to be forgotten may be of each.
fn known_families() -> Vec<Family> {
    match Path::new(IPV6).exists() {
        true => Family::ALL.to_vec(),
        false => vec![Family::V4],
    }
}

/// Why a host cannot use IPv6, if it cannot, by `net.ipv6.conf.lo.disable_ipv6`, which is not there in a kernel without IPv6.
fn without_ipv6(switch: Option<&str>) -> Option<&'static str> {
    match switch.map(str::trim) {
        None => Some("its kernel has no IPv6 (/proc/sys/net/ipv6 is missing)"),
        Some("0") => None,
        Some(_) => Some("IPv6 is switched off for its loopback interface (net.ipv6.conf.lo.disable_ipv6)"),
    }
}

/// What listens at the loopback address of a family, and where: nothing else comes there but what its table leads to it.
fn open(family: Family) -> io::Result<(TcpListener, Receiver, Ports)> {
    let at = SocketAddr::new(family.loopback(), 0);
    let (tcp, udp) = (transparent::listen(at)?, Receiver::bind(at)?);
    let ports = Ports { tcp: tcp.local_addr()?.port(), udp: udp.local_addr()?.port() };
    Ok((tcp, udp, ports))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::tests::network;

    #[test]
    fn the_effective_set_decides() {
        let status = |eff: &str| format!("Name:\tx\nCapPrm:\tffffffffffffffff\nCapEff:\t{eff}\n");
        assert!(
            is_capable(&status("0000000000001000"), CAP_NET_ADMIN) && is_capable(&status("1ffffffffff"), CAP_NET_ADMIN)
        );
        assert!(!is_capable(&status("0000000000000fff"), CAP_NET_ADMIN) && !is_capable(&status("x"), CAP_NET_ADMIN));
        assert!(!is_capable("", CAP_NET_ADMIN));
    }

    #[test]
    fn why_there_is_no_ipv6() {
        assert_eq!(without_ipv6(Some("0\n")), None);
        assert!(without_ipv6(Some("1\n")).unwrap().contains("switched off"));
        assert!(without_ipv6(None).unwrap().contains("/proc/sys/net/ipv6 is missing"));
    }

    #[tokio::test]
    async fn nothing_is_done_beside_another_process_or_without_need() {
        let dir = std::env::temp_dir().join(format!("copepod-access-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mark = dir.join("mark");
        HostAccess::clean_up(&mark).await.unwrap();
        // As if another process had it; a copepod of this machine may, too.
        let name = take_name();
        std::fs::write(&mark, "").unwrap();
        HostAccess::clean_up(&mark).await.unwrap();
        assert!(!mark.exists(), "the other one cleans up");
        let refused = HostAccess::start(network(), &[], &mark).await.err().unwrap();
        assert!(matches!(refused, HostAccessError::Taken | HostAccessError::NotPermitted), "{refused}");
        assert!(!mark.exists());
        drop(name);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
