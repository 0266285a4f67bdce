//! The containers that run: started, stopped, and told of when they end.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::Body;
use copepod_images::Store;
use copepod_model::Time;
use copepod_node_network::{HttpService, Network, PodHandle, ServeGuard, ServiceError};
use copepod_node_plan::usage::{ContainerReading, PodReading, VolumeUse};
use copepod_node_plan::{ContainerId, ContainerSpec, Observation, PodIdentity, StorageLimits, TerminationMessage};
use copepod_runtime_wasm::{Container, Exec, Exit, HttpHandler, Kind, Module, Process, Runtime, Usage};
use copepod_volumes::{MessageFile, Volumes};
use http::{Request, Response};
use tokio::sync::{Notify, Semaphore};

use super::Observer;
use super::net::Net;
use super::toolbox;
use crate::clock::now;
use crate::logs::{LogFile, Logs, Sink, lock};

/// How many modules are kept ready though nothing runs from them.
const SPARE_MODULES: usize = 64;
/// How long a served container that has failed is kept, so that its other requests may finish.
const LAST_REQUESTS: Duration = Duration::from_secs(6);
/// Commands beside the containers of one pod at once.
const EXECS: usize = 32;
/// The port of a `wasi:http` component that declares none.
const DEFAULT_PORT: u16 = 80;

/// A pod that is attached.
struct Pod {
    identity: PodIdentity,
    handle: Arc<PodHandle>,
    slots: BTreeMap<ContainerId, Slot>,
    /// Since when it is here.
    since: Time,
    /// Commands that run beside its containers.
    execs: Arc<Semaphore>,
}

impl Pod {
    fn live(&self, slot: &Slot) -> Option<Live> {
        Some(Live {
            container: slot.container.clone()?,
            log: slot.log.clone()?,
            program: slot.program.clone()?,
            execs: self.execs.clone(),
        })
    }
}

/// One attempt, from the moment it is asked for until it has ended.
#[derive(Default)]
struct Slot {
    termination: TerminationMessage,
    /// Where it leaves its message, once it is about to run.
    message: Option<MessageFile>,
    container: Option<Arc<Container>>,
    guard: Option<ServeGuard>,
    log: Option<Arc<LogFile>>,
    program: Option<Program>,
    started: Time,
}

/// What an attempt runs.
#[derive(Clone)]
pub(super) struct Program {
    pub module: Arc<Module>,
    pub stdin_once: bool,
    pub tty: bool,
}

/// An attempt that runs.
pub(super) struct Live {
    pub container: Arc<Container>,
    pub log: Arc<LogFile>,
    pub program: Program,
    /// Bounds the commands beside it.
    pub execs: Arc<Semaphore>,
}

/// Somebody reads or compiles the module of a digest.
struct Making<'a>(&'a Mutex<HashMap<String, usize>>, &'a str);

impl<'a> Making<'a> {
    fn begin(all: &'a Mutex<HashMap<String, usize>>, digest: &'a str) -> Making<'a> {
        *lock(all).entry(digest.into()).or_default() += 1;
        Making(all, digest)
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut all = lock(self.0);
        if let Some(n) = all.get_mut(self.1) {
            *n -= 1;
            if *n == 0 {
                all.remove(self.1);
            }
        }
    }
}

/// All containers of the node.
pub(super) struct Containers {
    runtime: Arc<Runtime>,
    images: Store,
    network: Network,
    volumes: Arc<Volumes>,
    logs: Arc<Logs>,
    observer: Observer,
    pods: Mutex<HashMap<Arc<str>, Pod>>,
    modules: Mutex<HashMap<String, Arc<Module>>>,
    /// Digests whose module is being read or compiled, by how many.
    making: Mutex<HashMap<String, usize>>,
    /// Told when an attempt runs or has ended.
    moved: Notify,
}

