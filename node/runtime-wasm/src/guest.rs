//! Polling a guest: count its time, throttle it, keep the epoch ticking, and end it at once when it is to die.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Sleep;

use crate::container::Shared;
use crate::threads::{self, Kind};

/// A guest that has run this long when a tick comes goes on among those that compute.
const SLICE: Duration = Duration::from_millis(1);

/// The guest was killed.
#[derive(Debug, thiserror::Error)]
#[error("killed")]
pub(crate) struct Killed;

/// Who waits for a guest.
pub(crate) trait Watcher<T> {
    /// The guest has run.
    fn polled(&mut self, _result: &mut Poll<T>) {}

    /// Whether nobody waits any more; if not, `cx` is woken when that changes.
    fn given_up(&mut self, _cx: &mut Context<'_>) -> bool {
        false
    }
}

/// Nobody in particular.
impl<T> Watcher<T> for () {}

/// Runs a guest to its end, or until its container is killed or nobody waits for it; then it is up to the caller to drop
/// it.
pub(crate) async fn run<F: Future>(
    container: &Shared,
    mut guest: Pin<&mut F>,
    watcher: &mut impl Watcher<F::Output>,
) -> Result<F::Output, Killed> {
    let mut killed = pin!(container.kill.notified());
    let mut pause: Option<Pin<Box<Sleep>>> = None;
    let mut place = None;
    poll_fn(move |cx| {
        if container.is_killed() || watcher.given_up(cx) {
            return Poll::Ready(Err(Killed));
        }
        let paused = pause.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_pending());
        let heavy = threads::kind() == Kind::Heavy;
        let mut may_run = !paused;
        if may_run && heavy {
            let place = place.get_or_insert_with(|| container.threads.places.place(&container.cpu.share));
            may_run = place.poll_take(cx).is_ready();
        }
        if may_run {
            // Inside the kernel's scheduling only the thread's own time is the guest's; a short poll is not worth the
            // system call.
            let used = heavy.then(thread_time);
            threads::take_ticked();
            let start = Instant::now();
            let mut result = {
                let _running = container.ticker.run();
                guest.as_mut().poll(cx)
            };
            let now = Instant::now();
            let spent = match used {
                Some(before) => thread_time().saturating_sub(before),
                None => now - start,
            };
            let throttled = container.cpu.spend(spent, now);
            if heavy {
                container.cpu.share.spend(spent);
            }
            let ticked = threads::take_ticked();
            if let Some(place) = &mut place {
                if ticked && throttled.is_none() && result.is_pending() {
                    place.leave_and_queue(cx);
                } else {
                    place.leave();
                }
            }
            watcher.polled(&mut result);
            if let Poll::Ready(output) = result {
                return Poll::Ready(Ok(output));
            }
            // One that waits for something need not compete for places, unless its container takes much all the same.
            let elsewhere = if heavy { !ticked && !container.cpu.busy() } else { ticked && spent >= SLICE };
            if elsewhere {
                threads::move_on();
            }
            pause = throttled.map(|duration| Box::pin(tokio::time::sleep(duration)));
            if let Some(sleep) = &mut pause
                && sleep.as_mut().poll(cx).is_ready()
            {
                cx.waker().wake_by_ref();
            }
        }
        // Whoever kills sets the flag before it notifies: look again once registered.
        if killed.as_mut().poll(cx).is_ready() || container.killed.load(Relaxed) {
            return Poll::Ready(Err(Killed));
        }
        Poll::Pending
    })
    .await
}

/// The CPU time of the calling thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
