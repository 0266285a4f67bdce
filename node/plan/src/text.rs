//! Texts that Kubernetes prints in a form of its own.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

/// A duration as Go prints it: `10ms`, `1.28s`, `2m43.84s`, `5m0s`.
pub(crate) fn go_duration(d: Duration) -> String {
    let nanos = d.as_nanos();
    if nanos == 0 {
        return "0s".into();
    }
    let with_fraction = |unit: u128, suffix: &str, n: u128| {
        let digits = unit.ilog10() as usize;
        let fraction = format!("{:0digits$}", n % unit);
        let fraction = fraction.trim_end_matches('0');
        let dot = if digits == 0 || fraction.is_empty() { "" } else { "." };
        let fraction = if digits == 0 { "" } else { fraction };
        format!("{}{dot}{fraction}{suffix}", n / unit)
    };
    match nanos {
        n if n < 1_000 => format!("{n}ns"),
        n if n < 1_000_000 => with_fraction(1_000, "µs", n),
        n if n < 1_000_000_000 => with_fraction(1_000_000, "ms", n),
        n => {
            let (hours, minutes) = (n / 3_600_000_000_000, n / 60_000_000_000 % 60);
            let seconds = with_fraction(1_000_000_000, "s", n % 60_000_000_000);
            match (hours, minutes) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    }
}

/// A text in quotes as Go's `%q` has it.
pub(crate) fn go_quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            c if u32::from(c) < 0x20 || c == '\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// An absolute path without `.`, `..` and needless slashes.
pub(crate) fn clean_path(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            other => parts.push(other),
        }
    }
    format!("/{}", parts.join("/"))
}

/// `name_namespace(uid)`: how the kubelet names a pod in messages.
pub(crate) fn pod_name(pod: &Pod) -> String {
    let m = &pod.metadata;
    let part = |s: &Option<String>| s.clone().unwrap_or_default();
    format!("{}_{}({})", part(&m.name), part(&m.namespace), part(&m.uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_in_go() {
        for (ms, want) in [
            (0, "0s"),
            (10, "10ms"),
            (1280, "1.28s"),
            (10_000, "10s"),
            (163_840, "2m43.84s"),
            (300_000, "5m0s"),
            (3_600_000, "1h0m0s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), want);
        }
        assert_eq!(go_duration(Duration::from_micros(1500)), "1.5ms");
        assert_eq!(go_duration(Duration::from_nanos(1500)), "1.5µs");
        assert_eq!(go_duration(Duration::from_nanos(15)), "15ns");
    }
}
