//! The content's way from one server to another: whoever lacks what a repository has asks the others for it. It is known by its
//! digest, so that nobody has to be believed.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use copepod_client::Body;
use copepod_state::Interest;
use http::Response;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use sha2::Digest as _;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;

use super::blobs::stream;
use super::error::OciError;
use super::index::{Index, Kind};
use super::path::Digest;
use super::{Images, MAX_BLOB, SILENCE, empty};
use crate::listener::stopped;
use crate::store::WatchError;

/// How long after it was looked at the store is looked at again: where something is lacking that no server gave, and else.
const AGAIN: Duration = Duration::from_secs(10);
const SWEEP: Duration = Duration::from_secs(3600);

impl Images {
    /// What this server itself has under a digest (in hexadecimal), for another one.
    pub(crate) async fn give(&self, hex: &str) -> Response<Body> {
        let Some(digest) = Digest::of_hex(hex) else { return empty(404, &[]) };
        let opened = async {
            let file = tokio::fs::File::open(self.0.files.blob(&digest)).await?;
            let size = file.metadata().await?.len();
            Ok::<_, io::Error>(stream(file, size))
        };
        match opened.await {
            Ok(content) => Response::new(content),
            Err(e) if e.kind() == io::ErrorKind::NotFound => empty(404, &[]),
            Err(e) => OciError::from(e).response(),
        }
    }

    /// Whether the content of a digest is here, once the others were asked for it.
    pub(super) async fn have(&self, digest: &Digest) -> Result<bool, OciError> {
        if tokio::fs::try_exists(self.0.files.blob(digest)).await? {
            return Ok(true);
        }
        let Some(network) = &self.0.network else { return Ok(false) };
        for id in network.others() {
            let Some(answer) = network.content(id, digest.hex()).await else { continue };
            let path = self.0.files.upload(&format!("fetch-{}", crate::random_name()));
            let came = receive(answer.into_body(), &path).await;
            match came {
                Ok(got) if got == *digest => {
                    let which = digest.clone();
                    self.disk(move |files| files.keep(&path, &which)).await?;
                    return Ok(true);
                }
                Ok(got) => tracing::warn!("server {id} has damaged content: {got} under {digest}"),
                Err(e) => tracing::warn!("{digest} did not come from server {id}: {e}"),
            }
            let _ = tokio::fs::remove_file(&path).await;
        }
        Ok(false)
    }

    /// Sees to it, until `stop` turns true, that everything is here that a repository has, and in time nothing else.
    pub async fn forever(self, mut stop: watch::Receiver<bool>) {
        let watched = async {
            while let Err(e) = self.import().await {
                tracing::info!("repositories of an earlier release wait for a leader: {}", e.message);
                tokio::time::sleep(AGAIN).await;
            }
            let store = &self.0.store;
            loop {
                let view = store.snapshot();
                let revision = view.revision();
                let whole = self.complete(Index(view).digests()).await.unwrap_or(false);
                let watch = |kind: Kind| store.watch(Interest::all(kind.resource()), revision);
                let (Ok(mut blobs), Ok(mut manifests)) = (watch(Kind::Blob), watch(Kind::Manifest)) else {
                    // The store is closed, or so much has come meanwhile that there is a newer state to look at.
                    tokio::time::sleep(AGAIN).await;
                    continue;
                };
                let pause = if whole { SWEEP } else { AGAIN };
                let seen = tokio::select! {
                    seen = blobs.next() => seen,
                    seen = manifests.next() => seen,
                    () = tokio::time::sleep(pause) => Ok(Vec::new()),
                };
                if matches!(seen, Err(WatchError::Stopped)) {
                    return;
                }
            }
        };
        tokio::select! {
            () = watched => {}
            () = stopped(&mut stop) => {}
        }
    }

    /// Fetches what is lacking of `all`; whether nothing is any more.
    async fn complete(&self, all: BTreeSet<Digest>) -> Result<bool, OciError> {
        let lacking = self.disk(move |files| {
            files.sweep(SystemTime::now(), &all)?;
            Ok(all.into_iter().filter(|digest| !files.blob(digest).exists()).collect::<Vec<_>>())
        });
        let mut whole = true;
        for digest in lacking.await? {
            whole &= self.have(&digest).await?;
        }
        Ok(whole)
    }
}

/// Writes what comes to a file; its digest.
async fn receive(mut body: Incoming, path: &Path) -> io::Result<Digest> {
    let mut file = tokio::fs::File::options().write(true).create_new(true).open(path).await?;
    let (mut hash, mut size) = (sha2::Sha256::new(), 0);
    loop {
        let frame = tokio::time::timeout(SILENCE, body.frame()).await;
        let Some(frame) = frame.map_err(|_| io::ErrorKind::TimedOut)? else { break };
        let frame = frame.map_err(io::Error::other)?;
        let Some(data) = frame.data_ref() else { continue };
        size += data.len() as u64;
        if size > MAX_BLOB {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        hash.update(data);
        file.write_all(data).await?;
    }
    file.flush().await?;
    Ok(Digest::from_hash(hash))
}
