//! How a machine joins: what is asked and answered under `/copepod.dev/v1/`, and the asking.
//!
//! A joining machine knows a server's address and a token. It asks for the CA's certificate without trusting who answers,
//! compares the hash of its public key with the token's, and from then on trusts that CA alone.

use std::time::Duration;

use bytes::Bytes;
use copepod_model::Status;
use copepod_model::join_token::JoinToken;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Limited};
use rcgen::{CertificateParams, DnType, KeyPair, SanType};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::reach::Reach;
use crate::tls::{self, Credential, TlsError};

/// Where the CA's certificate is, for everyone.
pub const CA: &str = "/copepod.dev/v1/ca";
/// Where an agent joins.
pub const JOIN_AGENT: &str = "/copepod.dev/v1/join/agent";
/// Where a server joins.
pub const JOIN_SERVER: &str = "/copepod.dev/v1/join/server";
/// Where an agent that has joined comes for what it needs.
pub const RENEW_AGENT: &str = "/copepod.dev/v1/renew/agent";
/// Where nodes learn the servers' URLs.
pub const SERVERS: &str = "/copepod.dev/v1/servers";
/// Where administrators see and change the servers.
pub const MEMBERS: &str = "/copepod.dev/v1/members";

/// The largest answer that is read, in bytes.
const ANSWER: usize = 1 << 20;
/// How long one may take, a change of the group of servers included.
const DEADLINE: Duration = Duration::from_secs(60);

/// What an agent sends, to join or to be renewed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentRequest {
    /// The node's name.
    pub name: String,
    /// IP addresses at which the node's API is reached.
    pub addresses: Vec<String>,
    /// PKCS#10 request (PEM) for the client certificate; empty where none is wanted. Only its key counts.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_request: String,
    /// The same for the certificate of the node's API.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serving_request: String,
}

/// What it gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentAnswer {
    /// The client certificate, PEM; empty where none was wanted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub client_certificate: String,
    /// The certificate of the node's API.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serving_certificate: String,
    /// The CA's certificate, PEM.
    pub ca: String,
    /// URLs of all servers' APIs.
    pub servers: Vec<String>,
    /// The node's part of the pod network, such as `10.244.240.0/20`.
    pub pod_cidr: String,
}

/// What a server sends to join.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerRequest {
    /// Its name, unique among the servers.
    pub name: String,
    /// `host:port` at which the other servers reach it.
    pub peer: String,
    /// `host:port` at which clients and agents reach its API.
    pub api: String,
    /// Whether it stays a learner when it has caught up.
    #[serde(default)]
    pub learner: bool,
    /// The version in which it writes what goes into the log, which the others must be able to read; 0 where it is not said.
    #[serde(default)]
    pub log_version: u8,
}

/// What it gets: the secrets of the group, and `joined`, what the group says of its place in it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerAnswer<T> {
    /// The CA's certificate, PEM.
    pub ca: String,
    /// The CA's key, PEM.
    pub ca_key: String,
    /// The key that signs service account tokens, PEM.
    pub service_account_key: String,
    /// The key that seals Secrets, base64 of 32 bytes.
    pub seal: String,
    /// URLs of all servers' APIs.
    pub servers: Vec<String>,
    /// The group's word.
    pub joined: T,
}

/// The URLs of all servers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerList {
    /// `https://host:port`, each.
    pub servers: Vec<String>,
}

/// Why joining failed.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// Not an address.
    #[error("{0:?} is not the URL of a server: it has the form https://HOST:PORT")]
    Url(String),
    /// Nobody there, or nobody who speaks TLS.
    #[error("{0}")]
    Unreachable(String),
    /// What answered is no server of a cluster.
    #[error("{0} is not a server of a cluster: {1}")]
    NoServer(String, String),
    /// Another cluster, or somebody in between.
    #[error(
        "the cluster at {url} is not the one that the token is for: its CA has the hash {found}, the token says {wanted}"
    )]
    WrongCa {
        /// Who was asked.
        url: String,
        /// The hash of the CA that it showed.
        found: String,
        /// The token's.
        wanted: String,
    },
    /// The token is not taken, or not for this.
    #[error("{url} does not take the join token: {why} (copepod token list shows those that there are)")]
    Token {
        /// Who was asked.
        url: String,
        /// What it said.
        why: String,
    },
    /// The cluster refuses.
    #[error("{0} refuses: {1}")]
    Refused(String, Status),
    /// A key or a request for a certificate cannot be made, or what came back does not work.
    #[error("{0}")]
    Certificate(String),
}

impl From<TlsError> for JoinError {
    fn from(e: TlsError) -> JoinError {
        JoinError::Certificate(e.to_string())
    }
}

/// A private key and the request for a certificate with it.
pub struct KeyRequest {
    /// PKCS#8, PEM.
    pub key: String,
    /// PKCS#10, PEM.
    pub request: String,
}

impl KeyRequest {
    /// A request with the key `key` (PEM), or with a new one. The cluster decides what the certificate says.
    pub fn new(key: Option<&str>) -> Result<KeyRequest, JoinError> {
        let bad = |e: rcgen::Error| JoinError::Certificate(format!("cannot make a request for a certificate: {e}"));
        let key = match key {
            Some(pem) => KeyPair::from_pem(pem),
            None => KeyPair::generate(),
        };
        let key = key.map_err(bad)?;
        let request = CertificateParams::default().serialize_request(&key).and_then(|r| r.pem()).map_err(bad)?;
        Ok(KeyRequest { key: key.serialize_pem(), request })
    }

