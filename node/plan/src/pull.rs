//! A container's image: asked for with the pod's credentials, and tried again when it cannot be had.

use std::time::Duration;

use copepod_machine::{Backoff, EventType};
use copepod_model::Time;
use k8s_openapi::api::core::v1::Container;

use crate::effect::{Effect, Observation, PullRequest};
use crate::keyring::Keyring;
use crate::observed::{Observed, Tracked};
use crate::refs::{Lookup, Reference};
use crate::sync::Sync;
use crate::text::go_duration;

/// How long a failed image pull waits.
const PULL_BACKOFF: Backoff = Backoff { first: Duration::from_secs(10), max: Duration::from_secs(300) };
/// `ErrImagePull` is shown this long, then `ImagePullBackOff` until the next try.
pub(crate) const PULL_ERROR_SHOWN: Duration = Duration::from_secs(3);
/// The time between the first two events that tell how far a pull is. It doubles, so that a pull of ten minutes has seven at
/// most: a pod may have only so many events, and none that matters must be lost for these.
const PROGRESS_TOLD: Duration = Duration::from_secs(5);

/// The last thing that went wrong with an image.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PullFailure {
    pub reason: String,
    pub message: String,
    pub at: Time,
    pub failures: u32,
}

impl PullFailure {
    /// When to ask again.
    pub fn retry_at(&self) -> Time {
        self.at + PULL_BACKOFF.delay(self.failures)
    }
}

/// Whether a failure alternates between the error and its back-off, as pulls do.
pub(crate) fn backs_off(failure: &PullFailure) -> bool {
    matches!(failure.reason.as_str(), "ErrImagePull" | "RegistryUnavailable")
}

/// Where a container's image stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Image {
    /// Not asked for.
    Absent,
    /// Asked for.
    Pulling {
        /// The failure before.
        before: Option<PullFailure>,
        /// How many bytes are here, of how many.
        progress: Option<(u64, u64)>,
        /// Since when.
        since: Time,
        /// When an event may tell of the progress.
        tell_at: Time,
    },
    /// Here.
    Ready { digest: String, at: Time },
    /// Cannot be had for now.
    Failed(PullFailure),
}

impl Sync<'_> {
    /// The digest of the container's image, which is asked for if need be.
    pub(crate) fn image(&mut self, observed: &mut Observed, container: &Container) -> Option<String> {
        let now = self.now;
        let t = observed.containers.get_mut(&container.name)?;
        let wanted = container.image.as_deref().unwrap_or_default();
        if t.image_ref != wanted {
            t.image_ref = wanted.into();
            t.image = Image::Absent;
        }
        let before = match &t.image {
            Image::Ready { digest, .. } => return Some(digest.clone()),
            Image::Pulling { .. } => return None,
            Image::Absent => None,
            Image::Failed(f) if now >= f.retry_at() => Some(f.clone()),
            Image::Failed(f) => {
                let (retry, shown) = (f.retry_at(), f.at + PULL_ERROR_SHOWN);
                self.wake(retry);
                if backs_off(f) && now < shown {
                    self.wake(shown);
                } else if backs_off(f) && t.announced_pull_at != Some(f.at) {
                    t.announced_pull_at = Some(f.at);
                    let path = t.field_path.clone();
                    let text = format!("Back-off pulling image \"{wanted}\"");
                    observed.event(EventType::Normal, "BackOff", text, Some(path.clone()));
                    observed.event(EventType::Warning, "Failed", "Error: ImagePullBackOff".into(), Some(path));
                }
                return None;
            }
        };
        let (keyring, missing) = self.keyring()?;
        let t = observed.containers.get_mut(&container.name)?;
        t.image = Image::Pulling { before, progress: None, since: now, tell_at: now };
        let (always, never) = match container.image_pull_policy.as_deref() {
            Some("Always") => (true, false),
            Some("Never") => (false, true),
            _ => (false, false),
        };
        let request = PullRequest { image: wanted.into(), always, never, credentials: keyring.lookup(wanted) };
        t.pull = request.id();
        if !missing.is_empty() {
            let text = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                missing.join(", ")
            );
            observed.event(EventType::Warning, "FailedToRetrieveImagePullSecret", text, None);
        }
        self.out.effects.push(Effect::PullImage(request));
        None
    }

    /// The pod's credentials, and which of its pull secrets do not exist. `None` while they are being fetched.
    fn keyring(&mut self) -> Option<(Keyring, Vec<String>)> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let secrets = self.pod.spec.as_ref().and_then(|s| s.image_pull_secrets.as_deref()).unwrap_or_default();
        let (mut keyring, mut missing, mut known) = (Keyring::default(), Vec::new(), true);
        for name in secrets.iter().map(|s| s.name.as_str()).filter(|n| !n.is_empty()) {
            match self.refs.secret(namespace, name, self.now) {
                Lookup::Found(values) => keyring.add(&values),
                Lookup::Missing => missing.push(name.to_string()),
                Lookup::Unknown => {
                    known = false;
                    let (namespace, name) = (namespace.into(), name.into());
                    self.out.fetch.insert(Reference { resource: "secrets", namespace, name });
                }
            }
        }
        known.then_some((keyring, missing))
    }
}

