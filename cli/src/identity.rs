//! Who an agent is: its certificates, the servers it knows and its part of the pod network, kept in the data folder. Its keys
//! never leave the host. It joins once, by a token; from then on its certificates speak for it and renew themselves.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copepod_client::join::{self, AgentAnswer, AgentRequest, KeyRequest, ServerList};
use copepod_client::tls::{Credential, Rotating, Validity};
use copepod_client::{Client, Https};
use copepod_model::{Status, UserInfo};
use copepod_server::pki::write;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cmd::Error;
use crate::joining::{JoinFlags, host_name};

/// How often servers and certificates are looked after.
const PERIOD: Duration = Duration::from_secs(30);
/// Longest answer, in bytes.
const ANSWER: usize = 1 << 20;

/// What is kept beside keys and certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    name: String,
    servers: Vec<String>,
    pod_cidr: String,
    /// What the certificate of the node's API is for.
    addresses: Vec<String>,
}

/// An agent's identity.
pub struct Identity {
    dir: PathBuf,
    stored: Stored,
    /// The host's address, as other nodes and the servers see it.
    pub address: IpAddr,
    /// The CA's certificate, PEM.
    pub ca: String,
    client: Arc<Rotating>,
    /// The certificate of the node's API.
    pub serving: Arc<Rotating>,
    https: Arc<Https>,
}

/// The files.
const STATE: &str = "state.json";
const CA: &str = "ca.crt";
/// A key and its certificate in one file, so that they are replaced together.
const CLIENT: &str = "client.pem";
const SERVING: &str = "serving.pem";
/// Keys of an agent that is about to join: should the answer be lost, they show that it is the same one.
const CLIENT_KEY: &str = "client.key";
const SERVING_KEY: &str = "serving.key";

