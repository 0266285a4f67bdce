//! Images: pulls of WebAssembly artifacts from OCI registries, and the content store they land in.
//!
//! ```text
//! DIR/blobs/sha256/<hex>   one file per module, named by the SHA-256 of its bytes; its time is when it was last used
//! DIR/index.json           reference → digest, and who may use it
//! DIR/tmp/                 downloads under way; emptied at start
//! ```
//!
//! A file appears under its final name only when it is complete, verified and on disk, so a crash at any point leaves
//! either all of it or nothing.

mod auth;
mod blobs;
mod error;
mod flight;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod manifest;
mod meter;
mod reference;
mod registries;
mod registry;
mod transport;
mod unpack;
mod usage;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use copepod_model::Time;
use tokio::sync::Semaphore;

pub use error::PullError;
pub use meter::Meter;
pub use reference::normalise;
pub use registries::{Credential, Registries};
pub use transport::{Chunks, Origin};
pub use usage::Image;

use blobs::Blobs;
use flight::Flights;
use index::{Entry, Index};
use reference::Source;
use registry::Registry;
use usage::LastUsed;

/// How a store behaves.
#[derive(Clone)]
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
    /// How many pulls may be under way at once; others wait.
    pub parallel: usize,
    /// Mirrors, certificates and credentials of registries.
    pub registries: Registries,
    /// The cluster's own registry.
    pub cluster: Option<ClusterRegistry>,
}

/// The cluster's own registry.
#[derive(Clone)]
pub struct ClusterRegistry {
    /// Its name in images, such as `registry.cluster.local`.
    pub host: String,
    /// The way to it.
    pub origin: Arc<dyn Origin>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            allow_file: false,
            max_layer: 512 << 20,
            deadline: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            read_timeout: Duration::from_secs(30),
            parallel: 4,
            registries: Registries::default(),
            cluster: None,
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

/// Which image is wanted, how, and as whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    /// Reference as the pod gives it.
    pub image: String,
    /// When to ask the registry.
    pub policy: Policy,
    /// The pod's credentials for it, to be tried in order; none asks anonymously, or as the node if it has a credential.
    pub credentials: Vec<Credential>,
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
    /// The same with what it waited for its turn.
    pub waited: Duration,
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
    used: LastUsed,
    registry: Arc<Registry>,
    turns: Semaphore,
    flights: Flights<Request, Result<Pulled, PullError>>,
}

impl Store {
    /// Opens the store in `dir`, which is made if need be. One process may have it open at a time.
    pub fn open(dir: impl AsRef<Path>, config: Config) -> io::Result<Store> {
        let dir = dir.as_ref();
        let blobs = Arc::new(Blobs::open(dir)?);
        let index = Index::open(dir)?;
        let (registry, turns) = (Arc::new(Registry::new(&config)), Semaphore::new(config.parallel.max(1)));
        let (used, flights) = (LastUsed::default(), Flights::default());
        Ok(Store(Arc::new(Inner { config, blobs, index, used, registry, turns, flights })))
    }

    /// Has an image in the store. Concurrent calls for the same share one pull, which goes on when its callers give up.
    /// `pulling` is called if somebody has to be asked for it, and `meter` then shows how far it is.
    pub async fn pull(
        &self,
        request: &Request,
        now: Time,
        pulling: impl FnOnce(),
        meter: &Meter,
    ) -> Result<Pulled, PullError> {
        let image = &request.image;
        let source = reference::parse(image, self.0.config.allow_file)?;
        if let Some(answer) = self.0.at_hand(request, &source, now) {
            return answer;
        }
        // A file that is known is looked at again, in case it has changed; nobody is asked.
        let look = matches!(source, Source::File(_)) && request.policy == Policy::IfNotPresent;
        if !look || self.0.known(&source).is_none() {
            pulling();
        }
        let (inner, wanted, meter, asked) = (self.0.clone(), request.clone(), meter.clone(), Instant::now());
        let pull = async move { inner.take_turn(&wanted, source, now, &meter).await };
        let lost = || Err(PullError::pull(image, "the pull was aborted".into()));
        let mut pulled = self.0.flights.run(request.clone(), pull).await.unwrap_or_else(lost)?;
        pulled.waited = asked.elapsed().max(pulled.took);
        self.0.used.mark(&pulled.digest, now);
        Ok(pulled)
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

    /// Notes that modules are in use now, so that they count as such after a restart, too.
    pub fn mark_used<'a>(&self, digests: impl IntoIterator<Item = &'a str>, now: Time) {
        for digest in digests {
            self.0.used.mark(digest, now);
            self.0.blobs.touch(digest, now);
        }
    }

    /// Every module in the store, as the disk has it.
    pub fn images(&self) -> io::Result<Vec<Image>> {
        usage::images(&self.0.blobs, &self.0.index, &self.0.used)
    }

