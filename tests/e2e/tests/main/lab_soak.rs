//! Hours of mixed load and faults on three servers and three agents: memory, descriptors, files and latency stay flat. They
//! are written to `target/soak/*.csv`, and drawn by `src/lab/plot.py` where there is matplotlib.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::lab::{Client, Fault, LabCluster, Seen};
use e2e::manifest::{self, Serves};
use e2e::{has, needs, root, until};

const MACHINES: [&str; 3] = ["n1", "n2", "n3"];
/// Its server and agent are never restarted: theirs is the memory that would grow.
const OLDEST: &str = "n3";
const NODE_PORT: u16 = 30080;
/// How often something is looked at, and something is broken.
const LOOK: Duration = Duration::from_secs(10);
const BREAK: Duration = Duration::from_secs(60);

const MANIFEST: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 20}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 20}
      containers:
      - {name: c, image: 'file://examples/hello/hello.wasm', ports: [{containerPort: 8080}]}
";

/// What a process has at one moment.
#[derive(Clone, Copy, Debug)]
struct Holds {
    memory: u64,
    descriptors: u64,
    disk: u64,
}

impl Holds {
    /// Of a process that may end meanwhile.
    fn of(pid: u32, data: &Path) -> Option<Holds> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let memory = line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
        Some(Holds { memory, descriptors, disk: allocated(data) })
    }
}

/// Bytes that a folder takes on its disk.
fn allocated(path: &Path) -> u64 {
    let Ok(found) = std::fs::symlink_metadata(path) else { return 0 };
    let within = std::fs::read_dir(path).into_iter().flatten().flatten();
    found.blocks() * 512 + within.map(|entry| allocated(&entry.path())).sum::<u64>()
}

struct Soak {
    cluster: LabCluster,
    clients: Vec<(&'static str, Client)>,
    /// Of each process, what it held and when.
    held: BTreeMap<String, Vec<Holds>>,
    processes: String,
    latencies: String,
    /// Of each kind of client, the median and the 99th percentile of its good answers between two looks, in seconds.
    took: BTreeMap<&'static str, Vec<[f64; 2]>>,
    failures: BTreeMap<&'static str, usize>,
    requests: usize,
}

impl Soak {
    fn start() -> Option<Soak> {
        let cluster = LabCluster::start(&MACHINES, &MACHINES)?;
        cluster.apply(&format!("{MANIFEST}{}", manifest::service_at("web", Serves::Http, NODE_PORT)));
        let lab = &cluster.lab;
        let mut clients = Vec::new();
        for (place, name) in MACHINES.into_iter().enumerate() {
            let url = format!("http://{}:{NODE_PORT}/", lab.ip(name));
            until("the pods answer", || (lab.curl(name, &url, &[]).0 == 200).then_some(()));
            clients.push(("request", Client::probe(lab, name, &url, "web")));
            let mut urls = MACHINES.map(|m| cluster.url(m));
            urls.rotate_left(place);
            clients
                .push(("API", Client::churn(lab, name, &cluster.kubeconfig(name), &format!("of-{name}"), 0.1, &urls)));
        }
        let urls = MACHINES.map(|m| cluster.url(m));
        clients.push(("rollout", Client::rollout(lab, OLDEST, &cluster.kubeconfig(OLDEST), "web", 15.0, &urls)));
        clients.push(("job", Client::jobs(lab, OLDEST, &cluster.kubeconfig(OLDEST), "turn", 60.0, &urls)));
        Some(Soak {
            cluster,
            clients,
            held: BTreeMap::new(),
            processes: "seconds,process,memory,descriptors,disk\n".into(),
            latencies: "seconds,what,p50,p99,failed,of\n".into(),
            took: BTreeMap::new(),
            failures: BTreeMap::new(),
            requests: 0,
        })
    }

