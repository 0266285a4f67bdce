//! dnsperf: what it asks, and what it says.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::Error;

/// Questions in the file that is gone through again and again.
const QUESTIONS: usize = 20_000;
/// Clients at full load, and questions that are under way.
const FULL: [&str; 4] = ["-c", "16", "-q", "256"];
const SINGLE: [&str; 4] = ["-c", "1", "-q", "1"];

/// One run of one server.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Answered questions per second.
    pub per_second: f64,
    /// Average time until an answer, in seconds.
    pub latency: f64,
    /// CPU time of the server's process for each, in seconds.
    pub cpu: f64,
    /// Questions without an answer.
    pub lost: u64,
}

/// What dnsperf says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Said {
    /// Answered questions per second.
    pub per_second: f64,
    /// Average time until an answer, in seconds.
    pub latency: f64,
    /// Questions with an answer.
    pub answered: u64,
    /// Questions without one.
    pub lost: u64,
}

/// Why it cannot be used.
pub async fn present() -> Result<(), Error> {
    let asked = Command::new("dnsperf").arg("-h").stdin(Stdio::null()).output().await;
    asked.map(drop).map_err(|e| format!("needs dnsperf (apt-get install dnsperf): {e}").into())
}

/// The questions, mixed, always the same for the same names.
pub fn questions(names: &BTreeMap<String, String>) -> String {
    let names: Vec<&String> = names.keys().collect();
    let mut state = 1u64;
    let mut text = String::new();
    for n in 0..QUESTIONS {
        // Knuth's MMIX: nothing depends on its quality.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let name = names[(state >> 33) as usize % names.len().max(1)];
        text += &match n % 10 {
            0..6 => format!("{name}.default.svc.cluster.local A\n"),
            6 => format!("{name}.default.svc.cluster.local AAAA\n"),
            7 => format!("_http._tcp.{name}.default.svc.cluster.local SRV\n"),
            _ => format!("{name}.default.default.svc.cluster.local A\n"),
        };
    }
    text
}

/// Asks for some seconds, as fast as there are answers or one after the other.
pub async fn run(port: u16, queries: &Path, seconds: u64, single: bool) -> Result<Said, Error> {
    let mut command = Command::new("dnsperf");
    command.args(["-s", "127.0.0.1", "-p", &port.to_string(), "-l", &seconds.to_string(), "-d"]).arg(queries);
    command.args(if single { SINGLE } else { FULL }).stdin(Stdio::null()).kill_on_drop(true);
    let out = command.output().await.map_err(|e| format!("dnsperf: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    if !out.status.success() {
        return Err(format!("dnsperf ended with {}: {}", out.status, String::from_utf8_lossy(&out.stderr)).into());
    }
    said(&text).ok_or_else(|| format!("dnsperf says what is not understood: {text}").into())
}

fn said(text: &str) -> Option<Said> {
    let value = |name: &str| {
        let line = text.lines().find_map(|l| l.trim().strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()
    };
    Some(Said {
        per_second: value("Queries per second")?.parse().ok()?,
        latency: value("Average Latency (s)")?.parse().ok()?,
        answered: value("Queries completed")?.parse().ok()?,
        lost: value("Queries lost")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dnsperf_says_is_understood() {
        let text = "Statistics:\n\n  Queries sent:         453249\n  Queries completed:    453246 (100.00%)\n  Queries lost:         \
                    3 (0.00%)\n\n  Run time (s):         2.001994\n  Queries per second:   226397.281910\n\n  \
                    Average Latency (s):  0.000587 (min 0.000005, max 0.011097)\n";
        let want = Said { per_second: 226_397.281_910, latency: 0.000_587, answered: 453_246, lost: 3 };
        assert_eq!(said(text), Some(want));
        assert_eq!(said("Statistics:"), None);
    }

    #[test]
    fn the_mix_of_questions() {
        let text = questions(&BTreeMap::from([("a".into(), String::new()), ("b".into(), String::new())]));
        let count = |what: &str| text.lines().filter(|l| l.ends_with(what)).count();
        assert_eq!((text.lines().count(), count(" AAAA"), count(" SRV")), (20_000, 2_000, 2_000));
        assert_eq!(count(".default.default.svc.cluster.local A"), 4_000);
        assert!(text.contains("a.default.svc") && text.contains("b.default.svc"));
    }
}
