//! A pod's status from what is observed.

use copepod_model::Time;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    HostIP, Pod, PodIP, PodStatus, ResourceRequirements,
};

use crate::conditions::conditions;
use crate::message;
use crate::node::NodeFacts;
use crate::observed::{Observed, PostStart, State, Termination, Tracked};
use crate::pull::{Image, PULL_ERROR_SHOWN, backs_off, far};
use crate::restart::{Role, back_off, restarts};
use crate::text::{go_duration, pod_name};
use crate::when::stamp;

/// The status that the pod should have. Fields and conditions that others write are kept as they are in `pod`.
pub(crate) fn status(
    pod: &Pod,
    ephemeral: &[Container],
    observed: &mut Observed,
    node: &NodeFacts,
    now: Time,
) -> PodStatus {
    let before = pod.status.clone().unwrap_or_default();
    let Some(spec) = &pod.spec else { return before };
    let deleting = pod.metadata.deletion_timestamp.is_some();
    let initialized = spec.init_containers.iter().flatten().all(|c| {
        observed.containers.get(&c.name).is_some_and(|t| match Role::of_init(c) {
            Role::Sidecar => t.started() || t.attempt > 0,
            _ => t.exited().is_some_and(|e| e.code == 0),
        })
    });
    let writer = Writer {
        pod,
        observed,
        now,
        ending: deleting || observed.deadline_exceeded || observed.evicted.is_some() || observed.verdict.is_some(),
    };
    let has_init = spec.init_containers.as_ref().is_some_and(|i| !i.is_empty());
    let waiting = if has_init && !initialized { "PodInitializing" } else { "ContainerCreating" };
    let mains: Vec<_> = spec.containers.iter().map(|c| writer.container(c, Role::Main, waiting)).collect();
    let inits = spec.init_containers.iter().flatten();
    let inits: Vec<_> = inits.map(|c| writer.container(c, Role::of_init(c), "PodInitializing")).collect();
    let ephemeral: Vec<_> = ephemeral.iter().map(|c| writer.container(c, Role::Ephemeral, waiting)).collect();
    let phase = phase(observed, &mains, &inits, deleting);
    let mut status = PodStatus {
        phase: Some(phase),
        reason: observed.verdict.as_ref().and_then(|v| v.reason.clone()),
        message: observed.verdict.as_ref().and_then(|v| v.message.clone()),
        host_ip: Some(node.host_ip.to_string()),
        host_ips: Some(node.host_ips().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: Some(observed.ip.to_string()),
        pod_ips: Some(node.pod_ips(observed.ip).iter().map(|ip| PodIP { ip: ip.to_string() }).collect()),
        start_time: observed.start_time.map(stamp),
        observed_generation: pod.metadata.generation,
        container_statuses: Some(mains),
        init_container_statuses: has_init.then_some(inits),
        ephemeral_container_statuses: Some(ephemeral).filter(|e| !e.is_empty()),
        ..before
    };
    if observed.refused {
        (status.pod_ip, status.pod_ips) = (None, None);
        (status.container_statuses, status.init_container_statuses) = (None, None);
        status.ephemeral_container_statuses = None;
    }
    status.conditions = Some(conditions(pod, observed, &status, initialized, now));
    status
}

fn phase(observed: &Observed, mains: &[ContainerStatus], inits: &[ContainerStatus], deleting: bool) -> String {
    if let Some(v) = &observed.verdict {
        return v.phase.clone();
    }
    let terminated = |c: &ContainerStatus| c.state.as_ref().and_then(|s| s.terminated.as_ref()).map(|t| t.exit_code);
    if deleting && !observed.alive() && mains.iter().chain(inits).any(|c| terminated(c).is_some()) {
        let ok = mains.iter().all(|c| terminated(c) == Some(0));
        return if ok { "Succeeded" } else { "Failed" }.into();
    }
    // A container that has never run keeps the pod pending.
    let never_ran = |c: &ContainerStatus| {
        let state = c.state.as_ref();
        state.is_some_and(|s| s.waiting.is_some()) && c.last_state.as_ref().is_none_or(|l| l.terminated.is_none())
    };
    if mains.iter().any(never_ran) { "Pending" } else { "Running" }.into()
}

/// Whether a status says no more than that its pod comes up: nothing of it has run, and nothing is known to go wrong.
pub fn comes_up(status: &PodStatus) -> bool {
    let statuses = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let mut waiting = statuses.map(|c| c.state.as_ref()?.waiting.as_ref()?.reason.as_deref());
    let is_usual = |reason: Option<&str>| matches!(reason, Some("ContainerCreating" | "PodInitializing"));
    status.phase.as_deref() == Some("Pending") && waiting.all(is_usual)
}

struct Writer<'a> {
    pod: &'a Pod,
    observed: &'a Observed,
    now: Time,
    /// The pod is on its way out: nothing restarts any more.
    ending: bool,
}

