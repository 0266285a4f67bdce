//! The message boundary of the data plane: effects go in, observations come out. Nothing else crosses it, so that the
//! data plane can live in the agent's process or in one of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use copepod_model::Time;
use serde::{Deserialize, Serialize};

use crate::dns::PodDns;
use crate::host_port::HostPort;
use crate::local_storage::{PodStorage, StorageLimits, StorageUse};

/// One start of one container: the name under which effects and observations speak of it. A restart is a new attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerId {
    /// UID of the pod.
    pub pod_uid: Arc<str>,
    /// Name of the container.
    pub container: Arc<str>,
    /// How many starts came before: `restartCount`.
    pub attempt: u32,
}

/// What identifies a pod to the data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodIdentity {
    /// UID.
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Service account, whose identity its streams carry.
    pub service_account: Arc<str>,
    /// Its address in the pod network.
    pub ip: IpAddr,
    /// The one of the other family, if it has one.
    #[serde(default)]
    pub second_ip: Option<IpAddr>,
    /// Host name inside the pod.
    pub hostname: Arc<str>,
    /// How it resolves names.
    #[serde(default)]
    pub dns: PodDns,
    /// Names that mean an address in this pod whatever DNS says: `hostAliases`, and its own fully qualified name.
    pub hosts: Vec<(IpAddr, Vec<Arc<str>>)>,
    /// Ports of the host that lead to it.
    #[serde(default)]
    pub host_ports: Vec<HostPort>,
    /// What it may hold of the node's disk; what it holds is observed where there is a limit.
    #[serde(default)]
    pub storage: StorageLimits,
    /// Bytes that its containers and its volumes in memory may take together; none where it has no such volumes.
    #[serde(default)]
    pub memory_limit: Option<u64>,
}

/// Everything a runtime needs to run one container. All references (ConfigMaps, Secrets, fields) are resolved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Digest of the module or component in the content store, `sha256:…`, as the image pull answered.
    pub digest: String,
    /// `args` after `argv[0]`; `command` and `args` as Kubernetes combines them.
    pub args: Vec<String>,
    /// Environment in order, later ones win.
    pub env: Vec<(String, String)>,
    /// `workingDir`, empty for the default.
    pub working_dir: String,
    /// What of the host it sees, in the order of its `volumeMounts`.
    pub mounts: Vec<Mount>,
    /// Whether its standard input is kept open for whoever attaches.
    #[serde(default)]
    pub stdin: bool,
    /// Whether that ends with the first who detaches.
    #[serde(default)]
    pub stdin_once: bool,
    /// Whether its streams are a terminal.
    #[serde(default)]
    pub tty: bool,
    /// Declared container ports: (name, port, protocol). A `wasi:http` component is served on the first TCP port, 80 if
    /// there is none.
    pub ports: Vec<(String, u16, String)>,
    /// Memory limit in bytes over all instances, tables and stacks of the container.
    pub memory_limit: Option<u64>,
    /// CPU limit in millicores.
    pub cpu_limit_millis: Option<u32>,
    /// Where the message of the container's end comes from.
    pub termination: TerminationMessage,
    /// Everything else that is limited.
    #[serde(default)]
    pub limits: Limits,
}

/// Where the message of a container's end comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminationMessage {
    /// `terminationMessagePath`: the file, absolute, without `.`, `..` and needless slashes; empty for none.
    #[serde(default)]
    pub path: String,
    /// Where on the host the file is if it is in no mount: a directory of this attempt, which the data plane names and
    /// the runtime makes when a guest looks for its directories. Without one there is no such file.
    #[serde(default)]
    pub own: Option<PathBuf>,
    /// `FallbackToLogsOnError`: the log's end, if it failed and left nothing in the file.
    pub fallback_to_logs: bool,
}

/// A user's name and password for a registry.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Credential {
    /// Name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// An image that a container wants. Pods that want the same share the answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PullRequest {
    /// Reference as the pod gives it.
    pub image: String,
    /// Whether to ask the registry even if the reference is known (`imagePullPolicy: Always`).
    pub always: bool,
    /// Whether to fail if it is not present (`imagePullPolicy: Never`).
    pub never: bool,
    /// The pod's credentials for it, to be tried in order.
    pub credentials: Vec<Credential>,
}

