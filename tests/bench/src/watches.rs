//! What an idle watch costs the server: resident memory with 1,000 and 10,000 of them, over HTTP/2 and over HTTP/1.1, both with
//! TLS; and how long one write takes until all of them have seen it.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use copepod_client::tls::{Credential, Rotating};
use copepod_client::{Client, Kubeconfig, WatchEvent};
use copepod_model::request::ListOptions;
use copepod_node_plan::Descriptors;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use crate::cluster::Cluster;
use crate::{Error, ms};

/// How many watches there are at once.
const ORDINARY: &[usize] = &[1_000, 10_000];
const QUICK: &[usize] = &[100];
/// How many are being opened at the same time.
const OPENERS: usize = 32;
/// Connections that the server keeps for others than those that are counted here.
const OTHERS: usize = 32;
/// How long all of them may take to open, and to see a write.
const LONGEST: Duration = Duration::from_secs(120);

/// What is watched.
const WATCHED: &str = "configmaps";

/// What keeps a watch open.
type Held = Box<dyn Any + Send>;
/// A watch that waits for the first object that it shows: when it came, and what keeps the watch open.
type Waiting = JoinHandle<Result<(Instant, Held), Error>>;

/// How watches reach the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Many of them share a connection: 200, as our own client has it.
    Http2,
    /// Each has a connection of its own.
    Http1,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Http2 => "HTTP/2, 200 to a connection",
            Way::Http1 => "HTTP/1.1, each its own connection",
        }
    }

    /// How many of `counts` watches are opened by a process with this many descriptors, to a `copepod up` that has as many: each
    /// number once.
    fn possible(self, counts: &[usize], descriptors: u64) -> Vec<usize> {
        let room = (Descriptors::split(descriptors).api as usize).saturating_sub(OTHERS);
        let most = if self == Way::Http1 { room } else { usize::MAX };
        let mut all: Vec<usize> = counts.iter().map(|count| (*count).min(most)).collect();
        all.dedup();
        all
    }
}

/// Opens watches.
enum Opener {
    Http2(Client),
    Http1 { tls: TlsConnector, at: String },
}

/// Prints the table.
pub async fn run(quick: bool) -> Result<(), Error> {
    let counts = if quick { QUICK } else { ORDINARY };
    let descriptors = raise();
    println!("\n## Idle watches of the ConfigMaps of a namespace\n");
    println!(
        "| over | watches | opened in | server CPU for each | RSS before | with them | for each | after a write | for each | write → all |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for way in [Way::Http2, Way::Http1] {
        for count in way.possible(counts, descriptors) {
            row(way, count).await?;
        }
    }
    println!("\nOf {descriptors} descriptors `copepod up` gives {} to the API.", Descriptors::split(descriptors).api);
    Ok(())
}

async fn row(way: Way, count: usize) -> Result<(), Error> {
    let cluster = Cluster::up(&[]).await?;
    // What a controller writes at the start must not come in between.
    cluster.settled(WATCHED, "kube-root-ca.crt").await?;
    let client = cluster.client()?;
    let newest = ListOptions { limit: 1, ..ListOptions::default() };
    let from = client.list(WATCHED, "default", newest).await?.revision;
    let opener = Opener::new(way, &cluster.config()?)?;

    let (before, cpu, begun) = (cluster.rss(), cluster.cpu(), Instant::now());
    let opening =
        stream::iter(0..count).map(|_| opener.open(from)).buffer_unordered(OPENERS).try_collect::<Vec<Waiting>>();
    let waiting = tokio::time::timeout(LONGEST, opening).await??;
    let (opened, cpu, idle) = (begun.elapsed(), cluster.cpu() - cpu, cluster.rss());

    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seen"}, "data": {"value": "x".repeat(1024)}});
    let written = Instant::now();
    client.create(WATCHED, "default", map).await?;
    let all = async {
        let (mut last, mut held) = (written, Vec::new());
        for watch in waiting {
            let (at, open) = watch.await??;
            last = last.max(at);
            held.push(open);
        }
        Ok::<_, Error>((last, held))
    };
    let (last, held) = tokio::time::timeout(LONGEST, all).await??;
    let after = cluster.rss();
    println!(
        "| {} | {count} | {:.1} s | {:.0} µs | {} MiB | {} MiB | {} | {} MiB | {} | {} |",
        way.name(),
        opened.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / count as f64,
        before >> 20,
        idle >> 20,
        each(before, idle, count),
        after >> 20,
        each(before, after, count),
        ms(last.duration_since(written))
    );
    drop(held);
    cluster.stop().await;
    Ok(())
}

