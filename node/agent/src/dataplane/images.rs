//! Images: had, compiled, counted and removed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use copepod_images::{Credential, Meter, Policy, Request, Store};
use copepod_model::Time;
use copepod_node_plan::{Disk, ImageUse, Observation, PullRequest};
use copepod_runtime_wasm::Runtime;

use super::containers::Containers;
use super::{Observer, toolbox};
use crate::clock::now;
use crate::host;

/// How often it is told how far a pull is: each time is a status of every pod that waits for it.
const PROGRESS: Duration = Duration::from_secs(5);

/// Has an image in the store and compiled: it is ready before any container asks for it.
pub(super) async fn pull(images: &Store, containers: &Containers, wanted: PullRequest, observer: &Observer) {
    let request = wanted.id();
    let policy = match (wanted.always, wanted.never) {
        (_, true) => Policy::Never,
        (true, false) => Policy::Always,
        (false, false) => Policy::IfNotPresent,
    };
    // The agent goes only when this process does.
    let say = |observation| drop(observer.send(observation));
    let failed = |reason: &str, message| Observation::ImageFailed { request, reason: reason.into(), message };
    if copepod_node_plan::exec::is_toolbox(&wanted.image) {
        let digest = toolbox::digest().to_string();
        let (size, took) = (toolbox::WASM.len() as u64, Duration::ZERO);
        say(Observation::ImagePulled { request, size, took, waited: took });
        return match containers.module(&digest).await {
            Ok(_) => say(Observation::ImageReady { request, digest }),
            Err(message) => say(failed("CreateContainerError", message)),
        };
    }
    let credentials =
        wanted.credentials.into_iter().map(|c| Credential { username: c.username, password: c.password }).collect();
    let asked = Request { image: wanted.image, policy, credentials };
    let meter = Meter::default();
    let pulled = images.pull(&asked, now(), || say(Observation::ImagePulling { request }), &meter);
    let told = |(done, total)| say(Observation::ImageProgress { request, done, total });
    let pulled = match watched(pulled, || meter.read(), told).await {
        Ok(pulled) => pulled,
        Err(e) => return say(failed(e.reason, e.message)),
    };
    // A file that has not changed was not pulled from anywhere.
    let file = asked.image.starts_with("file:") && pulled.present && policy == Policy::IfNotPresent;
    let took = if file { Duration::ZERO } else { pulled.took };
    say(Observation::ImagePulled { request, size: pulled.size, took, waited: pulled.waited });
    match containers.module(&pulled.digest).await {
        Ok(_) => say(Observation::ImageReady { request, digest: pulled.digest }),
        // It will be the same until there is another image.
        Err(message) => say(failed("CreateContainerError", message)),
    }
}

/// Waits for a pull, and tells now and then how far it is.
async fn watched<T, M: Copy + PartialEq>(
    pull: impl Future<Output = T>,
    read: impl Fn() -> Option<M>,
    tell: impl Fn(M),
) -> T {
    let mut pull = std::pin::pin!(pull);
    let mut told = None;
    loop {
        match tokio::time::timeout(PROGRESS, &mut pull).await {
            Ok(pulled) => return pulled,
            Err(_) => {
                let now = read();
                now.filter(|_| now != told).into_iter().for_each(&tell);
                told = now;
            }
        }
    }
}

/// Everything that is kept of images.
pub(super) struct Shelf {
    pub images: Store,
    pub containers: Arc<Containers>,
    pub runtime: Arc<Runtime>,
    /// Where it is.
    pub dir: PathBuf,
}

impl Shelf {
    /// Notes what is in use and says what is there.
    pub fn report(&self, in_use: &[String]) -> Observation {
        self.images.mark_used(in_use.iter().map(String::as_str), now());
        let images = self.images.images().map_err(|e| format!("{}: {e}", self.dir.display())).map(|all| {
            let one = |i: copepod_images::Image| ImageUse {
                size: i.size.saturating_add(self.runtime.artifact_size(&i.digest)),
                digest: i.digest,
                names: i.names,
                last_used: i.last_used,
            };
            all.into_iter().map(one).collect()
        });
        let bytes = |n: i64| u64::try_from(n).unwrap_or(0);
        let disk = host::disk(&self.dir)
            .map_or(Disk::default(), |(total, free)| Disk { capacity: bytes(total), available: bytes(free) });
        Observation::Images { images, disk }
    }

    /// Bytes that images take, with what was compiled from them.
    pub fn bytes(&self) -> Option<u64> {
        let all = self.images.images().ok()?;
        let sizes = all.iter().map(|i| i.size.saturating_add(self.runtime.artifact_size(&i.digest)));
        Some(sizes.fold(0, u64::saturating_add))
    }

    /// Removes images, with what was compiled from them. What runs or was used since stays.
    pub fn remove(&self, images: &[(String, Time)]) -> Observation {
        let (mut freed, mut errors) = (0u64, Vec::new());
        for (digest, since) in images {
            if !self.containers.release(digest) {
                continue;
            }
            let removed = self.images.remove(digest, *since).and_then(|image| {
                // Nothing removed: it was used since, and what was compiled stays useful.
                let compiled = if image > 0 { self.runtime.remove_artifact(digest)? } else { 0 };
                Ok(image + compiled)
            });
            match removed {
                Ok(bytes) => freed += bytes,
                Err(e) => errors.push(format!("failed to remove image {digest}: {e}")),
            }
        }
        Observation::ImagesRemoved { freed, errors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[tokio::test(start_paused = true)]
    async fn a_long_pull_is_told_of_a_short_one_is_not() {
        let began = tokio::time::Instant::now();
        let told = RefCell::new(Vec::new());
        let pull = |seconds| {
            let read = || Some(began.elapsed().as_secs().min(12)).filter(|n| *n > 5);
            watched(tokio::time::sleep(Duration::from_secs(seconds)), read, |n| told.borrow_mut().push(n))
        };
        pull(4).await;
        assert!(told.borrow().is_empty());
        pull(30).await;
        assert_eq!(*told.borrow(), [9, 12], "every five seconds, if it has gone on");
    }
}