impl Writer<'_> {
    fn container(&self, c: &Container, role: Role, default_reason: &str) -> ContainerStatus {
        let image = c.image.clone().unwrap_or_default();
        let mut status = ContainerStatus {
            name: c.name.clone(),
            image: image.clone(),
            // Of an ephemeral container nothing is said that others wait for.
            started: (role != Role::Ephemeral).then_some(false),
            ..ContainerStatus::default()
        };
        let some = |r: &&ResourceRequirements| r.limits.is_some() || r.requests.is_some();
        status.resources = c.resources.as_ref().filter(some).cloned();
        status.allocated_resources = c.resources.as_ref().and_then(|r| r.requests.clone());
        let Some(t) = self.observed.containers.get(&c.name) else { return status };
        // While it does not have what it was given it says what it has.
        if t.alive() {
            status.resources = Some(&t.applied).filter(some).cloned();
        }
        // As the kubelet's, a container that has never run has none: a start that is under way is no news to write down.
        let has_run = t.last.is_some() || !matches!(t.state, State::Pending | State::Starting);
        if has_run && !t.digest.is_empty() {
            status.image_id = image_id(&image, &t.digest);
        }
        let shown = |attempt| Some(format!("wasm://{}", self.id(&c.name, attempt)));
        let last = t.last.as_ref().map(|l| terminated(l, shown(l.attempt), self.containers()));
        let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
        status.restart_count = count(t.attempt);
        status.last_state = Some(ContainerState { terminated: last, ..ContainerState::default() });
        let state = match &t.state {
            State::Pending => {
                if let Some(l) = &t.last {
                    // The attempt to come does not count before it is made.
                    status.restart_count = count(l.attempt);
                    status.container_id = shown(l.attempt);
                }
                waiting(self.hold(t, &image, default_reason))
            }
            State::Starting => waiting((default_reason.into(), None)),
            State::Hooking { .. } => waiting(match &t.post_start {
                PostStart::Failed(why) => ("PostStartHookError".into(), Some(why.clone())),
                _ => (default_reason.into(), None),
            }),
            State::Running { since } => {
                status.container_id = shown(t.attempt);
                status.started = status.started.map(|_| t.started());
                status.ready = matches!(role, Role::Main | Role::Sidecar) && t.ready();
                let running = ContainerStateRunning { started_at: Some(stamp(*since)) };
                ContainerState { running: Some(running), ..ContainerState::default() }
            }
            State::Exited(end) => {
                status.container_id = shown(end.attempt);
                let ended = terminated(end, shown(end.attempt), self.containers());
                if !self.ending && restarts(self.pod, c, role, t, end) {
                    status.last_state = Some(ContainerState { terminated: Some(ended), ..ContainerState::default() });
                    let (delay, _) = back_off(t, end);
                    let pod = pod_name(self.pod);
                    let text =
                        format!("back-off {} restarting failed container={} pod={pod}", go_duration(delay), c.name);
                    waiting(("CrashLoopBackOff".into(), Some(text)))
                } else {
                    status.ready = role == Role::Init && end.code == 0;
                    ContainerState { terminated: Some(ended), ..ContainerState::default() }
                }
            }
        };
        status.state = Some(state);
        status
    }

    /// How many share what a pod's messages may have.
    fn containers(&self) -> usize {
        let Some(spec) = &self.pod.spec else { return 0 };
        let (inits, added) = (spec.init_containers.as_ref(), spec.ephemeral_containers.as_ref());
        spec.containers.len() + inits.map_or(0, Vec::len) + added.map_or(0, Vec::len)
    }

    fn id(&self, container: &str, attempt: u32) -> String {
        format!("{}.{container}.{attempt}", self.observed.uid)
    }

    /// Why a container that is to start has not been started.
    fn hold(&self, t: &Tracked, image: &str, default_reason: &str) -> (String, Option<String>) {
        let failure = match &t.image {
            Image::Failed(f) | Image::Pulling { before: Some(f), .. } => Some(f),
            _ => None,
        };
        if let Some(f) = failure {
            let retrying = matches!(t.image, Image::Pulling { .. }) || self.now >= f.at + PULL_ERROR_SHOWN;
            if backs_off(f) && retrying {
                let text = format!("Back-off pulling image \"{image}\": {}: {}", f.reason, f.message);
                return ("ImagePullBackOff".into(), Some(text));
            }
            return (f.reason.clone(), Some(f.message.clone()));
        }
        if let Image::Pulling { progress: Some(progress), .. } = t.image {
            return (default_reason.into(), Some(format!("pulling: {}", far(progress))));
        }
        match &t.config_error {
            Some(e) => ("CreateContainerConfigError".into(), Some(e.clone())),
            None => (default_reason.into(), None),
        }
    }
}

