//! The data plane in this process: effects go in, observations come out, and nothing else crosses.

mod containers;
mod images;
mod net;
mod probe;

use std::path::PathBuf;
use std::sync::Arc;

use copepod_images::Store;
use copepod_node_network::{Identity, Network};
use copepod_node_plan::{Effect, Observation, PodIdentity};
use copepod_runtime_wasm::Runtime;
use tokio::sync::mpsc;

use crate::clock::now;
use crate::logs::Logs;
use containers::Containers;
use images::Shelf;

/// Where observations go.
pub(crate) type Observer = mpsc::UnboundedSender<Observation>;

/// Images, runtime and network behind the message boundary.
pub(crate) struct DataPlane {
    images: Store,
    network: Network,
    logs: Arc<Logs>,
    containers: Arc<Containers>,
    observer: Observer,
    runtime: Arc<Runtime>,
    dir: PathBuf,
}

impl DataPlane {
    /// `dir` is where images are, for the size of its disk.
    pub fn new(
        runtime: Arc<Runtime>,
        images: Store,
        dir: PathBuf,
        network: Network,
        logs: Arc<Logs>,
        observer: Observer,
    ) -> DataPlane {
        let containers =
            Containers::new(runtime.clone(), images.clone(), network.clone(), logs.clone(), observer.clone());
        // What was compiled from images that are gone, or for another version of this program, is of no use.
        let (known, compiled) = (images.clone(), runtime.clone());
        tokio::task::spawn_blocking(move || compiled.sweep_artifacts(|digest| known.contains(digest)));
        DataPlane { images, network, logs, containers: Arc::new(containers), observer, runtime, dir }
    }

    fn shelf(&self) -> Shelf {
        Shelf {
            images: self.images.clone(),
            containers: self.containers.clone(),
            runtime: self.runtime.clone(),
            dir: self.dir.clone(),
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
            Effect::Start { id, spec, .. } => self.containers.start(id, *spec),
            Effect::Stop { id, grace } => self.containers.stop(&id, grace),
            Effect::DetachPod { uid } => {
                self.containers.end_pod(&uid);
                self.network.detach(&uid);
            }
            Effect::RemovePod { uid } => {
                let pod = self.containers.forget(&uid);
                self.network.detach(&uid);
                if let Some(pod) = pod {
                    let logs = self.logs.clone();
                    tokio::task::spawn_blocking(move || logs.remove(&pod.namespace, &pod.name, &pod.uid));
                }
            }
            Effect::Hook { id, kind, how, timeout } => {
                let (network, observer) = (self.network.clone(), self.observer.clone());
                tokio::spawn(async move {
                    let hook = probe::hook(&network, &how, timeout);
                    let result = tokio::time::timeout(timeout, hook).await;
                    let result = result.unwrap_or_else(|_| Err("context deadline exceeded".into()));
                    let _ = observer.send(Observation::Hooked { id, kind, result, at: now() });
                });
            }
            Effect::Probe { id, kind, how, timeout } => {
                let (network, observer) = (self.network.clone(), self.observer.clone());
                tokio::spawn(async move {
                    let result = probe::probe(&network, &how, timeout).await;
                    let _ = observer.send(Observation::Probed { id, kind, result, at: now() });
                });
            }
        }
    }
}

fn identity(pod: &PodIdentity) -> Identity {
    Identity {
        uid: pod.uid.clone(),
        namespace: pod.namespace.clone(),
        name: pod.name.clone(),
        service_account: pod.service_account.clone(),
        ip: pod.ip,
        hostname: pod.hostname.to_string(),
        dns_search: pod.dns_search.iter().map(ToString::to_string).collect(),
        hosts: pod.hosts.clone(),
    }
}
