//! The node's wasm runtime.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use copepod_node_plan::{ContainerId, ContainerSpec, Descriptors, PodIdentity};
use tokio::sync::oneshot;
use wasmtime::{Engine, PoolConcurrencyLimitError};

use crate::artifacts::Artifacts;
use crate::capability::filesystem::NoVolume;
use crate::capability::filesystem::volume::PodMemory;
use crate::compile::{CompileError, Compiler, Source};
use crate::container::{Container, Exec, Shared};
use crate::counted::{Counter, OfPods};
use crate::engine::{self, Capacity};
use crate::exit::Exit;
use crate::exports::{self, RUN};
use crate::guest;
use crate::handler::Handler;
use crate::host::{Host, Preview1Host};
use crate::logs::LogSink;
use crate::memory::Limiter;
use crate::module::{Code, Module};
use crate::net::PodNetwork;
use crate::process::Process;
use crate::threads::GuestThreads;
use crate::ticker::Ticker;

/// How to run guests.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Compiled modules are kept under `<data_dir>/compiled`.
    pub data_dir: PathBuf,
    /// Threads for guests; `None` means one per CPU.
    pub threads: Option<usize>,
    /// How often running guests give way to each other.
    pub tick: Duration,
    /// Files that all guests together may have open.
    pub files: u32,
}

impl RuntimeConfig {
    /// The usual settings.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let tick = Duration::from_millis(2);
        let files = Descriptors::default().files;
        RuntimeConfig { data_dir: data_dir.into(), threads: None, tick, files }
    }
}

/// Why there is no runtime.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// The folder of compiled modules, or a thread.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The engine.
    #[error("wasmtime: {0}")]
    Engine(String),
}

/// Why a container could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The module was compiled for something else.
    #[error("the container wants {wanted}, but the module is {given}")]
    OtherModule {
        /// The digest in the spec.
        wanted: String,
        /// The digest of the module.
        given: String,
    },
}

/// Runs wasm containers. One per node.
pub struct Runtime {
    engine: Engine,
    capacity: Capacity,
    compiler: Arc<Compiler>,
    ticker: Arc<Ticker>,
    guests: GuestThreads,
    sockets: OfPods<Counter>,
    memory: OfPods<PodMemory>,
    files: Arc<Counter>,
}

impl Runtime {
    /// Makes the engine and starts its threads.
    pub fn new(config: &RuntimeConfig) -> Result<Self, RuntimeError> {
        let engine_error = |error: wasmtime::Error| RuntimeError::Engine(format!("{error:#}"));
        let (engine, capacity) = engine::new().map_err(engine_error)?;
        let artifacts = Artifacts::open(&config.data_dir, &engine)?;
        let compiler = Arc::new(Compiler::new(&engine, artifacts).map_err(engine_error)?);
        let weak = engine.weak();
        let tick = move || {
            if let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
            }
        };
        let ticker = Arc::new(Ticker::start(config.tick, tick)?);
        let guests = GuestThreads::new(config.threads)?;
        Ok(Runtime {
            engine,
            capacity,
            compiler,
            ticker,
            guests,
            sockets: OfPods::default(),
            memory: OfPods::default(),
            files: Counter::new(config.files),
        })
    }

    /// How many instances fit, and what bounds it.
    pub fn capacity(&self) -> &Capacity {
        &self.capacity
    }

    /// Bytes on disk of what was compiled from `digest`.
    pub fn artifact_size(&self, digest: &str) -> u64 {
        self.compiler.artifacts.size(digest)
    }

    /// Deletes what was compiled from `digest`: the bytes that were. What runs goes on.
    pub fn remove_artifact(&self, digest: &str) -> io::Result<u64> {
        self.compiler.artifacts.remove(digest)
    }

    /// Deletes what was compiled from anything but `wanted`, or by another compiler.
    pub fn sweep_artifacts(&self, wanted: impl Fn(&str) -> bool) {
        if let Err(error) = self.compiler.artifacts.sweep(wanted) {
            tracing::warn!(%error, "old compiled modules stay");
        }
    }

    /// The threads that answer requests. Whoever serves connections there calls [`HttpHandler::handle`] without a
    /// hand-over to another thread.
    pub fn serving(&self) -> tokio::runtime::Handle {
        self.guests.handles().light.clone()
    }

    /// Bytes in the volumes in memory of a pod in which something runs.
    pub fn in_memory_volumes(&self, uid: &str) -> u64 {
        self.memory.get(uid).map_or(0, |memory| memory.in_volumes())
    }

    /// The module with this digest, compiled if need be. Everyone who asks for a digest at the same time gets the same.
    /// The caller vouches that `wasm` has the digest.
    pub async fn compile(&self, digest: &str, wasm: Bytes) -> Result<Arc<Module>, CompileError> {
        self.compile_from(digest, Source::Bytes(wasm)).await
    }

    /// As [`Runtime::compile`]; the file is read only if the compiled module is not at hand.
    pub async fn compile_file(&self, digest: &str, path: &Path) -> Result<Arc<Module>, CompileError> {
        self.compile_from(digest, Source::File(path.to_owned())).await
    }

    async fn compile_from(&self, digest: &str, source: Source) -> Result<Arc<Module>, CompileError> {
        // A task of its own, so that a caller who gives up does not take the others' module away.
        let work = self.guests.handles().light.spawn(self.compiler.clone().module(digest.to_owned(), source));
        work.await.unwrap_or_else(|error| Err(CompileError::Compiler(error.to_string())))
    }

    /// Starts a container. `on_exit` is called once, when it has ended for whatever reason; a `wasi:http` component
    /// also ends when one of its requests traps. Called on a guest's or the caller's thread: must not wait.
    #[allow(clippy::too_many_arguments)] // what a container is made of
    pub fn start(
        &self,
        id: ContainerId,
        spec: &ContainerSpec,
        pod: &PodIdentity,
        module: Arc<Module>,
        net: Arc<dyn PodNetwork>,
        logs: Arc<dyn LogSink>,
        on_exit: impl FnOnce(Exit) + Send + 'static,
    ) -> Result<Container, StartError> {
        if spec.digest != module.digest {
            return Err(StartError::OtherModule { wanted: spec.digest.clone(), given: module.digest.clone() });
        }
        let threads = self.guests.handles().clone();
        let ticker = self.ticker.clone();
        let sockets = self.sockets.of(&id.pod_uid, || Counter::new(spec.limits.sockets));
        let in_memory = pod.memory_limit.is_some() || spec.mounts.iter().any(|m| m.memory.is_some());
        let memory = in_memory.then(|| self.memory.of(&id.pod_uid, || PodMemory::new(pod.memory_limit)));
        let (files, on_exit, initial) = (self.files.clone(), Box::new(on_exit), module.initial_memory);
        let shared =
            Shared::new(id, spec, pod, net, logs, ticker, threads.clone(), sockets, files, memory, initial, on_exit);
        let shared = Arc::new(shared);
        if let Code::Http(_) = module.code {
            let deadline = spec.limits.request_deadline;
            let handler = Handler { shared: shared.clone(), module, engine: self.engine.clone(), deadline };
            return Ok(Container { shared, handler: Some(Arc::new(handler)) });
        }
        threads.spawn(Box::pin(run_command(self.engine.clone(), shared.clone(), module)), false);
        Ok(Container { shared, handler: None })
    }

    /// Runs a command in a fresh instance that shares a container's environment, network, mounts, memory limit and CPU
    /// quota. It dies with the container, and when the answer is dropped.
    pub fn exec(&self, container: &Container, module: Arc<Module>, process: Process) -> Exec {
        let (engine, shared) = (self.engine.clone(), container.shared.clone());
        let (mut sender, exit) = oneshot::channel();
        let work = async move {
            let ended = tokio::select! {
                exit = run_to_end(&engine, &shared, &module, Some(Arc::new(process))) => Some(exit),
                () = sender.closed() => None,
            };
            if let Some(exit) = ended {
                let _ = sender.send(exit);
            }
        };
        self.guests.handles().spawn(Box::pin(work), false);
        Exec(exit)
    }
}

