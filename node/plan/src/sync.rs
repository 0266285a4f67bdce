//! One pod: everything that is about to happen to it, in one value.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::EventType;
use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};

use crate::effect::{ContainerId, Effect, HookHow, HookKind, ProbeKind};
use crate::env::{EnvError, Found, Source};
use crate::ephemeral;
use crate::handler;
use crate::launch::{container_spec, hard_limits, identity};
use crate::limits::cpu_request;
use crate::local_storage;
use crate::node::NodeFacts;
use crate::observed::{Observed, PodEvent, PostStart, State, Verdict};
use crate::probes::Probes;
use crate::pull::Image;
use crate::refs::{Reference, Refs};
use crate::resize;
use crate::restart::{Role, back_off, restarts};
use crate::stop::Wanted;
use crate::text::pod_name;
use crate::volumes::{self, TokenKey};
use crate::when::time;

/// An image that came this recently is not asked for again by a restart, even under `imagePullPolicy: Always`: a container
/// in a crash loop of milliseconds must not become a load on its registry.
const FRESH_IMAGE: Duration = Duration::from_secs(10);
/// How soon a configuration that could not be made is tried again.
const CONFIG_RETRY: Duration = Duration::from_secs(2);
/// How long a postStart hook may take. Kubernetes waits for ever; a request that is not answered by then has failed.
const POST_START_LIMIT: Duration = Duration::from_secs(600);
/// `terminationGracePeriodSeconds` when a pod has none.
const DEFAULT_GRACE: u64 = 30;
/// What an evicted pod has to end.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

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
    /// Objects that its volumes show: plan again whenever one of them has changed.
    pub follow: BTreeSet<Reference>,
    /// Tokens of its service account that it needs: [`Observed::token`] takes the answers.
    pub tokens: Vec<TokenKey>,
    /// Whether nothing of the pod is left here, so that its object can be deleted with no grace.
    pub remove: bool,
    /// When to plan again if nothing happens before.
    pub wake_at: Option<Time>,
    /// When the next probe is due: [`Observed::probe`] will do then.
    pub probe_at: Option<Time>,
}

/// Decides about one pod. What is asked of the data plane is noted in `observed`, so the next plan does not ask again.
pub fn plan(pod: &Pod, observed: &mut Observed, refs: &dyn Refs, node: &NodeFacts, now: Time) -> PodPlan {
    let ephemeral = ephemeral::containers(pod);
    observed.meet(&ephemeral);
    // What it wants and was not given is no business of its containers.
    let allocated = observed.allocated(pod);
    let pod = allocated.as_ref().unwrap_or(pod);
    let mut sync = Sync { pod, ephemeral: &ephemeral, refs, node, now, out: PodPlan::default() };
    if pod.spec.is_some() && !observed.removed {
        sync.run(observed);
    }
    let mut out = sync.out;
    out.remove = observed.removed;
    observed.settle(pod);
    out.events.append(&mut observed.events);
    out.status = crate::status::status(pod, &ephemeral, observed, node, now);
    out
}

pub(crate) struct Sync<'a> {
    pub pod: &'a Pod,
    /// Its ephemeral containers.
    pub ephemeral: &'a [Container],
    pub refs: &'a dyn Refs,
    node: &'a NodeFacts,
    pub now: Time,
    pub out: PodPlan,
}

