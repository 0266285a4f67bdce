//! wrk and h2load, and what they say.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::peers::Doors;
use crate::{Error, percentile};

/// How clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    KeepAlive,
    ConnectionPerRequest,
    H2c,
    Tls,
    TlsH2,
}

impl Way {
    pub const ALL: [Way; 5] = [Way::KeepAlive, Way::ConnectionPerRequest, Way::H2c, Way::Tls, Way::TlsH2];

    pub fn name(self) -> &'static str {
        match self {
            Way::KeepAlive => "HTTP/1.1, kept connections",
            Way::ConnectionPerRequest => "HTTP/1.1, a connection per request",
            Way::H2c => "HTTP/2, one request at a time on each connection",
            Way::Tls => "HTTPS, HTTP/1.1, kept connections",
            Way::TlsH2 => "HTTPS, HTTP/2, one request at a time on each connection",
        }
    }
}

/// What a load generator has seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    pub requests: f64,
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Whether some requests had no answer, or an error for one.
    pub failed: bool,
}

/// Loads a proxy with 64 connections.
pub async fn measure(way: Way, doors: &Doors, host: &str, seconds: u64, dir: &Path) -> Result<Measured, Error> {
    let (duration, header) = (format!("{seconds}s"), format!("Host: {host}"));
    let url = match way {
        Way::KeepAlive | Way::ConnectionPerRequest => format!("http://{}/", doors.plain),
        Way::Tls => format!("https://{}/", doors.tls),
        Way::H2c => format!("http://{host}/"),
        Way::TlsH2 => format!("https://{host}/"),
    };
    if matches!(way, Way::H2c | Way::TlsH2) {
        let log = dir.join("h2load.log");
        let _ = std::fs::remove_file(&log);
        let at = if way == Way::H2c { &doors.h2c } else { &doors.tls };
        let mut command = Command::new("h2load");
        command.args(["-t", "1", "-c", "64", "-m", "1", "-D", &seconds.to_string()]);
        command.arg(format!("--log-file={}", log.display())).arg(format!("--connect-to={at}")).arg(&url);
        let said = command.stdin(Stdio::null()).output().await?;
        let measured = of_h2load(&String::from_utf8_lossy(&said.stdout), &std::fs::read_to_string(&log)?);
        return measured.ok_or_else(|| format!("h2load {url}: {}", String::from_utf8_lossy(&said.stderr)).into());
    }
    let mut command = Command::new("wrk");
    command.args(["-t", "1", "-c", "64", "-d", &duration, "--latency", "-H", &header]);
    if way == Way::ConnectionPerRequest {
        command.args(["-H", "Connection: close"]);
    }
    let said = command.arg(&url).stdin(Stdio::null()).output().await?;
    let text = String::from_utf8_lossy(&said.stdout);
    of_wrk(&text).ok_or_else(|| format!("wrk {url}: {text}{}", String::from_utf8_lossy(&said.stderr)).into())
}

fn of_wrk(text: &str) -> Option<Measured> {
    let after = |label: &str| text.lines().find_map(|l| l.trim().strip_prefix(label))?.split_whitespace().next();
    let total = text.lines().find(|l| l.contains("requests in"))?.split_whitespace().next()?;
    Some(Measured {
        requests: total.parse().ok()?,
        per_second: after("Requests/sec:")?.parse().ok()?,
        p50: time(after("50%")?)?,
        p99: time(after("99%")?)?,
        failed: text.contains("Non-2xx") || text.contains("Socket errors"),
    })
}

/// A time of wrk, such as `157.00us`, `2.35ms` or `1.02s`.
fn time(text: &str) -> Option<Duration> {
    let (number, scale) = match (text.strip_suffix("us"), text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(n), ..) => (n, 1e-6),
        (_, Some(n), _) => (n, 1e-3),
        (.., Some(n)) => (n, 1.0),
        _ => return None,
    };
    Some(Duration::from_secs_f64(number.parse::<f64>().ok()? * scale))
}

/// `log` has a line for each request: when it began, its status (-1 without an answer), and how long it took, in µs.
fn of_h2load(text: &str, log: &str) -> Option<Measured> {
    let line = |start: &str| text.lines().find(|l| l.starts_with(start));
    let per_second = line("finished in")?.split(", ").nth(1)?.strip_suffix(" req/s")?.parse().ok()?;
    let mut failed = false;
    let mut took: Vec<Duration> = Vec::new();
    for line in log.lines() {
        let mut fields = line.split('\t').skip(1);
        let (status, micros) = (fields.next()?, fields.next()?);
        failed |= !status.starts_with('2');
        took.push(Duration::from_micros(micros.parse().ok()?));
    }
    took.sort_unstable();
    Some(Measured {
        requests: took.len() as f64,
        per_second,
        p50: percentile(&took, 0.5),
        p99: percentile(&took, 0.99),
        failed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_says() {
        let text = "Running 8s test @ http://127.0.0.1:8080/\n  1 threads and 64 connections\n  Latency Distribution\n     50%  157.00us\n     75%    1.00ms\n     99%    1.02s\n  1500 requests in 8.00s, 1.00MB read\nRequests/sec:   187.50\nTransfer/sec: 1MB\n";
        let want = Measured {
            requests: 1500.0,
            per_second: 187.5,
            p50: Duration::from_micros(157),
            p99: Duration::from_millis(1020),
            failed: false,
        };
        assert_eq!(of_wrk(text), Some(want));
        assert!(of_wrk(&format!("{text}  Non-2xx or 3xx responses: 3\n")).is_some_and(|m| m.failed));
        assert_eq!(of_wrk("unable to connect"), None);
    }

    #[test]
    fn what_h2load_says() {
        let text = "starting benchmark...\nfinished in 1.00s, 3.00 req/s, 1B/s\nrequests: 3 total, 3 started\n";
        let log = "1\t200\t10\n2\t200\t30\n3\t503\t20\n";
        let m = of_h2load(text, log).unwrap();
        assert_eq!((m.requests, m.per_second, m.p50, m.failed), (3.0, 3.0, Duration::from_micros(20), true));
        assert!(of_h2load(text, "1\t200\t10\n").is_some_and(|m| !m.failed));
        assert_eq!(of_h2load("", ""), None);
    }
}
