//! Clients on the lab's machines (`client.py`), which go on until told to stop, and what they have seen.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::Lab;
use crate::{text, until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/lab/client.py");

/// Seconds since 1970, as the clients tell them.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Seconds as text, or that there are none.
pub fn seconds(found: Option<f64>) -> String {
    found.map_or_else(|| "never".into(), |s| format!("{s:.2} s"))
}

/// The parts of `HOST:PORT`; an address of IPv6, which is in brackets there, is without them here.
pub(super) fn host_and_port(at: &str) -> (&str, &str) {
    let (host, port) = at.rsplit_once(':').expect("HOST:PORT");
    (host.trim_matches(['[', ']']), port)
}

impl Lab {
    /// One line to a server on `at` (an address of IPv6 is in brackets) and back, over TCP (`lines`) or UDP (`datagram`);
    /// nothing if none came.
    pub fn echo(&self, machine: &str, how: &str, at: &str, line: &str) -> Option<String> {
        let (host, port) = host_and_port(at);
        let out = self.run(machine, "python3", &[SCRIPT, how, host, port, line]);
        out.status.success().then(|| text(&out.stdout).trim_end().to_string())
    }

    /// Everything that writers have made, and all Services and their addresses, as the server at `url` tells it to a client on
    /// a machine: whole, by `RESOURCE/NAMESPACE/NAME`.
    pub fn list(&self, machine: &str, kubeconfig: &str, url: &str) -> BTreeMap<String, Value> {
        until("the server lists what it has", || {
            let out = self.run(machine, "python3", &[SCRIPT, "list", kubeconfig, url]);
            eprint!("{}", text(&out.stderr));
            out.status.success().then(|| serde_json::from_slice(&out.stdout).expect("JSON"))
        })
    }
}

/// A client that is running.
pub struct Client {
    child: Child,
    seen: Arc<Mutex<Vec<Value>>>,
    reader: Option<JoinHandle<()>>,
}

impl Client {
    /// One that GETs `url` ten times a second.
    pub fn probe(lab: &Lab, machine: &str, url: &str, host: &str) -> Client {
        Client::start(lab, machine, &["probe", url, host, "0.1"])
    }

    /// One that writes objects `NAME-1`, `NAME-2`… at the first of the servers and reads them from the others.
    pub fn write(lab: &Lab, machine: &str, kubeconfig: &str, name: &str, servers: &[String]) -> Client {
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        Client::start(lab, machine, &[&["write", kubeconfig, name], servers.as_slice()].concat())
    }

    /// One that makes, reads, changes and deletes objects `NAME-1`, `NAME-2`… at the first of the servers about every
    /// `seconds`, a hundred at a time. Those that must be there in the end it looks for at all servers.
    pub fn churn(lab: &Lab, machine: &str, kubeconfig: &str, name: &str, seconds: f64, servers: &[String]) -> Client {
        let seconds = seconds.to_string();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        Client::start(lab, machine, &[&["churn", kubeconfig, name, &seconds], servers.as_slice()].concat())
    }

    /// One that scales the Deployment `name` and gives it new pods in turns, about every `seconds`.
    pub fn rollout(lab: &Lab, machine: &str, kubeconfig: &str, name: &str, seconds: f64, servers: &[String]) -> Client {
        let seconds = seconds.to_string();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        Client::start(lab, machine, &[&["rollout", kubeconfig, name, &seconds], servers.as_slice()].concat())
    }

    /// One that makes Jobs `NAME-1`, `NAME-2`…, which go by themselves when they are done, about every `seconds`.
    pub fn jobs(lab: &Lab, machine: &str, kubeconfig: &str, name: &str, seconds: f64, servers: &[String]) -> Client {
        let seconds = seconds.to_string();
        let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
        Client::start(lab, machine, &[&["jobs", kubeconfig, name, &seconds], servers.as_slice()].concat())
    }

    pub(super) fn start(lab: &Lab, machine: &str, args: &[&str]) -> Client {
        let mut command = lab.command(machine, "python3");
        command.arg(SCRIPT).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("ip runs");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (out, kept) = (child.stdout.take().expect("stdout"), seen.clone());
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line}: {e}"));
                kept.lock().expect("not poisoned").push(value);
            }
        });
        Client { child, seen, reader: Some(reader) }
    }

    /// What it has seen until now.
    pub fn seen(&self) -> Seen {
        Seen::of(&self.seen.lock().expect("not poisoned"))
    }

    /// The same, as it has printed it.
    pub(super) fn values(&self) -> Vec<Value> {
        self.seen.lock().expect("not poisoned").clone()
    }

    /// What it has seen since it was asked last, so that a client that goes on for hours takes no memory here.
    pub fn take(&self) -> Seen {
        Seen::of(&std::mem::take(&mut *self.seen.lock().expect("not poisoned")))
    }

    /// Tells it to stop: all that it has seen.
    pub fn stop(mut self) -> Seen {
        self.end();
        self.seen()
    }

    /// Tells it to stop and waits until it has.
    pub(super) fn end(&mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("wait").success(), "a client ends when it is told to");
        self.reader.take().expect("once").join().expect("it speaks JSON");
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it began.
    pub at: f64,
    /// Seconds until its answer.
    pub took: f64,
    /// 0 for none.
    pub code: u64,
    /// The first line of the answer, or the error.
    pub said: String,
}

