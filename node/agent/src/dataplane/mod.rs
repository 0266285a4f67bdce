//! The data plane in this process: effects go in, observations come out, and nothing else crosses.

mod command;
mod containers;
mod door;
mod images;
mod net;
pub(crate) mod probe;
mod toolbox;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use copepod_images::Store;
use copepod_node_network::{Identity, Network, PodPort};
use copepod_node_plan::{
    Effect, HookHow, HostPort, Observation, PodIdentity, PodStorage, ProbeHow, StorageUse, VolumeContent,
};
use copepod_node_routes::Protocol;
use copepod_runtime_wasm::Runtime;
use copepod_volumes::Volumes;
use tokio::sync::mpsc;

use crate::clock::now;
use crate::logs::{Logs, lock};
use containers::Containers;
pub(crate) use door::{Attached, Door, Target};
use images::Shelf;
pub(crate) use probe::tls;

/// Where observations go.
pub(crate) type Observer = mpsc::UnboundedSender<Observation>;

/// Images, runtime and network behind the message boundary.
pub(crate) struct DataPlane {
    images: Store,
    network: Network,
    logs: Arc<Logs>,
    volumes: Arc<Volumes>,
    containers: Arc<Containers>,
    observer: Observer,
    runtime: Arc<Runtime>,
    dir: PathBuf,
    queued: Arc<Mutex<HashMap<Arc<str>, VecDeque<Job>>>>,
}

/// Something to be done to a pod's volumes.
#[derive(Clone)]
enum Job {
    Mount(String, VolumeContent),
    Remove,
}

impl DataPlane {
    /// `dir` is where images are, for the size of its disk.
    pub fn new(
        runtime: Arc<Runtime>,
        images: Store,
        dir: PathBuf,
        network: Network,
        volumes: Arc<Volumes>,
        logs: Arc<Logs>,
        observer: Observer,
    ) -> DataPlane {
        let containers = Containers::new(
            runtime.clone(),
            images.clone(),
            network.clone(),
            volumes.clone(),
            logs.clone(),
            observer.clone(),
        );
        // What was compiled from images that are gone, or for another version of this program, is of no use.
        let (known, compiled) = (images.clone(), runtime.clone());
        tokio::task::spawn_blocking(move || {
            compiled.sweep_artifacts(|digest| digest == toolbox::digest() || known.contains(digest));
        });
        DataPlane {
            images,
            network,
            logs,
            volumes,
            containers: Arc::new(containers),
            observer,
            runtime,
            dir,
            queued: Arc::default(),
        }
    }

    fn shelf(&self) -> Shelf {
        Shelf {
            images: self.images.clone(),
            containers: self.containers.clone(),
            runtime: self.runtime.clone(),
            dir: self.dir.clone(),
        }
    }

    /// For what is a stream and no message: exec, attach, port-forward; and for commands of probes and hooks.
    pub fn door(&self) -> Door {
        Door::new(self.containers.clone(), self.network.clone(), self.shelf())
    }