impl Containers {
    pub fn new(
        runtime: Arc<Runtime>,
        images: Store,
        network: Network,
        volumes: Arc<Volumes>,
        logs: Arc<Logs>,
        observer: Observer,
    ) -> Containers {
        Containers {
            runtime,
            images,
            network,
            volumes,
            logs,
            observer,
            pods: Mutex::default(),
            modules: Mutex::default(),
            making: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// The module with this digest, compiled.
    pub async fn module(&self, digest: &str) -> Result<Arc<Module>, String> {
        if let Some(module) = lock(&self.modules).get(digest) {
            return Ok(module.clone());
        }
        let _making = Making::begin(&self.making, digest);
        let unreadable = |e: std::io::Error| format!("cannot read {digest}: {e}");
        let built_in = digest == toolbox::digest();
        let bytes = match built_in {
            true => Bytes::from_static(toolbox::WASM),
            false => self.images.read(digest).await.map_err(unreadable)?,
        };
        let module = self.runtime.compile(digest, bytes).await.map_err(|e| e.to_string())?;
        // Who removes an image deletes its bytes first and its artifact then: where the bytes are still there, the
        // artifact that was kept just now goes with them, and where they are not it would stay for ever.
        if !built_in && !self.images.contains(digest) {
            self.runtime.remove_artifact(digest).map_err(unreadable)?;
            return Err(unreadable(std::io::Error::from(std::io::ErrorKind::NotFound)));
        }
        let mut modules = lock(&self.modules);
        if modules.len() >= SPARE_MODULES {
            modules.retain(|_, m| Arc::strong_count(m) > 1);
        }
        modules.insert(digest.into(), module.clone());
        Ok(module)
    }

    /// Lets go of a module that no container runs and nobody is compiling; `false` if that is not so.
    pub fn release(&self, digest: &str) -> bool {
        let mut modules = lock(&self.modules);
        let used =
            modules.get(digest).is_some_and(|m| Arc::strong_count(m) > 1) || lock(&self.making).contains_key(digest);
        if !used {
            modules.remove(digest);
        }
        !used
    }

    /// A pod is on the network.
    pub fn attach(&self, identity: PodIdentity, handle: Arc<PodHandle>) {
        let mut pods = lock(&self.pods);
        match pods.get_mut(&identity.uid) {
            Some(pod) => (pod.identity, pod.handle) = (identity, handle),
            None => drop(pods.insert(
                identity.uid.clone(),
                Pod { identity, handle, slots: BTreeMap::new(), since: now(), execs: Arc::new(Semaphore::new(EXECS)) },
            )),
        }
    }

    /// Starts an attempt; at once if its module is at hand.
    pub fn start(self: &Arc<Self>, id: ContainerId, mut spec: ContainerSpec) {
        spec.termination.own = self.volumes.message_dir(&id);
        {
            let mut pods = lock(&self.pods);
            let Some(pod) = pods.get_mut(&id.pod_uid) else {
                return self.not_started(&id, "the pod is not on the network".into());
            };
            if pod.slots.contains_key(&id) {
                return; // asked for already
            }
            pod.slots.insert(id.clone(), Slot { termination: spec.termination.clone(), ..Slot::default() });
        }
        let at_hand = lock(&self.modules).get(&spec.digest).cloned();
        match at_hand {
            Some(module) if spec.mounts.is_empty() => {
                let message = MessageFile::of(&spec.termination, &spec.mounts);
                self.run(id, spec, module, message);
            }
            _ => {
                let this = self.clone();
                tokio::spawn(async move {
                    let ready = async { Ok((this.module(&spec.digest).await?, this.prepare(&id, spec).await?)) };
                    match ready.await {
                        Ok((module, (spec, message))) => this.run(id, spec, module, message),
                        Err(e) => this.not_started(&id, e),
                    }
                });
            }
        }
    }

    /// The spec with mounts that are ready to be opened, and where its message will be.
    async fn prepare(
        &self,
        id: &ContainerId,
        mut spec: ContainerSpec,
    ) -> Result<(ContainerSpec, Option<MessageFile>), String> {
        let (volumes, id) = (self.volumes.clone(), id.clone());
        let prepared = tokio::task::spawn_blocking(move || {
            volumes.prepare(&id.pod_uid, &id.container, &mut spec.mounts).map_err(|e| e.to_string())?;
            let message = MessageFile::of(&spec.termination, &spec.mounts);
            Ok((spec, message))
        });
        prepared.await.unwrap_or_else(|e| Err(e.to_string()))
    }

    fn run(self: &Arc<Self>, id: ContainerId, spec: ContainerSpec, module: Arc<Module>, message: Option<MessageFile>) {
        let served = module.kind() == Kind::Http;
        let (identity, handle) = {
            let pods = lock(&self.pods);
            // It may have been stopped, or its pod removed, while its module was compiled.
            let Some(pod) = pods.get(&id.pod_uid).filter(|p| p.slots.contains_key(&id)) else { return };
            (pod.identity.clone(), pod.handle.clone())
        };
        let log = self.logs.create(&id, &identity.namespace, &identity.name);
        if let Some(slot) = lock(&self.pods).get_mut(&id.pod_uid).and_then(|p| p.slots.get_mut(&id)) {
            (slot.log, slot.message, slot.started) = (Some(log.clone()), message, now());
            let (stdin_once, tty) = (spec.stdin_once, spec.tty);
            slot.program = Some(Program { module: module.clone(), stdin_once, tty });
        }
        if !served {
            // A command may end before `start` returns, and its start comes first.
            self.say(Observation::Started { id: id.clone(), at: now() });
        }
        let ip = handle.ip();
        let (this, which) = (Arc::downgrade(self), id.clone());
        let on_exit = move |exit: Exit| ended(&this, &which, exit, served);
        let net = Arc::new(Net::new(handle));
        let started = self.runtime.start(id.clone(), &spec, &identity, module, net, Arc::new(Sink(log)), on_exit);
        let container = match started {
            Ok(container) => Arc::new(container),
            Err(e) => return self.not_started(&id, e.to_string()),
        };
        if let Some(handler) = container.handler() {
            let port =
                spec.ports.iter().find(|(_, _, protocol)| protocol == "TCP").map_or(DEFAULT_PORT, |(_, port, _)| *port);
            match self.network.serve_http(ip, port, Arc::new(Served(handler))) {
                Ok(guard) => self.keep(&id, container, Some(guard)),
                Err(e) => {
                    self.not_started(&id, format!("cannot listen on port {port}: {e}"));
                    return;
                }
            }
            self.say(Observation::Started { id, at: now() });
        } else {
            self.keep(&id, container, None);
        }
    }

    /// Holds a started container, unless it has ended or was stopped in the meantime: then it is dropped, which kills it.
    fn keep(&self, id: &ContainerId, container: Arc<Container>, guard: Option<ServeGuard>) {
        let mut pods = lock(&self.pods);
        if let Some(slot) = pods.get_mut(&id.pod_uid).and_then(|p| p.slots.get_mut(id)) {
            (slot.container, slot.guard) = (Some(container), guard);
        }
        drop(pods);
        self.moved.notify_waiters();
    }

    /// A pod that is attached.
    pub fn identity(&self, uid: &str) -> Option<PodIdentity> {
        lock(&self.pods).get(uid).map(|p| p.identity.clone())
    }

    /// The pod's UID and address, if it is on the network.
    pub fn find(&self, namespace: &str, name: &str) -> Option<(Arc<str>, IpAddr)> {
        let pods = lock(&self.pods);
        let named = |p: &&Pod| &*p.identity.namespace == namespace && &*p.identity.name == name;
        // One that is going may share its name with the next.
        let found = pods.values().filter(named).max_by_key(|p| p.slots.len())?;
        Some((found.identity.uid.clone(), found.identity.ip))
    }

    /// The attempt of a container that runs now.
    pub fn running(&self, uid: &str, container: &str) -> Option<Live> {
        let pods = lock(&self.pods);
        let pod = pods.get(uid)?;
        let (_, slot) = pod.slots.iter().rev().find(|(id, s)| &*id.container == container && s.container.is_some())?;
        pod.live(slot)
    }

    /// An attempt that was asked for, once it runs; `None` when it has ended. A command says that it has started a moment
    /// before it is held here, and its hook may come between.
    pub async fn attempt(&self, id: &ContainerId) -> Option<Live> {
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            moved.as_mut().enable();
            {
                let pods = lock(&self.pods);
                let pod = pods.get(&id.pod_uid)?;
                let slot = pod.slots.get(id)?;
                if slot.container.is_some() {
                    return pod.live(slot);
                }
            }
            moved.await;
        }
    }

    /// Runs a command beside a container.
    pub fn exec(&self, container: &Container, module: Arc<Module>, process: Process) -> Exec {
        self.runtime.exec(container, module, process)
    }

    /// Stops an attempt. Its end is reported in any case.
    pub fn stop(self: &Arc<Self>, id: &ContainerId, grace: Duration) {
        let found = {
            let mut pods = lock(&self.pods);
            let slot = pods.get_mut(&id.pod_uid).and_then(|p| p.slots.get_mut(id));
            slot.map(|slot| (slot.container.clone(), slot.guard.take()))
        };
        match found {
            // New connections are refused from now on, so that whoever comes by a Service tries another endpoint.
            Some((Some(container), guard)) => {
                drop(guard);
                tokio::spawn(async move { container.stop(grace).await });
            }
            // Not yet started, or long gone.
            _ => {
                self.take(id);
                let (reason, message) = ("Error".into(), String::new());
                self.say(Observation::Exited { id: id.clone(), code: 137, reason, message, at: now() });
            }
        }
    }

    /// Limits a container that runs otherwise.
    pub fn resize(
        &self,
        id: &ContainerId,
        memory: Option<u64>,
        cpu_limit: Option<u32>,
        cpu_request: u32,
    ) -> Result<(), String> {
        let pods = lock(&self.pods);
        let container = pods.get(&id.pod_uid).and_then(|p| p.slots.get(id)?.container.clone());
        drop(pods);
        container.ok_or("the container does not run")?.resize(memory, cpu_limit, cpu_request)
    }

    /// What the containers use that use something.
    pub fn memory(&self) -> Vec<(ContainerId, u64)> {
        let pods = lock(&self.pods);
        let used = pods.values().flat_map(|pod| self.used(pod)).map(|(id, _, used)| (id.clone(), used.memory));
        used.filter(|(_, bytes)| *bytes > 0).collect()
    }

    /// What those containers of a pod have used that run. What is in its volumes in memory counts with the first of them.
    fn used<'p>(&self, pod: &'p Pod) -> Vec<(&'p ContainerId, &'p Slot, Usage)> {
        let running = pod.slots.iter().filter_map(|(id, slot)| Some((id, slot, slot.container.as_ref()?.usage())));
        let mut running: Vec<_> = running.collect();
        if let Some((_, _, used)) = running.first_mut() {
            used.memory = used.memory.saturating_add(self.runtime.in_memory_volumes(&pod.identity.uid));
        }
        running
    }

