//! Durations as `kubectl get` prints them (apimachinery `pkg/util/duration.HumanDuration`).

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

#[cfg(test)]
mod tests {
    use super::human;
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
}
