//! Debian's nginx and haproxy as reverse proxies, with as many workers as there are cores.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use super::{NATIVE, PATIENCE, WASM};
use crate::Error;
use crate::cluster::cpu_of;
use crate::http::get;

/// Where a proxy answers, `127.0.0.1:PORT` each.
#[derive(Clone)]
pub struct Doors {
    /// HTTP/1.1.
    pub plain: String,
    /// HTTP/2 in clear text, with prior knowledge.
    pub h2c: String,
    /// TLS, with HTTP/2 and HTTP/1.1 by ALPN.
    pub tls: String,
}

/// Where proxies send requests, `ADDRESS:PORT` each.
pub struct Upstreams {
    /// The native server.
    pub native: String,
    /// The node port of the wasm pods.
    pub wasm: String,
}

/// A running proxy.
pub struct Peer {
    /// Its name and version.
    pub name: String,
    /// Where it answers.
    pub doors: Doors,
    child: Child,
}

impl Peer {
    /// nginx, if it is installed.
    pub async fn nginx(dir: &Path, to: &Upstreams) -> Result<Peer, Error> {
        let (doors, own) = (doors().await?, folder(dir, "nginx")?);
        let (crt, key) = certificate(&own).await?;
        let server = |name: &str, upstream: &str| {
            format!(
                "server {{ listen {plain}; listen {h2c} http2; listen {tls} ssl http2; server_name {name};\n\
                 ssl_certificate {crt}; ssl_certificate_key {key};\n\
                 location / {{ proxy_pass http://{upstream}; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
                 proxy_set_header Host $host; proxy_set_header X-Forwarded-For $remote_addr;\n\
                 proxy_set_header X-Forwarded-Proto $scheme; }} }}\n",
                plain = doors.plain,
                h2c = doors.h2c,
                tls = doors.tls,
                crt = crt.display(),
                key = key.display(),
            )
        };
        let text = format!(
            "daemon off; user root; worker_processes {cores}; pid {0}/pid; error_log {0}/error crit;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {0}/b; proxy_temp_path {0}/p;\n\
             fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n\
             upstream native {{ server {native}; keepalive 64; keepalive_requests 100000000; }}\n\
             upstream wasm {{ server {wasm}; keepalive 64; keepalive_requests 100000000; }}\n{first}{second}}}\n",
            own.display(),
            cores = cores(),
            native = to.native,
            wasm = to.wasm,
            first = server(NATIVE, "native"),
            second = server(WASM, "wasm"),
        );
        let config = own.join("nginx.conf");
        std::fs::write(&config, text)?;
        let args = ["-c".into(), config.display().to_string(), "-p".into(), own.display().to_string()];
        start("nginx", "nginx-light", "-v", &args, doors, &own).await
    }

    /// haproxy, if it is installed.
    pub async fn haproxy(dir: &Path, to: &Upstreams) -> Result<Peer, Error> {
        let (doors, own) = (doors().await?, folder(dir, "haproxy")?);
        let (crt, key) = certificate(&own).await?;
        let pem = own.join("both.pem");
        std::fs::write(&pem, [std::fs::read(crt)?, std::fs::read(key)?].concat())?;
        let text = format!(
            "global\n  nbthread {cores}\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
             timeout server 60s\n  http-reuse always\n  option forwardfor\nfrontend all\n  bind {plain}\n  \
             bind {h2c} proto h2\n  bind {tls} ssl crt {pem} alpn h2,http/1.1\n  \
             http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}\n  \
             use_backend native if {{ hdr(host) -m beg {NATIVE} }}\n  use_backend wasm if {{ hdr(host) -m beg {WASM} }}\n\
             backend native\n  server one {native}\nbackend wasm\n  server one {wasm}\n",
            cores = cores(),
            plain = doors.plain,
            h2c = doors.h2c,
            tls = doors.tls,
            pem = pem.display(),
            native = to.native,
            wasm = to.wasm,
        );
        let config = own.join("haproxy.cfg");
        std::fs::write(&config, text)?;
        let args = ["-db".into(), "-f".into(), config.display().to_string()];
        start("haproxy", "haproxy", "-v", &args, doors, &own).await
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// Ends it.
    pub async fn stop(mut self) {
        let workers = children(self.pid());
        let _ = self.child.kill().await;
        // nginx' workers outlive a master that was killed.
        let pids = workers.into_iter().filter_map(|pid| rustix::process::Pid::from_raw(i32::try_from(pid).ok()?));
        for pid in pids {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

async fn start(
    program: &str,
    package: &str,
    version: &str,
    args: &[String],
    doors: Doors,
    dir: &Path,
) -> Result<Peer, Error> {
    // Servers are in sbin, which is not on everybody's PATH.
    let sbin = Path::new("/usr/sbin").join(program);
    let path = if sbin.exists() { sbin } else { program.into() };
    let said = Command::new(&path).arg(version).stdin(Stdio::null()).output().await;
    let said = said.map_err(|e| format!("needs {program} (apt-get install {package}): {e}"))?;
    let text = [said.stdout, said.stderr].concat();
    let name = version_of(program, &String::from_utf8_lossy(&text));
    let log = dir.join("log");
    let out = std::fs::File::create(&log)?;
    let mut command = Command::new(&path);
    command.args(args).stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
    let mut child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let begun = Instant::now();
    while get(&doors.plain, "nobody.localhost", "/").await.is_err() {
        let ended = child.try_wait()?;
        if ended.is_some() || begun.elapsed() > PATIENCE {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{program} does not answer ({ended:?}): {}", text.trim()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(Peer { name, doors, child })
}

/// `nginx 1.22.1` of what a program says of its version.
fn version_of(program: &str, said: &str) -> String {
    let is_version = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.');
    let found = said.split(|c: char| c.is_whitespace() || c == '/' || c == '-').find(is_version);
    format!("{program} {}", found.unwrap_or_default()).trim().into()
}

/// Three ports that are free, or were a moment ago.
async fn doors() -> Result<Doors, Error> {
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(TcpListener::bind("127.0.0.1:0").await?);
    }
    let at = |n: usize| held[n].local_addr().map(|a| a.to_string());
    Ok(Doors { plain: at(0)?, h2c: at(1)?, tls: at(2)? })
}

fn folder(dir: &Path, name: &str) -> Result<PathBuf, Error> {
    let own = dir.join(name);
    std::fs::create_dir_all(&own)?;
    Ok(own)
}

/// A certificate with a key on P-256, as the ingress' own.
async fn certificate(dir: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let (crt, key) = (dir.join("crt"), dir.join("key"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&crt)
        .output()
        .await?;
    if made.status.success() { Ok((crt, key)) } else { Err(String::from_utf8_lossy(&made.stderr).into_owned().into()) }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// CPU time of a process and of its children.
pub fn cpu_of_all(pid: u32) -> Duration {
    children(pid).into_iter().map(cpu_of).sum::<Duration>() + cpu_of(pid)
}

/// The processes that a process has started, as the kernel lists them by thread.
fn children(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let text = threads.map(|t| std::fs::read_to_string(t.path().join("children")).unwrap_or_default());
    text.flat_map(|t| t.split_whitespace().filter_map(|p| p.parse().ok()).collect::<Vec<u32>>()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        assert_eq!(version_of("nginx", "nginx version: nginx/1.22.1\n"), "nginx 1.22.1");
        let haproxy = "HAProxy version 2.6.12-1+deb12u2 2025/04/16 - https://haproxy.org/\nStatus: long-term";
        assert_eq!(version_of("haproxy", haproxy), "haproxy 2.6.12");
        assert_eq!(version_of("x", "nothing"), "x");
    }
}
