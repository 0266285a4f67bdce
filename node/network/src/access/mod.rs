//! Pods' and Services' addresses on the host itself, for its own processes and for pods in network namespaces of this host.
//! Routes make the addresses this host's (AnyIP), a table of nftables leads what comes for any port of them over TCP to one
//! listener (IP_TRANSPARENT, TPROXY), and where a connection was to go is its local address there. From there on it is like any
//! stream of the node itself or of the pod that has come. It takes CAP_NET_ADMIN, and is undone when it ends.

mod rules;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio::time::sleep;

pub use rules::Range;

use crate::connect::Source;
use crate::error::NetError;
use crate::network::Network;

/// capability(7).
const CAP_NET_ADMIN: u32 = 12;
/// Taken by whoever has the addresses: a name of the network namespace, free again when its process ends.
const NAME: &str = "copepod.dev/host-access";
/// Connections that the kernel has accepted and the listener has not.
const BACKLOG: i32 = 1024;
/// How long the listener rests after an error, lest it does nothing but fail.
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
    listener: TcpListener,
    mark: PathBuf,
    _name: UnixListener,
}

impl HostAccess {
    /// Leads the host's traffic for `ranges`, the cluster's, to the network. On failure everything is as it was. `mark` is a file that
    /// is there while anything of the host is changed, for the next start after a crash: see [`HostAccess::clean_up`].
    pub async fn start(network: Network, ranges: &[Range], mark: &Path) -> Result<HostAccess, HostAccessError> {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        if !is_capable(&status, CAP_NET_ADMIN) {
            return Err(HostAccessError::NotPermitted);
        }
        let name = take_name()?;
        // Whoever has left it does not run any more.
        forget().await?;
        for range in ranges {
            let text = format!("{}/{}", range.0, range.1);
            let addresses = ip(&["-4", "-o", "address", "show", "to", &text], "").await?;
            let what =
                if addresses.is_empty() { ip(&["-4", "route", "show", "exact", &text], "").await? } else { addresses };
            if !what.is_empty() {
                return Err(HostAccessError::InUse { range: *range, what });
            }
        }
        let failed = |what: &str| {
            let what = what.to_string();
            move |e| HostAccessError::Io(what, e)
        };
        let listener = listener().map_err(failed("the listener for the host's traffic"))?;
        let port = listener.local_addr().map_err(failed("the listener for the host's traffic"))?.port();
        std::fs::write(mark, "").map_err(failed(&mark.display().to_string()))?;
        let access = HostAccess { network, listener, mark: mark.into(), _name: name };
        let told = async {
            nft(&rules::table(ranges, port)).await?;
            ip(&["-4", "-batch", "-"], &rules::routes(ranges)).await
        };
        match told.await {
            Ok(_) => Ok(access),
            Err(e) => {
                access.undo().await;
                Err(e)
            }
        }
    }

    /// Serves what comes, and lets in the namespaces of the network's pods, until `stop` ends; then open connections end, and the
    /// host is as it was.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        self.serve(&mut connections, stop).await;
        // While the way back to their clients is there.
        connections.shutdown().await;
        self.undo().await;
    }

    async fn serve(&self, connections: &mut JoinSet<()>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut known = BTreeSet::new();
        let mut serving = std::pin::pin!(accept(&self.network, &self.listener, connections));
        loop {
            let news = self.network.0.namespaces_changed.notified();
            let wanted = self.network.namespaces();
            let mut retry = false;
            if wanted != known {
                match nft(&rules::pods(&wanted)).await {
                    Ok(_) => known = wanted,
                    Err(error) => {
                        tracing::warn!(%error, "network namespaces cannot be let in");
                        retry = true;
                    }
                }
            }
            tokio::select! {
                () = &mut stop => return,
                () = &mut serving => return,
                () = news => {}
                () = sleep(RETRY), if retry => {}
            }
        }
    }

    async fn undo(&self) {
        match forget().await {
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
            Ok(_name) => forget().await?,
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

/// At the loopback address: nothing else comes there but what the table leads to it.
fn listener() -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_ip_transparent_v4(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0).into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept(network: &Network, listener: &TcpListener, connections: &mut JoinSet<()>) {
    let own = listener.local_addr().ok();
    loop {
        let (mut tcp, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept the host's connections");
                sleep(BREATH).await;
                continue;
            }
        };
        // Somebody has come to the listener itself.
        if tcp.local_addr().ok() == own {
            continue;
        }
        let Ok(permit) = network.0.incoming.clone().acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        let network = network.clone();
        connections.spawn(async move {
            if let Err(error) = carry(&network, &mut tcp, peer).await {
                tracing::debug!(%peer, %error, "connection of this host");
                // The kernel has accepted it long ago: a reset is what is left to say.
                let _ = SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
            }
            drop(permit);
        });
    }
}

/// Takes a connection to where it was to go.
async fn carry(network: &Network, tcp: &mut TcpStream, peer: SocketAddr) -> io::Result<()> {
    let to = tcp.local_addr()?;
    let _ = tcp.set_nodelay(true);
    let mut conn = match network.in_namespace(peer.ip()) {
        Some(pod) => pod.connect_tcp(to).await?,
        // A pod that has just gone, of which the table does not know yet.
        None if network.in_cluster(peer.ip()) => return Err(NetError::Detached.into()),
        // Nobody else is let in but this host's processes.
        None => network.connect(Source::Node, to).await?,
    };
    copy_bidirectional(tcp, &mut conn.stream).await.map(drop)
}

/// Makes the host forget all that it was told, whoever told it.
async fn forget() -> Result<(), HostAccessError> {
    nft(rules::NO_TABLE).await?;
    // It fails for each sort of which there is nothing.
    let _ = ip(&["-4", "-force", "-batch", "-"], &rules::no_routes()).await;
    let left = ip(&["-4", "route", "show", "table", "all", "proto", &rules::PROTOCOL.to_string()], "").await?;
    match left.is_empty() {
        true => Ok(()),
        false => Err(HostAccessError::Command { command: "ip", why: format!("does not remove {left:?}") }),
    }
}

async fn ip(args: &[&str], input: &str) -> Result<String, HostAccessError> {
    run("ip", args, input).await
}

async fn nft(input: &str) -> Result<String, HostAccessError> {
    run("nft", &["-f", "-"], input).await
}

/// Runs a command, which must succeed; what it has said.
async fn run(command: &'static str, args: &[&str], input: &str) -> Result<String, HostAccessError> {
    let failed = |why: String| HostAccessError::Command { command, why };
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    // Users who are not root often have not these.
    path.push(":/usr/sbin:/sbin");
    let mut child = Command::new(command)
        .args(args)
        .env("PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has failed already does not read; it says why.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    let out = child.wait_with_output().await.map_err(|e| failed(e.to_string()))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_string();
    if out.status.success() { Ok(said(&out.stdout)) } else { Err(failed(said(&out.stderr))) }
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

    #[tokio::test]
    async fn commands_say_why_they_fail() {
        assert_eq!(run("cat", &[], "hello\n").await.unwrap(), "hello");
        let failed = run("sh", &["-c", "echo no >&2; exit 1"], "").await.unwrap_err();
        assert_eq!(failed.to_string(), "sh: no");
        let missing = run("copepod-has-no-such-command", &[], "").await.unwrap_err().to_string();
        assert!(missing.starts_with("copepod-has-no-such-command: No such file"), "{missing}");
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
