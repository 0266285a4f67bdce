//! One pod: everything that is about to happen to it, in one value.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::EventType;
use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};

use crate::effect::{ContainerId, Effect, ProbeKind};
use crate::env::{EnvError, Found, Source};
use crate::launch::{container_spec, identity};
use crate::node::NodeFacts;
use crate::observed::{Image, Observed, PodEvent, PullFailure, State, Stopping, Verdict};
use crate::probes::Probes;
use crate::refs::{Reference, Refs};
use crate::restart::{Role, back_off, restarts};
use crate::text::pod_name;
use crate::when::time;

/// An image that came this recently is not asked for again by a restart, even under `imagePullPolicy: Always`: a container
/// in a crash loop of milliseconds must not become a load on its registry.
const FRESH_IMAGE: Duration = Duration::from_secs(10);
/// How soon a configuration that could not be made is tried again.
const CONFIG_RETRY: Duration = Duration::from_secs(2);
/// How long after its deadline a stop is asked for once more, without grace.
const STOP_AGAIN: Duration = Duration::from_secs(5);
/// `ErrImagePull` is shown this long, then `ImagePullBackOff` until the next try.
pub(crate) const PULL_ERROR_SHOWN: Duration = Duration::from_secs(3);
/// `terminationGracePeriodSeconds` when a pod has none.
const DEFAULT_GRACE: u64 = 30;

/// What is about to happen to a pod.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodPlan {
    /// For the data plane, in order.
    pub effects: Vec<Effect>,
    /// What the pod's status should be.
    pub status: PodStatus,
    /// To record.
    pub events: Vec<PodEvent>,
    /// Objects that must be fetched before the plan can go on; plan again when they are.
    pub fetch: BTreeSet<Reference>,
    /// Whether nothing of the pod is left here, so that its object can be deleted with no grace.
    pub remove: bool,
    /// When to plan again if nothing happens before.
    pub wake_at: Option<Time>,
}

/// Decides about one pod. What is asked of the data plane is noted in `observed`, so the next plan does not ask again.
pub fn plan(pod: &Pod, observed: &mut Observed, refs: &dyn Refs, node: &NodeFacts, now: Time) -> PodPlan {
    let mut sync = Sync { pod, refs, node, now, out: PodPlan::default() };
    if pod.spec.is_some() && !observed.removed {
        sync.run(observed);
    }
    let mut out = sync.out;
    out.remove = observed.removed;
    out.events.append(&mut observed.events);
    out.status = crate::status::status(pod, observed, node, now);
    out
}

/// Ends a pod whose object is gone: no grace, nothing to report. Call again after each observation until it answers that
/// nothing is left.
pub fn vanish(observed: &mut Observed, now: Time) -> (Vec<Effect>, bool) {
    let mut effects = Vec::new();
    let uid = observed.uid.clone();
    for (name, t) in &mut observed.containers {
        if t.alive() && t.stop.as_ref().is_none_or(|s| s.deadline > now) {
            t.stop = Some(Stopping { deadline: now, replace: false });
            let id = ContainerId { pod_uid: uid.clone(), container: name.as_str().into(), attempt: t.attempt };
            effects.push(Effect::Stop { id, grace: Duration::ZERO });
        }
    }
    if !observed.alive() && !observed.removed {
        observed.removed = true;
        effects.push(Effect::RemovePod { uid });
    }
    (effects, observed.removed)
}

struct Sync<'a> {
    pod: &'a Pod,
    refs: &'a dyn Refs,
    node: &'a NodeFacts,
    now: Time,
    out: PodPlan,
}