    /// With the certificate that came back, which must be this key's.
    pub fn with(self, certificate: &str) -> Result<Credential, JoinError> {
        let credential = Credential { cert: certificate.into(), key: self.key };
        tls::Rotating::new(&credential)?;
        Ok(credential)
    }
}

/// A certificate that nobody has signed but its own key, for `names`.
pub fn self_made(names: &[&str]) -> Result<Credential, JoinError> {
    let bad = |e: rcgen::Error| JoinError::Certificate(format!("cannot make a certificate: {e}"));
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, names.first().copied().unwrap_or("copepod"));
    for name in names {
        params.subject_alt_names.push(SanType::DnsName((*name).try_into().map_err(bad)?));
    }
    let key = KeyPair::generate().map_err(bad)?;
    let cert = params.self_signed(&key).map_err(bad)?;
    Ok(Credential { cert: cert.pem(), key: key.serialize_pem() })
}

/// The CA of the cluster at `url` (PEM), if it is the one that `token` pins.
pub async fn fetch_ca(url: &str, token: &JoinToken) -> Result<String, JoinError> {
    let url = server_url(url)?;
    let reach = Reach::new(tls::unverified()?, vec![url.clone()]);
    let ca = match ask(&reach, Method::GET, CA, "", Bytes::new()).await {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) if e.code == 503 => return Err(JoinError::Unreachable(e.message)),
        Err(e) => return Err(JoinError::NoServer(url, e.message)),
    };
    // The first certificate is what is pinned and what is trusted, whatever else was sent.
    let first = first_certificate(&ca);
    match first.as_deref().and_then(tls::public_key_hash) {
        None => Err(JoinError::NoServer(url, "it has no CA certificate".into())),
        Some(found) if found != token.ca_hash => Err(JoinError::WrongCa { url, found, wanted: token.ca_hash.clone() }),
        Some(_) => Ok(first.unwrap_or_default()),
    }
}

/// The first certificate of a PEM as a PEM of its own.
fn first_certificate(pem: &str) -> Option<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let start = pem.find("-----BEGIN CERTIFICATE-----")?;
    let end = pem[start..].find(END)? + start + END.len();
    Some(format!("{}\n", &pem[start..end]))
}

/// Posts `body` to `path` of the cluster at `url`, whose CA is `ca`, as the bearer of `token`.
pub async fn join<A: DeserializeOwned>(
    url: &str,
    ca: &str,
    token: &JoinToken,
    path: &str,
    body: &impl Serialize,
) -> Result<A, JoinError> {
    let url = server_url(url)?;
    let reach = Reach::new(tls::anonymous(ca)?, vec![url.clone()]);
    let body = serde_json::to_vec(body).map_err(|e| JoinError::Certificate(e.to_string()))?;
    let answer = ask(&reach, Method::POST, path, &token.bearer(), body.into()).await.map_err(|e| match e.code {
        503 if e.reason == "ServiceUnavailable" && e.message.starts_with("cannot reach") => {
            JoinError::Unreachable(e.message)
        }
        401 | 403 => JoinError::Token { url: url.clone(), why: e.message },
        _ => JoinError::Refused(url.clone(), e),
    })?;
    serde_json::from_slice(&answer).map_err(|e| JoinError::NoServer(url, e.to_string()))
}

/// The URL of a server as it is used: with its port (6443 where none is said) and nothing behind it.
pub fn server_url(url: &str) -> Result<String, JoinError> {
    let bad = || JoinError::Url(url.into());
    let parsed: http::Uri = url.trim().parse().map_err(|_| bad())?;
    let whole = parsed.scheme_str() == Some("https") && parsed.path() == "/" && parsed.query().is_none();
    let authority = parsed.authority().filter(|_| whole).ok_or_else(bad)?;
    let port = authority.port_u16().unwrap_or(6443);
    Ok(format!("https://{}:{port}", authority.host()))
}

async fn ask(reach: &Reach, method: Method, path: &str, bearer: &str, body: Bytes) -> Result<Bytes, Status> {
    let mut request = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    if !bearer.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
    }
    let request = request.body(body).map_err(|e| Status::bad_request(e.to_string()))?;
    let whole = async {
        let answer = reach.call(request).await?;
        let code = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER).collect().await;
        let body = body.map_err(|e| Status::unavailable(format!("the answer broke off: {e}")))?.to_bytes();
        if code.is_success() { Ok(body) } else { Err(Status::from_json(code.as_u16(), &body)) }
    };
    let late = |_| Err(Status::timeout(format!("no answer to {path} within {DEADLINE:?}")));
    tokio::time::timeout(DEADLINE, whole).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_servers() {
        for (given, want) in [
            ("https://10.0.0.1:6443", Some("https://10.0.0.1:6443")),
            ("https://a.example/", Some("https://a.example:6443")),
            ("https://[::1]:1", Some("https://[::1]:1")),
            ("http://10.0.0.1:6443", None),
            ("10.0.0.1:6443", None),
            ("https://a/b", None),
            ("", None),
        ] {
            assert_eq!(server_url(given).ok().as_deref(), want, "{given}");
        }
    }

    #[test]
    fn a_request_keeps_its_key_and_takes_only_its_own_certificate() {
        let first = KeyRequest::new(None).unwrap();
        let again = KeyRequest::new(Some(&first.key)).unwrap();
        assert_eq!(first.key, again.key);
        let other = self_made(&["localhost", "*.localhost"]).unwrap();
        assert!(first.with(&other.cert).is_err());
        assert!(KeyRequest::new(Some("no key")).is_err());
        assert_eq!(
            first_certificate(&format!("x{}{}", other.cert, other.cert)).map(|c| c.len() < other.cert.len() + 2),
            Some(true)
        );
    }
}
