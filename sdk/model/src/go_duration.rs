//! Durations as Go's `time` package writes and reads them.

/// Parses what Go's `time.ParseDuration` takes, such as `1h30m` or `-1.5s`, to nanoseconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    /// The least one, which has no positive counterpart.
    const LEAST: u64 = i64::MIN.unsigned_abs();
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0u64;
    while !rest.is_empty() {
        let (whole, behind) = digits(rest);
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => digits(behind),
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let end = behind.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(behind.len());
        let unit = match &behind[..end] {
            "ns" => 1u64,
            "us" | "µs" | "μs" => 1000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        rest = &behind[end..];
        let number: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part = number.checked_mul(unit)?.checked_add(part(fraction, unit))?;
        total = total.checked_add(part).filter(|total| *total <= LEAST)?;
    }
    match (negative, i64::try_from(total)) {
        (false, total) => total.ok(),
        (true, Ok(total)) => Some(-total),
        (true, Err(_)) => Some(i64::MIN),
    }
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// `0.fraction` of a unit, in whole nanoseconds: what is less is cut off.
fn part(fraction: &str, unit: u64) -> u64 {
    // More digits than this are less than a nanosecond of an hour.
    let digits = &fraction[..fraction.len().min(18)];
    let number: u128 = digits.parse().unwrap_or(0);
    let part = number * u128::from(unit) / 10u128.pow(digits.len() as u32);
    u64::try_from(part).unwrap_or(unit)
}

/// As Go's `time.Duration` prints: `1m0s`, `1.5s`, `20ms`.
pub(crate) fn print(nanos: i64) -> String {
    if nanos == 0 {
        return "0s".into();
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let fraction = |whole: u64, part: u64, width: usize, unit: &str| {
        let digits = format!("{part:0width$}");
        let digits = digits.trim_end_matches('0');
        if part == 0 { format!("{whole}{unit}") } else { format!("{whole}.{digits}{unit}") }
    };
    let text = match n {
        0..1_000 => format!("{n}ns"),
        1_000..1_000_000 => fraction(n / 1_000, n % 1_000, 3, "µs"),
        1_000_000..1_000_000_000 => fraction(n / 1_000_000, n % 1_000_000, 6, "ms"),
        _ => {
            let (secs, part) = (n / 1_000_000_000, n % 1_000_000_000);
            let seconds = fraction(secs % 60, part, 9, "s");
            match (secs / 3600, secs / 60 % 60) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::{parse, print};

    #[test]
    fn as_go_writes_and_reads_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_661_000_000_000, "1h1m1s"),
            (-2_000_000_000, "-2s"),
            (i64::MAX, "2562047h47m16.854775807s"),
            (i64::MAX - 1, "2562047h47m16.854775806s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ] {
            assert_eq!(print(nanos), text);
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
        for (text, nanos) in [
            ("0", 0),
            ("+5s", 5_000_000_000),
            (".5h", 1_800_000_000_000),
            ("1.s", 1_000_000_000),
            ("1us1μs", 2_000),
            ("0.9999999999999999999999ns", 0),
            ("0.100000000000000000000h", 360_000_000_000),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn what_is_none_or_does_not_fit_is_refused() {
        for bad in [
            "",
            "1",
            "s",
            "1x",
            "-",
            "+-1s",
            "1.2.3s",
            ".",
            ".s",
            "1e3s",
            "2562047h47m16.854775808s",
            "9223372036854775808ns",
            "99999999999999999999h",
            "3000000h",
            "2562047h47m16s1s",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