impl Sync<'_> {
    fn run(&mut self, observed: &mut Observed) {
        let (pod, now) = (self.pod, self.now);
        let Some(spec) = &pod.spec else { return };
        let started = *observed.start_time.get_or_insert(now);
        if let Some(deletion) = &pod.metadata.deletion_timestamp {
            self.stop_all(observed, time(deletion).since(now));
            if !observed.alive() {
                observed.removed = true;
                self.out.effects.push(Effect::RemovePod { uid: observed.uid.clone() });
            }
            return;
        }
        if observed.verdict.is_none()
            && let Some(limit) = spec.active_deadline_seconds.and_then(|s| u64::try_from(s).ok())
        {
            let deadline = started + Duration::from_secs(limit);
            if now < deadline {
                self.wake(deadline);
            } else if !observed.deadline_exceeded {
                observed.deadline_exceeded = true;
                observed.event(EventType::Warning, "DeadlineExceeded", DEADLINE_TEXT.into(), None);
            }
        }
        if observed.deadline_exceeded || observed.verdict.is_some() {
            self.stop_all(observed, self.grace());
        } else {
            self.start_in_order(observed);
        }
        self.judge(observed);
        if observed.verdict.is_some() && observed.attached && !observed.alive() {
            observed.attached = false;
            self.out.effects.push(Effect::DetachPod { uid: observed.uid.clone() });
        }
    }

    /// Init containers one after the other, then all others.
    fn start_in_order(&mut self, observed: &mut Observed) {
        let Some(spec) = &self.pod.spec else { return };
        if !observed.attached {
            observed.attached = true;
            self.out.effects.push(Effect::AttachPod(identity(self.pod, observed.ip, self.node)));
        }
        let mut proceed = true;
        for c in spec.init_containers.iter().flatten() {
            let role = Role::of_init(c);
            if !proceed && role == Role::Init {
                break;
            }
            let Some(t) = observed.containers.get(&c.name) else { continue };
            if role == Role::Init && t.exited().is_some_and(|t| t.code == 0) {
                continue;
            }
            if !proceed && t.state == State::Pending {
                break;
            }
            let mains_over = spec.containers.iter().all(|m| final_end(self.pod, observed, m, Role::Main));
            if role == Role::Sidecar && mains_over {
                self.stop(observed, &c.name, self.grace(), false);
                continue;
            }
            self.keep(observed, c, role);
            proceed &= role == Role::Sidecar && observed.containers.get(&c.name).is_some_and(|t| t.started());
        }
        // Once the pod is initialized, a sidecar's restart does not hold the others back.
        let under_way = spec.containers.iter().any(|c| observed.containers.get(&c.name).is_some_and(|t| t.alive()));
        if proceed || under_way {
            for c in &spec.containers {
                self.keep(observed, c, Role::Main);
            }
        }
    }

    /// Does for one container what its state asks for.
    fn keep(&mut self, observed: &mut Observed, container: &Container, role: Role) {
        let (pod, now) = (self.pod, self.now);
        let Some(t) = observed.containers.get_mut(&container.name) else { return };
        match &t.state {
            State::Pending => self.start(observed, container),
            State::Starting => self.check_stop(observed, &container.name),
            State::Running { .. } => {
                if t.stop.is_some() {
                    return self.check_stop(observed, &container.name);
                }
                if t.image_ref != container.image.as_deref().unwrap_or_default() {
                    let text = format!("Container {} definition changed, will be restarted", container.name);
                    let path = t.field_path.clone();
                    observed.event(EventType::Normal, "Killing", text, Some(path));
                    return self.stop(observed, &container.name, self.grace(), true);
                }
                if let Some((kind, run)) = t.probes.fatal() {
                    let grace = run.grace.unwrap_or_else(|| self.grace());
                    let name = if kind == ProbeKind::Startup { "startup" } else { "liveness" };
                    let assumed = crate::observed::Termination {
                        attempt: t.attempt,
                        code: 137,
                        reason: String::new(),
                        message: String::new(),
                        started: None,
                        finished: now,
                    };
                    let again = if restarts(pod, container, role, t, &assumed) { ", will be restarted" } else { "" };
                    let text = format!("Container {} failed {name} probe{again}", container.name);
                    let path = t.field_path.clone();
                    observed.event(EventType::Normal, "Killing", text, Some(path));
                    return self.stop(observed, &container.name, grace, false);
                }
                let (due, wake) = t.probes.due(now);
                let id = ContainerId {
                    pod_uid: observed.uid.clone(),
                    container: container.name.as_str().into(),
                    attempt: t.attempt,
                };
                let probe = |(kind, how, timeout)| Effect::Probe { id: id.clone(), kind, how, timeout };
                self.out.effects.extend(due.into_iter().map(probe));
                wake.into_iter().for_each(|w| self.wake(w));
            }
            State::Exited(end) => {
                if !restarts(pod, container, role, t, end) {
                    return;
                }
                let (_, until) = back_off(t, end);
                if now < until {
                    self.wake(until);
                    if t.announced != Some(end.attempt) {
                        t.announced = Some(end.attempt);
                        let path = t.field_path.clone();
                        let text =
                            format!("Back-off restarting failed container {} in pod {}", container.name, pod_name(pod));
                        observed.event(EventType::Warning, "BackOff", text, Some(path));
                    }
                    return;
                }
                let end = end.clone();
                t.attempt = end.attempt.saturating_add(1);
                t.last = Some(end);
                t.state = State::Pending;
                t.replace = false;
                let always = container.image_pull_policy.as_deref() == Some("Always");
                match &t.image {
                    Image::Ready { at, .. } if !always || now.since(*at) < FRESH_IMAGE => {}
                    Image::Ready { .. } => t.image = Image::Absent,
                    _ => {}
                }
                self.start(observed, container);
            }
        }
    }

    /// Takes a container that has no attempt at large as far towards one as it goes.
    fn start(&mut self, observed: &mut Observed, container: &Container) {
        let now = self.now;
        let Some(digest) = self.image(observed, container) else { return };
        let Some(t) = observed.containers.get_mut(&container.name) else { return };
        let source = Source { pod: self.pod, ip: observed.ip, node: self.node, refs: self.refs, now };
        let mut found = Found::default();
        let spec = container_spec(&source, container, &digest, &mut found);
        let spec = spec.and_then(|s| match Probes::of(self.pod, container, observed.ip) {
            Ok(probes) => Ok((s, probes)),
            Err(e) => Err(EnvError::Config(e)),
        });
        self.out.fetch.append(&mut found.fetch);
        let (spec, probes) = match spec {
            Ok(both) => both,
            Err(EnvError::Unknown) => return,
            Err(EnvError::Config(message)) => {
                self.wake(now + CONFIG_RETRY);
                if t.config_error.as_ref() != Some(&message) {
                    t.config_error = Some(message.clone());
                    let path = t.field_path.clone();
                    observed.event(EventType::Warning, "Failed", format!("Error: {message}"), Some(path));
                }
                return;
            }
        };
        t.config_error = None;
        t.probes = probes;
        t.state = State::Starting;
        t.digest = digest;
        let path = t.field_path.clone();
        let id = ContainerId {
            pod_uid: observed.uid.clone(),
            container: container.name.as_str().into(),
            attempt: t.attempt,
        };
        for text in found.skipped {
            observed.event(EventType::Warning, "InvalidEnvironmentVariableNames", text, Some(path.clone()));
        }
        let name = |s: &Option<String>| -> Arc<str> { s.as_deref().unwrap_or_default().into() };
        let pod = (name(&self.pod.metadata.namespace), name(&self.pod.metadata.name));
        self.out.effects.push(Effect::Start { id, pod, spec: Box::new(spec) });
    }

    /// The digest of the container's image, which is asked for if need be.
    fn image(&mut self, observed: &mut Observed, container: &Container) -> Option<String> {
        let now = self.now;
        let t = observed.containers.get_mut(&container.name)?;
        let wanted = container.image.as_deref().unwrap_or_default();
        if t.image_ref != wanted {
            t.image_ref = wanted.into();
            t.image = Image::Absent;
        }
        let before = match &t.image {
            Image::Ready { digest, .. } => return Some(digest.clone()),
            Image::Pulling(_) => return None,
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
        t.image = Image::Pulling(before);
        let (always, never) = match container.image_pull_policy.as_deref() {
            Some("Always") => (true, false),
            Some("Never") => (false, true),
            _ => (false, false),
        };
        if always {
            let path = t.field_path.clone();
            observed.event(EventType::Normal, "Pulling", format!("Pulling image \"{wanted}\""), Some(path));
        }
        self.out.effects.push(Effect::PullImage { image: wanted.into(), always, never });
        None
    }

    fn stop_all(&mut self, observed: &mut Observed, grace: Duration) {
        let names: Vec<String> =
            observed.containers.iter().filter(|(_, t)| t.alive()).map(|(n, _)| n.clone()).collect();
        for name in names {
            let Some(t) = observed.containers.get(&name) else { continue };
            if t.stop.is_none() {
                let path = t.field_path.clone();
                observed.event(EventType::Normal, "Killing", format!("Stopping container {name}"), Some(path));
            }
            self.stop(observed, &name, grace, false);
        }
    }

    /// Asks for a stop, unless one that is as urgent was asked for.
    fn stop(&mut self, observed: &mut Observed, name: &str, grace: Duration, replace: bool) {
        let deadline = self.now + grace;
        let uid = observed.uid.clone();
        let Some(t) = observed.containers.get_mut(name).filter(|t| t.alive()) else { return };
        if t.stop.as_ref().is_some_and(|s| s.deadline <= deadline) {
            return self.check_stop(observed, name);
        }
        t.stop = Some(Stopping { deadline, replace });
        let id = ContainerId { pod_uid: uid, container: name.into(), attempt: t.attempt };
        self.out.effects.push(Effect::Stop { id, grace });
        self.wake(deadline + STOP_AGAIN);
    }

    /// Repeats a stop that nobody has answered in time.
    fn check_stop(&mut self, observed: &mut Observed, name: &str) {
        let (now, uid) = (self.now, observed.uid.clone());
        let Some(t) = observed.containers.get_mut(name) else { return };
        let Some(stop) = &mut t.stop else { return };
        if now >= stop.deadline + STOP_AGAIN {
            stop.deadline = now;
            let id = ContainerId { pod_uid: uid, container: name.into(), attempt: t.attempt };
            self.out.effects.push(Effect::Stop { id, grace: Duration::ZERO });
        }
        let again = stop.deadline + STOP_AGAIN;
        self.wake(again);
    }

    /// Decides the final phase, once nothing runs and nothing will.
    fn judge(&mut self, observed: &mut Observed) {
        let Some(spec) = &self.pod.spec else { return };
        if observed.verdict.is_some() || observed.alive() {
            return;
        }
        if observed.deadline_exceeded {
            observed.verdict = Some(Verdict {
                phase: "Failed".into(),
                reason: Some("DeadlineExceeded".into()),
                message: Some(DEADLINE_TEXT.into()),
            });
            return;
        }
        let init_failed = spec.init_containers.iter().flatten().any(|c| {
            let role = Role::of_init(c);
            let failed = observed.containers.get(&c.name).and_then(|t| t.exited()).is_some_and(|t| t.code != 0);
            role == Role::Init && failed && final_end(self.pod, observed, c, role)
        });
        let all_over = spec.containers.iter().all(|c| final_end(self.pod, observed, c, Role::Main));
        if init_failed || all_over {
            let code = |c: &Container| observed.containers.get(&c.name).and_then(|t| t.exited()).map(|t| t.code);
            let ok = !init_failed && spec.containers.iter().all(|c| code(c) == Some(0));
            let phase = if ok { "Succeeded" } else { "Failed" };
            observed.verdict = Some(Verdict { phase: phase.into(), reason: None, message: None });
        }
    }

    fn grace(&self) -> Duration {
        let declared = self.pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
        Duration::from_secs(declared.and_then(|s| u64::try_from(s).ok()).unwrap_or(DEFAULT_GRACE))
    }

    fn wake(&mut self, at: Time) {
        self.out.wake_at = Some(self.out.wake_at.map_or(at, |w| w.min(at)));
    }
}

const DEADLINE_TEXT: &str = "Pod was active on the node longer than the specified deadline";

/// Whether a failure alternates between the error and its back-off, as pulls do.
pub(crate) fn backs_off(failure: &PullFailure) -> bool {
    failure.reason == "ErrImagePull"
}

/// Whether a container has ended for good.
pub(crate) fn final_end(pod: &Pod, observed: &Observed, container: &Container, role: Role) -> bool {
    let Some(t) = observed.containers.get(&container.name) else { return false };
    t.exited().is_some_and(|end| !restarts(pod, container, role, t, end))
}

#[cfg(test)]
mod tests;
