//! Our servers as processes: `copepod up` alone, or three of `copepod server`; and clients of their API that do as little
//! themselves as etcd's.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use copepod_client::{Client, Https, Kubeconfig};
use copepod_model::UserInfo;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Bytes;
use serde_json::Value;
use tokio::process::Command;

use super::process::{Process, free_ports, pause, until};
use super::{fresh, scattered};
use crate::cluster::binary;
use crate::{Error, load};

/// How long a server may take to answer while it is waited for.
const ASKED: Duration = Duration::from_secs(2);
/// Longest answer that is read: a list of everything.
const MAX_ANSWER: usize = 256 << 20;

/// Our servers.
pub struct Servers {
    members: Vec<Server>,
}

struct Server {
    process: Process,
    config: Kubeconfig,
    name: String,
}

/// Why there can be no group of several servers: the binary does not have the verb.
pub async fn has_server() -> Result<(), String> {
    let out = Command::new(binary()).args(["server", "--help"]).output().await;
    let out = out.map_err(|e| format!("skipped: {}: {e}", binary().display()))?;
    if out.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(format!("skipped: copepod server --help: {}", text.lines().next().unwrap_or("failed")))
}

impl Servers {
    /// `copepod up` with its folder in `dir`.
    pub async fn up(dir: &Path) -> Result<Servers, Error> {
        std::fs::create_dir_all(dir)?;
        let port = free_ports(1).await?[0].to_string();
        let mut args = vec!["up".to_string(), "--api-port".into(), port];
        for flag in ["--ingress-port", "--ingress-tls-port", "--dns-port", "--kubelet-port"] {
            args.extend([flag.to_string(), "0".into()]);
        }
        args.extend(["--data-dir".into(), dir.join("s0").display().to_string()]);
        let mut servers = Servers { members: Vec::new() };
        servers.first(dir, args).await?;
        Ok(servers)
    }

