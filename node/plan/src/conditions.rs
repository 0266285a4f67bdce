//! A pod's conditions: the agent's own, with their transition times, among those of others.

use copepod_model::Time;
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};

use crate::observed::Observed;
use crate::restart::Role;
use crate::when::stamp;

/// One condition's verdict.
struct Verdict {
    status: &'static str,
    reason: Option<&'static str>,
    message: Option<String>,
    /// Of the pod that it is about, if that is not the newest.
    generation: Option<i64>,
}

impl Verdict {
    const TRUE: Verdict = Verdict { status: "True", reason: None, message: None, generation: None };

    fn no(reason: &'static str, message: Option<String>) -> Verdict {
        Verdict { status: "False", reason: Some(reason), message, ..Verdict::TRUE }
    }
    fn yes_if(yes: bool) -> Verdict {
        if yes { Verdict::TRUE } else { Verdict { status: "False", ..Verdict::TRUE } }
    }
}

/// Conditions that are there while a resize is under way, and gone otherwise.
pub(crate) const RESIZE: [&str; 2] = ["PodResizePending", "PodResizeInProgress"];

/// How a resize stands.
fn resize(observed: &Observed) -> Vec<(&'static str, Verdict)> {
    let [pending, progress] = RESIZE;
    let allocation = &observed.allocation;
    let waits = allocation.pending.as_ref().map(|p| {
        let (reason, message) = (Some(p.reason), Some(p.message.clone()));
        (pending, Verdict { reason, message, generation: p.generation, ..Verdict::TRUE })
    });
    let follows = allocation.following.and_then(|generation| {
        let why = observed.follows()?;
        let verdict = Verdict { reason: why.map(|_| "Error"), message: why.map(str::to_string), ..Verdict::TRUE };
        Some((progress, Verdict { generation: Some(generation), ..verdict }))
    });
    waits.into_iter().chain(follows).collect()
}

/// The pod's conditions as they should be. `status` is complete but for them.
pub(crate) fn conditions(
    pod: &Pod,
    observed: &mut Observed,
    status: &PodStatus,
    initialized: bool,
    now: Time,
) -> Vec<PodCondition> {
    let given = pod.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let containers_ready = containers_ready(pod, status, initialized);
    let own = [
        ("PodReadyToStartContainers", Verdict::yes_if(observed.attached && !observed.removed)),
        ("Initialized", initialized_condition(pod, observed, status, initialized)),
        ("Ready", ready(pod, given, &containers_ready)),
        ("ContainersReady", containers_ready),
        ("PodScheduled", Verdict::TRUE),
    ];
    let disrupted = observed.evicted.clone().map(|message| {
        let reason = Some("TerminationByKubelet");
        ("DisruptionTarget", Verdict { reason, message: Some(message), ..Verdict::TRUE })
    });
    let resize = if observed.is_over() { Vec::new() } else { resize(observed) };
    for kind in RESIZE.iter().filter(|kind| !resize.iter().any(|(k, _)| k == *kind)) {
        observed.conditions.remove(*kind);
    }
    let mut list: Vec<PodCondition> = own
        .into_iter()
        .chain(disrupted)
        .chain(resize)
        .map(|(kind, v)| {
            let since = match observed.conditions.get(kind) {
                Some((before, since)) if before == v.status => *since,
                _ => now,
            };
            observed.conditions.insert(kind.into(), (v.status.into(), since));
            PodCondition {
                type_: kind.into(),
                status: v.status.into(),
                reason: v.reason.map(Into::into),
                message: v.message,
                last_transition_time: Some(stamp(since)),
                observed_generation: v.generation.or(pod.metadata.generation),
                ..PodCondition::default()
            }
        })
        .collect();
    let ours = |kind: &str| RESIZE.contains(&kind) || list.iter().any(|c| c.type_ == kind);
    let others: Vec<_> = given.iter().filter(|g| !ours(&g.type_)).cloned().collect();
    list.extend(others);
    list
}

fn initialized_condition(pod: &Pod, observed: &Observed, status: &PodStatus, initialized: bool) -> Verdict {
    if status.phase.as_deref() == Some("Succeeded") {
        return Verdict { reason: Some("PodCompleted"), ..Verdict::TRUE };
    }
    if initialized {
        return Verdict::TRUE;
    }
    let spec = pod.spec.as_ref();
    let incomplete = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten()).filter(|c| {
        observed.containers.get(&c.name).is_none_or(|t| match Role::of_init(c) {
            Role::Sidecar => !t.started(),
            _ => t.exited().is_none_or(|e| e.code != 0),
        })
    });
    let names: Vec<&str> = incomplete.map(|c| c.name.as_str()).collect();
    Verdict::no("ContainersNotInitialized", Some(format!("containers with incomplete status: [{}]", names.join(" "))))
}

fn containers_ready(pod: &Pod, status: &PodStatus, initialized: bool) -> Verdict {
    match status.phase.as_deref() {
        Some("Succeeded") => return Verdict::no("PodCompleted", None),
        Some("Failed") => return Verdict::no("PodFailed", None),
        _ => {}
    }
    let sidecar = |name: &str| {
        let inits = pod.spec.as_ref().and_then(|s| s.init_containers.as_deref()).unwrap_or_default();
        inits.iter().any(|c| c.name == name && Role::of_init(c) == Role::Sidecar)
    };
    let inits = status.init_container_statuses.iter().flatten().filter(|c| sidecar(&c.name));
    let unready = inits.chain(status.container_statuses.iter().flatten()).filter(|c| !c.ready);
    let names: Vec<&str> = unready.map(|c| c.name.as_str()).collect();
    if names.is_empty() && initialized {
        return Verdict::TRUE;
    }
    Verdict::no("ContainersNotReady", Some(format!("containers with unready status: [{}]", names.join(" "))))
}

fn ready(pod: &Pod, given: &[PodCondition], containers: &Verdict) -> Verdict {
    if containers.status != "True" {
        return Verdict::no(containers.reason.unwrap_or("ContainersNotReady"), containers.message.clone());
    }
    let gates = pod.spec.as_ref().and_then(|s| s.readiness_gates.as_deref()).unwrap_or_default();
    let unmet = gates.iter().filter_map(|g| {
        let kind = &g.condition_type;
        match given.iter().find(|c| &c.type_ == kind) {
            None => Some(format!("corresponding condition of pod readiness gate \"{kind}\" does not exist.")),
            Some(c) if c.status != "True" => {
                Some(format!("the status of pod readiness gate \"{kind}\" is not \"True\", but {}", c.status))
            }
            Some(_) => None,
        }
    });
    let unmet: Vec<String> = unmet.collect();
    if unmet.is_empty() { Verdict::TRUE } else { Verdict::no("ReadinessGatesNotReady", Some(unmet.join(", "))) }
}