impl Sync<'_> {
    fn run(&mut self, observed: &mut Observed) {
        let (pod, now) = (self.pod, self.now);
        let Some(spec) = &pod.spec else { return };
        let started = *observed.start_time.get_or_insert(now);
        if let Some(deletion) = &pod.metadata.deletion_timestamp {
            self.wind_down(observed, time(deletion).since(now));
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
        let over = observed.usage.iter().find_map(|(v, bytes)| volumes::usage(pod.spec.as_ref(), v, *bytes));
        let over = over.or_else(|| local_storage::exceeded(pod, observed.storage.as_ref()?));
        if let Some(message) = over {
            observed.evict(message);
        }
        if observed.evicted.is_some() {
            self.wind_down(observed, EVICTION_GRACE);
        } else if observed.deadline_exceeded || observed.verdict.is_some() {
            self.wind_down(observed, self.grace());
        } else {
            self.start_in_order(observed);
        }
        self.judge(observed);
        if observed.verdict.is_some() && observed.attached && !observed.alive() {
            observed.attached = false;
            self.out.effects.push(Effect::DetachPod { uid: observed.uid.clone() });
        }
    }

    /// Init containers one after the other, then all others; and all down once nothing is left to be done.
    fn start_in_order(&mut self, observed: &mut Observed) {
        let Some(spec) = &self.pod.spec else { return };
        if !observed.attached {
            observed.attached = true;
            self.out.effects.push(Effect::AttachPod(identity(self.pod, observed.ip, self.node)));
        }
        if init_failed(self.pod, observed) || mains_over(self.pod, observed) {
            // Nothing but sidecars can run any more.
            return self.wind_down(observed, self.grace());
        }
        let source = Source { pod: self.pod, ip: observed.ip, node: self.node, refs: self.refs, now: self.now };
        if !volumes::plan(&source, observed, &mut self.out) {
            return;
        }
        // Before all others, so that what keeps those from starting can be looked at.
        for c in self.ephemeral {
            if observed.volumes.has_all(c) {
                self.keep(observed, c, Role::Ephemeral);
            }
        }
        let mut proceed = true;
        for c in spec.init_containers.iter().flatten() {
            let role = Role::of_init(c);
            let Some(t) = observed.containers.get(&c.name) else { continue };
            if role == Role::Init && t.exited().is_some_and(|t| t.code == 0) {
                continue;
            }
            if !proceed && (role == Role::Init || t.state == State::Pending) {
                break;
            }
            self.keep(observed, c, role);
            // Once the pod is initialized, a sidecar's restart does not hold the others back.
            let started = observed.containers.get(&c.name).is_some_and(|t| t.started());
            proceed &= role == Role::Sidecar && (started || observed.initialized);
        }
        observed.initialized |= proceed;
        if observed.initialized {
            for c in &spec.containers {
                self.keep(observed, c, Role::Main);
            }
        }
        self.probe(observed);
    }

    /// Takes along the probes that are due.
    pub(crate) fn probe(&mut self, observed: &mut Observed) {
        let (mut due, next) = observed.probe(self.now);
        self.out.effects.append(&mut due);
        self.out.probe_at = next;
    }

    /// Ends an attempt whose postStart hook has failed, or runs the hook.
    fn post_start(&mut self, observed: &mut Observed, container: &Container) {
        let uid = observed.uid.clone();
        let Some(t) = observed.containers.get_mut(&container.name) else { return };
        match std::mem::replace(&mut t.post_start, PostStart::Running) {
            PostStart::Due(how) => {
                let id = ContainerId { pod_uid: uid, container: container.name.as_str().into(), attempt: t.attempt };
                let timeout = match &how {
                    HookHow::Sleep(d) => *d + POST_START_LIMIT,
                    HookHow::Act(_) => POST_START_LIMIT,
                };
                self.out.effects.push(Effect::Hook { id, kind: HookKind::PostStart, how, timeout });
            }
            PostStart::Failed(why) => {
                t.post_start = PostStart::Failed(why);
                let path = t.field_path.clone();
                // What went wrong may be confidential, so the event does not tell.
                let text = "PostStartHook failed".to_string();
                observed.event(EventType::Warning, "FailedPostStartHook", text, Some(path.clone()));
                observed.event(EventType::Normal, "Killing", "FailedPostStartHook".into(), Some(path));
                self.stop(observed, container, Wanted { grace: self.grace(), replace: false, ordered: false });
            }
            before => t.post_start = before,
        }
    }

    /// Does for one container what its state asks for.
    fn keep(&mut self, observed: &mut Observed, container: &Container, role: Role) {
        let (pod, now) = (self.pod, self.now);
        let Some(t) = observed.containers.get_mut(&container.name) else { return };
        match &t.state {
            State::Pending => self.start(observed, container),
            State::Starting => self.advance(observed, container),
            State::Hooking { .. } if t.stop.is_some() => self.advance(observed, container),
            State::Hooking { .. } => self.post_start(observed, container),
            State::Running { .. } => {
                t.was_ready |= t.ready();
                if t.stop.is_some() {
                    return self.advance(observed, container);
                }
                if t.image_ref != container.image.as_deref().unwrap_or_default() {
                    let text = format!("Container {} definition changed, will be restarted", container.name);
                    let path = t.field_path.clone();
                    observed.event(EventType::Normal, "Killing", text, Some(path));
                    return self.stop(
                        observed,
                        container,
                        Wanted { grace: self.grace(), replace: true, ordered: false },
                    );
                }
                if role != Role::Ephemeral && self.resize(observed, container) {
                    return;
                }
                let Some(t) = observed.containers.get_mut(&container.name) else { return };
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
                    self.stop(observed, container, Wanted { grace, replace: false, ordered: false });
                }
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

    /// Gives a running container the resources that its pod was given; whether it has to be restarted for that.
    fn resize(&mut self, observed: &mut Observed, container: &Container) -> bool {
        let uid = observed.uid.clone();
        let Some(t) = observed.containers.get_mut(&container.name) else { return false };
        let wanted = container.resources.clone().unwrap_or_default();
        if resize::same(&t.applied, &wanted) {
            t.resize_failed = None;
            return false;
        }
        if resize::restarts(container, &t.applied, &wanted) {
            let path = t.field_path.clone();
            let text = format!("Container {} resize requires restart", container.name);
            observed.event(EventType::Normal, "Killing", text, Some(path));
            self.stop(observed, container, Wanted { grace: self.grace(), replace: true, ordered: false });
            return true;
        }
        // One at a time; what is wanted by then is asked for when it has come back.
        if t.resizing.is_some() {
            return false;
        }
        if let Some(again) = t.resize_failed.as_ref().and_then(|f| f.again(&wanted))
            && self.now < again
        {
            self.wake(again);
            return false;
        }
        t.resizing = Some(wanted);
        let id = ContainerId { pod_uid: uid, container: container.name.as_str().into(), attempt: t.attempt };
        let (memory_limit, cpu_limit_millis) = hard_limits(container);
        let cpu_request_millis = cpu_request(container);
        self.out.effects.push(Effect::Resize { id, memory_limit, cpu_limit_millis, cpu_request_millis });
        false
    }

    /// Takes a container that has no attempt at large as far towards one as it goes.
    fn start(&mut self, observed: &mut Observed, container: &Container) {
        let now = self.now;
        let Some(digest) = self.image(observed, container) else { return };
        // As the kubelet starts them one after the other, a postStart hook holds back those that start after it.
        if observed.containers.values().any(|t| matches!(t.post_start, PostStart::Due(_) | PostStart::Running)) {
            return;
        }
        let Some(t) = observed.containers.get_mut(&container.name) else { return };
        let source = Source { pod: self.pod, ip: observed.ip, node: self.node, refs: self.refs, now };
        let mut found = Found::default();
        let spec = container_spec(&source, container, &digest, &observed.volumes, &mut found);
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
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        t.post_start = match hook.map(|h| handler::hook(h, container, observed.ip)) {
            None => PostStart::Done,
            Some(Ok(how)) => PostStart::Due(how),
            Some(Err(why)) => PostStart::Failed(why),
        };
        t.state = State::Starting;
        t.digest = digest;
        t.applied = container.resources.clone().unwrap_or_default();
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

    /// Decides the final phase, once nothing runs and nothing will.
    fn judge(&mut self, observed: &mut Observed) {
        let Some(spec) = &self.pod.spec else { return };
        if observed.verdict.is_some() || observed.alive() {
            return;
        }
        if let Some(message) = &observed.evicted {
            let message = Some(message.clone());
            observed.verdict = Some(Verdict { phase: "Failed".into(), reason: Some("Evicted".into()), message });
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
        let init_failed = init_failed(self.pod, observed);
        if init_failed || mains_over(self.pod, observed) {
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

    pub(crate) fn wake(&mut self, at: Time) {
        self.out.wake_at = Some(self.out.wake_at.map_or(at, |w| w.min(at)));
    }
}

const DEADLINE_TEXT: &str = "Pod was active on the node longer than the specified deadline";

/// Whether an init container has failed for good.
fn init_failed(pod: &Pod, observed: &Observed) -> bool {
    pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).any(|c| {
        let role = Role::of_init(c);
        let failed = observed.containers.get(&c.name).and_then(|t| t.exited()).is_some_and(|t| t.code != 0);
        role == Role::Init && failed && final_end(pod, observed, c, role)
    })
}

/// Whether all main containers have ended for good.
fn mains_over(pod: &Pod, observed: &Observed) -> bool {
    pod.spec.iter().flat_map(|s| &s.containers).all(|c| final_end(pod, observed, c, Role::Main))
}

/// Whether a container has ended for good.
pub(crate) fn final_end(pod: &Pod, observed: &Observed, container: &Container, role: Role) -> bool {
    let Some(t) = observed.containers.get(&container.name) else { return false };
    t.exited().is_some_and(|end| !restarts(pod, container, role, t, end))
}

#[cfg(test)]
mod tests;