/// What each of `count` has of the difference, as text.
fn each(before: u64, after: u64, count: usize) -> String {
    format!("{:.1} KiB", after.saturating_sub(before) as f64 / count as f64 / 1024.0)
}

impl Opener {
    fn new(way: Way, config: &Kubeconfig) -> Result<Opener, Error> {
        if way == Way::Http2 {
            return Ok(Opener::Http2(crate::raft::servers::connect(config)?));
        }
        let text = |pem: &[u8]| String::from_utf8_lossy(pem).into_owned();
        let credential = Credential { cert: text(&config.cert_pem), key: text(&config.key_pem) };
        let mut tls = Rotating::new(&credential)?.client_config(&text(&config.ca_pem))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let at = config.server.trim_start_matches("https://").trim_end_matches('/').to_string();
        Ok(Opener::Http1 { tls: TlsConnector::from(Arc::new(tls)), at })
    }

    /// Opens a watch from behind a revision; it is open when this returns.
    async fn open(&self, from: u64) -> Result<Waiting, Error> {
        match self {
            Opener::Http2(client) => over_http2(client, from).await,
            Opener::Http1 { tls, at } => over_http1(tls, at, from).await,
        }
    }
}

async fn over_http2(client: &Client, from: u64) -> Result<Waiting, Error> {
    let options = ListOptions { resource_version: Some(from.to_string()), ..ListOptions::default() };
    let mut events = client.watch(WATCHED, "default", options).await?;
    Ok(tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if matches!(event, WatchEvent::Added(_)) {
                let held: Held = Box::new(events);
                return Ok::<_, Error>((Instant::now(), held));
            }
        }
        Err("a watch ended before it showed anything".into())
    }))
}

async fn over_http1(tls: &TlsConnector, at: &str, from: u64) -> Result<Waiting, Error> {
    let host = at.rsplit_once(':').map_or(at, |(host, _)| host).to_string();
    let stream = tls.connect(ServerName::try_from(host)?, TcpStream::connect(at).await?).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let path = format!("/api/v1/namespaces/default/{WATCHED}?watch=true&resourceVersion={from}");
    let request = http::Request::get(path).header("host", at).header("accept", "application/json");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    if answer.status() != 200 {
        return Err(format!("a watch was answered {}", answer.status()).into());
    }
    let mut body = answer.into_body();
    Ok(tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            // The first bytes of an event say what it is.
            let shows = frame?.data_ref().is_some_and(|data| String::from_utf8_lossy(data).contains("\"ADDED\""));
            if shows {
                let held: Held = Box::new((sender, body));
                return Ok::<_, Error>((Instant::now(), held));
            }
        }
        Err("a watch ended before it showed anything".into())
    }))
}

/// Lets this process, and those that it starts, have as many descriptors as they may; how many that are.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => current.unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_connections_as_the_server_takes() {
        assert_eq!(Way::Http2.possible(ORDINARY, 1024), ORDINARY);
        assert_eq!(Way::Http1.possible(ORDINARY, 20_000), [1000, 2500 - OTHERS]);
        assert_eq!(Way::Http1.possible(ORDINARY, 1024), [128 - OTHERS]);
    }

    #[test]
    fn memory_is_shared_among_watches() {
        assert_eq!(each(1 << 20, 3 << 20, 512), "4.0 KiB");
        assert_eq!(each(2, 1, 1), "0.0 KiB", "what fell is not counted");
    }
}