    fn look(&mut self, at: Duration) {
        let at = at.as_secs();
        for (name, pid, data) in self.cluster.processes() {
            let Some(holds) = Holds::of(pid, &data) else { continue };
            let _ = writeln!(self.processes, "{at},{name},{},{},{}", holds.memory, holds.descriptors, holds.disk);
            self.held.entry(name).or_default().push(holds);
        }
        let mut seen: BTreeMap<&'static str, Vec<Seen>> = BTreeMap::new();
        for (what, client) in &self.clients {
            seen.entry(what).or_default().push(client.take());
        }
        for (what, seen) in seen {
            let samples: Vec<_> = seen.iter().flat_map(|seen| &seen.samples).collect();
            let mut took: Vec<f64> = samples.iter().filter(|s| s.good()).map(|s| s.took).collect();
            took.sort_by(f64::total_cmp);
            let share = |share: f64| took.get((took.len() as f64 * share) as usize).copied();
            let (p50, p99) = (share(0.5), share(0.99));
            self.took.entry(what).or_default().extend(p50.zip(p99).map(|(p50, p99)| [p50, p99]));
            let failed = samples.iter().filter(|s| !s.good()).count();
            let text = |found: Option<f64>| found.map_or(String::new(), |s| s.to_string());
            let _ = writeln!(self.latencies, "{at},{what},{},{},{failed},{}", text(p50), text(p99), samples.len());
            *self.failures.entry(what).or_default() += failed;
            self.requests += samples.len();
        }
        self.write();
    }

    fn write(&self) {
        let to = to();
        std::fs::create_dir_all(&to).expect("a folder");
        std::fs::write(to.join("processes.csv"), &self.processes).expect("a file");
        std::fs::write(to.join("latencies.csv"), &self.latencies).expect("a file");
    }

    /// Breaks something else each time, all of it in 24 turns.
    fn disturb(&mut self, turn: usize) {
        let machine = MACHINES[turn / 8 % 3];
        // Not the oldest, whose processes stay.
        let mortal = MACHINES[turn / 8 % 2];
        let other = MACHINES[(turn / 8 + 1) % 3];
        let lab = &self.cluster.lab;
        match turn % 8 {
            0 => {
                self.cluster.kill_server(mortal);
                self.cluster.start_server(mortal, &[]);
            }
            1 => lab.cut(machine, other),
            2 => {
                self.cluster.stop_agent(mortal);
                self.cluster.start_agent(mortal, &[]);
            }
            3 => lab.link(machine, false),
            4 => MACHINES.iter().for_each(|m| lab.faults(m, &[Fault::Loss(3)])),
            5 => {
                self.cluster.stop_server(mortal);
                self.cluster.start_server(mortal, &[]);
            }
            6 => lab.faults(machine, &[Fault::Deaf(other)]),
            _ => {
                self.cluster.kill_agent(mortal);
                self.cluster.start_agent(mortal, &[]);
            }
        }
    }

