//! The ingress beside Debian's nginx and haproxy in one run: to a native server, and to wasm pods.
//!
//! Everything runs in a network namespace of its own, where the native server has an address that is no loopback one: endpoints
//! may not be on loopback.

mod load;
mod netns;
mod peers;

use std::process::Stdio;
use std::time::Duration;

use copepod_client::Client;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

use crate::Error;
use crate::cluster::{Cluster, cpu_of};
use crate::http::{get, hello_on};
use load::{Measured, Way, measure};
use peers::{Doors, Peer, Upstreams, cpu_of_all};

/// The host names that the proxies tell apart.
const NATIVE: &str = "native.localhost";
const WASM: &str = "hello.localhost";
/// How long something may take to answer for the first time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints the tables. `quick` measures a second of each, which only shows that it works.
pub async fn run(quick: bool) -> Result<(), Error> {
    let seconds = if quick { 1 } else { 8 };
    if !netns::inside() {
        return netns::again(quick).await;
    }
    println!("\n## The ingress beside nginx and haproxy, 64 connections for {seconds} s\n");
    for (program, package) in [("wrk", "wrk"), ("h2load", "nghttp2-client"), ("openssl", "openssl")] {
        if Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).output().await.is_err() {
            println!("skipped: needs {program} (apt-get install {package})");
            return Ok(());
        }
    }
    let dir = std::env::temp_dir().join(format!("copepod-bench-ingress-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let done = tables(&dir, seconds).await;
    let _ = std::fs::remove_dir_all(&dir);
    done
}

async fn tables(dir: &std::path::Path, seconds: u64) -> Result<(), Error> {
    let (upstream, native) = upstream().await?;
    let manifest = dir.join("native.yaml");
    std::fs::write(&manifest, native_service(native))?;
    let cluster = Cluster::up(&["examples/hello/hello.yaml", &manifest.display().to_string()]).await?;
    let node_port = node_port(&cluster.client()?).await?;
    let upstreams =
        Upstreams { native: format!("{}:{native}", netns::ADDRESS), wasm: format!("127.0.0.1:{node_port}") };
    let mut proxies = vec![Proxy {
        name: "copepod".into(),
        doors: Doors { plain: cluster.ingress.clone(), h2c: cluster.ingress.clone(), tls: cluster.ingress_tls.clone() },
        peer: None,
    }];
    for peer in [Peer::nginx(dir, &upstreams).await, Peer::haproxy(dir, &upstreams).await] {
        match peer {
            Ok(peer) => {
                proxies.push(Proxy { name: peer.name.clone(), doors: peer.doors.clone(), peer: Some(peer) });
            }
            Err(why) => println!("skipped: {why}\n"),
        }
    }
    for (host, title) in [
        (NATIVE, "To a native server (hyper, a process of its own)"),
        (WASM, "To the wasm hello: our ingress calls it, nginx and haproxy go to the node port of its Service"),
    ] {
        for proxy in &proxies {
            answers(&proxy.doors.plain, host).await?;
        }
        println!("\n{title}:\n");
        println!(
            "| client | proxy | requests/s | of ours | p50 | p99 | CPU/request of the proxy | of what is behind it |"
        );
        println!("|---|---|---|---|---|---|---|---|");
        for way in Way::ALL {
            let mut ours = None;
            for proxy in &proxies {
                let cpu = || {
                    let (cluster, native) = (cpu_of(cluster.pid()), cpu_of(upstream.id().unwrap_or(0)));
                    match &proxy.peer {
                        None => (cluster, native),
                        Some(peer) => (cpu_of_all(peer.pid()), if host == WASM { cluster } else { native }),
                    }
                };
                let before = cpu();
                let measured = measure(way, &proxy.doors, host, seconds, dir).await?;
                let after = cpu();
                let ours = *ours.get_or_insert(measured.per_second);
                let used = (after.0.saturating_sub(before.0), after.1.saturating_sub(before.1));
                let nothing_behind = host == WASM && proxy.peer.is_none();
                print(way, &proxy.name, &measured, ours, used.0, (!nothing_behind).then_some(used.1));
            }
        }
    }
    for peer in proxies.into_iter().filter_map(|p| p.peer) {
        peer.stop().await;
    }
    cluster.stop().await;
    drop(upstream);
    Ok(())
}

/// One of those that are compared.
struct Proxy {
    name: String,
    doors: Doors,
    /// `None` is the cluster itself.
    peer: Option<Peer>,
}

fn print(way: Way, name: &str, m: &Measured, ours: f64, proxy: Duration, behind: Option<Duration>) {
    let each = |cpu: Duration| format!("{:.1} µs", cpu.as_secs_f64() * 1e6 / m.requests.max(1.0));
    let failed = if m.failed { " (with errors)" } else { "" };
    println!(
        "| {} | {name}{failed} | {:.0} | {:.2} × | {} | {} | {} | {} |",
        way.name(),
        m.per_second,
        m.per_second / ours,
        crate::ms(m.p50),
        crate::ms(m.p99),
        each(proxy),
        behind.map_or("in the proxy's".into(), each),
    );
}

/// The native server as a Service: without a selector, with a slice that names it.
fn native_service(port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: native}}\nspec: {{ports: [{{name: http, port: 80}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: native-1, labels: {{kubernetes.io/service-name: native}}}}\naddressType: IPv4\n\
         endpoints: [{{addresses: [{}], conditions: {{ready: true}}}}]\nports: [{{name: http, port: {port}}}]\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {{name: native}}\nspec: {{rules: [{{host: {NATIVE}, http: \
         {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: native, port: {{number: 80}}}}}}}}]}}}}]}}\n---\n\
         apiVersion: v1\nkind: Service\nmetadata: {{name: hello-outside}}\nspec: {{type: NodePort, ports: [{{port: 80, \
         targetPort: 8080}}], selector: {{app.kubernetes.io/name: hello}}}}\n",
        netns::ADDRESS
    )
}

/// The node port of hello.
async fn node_port(client: &Client) -> Result<u64, Error> {
    let service = client.get("services", "default", "hello-outside").await?;
    Ok(service.value()["spec"]["ports"][0]["nodePort"].as_u64().ok_or("hello-outside has no node port")?)
}

/// Waits until a proxy gives an answer for this host.
async fn answers(at: &str, host: &str) -> Result<(), Error> {
    let asked = async {
        while get(at, host, "/").await.ok() != Some(200) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.map_err(|_| format!("{at} has no answer for {host}").into())
}

/// The native server in a process of its own, and its port.
async fn upstream() -> Result<(Child, u16), Error> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut child = command.arg("ingress-upstream").stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut out = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
    let port = out.next_line().await?.ok_or("the native server has not started")?.trim().parse()?;
    Ok((child, port))
}

/// Is the native server: says its port, and serves until it is killed.
pub async fn serve_upstream() -> Result<(), Error> {
    let listener = TcpListener::bind((netns::ADDRESS, 0)).await?;
    println!("{}", listener.local_addr()?.port());
    hello_on(listener).await;
    Ok(())
}