    /// What the pods in which something runs have used so far.
    pub fn usage(&self) -> Vec<PodReading> {
        let pods = lock(&self.pods);
        let reading = |pod: &Pod| {
            let container = |(id, slot, used): (&ContainerId, &Slot, Usage)| ContainerReading {
                name: id.container.clone(),
                attempt: id.attempt,
                started: slot.started,
                cpu: used.cpu,
                memory: used.memory,
            };
            let containers: Vec<_> = self.used(pod).into_iter().map(container).collect();
            let PodIdentity { uid, namespace, name, .. } = &pod.identity;
            (!containers.is_empty()).then(|| PodReading {
                uid: uid.clone(),
                namespace: namespace.clone(),
                name: name.clone(),
                since: pod.since,
                containers,
            })
        };
        pods.values().filter_map(reading).collect()
    }

    /// The volumes that are measured, as they were last.
    pub fn volumes(&self) -> Vec<VolumeUse> {
        let measured = self.volumes.measured().into_iter();
        measured.map(|v| VolumeUse { uid: v.uid, name: v.name, used: v.bytes, limit: v.limit }).collect()
    }

    /// The pods that have limits on what they hold of the disk.
    pub fn limited(&self) -> Vec<PodIdentity> {
        let pods = lock(&self.pods);
        pods.values().map(|p| &p.identity).filter(|i| i.storage.any()).cloned().collect()
    }

