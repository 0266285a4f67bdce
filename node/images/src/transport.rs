//! HTTP to registries: over the network, or to the cluster's own registry wherever the node reaches it.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::registries::{HostConfig, Registries, Tls};
use crate::{Config, PullError};

/// How many redirects are followed: blobs often lie in an object store.
const REDIRECTS: usize = 5;

/// A body as it arrives.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// The cluster's own registry, asked by whatever way the node has to the API.
#[async_trait]
pub trait Origin: Send + Sync + 'static {
    /// One request without a body; `path` begins with `/v2/`.
    async fn request(&self, method: Method, path: &str, headers: HeaderMap) -> io::Result<http::Response<Chunks>>;
}

/// An answer of a registry.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub chunks: Chunks,
    /// Whether it was given to somebody and not to anyone.
    pub authorized: bool,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Nobody answers, or with a failure of the server's own: another endpoint, or later.
    Unavailable(String),
    /// Not with this credential.
    Denied(String),
    /// Another answer that is no success, in the registry's words.
    Refused(String),
    /// This host's set-up.
    Local(String),
}

impl Fault {
    pub(crate) fn into_error(self, image: &str) -> PullError {
        match self {
            Fault::Unavailable(why) => PullError::unavailable(image, &why),
            Fault::Denied(why) | Fault::Refused(why) | Fault::Local(why) => PullError::pull(image, why),
        }
    }
}

impl Answer {
    /// The whole body, which must not be longer than `limit`.
    pub(crate) async fn whole(mut self, limit: usize) -> Result<Bytes, Fault> {
        let mut out = Vec::new();
        while let Some(chunk) = self.chunks.next().await {
            let chunk = chunk.map_err(|e| Fault::Unavailable(format!("the answer broke off: {}", causes(&e))))?;
            if out.len() + chunk.len() > limit {
                return Err(Fault::Refused(format!("the answer is larger than the limit of {limit} bytes")));
            }
            out.extend_from_slice(&chunk);
        }
        Ok(out.into())
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// Clients, one per set of certificates.
pub(crate) struct Clients {
    connect: std::time::Duration,
    read: std::time::Duration,
    made: Mutex<HashMap<(Tls, bool), reqwest::Client>>,
}

impl Clients {
    pub(crate) fn new(config: &Config) -> Clients {
        Clients { connect: config.connect_timeout, read: config.read_timeout, made: Mutex::default() }
    }

    /// The client for a host, made when first needed: it reads the system's certificates.
    fn client(&self, registries: &Registries, host: &str, local: bool) -> Result<reqwest::Client, String> {
        let tls = registries.config(host).and_then(|c: &HostConfig| c.tls.clone()).unwrap_or_default();
        let key = (tls, local);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = made.get(&key) {
            return Ok(client.clone());
        }
        let client = self.build(&key.0, local)?;
        made.insert(key, client.clone());
        Ok(client)
    }

    fn build(&self, tls: &Tls, local: bool) -> Result<reqwest::Client, String> {
        // Does nothing where the process has chosen its provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let read = |path: &std::path::Path| std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()));
        let mut builder = reqwest::Client::builder()
            .connect_timeout(self.connect)
            .read_timeout(self.read)
            .user_agent(concat!("copepod/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::custom(|attempt| {
                let from_https = attempt.previous().last().is_some_and(|u| u.scheme() == "https");
                if attempt.previous().len() > REDIRECTS {
                    attempt.error("too many redirects")
                } else if from_https && attempt.url().scheme() != "https" {
                    attempt.error("redirected from https to http")
                } else {
                    attempt.follow()
                }
            }));
        if local {
            // A registry on this machine is not asked by way of a proxy elsewhere.
            builder = builder.no_proxy();
        }
        if let Some(path) = &tls.ca_file {
            let certs = reqwest::Certificate::from_pem_bundle(&read(path)?)
                .map_err(|e| format!("{}: {}", path.display(), causes(&e)))?;
            builder = builder.tls_certs_merge(certs);
        }
        if let (Some(cert), Some(key)) = (&tls.cert_file, &tls.key_file) {
            let pem = [read(cert)?, b"\n".to_vec(), read(key)?].concat();
            let identity =
                reqwest::Identity::from_pem(&pem).map_err(|e| format!("{}: {}", cert.display(), causes(&e)))?;
            builder = builder.identity(identity);
        }
        if tls.insecure_skip_verify {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        builder.build().map_err(|e| causes(&e))
    }

    /// Sends a request without a body.
    pub(crate) async fn send(
        &self,
        registries: &Registries,
        host: &str,
        method: Method,
        url: &str,
        headers: HeaderMap,
    ) -> Result<Answer, Fault> {
        let local = crate::reference::is_loopback(host);
        let client = self.client(registries, host, local).map_err(Fault::Local)?;
        let sent = client.request(method, url).headers(headers).send().await;
        let answer = sent.map_err(|e| Fault::Unavailable(causes(&e)))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let chunks = answer.bytes_stream().map(|c| c.map_err(|e| io::Error::other(causes(&e)))).boxed();
        Ok(Answer { status, headers, chunks, authorized: false })
    }
}

/// The same from the cluster's own registry.
pub(crate) async fn send_to(
    origin: &Arc<dyn Origin>,
    method: Method,
    path: &str,
    headers: HeaderMap,
) -> Result<Answer, Fault> {
    let answer = origin.request(method, path, headers).await.map_err(|e| Fault::Unavailable(e.to_string()))?;
    let (head, chunks) = answer.into_parts();
    Ok(Answer { status: head.status, headers: head.headers, chunks, authorized: false })
}

/// One header.
pub(crate) fn header(name: http::HeaderName, value: &str) -> HeaderMap {
    let mut map = HeaderMap::new();
    if let Ok(mut value) = HeaderValue::from_str(value) {
        value.set_sensitive(name == http::header::AUTHORIZATION);
        map.insert(name, value);
    }
    map
}

/// An error with its causes: reqwest's own text stops at "error sending request"; the cause says what is wrong.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let more = c.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = c.source();
    }
    text
}
