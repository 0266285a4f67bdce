//! Stopping containers: the preStop hook, then its turn, then the end, all within one grace.
//!
//! When a whole pod goes, all preStop hooks run at once and main containers end; sidecars wait for whom they serve and end
//! one after the other, the last first (KEP-753). What the hook and the waiting took is missing from the grace, but for a
//! last moment that every container gets.

use std::time::Duration;

use copepod_machine::EventType;
use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::effect::{ContainerId, Effect, HookKind};
use crate::handler;
use crate::observed::{Observed, Stage, State, Stopping};
use crate::restart::Role;
use crate::sync::Sync;

/// How long after its deadline a stop is asked for once more, without grace.
const STOP_AGAIN: Duration = Duration::from_secs(5);
/// What is left of the grace at least, after a hook or a wait.
const LAST_MOMENT: Duration = Duration::from_secs(2);

/// A stop that is wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// How long it may take.
    pub grace: Duration,
    /// Whether the container comes back whatever its restart policy says.
    pub replace: bool,
    /// Whether the whole pod goes.
    pub ordered: bool,
}

/// All containers of a pod but ephemeral ones, with their roles, in the order in which they start.
pub(crate) fn containers(pod: &Pod) -> impl DoubleEndedIterator<Item = (&Container, Role)> {
    let inits = pod.spec.iter().flat_map(|s| s.init_containers.iter().flatten()).map(|c| (c, Role::of_init(c)));
    inits.chain(pod.spec.iter().flat_map(|s| &s.containers).map(|c| (c, Role::Main)))
}

impl Sync<'_> {
    /// Takes the whole pod down.
    pub(crate) fn wind_down(&mut self, observed: &mut Observed, grace: Duration) {
        let (pod, ephemeral) = (self.pod, self.ephemeral);
        for c in containers(pod).map(|(c, _)| c).chain(ephemeral) {
            let Some(t) = observed.containers.get(&c.name).filter(|t| t.alive()) else { continue };
            if t.stop.is_none() {
                let (path, text) = (t.field_path.clone(), format!("Stopping container {}", c.name));
                observed.event(EventType::Normal, "Killing", text, Some(path));
            }
            self.stop(observed, c, Wanted { grace, replace: false, ordered: true });
        }
        self.probe(observed);
    }

    /// Asks for a stop, or for a quicker one.
    pub(crate) fn stop(&mut self, observed: &mut Observed, container: &Container, wanted: Wanted) {
        let (now, ip, uid) = (self.now, observed.ip, observed.uid.clone());
        let deadline = now + wanted.grace;
        let Some(t) = observed.containers.get_mut(&container.name).filter(|t| t.alive()) else { return };
        let mut failed = None;
        match &mut t.stop {
            Some(stop) => {
                stop.ordered |= wanted.ordered;
                stop.replace &= !wanted.ordered;
                if deadline < stop.deadline {
                    stop.deadline = deadline;
                    if stop.stage == Stage::Asked {
                        let id =
                            ContainerId { pod_uid: uid, container: container.name.as_str().into(), attempt: t.attempt };
                        stop.until = deadline;
                        self.out.effects.push(Effect::Stop { id, grace: wanted.grace });
                    }
                }
            }
            None => {
                let runs = matches!(t.state, State::Hooking { .. } | State::Running { .. });
                let hook = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
                let stage = match hook.filter(|_| runs && !wanted.grace.is_zero()) {
                    None => Stage::Turn,
                    Some(hook) => match handler::hook(hook, container, ip) {
                        Ok(how) => {
                            let id = ContainerId {
                                pod_uid: uid,
                                container: container.name.as_str().into(),
                                attempt: t.attempt,
                            };
                            // The deadline is kept here; the hook's own is for the data plane's sake.
                            let timeout = wanted.grace + Duration::from_secs(1);
                            self.out.effects.push(Effect::Hook { id, kind: HookKind::PreStop, how, timeout });
                            Stage::PreStop
                        }
                        Err(_) => {
                            failed = Some(t.field_path.clone());
                            Stage::Turn
                        }
                    },
                };
                let Wanted { replace, ordered, .. } = wanted;
                t.stop = Some(Stopping { since: now, deadline, until: deadline, replace, ordered, stage });
            }
        }
        if failed.is_some() {
            observed.event(EventType::Warning, "FailedPreStopHook", "PreStopHook failed".into(), failed);
        }
        self.advance(observed, container);
    }

    /// Takes a stop as far as it goes, and repeats one that nobody has answered in time.
    pub(crate) fn advance(&mut self, observed: &mut Observed, container: &Container) {
        let (now, uid, name) = (self.now, observed.uid.clone(), &container.name);
        let waits = waits(self.pod, observed, name);
        let Some(t) = observed.containers.get_mut(name) else { return };
        let Some(stop) = &mut t.stop else { return };
        let id = ContainerId { pod_uid: uid, container: name.as_str().into(), attempt: t.attempt };
        let late = now >= stop.deadline;
        match stop.stage {
            Stage::PreStop if !late => {}
            Stage::Turn if !late && stop.ordered && waits => {}
            Stage::PreStop | Stage::Turn => {
                let mut grace = stop.deadline.since(now);
                if now > stop.since && stop.deadline > stop.since {
                    grace = grace.max(LAST_MOMENT);
                }
                stop.stage = Stage::Asked;
                stop.until = now + grace;
                self.out.effects.push(Effect::Stop { id, grace });
            }
            Stage::Asked if now >= stop.until + STOP_AGAIN => {
                stop.until = now;
                self.out.effects.push(Effect::Stop { id, grace: Duration::ZERO });
            }
            Stage::Asked => {}
        }
        let again = match stop.stage {
            Stage::Asked => stop.until + STOP_AGAIN,
            _ => stop.deadline,
        };
        self.wake(again);
    }
}

/// Whether a container must wait for others before it may end: sidecars do.
fn waits(pod: &Pod, observed: &Observed, name: &str) -> bool {
    let alive = |c: &Container| observed.containers.get(&c.name).is_some_and(|t| t.alive());
    let mut later = containers(pod).skip_while(|(c, _)| c.name != name);
    match later.next() {
        Some((_, Role::Sidecar)) => later.any(|(c, role)| role != Role::Init && alive(c)),
        _ => false,
    }
}

/// Ends a pod whose object is gone: no grace, no hooks, nothing to report. Call again after each observation until it
/// answers that nothing is left.
pub fn vanish(observed: &mut Observed, now: Time) -> (Vec<Effect>, bool) {
    let mut effects = Vec::new();
    let uid = observed.uid.clone();
    for (name, t) in &mut observed.containers {
        let asked = |s: &Stopping| s.stage == Stage::Asked && s.until <= now;
        if t.alive() && !t.stop.as_ref().is_some_and(asked) {
            let (replace, ordered, stage) = (false, false, Stage::Asked);
            t.stop = Some(Stopping { since: now, deadline: now, until: now, replace, ordered, stage });
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