impl PullRequest {
    /// The number under which answers speak of it.
    pub fn id(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// An image in the content store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageUse {
    /// The module's digest.
    pub digest: String,
    /// Bytes on disk, of the module and what was compiled from it.
    pub size: u64,
    /// Names it came by: `repository@digest`, then references.
    pub names: Vec<String>,
    /// When it was last used.
    pub last_used: Time,
}

/// The file system that images are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its size in bytes; 0 if it cannot be read.
    pub capacity: u64,
    /// What is free of it, in bytes.
    pub available: u64,
}

/// A directory of the host that a container sees, or part of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where the container sees it: `mountPath`, absolute, without a slash at the end.
    pub path: String,
    /// The volume's directory on the host.
    pub host: PathBuf,
    /// `subPath`: relative to `host`, and never leading out of it, by symbolic link or otherwise; empty for all of it.
    pub sub_path: String,
    /// Nothing can be changed through it.
    pub read_only: bool,
    /// Bytes that the volume may hold, where it is in memory.
    #[serde(default)]
    pub memory: Option<u64>,
}

/// What is in a volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum VolumeContent {
    /// An empty directory at first; what is in it stays as long as the pod.
    EmptyDir {
        /// In memory (`medium: Memory`) rather than on disk.
        memory: bool,
        /// Bytes; usage is observed where there is a limit.
        size_limit: Option<u64>,
    },
    /// What is there on the host.
    HostPath {
        /// Where.
        path: PathBuf,
        /// `type`: what must be there, or is made; empty for no check.
        kind: String,
    },
    /// Keys of a ConfigMap.
    ConfigMap(BTreeMap<String, VolumeFile>),
    /// Keys of a Secret, never on disk where that can be helped.
    Secret(BTreeMap<String, VolumeFile>),
    /// Fields of the pod.
    DownwardApi(BTreeMap<String, VolumeFile>),
    /// Any of these and tokens, never on disk where that can be helped.
    Projected(BTreeMap<String, VolumeFile>),
}

/// A file of a volume, by its path there.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct VolumeFile {
    /// Content.
    pub data: Vec<u8>,
    /// Permission bits, of which only the owner's mean something.
    pub mode: u32,
}

impl std::fmt::Debug for VolumeFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The content may be secret.
        write!(f, "{} bytes, {:o}", self.data.len(), self.mode)
    }
}

/// What a container may use beside its memory and CPU limits, its share of contended CPUs, and how its instances live.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// CPU request in millicores: its weight where guests compete, as `cpu.shares` has it.
    pub cpu_request_millis: u32,
    /// How long one request may take; `None` is the node's own limit.
    pub request_deadline: Option<Duration>,
    /// Bytes of log a second, in the long run.
    pub log_rate: u64,
    /// Bytes of log that may come at once.
    pub log_burst: u64,
    /// Sockets at once in the pod, with the outgoing requests that are under way.
    pub sockets: u32,
    /// Files at once that the container has open.
    pub files: u32,
    /// Requests that an instance answers, one after the other, before it is replaced. 1 is an instance per request.
    pub instance_reuse: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            cpu_request_millis: 0,
            request_deadline: None,
            log_rate: 4 << 20,
            log_burst: 16 << 20,
            sockets: 1024,
            files: 1024,
            instance_reuse: 1,
        }
    }
}

