//! Debian's knot and bind with the cluster's names in a zone file.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::process::{Child, Command};

use super::PATIENCE;
use crate::Error;

/// A running server.
pub struct Peer {
    /// Its name and version.
    pub name: String,
    /// Where it answers on loopback.
    pub port: u16,
    child: Child,
}

impl Peer {
    /// knot, if it is installed.
    pub async fn knot(dir: &Path, zone: &Path) -> Result<Peer, Error> {
        let (port, own) = (free_port().await?, dir.join("knot"));
        std::fs::create_dir_all(&own)?;
        let text = format!(
            "server:\n    listen: 127.0.0.1@{port}\n    rundir: \"{own}\"\ndatabase:\n    storage: \"{own}\"\n\
             log:\n  - target: stderr\n    any: warning\nzone:\n  - domain: cluster.local\n    file: \"{zone}\"\n    \
             zonefile-sync: -1\n    journal-content: none\n",
            own = own.display(),
            zone = zone.display()
        );
        let config = own.join("knot.conf");
        std::fs::write(&config, text)?;
        let config = config.display().to_string();
        start("knotd", "knot", &["-c", &config], &["--version"], port, &own).await
    }

    /// bind, if it is installed.
    pub async fn bind(dir: &Path, zone: &Path) -> Result<Peer, Error> {
        let (port, own) = (free_port().await?, dir.join("bind"));
        std::fs::create_dir_all(&own)?;
        let text = format!(
            "options {{ directory \"{own}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};\n  \
             pid-file \"{own}/named.pid\"; session-keyfile \"{own}/session.key\"; recursion no; dnssec-validation no;\n  \
             notify no; }};\ncontrols {{ }};\nzone \"cluster.local\" {{ type primary; file \"{zone}\"; }};\n",
            own = own.display(),
            zone = zone.display()
        );
        let config = own.join("named.conf");
        std::fs::write(&config, text)?;
        let config = config.display().to_string();
        start("named", "bind9", &["-g", "-c", &config], &["-v"], port, &own).await
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let _ = self.child.kill().await;
    }
}

async fn start(
    program: &str,
    package: &str,
    args: &[&str],
    version: &[&str],
    port: u16,
    dir: &Path,
) -> Result<Peer, Error> {
    // Servers are in sbin, which is not on everybody's PATH.
    let sbin = Path::new("/usr/sbin").join(program);
    let path = if sbin.exists() { sbin } else { program.into() };
    let said = Command::new(&path).args(version).stdin(Stdio::null()).output().await;
    let said = said.map_err(|e| format!("needs {program} (apt-get install {package}): {e}"))?;
    let name = String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or(program).trim().to_string();
    let log = dir.join("log");
    let out = std::fs::File::create(&log)?;
    let mut command = Command::new(&path);
    command.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let begun = Instant::now();
    while !answers(port, "ns.dns.cluster.local", "10.96.0.10").await? {
        let ended = child.try_wait()?;
        if ended.is_some() || begun.elapsed() > PATIENCE {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let last = text.lines().rev().take(5).collect::<Vec<_>>();
            let last = last.into_iter().rev().collect::<Vec<_>>().join("; ");
            let how =
                ended.map_or_else(|| format!("does not answer after {PATIENCE:?}"), |s| format!("ended with {s}"));
            return Err(format!("{program} {how}: {last}").into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Peer { name, port, child })
}

/// A port of loopback that is free over TCP and UDP, or was a moment ago.
async fn free_port() -> Result<u16, Error> {
    loop {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let at = tcp.local_addr()?;
        if UdpSocket::bind(at).await.is_ok() {
            return Ok(at.port());
        }
    }
}

/// The zone file: what our DNS answers for these Services.
pub fn zone(names: &BTreeMap<String, String>) -> String {
    let mut text = String::from(
        "$ORIGIN cluster.local.\n$TTL 5\n@ IN SOA ns.dns hostmaster 1 7200 1800 86400 5\n@ IN NS ns.dns\n\
         ns.dns IN A 10.96.0.10\ndns-version IN TXT \"1.1.0\"\n",
    );
    for (name, ip) in names {
        text += &format!(
            "{name}.default.svc IN A {ip}\n_http._tcp.{name}.default.svc IN SRV 0 100 80 {name}.default.svc\n"
        );
    }
    text
}

/// Whether a server gives a name this address.
pub async fn answers(port: u16, name: &str, ip: &str) -> Result<bool, Error> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(("127.0.0.1", port)).await?;
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len())?);
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let mut answer = [0; 1500];
    let asked = async {
        socket.send(&question).await?;
        socket.recv(&mut answer).await
    };
    // Nobody listens yet, or what comes is lost.
    let Ok(Ok(n)) = tokio::time::timeout(Duration::from_secs(1), asked).await else { return Ok(false) };
    let ip: Ipv4Addr = ip.parse()?;
    // The address record follows the question.
    let record = answer[..n].get(question.len()..).unwrap_or_default();
    Ok(record.get(12..16) == Some(&ip.octets()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_is_in_the_zone() {
        let text = zone(&BTreeMap::from([("web".into(), "10.96.0.7".into())]));
        assert!(
            text.ends_with(
                "web.default.svc IN A 10.96.0.7\n_http._tcp.web.default.svc IN SRV 0 100 80 web.default.svc\n"
            )
        );
    }
}
