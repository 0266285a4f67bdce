//! Whether an ended container starts again, and when.

use std::time::Duration;

use copepod_machine::Backoff;
use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::observed::{Termination, Tracked};

/// A wasm container starts in milliseconds, so its crash back-off begins there.
const CRASH_BACKOFF: Backoff = Backoff { first: Duration::from_millis(10), max: Duration::from_secs(300) };

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// One of `containers`.
    Main,
    /// Runs to completion before those.
    Init,
    /// An init container with `restartPolicy: Always`: starts before them, runs beside them and ends after them.
    Sidecar,
    /// Added while the pod runs; never starts again.
    Ephemeral,
}

impl Role {
    /// The role of one of `initContainers`.
    pub fn of_init(container: &Container) -> Role {
        if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init }
    }
}

/// Whether the container starts again after it ended so, while the pod lives.
pub(crate) fn restarts(pod: &Pod, container: &Container, role: Role, tracked: &Tracked, end: &Termination) -> bool {
    if role == Role::Ephemeral {
        return false;
    }
    if tracked.replace || role == Role::Sidecar {
        return true;
    }
    if role == Role::Init && end.code == 0 {
        return false;
    }
    let matches = |r: &k8s_openapi::api::core::v1::ContainerRestartRule| {
        r.action == "Restart"
            && r.exit_codes.as_ref().is_some_and(|codes| {
                let listed = codes.values.iter().flatten().any(|v| *v == end.code);
                listed == (codes.operator == "In")
            })
    };
    if container.restart_policy_rules.iter().flatten().any(matches) {
        return true;
    }
    let of_pod = || pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref());
    match container.restart_policy.as_deref().or_else(of_pod) {
        Some("Never") => false,
        Some("OnFailure") => end.code != 0,
        _ => true,
    }
}

/// The delay before the next start, and when it is over.
pub(crate) fn back_off(tracked: &Tracked, end: &Termination) -> (Duration, Time) {
    let delay = CRASH_BACKOFF.delay(tracked.failures);
    (delay, end.finished + delay)
}