    /// Ends the clients: what was acknowledged is there, all answer, and nothing that lived on has grown.
    fn ends_well(mut self) {
        self.cluster.lab.heal();
        self.cluster.nodes_are_ready(MACHINES.len());
        for name in MACHINES {
            let url = format!("http://{}:{NODE_PORT}/", self.cluster.lab.ip(name));
            until("the pods answer in the end", || (self.cluster.lab.curl(name, &url, &[]).0 == 200).then_some(()));
        }
        for (_, client) in std::mem::take(&mut self.clients) {
            let missed = client.stop().missed;
            assert!(missed.is_empty(), "acknowledged and gone: {missed:?}");
        }
        until("all Jobs are done and gone", || {
            self.cluster.ok(&["get", "jobs", "-o", "name"]).is_empty().then_some(())
        });
        println!("{} requests, failed: {:?}", self.requests, self.failures);
        for (name, held) in &self.held {
            let of = |what: fn(&Holds) -> u64| quarters(held, 0.5, what);
            let (memory, descriptors, disk) = (of(|h| h.memory), of(|h| h.descriptors), of(|h| h.disk));
            println!("{name}, medians of the quarters: memory {memory:?}, descriptors {descriptors:?}, disk {disk:?}");
            if name.ends_with(OLDEST) {
                let grown = |of: [u64; 4], slack: u64| of[3] > of[1] + of[1] / 4 + slack;
                assert!(!grown(memory, 16 << 20), "{name}'s memory grows: {memory:?}");
                assert!(!grown(descriptors, 20), "{name}'s descriptors grow: {descriptors:?}");
                assert!(!grown(disk, 16 << 20), "{name}'s files grow: {disk:?}");
            }
        }
        for (what, took) in &self.took {
            let of = |share: f64, which: usize| quarters(took, share, |t| (t[which] * 1e6) as u64);
            let (p50, p99, calm) = (of(0.5, 0), of(0.5, 1), of(0.25, 0));
            println!(
                "{what}, by quarters in µs: medians of p50 {p50:?} and p99 {p99:?}, lower quartile of p50 {calm:?}"
            );
            assert!(!is_slower(calm), "{what} takes longer and longer: {calm:?} µs");
        }
    }
}

/// Of each quarter of what was seen the value that `share` of them are below; 0 where nothing was seen.
fn quarters<T>(seen: &[T], share: f64, what: impl Fn(&T) -> u64) -> [u64; 4] {
    [0, 1, 2, 3].map(|nth| {
        let mut all: Vec<u64> = seen[seen.len() * nth / 4..seen.len() * (nth + 1) / 4].iter().map(&what).collect();
        all.sort_unstable();
        all.get((all.len() as f64 * share) as usize).copied().unwrap_or(0)
    })
}

/// Whether requests have become slower from the second quarter to the last, by the lower quartile of the medians in µs. What
/// leaks or piles up slows every request. A machine that does something else meanwhile slows some, and the faults of the
/// minute slow the slowest: so no p99 says anything here, and the calm moments of a quarter say most.
fn is_slower(calm: [u64; 4]) -> bool {
    calm[3] > 2 * calm[1] + 50_000
}

#[test]
fn a_soak_sees_what_becomes_slower_and_not_what_is_slow_for_a_while() {
    let series = |slow: fn(usize) -> u64| quarters(&(0..80).map(slow).collect::<Vec<_>>(), 0.25, |t| *t);
    assert!(!is_slower(series(|_| 20_000)));
    assert!(!is_slower(series(|at| if at % 3 == 0 || at < 70 { 20_000 } else { 900_000 })));
    assert!(is_slower(series(|at| 20_000 + 10_000 * at as u64)));
}

fn to() -> PathBuf {
    root().join("target/soak")
}

#[test]
#[ignore = "takes COPEPOD_SOAK_MINUTES (10): cargo nextest run -p e2e --run-ignored all lab_soak"]
fn nothing_grows_under_load_and_faults() {
    if !needs("python3", has("python3")) {
        return;
    }
    let Some(mut soak) = Soak::start() else { return };
    let minutes = std::env::var("COPEPOD_SOAK_MINUTES").ok().and_then(|m| m.parse().ok()).unwrap_or(10);
    let (begun, end) = (Instant::now(), Duration::from_secs(60 * minutes));
    let mut turn = 0;
    while begun.elapsed() < end {
        // This is no wait for a state: it is how long the cluster is left alone.
        std::thread::sleep(LOOK);
        soak.look(begun.elapsed());
        let within = begun.elapsed().as_secs() % BREAK.as_secs();
        match within < LOOK.as_secs() {
            true => {
                soak.disturb(turn);
                turn += 1;
            }
            false => soak.cluster.lab.heal(),
        }
    }
    soak.ends_well();
    let plot = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lab/plot.py");
    let python = std::env::var("COPEPOD_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let drawn = Command::new(python).arg(plot).arg(to()).status();
    println!("the picture is {}", if drawn.is_ok_and(|s| s.success()) { "there" } else { "missing: needs matplotlib" });
}
