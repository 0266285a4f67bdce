//! The CPU time of a container: counted, throttled as a cgroup's quota would, and weighed against that of others.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::shares::Share;

/// The length of a quota's period, the kernel's default; and over which it is told who is busy.
const PERIOD: Duration = Duration::from_millis(100);

/// What a quota has done so far, as a cgroup's `cpu.stat` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the container ran.
    pub periods: u64,
    /// Those in which it was paused.
    pub throttled: u64,
    /// How long it was paused.
    pub time: Duration,
}

/// What a container has used and may use.
pub(crate) struct Cpu {
    total: AtomicU64,
    /// Nanoseconds used in the period that `busy_at` numbers.
    busy: AtomicU64,
    busy_at: AtomicU64,
    since: Instant,
    /// What counts as busy in one period, in nanoseconds.
    busy_from: u64,
    quota: Quota,
    pub(crate) share: Arc<Share>,
}

struct Quota {
    /// In nanoseconds; 0 without a limit.
    per_period: AtomicU64,
    period: Mutex<Period>,
}

struct Period {
    start: Instant,
    used: Duration,
    stat: Throttling,
    /// When the pause ends that was counted last.
    paused_until: Instant,
}

impl Cpu {
    /// `request_millis` weighs it, `cpus` is how many it could use at once.
    pub(crate) fn new(limit_millis: Option<u32>, request_millis: u32, cpus: usize, now: Instant) -> Self {
        let periods = u64::from(limit_millis.is_some());
        let quota = Quota {
            per_period: AtomicU64::new(per_period(limit_millis)),
            period: Mutex::new(Period {
                start: now,
                used: Duration::ZERO,
                stat: Throttling { periods, ..Throttling::default() },
                paused_until: now,
            }),
        };
        Cpu {
            total: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            busy_at: AtomicU64::new(0),
            since: now,
            busy_from: PERIOD.as_nanos() as u64 * cpus as u64 / 4,
            quota,
            share: Arc::new(Share::new(request_millis)),
        }
    }

    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.total.load(Relaxed))
    }

    pub(crate) fn throttling(&self) -> Throttling {
        self.quota.period.lock().unwrap_or_else(PoisonError::into_inner).stat
    }

    /// Limits and weighs it otherwise. A limit begins with a period of its own; who pauses now pauses as long as it was told.
    pub(crate) fn resize(&self, limit_millis: Option<u32>, request_millis: u32, now: Instant) {
        let mut period = self.quota.period.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, after) = (&self.quota.per_period, per_period(limit_millis));
        if before.swap(after, Relaxed) != after && after > 0 {
            (period.start, period.used, period.paused_until) = (now, Duration::ZERO, now);
            period.stat.periods += 1;
        }
        self.share.resize(request_millis);
    }

    /// Whether it has taken so much of the node lately that others go first. A rough answer, from the period before.
    pub(crate) fn busy(&self) -> bool {
        self.busy.load(Relaxed) >= self.busy_from
    }

    /// Books time that was spent until `now`. Answers how long the container has to pause, if its quota is used up.
    pub(crate) fn spend(&self, spent: Duration, now: Instant) -> Option<Duration> {
        let nanos = spent.as_nanos() as u64;
        self.total.fetch_add(nanos, Relaxed);
        let at = (now.saturating_duration_since(self.since).as_nanos() / PERIOD.as_nanos()) as u64;
        if self.busy_at.swap(at, Relaxed) == at {
            self.busy.fetch_add(nanos, Relaxed);
        } else {
            self.busy.store(nanos, Relaxed);
        }
        let limit = || Some(Duration::from_nanos(self.quota.per_period.load(Relaxed))).filter(|d| !d.is_zero());
        limit()?;
        let mut period = self.quota.period.lock().unwrap_or_else(PoisonError::into_inner);
        // It changes under the lock alone.
        let per_period = limit()?;
        let passed = now.saturating_duration_since(period.start).as_nanos() / PERIOD.as_nanos();
        if passed > 0 {
            // What was overdrawn is paid for by the next periods; what was left over is lost.
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            period.start += PERIOD * passed;
            period.used = period.used.saturating_sub(per_period.saturating_mul(passed));
            period.stat.periods += 1;
        }
        period.used += spent;
        let overdrawn = period.used.as_nanos() / per_period.as_nanos();
        let overdrawn = u32::try_from(overdrawn).unwrap_or(u32::MAX);
        let resume = period.start + PERIOD * overdrawn;
        let pause = (overdrawn > 0).then(|| resume.saturating_duration_since(now)).filter(|pause| !pause.is_zero());
        if pause.is_some() && resume > period.paused_until {
            // Several guests of one container may be told of one pause: it is counted once.
            let counted = period.paused_until.max(now);
            period.stat.time += resume - counted;
            let more = u64::from(overdrawn).saturating_sub(u64::from(period.paused_until > now));
            period.stat.throttled += more;
            period.stat.periods += more.saturating_sub(1);
            period.paused_until = resume;
        }
        pause
    }
}

