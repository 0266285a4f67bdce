//! Images: pulls of WebAssembly artifacts from OCI registries, and the content store they land in.
//!
//! ```text
//! DIR/blobs/sha256/<hex>   one file per module, named by the SHA-256 of its bytes
//! DIR/index.json           reference → digest
//! DIR/tmp/                 downloads under way; emptied at start
//! ```
//!
//! A file appears under its final name only when it is complete, verified and on disk, so a crash at any point leaves
//! either all of it or nothing.

mod blobs;
mod error;
mod flight;
mod index;
mod manifest;
mod reference;
mod registry;
mod unpack;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use copepod_model::Time;

pub use error::PullError;
pub use reference::normalise;

use blobs::Blobs;
use flight::Flights;
use index::{Entry, Index};
use reference::Source;
use registry::Registry;

/// How a store behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether images may be named by `file://` URLs: only where whoever creates pods may read the node's files.
    pub allow_file: bool,
    /// The greatest size of a layer and of a module, in bytes.
    pub max_layer: u64,
    /// How long one pull may take.
    pub deadline: Duration,
    /// How long a registry may take to accept a connection.
    pub connect_timeout: Duration,
    /// How long a registry may fall silent.
    pub read_timeout: Duration,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            allow_file: false,
            max_layer: 512 << 20,
            deadline: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
        }
    }
}

/// When to ask the registry: `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Even if the reference is known, since a tag may have moved.
    Always,
    /// Unless the reference is known.
    IfNotPresent,
    /// Not at all.
    Never,
}

/// An image that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// The module's digest, `sha256:…`.
    pub digest: String,
    /// The module's size in bytes.
    pub size: u64,
    /// How long the pull took; zero if nothing was asked of anyone.
    pub took: Duration,
    /// Whether its content was in the store before.
    pub present: bool,
}

/// The content store of a node. Clones share it.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    config: Config,
    blobs: Arc<Blobs>,
    index: Index,
    registry: Registry,
    flights: Flights<(String, Policy), Result<Pulled, PullError>>,
}

impl Store {
    /// Opens the store in `dir`, which is made if need be. One process may have it open at a time.
    pub fn open(dir: impl AsRef<Path>, config: Config) -> io::Result<Store> {
        let dir = dir.as_ref();
        let blobs = Arc::new(Blobs::open(dir)?);
        let index = Index::open(dir)?;
        let registry = Registry::new(&config);
        Ok(Store(Arc::new(Inner { config, blobs, index, registry, flights: Flights::default() })))
    }

    /// Has an image in the store. Concurrent calls for one image share one pull, which goes on when its callers give up.
    pub async fn pull(&self, image: &str, policy: Policy, now: Time) -> Result<Pulled, PullError> {
        let source = reference::parse(image, self.0.config.allow_file)?;
        let (inner, name) = (self.0.clone(), image.to_string());
        let deadline = self.0.config.deadline;
        let pull = async move {
            match tokio::time::timeout(deadline, inner.pull(&name, source, policy, now)).await {
                Ok(result) => result,
                Err(_) => Err(PullError::pull(&name, format!("the pull took longer than {} s", deadline.as_secs()))),
            }
        };
        let lost = || Err(PullError::pull(image, "the pull was aborted".into()));
        self.0.flights.run((image.to_string(), policy), pull).await.unwrap_or_else(lost)
    }

    /// The file that holds a module. Its bytes are not verified here: see [`Store::read`].
    pub fn path(&self, digest: &str) -> io::Result<PathBuf> {
        self.0.blobs.path(digest)
    }

    /// The bytes of a module, verified against their digest. What is damaged is removed, so that the next pull fetches it.
    pub async fn read(&self, digest: &str) -> io::Result<Bytes> {
        let (inner, digest) = (self.0.clone(), digest.to_string());
        blocking(move || inner.blobs.read(&digest)).await
    }

    /// Whether a module is in the store.
    pub fn contains(&self, digest: &str) -> bool {
        self.0.blobs.size(digest).is_some()
    }

    /// Every known image: reference and digest, in the order of references. For the node's status.
    pub fn images(&self) -> Vec<(String, String, u64)> {
        self.0.index.all().into_iter().map(|(name, e)| (name, e.digest, e.size)).collect()
    }
}

impl Inner {
    async fn pull(
        self: Arc<Self>,
        image: &str,
        source: Source,
        policy: Policy,
        now: Time,
    ) -> Result<Pulled, PullError> {
        let key = source.key();
        let known = self.index.get(&key).filter(|e| self.blobs.size(&e.digest).is_some());
        match (&known, policy, &source) {
            // A file costs no more to read than to compare, and whoever rebuilt it expects the new one.
            (Some(e), Policy::IfNotPresent, Source::Registry(_)) | (Some(e), Policy::Never, _) => {
                return Ok(Pulled { digest: e.digest.clone(), size: e.size, took: Duration::ZERO, present: true });
            }
            (None, Policy::Never, _) => return Err(PullError::never(image)),
            _ => {}
        }
        let started = Instant::now();
        let (entry, present) = match source {
            Source::File(path) => match (self.clone().read_file(image, path, now).await, known, policy) {
                (Ok(read), _, _) => read,
                // Whoever started the node from another folder, or tidied up after a build, did not ask for running
                // pods to be unable to restart.
                (Err(_), Some(entry), Policy::IfNotPresent) => (entry, true),
                (Err(e), _, _) => return Err(e),
            },
            Source::Registry(reference) => {
                let found = self.registry.resolve(image, &reference).await?;
                match known.filter(|e| e.manifest == found.digest) {
                    Some(entry) => (entry, true),
                    None => {
                        let present = found.wasm_digest().is_some_and(|d| self.blobs.size(d).is_some());
                        let (digest, size) = self.registry.fetch(image, &reference, &found, &self.blobs).await?;
                        (Entry { digest, size, manifest: found.digest, pulled_at: now.rfc3339() }, present)
                    }
                }
            }
        };
        let pulled = Pulled { digest: entry.digest.clone(), size: entry.size, took: started.elapsed(), present };
        let inner = self.clone();
        blocking(move || inner.index.set(key, entry)).await.map_err(|e| PullError::store(image, &e))?;
        Ok(pulled)
    }

    async fn read_file(self: Arc<Self>, image: &str, path: PathBuf, now: Time) -> Result<(Entry, bool), PullError> {
        let limit = self.config.max_layer;
        let shown = path.display().to_string();
        let read = blocking(move || self.blobs.import(&path, limit)).await;
        let (digest, size, present) = read.map_err(|e| PullError::pull(image, format!("{shown}: {e}")))?;
        Ok((Entry { digest, size, manifest: String::new(), pulled_at: now.rfc3339() }, present))
    }
}

/// Runs disk work off the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
