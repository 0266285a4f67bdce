//! How the disk does: how long the log's durable commits take, and whether one hangs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

/// A commit that takes longer than this is worth a word.
const SLOW: Duration = Duration::from_secs(2);
/// How often the disk is looked at when nobody asks: whoever waits for a commit that hangs can say nothing.
pub(super) const LOOK: Duration = Duration::from_secs(2);

/// What the driver tells, and everyone may read.
#[derive(Debug)]
pub(super) struct Disk {
    start: Instant,
    /// When the commit that is under way began: nanoseconds after `start`, and one more; 0 when there is none.
    began: AtomicU64,
    /// How long the last one took, in nanoseconds.
    last: AtomicU64,
    /// Whether the log has a word on the commit that is under way.
    said: AtomicBool,
    durations: Histogram,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk {
            start: Instant::now(),
            began: AtomicU64::new(0),
            last: AtomicU64::new(0),
            said: AtomicBool::new(false),
            // From a quarter of a millisecond to eight seconds.
            durations: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
        }
    }
}

impl Disk {
    /// A commit begins.
    pub(super) fn begin(&self) {
        self.said.store(false, Ordering::Relaxed);
        self.began.store(self.elapsed() + 1, Ordering::Release);
    }

    /// It is over, well or not.
    pub(super) fn end(&self) {
        let Some(began) = self.began.swap(0, Ordering::AcqRel).checked_sub(1) else { return };
        let took = Duration::from_nanos(self.elapsed().saturating_sub(began));
        self.last.store(took.as_nanos() as u64, Ordering::Relaxed);
        self.durations.observe(took.as_secs_f64());
        if took > SLOW {
            tracing::warn!(took = ?took, "the disk is slow: a commit of the log took long");
        }
    }

    /// Whether commits go on; the error says since when one does not.
    pub(super) fn check(&self) -> Result<(), String> {
        let began = self.began.load(Ordering::Acquire).checked_sub(1);
        let under_way = began.map(|began| Duration::from_nanos(self.elapsed().saturating_sub(began)));
        let result = judge(under_way, self.last());
        if let Err(why) = &result
            && !self.said.swap(true, Ordering::Relaxed)
        {
            tracing::warn!("{why}");
        }
        result
    }

    /// How long the last commit took; zero before the first.
    fn last(&self) -> Duration {
        Duration::from_nanos(self.last.load(Ordering::Relaxed))
    }

    /// The durations of all commits, in seconds. Clones count the same.
    pub(super) fn durations(&self) -> Histogram {
        self.durations.clone()
    }

    fn elapsed(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }
}

/// Lets somebody look again and again, until the other end of `stop` is gone.
pub(super) fn watch(every: Duration, stop: &Receiver<()>, look: impl Fn()) {
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(every) {
        look();
    }
}

/// What to say of a commit that has been under way this long, when the one before took `last`.
fn judge(under_way: Option<Duration>, last: Duration) -> Result<(), String> {
    match under_way {
        Some(d) if d > SLOW => Err(format!(
            "the disk is slow or stuck: a commit of the log has been under way for {:.1} s; the last one took {:.1} ms",
            d.as_secs_f64(),
            last.as_secs_f64() * 1e3
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_hangs_is_told() {
        let ms = Duration::from_millis;
        assert_eq!(judge(None, ms(9000)), Ok(()));
        assert_eq!(judge(Some(SLOW), ms(1)), Ok(()));
        let expected =
            "the disk is slow or stuck: a commit of the log has been under way for 2.5 s; the last one took 1.5 ms";
        assert_eq!(judge(Some(ms(2500)), Duration::from_micros(1500)), Err(expected.into()));
    }

    #[test]
    fn a_commit_that_hangs_is_noticed_though_nobody_asks() {
        let disk = Disk { start: Instant::now() - 2 * SLOW, ..Disk::default() };
        // It began with the start.
        disk.began.store(1, Ordering::Relaxed);
        let ((keep, stop), (seen, looks)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let watcher = std::thread::spawn(move || {
            watch(Duration::from_millis(1), &stop, || {
                seen.send((disk.check(), disk.said.load(Ordering::Relaxed))).unwrap()
            });
        });
        let (found, said) = looks.recv().unwrap();
        assert!(found.unwrap_err().starts_with("the disk is slow or stuck") && said);
        drop(keep);
        // Looks that nobody waits for end with it.
        let _ = looks.iter().count();
        watcher.join().unwrap();
    }

    #[test]
    fn commits_are_counted_once_they_are_over() {
        let disk = Disk::default();
        disk.end();
        assert_eq!(disk.last(), Duration::ZERO);
        disk.begin();
        assert!(disk.began.load(Ordering::Relaxed) > 0 && disk.check().is_ok());
        disk.end();
        assert!(disk.began.load(Ordering::Relaxed) == 0 && disk.last() > Duration::ZERO);
    }
}
