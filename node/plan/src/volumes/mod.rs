//! A pod's volumes: which it needs, what is in them, and whether they are there. Before they are, no container starts;
//! afterwards they follow what they show.

mod config_map;
mod downward_api;
mod empty_dir;
mod files;
mod host_path;
mod mounts;
mod projected;
mod secret;
mod token;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Duration;

use copepod_machine::{Backoff, EventType};
use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};

use crate::effect::{Effect, VolumeContent};
use crate::env::Source;
use crate::observed::Observed;
use crate::sync::PodPlan;

pub(crate) use mounts::resolve;
pub use token::{Token, TokenKey};

/// How long a volume that cannot be set up waits for its next try (the kubelet's numbers).
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), max: Duration::from_secs(122) };

/// Why the content of a volume is not known.
#[derive(Debug, PartialEq)]
pub(crate) enum Problem {
    /// It has been asked for.
    Wait,
    /// In the kubelet's words.
    Failed(String),
}

impl From<String> for Problem {
    fn from(why: String) -> Problem {
        Problem::Failed(why)
    }
}

/// What making a volume's content reads, and what it asks for.
pub(crate) struct Making<'a> {
    pub source: &'a Source<'a>,
    pub tokens: &'a mut token::Tokens,
    pub out: &'a mut PodPlan,
}

type Make = fn(&mut Making<'_>, &Volume) -> Option<Result<VolumeContent, Problem>>;

/// Every type of volume: each takes those that are of its type.
const TYPES: &[Make] =
    &[config_map::make, downward_api::make, empty_dir::make, host_path::make, projected::make, secret::make];

/// What is known of a pod's volumes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Volumes {
    known: BTreeMap<String, State>,
    tokens: token::Tokens,
}

/// Where one volume stands.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// Hash of the content that was asked for last.
    asked: Option<u64>,
    /// Hash of the content that the data plane could not set up.
    refused: Option<u64>,
    /// Where it is.
    at: Option<PathBuf>,
    failures: u32,
    retry: Option<Time>,
    problem: Option<String>,
}

impl State {
    /// Notes a failure; `true` if it is news.
    fn fail(&mut self, why: &str, now: Time) -> bool {
        let news = self.problem.as_deref() != Some(why) || self.retry.is_some_and(|r| now >= r);
        if news {
            self.failures = self.failures.saturating_add(1);
            self.retry = Some(now + BACKOFF.delay(self.failures));
            self.problem = Some(why.into());
        }
        news
    }
}

impl Volumes {
    /// Where a volume is on the host.
    pub fn at(&self, name: &str) -> Option<&Path> {
        self.known.get(name)?.at.as_deref()
    }

    /// Whether all that a container mounts is there.
    pub fn has_all(&self, container: &Container) -> bool {
        container.volume_mounts.iter().flatten().all(|m| self.at(&m.name).is_some())
    }

    /// A token has come, or not.
    pub fn token(&mut self, key: &TokenKey, result: Result<Token, String>, now: Time) {
        self.tokens.answer(key, result, now);
    }
}

/// What the data plane says of a volume.
pub(crate) fn mounted(observed: &mut Observed, name: &str, result: &Result<PathBuf, String>, now: Time) {
    let Some(state) = observed.volumes.known.get_mut(name) else { return };
    match result {
        Ok(at) => *state = State { asked: state.asked, at: Some(at.clone()), ..State::default() },
        Err(why) => {
            state.refused = state.asked.take();
            if state.fail(why, now) {
                let text = set_up_failed(name, why);
                observed.event(EventType::Warning, "FailedMount", text, None);
            }
        }
    }
}

/// How much an `emptyDir` holds: more than its limit ends the pod.
pub(crate) fn usage(spec: Option<&PodSpec>, name: &str, bytes: u64) -> Option<String> {
    let volume = spec?.volumes.iter().flatten().find(|v| v.name == name)?;
    let limit = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
    let over = empty_dir::bytes(limit).is_some_and(|l| bytes > l);
    over.then(|| format!("Usage of EmptyDir volume {name:?} exceeds the limit {:?}. ", limit.0))
}

