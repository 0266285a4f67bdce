//! In-place resizes (KEP-1287): what of the resources that a pod wants the node gives it (the kubelet's
//! `pkg/kubelet/allocation`), and whether its running containers have them yet.

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_machine::EventType;
use copepod_model::Time;
use copepod_model::pod_resources::requests;
use copepod_model::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use serde_json::{Value, json};

use crate::admission::{Claim, lacking};
use crate::node::NodeFacts;
use crate::observed::{Observed, State};
use crate::restart::Role;

/// How soon a limit that a container could not be given is tried again.
pub(crate) const AGAIN: Duration = Duration::from_secs(10);
/// The resources that change while a pod runs.
const RESIZED: [&str; 2] = ["cpu", "memory"];

/// What the node has given to a pod, and what it has not.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Allocation {
    /// By container; those that cannot be resized are left out.
    given: BTreeMap<String, ResourceRequirements>,
    pub pending: Option<Pending>,
    /// The generation of the pod that was given something, until its containers have it.
    pub following: Option<i64>,
}

/// Why a pod does not have what it wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pending {
    /// `Deferred` or `Infeasible`.
    pub reason: &'static str,
    /// In the kubelet's words.
    pub message: String,
    /// The generation that wants it.
    pub generation: Option<i64>,
}

/// A limit that a container could not be given.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failed {
    wanted: ResourceRequirements,
    /// Why not.
    pub why: String,
    at: Time,
}

impl Failed {
    pub fn new(wanted: ResourceRequirements, why: String, at: Time) -> Failed {
        Failed { wanted, why, at }
    }

    /// When it is worth trying again, if it is the same that is wanted.
    pub fn again(&self, wanted: &ResourceRequirements) -> Option<Time> {
        same(&self.wanted, wanted).then_some(self.at + AGAIN)
    }
}

impl Allocation {
    /// Of a pod that an agent has just met: what its status says that it has, else what it wants.
    pub fn adopt(pod: &Pod) -> Allocation {
        let status = pod.status.as_ref();
        let lists = status.into_iter().flat_map(|s| [&s.container_statuses, &s.init_container_statuses]);
        let statuses: Vec<&ContainerStatus> = lists.flatten().flatten().collect();
        let given = resizable(pod.spec.as_ref()).map(|c| {
            let has = statuses.iter().find(|s| s.name == c.name).and_then(|s| s.resources.clone());
            (c.name.clone(), has.or_else(|| c.resources.clone()).unwrap_or_default())
        });
        Allocation { given: given.collect(), ..Allocation::default() }
    }

    fn differs(&self, container: &Container) -> bool {
        let none = ResourceRequirements::default();
        self.given.get(&container.name).is_some_and(|g| !same(g, container.resources.as_ref().unwrap_or(&none)))
    }
}

/// Containers that can be resized.
fn resizable(spec: Option<&PodSpec>) -> impl Iterator<Item = &Container> {
    let sidecars = spec.into_iter().flat_map(|s| s.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|c| Role::of_init(c) == Role::Sidecar);
    spec.into_iter().flat_map(|s| &s.containers).chain(sidecars)
}

fn amount(resources: &ResourceRequirements, limits: bool, what: &str) -> Option<Quantity> {
    let list = if limits { &resources.limits } else { &resources.requests };
    list.as_ref()?.get(what)?.0.parse().ok()
}

/// Whether they say the same about what can change.
pub(crate) fn same(a: &ResourceRequirements, b: &ResourceRequirements) -> bool {
    a == b || RESIZED.iter().all(|what| [false, true].iter().all(|l| amount(a, *l, what) == amount(b, *l, what)))
}

/// Whether a container has to be restarted on the way from one to the other, by its `resizePolicy`.
pub(crate) fn restarts(container: &Container, from: &ResourceRequirements, to: &ResourceRequirements) -> bool {
    let changes = |what: &str| [false, true].iter().any(|l| amount(from, *l, what) != amount(to, *l, what));
    let policies = container.resize_policy.iter().flatten();
    policies.filter(|p| p.restart_policy == "RestartContainer").any(|p| changes(&p.resource_name))
}

/// What a pod takes of its node while it is not over.
pub fn claim(pod: &Pod) -> Claim {
    let all = requests(&serde_json::to_value(&pod.spec).unwrap_or_default());
    let of = |what: &str| all.get(what).copied().unwrap_or_default();
    Claim {
        cpu_millis: of("cpu").millis(),
        memory: of("memory").value(),
        storage: of("ephemeral-storage").value(),
        pods: 1,
    }
}