    /// The pods that are known: those that run, and those of which logs are left.
    pub fn identities(&self) -> Vec<PodIdentity> {
        lock(&self.pods).values().map(|p| p.identity.clone()).collect()
    }

    /// Kills whatever runs in a pod; its identity stays for its logs.
    pub fn end_pod(&self, uid: &str) {
        let slots = lock(&self.pods).get_mut(uid).map(|p| {
            // What is left of it are logs that somebody may want to read.
            p.identity.storage = StorageLimits::default();
            std::mem::take(&mut p.slots)
        });
        drop(slots);
        self.moved.notify_waiters();
    }

    /// Kills whatever runs in a pod and forgets it.
    pub fn forget(&self, uid: &str) -> Option<PodIdentity> {
        let pod = lock(&self.pods).remove(uid);
        self.moved.notify_waiters();
        pod.map(|p| p.identity)
    }

    fn take(&self, id: &ContainerId) -> Option<Slot> {
        let slot = lock(&self.pods).get_mut(&id.pod_uid).and_then(|p| p.slots.remove(id))?;
        self.moved.notify_waiters();
        if let Some(log) = &slot.log {
            log.end();
        }
        Some(slot)
    }

    fn not_started(&self, id: &ContainerId, message: String) {
        self.take(id);
        let reason = "StartError".into();
        self.say(Observation::Exited { id: id.clone(), code: 128, reason, message, at: now() });
    }