/// Runs a command to its end and reports it.
async fn run_command(engine: Engine, container: Arc<Shared>, module: Arc<Module>) {
    let exit = run_to_end(&engine, &container, &module, None).await;
    container.end(exit);
    container.kill_guests();
}

/// Runs a command in an instance of its own: the container's program, or a process beside it.
async fn run_to_end(engine: &Engine, container: &Arc<Shared>, module: &Module, process: Option<Arc<Process>>) -> Exit {
    let limiter = container.memory.limiter();
    let guest = command(engine, container.clone(), module, limiter, process);
    match guest::run(container, pin!(guest), &mut ()).await {
        Ok(Ok(code)) => Exit::with_code(code),
        Ok(Err(error)) if error.is::<PoolConcurrencyLimitError>() || error.is::<NoVolume>() => {
            Exit::not_started(&error)
        }
        Ok(Err(error)) if error.is::<guest::Killed>() => Exit::killed(),
        Ok(Err(error)) => Exit::from_error(&error),
        Err(guest::Killed) => Exit::killed(),
    }
}

async fn command(
    engine: &Engine,
    container: Arc<Shared>,
    module: &Module,
    limiter: Limiter,
    process: Option<Arc<Process>>,
) -> wasmtime::Result<i32> {
    let export = process.as_ref().and_then(|p| p.export.clone());
    let component = |wanted: &str| {
        let missing = || wasmtime::Error::msg(format!("the component exports no command {wanted}"));
        exports::find(&module.exports, wanted).ok_or_else(missing)
    };
    match (&module.code, export) {
        (Code::Command(pre), None) => {
            let mut store = Host::store_of(engine, container, limiter, process);
            let command = pre.instantiate_async(&mut store).await?;
            let ended = command.wasi_cli_run().call_run(&mut store).await?;
            Ok(if ended.is_ok() { 0 } else { 1 })
        }
        (Code::Command(pre), Some(name)) => {
            let store = Host::store_of(engine, container, limiter, process);
            exports::call(pre.instance_pre(), store, component(&name)?).await
        }
        (Code::Http(pre), name) => {
            let store = Host::store_of(engine, container, limiter, process);
            exports::call(pre.instance_pre(), store, component(name.as_deref().unwrap_or(RUN))?).await
        }
        (Code::Preview1(pre), name) => {
            let store = Preview1Host::store(engine, container, limiter, process.as_deref())?;
            exports::call_core(pre, store, name.as_deref().unwrap_or("_start")).await
        }
    }
}