impl Sample {
    /// Whether it was answered as it should be.
    pub fn good(&self) -> bool {
        self.code == 200
    }
}

/// One write.
#[derive(Clone, Debug)]
pub struct Written {
    /// When it was asked for.
    pub begun: f64,
    /// When it was answered or given up.
    pub at: f64,
    /// 0 if nobody has answered.
    pub code: u64,
    /// What was said if it was not acknowledged.
    pub said: String,
}

impl Written {
    /// Whether it must be there.
    pub fn acknowledged(&self) -> bool {
        self.code == 201
    }

    /// Whether it must not be there: it was answered, and not by "nobody knows".
    pub fn refused(&self) -> bool {
        !matches!(self.code, 0 | 201 | 500 | 504)
    }
}

/// What a client has seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// A prober's requests.
    pub samples: Vec<Sample>,
    /// A writer's writes, by `RESOURCE/NAMESPACE/NAME`.
    pub writes: BTreeMap<String, Written>,
    /// Objects that were not found by a server that was asked for them after they were acknowledged.
    pub missed: Vec<String>,
}

impl Seen {
    fn of(values: &[Value]) -> Seen {
        let mut seen = Seen::default();
        for v in values {
            let (at, code) = (v["at"].as_f64().unwrap_or(0.0), v["code"].as_u64().unwrap_or(0));
            let said = v["said"].as_str().unwrap_or_default().to_string();
            if let Some(name) = v["wrote"].as_str() {
                let begun = v["begun"].as_f64().unwrap_or(at);
                seen.writes.insert(name.into(), Written { begun, at, code, said });
            } else if let Some(name) = v["read"].as_str() {
                if code == 404 {
                    seen.missed.push(format!("{name} of {}: {said}", v["of"]));
                }
            } else {
                seen.samples.push(Sample { at, took: v["took"].as_f64().unwrap_or(0.0), code, said });
            }
        }
        seen
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.writes.values().filter(|w| w.acknowledged()).count()
    }

    /// Seconds from `since` until a write that was begun after it was acknowledged.
    pub fn next_write(&self, since: f64) -> Option<f64> {
        let later = self.writes.values().filter(|w| w.acknowledged() && w.begun > since);
        later.map(|w| w.at - since).min_by(f64::total_cmp)
    }

    /// Seconds of the longest time after `since` in which the writer asked and was not acknowledged.
    pub fn longest_wait(&self, since: f64) -> f64 {
        let mut writes: Vec<&Written> = self.writes.values().collect();
        writes.sort_by(|a, b| a.begun.total_cmp(&b.begun));
        let (mut longest, mut begun) = (0.0, None);
        for write in writes {
            let first = *begun.get_or_insert(write.begun);
            if write.acknowledged() {
                begun = None;
                if write.at > since {
                    longest = f64::max(longest, write.at - first);
                }
            }
        }
        longest
    }

    /// Requests that were not answered as they should be.
    pub fn failures(&self) -> Vec<&Sample> {
        self.samples.iter().filter(|s| !s.good()).collect()
    }

    /// Seconds from `since` until the last failed or slow (half a second) request had ended; 0 if there was none.
    pub fn recovered(&self, since: f64) -> f64 {
        let hit = self.samples.iter().filter(|s| s.at + s.took > since && (!s.good() || s.took > 0.5));
        hit.map(|s| s.at + s.took - since).fold(0.0, f64::max)
    }
}
