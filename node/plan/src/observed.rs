//! What the data plane has told about a pod so far, and what it has been asked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use copepod_machine::EventType;
use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, ResourceRequirements};

use crate::effect::{ContainerId, Effect, HookHow, HookKind, Observation, ProbeKind};
use crate::local_storage::StorageUse;
use crate::probes::{Answer, Probes};
use crate::pull::Image;
use crate::resize::{Allocation, Failed};
use crate::volumes::{self, Token, TokenKey, Volumes};
use crate::when::time;

/// A container that ran this long has recovered: its crashes are counted anew.
const RECOVERED: Duration = Duration::from_secs(600);
/// A container that was ready, and ran this long before its probe failed, is no crash: its restart does not lengthen the row.
/// What comes for it meanwhile is held for a second only, and this bounds how often such a container restarts.
const SERVED: Duration = Duration::from_secs(1);

/// The list of those that are added to a pod while it runs.
const EPHEMERAL: &str = "ephemeralContainers";

/// An Event to record about the pod.
#[derive(Clone, Debug, PartialEq)]
pub struct PodEvent {
    /// Normal or Warning.
    pub kind: EventType,
    /// CamelCase reason.
    pub reason: &'static str,
    /// Text for people, in the kubelet's words.
    pub message: String,
    /// `spec.containers{name}`, for events about a container.
    pub field_path: Option<String>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Termination {
    /// Which attempt.
    pub attempt: u32,
    /// Exit code.
    pub code: i32,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: String,
    /// For people.
    pub message: String,
    /// When it began to run, if it did.
    pub started: Option<Time>,
    /// When it ended.
    pub finished: Time,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum State {
    /// Its attempt has not been started.
    Pending,
    /// Asked to start.
    Starting,
    /// Runs, but its postStart hook has not come back.
    Hooking {
        /// Since when it runs.
        since: Time,
    },
    /// Runs.
    Running {
        /// Since when.
        since: Time,
    },
    /// Has ended.
    Exited(Termination),
}

/// A stop that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stopping {
    /// When it was wanted first.
    pub since: Time,
    /// When it should be over.
    pub deadline: Time,
    /// When what was asked of the data plane should be over: not before, but for the last moment perhaps later.
    pub until: Time,
    /// Whether the container comes back whatever its restart policy says (its definition changed).
    pub replace: bool,
    /// Whether the whole pod goes, so that a sidecar waits for those that it serves.
    pub ordered: bool,
    /// How far it is.
    pub stage: Stage,
}

/// How far a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The preStop hook is under way.
    PreStop,
    /// It waits for its turn.
    Turn,
    /// The data plane was asked.
    Asked,
}

/// Where a container's postStart hook stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum PostStart {
    /// There is none, or it has done its work.
    Done,
    /// To be run once the container runs.
    Due(HookHow),
    /// Under way.
    Running,
    /// It went wrong: the container must be killed.
    Failed(String),
}

/// One container of the pod.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tracked {
    /// `containers`, `initContainers` or `ephemeralContainers`, and the name: for events.
    pub field_path: String,
    /// The attempt that `state` is about.
    pub attempt: u32,
    pub state: State,
    /// How the attempt before ended.
    pub last: Option<Termination>,
    /// Ends in a row without a long run between them, but for those by a probe of what had served.
    pub failures: u32,
    /// Whether its current attempt has been ready.
    pub was_ready: bool,
    pub image: Image,
    /// Reference that `image` is about, empty before the first pull.
    pub image_ref: String,
    /// The pull that was asked for.
    pub pull: u64,
    /// Digest that the current attempt was started from.
    pub digest: String,
    /// Why its configuration cannot be made.
    pub config_error: Option<String>,
    pub probes: Probes,
    /// How many of its probes have succeeded and failed, of all attempts.
    pub probed: BTreeMap<ProbeKind, (u64, u64)>,
    pub post_start: PostStart,
    pub stop: Option<Stopping>,
    /// The attempt whose back-off was announced by an event.
    pub announced: Option<u32>,
    /// The pull failure whose back-off was announced by an event.
    pub announced_pull_at: Option<Time>,
    /// Its attempt was replaced because its definition changed: it restarts at once.
    pub replace: bool,
    /// The resources that its current attempt has.
    pub applied: ResourceRequirements,
    /// Others that it was asked to have.
    pub resizing: Option<ResourceRequirements>,
    /// Those that it could not be given.
    pub resize_failed: Option<Failed>,
}