/// What the data plane is asked to do. Repeating one is harmless.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Have an image in the content store, compiled. Answers: `ImagePulling` if a registry has to be asked, `ImageProgress`
    /// now and then if that takes long, `ImagePulled`, then `ImageReady`; or `ImageFailed`.
    PullImage(PullRequest),
    /// Note which images are in use, and say what is in the content store. Answer: `Images`.
    ReportImages {
        /// Digests.
        in_use: Vec<String>,
    },
    /// Remove images with what was compiled from them, unless they were used since. Answer: `ImagesRemoved`.
    RemoveImages {
        /// Digests, with when they were last used as far as was known.
        images: Vec<(String, Time)>,
    },
    /// Attach a pod to the network before its first container.
    AttachPod(PodIdentity),
    /// Set up a volume of a pod, or make one that is set up show this content. Answer: `VolumeMounted`. `DetachPod` and
    /// `RemovePod` take it away again.
    MountVolume {
        /// UID of the pod.
        uid: Arc<str>,
        /// Name of the volume.
        name: String,
        /// What is to be in it.
        content: VolumeContent,
    },
    /// These are all pods of the node: what others have left behind can go.
    KeepPods(BTreeSet<Arc<str>>),
    /// Start a container. Answer: `Started`, later `Exited`.
    Start {
        /// Which.
        id: ContainerId,
        /// The pod's namespace and name, for log paths.
        pod: (Arc<str>, Arc<str>),
        /// What.
        spec: Box<ContainerSpec>,
    },
    /// Stop a container: no new requests, what runs may finish within `grace`, then it is dead. Answer: `Exited`.
    Stop {
        /// Which.
        id: ContainerId,
        /// How long what runs may take.
        grace: Duration,
    },
    /// Give a container that runs other limits, without a restart. Answer: `Resized`.
    Resize {
        /// Which.
        id: ContainerId,
        /// [`ContainerSpec::memory_limit`].
        memory_limit: Option<u64>,
        /// [`ContainerSpec::cpu_limit_millis`].
        cpu_limit_millis: Option<u32>,
        /// [`Limits::cpu_request_millis`].
        cpu_request_millis: u32,
    },
    /// Detach a pod that has finished: its address is free again, its logs stay.
    DetachPod {
        /// UID.
        uid: Arc<str>,
    },
    /// Delete the logs of a pod that has finished, before it is forgotten: the disk is short.
    RemoveLogs {
        /// UID.
        uid: Arc<str>,
    },
    /// Forget a pod: detach it and delete its logs.
    RemovePod {
        /// UID.
        uid: Arc<str>,
    },
    /// Say what all running containers use. Answer: `Usage`.
    Measure,
    /// Say what all pods hold of the node's disks. Answer: `Storage`.
    MeasureStorage,
    /// Probe once. Answer: `Probed`.
    Probe {
        /// Which container.
        id: ContainerId,
        /// `readiness`, `liveness` or `startup`.
        kind: ProbeKind,
        /// How.
        how: ProbeHow,
        /// How long it may take.
        timeout: Duration,
    },
    /// Run a lifecycle hook. Answer: `Hooked`.
    Hook {
        /// Of which container.
        id: ContainerId,
        /// Which of its hooks.
        kind: HookKind,
        /// How.
        how: HookHow,
        /// How long it may take.
        timeout: Duration,
    },
}

/// Which lifecycle hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookKind {
    /// Right after the start; the container counts as running once it has come back.
    PostStart,
    /// Before the stop, within its grace.
    PreStop,
}

/// How to run a lifecycle hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HookHow {
    /// Wait.
    Sleep(Duration),
    /// The same that a probe does; of an answer over HTTP any status will do.
    Act(ProbeHow),
}

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// Holds back the others until it has succeeded.
    Startup,
    /// Whether traffic may come.
    Readiness,
    /// Whether to restart.
    Liveness,
}

/// How to probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeHow {
    /// GET; 200..=399 is success.
    Http {
        /// Pod address or an explicit host.
        host: String,
        /// Port.
        port: u16,
        /// Path and query.
        path: String,
        /// Extra headers.
        headers: Vec<(String, String)>,
        /// Over TLS, unverified.
        https: bool,
    },
    /// Connect; an open port is success.
    Tcp {
        /// Pod address or an explicit host.
        host: String,
        /// Port.
        port: u16,
    },
    /// `grpc.health.v1.Health/Check` in clear text; `SERVING` is success.
    Grpc {
        /// Pod address.
        host: String,
        /// Port.
        port: u16,
        /// `service` of the request, empty for the server as a whole.
        service: String,
    },
    /// Run a command in the container; exit code 0 is success.
    Exec {
        /// Command and arguments.
        command: Vec<String>,
    },
}

