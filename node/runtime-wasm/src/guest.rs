//! Polling a guest: count its time, throttle it, keep the epoch ticking, and end it at once when it is to die.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::Instant;

use tokio::time::Sleep;

use crate::container::Shared;

/// The guest was killed.
#[derive(Debug, thiserror::Error)]
#[error("killed")]
pub(crate) struct Killed;

/// Runs a guest to its end, or until its container is killed; then it is up to the caller to drop it. `polled` is
/// called each time the guest has run.
pub(crate) async fn run<F: Future>(
    container: &Shared,
    mut guest: Pin<&mut F>,
    mut polled: impl FnMut(&mut Poll<F::Output>),
) -> Result<F::Output, Killed> {
    let mut killed = pin!(container.kill.notified());
    let mut pause: Option<Pin<Box<Sleep>>> = None;
    poll_fn(move |cx| {
        if container.is_killed() {
            return Poll::Ready(Err(Killed));
        }
        let paused = pause.as_mut().is_some_and(|sleep| sleep.as_mut().poll(cx).is_pending());
        if !paused {
            let start = Instant::now();
            let mut result = {
                let _running = container.ticker.run();
                guest.as_mut().poll(cx)
            };
            let now = Instant::now();
            let throttled = container.cpu.spend(now - start, now);
            polled(&mut result);
            if let Poll::Ready(output) = result {
                return Poll::Ready(Ok(output));
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