impl Tracked {
    fn new(list: &str, name: &str) -> Tracked {
        Tracked {
            field_path: format!("spec.{list}{{{name}}}"),
            attempt: 0,
            state: State::Pending,
            last: None,
            failures: 0,
            was_ready: false,
            image: Image::Absent,
            image_ref: String::new(),
            pull: 0,
            digest: String::new(),
            config_error: None,
            probes: Probes::default(),
            probed: BTreeMap::new(),
            post_start: PostStart::Done,
            stop: None,
            announced: None,
            announced_pull_at: None,
            replace: false,
            applied: ResourceRequirements::default(),
            resizing: None,
            resize_failed: None,
        }
    }

    /// Whether an attempt is at large: started or asked to, and not known to have ended.
    pub fn alive(&self) -> bool {
        matches!(self.state, State::Starting | State::Hooking { .. } | State::Running { .. })
    }
    /// Takes the probes of a running container that are due, and when to look again.
    fn due(&mut self, uid: &Arc<str>, name: &str, now: Time) -> (Vec<Effect>, Option<Time>) {
        if !matches!(self.state, State::Running { .. }) || self.stop.as_ref().is_some_and(|s| s.stage == Stage::Asked) {
            return (Vec::new(), None);
        }
        let (due, wake) = self.probes.due(now, self.stop.is_some());
        if due.is_empty() {
            return (Vec::new(), wake);
        }
        let id = ContainerId { pod_uid: uid.clone(), container: name.into(), attempt: self.attempt };
        let probe = |(kind, how, timeout)| Effect::Probe { id: id.clone(), kind, how, timeout };
        (due.into_iter().map(probe).collect(), wake)
    }
    /// How it ended, if it has.
    pub fn exited(&self) -> Option<&Termination> {
        match &self.state {
            State::Exited(t) => Some(t),
            _ => None,
        }
    }
    /// Whether it runs and, where it has a startup probe, has passed it.
    pub fn started(&self) -> bool {
        matches!(self.state, State::Running { .. }) && self.probes.startup_passed()
    }
    /// Whether traffic may come.
    pub fn ready(&self) -> bool {
        // Whoever failed its liveness probe is about to be stopped.
        self.started() && self.probes.ready() && self.probes.fatal().is_none()
    }

    fn exit(&mut self, termination: Termination) {
        let ran = termination.started.map_or(Duration::ZERO, |s| termination.finished.since(s));
        let by_probe = self.stop.is_some() && self.probes.fatal().is_some();
        let served = std::mem::take(&mut self.was_ready) && ran >= SERVED;
        self.failures = match by_probe && served {
            _ if ran >= RECOVERED => 1,
            true => self.failures.max(1),
            false => self.failures.saturating_add(1),
        };
        self.replace = self.stop.take().is_some_and(|s| s.replace);
        if self.replace {
            self.failures = 0;
        }
        self.state = State::Exited(termination);
        self.probes = Probes::default();
        self.post_start = PostStart::Done;
        (self.resizing, self.resize_failed) = (None, None);
    }
}

/// Everything known of one pod on this node.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    pub(crate) uid: Arc<str>,
    pub(crate) ip: IpAddr,
    pub(crate) containers: BTreeMap<String, Tracked>,
    pub(crate) events: Vec<PodEvent>,
    pub(crate) attached: bool,
    pub(crate) removed: bool,
    pub(crate) start_time: Option<Time>,
    /// Status and transition time of the conditions that the agent writes.
    pub(crate) conditions: BTreeMap<String, (String, Time)>,
    /// Set once the phase is final.
    pub(crate) verdict: Option<Verdict>,
    /// The deadline has passed; the verdict follows when everything has stopped.
    pub(crate) deadline_exceeded: bool,
    /// The node has not taken it: it has no address and no containers.
    pub(crate) refused: bool,
    /// Init containers are over and sidecars were started: from now on those restart without holding anyone back.
    pub(crate) initialized: bool,
    /// Why the node has evicted it; the verdict follows when everything has stopped.
    pub(crate) evicted: Option<String>,
    /// `emptyDir` volumes that have outgrown their limit when last looked at.
    pub(crate) usage: BTreeMap<String, u64>,
    /// What it holds of the node's disk, when that was too much.
    pub(crate) storage: Option<StorageUse>,
    pub(crate) volumes: Volumes,
    pub(crate) allocation: Allocation,
}