impl Identity {
    /// The identity in `data_dir`, or a new one by joining. Waits for a server as long as it takes if it has one.
    pub async fn open(
        data_dir: &Path,
        flags: &JoinFlags,
        name: Option<&str>,
        bind: Option<IpAddr>,
    ) -> Result<Identity, Error> {
        let dir = data_dir.join("node/identity");
        let made = {
            use std::os::unix::fs::DirBuilderExt as _;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)
        };
        made.map_err(|e| format!("{}: {e}", dir.display()))?;
        if let Some(text) = read(&dir.join(STATE))? {
            let stored: Stored = serde_json::from_str(&text).map_err(|e| damaged(&dir.join(STATE), e))?;
            if let Some(wanted) = name.filter(|n| *n != stored.name) {
                let why = "this folder belongs to the node";
                return Err(format!("{}: {why} {:?}, not to {wanted:?}", data_dir.display(), stored.name).into());
            }
            let pem = needed(&dir.join(CLIENT))?;
            let ends = Validity::of(&pem).ok_or_else(|| damaged(&dir.join(CLIENT), "no certificate"))?.not_after;
            if copepod_server::now() < ends {
                return Identity::resume(dir, stored, bind).await;
            }
            tracing::warn!("the node's certificate ended at {}: it has to join again", ends.rfc3339());
            let name = stored.name.clone();
            return Identity::join(dir, flags, name, bind).await;
        }
        let name = name.map_or_else(host_name, |n| Ok(n.to_string()))?;
        Identity::join(dir, flags, name, bind).await
    }

    async fn join(dir: PathBuf, flags: &JoinFlags, name: String, bind: Option<IpAddr>) -> Result<Identity, Error> {
        let url = flags.url().ok_or("an agent has a cluster to join: --join https://SERVER:6443 --token TOKEN")?;
        let (url, token) = (join::server_url(url)?, flags.token()?);
        let ca = join::fetch_ca(&url, &token).await?;
        let address = own_address(bind, std::slice::from_ref(&url)).await?;
        let (client, serving) = (pending(&dir, CLIENT_KEY, CLIENT)?, pending(&dir, SERVING_KEY, SERVING)?);
        let request = AgentRequest {
            name,
            addresses: vec![address.to_string()],
            client_request: client.request.clone(),
            serving_request: serving.request.clone(),
        };
        let answer: AgentAnswer = join::join(&url, &ca, &token, join::JOIN_AGENT, &request).await?;
        let servers = if answer.servers.is_empty() { vec![url] } else { answer.servers };
        let AgentRequest { name, addresses, .. } = request;
        let stored = Stored { name, servers, pod_cidr: answer.pod_cidr, addresses };
        let (client, serving) = (client.with(&answer.client_certificate)?, serving.with(&answer.serving_certificate)?);
        write(&dir.join(CA), ca.as_bytes())?;
        keep(&dir.join(CLIENT), &client)?;
        keep(&dir.join(SERVING), &serving)?;
        // The state comes last: with it, it has joined.
        keep_state(&dir, &stored)?;
        for key in [CLIENT_KEY, SERVING_KEY] {
            let _ = fs::remove_file(dir.join(key));
        }
        Identity::with(dir, stored, address, ca, (&client, &serving))
    }

    async fn resume(dir: PathBuf, stored: Stored, bind: Option<IpAddr>) -> Result<Identity, Error> {
        let both = |pem: String| Credential { cert: pem.clone(), key: pem };
        let ca = needed(&dir.join(CA))?;
        let (client, serving) = (both(needed(&dir.join(CLIENT))?), both(needed(&dir.join(SERVING))?));
        let address = own_address(bind, &stored.servers).await?;
        let mut identity = Identity::with(dir, stored, address, ca, (&client, &serving))?;
        let mut wait = Duration::from_millis(100);
        // The Node may be gone, its part of the pod network somebody else's: the cluster has the word.
        while let Err(e) = identity.renew().await {
            match e {
                RenewError::Status(e) if !matches!(e.code, 401 | 403 | 409 | 422) => {
                    tracing::warn!("the node cannot begin yet: {e}");
                }
                RenewError::Status(e) => return Err(format!("the cluster does not take this node back: {e}").into()),
                RenewError::Other(e) => return Err(e),
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
        Ok(identity)
    }

    fn with(
        dir: PathBuf,
        stored: Stored,
        address: IpAddr,
        ca: String,
        (client, serving): (&Credential, &Credential),
    ) -> Result<Identity, Error> {
        let (client, serving) = (Rotating::new(client)?, Rotating::new(serving)?);
        let https = Arc::new(Https::over(client.client_config(&ca)?, stored.servers.clone()));
        Ok(Identity { dir, stored, address, ca, client, serving, https })
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.stored.name
    }

    /// The servers that it knows.
    pub fn servers(&self) -> &[String] {
        &self.stored.servers
    }

    /// The node's part of the pod network, such as `10.244.240.0/20`.
    pub fn pod_cidr(&self) -> &str {
        &self.stored.pod_cidr
    }

    /// The API as this node.
    pub fn client(&self) -> Client {
        Client::new(self.https.clone(), UserInfo::default(), "kubelet")
    }

    /// TLS for connections to other nodes, which shows the certificate that the node has at the time.
    pub fn node_tls(&self) -> Result<rustls::ClientConfig, Error> {
        let mut config = self.client.client_config(&self.ca)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not show it again.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// Keeps the list of servers and the certificates fresh, for ever. `changed` hears of every new list.
    pub async fn keep_fresh(mut self, changed: impl Fn(&[String]) + Send) {
        loop {
            match self.ask::<ServerList>(Method::GET, join::SERVERS, Bytes::new()).await {
                Ok(list) => match self.set_servers(list.servers) {
                    Ok(true) => changed(&self.stored.servers),
                    Ok(false) => {}
                    Err(e) => tracing::warn!("the list of servers cannot be kept: {e}"),
                },
                Err(e) => tracing::debug!("the servers are not known anew: {e}"),
            }
            if self.due(CLIENT) || self.due(SERVING) {
                match self.renew().await {
                    Ok(()) => tracing::info!("the node has new certificates"),
                    Err(e) => tracing::warn!("the node's certificates are not renewed yet: {e}"),
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn due(&self, file: &str) -> bool {
        let pem = fs::read_to_string(self.dir.join(file)).unwrap_or_default();
        Validity::of(&pem).is_none_or(|v| v.renew_at() <= copepod_server::now())
    }

    /// Asks for what the cluster says of this node, and for those certificates that it is time for.
    async fn renew(&mut self) -> Result<(), RenewError> {
        let addresses = vec![self.address.to_string()];
        // The key of the client's certificate stays: it is what shows that this is the same agent.
        let own = read(&self.dir.join(CLIENT)).map_err(RenewError::Other)?;
        let client = KeyRequest::new(own.as_deref()).map(Some).map_err(RenewError::other)?;
        let wanted = self.due(SERVING) || addresses != self.stored.addresses;
        let serving = wanted.then(|| KeyRequest::new(None)).transpose().map_err(RenewError::other)?;
        let text = |r: &Option<KeyRequest>| r.as_ref().map(|r| r.request.clone()).unwrap_or_default();
        let request = AgentRequest {
            name: self.stored.name.clone(),
            addresses: addresses.clone(),
            client_request: text(&client),
            serving_request: text(&serving),
        };
        let body = serde_json::to_vec(&request).map_err(RenewError::other)?;
        let answer: AgentAnswer = self.ask(Method::POST, join::RENEW_AGENT, body.into()).await?;
        let parts = [
            (client, &answer.client_certificate, CLIENT, &self.client),
            (serving, &answer.serving_certificate, SERVING, &self.serving),
        ];
        for (request, certificate, file, shown) in parts {
            let Some(request) = request.filter(|_| file != CLIENT || self.due(CLIENT)) else { continue };
            let credential = request.with(certificate).map_err(RenewError::other)?;
            keep(&self.dir.join(file), &credential).map_err(RenewError::Other)?;
            shown.set(&credential).map_err(RenewError::other)?;
        }
        let AgentAnswer { servers, pod_cidr, .. } = answer;
        self.stored.addresses = addresses;
        self.stored.pod_cidr = pod_cidr;
        keep_state(&self.dir, &self.stored).map_err(RenewError::Other)?;
        self.set_servers(servers).map_err(RenewError::Other)?;
        Ok(())
    }

    /// Whether they are others than before.
    fn set_servers(&mut self, servers: Vec<String>) -> Result<bool, Error> {
        if servers.is_empty() || servers == self.stored.servers {
            return Ok(false);
        }
        self.https.set_servers(servers.clone());
        self.stored.servers = servers;
        keep_state(&self.dir, &self.stored)?;
        Ok(true)
    }

    async fn ask<A: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<A, Status> {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let request = request.body(body).map_err(|e| Status::bad_request(e.to_string()))?;
        let whole = async {
            let answer = self.client().raw(request).await?;
            let code = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER).collect().await;
            let body = body.map_err(|e| Status::unavailable(format!("the answer broke off: {e}")))?.to_bytes();
            if !code.is_success() {
                return Err(Status::from_json(code.as_u16(), &body));
            }
            serde_json::from_slice(&body).map_err(Status::internal)
        };
        let late = |_| Err(Status::timeout(format!("no answer to {path}")));
        tokio::time::timeout(PERIOD, whole).await.unwrap_or_else(late)
    }
}

/// Why nothing was renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    #[error(transparent)]
    Status(#[from] Status),
    #[error("{0}")]
    Other(Error),
}

impl RenewError {
    fn other(e: impl std::error::Error + Send + Sync + 'static) -> RenewError {
        RenewError::Other(Box::new(e))
    }
}

/// Where pods reach APIs that listen on this host's loopback alone: the address that stands for them, and the real one.
pub fn api_aliases(servers: &[String]) -> Vec<(SocketAddr, SocketAddr)> {
    let at = servers.iter().filter_map(|url| url.strip_prefix("https://")?.parse::<SocketAddr>().ok());
    at.filter_map(|at| Some((SocketAddr::new(crate::node::api_alias(at.ip())?, at.port()), at))).collect()
}

/// The address of this host that others see: what it listens on, or else what it reaches the servers from.
async fn own_address(bind: Option<IpAddr>, servers: &[String]) -> Result<IpAddr, Error> {
    if let Some(ip) = bind.filter(|ip| !ip.is_unspecified()) {
        return Ok(ip);
    }
    for url in servers {
        let Some(authority) = url.strip_prefix("https://") else { continue };
        let Ok(found) = tokio::net::lookup_host(authority).await else { continue };
        for at in found {
            // Nothing is sent: connecting a UDP socket only asks for the route.
            let any: SocketAddr = if at.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
            let Ok(socket) = tokio::net::UdpSocket::bind(any).await else { continue };
            if socket.connect(at).await.is_ok()
                && let Ok(own) = socket.local_addr()
            {
                return Ok(own.ip());
            }
        }
    }
    Err("the address by which others reach this host is not known: say it with --bind".into())
}

/// The request of an agent that joins: with the key that it has, or a new one that is on disk before it is used.
fn pending(dir: &Path, key: &str, pem: &str) -> Result<KeyRequest, Error> {
    // That of a certificate which has ended comes first: the cluster knows it.
    let there = match read(&dir.join(pem))? {
        Some(text) => Some(text),
        None => read(&dir.join(key))?,
    };
    let request = KeyRequest::new(there.as_deref())?;
    if there.is_none() {
        write(&dir.join(key), request.key.as_bytes())?;
    }
    Ok(request)
}

fn keep(path: &Path, credential: &Credential) -> Result<(), Error> {
    Ok(write(path, format!("{}{}", credential.key, credential.cert).as_bytes())?)
}

fn keep_state(dir: &Path, stored: &Stored) -> Result<(), Error> {
    Ok(write(&dir.join(STATE), &serde_json::to_vec(stored)?)?)
}

fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(format!("{}: {e}", path.display()).into()),
    }
}

fn needed(path: &Path) -> Result<String, Error> {
    read(path)?.ok_or_else(|| format!("{} is missing", path.display()).into())
}

fn damaged(path: &Path, e: impl std::fmt::Display) -> Error {
    format!("{} is damaged: {e}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_api_that_pods_cannot_reach_has_a_stand_in() {
        let servers =
            ["https://127.0.0.1:7001", "https://10.0.0.1:6443", "https://a.example:6443", "https://[::1]:7002"];
        let aliases = api_aliases(&servers.map(Into::into));
        let shown: Vec<String> = aliases.iter().map(|(alias, at)| format!("{alias} {at}")).collect();
        assert_eq!(shown, ["10.244.0.0:7001 127.0.0.1:7001", "10.244.0.0:7002 [::1]:7002"]);
    }

    #[tokio::test]
    async fn the_own_address_is_what_was_said_or_the_way_to_the_servers() {
        let servers = ["https://127.0.0.1:6443".to_string()];
        let said = own_address(Some([192, 0, 2, 7].into()), &servers).await.unwrap();
        assert_eq!(said, IpAddr::from([192, 0, 2, 7]));
        for bind in [None, Some([0, 0, 0, 0].into())] {
            assert_eq!(own_address(bind, &servers).await.unwrap(), IpAddr::from([127, 0, 0, 1]));
        }
        assert!(own_address(None, &[]).await.is_err());
    }
}
