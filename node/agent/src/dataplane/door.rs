//! The data plane's second door: what is a stream of bytes and no message, and what is measured when somebody looks. A data
//! plane in a process of its own serves the same over an upgraded connection.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use copepod_node_network::Network;
use copepod_node_plan::exec::{Program, program};
use copepod_node_plan::usage::{PodReading, VolumeUse};
use copepod_node_plan::{ContainerId, PodIdentity};
use copepod_runtime_wasm::{Container, Exec, LogStream, Module, Output, Process, Stdin};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::containers::{Containers, Live};
use super::images::Shelf;
use super::toolbox;

/// Pieces of output that a slow client may be behind before it misses some: a container does not wait for who watches.
const BEHIND: usize = 1024;

/// The way to what runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Door {
    containers: Arc<Containers>,
    network: Network,
    shelf: Arc<Shelf>,
}

/// A pod of this node.
pub(crate) struct Found {
    pub uid: Arc<str>,
    pub ip: IpAddr,
}

/// A container that a command can run beside.
pub(crate) struct Target {
    container: Arc<Container>,
    module: Arc<Module>,
    execs: Arc<Semaphore>,
}

impl Target {
    fn of(live: Live) -> Target {
        Target { container: live.container, module: live.program.module, execs: live.execs }
    }
}

/// A container with someone at its streams.
pub(crate) struct Attached {
    pub container: Arc<Container>,
    pub output: mpsc::Receiver<(LogStream, Bytes)>,
    pub stdin_once: bool,
    pub tty: bool,
}

/// A command that runs; dropping it kills it.
pub(crate) struct Running {
    exec: Exec,
    _permit: OwnedSemaphorePermit,
}

impl Running {
    pub async fn exit(&mut self) -> copepod_runtime_wasm::Exit {
        self.exec.exit().await
    }
}

impl Door {
    pub(super) fn new(containers: Arc<Containers>, network: Network, shelf: Shelf) -> Door {
        Door { containers, network, shelf: Arc::new(shelf) }
    }

    /// What the pods in which something runs have used so far.
    pub fn usage(&self) -> Vec<PodReading> {
        self.containers.usage()
    }

    /// The volumes that are measured, as they were last.
    pub fn volumes(&self) -> Vec<VolumeUse> {
        self.containers.volumes()
    }

    /// Bytes that images take, with what was compiled from them. Blocks on the disk.
    pub fn image_bytes(&self) -> Option<u64> {
        self.shelf.bytes()
    }

    pub fn network(&self) -> Network {
        self.network.clone()
    }

    /// A pod by its name.
    pub fn find(&self, namespace: &str, name: &str) -> Option<Found> {
        self.containers.find(namespace, name).map(|(uid, ip)| Found { uid, ip })
    }

    /// A container that runs, for commands beside it.
    pub fn running(&self, pod: &Found, container: &str) -> Result<Target, String> {
        let live = self.containers.running(&pod.uid, container);
        live.map(Target::of).ok_or_else(|| format!("container not found (\"{container}\")"))
    }

    /// An attempt that runs or is about to, once it runs; `None` when it has ended.
    pub async fn attempt(&self, id: &ContainerId) -> Option<Target> {
        self.containers.attempt(id).await.map(Target::of)
    }

    /// A pod that is attached.
    pub fn identity(&self, uid: &str) -> Option<PodIdentity> {
        self.containers.identity(uid)
    }

    /// The streams of a container that runs.
    pub fn attach(&self, pod: &Found, container: &str) -> Result<Attached, String> {
        let live = self.containers.running(&pod.uid, container);
        let live = live.ok_or_else(|| format!("container not found (\"{container}\")"))?;
        let (stdin_once, tty) = (live.program.stdin_once, live.program.tty);
        Ok(Attached { output: live.log.tap(BEHIND), container: live.container, stdin_once, tty })
    }

    /// Runs a command; the error is in the runtime's words.
    pub async fn exec(
        &self,
        target: &Target,
        command: Vec<String>,
        stdin: Stdin,
        output: Output,
        tty: bool,
    ) -> Result<Running, String> {
        let refused = |why: String| format!("failed to exec in container: {why}");
        let Some(first) = command.first() else { return Err(refused("no command is given".into())) };
        let Ok(permit) = target.execs.clone().try_acquire_owned() else {
            return Err(refused("too many commands run in this pod".into()));
        };
        let own = &target.module;
        let (module, export) = match program(&command, own.has_command(), |name| own.exports(name)) {
            Program::Own => (own.clone(), None),
            Program::Exported(name) => (own.clone(), Some(name.to_owned())),
            Program::Toolbox => (self.containers.module(toolbox::digest()).await.map_err(refused)?, None),
            Program::Missing => {
                return Err(refused(format!("exec: {first:?}: executable file not found in $PATH")));
            }
        };
        let process = Process { export, args: command, stdin, output, tty };
        Ok(Running { exec: self.containers.exec(&target.container, module, process), _permit: permit })
    }
}