impl Observed {
    /// The pod with what it was given in place of what it wants, where that is something else.
    pub fn allocated(&self, pod: &Pod) -> Option<Pod> {
        if !resizable(pod.spec.as_ref()).any(|c| self.allocation.differs(c)) {
            return None;
        }
        let mut pod = pod.clone();
        let spec = pod.spec.as_mut()?;
        for c in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
            if self.allocation.differs(c) {
                c.resources = self.allocation.given.get(&c.name).cloned();
            }
        }
        Some(pod)
    }

    /// Whether it waits for others to leave room for what it wants.
    pub fn is_deferred(&self) -> bool {
        self.allocation.pending.as_ref().is_some_and(|p| p.reason == "Deferred")
    }

    /// Gives the pod the resources that it wants, if the node has them: then it claims this. `others` is what all other
    /// pods of the node claim.
    pub fn resize(&mut self, pod: &Pod, others: Claim, node: &NodeFacts) -> Option<Claim> {
        if self.is_over() || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        if !resizable(pod.spec.as_ref()).any(|c| self.allocation.differs(c)) {
            self.allocation.pending = None;
            return None;
        }
        let (claim, generation) = (claim(pod), pod.metadata.generation);
        let capacity =
            [("memory", claim.memory, node.allocatable_memory), ("cpu", claim.cpu_millis, node.allocatable_cpu_millis)];
        let never = capacity.iter().find(|(_, requested, capacity)| requested > capacity);
        let never = never.map(|(name, requested, capacity)| {
            let why = format!("Node didn't have enough capacity: {name}, requested: {requested}, capacity: {capacity}");
            ("Infeasible", why)
        });
        let Some((reason, message)) = never.or_else(|| Some(("Deferred", lacking(claim, others, node)?.1))) else {
            let given = resizable(pod.spec.as_ref()).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default()));
            let given = given.collect();
            self.allocation = Allocation { given, pending: None, following: generation };
            for t in self.containers.values_mut() {
                t.resize_failed = None;
            }
            self.event(EventType::Normal, "ResizeStarted", summary("Pod resize started", pod, None), None);
            return Some(claim);
        };
        let pending = Pending { reason, message, generation };
        if self.allocation.pending.as_ref() != Some(&pending) {
            let event = if reason == "Infeasible" { "ResizeInfeasible" } else { "ResizeDeferred" };
            let text = summary(&format!("Pod resize {reason}"), pod, Some(&pending.message));
            self.event(EventType::Warning, event, text, None);
            self.allocation.pending = Some(pending);
        }
        None
    }

    /// Whether a container that runs does not have what its pod was given, and why not, if it cannot be.
    pub(crate) fn follows(&self) -> Option<Option<&str>> {
        let behind = self.containers.iter().filter(|(name, t)| {
            let given = self.allocation.given.get(*name);
            t.alive() && given.is_some_and(|g| !same(g, &t.applied))
        });
        let mut behind = behind.map(|(_, t)| t.resize_failed.as_ref().map(|f| f.why.as_str())).peekable();
        behind.peek()?;
        Some(behind.flatten().next())
    }

    /// Says that all containers that run have what the pod was given, once they do.
    pub(crate) fn settle(&mut self, pod: &Pod) {
        if self.allocation.following.is_some() && self.follows().is_none() {
            self.allocation.following = None;
            self.event(EventType::Normal, "ResizeCompleted", summary("Pod resize completed", pod, None), None);
        }
    }

    /// A running container was given what was asked for last, or could not be.
    pub(crate) fn resized(&mut self, name: &str, result: &Result<(), String>, now: Time) {
        let Some(t) = self.containers.get_mut(name).filter(|t| matches!(t.state, State::Running { .. })) else {
            return;
        };
        let Some(wanted) = t.resizing.take() else { return };
        match result {
            Ok(()) => (t.applied, t.resize_failed) = (wanted, None),
            Err(why) => t.resize_failed = Some(Failed::new(wanted, why.clone(), now)),
        }
    }
}

/// The text of an event (the kubelet's `podResizeMessage`).
pub(crate) fn summary(what: &str, pod: &Pod, error: Option<&str>) -> String {
    let spec = serde_json::to_value(&pod.spec).unwrap_or_default();
    let mut said = serde_json::Map::new();
    for list in ["initContainers", "containers"] {
        let all = spec[list].as_array().into_iter().flatten();
        let all: Vec<Value> = all
            .filter(|c| list == "containers" || c["restartPolicy"] == "Always")
            .map(|c| json!({"name": c["name"], "resources": c.get("resources").unwrap_or(&json!({}))}))
            .collect();
        if !all.is_empty() {
            said.insert(list.into(), all.into());
        }
    }
    said.insert("generation".into(), pod.metadata.generation.unwrap_or_default().into());
    if let Some(error) = error {
        said.insert("error".into(), error.into());
    }
    format!("{what}: {}", Value::Object(said))
}