/// A final phase.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub phase: String,
    pub reason: Option<String>,
    pub message: Option<String>,
}

impl Observed {
    /// What an agent knows that has just met the pod, whether the pod is new or the agent is: nothing of it runs here, so
    /// what its status says was running has been lost, as by a reboot of the node, and attempts are counted on from there.
    pub fn adopt(pod: &Pod, ip: IpAddr, now: Time) -> Observed {
        let status = pod.status.as_ref();
        let phase = status.and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let verdict = matches!(phase, "Succeeded" | "Failed").then(|| Verdict {
            phase: phase.into(),
            reason: status.and_then(|s| s.reason.clone()),
            message: status.and_then(|s| s.message.clone()),
        });
        let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default().iter();
        let mut observed = Observed {
            uid: pod.metadata.uid.as_deref().unwrap_or_default().into(),
            ip,
            containers: BTreeMap::new(),
            events: Vec::new(),
            attached: false,
            removed: false,
            start_time: status.and_then(|s| s.start_time.as_ref()).map(time),
            conditions: conditions
                .map(|c| (c.type_.clone(), (c.status.clone(), c.last_transition_time.as_ref().map_or(now, time))))
                .collect(),
            verdict,
            deadline_exceeded: false,
            refused: false,
            initialized: false,
            evicted: None,
            usage: BTreeMap::new(),
            storage: None,
            volumes: Volumes::default(),
            allocation: Allocation::adopt(pod),
        };
        let Some(spec) = &pod.spec else { return observed };
        let find = |list: Option<&Vec<ContainerStatus>>, name: &str| {
            list.and_then(|l| l.iter().find(|c| c.name == name)).cloned()
        };
        let mut interrupted = false;
        for c in &spec.containers {
            let mut tracked = Tracked::new("containers", &c.name);
            if let Some(s) = find(status.and_then(|s| s.container_statuses.as_ref()), &c.name) {
                interrupted |= resume(&mut tracked, &s, now);
            }
            observed.containers.insert(c.name.clone(), tracked);
        }
        for c in spec.init_containers.iter().flatten() {
            let mut tracked = Tracked::new("initContainers", &c.name);
            if let Some(s) = find(status.and_then(|s| s.init_container_statuses.as_ref()), &c.name) {
                resume(&mut tracked, &s, now);
            }
            // A pod that is set up anew runs its init containers again, as after a reboot.
            if interrupted
                && observed.verdict.is_none()
                && let State::Exited(t) = &tracked.state
            {
                tracked.attempt = t.attempt + 1;
                tracked.last = Some(t.clone());
                tracked.state = State::Pending;
            }
            observed.containers.insert(c.name.clone(), tracked);
        }
        for c in spec.ephemeral_containers.iter().flatten() {
            let mut tracked = Tracked::new(EPHEMERAL, &c.name);
            if let Some(s) = find(status.and_then(|s| s.ephemeral_container_statuses.as_ref()), &c.name) {
                resume(&mut tracked, &s, now);
            }
            observed.containers.insert(c.name.clone(), tracked);
        }
        observed
    }

    /// Takes in ephemeral containers, which may be added at any time.
    pub(crate) fn meet(&mut self, ephemeral: &[Container]) {
        for c in ephemeral {
            self.containers.entry(c.name.clone()).or_insert_with(|| Tracked::new(EPHEMERAL, &c.name));
        }
    }

    /// The pod's address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether anything of the pod runs or was asked to.
    pub fn alive(&self) -> bool {
        self.containers.values().any(Tracked::alive)
    }

    /// The probes that are due, and when to ask again. A plan takes them along; between two plans this does for pods in
    /// which nothing else happens.
    pub fn probe(&mut self, now: Time) -> (Vec<Effect>, Option<Time>) {
        let (mut effects, mut wake) = (Vec::new(), None);
        for (name, t) in &mut self.containers {
            let (mut due, next) = t.due(&self.uid, name, now);
            effects.append(&mut due);
            wake = wake.into_iter().chain(next).min();
        }
        (effects, wake)
    }