    /// Three of `copepod server` with folders in `dir`: one that founds the group, two that join it.
    pub async fn three(dir: &Path) -> Result<Servers, Error> {
        std::fs::create_dir_all(dir)?;
        let ports = free_ports(6).await?;
        let args = |at: usize| {
            let data = dir.join(format!("s{at}")).display().to_string();
            let (api, peer) = (ports[at].to_string(), ports[at + 3].to_string());
            let flags = [("--name", name(at)), ("--data-dir", data), ("--api-port", api), ("--peer-port", peer)];
            let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_string(), value]);
            std::iter::once("server".to_string()).chain(flags).collect::<Vec<_>>()
        };
        let mut servers = Servers { members: Vec::new() };
        servers.first(dir, args(0)).await?;
        let founder = servers.members[0].config.clone();
        let token = token(&dir.join("s0/kubeconfig")).await?;
        for (at, port) in ports.iter().enumerate().take(3).skip(1) {
            let again = args(at);
            let mut joins = again.clone();
            joins.extend(["--join".into(), founder.server.clone(), "--token".into(), token.clone()]);
            let config = Kubeconfig { server: format!("https://127.0.0.1:{port}"), ..founder.clone() };
            servers.add(dir, joins, config)?;
            // One after the other, as an administrator would: a group takes in one server at a time.
            servers.settle().await?;
            servers.members[at].process.next_args(again.into_iter().map(OsString::from).collect());
        }
        Ok(servers)
    }

    /// Starts the first server and reads its kubeconfig.
    async fn first(&mut self, dir: &Path, args: Vec<String>) -> Result<(), Error> {
        self.add(dir, args, Kubeconfig::default())?;
        let path = dir.join("s0/kubeconfig");
        let (server, begun) = (&mut self.members[0], Instant::now());
        server.config = loop {
            // Until it is there and whole.
            if let Some(config) = Kubeconfig::read(&path).ok().filter(|c| !c.key_pem.is_empty()) {
                break config;
            }
            server.process.alive()?;
            pause("the kubeconfig is written", begun).await?;
        };
        self.ready().await
    }

    fn add(&mut self, dir: &Path, args: Vec<String>, config: Kubeconfig) -> Result<(), Error> {
        let at = self.members.len();
        let args = args.into_iter().map(OsString::from).collect();
        let process = Process::start(&binary(), args, &dir.join(format!("s{at}.log")))?;
        self.members.push(Server { process, config, name: name(at) });
        Ok(())
    }

    /// Waits until all servers say that they are ready.
    pub async fn ready(&mut self) -> Result<(), Error> {
        for server in &mut self.members {
            let (client, begun) = (connect(&server.config)?, Instant::now());
            while !is_ready(&client).await {
                server.process.alive()?;
                pause("/readyz answers 200", begun).await?;
            }
        }
        Ok(())
    }

    /// All servers' ids of processes.
    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().map(|m| m.process.pid()).collect()
    }

    /// How to reach a server's API.
    pub fn config(&self, member: usize) -> &Kubeconfig {
        &self.members[member].config
    }

    /// How many servers there are.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// How to reach the servers, the leader first.
    pub async fn endpoints(&mut self) -> Result<Vec<Kubeconfig>, Error> {
        let leader = if self.members.len() == 1 { 0 } else { self.settle().await? };
        let mut all: Vec<Kubeconfig> = self.members.iter().map(|m| m.config.clone()).collect();
        all.swap(0, leader);
        Ok(all)
    }

    /// Waits until all servers are ready, and agree on their leader and that all of them vote and are there; says which one
    /// leads.
    pub async fn settle(&mut self) -> Result<usize, Error> {
        self.ready().await?;
        let names: Vec<&str> = self.members.iter().map(|m| m.name.as_str()).collect();
        let clients: Vec<Client> = self.members.iter().map(|m| connect(&m.config)).collect::<Result<_, _>>()?;
        let path = "/copepod.dev/v1/members";
        until("the servers agree on who leads, and all vote", || async {
            let mut found = None;
            for client in &clients {
                let asked = tokio::time::timeout(ASKED, send(client, http::Method::GET, path, Bytes::new())).await;
                let Ok(Ok((200, body))) = asked else { return Ok(None) };
                let leader = leader(&serde_json::from_slice(&body)?, &names);
                if leader.is_none() || found.is_some_and(|f| Some(f) != leader) {
                    return Ok(None);
                }
                found = leader;
            }
            Ok(found)
        })
        .await
    }

    /// SIGKILL to a server.
    pub fn kill(&mut self, member: usize) -> Result<(), Error> {
        self.members[member].process.kill()
    }

    /// Starts a killed server again, and says when.
    pub async fn again(&mut self, member: usize) -> Result<Instant, Error> {
        self.members[member].process.again().await
    }
}

fn name(at: usize) -> String {
    format!("bench-{at}")
}

/// Whether a server says that it is ready.
pub async fn is_ready(client: &Client) -> bool {
    let asked = tokio::time::timeout(ASKED, send(client, http::Method::GET, "/readyz", Bytes::new())).await;
    matches!(asked, Ok(Ok((200, _))))
}

