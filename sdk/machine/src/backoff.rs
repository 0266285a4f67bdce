//! Exponential back-off.

use std::time::Duration;

/// Doubles from `first` to `max`. Pure: the caller knows how many failures there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Delay after the first failure.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row; zero failures wait for nothing.
    pub fn delay(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let factor = 1u32.checked_shl(failures - 1).unwrap_or(u32::MAX);
        self.first.checked_mul(factor).map_or(self.max, |d| d.min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_limit() {
        let b = Backoff { first: Duration::from_millis(10), max: Duration::from_secs(300) };
        let ms: Vec<u128> = [0, 1, 2, 3, 16, 40, u32::MAX].iter().map(|n| b.delay(*n).as_millis()).collect();
        assert_eq!(ms, [0, 10, 20, 40, 300_000, 300_000, 300_000]);
    }
}
