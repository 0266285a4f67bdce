//! Points in time as values. Nothing here asks what time it is.

use std::time::Duration;

/// A wall-clock instant, in nanoseconds since 1970-01-01T00:00:00Z, always passed in as an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct Time(pub u64);

impl Time {
    /// From whole seconds since the epoch.
    pub const fn from_secs(secs: u64) -> Time {
        Time(secs * 1_000_000_000)
    }
    /// Whole seconds since the epoch.
    pub const fn secs(self) -> u64 {
        self.0 / 1_000_000_000
    }
    /// The time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
    /// RFC 3339 with second precision: Kubernetes' `metav1.Time`.
    pub fn rfc3339(self) -> String {
        let (y, mo, d, h, mi, s) = civil(self.secs());
        format!("{y:04}-{mo:02}-{d:02}T{h:02}:{mi:02}:{s:02}Z")
    }
    /// RFC 3339 with exactly six fractional digits: Kubernetes' `metav1.MicroTime`.
    pub fn rfc3339_micros(self) -> String {
        let base = self.rfc3339();
        format!("{}.{:06}Z", &base[..base.len() - 1], self.0 % 1_000_000_000 / 1000)
    }
    /// RFC 3339 with nine fractional digits, as `kubectl logs --timestamps` shows it.
    pub fn rfc3339_nanos(self) -> String {
        let base = self.rfc3339();
        format!("{}.{:09}Z", &base[..base.len() - 1], self.0 % 1_000_000_000)
    }
    /// Parses RFC 3339 with any fraction and offset. `None` when malformed or before the epoch.
    pub fn parse(text: &str) -> Option<Time> {
        let b = text.as_bytes();
        let num = |r: std::ops::Range<usize>| -> Option<u64> {
            let part = text.get(r)?;
            part.bytes().all(|c| c.is_ascii_digit()).then(|| part.parse().ok()).flatten()
        };
        if b.len() < 20
            || b[4] != b'-'
            || b[7] != b'-'
            || !matches!(b[10], b'T' | b't')
            || b[13] != b':'
            || b[16] != b':'
        {
            return None;
        }
        let (y, mo, d) = (num(0..4)?, num(5..7)?, num(8..10)?);
        let (h, mi, s) = (num(11..13)?, num(14..16)?, num(17..19)?);
        if !(1..=12).contains(&mo) || d < 1 || d > days_in_month(y, mo) || h > 23 || mi > 59 || s > 59 || y < 1970 {
            return None;
        }
        let mut at = 19;
        let mut nanos = 0u64;
        if b[at] == b'.' {
            let start = at + 1;
            at = start;
            while at < b.len() && b[at].is_ascii_digit() {
                at += 1;
            }
            if at == start {
                return None;
            }
            for i in 0..9 {
                nanos = nanos * 10 + if start + i < at { u64::from(b[start + i] - b'0') } else { 0 };
            }
        }
        let offset_secs: i64 = match b.get(at)? {
            b'Z' | b'z' if at + 1 == b.len() => 0,
            sign @ (b'+' | b'-') if at + 6 == b.len() && b[at + 3] == b':' => {
                let (oh, om) = (num(at + 1..at + 3)?, num(at + 4..at + 6)?);
                if oh > 23 || om > 59 {
                    return None;
                }
                let off = (oh * 3600 + om * 60) as i64;
                if *sign == b'+' { off } else { -off }
            }
            _ => return None,
        };
        let secs = (days_from_civil(y, mo, d) * 86_400 + h * 3600 + mi * 60 + s) as i64 - offset_secs;
        // What is beyond the last moment that fits (in 2554) is that moment.
        u64::try_from(secs).ok().map(|s| Time(s.saturating_mul(1_000_000_000).saturating_add(nanos)))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;
    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

fn days_in_month(y: u64, m: u64) -> u64 {
    match m {
        2 if y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a proleptic Gregorian date (the usual era arithmetic, for years from 1970).
fn days_from_civil(y: u64, m: u64, d: u64) -> u64 {
    let y = if m <= 2 { y - 1 } else { y };
    let (era, yoe) = (y / 400, y % 400);
    let doy = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    let doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    era * 146_097 + doe - 719_468
}

fn civil(secs: u64) -> (u64, u64, u64, u64, u64, u64) {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(m <= 2), m, doy - (153 * mp + 2) / 5 + 1, rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_parses() {
        let t = Time::parse("2026-02-28T23:59:59.123456789Z").unwrap();
        assert_eq!(t.rfc3339(), "2026-02-28T23:59:59Z");
        assert_eq!(t.rfc3339_micros(), "2026-02-28T23:59:59.123456Z");
        assert_eq!(Time::parse("2024-02-29T01:00:00+01:00"), Time::parse("2024-02-29T00:00:00Z"));
        for bad in ["2023-02-29T00:00:00Z", "2024-01-01 00:00:00Z", "2024-01-01T00:00:00", "2024-01-01T00:00:00.Z", "x"]
        {
            assert_eq!(Time::parse(bad), None, "{bad}");
        }
        assert_eq!(Time::parse("2555-01-01T00:00:00Z"), Some(Time(u64::MAX)), "later than what fits");
        for s in [0, 951_782_400, 1_709_164_800, 4_102_444_799] {
            assert_eq!(Time::parse(&Time::from_secs(s).rfc3339()), Some(Time::from_secs(s)));
        }
    }
}
