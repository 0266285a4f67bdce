//! Asking a registry.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use sha2::{Digest, Sha256};
use tokio::io::AsyncWrite;

use crate::blobs::{Blobs, Draft, hex, too_large, wasm};
use crate::manifest::{self, Descriptor, MANIFEST_TYPES, Next, Platform};
use crate::reference::is_loopback;
use crate::{Config, PullError, blocking};

/// The greatest size of an image's config, in bytes.
const MAX_CONFIG: u64 = 4 << 20;

pub(crate) struct Registry {
    connect: Duration,
    read: Duration,
    max_layer: u64,
    https: OnceLock<Client>,
    http: OnceLock<Client>,
}

/// What a reference stands for at the moment.
pub(crate) struct Found {
    /// Digest of the manifest that the registry gave first, be it an index.
    pub digest: String,
    next: Next,
}

impl Found {
    /// The module's digest, where the manifest tells.
    pub(crate) fn wasm_digest(&self) -> Option<&str> {
        if let Next::Wasm(d) = &self.next { Some(&d.digest) } else { None }
    }
}

impl Registry {
    pub(crate) fn new(config: &Config) -> Registry {
        Registry {
            connect: config.connect_timeout,
            read: config.read_timeout,
            max_layer: config.max_layer,
            https: OnceLock::new(),
            http: OnceLock::new(),
        }
    }

    /// The client for a registry, made when first needed: it reads the system's certificates.
    fn client(&self, reference: &Reference) -> Result<&Client, OciDistributionError> {
        let plain = is_loopback(reference.registry());
        let cell = if plain { &self.http } else { &self.https };
        if let Some(client) = cell.get() {
            return Ok(client);
        }
        // Does nothing where the process has chosen its provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(ClientConfig {
            protocol: if plain { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(self.connect),
            read_timeout: Some(self.read),
            user_agent: concat!("copepod/", env!("CARGO_PKG_VERSION")),
            // A registry on this machine is not asked by way of a proxy elsewhere.
            no_proxy: plain.then(|| "*".into()),
            ..ClientConfig::default()
        })?;
        Ok(cell.get_or_init(|| client))
    }

    /// Reads the manifest of a reference, through an index if it is one.
    pub(crate) async fn resolve(&self, image: &str, reference: &Reference) -> Result<Found, PullError> {
        let (digest, next) = self.manifest(image, reference).await?;
        let Next::Follow(inner) = next else { return Ok(Found { digest, next }) };
        match self.manifest(image, &reference.clone_with_digest(inner)).await? {
            (_, Next::Follow(_)) => Err(PullError::pull(image, "the index leads to another index".into())),
            (_, next) => Ok(Found { digest, next }),
        }
    }

    async fn manifest(&self, image: &str, reference: &Reference) -> Result<(String, Next), PullError> {
        let client = self.client(reference).map_err(|e| PullError::registry(image, e))?;
        let pull = client.pull_manifest_raw(reference, &RegistryAuth::Anonymous, &MANIFEST_TYPES);
        let (bytes, digest) = pull.await.map_err(|e| PullError::registry(image, e))?;
        let next = manifest::read(&bytes).map_err(|why| PullError::pull(image, why))?;
        Ok((digest, next))
    }

    /// Downloads the module into the store: its digest and size.
    pub(crate) async fn fetch(
        &self,
        image: &str,
        reference: &Reference,
        found: &Found,
        blobs: &Arc<Blobs>,
    ) -> Result<(String, u64), PullError> {
        let store = |e: io::Error| PullError::store(image, &e);
        let (config, layers, marked) = match &found.next {
            Next::Follow(_) => return Err(PullError::pull(image, "the image is an index".into())),
            Next::Wasm(layer) => {
                if let Some(size) = blobs.size(&layer.digest) {
                    return Ok((layer.digest.clone(), size));
                }
                blobs.path(&layer.digest).map_err(|e| PullError::pull(image, e.to_string()))?;
                let (draft, sink) = self.blob(image, reference, layer, self.max_layer, blobs).await?;
                wasm(&sink.head).map_err(|e| PullError::pull(image, format!("layer {}: {e}", layer.digest)))?;
                let (kept, digest) = (blobs.clone(), layer.digest.clone());
                blocking(move || kept.keep(draft, &digest)).await.map_err(store)?;
                return Ok((layer.digest.clone(), sink.size));
            }
            Next::Image { config, layers, marked } => (config, layers, *marked),
        };
        let (draft, _) = self.blob(image, reference, config, MAX_CONFIG, blobs).await?;
        let bytes = std::fs::read(draft.path()).map_err(store)?;
        let platform: Platform = serde_json::from_slice(&bytes)
            .map_err(|e| PullError::pull(image, format!("the image's config cannot be read: {e}")))?;
        if !marked && !platform.is_wasm() {
            return Err(PullError::pull(image, manifest::wrong_platform(&[platform])));
        }
        let mut drafts = Vec::new();
        for layer in layers {
            drafts.push(self.blob(image, reference, layer, self.max_layer, blobs).await?.0);
        }
        let paths: Vec<_> = drafts.iter().map(|d| d.path().to_path_buf()).collect();
        let (limit, store) = (self.max_layer, blobs.clone());
        blocking(move || crate::unpack::only_module(&paths, limit, &store))
            .await
            .map_err(|e| PullError::pull(image, e.to_string()))
    }

    /// Downloads a blob into a draft, verifying size and digest.
    async fn blob(
        &self,
        image: &str,
        reference: &Reference,
        blob: &Descriptor,
        limit: u64,
        blobs: &Arc<Blobs>,
    ) -> Result<(Draft, Sink), PullError> {
        if blob.size > limit {
            let why = format!("layer {} has {} bytes, {}", blob.digest, blob.size, too_large(limit));
            return Err(PullError::pull(image, why));
        }
        let mut draft = blobs.draft().map_err(|e| PullError::store(image, &e))?;
        let file = draft.take_file().map_err(|e| PullError::store(image, &e))?;
        let mut sink =
            Sink { file: tokio::fs::File::from_std(file), hash: Sha256::new(), head: Vec::new(), size: 0, limit };
        let wanted = OciDescriptor {
            media_type: blob.media_type.clone(),
            digest: blob.digest.clone(),
            size: i64::try_from(blob.size).unwrap_or(i64::MAX),
            ..OciDescriptor::default()
        };
        let client = self.client(reference).map_err(|e| PullError::registry(image, e))?;
        client.pull_blob(reference, &wanted, &mut sink).await.map_err(|e| PullError::registry(image, e))?;
        // The client has compared the digest too; it is what everything later trusts, so it is computed here as well.
        let got = hex(std::mem::take(&mut sink.hash));
        if got != blob.digest {
            return Err(PullError::pull(image, format!("layer {} arrived as {got}", blob.digest)));
        }
        Ok((draft, sink))
    }
}

/// A file that hashes what it takes and stops at its limit.
struct Sink {
    file: tokio::fs::File,
    hash: Sha256,
    head: Vec<u8>,
    size: u64,
    limit: u64,
}

impl AsyncWrite for Sink {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.size + buf.len() as u64 > self.limit {
            return Poll::Ready(Err(too_large(self.limit)));
        }
        let n = std::task::ready!(Pin::new(&mut self.file).poll_write(cx, buf))?;
        self.hash.update(&buf[..n]);
        let more = 4usize.saturating_sub(self.head.len()).min(n);
        self.head.extend_from_slice(&buf[..more]);
        self.size += n as u64;
        Poll::Ready(Ok(n))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.file).poll_shutdown(cx)
    }
}
