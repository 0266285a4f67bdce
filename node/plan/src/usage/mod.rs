//! What a node and its pods use: rates from two readings, and the forms in which they are told: `metrics.k8s.io`, the
//! kubelet's Summary API, and Prometheus' text.
//!
//! A reading is two numbers per container, taken now and then. Whoever asks gets what lies between the last two.

mod cadvisor;
mod metrics;
mod prometheus;
mod summary;

use std::sync::Arc;
use std::time::Duration;

use copepod_model::Time;

pub use cadvisor::{ImagesOf, Machine, cadvisor};
pub use metrics::{API_VERSION, GROUP, VERSION, node_metrics, pod_metrics};
pub use prometheus::{ProbeCount, Process, access_log, kubelet, probes, resource};
pub use summary::{FileSystem, Node, VolumeUse, summary};

/// A container that the reading before has not seen counts from its own start once it has run so long: in less time a rate
/// says little (metrics-server's rule).
const FRESH: Duration = Duration::from_secs(10);

/// What one attempt of a container has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerReading {
    /// Name.
    pub name: Arc<str>,
    /// Which start of it.
    pub attempt: u32,
    /// When it started.
    pub started: Time,
    /// CPU time since then.
    pub cpu: Duration,
    /// Working set in bytes, which is its resident set too. What is in the pod's volumes in memory counts with one of its
    /// containers.
    pub memory: u64,
}

/// A pod in which something runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodReading {
    /// UID.
    pub uid: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Since when it is measured.
    pub since: Time,
    /// Its containers that run.
    pub containers: Vec<ContainerReading>,
}

impl PodReading {
    /// CPU time of its containers.
    fn cpu(&self) -> Duration {
        self.containers.iter().map(|c| c.cpu).sum()
    }

    /// Bytes of their working sets.
    fn memory(&self) -> u64 {
        self.containers.iter().fold(0, |sum, c| sum.saturating_add(c.memory))
    }
}

/// What the node uses as a whole, whoever uses it. `None` is what the host does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NodeReading {
    /// CPU time of all processors together.
    pub cpu: Option<Duration>,
    /// Bytes that are not to be had without pushing something out.
    pub memory: Option<u64>,
}

/// Everything, at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// When.
    pub at: Time,
    /// The node.
    pub node: NodeReading,
    /// Its pods, ordered by UID.
    pub pods: Vec<PodReading>,
}

impl Reading {
    /// A reading of pods in any order.
    pub fn new(at: Time, node: NodeReading, mut pods: Vec<PodReading>) -> Reading {
        pods.sort_unstable_by(|a, b| a.uid.cmp(&b.uid));
        Reading { at, node, pods }
    }

    fn pod(&self, uid: &str) -> Option<&PodReading> {
        self.pods.binary_search_by(|p| (*p.uid).cmp(uid)).ok().and_then(|i| self.pods.get(i))
    }
}

/// CPU use over a window of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Billionths of a processor.
    pub nano_cores: u64,
    /// Over how long.
    pub window: Duration,
}

impl Rate {
    /// `None` without a window, or when a counter has begun anew.
    fn between(before: Duration, after: Duration, window: Duration) -> Option<Rate> {
        let used = after.checked_sub(before)?;
        let nano_cores = (used.as_nanos() * 1_000_000_000).checked_div(window.as_nanos())?;
        Some(Rate { nano_cores: u64::try_from(nano_cores).unwrap_or(u64::MAX), window })
    }
}

/// The last two readings.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    before: Option<Arc<Reading>>,
    last: Option<Arc<Reading>>,
}

impl Samples {
    /// Takes in a reading.
    pub fn push(&mut self, reading: Reading) {
        self.before = self.last.replace(Arc::new(reading));
    }

    /// The newest reading.
    pub fn last(&self) -> Option<&Reading> {
        self.last.as_deref()
    }

    /// The node's rate.
    pub fn node_rate(&self) -> Option<Rate> {
        let (before, last) = (self.before.as_ref()?, self.last.as_ref()?);
        Rate::between(before.node.cpu?, last.node.cpu?, last.at.since(before.at))
    }

