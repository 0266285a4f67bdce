//! A cluster in a process of its own, and what that process costs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use copepod_client::{Client, Https, Kubeconfig};
use copepod_model::UserInfo;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Error;

/// How long a fresh cluster may take for what its controllers make, and how often it is looked for.
const BEGINNING: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(5);

/// A running `copepod up` with a fresh folder.
pub struct Cluster {
    child: Child,
    dir: PathBuf,
    /// `127.0.0.1:PORT` of the ingress.
    pub ingress: String,
    /// `127.0.0.1:PORT` of the ingress over TLS.
    pub ingress_tls: String,
    /// `127.0.0.1:PORT` of DNS.
    pub dns: String,
    /// (line of progress, when it came).
    pub progress: Vec<(String, Duration)>,
}

/// The release binary beside this one, or what COPEPOD_BIN says.
pub fn binary() -> PathBuf {
    std::env::var_os("COPEPOD_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let here = std::env::current_exe().unwrap_or_default();
        here.parent().unwrap_or(Path::new(".")).join("copepod")
    })
}

impl Cluster {
    /// Starts one and waits until it says where things are.
    pub async fn up(files: &[&str]) -> Result<Cluster, Error> {
        let dir = std::env::temp_dir().join(format!(
            "copepod-bench-{}-{:x}",
            std::process::id(),
            Instant::now().elapsed().as_nanos()
        ));
        let _ = std::fs::remove_dir_all(&dir);
        let started = Instant::now();
        let mut command = Command::new(binary());
        command.args(["up", "--api-port", "0", "--ingress-port", "0", "--ingress-tls-port", "0", "--dns-port", "0"]);
        command.args(["--kubelet-port", "0"]).arg("--data-dir").arg(&dir);
        command.args(["--eviction-hard", "nodefs.available<64Mi,imagefs.available<64Mi"]);
        for file in files {
            command.args(["-f", file]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut out = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        let mut err = BufReader::new(child.stderr.take().ok_or("no stderr")?).lines();
        let (mut ingress, mut ingress_tls, mut progress) = (String::new(), String::new(), Vec::new());
        let dns;
        loop {
            tokio::select! {
                Ok(Some(line)) = err.next_line() => progress.push((line, started.elapsed())),
                line = out.next_line() => {
                    let line = line?.ok_or("copepod ended before it was ready")?;
                    if let Some(at) = line.strip_prefix("Ingress  http://") {
                        ingress = at.trim().into();
                    }
                    if let Some(at) = line.trim().strip_prefix("https://").filter(|_| !ingress.is_empty()) {
                        ingress_tls = at.into();
                    }
                    if let Some(at) = line.strip_prefix("DNS ") {
                        dns = at.trim().to_string();
                        break;
                    }
                }
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = out.next_line().await {} });
        tokio::spawn(async move { while let Ok(Some(_)) = err.next_line().await {} });
        Ok(Cluster { child, dir, ingress, ingress_tls, dns, progress })
    }

    /// How to reach its API as an administrator.
    pub fn config(&self) -> Result<Kubeconfig, Error> {
        Ok(Kubeconfig::read(&self.dir.join("kubeconfig"))?)
    }

    /// A client over HTTPS, with a connection of its own.
    pub fn client(&self) -> Result<Client, Error> {
        Ok(Client::new(Arc::new(Https::new(&self.config()?)?), UserInfo::default(), "bench"))
    }

    /// Waits for an object of the namespace `default` that a controller makes when a cluster begins.
    pub async fn settled(&self, resource: &str, name: &str) -> Result<(), Error> {
        let (client, begun) = (self.client()?, Instant::now());
        while client.get(resource, "default", name).await.is_err() {
            if begun.elapsed() > BEGINNING {
                return Err(format!("not within {BEGINNING:?}: {resource} {name}").into());
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The process' id.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// CPU seconds that the cluster's process has used.
    pub fn cpu(&self) -> Duration {
        cpu_of(self.pid())
    }

    /// Resident bytes of the cluster's process.
    pub fn rss(&self) -> u64 {
        rss_of(self.pid())
    }

    /// Stops it and removes its folder.
    pub async fn stop(mut self) {
        let _ = self.child.kill().await;
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// CPU time of a process, user and system, from `/proc/PID/stat` (100 ticks a second).
pub fn cpu_of(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let fields: Vec<u64> = after.split_whitespace().skip(11).take(2).filter_map(|f| f.parse().ok()).collect();
    Duration::from_millis(fields.iter().sum::<u64>() * 10)
}

/// Resident bytes of a process.
pub fn rss_of(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}