/// Sets up what the pod's containers mount and keeps it as it should be; whether all of it is there, but for what only
/// ephemeral containers mount.
pub(crate) fn plan(source: &Source<'_>, observed: &mut Observed, out: &mut PodPlan) -> bool {
    let Some(spec) = &source.pod.spec else { return true };
    let needed = used(spec);
    let added = spec.ephemeral_containers.iter().flatten().flat_map(|c| c.volume_mounts.iter().flatten());
    let wanted: BTreeSet<&str> = needed.iter().copied().chain(added.map(|m| m.name.as_str())).collect();
    if wanted.is_empty() {
        return true;
    }
    let (now, mut all) = (source.now, true);
    let mut events = Vec::new();
    let Volumes { known, tokens } = &mut observed.volumes;
    for volume in spec.volumes.iter().flatten().filter(|v| wanted.contains(v.name.as_str())) {
        let state = known.entry(volume.name.clone()).or_default();
        let made = make(&mut Making { source, tokens, out }, volume);
        match made {
            Ok(content) => {
                let mut hasher = DefaultHasher::new();
                content.hash(&mut hasher);
                let hash = Some(hasher.finish());
                let wait = state.retry.filter(|r| state.asked.is_none() && state.refused == hash && now < *r);
                if let Some(retry) = wait {
                    wake(out, retry);
                } else if state.asked != hash {
                    state.asked = hash;
                    let (uid, name) = (observed.uid.clone(), volume.name.clone());
                    out.effects.push(Effect::MountVolume { uid, name, content });
                }
            }
            Err(Problem::Wait) => {}
            Err(Problem::Failed(why)) => {
                if state.fail(&why, now) {
                    events.push(why);
                }
                // What is mounted stays as it was.
                if let Some(retry) = state.retry.filter(|_| state.at.is_none()) {
                    wake(out, retry);
                }
            }
        }
        all &= state.at.is_some() || !needed.contains(volume.name.as_str());
    }
    for text in events {
        observed.event(EventType::Warning, "FailedMount", text, None);
    }
    all
}

fn make(making: &mut Making<'_>, volume: &Volume) -> Result<VolumeContent, Problem> {
    let made = TYPES.iter().find_map(|make| make(making, volume));
    match made {
        Some(Err(Problem::Failed(why))) => Err(Problem::Failed(set_up_failed(&volume.name, &why))),
        Some(other) => other,
        None => {
            let (name, kind) = (&volume.name, kind(volume));
            Err(Problem::Failed(format!(
                "Unable to attach or mount volumes: unmounted volumes=[{name}], unattached volumes=[], failed to process \
                 volumes=[{name}]: failed to get Plugin from volumeSpec for volume \"{name}\" err=no volume plugin matched: \
                 volumes of type {kind} are not supported on this node"
            )))
        }
    }
}

fn set_up_failed(name: &str, why: &str) -> String {
    format!("MountVolume.SetUp failed for volume \"{name}\" : {why}")
}

/// A volume's type is its only field besides the name.
fn kind(volume: &Volume) -> String {
    let value = serde_json::to_value(volume).unwrap_or_default();
    let kind = value.as_object().into_iter().flatten().map(|(k, _)| k.as_str()).find(|k| *k != "name");
    kind.unwrap_or("unknown").to_string()
}

/// The volumes that init and main containers mount: the others are left alone, as the kubelet does.
fn used(spec: &PodSpec) -> BTreeSet<&str> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.flat_map(|c: &Container| c.volume_mounts.iter().flatten()).map(|m| m.name.as_str()).collect()
}

fn wake(out: &mut PodPlan, at: Time) {
    out.wake_at = Some(out.wake_at.map_or(at, |w| w.min(at)));
}

#[cfg(test)]
mod tests;