    fn say(&self, observation: Observation) {
        // The agent goes only when this process does.
        let _ = self.observer.send(observation);
    }
}

/// The message of a container's end. The file that it has left is read, and goes.
fn last_words(slot: &mut Slot, exit: &Exit) -> String {
    let file = slot.message.take();
    let left = file.as_ref().map_or_else(|| Ok(Vec::new()), MessageFile::read);
    if let Some(file) = file.filter(MessageFile::is_to_go) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(|| file.remove())),
            Err(_) => file.remove(),
        }
    }
    let log = || slot.log.as_ref().map(|log| log.last_words()).unwrap_or_default();
    slot.termination.message(exit.code, left, log, exit.message.clone())
}

/// A container has ended. Its port is free before anyone hears of it, since the next attempt wants it.
fn ended(containers: &Weak<Containers>, id: &ContainerId, mut exit: Exit, served: bool) {
    let Some(containers) = containers.upgrade() else { return };
    let slot = containers.take(id);
    if let Some(mut slot) = slot {
        exit.message = last_words(&mut slot, &exit);
        drop(slot.guard.take());
        // Dropping a container kills what it still answers; and it must not be dropped by its own call.
        let later = if served { LAST_REQUESTS } else { Duration::ZERO };
        if let Some(container) = slot.container.take() {
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(async move {
                    tokio::time::sleep(later).await;
                    drop(container);
                })),
                Err(_) => drop(container),
            }
        }
    }
    containers.say(Observation::Exited {
        id: id.clone(),
        code: exit.code,
        reason: exit.reason.as_str().into(),
        message: exit.message,
        at: now(),
    });
}

/// A `wasi:http` container on the network.
struct Served(Arc<dyn HttpHandler>);

#[async_trait]
impl HttpService for Served {
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError> {
        let answer = self.0.offer(request).await.map_err(ServiceError::Stopped)?;
        Ok(answer.unwrap_or_else(|e| {
            tracing::debug!(error = %e, "a request has failed");
            e.into_response()
        }))
    }
}
