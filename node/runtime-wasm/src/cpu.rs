//! The CPU time of a container: counted, and throttled as a cgroup quota would.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The length of a quota's period, the kernel's default.
const PERIOD: Duration = Duration::from_millis(100);

/// What a container has used and may use.
pub(crate) struct Cpu {
    total: AtomicU64,
    /// `None` without a limit.
    quota: Option<Quota>,
}

struct Quota {
    per_period: Duration,
    period: Mutex<Period>,
}

struct Period {
    start: Instant,
    used: Duration,
}

impl Cpu {
    pub(crate) fn new(limit_millis: Option<u32>, now: Instant) -> Self {
        let quota = limit_millis.map(|millis| Quota {
            per_period: PERIOD.saturating_mul(millis.max(1)) / 1000,
            period: Mutex::new(Period { start: now, used: Duration::ZERO }),
        });
        Cpu { total: AtomicU64::new(0), quota }
    }

    pub(crate) fn total(&self) -> Duration {
        Duration::from_nanos(self.total.load(Relaxed))
    }

    /// Books time that was spent until `now`. Answers how long the container has to pause, if its quota is used up.
    pub(crate) fn spend(&self, spent: Duration, now: Instant) -> Option<Duration> {
        self.total.fetch_add(spent.as_nanos() as u64, Relaxed);
        let quota = self.quota.as_ref()?;
        let mut period = quota.period.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(period.start).as_nanos() / PERIOD.as_nanos();
        if passed > 0 {
            // What was overdrawn is paid for by the next periods; what was left over is lost.
            let passed = u32::try_from(passed).unwrap_or(u32::MAX);
            period.start += PERIOD * passed;
            period.used = period.used.saturating_sub(quota.per_period.saturating_mul(passed));
        }
        period.used += spent;
        let overdrawn = period.used.as_nanos() / quota.per_period.as_nanos().max(1);
        let resume = period.start + PERIOD * u32::try_from(overdrawn).unwrap_or(u32::MAX);
        (overdrawn > 0).then(|| resume.saturating_duration_since(now)).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn without_a_limit_time_is_only_counted() {
        let start = Instant::now();
        let cpu = Cpu::new(None, start);
        assert_eq!(cpu.spend(5000 * MS, start), None);
        assert_eq!(cpu.total(), 5000 * MS);
    }

    #[test]
    fn a_used_up_quota_pauses_until_it_is_paid_for() {
        let start = Instant::now();
        let cpu = Cpu::new(Some(200), start); // 20 ms in each 100 ms
        assert_eq!(cpu.spend(10 * MS, start + 10 * MS), None);
        assert_eq!(cpu.spend(10 * MS, start + 20 * MS), Some(80 * MS));
        assert_eq!(cpu.spend(10 * MS, start + 110 * MS), None, "a new period");
        assert_eq!(cpu.spend(40 * MS, start + 150 * MS), Some(150 * MS), "overdrawn by one and a half periods");
    }
}
