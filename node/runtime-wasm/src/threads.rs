//! Threads for guests and for the compiler: below everything else of the node.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use crate::shares::Places;

/// Below Raft, the API and DNS, which must not wait for a guest that spins.
const GUESTS: i32 = 5;
/// Guests that compute for long, below those that answer at once.
const HEAVY: i32 = 8;
/// Below the guests: what runs comes before what is only about to.
const COMPILER: i32 = 10;

/// Which threads the calling one belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not for guests.
    Other,
    /// For guests that give way soon.
    Light,
    /// For guests that compute.
    Heavy,
}

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Other) };
    /// The guest that was polled last belongs to the other threads.
    static MOVE_ON: Cell<bool> = const { Cell::new(false) };
    /// A tick made a guest give way.
    static TICKED: Cell<bool> = const { Cell::new(false) };
}

/// The calling thread's kind.
pub(crate) fn kind() -> Kind {
    KIND.get()
}

/// Says that the guest that is being polled should go on on the other threads.
pub(crate) fn move_on() {
    MOVE_ON.set(true);
}

/// Says that a tick makes the guest give way that is being polled.
pub(crate) fn ticked() {
    TICKED.set(true);
}

/// Whether that has happened since the last question.
pub(crate) fn take_ticked() -> bool {
    TICKED.replace(false)
}

/// A guest's work.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The two runtimes that poll guests. Dropping them ends all guests.
///
/// A guest begins on the light threads. Once it has used up a slice it moves to the heavy ones, where there are as many
/// places as CPUs, given by weight ([`Places`]); when it waits for something it may come back. The kernel lets the light
/// threads go first, since they sleep more and are less nice. So a short request does not wait for those that compute.
pub(crate) struct GuestThreads {
    light: Option<tokio::runtime::Runtime>,
    heavy: Option<tokio::runtime::Runtime>,
    handles: Threads,
}

/// Handles on them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Threads {
    pub(crate) light: tokio::runtime::Handle,
    heavy: tokio::runtime::Handle,
    pub(crate) places: Places,
    pub(crate) count: usize,
}

impl GuestThreads {
    pub(crate) fn new(threads: Option<usize>) -> io::Result<Self> {
        let count = threads.unwrap_or_else(cpus).max(1);
        let light = runtime("guest", count, GUESTS, Kind::Light)?;
        let heavy = runtime("guest-heavy", count, HEAVY, Kind::Heavy)?;
        let handles =
            Threads { light: light.handle().clone(), heavy: heavy.handle().clone(), places: Places::new(count), count };
        Ok(GuestThreads { light: Some(light), heavy: Some(heavy), handles })
    }

    pub(crate) fn handles(&self) -> &Threads {
        &self.handles
    }
}

fn runtime(name: &str, threads: usize, nice: i32, kind: Kind) -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .on_thread_start(move || {
            KIND.set(kind);
            lower_priority(nice);
        })
        // Every poll may last a whole tick when guests spin: look for timers and sockets often.
        .event_interval(4)
        .global_queue_interval(4)
        .enable_all()
        .build()
}

impl Threads {
    /// Runs a guest where it belongs, and moves it when that changes. `busy`: begin among those that compute.
    pub(crate) fn spawn(&self, work: Work, busy: bool) {
        let runtime = if busy { &self.heavy } else { &self.light };
        runtime.spawn(Moving { work: Some(work), threads: self.clone() });
    }

    /// Polls a guest on the calling thread, which is one for guests. Takes it away when it has ended or goes on elsewhere.
    pub(crate) fn poll_here(&self, work: &mut Option<Work>, cx: &mut Context<'_>) {
        let Some(guest) = work else { return };
        MOVE_ON.set(false);
        if guest.as_mut().poll(cx).is_ready() {
            *work = None;
        } else if MOVE_ON.replace(false)
            && let Some(work) = work.take()
        {
            self.spawn(work, kind() == Kind::Light);
        }
    }
}

/// Work on one kind of threads, until it moves.
struct Moving {
    work: Option<Work>,
    threads: Threads,
}

impl Future for Moving {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Moving { work, threads } = &mut *self;
        threads.poll_here(work, cx);
        if work.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for GuestThreads {
    fn drop(&mut self) {
        for runtime in [self.light.take(), self.heavy.take()].into_iter().flatten() {
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn nice() -> i32 {
        rustix::process::getpriority_process(None).unwrap()
    }

    #[tokio::test]
    async fn threads_are_below_the_rest_of_the_node() {
        // Who is nicer already may not be allowed to be less so.
        if nice() > GUESTS {
            return;
        }
        let (own, guests) = (nice(), GuestThreads::new(Some(1)).unwrap());
        let threads = guests.handles();
        assert_eq!(threads.light.spawn(async { nice() }).await.unwrap(), GUESTS);
        assert_eq!(threads.heavy.spawn(async { nice() }).await.unwrap(), HEAVY);
        assert_eq!(on_compilers(nice), COMPILER);
        assert_eq!(nice(), own, "the calling thread keeps its own");
    }
}
