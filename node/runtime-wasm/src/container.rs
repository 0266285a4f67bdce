//! A container: what all of its instances share, and how it ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use copepod_node_plan::{ContainerId, ContainerSpec, PodIdentity};
use tokio::sync::{Notify, mpsc, oneshot};
use wasmtime_wasi_config::WasiConfigVariables;

use crate::capability::filesystem::Preopens;
use crate::capability::filesystem::open::Files;
use crate::capability::filesystem::volume::PodMemory;
use crate::counted::Counter;
use crate::cpu::{Cpu, Throttling};
use crate::exit::Exit;
use crate::handler::{Handler, HttpHandler};
use crate::lograte::Limited;
use crate::logs::{LogSink, LogStream};
use crate::memory::{Budget, OutOfMemory};
use crate::net::PodNetwork;
use crate::process::Stdin;
use crate::reuse::Idle;
use crate::threads::Threads;
use crate::ticker::Ticker;

/// After a container has ended, requests that it still answers may take so long.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// What has been used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time of all instances.
    pub cpu: Duration,
    /// The working set in bytes: memories, tables, what is usually touched of stacks, and what the host holds for the
    /// live instances.
    pub memory: u64,
    /// The most that `memory` has been.
    pub memory_peak: u64,
    /// Requests that are being answered, and connections that were accepted and are not closed yet.
    pub requests: u64,
    /// Sockets of the whole pod.
    pub sockets: u32,
    /// Files that its guests have open.
    pub files: u32,
    /// What the CPU limit has done.
    pub throttling: Throttling,
}

/// A started container. Dropping it kills it.
pub struct Container {
    pub(crate) shared: Arc<Shared>,
    pub(crate) handler: Option<Arc<Handler>>,
}

impl Container {
    /// Which one.
    pub fn id(&self) -> &ContainerId {
        &self.shared.id
    }

    /// Who answers its requests, if it is a `wasi:http` component.
    pub fn handler(&self) -> Option<Arc<dyn HttpHandler>> {
        self.handler.clone().map(|handler| handler as _)
    }

    /// What it has used.
    pub fn usage(&self) -> Usage {
        let Shared { cpu, memory, requests, sockets, files, .. } = &*self.shared;
        Usage {
            cpu: cpu.total(),
            memory: memory.used(),
            memory_peak: memory.peak(),
            requests: requests.load(SeqCst),
            sockets: sockets.now(),
            files: files.own.now(),
            throttling: cpu.throttling(),
        }
    }

    /// Limits it otherwise from now on: memory in bytes, CPU in millicores, and its request of CPU, which is its weight. A
    /// memory limit below what it holds is refused, and nothing changes.
    pub fn resize(&self, memory: Option<u64>, cpu_limit: Option<u32>, cpu_request: u32) -> Result<(), String> {
        self.shared.memory.resize(memory)?;
        self.shared.cpu.resize(cpu_limit, cpu_request, Instant::now());
        Ok(())
    }

    /// Lets it end: no new requests and no new connections; requests that are being answered and connections that were
    /// accepted may finish within `grace`, then it is killed. A command gets no signal in wasm: with nothing open it ends
    /// as one that does not handle SIGTERM, at once. The exit is reported as always.
    pub async fn stop(&self, grace: Duration) {
        self.shared.draining.store(true, SeqCst);
        self.shared.idle.clear();
        self.shared.net.stop_listening();
        let drained = tokio::time::timeout(grace, self.shared.drained()).await;
        self.shared.end(match drained {
            Ok(()) if self.handler.is_some() => Exit::with_code(0),
            Ok(()) => Exit::terminated(),
            Err(_) => Exit::killed(),
        });
        self.shared.kill_guests();
    }

    /// The end that feeds its standard input, if it has one and that has not ended.
    pub fn stdin(&self) -> Option<mpsc::Sender<Bytes>> {
        let (_, feed) = self.shared.stdin.as_ref()?;
        feed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends its standard input, as soon as nobody else feeds it.
    pub fn end_stdin(&self) {
        if let Some((_, feed)) = &self.shared.stdin {
            feed.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }

    /// Ends its own program as ^C on its terminal would.
    pub fn interrupt(&self) {
        self.shared.end(Exit::with_code(130));
        self.shared.kill_guests();
    }

    /// Ends it at once.
    pub fn kill(&self) {
        self.shared.end(Exit::killed());
        self.shared.kill_guests();
    }
}

/// A command that runs beside a container's own program. Dropping it kills it.
pub struct Exec(pub(crate) oneshot::Receiver<Exit>);

impl Exec {
    /// Waits for its end.
    pub async fn exit(&mut self) -> Exit {
        (&mut self.0).await.unwrap_or_else(|_| Exit::killed())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.kill();
    }
}

type OnExit = Box<dyn FnOnce(Exit) + Send>;

/// What the instances of a container share.
pub(crate) struct Shared {
    pub(crate) id: ContainerId,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) working_dir: String,
    pub(crate) preopens: Preopens,
    /// Standard input and the end that feeds it, of a container that has one; the feed is taken to end it.
    pub(crate) stdin: Option<(Stdin, Mutex<Option<mpsc::Sender<Bytes>>>)>,
    pub(crate) config: WasiConfigVariables,
    /// What a request without a `Host` header was sent to.
    pub(crate) authority: String,
    pub(crate) net: Arc<dyn PodNetwork>,
    pub(crate) logs: Arc<Limited>,
    pub(crate) memory: Arc<Budget>,
    pub(crate) cpu: Cpu,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) threads: Threads,
    pub(crate) sockets: Arc<Counter>,
    pub(crate) files: Files,
    pub(crate) idle: Arc<Idle>,
    /// No new requests.
    draining: AtomicBool,
    pub(crate) killed: AtomicBool,
    pub(crate) kill: Notify,
    requests: AtomicU64,
    answered: Notify,
    on_exit: Mutex<Option<OnExit>>,
}

