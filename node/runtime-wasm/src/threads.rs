//! Threads for guests and for the compiler: below everything else of the node.

use std::io;
use std::num::NonZero;
use std::sync::LazyLock;

/// Below Raft, the API and DNS, which must not wait for a guest that spins.
const GUESTS: i32 = 5;
/// Below the guests: what runs comes before what is only about to.
const COMPILER: i32 = 10;

/// The runtime that polls guests. Dropping it ends all of them.
pub(crate) struct GuestThreads(Option<tokio::runtime::Runtime>);

impl GuestThreads {
    pub(crate) fn new(threads: Option<usize>) -> io::Result<Self> {
        let threads = threads.unwrap_or_else(cpus);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("guest")
            .on_thread_start(|| lower_priority(GUESTS))
            // Every poll may last a whole tick when guests spin: look for timers and sockets often.
            .event_interval(4)
            .global_queue_interval(4)
            .enable_all()
            .build()?;
        Ok(GuestThreads(Some(runtime)))
    }

    pub(crate) fn handle(&self) -> tokio::runtime::Handle {
        self.0.as_ref().expect("it is there until it is dropped").handle().clone()
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Plain dropping waits for the threads, which panics inside another runtime.
            runtime.shutdown_background();
        }
    }
}

fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The pool that wasmtime compiles functions on; its own would run at normal priority.
static COMPILERS: LazyLock<Option<rayon::ThreadPool>> = LazyLock::new(|| {
    rayon::ThreadPoolBuilder::new()
        .num_threads(cpus())
        .thread_name(|at| format!("compile-{at}"))
        .start_handler(|_| lower_priority(COMPILER))
        .build()
        .inspect_err(|error| tracing::warn!(%error, "no threads to compile on; using the caller's"))
        .ok()
});

/// Runs `work` on the compiler's threads and waits for it.
pub(crate) fn on_compilers<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match &*COMPILERS {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

fn lower_priority(nice: i32) {
    // On Linux a priority belongs to a thread: this changes the calling one only. Elsewhere it would slow down all.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::debug!(%error, "guests run at normal priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}