    /// Removes a module and all names of it, unless it was used after `since`; the bytes that are free now.
    pub fn remove(&self, digest: &str, since: Time) -> io::Result<u64> {
        if self.0.used.at(digest).is_some_and(|at| at > since) {
            return Ok(0);
        }
        // The names first: a crash in between leaves content that nobody names, which the next collection finds.
        self.0.index.remove(digest)?;
        let freed = self.0.blobs.remove(digest)?;
        self.0.used.forget(digest);
        Ok(freed)
    }
}

impl Inner {
    fn known(&self, source: &Source) -> Option<Entry> {
        let found = self.index.get(&source.key()).or_else(|| match source {
            // By digest it is the same image whatever name it came by.
            Source::Registry(r) => self.index.by_manifest(&reference::repository(r), r.digest()?),
            Source::File(_) => None,
        });
        found.filter(|e| self.blobs.size(&e.digest).is_some())
    }

    /// The answer that needs nobody else.
    fn at_hand(&self, request: &Request, source: &Source, now: Time) -> Option<Result<Pulled, PullError>> {
        let known = self.known(source);
        let entry = match (known, request.policy, source) {
            // A file costs no more to read than to compare, and whoever rebuilt it expects the new one.
            (Some(e), Policy::IfNotPresent, Source::Registry(_)) | (Some(e), Policy::Never, _) => e,
            (None, Policy::Never, _) => return Some(Err(PullError::never(&request.image))),
            _ => return None,
        };
        match (entry.allows(&request.credentials), request.policy) {
            (true, _) => {
                self.used.mark(&entry.digest, now);
                let (took, waited) = (Duration::ZERO, Duration::ZERO);
                Some(Ok(Pulled { digest: entry.digest, size: entry.size, took, waited, present: true }))
            }
            (false, Policy::Never) => Some(Err(PullError::not_yours(&request.image))),
            // The registry decides whether these credentials will do.
            (false, _) => None,
        }
    }

    async fn take_turn(
        self: Arc<Self>,
        request: &Request,
        source: Source,
        now: Time,
        meter: &Meter,
    ) -> Result<Pulled, PullError> {
        // A closed semaphore would be one that is gone, and it lives as long as this.
        let _turn = self.turns.acquire().await.map_err(|e| PullError::pull(&request.image, e.to_string()))?;
        let deadline = self.config.deadline;
        let late = || PullError::unavailable(&request.image, &format!("the pull took longer than {deadline:?}"));
        tokio::time::timeout(deadline, self.clone().pull(request, source, now, meter))
            .await
            .unwrap_or_else(|_| Err(late()))
    }

    async fn pull(
        self: Arc<Self>,
        request: &Request,
        source: Source,
        now: Time,
        meter: &Meter,
    ) -> Result<Pulled, PullError> {
        let image = &request.image;
        let (key, known, started) = (source.key(), self.known(&source), Instant::now());
        let (entry, present) = match source {
            Source::File(path) => {
                let before = known.as_ref().map(|e| e.digest.clone());
                match (self.clone().read_file(image, path, before, now).await, known, request.policy) {
                    (Ok(read), _, _) => read,
                    // Whoever started the node from another folder, or tidied up after a build, did not ask for running
                    // pods to be unable to restart.
                    (Err(_), Some(entry), Policy::IfNotPresent) => (entry, true),
                    (Err(e), _, _) => return Err(e),
                }
            }
            Source::Registry(reference) => {
                let manifest = known.as_ref().map(|e| e.manifest.as_str()).filter(|m| !m.is_empty());
                let found = self.registry.resolve(image, &reference, &request.credentials, manifest).await?;
                let (mut entry, present) = match known.filter(|e| e.manifest == found.digest) {
                    Some(entry) => (entry, true),
                    None => {
                        let present = found.wasm_digest().is_some_and(|d| self.blobs.size(d).is_some());
                        let (digest, size) = self.registry.fetch(image, &found, &self.blobs, meter).await?;
                        (Entry::new(digest, size, found.digest.clone(), now), present)
                    }
                };
                entry.grant(found.needed(&request.credentials));
                (entry, present)
            }
        };
        let took = started.elapsed();
        let pulled = Pulled { digest: entry.digest.clone(), size: entry.size, took, waited: took, present };
        let inner = self.clone();
        blocking(move || inner.index.set(key, entry)).await.map_err(|e| PullError::store(image, &e))?;
        Ok(pulled)
    }

    async fn read_file(
        self: Arc<Self>,
        image: &str,
        path: PathBuf,
        before: Option<String>,
        now: Time,
    ) -> Result<(Entry, bool), PullError> {
        let limit = self.config.max_layer;
        let shown = path.display().to_string();
        let read = blocking(move || self.blobs.import(&path, limit, before.as_deref())).await;
        let (digest, size, present) = read.map_err(|e| PullError::pull(image, format!("{shown}: {e}")))?;
        let mut entry = Entry::new(digest, size, String::new(), now);
        entry.grant(None);
        Ok((entry, present))
    }
}

/// Runs disk work off the event loop.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