    /// The rate of a container as the newest reading has it.
    fn rate(&self, pod: &PodReading, container: &ContainerReading) -> Option<Rate> {
        let last = self.last.as_ref()?;
        let same = |c: &&ContainerReading| (&c.name, c.attempt) == (&container.name, container.attempt);
        let seen = self.before.as_ref().and_then(|b| Some((b.at, b.pod(&pod.uid)?.containers.iter().find(same)?.cpu)));
        match seen {
            Some((at, cpu)) => Rate::between(cpu, container.cpu, last.at.since(at)),
            None => {
                let ran = last.at.since(container.started);
                (ran >= FRESH).then(|| Rate::between(Duration::ZERO, container.cpu, ran)).flatten()
            }
        }
    }

    /// The rate of a container by name, if the newest reading has this attempt of it.
    fn rate_of(&self, uid: &str, name: &str, attempt: u32) -> Option<Rate> {
        let pod = self.last.as_ref()?.pod(uid)?;
        let container = pod.containers.iter().find(|c| (&*c.name, c.attempt) == (name, attempt))?;
        self.rate(pod, container)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const MI: u64 = 1 << 20;

    pub(crate) fn container(name: &str, attempt: u32, started: u64, cpu_millis: u64, memory: u64) -> ContainerReading {
        ContainerReading {
            name: name.into(),
            attempt,
            started: Time::from_secs(started),
            cpu: Duration::from_millis(cpu_millis),
            memory,
        }
    }

    pub(crate) fn pod(name: &str, containers: Vec<ContainerReading>) -> PodReading {
        let uid = format!("uid-{name}").as_str().into();
        PodReading { uid, namespace: "ns".into(), name: name.into(), since: Time::from_secs(100), containers }
    }

    pub(crate) fn reading(at: u64, node_cpu_millis: u64, pods: Vec<PodReading>) -> Reading {
        let node = NodeReading { cpu: Some(Duration::from_millis(node_cpu_millis)), memory: Some(512 * MI) };
        Reading::new(Time::from_secs(at), node, pods)
    }

    /// Two readings with 10 s between them: `web` has used half a core, `new` has just come.
    pub(crate) fn two() -> Samples {
        let mut samples = Samples::default();
        samples.push(reading(1000, 50_000, vec![pod("web", vec![container("c", 0, 900, 1000, 4 * MI)])]));
        samples.push(reading(
            1010,
            60_000,
            vec![
                pod("web", vec![container("c", 0, 900, 6000, 5 * MI)]),
                pod("new", vec![container("c", 0, 1005, 900, MI)]),
            ],
        ));
        samples
    }

    fn nano_cores(samples: &Samples, pod: &str, attempt: u32) -> Option<u64> {
        samples.rate_of(&format!("uid-{pod}"), "c", attempt).map(|r| r.nano_cores)
    }

    #[test]
    fn a_rate_lies_between_two_readings() {
        let mut samples = Samples::default();
        assert_eq!(samples.node_rate(), None);
        samples.push(reading(1000, 0, vec![]));
        assert_eq!(samples.node_rate(), None, "one reading has no window");
        let samples = two();
        let window = Duration::from_secs(10);
        assert_eq!(samples.node_rate(), Some(Rate { nano_cores: 1_000_000_000, window }));
        assert_eq!(nano_cores(&samples, "web", 0), Some(500_000_000));
        assert_eq!(nano_cores(&samples, "web", 1), None, "another attempt");
        assert_eq!(nano_cores(&samples, "nobody", 0), None);
    }

    #[test]
    fn who_is_new_counts_from_its_start_after_a_while() {
        let mut samples = two();
        assert_eq!(nano_cores(&samples, "new", 0), None, "it has run for five seconds");
        // A restart: the counter has begun anew, and there is a new one to compare with.
        samples.push(reading(1030, 61_000, vec![pod("web", vec![container("c", 1, 1010, 2000, MI)])]));
        assert_eq!(nano_cores(&samples, "web", 1), Some(100_000_000), "two seconds in twenty");
    }

    #[test]
    fn clocks_and_counters_that_go_backwards_give_no_rate() {
        let mut samples = two();
        samples.push(reading(1010, 59_000, vec![pod("web", vec![container("c", 0, 900, 6000, MI)])]));
        assert_eq!((samples.node_rate(), nano_cores(&samples, "web", 0)), (None, None));
        samples.push(reading(1020, 59_500, vec![pod("web", vec![container("c", 0, 900, 5000, MI)])]));
        assert_eq!(nano_cores(&samples, "web", 0), None);
    }
}