/// What a limit allows in one period, in nanoseconds; 0 without one.
fn per_period(limit_millis: Option<u32>) -> u64 {
    limit_millis.map_or(0, |millis| PERIOD.as_nanos() as u64 * u64::from(millis.max(1)) / 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_limit_time_is_only_counted() {
        let start = Instant::now();
        let cpu = Cpu::new(None, 0, 1, start);
        assert_eq!(cpu.spend(5000 * MS, start), None);
        assert_eq!(cpu.total(), 5000 * MS);
        assert_eq!(cpu.throttling(), Throttling::default());
    }

    #[test]
    fn a_used_up_quota_pauses_until_it_is_paid_for() {
        let start = Instant::now();
        let cpu = Cpu::new(Some(200), 0, 1, start); // 20 ms in each 100 ms
        assert_eq!(cpu.spend(10 * MS, start + 10 * MS), None);
        assert_eq!(cpu.spend(10 * MS, start + 20 * MS), Some(80 * MS));
        assert_eq!(cpu.throttling(), Throttling { periods: 1, throttled: 1, time: 80 * MS });
        assert_eq!(cpu.spend(10 * MS, start + 110 * MS), None, "a new period");
        assert_eq!(cpu.spend(40 * MS, start + 150 * MS), Some(150 * MS), "overdrawn by one and a half periods");
        assert_eq!(cpu.throttling(), Throttling { periods: 3, throttled: 3, time: 230 * MS });
        assert_eq!(cpu.spend(MS, start + 151 * MS), Some(149 * MS), "another guest of the same container");
        assert_eq!(cpu.throttling().time, 230 * MS);
    }

    #[test]
    fn another_limit_counts_from_now_on() {
        let start = Instant::now();
        let cpu = Cpu::new(Some(200), 0, 1, start);
        assert_eq!(cpu.spend(20 * MS, start + 20 * MS), Some(80 * MS));
        cpu.resize(Some(500), 1000, start + 30 * MS); // 50 ms in each 100 ms
        assert_eq!(cpu.spend(40 * MS, start + 70 * MS), None, "a period of its own");
        assert_eq!(cpu.spend(10 * MS, start + 80 * MS), Some(50 * MS));
        cpu.resize(Some(500), 1000, start + 90 * MS);
        assert_eq!(cpu.spend(MS, start + 90 * MS), Some(40 * MS), "the same again changes nothing");
        cpu.resize(None, 1000, start + 100 * MS);
        assert_eq!(cpu.spend(5000 * MS, start + 200 * MS), None);
        cpu.resize(Some(100), 1000, start + 5000 * MS);
        assert_eq!(cpu.spend(9 * MS, start + 5009 * MS), None, "what was spent without a limit is not owed");
        assert_eq!(cpu.total(), 5080 * MS);
    }

    #[test]
    fn who_takes_a_quarter_of_the_node_is_busy_until_it_rests() {
        let start = Instant::now();
        let cpu = Cpu::new(None, 0, 2, start);
        cpu.spend(49 * MS, start + 49 * MS);
        assert!(!cpu.busy());
        cpu.spend(MS, start + 50 * MS);
        assert!(cpu.busy());
        cpu.spend(MS, start + 250 * MS);
        assert!(!cpu.busy());
    }
}