fn waiting((reason, message): (String, Option<String>)) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting { reason: Some(reason), message }),
        ..ContainerState::default()
    }
}

fn terminated(t: &Termination, container_id: Option<String>, containers: usize) -> ContainerStateTerminated {
    ContainerStateTerminated {
        container_id,
        exit_code: t.code,
        reason: Some(t.reason.clone()).filter(|r| !r.is_empty()),
        message: Some(message::shown(&t.message, containers).to_owned()).filter(|m| !m.is_empty()),
        // An attempt that never ran has no start; Kubernetes shows the epoch for it.
        started_at: Some(stamp(t.started.unwrap_or(t.finished))),
        finished_at: Some(stamp(t.finished)),
        signal: None,
    }
}

/// `repository@digest`; a file has no repository and is known by its digest alone.
fn image_id(image: &str, digest: &str) -> String {
    if image.starts_with("file:") {
        return digest.into();
    }
    let name = image.split('@').next().unwrap_or(image);
    let path_at = name.rfind('/').map_or(0, |i| i + 1);
    let name = name[path_at..].find(':').map_or(name, |i| &name[..path_at + i]);
    format!("{name}@{digest}")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodStatus;
    use serde_json::json;

    use super::{comes_up, image_id};

    #[test]
    fn a_pod_only_comes_up_while_nothing_of_it_has_run_or_failed() {
        let says = |phase: &str, inits: serde_json::Value, main: serde_json::Value| {
            let status = |state: &serde_json::Value| json!({"name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0, "state": state});
            let inits: Vec<_> = inits.as_array().into_iter().flatten().map(status).collect();
            let status: PodStatus = serde_json::from_value(
                json!({"phase": phase, "initContainerStatuses": inits, "containerStatuses": [status(&main)]}),
            )
            .unwrap();
            comes_up(&status)
        };
        let waits = |reason: &str| json!({"waiting": {"reason": reason}});
        let runs = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        assert!(says("Pending", json!([]), waits("ContainerCreating")));
        assert!(says("Pending", json!([waits("PodInitializing")]), waits("PodInitializing")));
        assert!(!says("Pending", json!([runs]), waits("PodInitializing")));
        assert!(!says("Pending", json!([]), waits("ErrImagePull")));
        assert!(!says("Running", json!([]), runs));
        // One that the node has refused has no containers, and is over.
        assert!(!comes_up(&PodStatus { phase: Some("Failed".into()), ..PodStatus::default() }));
    }

    #[test]
    fn image_ids_drop_the_tag() {
        assert_eq!(image_id("r.io:5000/a/b:v1", "sha256:1"), "r.io:5000/a/b@sha256:1");
        assert_eq!(image_id("a@sha256:2", "sha256:1"), "a@sha256:1");
        assert_eq!(image_id("localhost:5000/a", "sha256:1"), "localhost:5000/a@sha256:1");
        assert_eq!(image_id("file:///x/y.wasm", "sha256:1"), "sha256:1");
    }
}
