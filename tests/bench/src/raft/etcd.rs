//! Debian's etcd on loopback: one member, or a group of three.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::grpc::{Connection, Status};
use super::process::{Process, free_ports, until};
use super::{fresh, scattered};
use crate::{Error, load};

/// How long a member may take to say what it is.
const ASKED: Duration = Duration::from_millis(500);
/// `--quota-backend-bytes`: what etcd suggests as the most, so that no run meets the limit of 2 GiB.
const QUOTA: u64 = 8 << 30;

/// A running etcd.
pub struct Etcd {
    members: Vec<Member>,
}

struct Member {
    process: Process,
    /// `127.0.0.1:PORT` for clients.
    at: String,
}

/// The binary on the PATH with its version, or why there is none.
pub async fn find() -> Result<(PathBuf, String), String> {
    let out = tokio::process::Command::new("etcd").arg("--version").output().await;
    let out = out.map_err(|e| format!("skipped: no etcd on the PATH (apt-get install -y etcd-server): {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let version = text.lines().find_map(|l| l.strip_prefix("etcd Version:"));
    let version = version.ok_or("skipped: etcd --version says no version")?;
    Ok((PathBuf::from("etcd"), version.trim().into()))
}

impl Etcd {
    /// Starts `members` members with folders in `dir` and waits until all answer.
    pub async fn start(program: &Path, dir: &Path, members: usize) -> Result<Etcd, Error> {
        std::fs::create_dir_all(dir)?;
        let ports = free_ports(2 * members).await?;
        let (clients, peers) = ports.split_at(members);
        let peer = |at: usize| format!("http://127.0.0.1:{}", peers[at]);
        let initial = (0..members).map(|at| format!("m{at}={}", peer(at))).collect::<Vec<_>>().join(",");
        let mut group = Etcd { members: Vec::new() };
        for (at, port) in clients.iter().enumerate() {
            let client = format!("http://127.0.0.1:{port}");
            let args = [
                ("--name", format!("m{at}")),
                ("--data-dir", dir.join(format!("m{at}")).display().to_string()),
                ("--listen-client-urls", client.clone()),
                ("--advertise-client-urls", client),
                ("--listen-peer-urls", peer(at)),
                ("--initial-advertise-peer-urls", peer(at)),
                ("--initial-cluster", initial.clone()),
                ("--initial-cluster-token", "copepod-bench".into()),
                ("--quota-backend-bytes", QUOTA.to_string()),
                ("--logger", "zap".into()),
                ("--log-outputs", "stderr".into()),
                ("--log-level", "error".into()),
            ];
            let args =
                args.into_iter().flat_map(|(flag, value)| [OsString::from(flag), OsString::from(value)]).collect();
            let process = Process::start(program, args, &dir.join(format!("m{at}.log")))?;
            group.members.push(Member { process, at: format!("127.0.0.1:{port}") });
        }
        group.settle().await?;
        Ok(group)
    }

    /// All members' ids of processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|m| m.process.pid()).collect()
    }

    /// Where a member answers clients.
    pub fn at(&self, member: usize) -> &str {
        &self.members[member].at
    }

    /// How many members there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Where the members answer, the leader first.
    pub async fn endpoints(&mut self) -> Result<Vec<String>, Error> {
        let leader = self.settle().await?;
        let mut all: Vec<String> = self.members.iter().map(|m| m.at.clone()).collect();
        all.swap(0, leader);
        Ok(all)
    }

    /// Waits until all members follow the same leader, and says which one that is.
    pub async fn settle(&mut self) -> Result<usize, Error> {
        self.alive()?;
        let members: Vec<String> = self.members.iter().map(|m| m.at.clone()).collect();
        until("etcd has a leader", || async {
            let mut found = Vec::new();
            for at in &members {
                let Ok(Ok(status)) = tokio::time::timeout(ASKED, ask(at)).await else { return Ok(None) };
                found.push(status);
            }
            Ok(agreed(&found))
        })
        .await
    }

    /// An error if one of them has ended.
    pub fn alive(&mut self) -> Result<(), Error> {
        self.members.iter_mut().try_for_each(|m| m.process.alive())
    }

    /// SIGKILL to a member.
    pub fn kill(&mut self, member: usize) -> Result<(), Error> {
        self.members[member].process.kill()
    }

    /// Starts a killed member again, and says when.
    pub async fn again(&mut self, member: usize) -> Result<Instant, Error> {
        self.members[member].process.again().await
    }
}

async fn ask(at: &str) -> Result<Status, Error> {
    Connection::open(at).await?.status().await
}

/// The place of the leader that all members name.
fn agreed(members: &[Status]) -> Option<usize> {
    let leader = members.first()?.leader;
    let all = members.iter().all(|m| m.leader == leader);
    members.iter().position(|m| m.member == leader).filter(|_| all)
}

/// Connections to these members in turn.
pub async fn connections(endpoints: &[String], count: usize) -> Result<Vec<Connection>, Error> {
    let mut all = Vec::new();
    for at in endpoints.iter().cycle().take(count) {
        all.push(Connection::open(at).await?);
    }
    Ok(all)
}

/// A client that puts `bytes` bytes under keys of a number of `keys`.
pub struct Puts {
    /// Its connection.
    pub connection: Connection,
    /// How many keys there are.
    pub keys: usize,
    /// A value's length.
    pub bytes: usize,
}

impl load::Client for Puts {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        let key = format!("k-{}", scattered(n, self.keys));
        self.connection.put(key.as_bytes(), fresh(self.bytes).as_bytes()).await
    }
}

/// A client that gets one of the keys.
pub struct Gets {
    /// Its connection.
    pub connection: Connection,
    /// How many keys there are.
    pub keys: usize,
    /// As the member has it, instead of linearizable.
    pub serializable: bool,
}

impl load::Client for Gets {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        let key = format!("k-{}", scattered(n, self.keys));
        self.connection.get(key.as_bytes(), self.serializable).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leader_is_one_that_all_name() {
        let says = |member, leader| Status { member, leader, version: String::new() };
        assert_eq!(agreed(&[says(1, 2), says(2, 2), says(3, 2)]), Some(1));
        assert_eq!(agreed(&[says(1, 2), says(2, 2), says(3, 3)]), None);
        assert_eq!(agreed(&[says(1, 0), says(2, 0)]), None);
        assert_eq!(agreed(&[]), None);
    }
}