impl Shared {
    #[allow(clippy::too_many_arguments)] // one caller, and each of them is stored
    pub(crate) fn new(
        id: ContainerId,
        spec: &ContainerSpec,
        pod: &PodIdentity,
        net: Arc<dyn PodNetwork>,
        logs: Arc<dyn LogSink>,
        ticker: Arc<Ticker>,
        threads: Threads,
        sockets: Arc<Counter>,
        open_files: Arc<Counter>,
        pod_memory: Option<Arc<PodMemory>>,
        initial_memory: u64,
        on_exit: OnExit,
    ) -> Self {
        let mut env: Vec<(String, String)> = Vec::with_capacity(spec.env.len() + 1);
        if !spec.env.iter().any(|(name, _)| name == "HOSTNAME") {
            env.push(("HOSTNAME".to_owned(), pod.hostname.to_string()));
        }
        for (name, value) in &spec.env {
            // Later ones win, at the place of the first.
            match env.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.clone_from(value),
                None => env.push((name.clone(), value.clone())),
            }
        }
        // Preview 1 has no word for the working directory; its libraries look here.
        if !spec.working_dir.is_empty() && !env.iter().any(|(name, _)| name == "PWD") {
            env.push(("PWD".to_owned(), spec.working_dir.clone()));
        }
        let args = std::iter::once(id.container.to_string()).chain(spec.args.iter().cloned()).collect();
        let files = Files { own: Counter::new(spec.limits.files), node: open_files };
        let now = Instant::now();
        let port = spec.ports.iter().find(|(_, _, protocol)| protocol == "TCP").map_or(80, |(_, port, _)| *port);
        Shared {
            args,
            config: env.iter().cloned().collect(),
            env,
            working_dir: spec.working_dir.clone(),
            preopens: Preopens::new(spec, files.clone(), pod_memory.as_ref(), &threads.light),
            stdin: spec.stdin.then(|| {
                let (feed, stdin) = Stdin::new(spec.tty);
                (stdin, Mutex::new(Some(feed)))
            }),
            authority: std::net::SocketAddr::new(pod.ip, port).to_string(),
            net,
            logs: Arc::new(Limited::new(logs, spec.limits.log_rate, spec.limits.log_burst, now)),
            memory: Arc::new(Budget::new(spec.memory_limit, pod_memory)),
            cpu: Cpu::new(spec.cpu_limit_millis, spec.limits.cpu_request_millis, threads.count, now),
            ticker,
            threads,
            sockets,
            files,
            idle: Idle::new(spec.limits.instance_reuse, initial_memory),
            draining: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            kill: Notify::new(),
            requests: AtomicU64::new(0),
            answered: Notify::new(),
            on_exit: Mutex::new(Some(on_exit)),
            id,
        }
    }

    pub(crate) fn is_killed(&self) -> bool {
        self.killed.load(SeqCst)
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// The container has ended; only the first time counts. Instances that still run are left alone.
    pub(crate) fn end(&self, exit: Exit) {
        self.draining.store(true, SeqCst);
        self.idle.clear();
        let on_exit = self.on_exit.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_exit) = on_exit {
            if !exit.message.is_empty() {
                self.logs.urgent(LogStream::Stderr, format!("{}\n", exit.message).as_bytes());
            }
            on_exit(exit);
        }
    }

    /// The container has ended because one request has failed. The others may finish, but not for ever.
    pub(crate) fn end_but_answer(self: &Arc<Self>, exit: Exit) {
        self.end(exit);
        let shared = self.clone();
        self.threads.light.spawn(async move {
            let _ = tokio::time::timeout(LAST_REQUESTS, shared.drained()).await;
            shared.kill_guests();
        });
    }

    /// The container has used more memory than it may, in what the host holds for it.
    pub(crate) fn out_of_memory(&self, error: OutOfMemory) {
        self.end(Exit::from_error(&error.into()));
        self.kill_guests();
    }

    pub(crate) fn kill_guests(&self) {
        self.killed.store(true, SeqCst);
        self.kill.notify_waiters();
        self.idle.clear();
    }

    /// Waits until no request is being answered, and no accepted connection is open.
    async fn drained(&self) {
        loop {
            let answered = self.answered.notified();
            if self.requests.load(SeqCst) == 0 {
                return;
            }
            answered.await;
        }
    }

    /// Runs something that belongs to a guest beside it; it dies with the container.
    pub(crate) fn spawn<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<Option<T>> {
        let shared = self.clone();
        self.threads.light.spawn(async move {
            let mut killed = std::pin::pin!(shared.kill.notified());
            killed.as_mut().enable();
            if shared.is_killed() {
                return None;
            }
            tokio::select! {
                biased;
                () = killed => None,
                output = work => Some(output),
            }
        })
    }
}

/// A request that is being answered, or a connection that was accepted.
pub(crate) struct InFlight(pub(crate) Arc<Shared>);

impl InFlight {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        shared.requests.fetch_add(1, SeqCst);
        InFlight(shared.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.requests.fetch_sub(1, SeqCst) == 1 {
            self.0.answered.notify_waiters();
        }
    }
}