    /// How its probes have ended so far: (container, which probe, successes, failures).
    pub fn probe_counts(&self) -> impl Iterator<Item = (&str, ProbeKind, u64, u64)> {
        let all = self.containers.iter();
        all.flat_map(|(name, t)| t.probed.iter().map(move |(kind, (ok, bad))| (name.as_str(), *kind, *ok, *bad)))
    }

    /// The node is too short of something to keep the pod. Whatever runs is stopped almost at once, and the pod has failed.
    pub fn evict(&mut self, message: String) {
        if self.verdict.is_none() && self.evicted.is_none() {
            self.event(EventType::Warning, "Evicted", message.clone(), None);
            self.evicted = Some(message);
        }
    }

    /// Whether it is over, or will be as soon as what runs has ended.
    pub fn is_over(&self) -> bool {
        self.verdict.is_some() || self.evicted.is_some()
    }

    /// Whether the node has evicted it and something of it still runs.
    pub fn is_leaving(&self) -> bool {
        self.evicted.is_some() && self.alive()
    }

    /// Takes in what the data plane says; whether the pod has to be planned again. What is stale (about another attempt,
    /// about an image nobody waits for) changes nothing, and neither does one more probe that says what the last one said.
    pub fn observe(&mut self, observation: &Observation, now: Time) -> bool {
        match observation {
            Observation::ImagePulling { .. }
            | Observation::ImageProgress { .. }
            | Observation::ImagePulled { .. }
            | Observation::ImageReady { .. }
            | Observation::ImageFailed { .. } => self.observe_image(observation, now),
            Observation::Images { .. } | Observation::ImagesRemoved { .. } => return false,
            Observation::VolumeMounted { uid, name, result } if *uid == self.uid => {
                volumes::mounted(self, name, result, now);
            }
            Observation::VolumeUsage { uid, name, bytes } if *uid == self.uid => {
                self.usage.insert(name.clone(), *bytes);
            }
            Observation::VolumeMounted { .. } | Observation::VolumeUsage { .. } => {}
            // It is told until the pod has gone.
            Observation::StorageUsage { uid, used } => {
                return *uid == self.uid && self.storage.replace(used.clone()).as_ref() != Some(used);
            }
            Observation::HostPortFailed { uid, port, error } if *uid == self.uid => {
                // The kubelet's reason for a network that does not let itself be set up.
                let message = format!("cannot open hostport {port}: {error}");
                self.event(EventType::Warning, "FailedCreatePodSandBox", message, None);
            }
            Observation::HostPortFailed { .. } => return false,
            Observation::Started { id, at } => {
                let Some(t) = self.current(id) else { return false };
                if t.state != State::Starting {
                    return false;
                }
                if t.post_start == PostStart::Done {
                    t.state = State::Running { since: *at };
                    t.probes.start(*at);
                } else {
                    t.state = State::Hooking { since: *at };
                }
                let path = t.field_path.clone();
                self.event(EventType::Normal, "Created", "Container created".into(), Some(path.clone()));
                self.event(EventType::Normal, "Started", "Container started".into(), Some(path));
            }
            Observation::Exited { id, code, reason, message, at } => {
                let Some(t) = self.current(id) else { return false };
                let started = match t.state {
                    State::Running { since } | State::Hooking { since } => Some(since),
                    State::Starting => None,
                    State::Pending | State::Exited(_) => return false,
                };
                let (path, was_started) = (t.field_path.clone(), started.is_some());
                t.exit(Termination {
                    attempt: id.attempt,
                    code: *code,
                    reason: reason.clone(),
                    message: message.clone(),
                    started,
                    finished: *at,
                });
                if !was_started && reason == "StartError" {
                    self.event(EventType::Warning, "Failed", format!("Error: {message}"), Some(path));
                }
            }
            Observation::Resized { id, result } => {
                if self.current(id).is_none() {
                    return false;
                }
                self.resized(&id.container, result, now);
            }
            // About the node, not about one pod.
            Observation::Usage { .. } | Observation::Storage { .. } => return false,
            Observation::Probed { id, kind, result, at } => {
                let Some(t) = self.current(id) else { return false };
                if !matches!(t.state, State::Running { .. }) {
                    return false;
                }
                let answer = t.probes.answer(*kind, result.is_ok(), *at);
                if answer == Answer::Stale {
                    return false;
                }
                let (succeeded, failed) = t.probed.entry(*kind).or_default();
                *(if result.is_ok() { succeeded } else { failed }) += 1;
                if let Err(why) = result {
                    let path = t.field_path.clone();
                    let name = match kind {
                        ProbeKind::Startup => "Startup",
                        ProbeKind::Readiness => "Readiness",
                        ProbeKind::Liveness => "Liveness",
                    };
                    self.event(EventType::Warning, "Unhealthy", format!("{name} probe failed: {why}"), Some(path));
                }
                return answer == Answer::Turned || result.is_err();
            }
            Observation::Hooked { id, kind: HookKind::PostStart, result, .. } => {
                let Some(t) = self.current(id) else { return false };
                let State::Hooking { since } = t.state else { return false };
                if t.post_start != PostStart::Running {
                    return false;
                }
                match result {
                    Ok(()) => {
                        t.post_start = PostStart::Done;
                        t.state = State::Running { since };
                        t.probes.start(since);
                    }
                    Err(why) => t.post_start = PostStart::Failed(why.clone()),
                }
            }
            Observation::Hooked { id, kind: HookKind::PreStop, result, .. } => {
                let Some(t) = self.current(id) else { return false };
                let Some(stop) = t.stop.as_mut().filter(|s| s.stage == Stage::PreStop) else { return false };
                stop.stage = Stage::Turn;
                if result.is_err() {
                    let (path, text) = (t.field_path.clone(), "PreStopHook failed");
                    self.event(EventType::Warning, "FailedPreStopHook", text.into(), Some(path));
                }
            }
        }
        true
    }

