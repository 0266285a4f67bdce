//! The data plane in this process: effects go in, observations come out, and nothing else crosses.

mod containers;
mod net;
mod probe;

use std::path::Path;
use std::sync::Arc;

use copepod_images::{Policy, Store};
use copepod_node_network::{Identity, Network};
use copepod_node_plan::{Effect, Observation, PodIdentity};
use copepod_runtime_wasm::Runtime;
use tokio::sync::mpsc;

use crate::clock::now;
use crate::logs::Logs;
use containers::Containers;

/// Where observations go.
pub(crate) type Observer = mpsc::UnboundedSender<Observation>;

/// Images, runtime and network behind the message boundary.
pub(crate) struct DataPlane {
    images: Store,
    network: Network,
    logs: Arc<Logs>,
    containers: Arc<Containers>,
    observer: Observer,
}

impl DataPlane {
    pub fn new(
        runtime: Arc<Runtime>,
        images: Store,
        network: Network,
        logs: Arc<Logs>,
        observer: Observer,
    ) -> DataPlane {
        let containers = Containers::new(runtime, images.clone(), network.clone(), logs.clone(), observer.clone());
        DataPlane { images, network, logs, containers: Arc::new(containers), observer }
    }

    /// Carries out effects in their order until the sender is gone. What takes time goes on beside.
    pub async fn run(self, mut effects: mpsc::UnboundedReceiver<Effect>) {
        while let Some(effect) = effects.recv().await {
            self.carry_out(effect);
        }
    }

    fn carry_out(&self, effect: Effect) {
        match effect {
            Effect::PullImage { image, always, never } => {
                let (images, containers, observer) =
                    (self.images.clone(), self.containers.clone(), self.observer.clone());
                tokio::spawn(async move {
                    let observation = pull(&images, &containers, image, always, never).await;
                    let _ = observer.send(observation);
                });
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

/// Opens the content store.
pub(crate) fn images(dir: &Path, allow_file: bool) -> std::io::Result<Store> {
    Store::open(dir, copepod_images::Config { allow_file, ..copepod_images::Config::default() })
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

/// An image is ready when it is here and compiled.
async fn pull(images: &Store, containers: &Containers, image: String, always: bool, never: bool) -> Observation {
    let policy = match (always, never) {
        (_, true) => Policy::Never,
        (true, false) => Policy::Always,
        (false, false) => Policy::IfNotPresent,
    };
    let pulled = match images.pull(&image, policy, now()).await {
        Ok(pulled) => pulled,
        Err(e) => return Observation::ImageFailed { image, reason: e.reason.into(), message: e.message },
    };
    if let Err(message) = containers.module(&pulled.digest).await {
        return Observation::ImageFailed { image, reason: "ErrImagePull".into(), message };
    }
    // Under `IfNotPresent` nobody was asked for what was here.
    let took = if pulled.present && !always { std::time::Duration::ZERO } else { pulled.took };
    Observation::ImageReady { image, digest: pulled.digest, size: pulled.size, took }
}