/// What the data plane says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Observation {
    /// A registry is being asked for the image.
    ImagePulling {
        /// [`PullRequest::id`].
        request: u64,
    },
    /// How far a pull is.
    ImageProgress {
        /// [`PullRequest::id`].
        request: u64,
        /// Bytes that are here.
        done: u64,
        /// Bytes that there are.
        total: u64,
    },
    /// The image is here. What it was compiled to follows.
    ImagePulled {
        /// [`PullRequest::id`].
        request: u64,
        /// Size in bytes.
        size: u64,
        /// How long the pull took; zero when it was present.
        took: Duration,
        /// The same with what it waited for its turn.
        waited: Duration,
    },
    /// The image is here and compiled.
    ImageReady {
        /// [`PullRequest::id`].
        request: u64,
        /// Digest to start containers from.
        digest: String,
    },
    /// The image cannot be had, or not be run.
    ImageFailed {
        /// [`PullRequest::id`].
        request: u64,
        /// Kubernetes' reason: `ErrImagePull`, `RegistryUnavailable`, `InvalidImageName`, `ErrImageNeverPull`, and
        /// `CreateContainerError` for what cannot be compiled or lacks something of this host.
        reason: String,
        /// In the registry's or compiler's own words.
        message: String,
    },
    /// What is in the content store.
    Images {
        /// All of it, or why it cannot be read.
        images: Result<Vec<ImageUse>, String>,
        /// Where it is.
        disk: Disk,
    },
    /// Images were removed.
    ImagesRemoved {
        /// Bytes that are free now.
        freed: u64,
        /// What went wrong.
        errors: Vec<String>,
    },
    /// A volume is set up and shows what it should, or why not.
    VolumeMounted {
        /// UID of the pod.
        uid: Arc<str>,
        /// Name of the volume.
        name: String,
        /// Where it is on the host.
        result: Result<PathBuf, String>,
    },
    /// How much is in an `emptyDir` that has a limit; said when it is more.
    VolumeUsage {
        /// UID of the pod.
        uid: Arc<str>,
        /// Name of the volume.
        name: String,
        /// Bytes on disk or in memory.
        bytes: u64,
    },
    /// How much of the node's disk a pod holds that has limits; said when it is more.
    StorageUsage {
        /// UID of the pod.
        uid: Arc<str>,
        /// How much.
        used: StorageUse,
    },
    /// A port of the host that leads to a pod cannot be listened on. It is tried again.
    HostPortFailed {
        /// UID of the pod.
        uid: Arc<str>,
        /// `hostPort`.
        port: u16,
        /// Why not, such as `listen tcp 127.0.0.1:80: bind: address already in use`.
        error: String,
    },
    /// The container runs (a `wasi:http` component: is being served).
    Started {
        /// Which.
        id: ContainerId,
        /// When.
        at: Time,
    },
    /// The container ended or could not be started.
    Exited {
        /// Which.
        id: ContainerId,
        /// Exit code; 128 + signal's number for kills (137), 1 for traps without one of their own.
        code: i32,
        /// `Completed`, `Error`, `OOMKilled`, `DeadlineExceeded`, `StartError`.
        reason: String,
        /// For people: a trap's text and wasm backtrace.
        message: String,
        /// When.
        at: Time,
    },
    /// A container has the limits that were asked for.
    Resized {
        /// Which.
        id: ContainerId,
        /// `Err` says why it keeps those that it had.
        result: Result<(), String>,
    },
    /// A lifecycle hook has come back.
    Hooked {
        /// Of which container.
        id: ContainerId,
        /// Which hook.
        kind: HookKind,
        /// `Err` carries what went wrong.
        result: Result<(), String>,
        /// When.
        at: Time,
    },
    /// What the running containers use, those that use nothing left out.
    Usage {
        /// Bytes of memory of each.
        memory: Vec<(ContainerId, u64)>,
    },
    /// What pods hold of the node's disks.
    Storage {
        /// By UID.
        pods: Vec<(Arc<str>, PodStorage)>,
    },
    /// A probe's answer.
    Probed {
        /// Which container.
        id: ContainerId,
        /// Which probe.
        kind: ProbeKind,
        /// `Err` carries what went wrong, in the kubelet's words.
        result: Result<(), String>,
        /// When.
        at: Time,
    },
}