    /// Measures volumes and pods that have a limit, for ever.
    pub fn measure(&self, every: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (volumes, logs) = (self.volumes.clone(), self.logs.clone());
        let (containers, observer) = (self.containers.clone(), self.observer.clone());
        async move {
            let mut ticks = tokio::time::interval(every);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let (volumes, logs, limited) = (volumes.clone(), logs.clone(), containers.limited());
                let looked = tokio::task::spawn_blocking(move || overruns(&volumes, &logs, limited)).await;
                for overrun in looked.unwrap_or_default() {
                    let _ = observer.send(overrun);
                }
            }
        }
    }

    /// Carries out effects in their order until the sender is gone. What takes time goes on beside.
    pub async fn run(self, mut effects: mpsc::UnboundedReceiver<Effect>) {
        while let Some(effect) = effects.recv().await {
            self.carry_out(effect);
        }
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::PullImage(request) => {
                let (images, containers, observer) =
                    (self.images.clone(), self.containers.clone(), self.observer.clone());
                tokio::spawn(async move { images::pull(&images, &containers, request, &observer).await });
            }
            Effect::ReportImages { in_use } => {
                let (shelf, observer) = (self.shelf(), self.observer.clone());
                tokio::task::spawn_blocking(move || observer.send(shelf.report(&in_use)));
            }
            Effect::RemoveImages { images } => {
                let (shelf, observer) = (self.shelf(), self.observer.clone());
                tokio::task::spawn_blocking(move || observer.send(shelf.remove(&images)));
            }
            Effect::AttachPod(pod) => {
                let handle = self.network.attach(identity(&pod));
                self.containers.attach(pod, handle);
            }
            Effect::MountVolume { uid, name, content } => self.queue(uid, Job::Mount(name, content)),
            Effect::KeepPods(uids) => {
                let (orphans, volumes) = (self.volumes.orphans(&uids), self.volumes.clone());
                tokio::task::spawn_blocking(move || orphans.iter().for_each(|uid| volumes.remove(uid)));
            }
            Effect::Start { id, spec, .. } => self.containers.start(id, *spec),
            Effect::Stop { id, grace } => self.containers.stop(&id, grace),
            Effect::Resize { id, memory_limit, cpu_limit_millis, cpu_request_millis } => {
                let result = self.containers.resize(&id, memory_limit, cpu_limit_millis, cpu_request_millis);
                let _ = self.observer.send(Observation::Resized { id, result });
            }
            Effect::DetachPod { uid } => {
                self.containers.end_pod(&uid);
                self.network.detach(&uid);
                self.queue(uid, Job::Remove);
            }
            Effect::RemoveLogs { uid } => {
                if let Some(pod) = self.containers.identities().into_iter().find(|pod| pod.uid == uid) {
                    let logs = self.logs.clone();
                    tokio::task::spawn_blocking(move || logs.remove(&pod.namespace, &pod.name, &pod.uid));
                }
            }
            Effect::RemovePod { uid } => {
                let pod = self.containers.forget(&uid);
                self.network.detach(&uid);
                self.queue(uid, Job::Remove);
                if let Some(pod) = pod {
                    let logs = self.logs.clone();
                    tokio::task::spawn_blocking(move || logs.remove(&pod.namespace, &pod.name, &pod.uid));
                }
            }
            Effect::Hook { id, kind, how, timeout } => {
                let (door, observer) = (self.door(), self.observer.clone());
                tokio::spawn(async move {
                    let result = match &how {
                        HookHow::Act(ProbeHow::Exec { command }) => command::hook(&door, &id, command, timeout).await,
                        how => {
                            let network = door.network();
                            let result = tokio::time::timeout(timeout, probe::hook(&network, how, timeout)).await;
                            result.unwrap_or_else(|_| Err("context deadline exceeded".into()))
                        }
                    };
                    let _ = observer.send(Observation::Hooked { id, kind, result, at: now() });
                });
            }
            Effect::Measure => {
                let _ = self.observer.send(Observation::Usage { memory: self.containers.memory() });
            }
            Effect::MeasureStorage => {
                let (volumes, logs, observer) = (self.volumes.clone(), self.logs.clone(), self.observer.clone());
                let pods = self.containers.identities();
                tokio::task::spawn_blocking(move || {
                    let pods = pods.into_iter().map(|pod| (pod.uid.clone(), held(&volumes, &logs, &pod))).collect();
                    observer.send(Observation::Storage { pods })
                });
            }
            Effect::Probe { id, kind, how, timeout } => {
                let (door, observer) = (self.door(), self.observer.clone());
                tokio::spawn(async move {
                    let result = match &how {
                        ProbeHow::Exec { command } => command::probe(&door, &id, command, timeout).await,
                        how => probe::probe(&door.network(), how, timeout).await,
                    };
                    let _ = observer.send(Observation::Probed { id, kind, result, at: now() });
                });
            }
        }
    }

    /// A pod's volumes change one after the other, in the order in which they are asked for.
    fn queue(&self, uid: Arc<str>, job: Job) {
        let mut all = lock(&self.queued);
        let jobs = all.entry(uid.clone()).or_default();
        jobs.push_back(job);
        if jobs.len() > 1 {
            return; // whoever does the first does all
        }
        drop(all);
        let (queued, volumes, observer) = (self.queued.clone(), self.volumes.clone(), self.observer.clone());
        tokio::task::spawn_blocking(move || {
            loop {
                let Some(job) = lock(&queued).get(&uid).and_then(|jobs| jobs.front().cloned()) else { return };
                match job {
                    Job::Mount(name, content) => {
                        let result = volumes.mount(&uid, &name, &content).map_err(|e| e.to_string());
                        let _ = observer.send(Observation::VolumeMounted { uid: uid.clone(), name, result });
                    }
                    Job::Remove => volumes.remove(&uid),
                }
                let mut all = lock(&queued);
                if let Some(jobs) = all.get_mut(&uid) {
                    jobs.pop_front();
                    if jobs.is_empty() {
                        all.remove(&uid);
                        return;
                    }
                }
            }
        });
    }
}

/// Volumes that hold more than they may, and the same of pods.
fn overruns(volumes: &Volumes, logs: &Logs, limited: Vec<PodIdentity>) -> Vec<Observation> {
    let of_volumes = volumes.overruns().into_iter();
    let of_volumes = of_volumes.map(|o| Observation::VolumeUsage { uid: o.uid, name: o.name, bytes: o.bytes });
    let of_pods = limited.into_iter().filter_map(|pod| {
        let used = held(volumes, logs, &pod).used;
        pod.storage.exceeded(&used).then_some(Observation::StorageUsage { uid: pod.uid, used })
    });
    of_volumes.chain(of_pods).collect()
}

/// What a pod holds of the node's disk.
fn held(volumes: &Volumes, logs: &Logs, pod: &PodIdentity) -> PodStorage {
    let (bytes, inodes) = volumes.local_usage(&pod.uid);
    let used = StorageUse { volumes: bytes, logs: logs.usage(&pod.namespace, &pod.name, &pod.uid) };
    PodStorage { used, inodes: inodes.saturating_add(logs.inodes(&pod.namespace, &pod.name, &pod.uid)) }
}

fn identity(pod: &PodIdentity) -> Identity {
    Identity {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        service_account: pod.service_account.clone(),
        ip: pod.ip,
        second_ip: pod.second_ip,
        hostname: pod.hostname.to_string(),
        dns: crate::dns::of_pod(&pod.dns),
        hosts: pod.hosts.clone(),
        host_ports: pod.host_ports.iter().filter_map(host_port).collect(),
        interface: None,
    }
}

fn host_port(port: &HostPort) -> Option<PodPort> {
    let protocol = Protocol::parse(&port.protocol)?;
    Some(PodPort { ip: port.ip, port: port.port, protocol, to: port.to })
}