    /// Takes in a token that a plan asked for, or why there is none.
    pub fn token(&mut self, key: &TokenKey, result: Result<Token, String>, now: Time) {
        self.volumes.token(key, result, now);
    }

    pub(crate) fn event(&mut self, kind: EventType, reason: &'static str, message: String, field_path: Option<String>) {
        self.events.push(PodEvent { kind, reason, message, field_path });
    }

    fn current(&mut self, id: &ContainerId) -> Option<&mut Tracked> {
        if id.pod_uid != self.uid {
            return None;
        }
        self.containers.get_mut(&*id.container).filter(|t| t.attempt == id.attempt)
    }
}

/// Continues where a container's status left off; answers whether it was running.
fn resume(tracked: &mut Tracked, status: &ContainerStatus, now: Time) -> bool {
    let attempt = u32::try_from(status.restart_count).unwrap_or(0);
    let ended = |t: &k8s_openapi::api::core::v1::ContainerStateTerminated| Termination {
        attempt,
        code: t.exit_code,
        reason: t.reason.clone().unwrap_or_default(),
        message: t.message.clone().unwrap_or_default(),
        started: t.started_at.as_ref().map(time),
        finished: t.finished_at.as_ref().map_or(now, time),
    };
    tracked.attempt = attempt;
    tracked.digest = status.image_id.rsplit('@').next().unwrap_or_default().into();
    let last = status.last_state.as_ref().and_then(|l| l.terminated.as_ref()).map(&ended);
    let state = status.state.clone().unwrap_or_default();
    if let Some(running) = state.running {
        tracked.last = last.map(|l| Termination { attempt: attempt.saturating_sub(1), ..l });
        tracked.state = State::Exited(Termination {
            attempt,
            code: 255,
            reason: "Unknown".into(),
            message: String::new(),
            started: running.started_at.as_ref().map(time),
            finished: now,
        });
        return true;
    }
    if let Some(terminated) = &state.terminated {
        tracked.last = last.map(|l| Termination { attempt: attempt.saturating_sub(1), ..l });
        tracked.state = State::Exited(ended(terminated));
    } else if let Some(last) = last {
        // Waiting after an end (back-off): that end is where it stands.
        tracked.state = State::Exited(last);
    }
    false
}
