//! (d) hello through the ingress, beside a plain hyper server and nginx in the same run, loaded by wrk.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use crate::Error;
use crate::cluster::{Cluster, cpu_of};

/// How long wrk loads a server.
pub const SECONDS: u64 = 8;

/// Has hello write a line to its log, and answer with nothing.
pub const LOGGED: &str = "/log?text=a-line-for-each-request";

/// One GET; its status code.
pub async fn get(at: &str, host: &str, path: &str) -> Result<u16, Error> {
    let stream = TcpStream::connect(at).await?;
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::get(path).header("host", host).body(Empty::<Bytes>::new())?;
    let answer = send.send_request(request).await?;
    connection.abort();
    Ok(answer.status().as_u16())
}

/// One GET; its status code and its body.
pub async fn get_text(at: &str, host: &str, path: &str) -> Result<(u16, String), Error> {
    Kept::connect(at, host).await?.get(path).await
}

/// A connection for several GETs.
pub struct Kept {
    send: hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    host: String,
}

impl Kept {
    /// Connects.
    pub async fn connect(at: &str, host: &str) -> Result<Kept, Error> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Kept { send, host: host.into() })
    }

    /// One GET; its status code and its body.
    pub async fn get(&mut self, path: &str) -> Result<(u16, String), Error> {
        self.send.ready().await?;
        let request = http::Request::get(path).header("host", &self.host).body(Empty::<Bytes>::new())?;
        let (head, body) = self.send.send_request(request).await?.into_parts();
        let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
        Ok((head.status.as_u16(), text))
    }
}

/// Prints the table.
pub async fn run() -> Result<(), Error> {
    if Command::new("wrk").arg("-v").output().await.is_err() {
        println!("\n## HTTP\n\nskipped: needs wrk");
        return Ok(());
    }
    println!(
        "\n## HTTP, wrk with 64 connections for {SECONDS} s\n\n| server | requests/s | p50 | p99 | server CPU/request |\n|---|---|---|---|---|"
    );
    let hyper = plain_hyper().await?;
    let own = std::process::id();
    row("plain hyper (in this process)", &format!("http://{hyper}/"), "localhost", own).await?;
    nginx("nginx, one worker", "return 200 'Hello from nginx\\n';", None).await?;
    let cluster = Cluster::up(&["examples/hello/hello.yaml"]).await?;
    while get(&cluster.ingress, "hello.localhost", "/").await.ok() != Some(200) {}
    let pid = cluster.pid();
    let url = |path: &str| format!("http://{}{path}", cluster.ingress);
    row("ingress → wasm hello (an instance per request)", &url("/"), "hello.localhost", pid).await?;
    row("ingress → 404", &url("/"), "nobody.localhost", pid).await?;
    let vip = url("/fetch?url=http://hello.default.svc.cluster.local/");
    row("ingress → wasm → Service address → wasm", &vip, "hello.localhost", pid).await?;
    cluster.stop().await;
    Ok(())
}

/// Loads a server with wrk and prints a line of the table.
pub async fn row(name: &str, url: &str, host: &str, pid: u32) -> Result<(), Error> {
    let before = cpu_of(pid);
    let out = Command::new("wrk")
        .args(["-t", "1", "-c", "64", "-d", &format!("{SECONDS}s"), "--latency", "-H", &format!("Host: {host}"), url])
        .stdin(Stdio::null())
        .output()
        .await?;
    let cpu = cpu_of(pid) - before;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let after = |label: &str| {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(label));
        line.map(|l| l.split_whitespace().next().unwrap_or("?").to_string()).unwrap_or("?".into())
    };
    let total: f64 = text
        .lines()
        .find(|l| l.contains("requests in"))
        .and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(f64::NAN);
    let each = Duration::from_secs_f64(if total > 0.0 { cpu.as_secs_f64() / total } else { 0.0 });
    let errors =
        text.lines().find(|l| l.contains("Non-2xx") || l.contains("Socket errors")).map_or("", |_| " (with errors)");
    println!(
        "| {name}{errors} | {} | {} | {} | {:.1} µs |",
        after("Requests/sec:"),
        after("50%"),
        after("99%"),
        each.as_secs_f64() * 1e6
    );
    Ok(())
}

/// Serves a hello in this process.
pub async fn plain_hyper() -> Result<SocketAddr, Error> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let at = listener.local_addr()?;
    tokio::spawn(hello_on(listener));
    Ok(at)
}

/// Serves a hello to all who come, for ever.
pub async fn hello_on(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let hello = service_fn(|_| async {
                Ok::<_, Infallible>(http::Response::new(Full::new(Bytes::from_static(b"Hello from hyper\n"))))
            });
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), hello).await;
        });
    }
}

/// Measures nginx with this for its location; keeps connections to `upstream` if there is one.
pub async fn nginx(name: &str, location: &str, upstream: Option<SocketAddr>) -> Result<(), Error> {
    if Command::new("nginx").arg("-v").output().await.is_err() {
        println!("| {name} | skipped: needs nginx | | | |");
        return Ok(());
    }
    let dir = std::env::temp_dir().join(format!("copepod-bench-nginx-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    // A proxy that keeps its connections, as any would that is tuned.
    let pool = upstream.map(|at| format!("upstream up {{ server {at}; keepalive 64; }}")).unwrap_or_default();
    let location = upstream.map_or(location.to_string(), |at| location.replace(&at.to_string(), "up"));
    let config = format!(
        "daemon off; worker_processes 1; master_process off; pid {0}/pid; error_log {0}/error;\nevents {{ worker_connections 512; }}\n\
         http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f;\n\
         uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\nserver {{ listen 127.0.0.1:{port}; location / {{ {location} }} }} {pool} }}",
        dir.display()
    );
    std::fs::write(dir.join("conf"), config)?;
    let mut child = Command::new("nginx").arg("-c").arg(dir.join("conf")).kill_on_drop(true).spawn()?;
    let at = format!("127.0.0.1:{port}");
    while get(&at, "localhost", "/").await.is_err() {
        tokio::task::yield_now().await;
    }
    row(name, &format!("http://{at}/"), "localhost", child.id().unwrap_or(0)).await?;
    child.kill().await?;
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}
