//! Scalars with a form of their own: quantities, times, durations, base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Number, Value};

use super::Special;
use crate::Time;
use crate::quantity::Quantity;

/// The canonical form of a text of a special type; `None` when it means "absent". The error is upstream's.
pub(super) fn canonical(special: Special, text: &str) -> Result<Option<String>, String> {
    Ok(Some(match special {
        Special::Quantity => quantity(text)?,
        Special::Time | Special::MicroTime => {
            if text.starts_with("0001-01-01T00:00:00") {
                return Ok(None);
            }
            let micro = special == Special::MicroTime;
            let time = Time::parse(text).ok_or_else(|| {
                let layout = if micro { "2006-01-02T15:04:05.000000Z07:00" } else { "2006-01-02T15:04:05Z07:00" };
                format!("parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\"")
            })?;
            if micro { time.rfc3339_micros() } else { time.rfc3339() }
        }
        Special::Duration => {
            let nanos = parse_duration(text).ok_or_else(|| format!("time: invalid duration {text:?}"))?;
            duration(nanos)
        }
        _ => text.to_string(),
    }))
}

fn quantity(text: &str) -> Result<String, String> {
    // Most quantities are whole numbers with few digits, which are canonical already.
    let b = text.as_bytes();
    if matches!(b.len(), 1..=2) && b.iter().all(u8::is_ascii_digit) && (b[0] != b'0' || b.len() == 1) {
        return Ok(text.to_string());
    }
    text.parse::<Quantity>().map(|q| q.to_string()).map_err(|e| e.to_string())
}

/// Checks base64 as Go does, which skips line breaks; the result is without them.
pub(super) fn base64_text(mut text: String) -> Result<String, String> {
    if text.contains(['\n', '\r']) {
        text.retain(|c| !matches!(c, '\n' | '\r'));
    }
    match STANDARD.decode(&text) {
        Ok(_) => Ok(text),
        Err(base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _)) => {
            Err(format!("illegal base64 data at input byte {at}"))
        }
        Err(_) => Err(format!("illegal base64 data at input byte {}", text.len())),
    }
}

pub(super) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(super) fn base64_encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A float as Go writes it: without a point when it is whole.
pub(super) fn number(n: f64) -> Option<Value> {
    if n.fract() == 0.0 && n.abs() < 9_007_199_254_740_992.0 {
        return Some(Value::from(n as i64));
    }
    Number::from_f64(n).map(Value::Number)
}

/// Parses what Go's `time.ParseDuration` takes, to nanoseconds.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let n: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += n * match &rest[..unit] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        rest = &rest[unit..];
    }
    (total < i64::MAX as f64).then_some(if negative { -(total as i64) } else { total as i64 })
}

/// As Go's `time.Duration` prints: `1m0s`, `1.5s`, `20ms`.
pub(super) fn duration(nanos: i64) -> String {
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
    use super::*;

    #[test]
    fn durations_as_go_writes_them() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (20_000_000, "20ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_661_000_000_000, "1h1m1s"),
            (-2_000_000_000, "-2s"),
        ] {
            assert_eq!(duration(nanos), text);
            assert_eq!(parse_duration(text), Some(nanos), "{text}");
        }
        for bad in ["", "1", "s", "1x", "-", "1.2.3s", "."] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn base64_as_go_reads_it() {
        assert_eq!(base64_text("YWI=\n".into()), Ok("YWI=".into()));
        assert_eq!(base64_text("YWI*".into()), Err("illegal base64 data at input byte 3".into()));
        assert!(base64_text("YWI".into()).is_err());
    }
}
