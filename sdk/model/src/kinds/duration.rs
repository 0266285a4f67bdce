//! Durations as `kubectl get` prints them (apimachinery `pkg/util/duration.HumanDuration`), and as Gateway API writes them.

use std::time::Duration;

/// At most two units, such as `45s`, `5m30s`, `3h`, `2d4h`, `400d`, `3y20d`.
pub fn human(d: Duration) -> String {
    let s = d.as_secs();
    let (minutes, hours, days) = (s / 60, s / 3600, s / 86_400);
    let two = |n: u64, unit: &str, rest: u64, small: &str| {
        if rest == 0 { format!("{n}{unit}") } else { format!("{n}{unit}{rest}{small}") }
    };
    match s {
        0..120 => format!("{s}s"),
        120..600 => two(minutes, "m", s % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// A duration as Gateway API writes it (GEP-2257): up to four numbers of up to five digits, each with its unit, such as `1h30m`
/// or `500ms`.
pub fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut total, mut parts) = (text, Duration::ZERO, 0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|n| (1..=5).contains(n))?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let (millis, length) = match unit.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b'h', ..] => (3_600_000, 1),
            [b'm', ..] => (60_000, 1),
            [b's', ..] => (1000, 1),
            _ => return None,
        };
        total += Duration::from_millis(number * millis);
        rest = &unit[length..];
        parts += 1;
    }
    (1..=4).contains(&parts).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::{human, parse};
    use std::time::Duration;

    #[test]
    fn as_kubectl_prints_them() {
        for (s, want) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (330, "5m30s"),
            (3600, "60m"),
            (10_800, "3h"),
            (11_100, "3h5m"),
            (86_400, "24h"),
            (172_800, "2d"),
            (190_800, "2d5h"),
            (34_560_000, "400d"),
        ] {
            assert_eq!(human(Duration::from_secs(s)), want, "{s}");
        }
    }

    #[test]
    fn as_gateway_api_writes_them() {
        let ms = |n| Some(Duration::from_millis(n));
        for (text, want) in [
            ("0s", ms(0)),
            ("500ms", ms(500)),
            ("1h30m", ms(5_400_000)),
            ("1m2s3ms", ms(62_003)),
            ("", None),
            ("5", None),
            ("1.5s", None),
            ("123456s", None),
            ("1s1s1s1s1s", None),
            ("-1s", None),
            ("1d", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
