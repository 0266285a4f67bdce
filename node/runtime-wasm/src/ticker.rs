//! The clock of the epoch: it makes running guests give way, and rests when none runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// It rests after so many ticks without a guest, so that a steady trickle of requests does not wake it each time.
const IDLE_TICKS: u32 = 10;

/// Ticks while guests run.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

struct Shared {
    running: AtomicUsize,
    resting: AtomicBool,
    ended: AtomicBool,
}

/// A guest that is running now.
pub(crate) struct Running<'a>(&'a Shared);

impl Ticker {
    /// Calls `tick` every `period` while guests run.
    pub(crate) fn start(period: Duration, tick: impl Fn() + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            running: AtomicUsize::new(0),
            resting: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let mine = shared.clone();
        let thread = thread::Builder::new().name("epoch".into()).spawn(move || {
            let mut idle = 0;
            while !mine.ended.load(SeqCst) {
                if mine.running.load(SeqCst) > 0 {
                    idle = 0;
                } else {
                    idle += 1;
                    if idle > IDLE_TICKS {
                        mine.rest();
                        idle = 0;
                        continue;
                    }
                }
                thread::sleep(period);
                tick();
            }
        })?;
        Ok(Ticker { shared, thread })
    }

    /// Says that a guest runs until the answer is dropped.
    pub(crate) fn run(&self) -> Running<'_> {
        self.shared.running.fetch_add(1, SeqCst);
        if self.shared.resting.load(SeqCst) {
            self.thread.thread().unpark();
        }
        Running(&self.shared)
    }
}

impl Shared {
    fn rest(&self) {
        self.resting.store(true, SeqCst);
        // A guest that came between the two sees `resting`, or is seen here.
        while self.running.load(SeqCst) == 0 && !self.ended.load(SeqCst) {
            thread::park();
        }
        self.resting.store(false, SeqCst);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.thread.thread().unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn it_ticks_while_a_guest_runs_and_rests_when_none_does() {
        let (sent, ticks) = mpsc::channel();
        let ticker = Ticker::start(Duration::from_micros(100), move || {
            let _ = sent.send(()); // the last tick may find nobody
        })
        .unwrap();
        // Only so many ticks come without a guest ...
        while !ticker.shared.resting.load(SeqCst) {
            thread::yield_now();
        }
        assert_eq!(ticks.try_iter().count() as u32, IDLE_TICKS);
        // ... and as many as one waits for with one.
        let running = ticker.run();
        for _ in 0..3 * IDLE_TICKS {
            ticks.recv().unwrap();
        }
        drop(running);
        while !ticker.shared.resting.load(SeqCst) {
            thread::yield_now();
        }
        drop(ticker);
        assert!(ticks.iter().count() < 1_000_000, "the thread ends, and the channel with it");
    }
}