/// A token with which servers can join.
async fn token(kubeconfig: &Path) -> Result<String, Error> {
    let args = ["token", "create", "--usage", "server"];
    let out = Command::new(binary()).args(args).env("KUBECONFIG", kubeconfig).output().await?;
    if !out.status.success() {
        return Err(format!("copepod {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr)).into());
    }
    let text = String::from_utf8(out.stdout)?;
    Ok(text.lines().next().unwrap_or_default().trim().into())
}

/// The place among `names` of the server that leads, if one does and all of them vote and are reachable. The list may stand
/// alone or in an object.
fn leader(answer: &Value, names: &[&str]) -> Option<usize> {
    let list = answer.as_array().or_else(|| answer["members"].as_array()).or_else(|| answer["items"].as_array())?;
    let of = |name: &str| list.iter().find(|m| m["name"] == name);
    let is = |m: &Value, field: &str| m[field] == true;
    if !names.iter().all(|name| of(name).is_some_and(|m| is(m, "voter") && is(m, "reachable"))) {
        return None;
    }
    names.iter().position(|name| of(name).is_some_and(|m| is(m, "leader")))
}

/// A client with a connection of its own.
pub fn connect(config: &Kubeconfig) -> Result<Client, Error> {
    Ok(Client::new(Arc::new(Https::new(config)?), UserInfo::default(), "bench"))
}

/// Clients with connections of their own, open, to these servers in turn.
pub async fn connections(endpoints: &[Kubeconfig], count: usize) -> Result<Vec<Client>, Error> {
    let mut all = Vec::new();
    for config in endpoints.iter().cycle().take(count) {
        let client = connect(config)?;
        send(&client, http::Method::GET, "/version", Bytes::new()).await?;
        all.push(client);
    }
    Ok(all)
}

/// One request; the answer's code and body.
pub async fn send(client: &Client, method: http::Method, path: &str, body: Bytes) -> Result<(u16, Bytes), Error> {
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .body(body)?;
    let (head, body) = client.raw(request).await?.into_parts();
    let body = Limited::new(body, MAX_ANSWER).collect().await?.to_bytes();
    Ok((head.status.as_u16(), body))
}

/// What a client of the API does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Does {
    /// Creates the ConfigMaps that the others replace and read.
    Fill,
    /// Creates others, in a series of its own for each number of clients.
    Create(usize),
    /// Replaces one of the ConfigMaps, whatever its revision.
    Put,
    /// Reads one of them, linearizable.
    Get,
    /// Reads one of them as the server has it: `resourceVersion=0`.
    GetStale,
}

/// A client of the API, with ConfigMaps whose one value has `bytes` bytes.
pub struct Api {
    /// Its connection.
    pub client: Client,
    /// What it does.
    pub does: Does,
    /// How many ConfigMaps there are to replace and read.
    pub keys: usize,
    /// A value's length.
    pub bytes: usize,
}

impl load::Client for Api {
    async fn once(&mut self, n: usize) -> Result<(), Error> {
        const ALL: &str = "/api/v1/namespaces/default/configmaps";
        let key = format!("k-{}", scattered(n, self.keys));
        let (method, path, body) = match self.does {
            Does::Fill => (http::Method::POST, ALL.into(), self.object(&key)),
            Does::Create(series) => (http::Method::POST, ALL.into(), self.object(&format!("c{series}-{n}"))),
            Does::Put => (http::Method::PUT, format!("{ALL}/{key}"), self.object(&key)),
            Does::Get => (http::Method::GET, format!("{ALL}/{key}"), Bytes::new()),
            Does::GetStale => (http::Method::GET, format!("{ALL}/{key}?resourceVersion=0"), Bytes::new()),
        };
        let (code, answer) = send(&self.client, method, &path, body).await?;
        if !(200..300).contains(&code) {
            return Err(format!("{path} was answered {code}: {}", String::from_utf8_lossy(&answer)).into());
        }
        Ok(())
    }
}

impl Api {
    fn object(&self, name: &str) -> Bytes {
        let value = fresh(self.bytes);
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"value":"{value}"}}}}"#
        );
        text.into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_leader_counts_when_all_vote_and_are_there() {
        let member = |name: &str, voter: bool, leader: bool, reachable: bool| json!({"id": 1, "name": name, "peer": "", "api": "", "voter": voter, "leader": leader, "reachable": reachable});
        let list = json!([member("a", true, false, true), member("b", true, true, true)]);
        assert_eq!(leader(&list, &["a", "b"]), Some(1));
        assert_eq!(leader(&list, &["b", "a"]), Some(0));
        assert_eq!(leader(&json!({"members": list}), &["a", "b"]), Some(1));
        assert_eq!(leader(&list, &["a", "b", "c"]), None, "c has not joined");
        for other in [member("b", false, true, true), member("b", true, false, true), member("b", true, true, false)] {
            assert_eq!(leader(&json!([member("a", true, false, true), other]), &["a", "b"]), None);
        }
        assert_eq!(leader(&json!({}), &["a"]), None);
    }
}