impl Observed {
    /// What the data plane says about an image. What nobody waits for changes nothing.
    pub(crate) fn observe_image(&mut self, observation: &Observation, now: Time) {
        match observation {
            Observation::ImagePulling { request } => {
                for (image, path) in self.each_waiting(*request, |_| {}) {
                    self.event(EventType::Normal, "Pulling", format!("Pulling image \"{image}\""), Some(path));
                }
            }
            Observation::ImageProgress { request, done, total } => {
                let mut told = Vec::new();
                self.each_waiting(*request, |t| {
                    let Image::Pulling { progress, since, tell_at, .. } = &mut t.image else { return };
                    *progress = Some((*done, *total));
                    if now >= *tell_at {
                        *tell_at = now + now.since(*since).max(PROGRESS_TOLD);
                        told.push((
                            format!("Pulling image \"{}\": {}", t.image_ref, far((*done, *total))),
                            t.field_path.clone(),
                        ));
                    }
                });
                for (text, path) in told {
                    self.event(EventType::Normal, "Pulling", text, Some(path));
                }
            }
            Observation::ImagePulled { request, size, took, waited } => {
                for (image, path) in self.each_waiting(*request, |_| {}) {
                    self.event(EventType::Normal, "Pulled", pulled(&image, *size, *took, *waited), Some(path));
                }
            }
            Observation::ImageReady { request, digest } => {
                self.each_waiting(*request, |t| t.image = Image::Ready { digest: digest.clone(), at: now });
            }
            Observation::ImageFailed { request, reason, message } => {
                let failed = self.each_waiting(*request, |t| {
                    let before = if let Image::Pulling { before: Some(f), .. } = &t.image { f.failures } else { 0 };
                    let failures = before.saturating_add(1);
                    t.image = Image::Failed(PullFailure {
                        reason: reason.clone(),
                        message: message.clone(),
                        at: now,
                        failures,
                    });
                });
                for (image, path) in failed {
                    self.failed(&image, reason, message, path);
                }
            }
            _ => {}
        }
    }

    fn failed(&mut self, image: &str, reason: &str, message: &str, path: String) {
        let (event, text) = match reason {
            "ErrImageNeverPull" => ("ErrImageNeverPull", message.to_string()),
            "InvalidImageName" => ("InspectFailed", message.to_string()),
            // It is here, and cannot be run.
            "CreateContainerError" => {
                return self.event(EventType::Warning, "Failed", format!("Error: {message}"), Some(path));
            }
            _ => ("Failed", format!("Failed to pull image \"{image}\": {message}")),
        };
        self.event(EventType::Warning, event, text, Some(path.clone()));
        self.event(EventType::Warning, "Failed", format!("Error: {reason}"), Some(path));
    }

    /// Does something to each container that waits for a pull: their images and field paths.
    fn each_waiting(&mut self, request: u64, mut work: impl FnMut(&mut Tracked)) -> Vec<(String, String)> {
        let waiting = self.containers.values_mut();
        let waiting = waiting.filter(|t| t.pull == request && matches!(t.image, Image::Pulling { .. }));
        waiting
            .map(|t| {
                work(t);
                (t.image_ref.clone(), t.field_path.clone())
            })
            .collect()
    }

    /// The digests of images that containers run, may run again, or are about to.
    pub fn images_in_use(&self) -> impl Iterator<Item = &str> {
        self.containers.values().flat_map(|t| {
            let ready = if let Image::Ready { digest, .. } = &t.image { Some(digest.as_str()) } else { None };
            ready.into_iter().chain((!t.digest.is_empty()).then_some(t.digest.as_str()))
        })
    }
}

/// How far a pull is.
pub(crate) fn far((done, total): (u64, u64)) -> String {
    let (shift, unit) = if total < 10 << 20 { (10, "KiB") } else { (20, "MiB") };
    format!("{} of {} {unit}", done >> shift, total >> shift)
}

fn pulled(image: &str, size: u64, took: Duration, waited: Duration) -> String {
    if took.is_zero() {
        return format!("Container image \"{image}\" already present on machine and can be accessed by the pod");
    }
    let shown =
        |d: Duration| go_duration(Duration::from_millis(u64::try_from(d.as_millis()).unwrap_or(u64::MAX).max(1)));
    let (took, waited) = (shown(took), shown(waited));
    format!("Successfully pulled image \"{image}\" in {took} ({waited} including waiting). Image size: {size} bytes.")
}
