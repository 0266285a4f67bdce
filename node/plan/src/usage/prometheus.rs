//! Prometheus' text format (version 0.0.4) of a node's measurements, with the kubelet's names.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use copepod_model::Time;

use super::Reading;
use crate::effect::ProbeKind;

/// A text that grows family by family.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display, at: Option<Time>) {
        self.0.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"{}\"", if i == 0 { '{' } else { ',' }, escape(value));
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = write!(self.0, " {value}");
        if let Some(at) = at {
            let _ = write!(self.0, " {}", at.0 / 1_000_000);
        }
        self.0.push('\n');
    }

    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value, None);
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// `/metrics/resource` (KEP-727): what metrics collectors scrape.
pub fn resource(now: &Reading) -> String {
    let (mut text, at) = (Text::default(), Some(now.at));
    let containers = || now.pods.iter().flat_map(|p| p.containers.iter().map(move |c| (p, c)));
    let name = "container_cpu_usage_seconds_total";
    text.family(name, "counter", "[STABLE] Cumulative cpu time consumed by the container in core-seconds");
    for (p, c) in containers() {
        let labels = [("container", &*c.name), ("namespace", &*p.namespace), ("pod", &*p.name)];
        text.sample(name, &labels, c.cpu.as_secs_f64(), at);
    }
    let name = "container_memory_working_set_bytes";
    text.family(name, "gauge", "[STABLE] Current working set of the container in bytes");
    for (p, c) in containers() {
        let labels = [("container", &*c.name), ("namespace", &*p.namespace), ("pod", &*p.name)];
        text.sample(name, &labels, c.memory, at);
    }
    let name = "container_start_time_seconds";
    text.family(name, "gauge", "[STABLE] Start time of the container since unix epoch in seconds");
    for (p, c) in containers() {
        let labels = [("container", &*c.name), ("namespace", &*p.namespace), ("pod", &*p.name)];
        text.sample(name, &labels, Duration::from_nanos(c.started.0).as_secs_f64(), at);
    }
    if let Some(cpu) = now.node.cpu {
        let name = "node_cpu_usage_seconds_total";
        text.family(name, "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds");
        text.sample(name, &[], cpu.as_secs_f64(), at);
    }
    if let Some(memory) = now.node.memory {
        let name = "node_memory_working_set_bytes";
        text.family(name, "gauge", "[STABLE] Current working set of the node in bytes");
        text.sample(name, &[], memory, at);
    }
    let name = "pod_cpu_usage_seconds_total";
    text.family(name, "counter", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds");
    for p in &now.pods {
        text.sample(name, &[("namespace", &*p.namespace), ("pod", &*p.name)], p.cpu().as_secs_f64(), at);
    }
    let name = "pod_memory_working_set_bytes";
    text.family(name, "gauge", "[STABLE] Current working set of the pod in bytes");
    for p in &now.pods {
        text.sample(name, &[("namespace", &*p.namespace), ("pod", &*p.name)], p.memory(), at);
    }
    let failed = now.node.cpu.is_none() || now.node.memory.is_none();
    let help = "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise";
    text.single("resource_scrape_error", "gauge", help, u8::from(failed));
    text.0
}

/// The process that the node runs in. `None` is what the host does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// CPU time.
    pub cpu: Option<Duration>,
    /// Resident bytes.
    pub resident: Option<u64>,
    /// Bytes of address space.
    pub virtual_memory: Option<u64>,
    /// When it started.
    pub started: Option<Time>,
}

/// `/metrics`: the node's agent itself.
pub fn kubelet(node: &str, version: &str, now: &Reading, process: Process) -> String {
    let mut text = Text::default();
    text.family("kubelet_node_name", "gauge", "[ALPHA] The node's name. The count is always 1.");
    text.sample("kubelet_node_name", &[("node", node)], 1, None);
    let help = "[BETA] Number of containers currently running";
    text.family("kubelet_running_containers", "gauge", help);
    let running: usize = now.pods.iter().map(|p| p.containers.len()).sum();
    text.sample("kubelet_running_containers", &[("container_state", "running")], running, None);
    let help = "[BETA] Number of pods that have a running container";
    text.single("kubelet_running_pods", "gauge", help, now.pods.len());
    let name = "kubernetes_build_info";
    text.family(name, "gauge", "[ALPHA] A metric with a constant '1' value labeled by the version.");
    text.sample(name, &[("git_version", version)], 1, None);
    if let Some(cpu) = process.cpu {
        let help = "Total user and system CPU time spent in seconds.";
        text.single("process_cpu_seconds_total", "counter", help, cpu.as_secs_f64());
    }
    if let Some(bytes) = process.resident {
        text.single("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.", bytes);
    }
    if let Some(bytes) = process.virtual_memory {
        text.single("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.", bytes);
    }
    if let Some(at) = process.started {
        let help = "Start time of the process since unix epoch in seconds.";
        text.single("process_start_time_seconds", "gauge", help, Duration::from_nanos(at.0).as_secs_f64());
    }
    text.0
}

/// Joins `/metrics` where an access log is written: how many lines of it were, and how many there was no room for.
pub fn access_log(written: u64, dropped: u64) -> String {
    let mut text = Text::default();
    let name = "copepod_ingress_access_log_lines_total";
    text.single(name, "counter", "Lines of the ingress' access log that were written.", written);
    let help = "Lines of the ingress' access log that were given up: no room, or not to be written.";
    text.single("copepod_ingress_access_log_dropped_total", "counter", help, dropped);
    text.0
}

/// How the probes of one kind of a container have ended so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeCount {
    /// UID of the pod.
    pub uid: Arc<str>,
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the container.
    pub container: String,
    /// Which probe.
    pub kind: ProbeKind,
    /// How many were successful.
    pub successful: u64,
    /// How many failed.
    pub failed: u64,
}

/// `/metrics/probes`.
pub fn probes(counts: &[ProbeCount]) -> String {
    let mut text = Text::default();
    let name = "prober_probe_total";
    let help = "[BETA] Cumulative number of a liveness, readiness or startup probe for a container by result.";
    text.family(name, "counter", help);
    for c in counts {
        let kind = match c.kind {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        };
        for (result, count) in [("failed", c.failed), ("successful", c.successful)] {
            if count > 0 {
                let labels = [
                    ("container", c.container.as_str()),
                    ("namespace", c.namespace.as_str()),
                    ("pod", c.pod.as_str()),
                    ("pod_uid", &*c.uid),
                    ("probe_type", kind),
                    ("result", result),
                ];
                text.sample(name, &labels, count, None);
            }
        }
    }
    text.0
}

#[cfg(test)]
mod tests {
    use super::super::tests::two;
    use super::*;

    #[test]
    fn resource_metrics_carry_their_time() {
        let text = resource(two().last().unwrap());
        for line in [
            "container_cpu_usage_seconds_total{container=\"c\",namespace=\"ns\",pod=\"web\"} 6 1010000",
            "container_memory_working_set_bytes{container=\"c\",namespace=\"ns\",pod=\"web\"} 5242880 1010000",
            "container_start_time_seconds{container=\"c\",namespace=\"ns\",pod=\"new\"} 1005 1010000",
            "node_cpu_usage_seconds_total 60 1010000",
            "node_memory_working_set_bytes 536870912 1010000",
            "pod_cpu_usage_seconds_total{namespace=\"ns\",pod=\"new\"} 0.9 1010000",
            "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"web\"} 5242880 1010000",
            "# TYPE container_cpu_usage_seconds_total counter",
            "resource_scrape_error 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let blind = resource(&Reading::default());
        assert!(blind.ends_with("resource_scrape_error 1\n") && !blind.contains("node_cpu"), "{blind}");
    }

    #[test]
    fn the_agent_tells_of_itself() {
        let process = Process { cpu: Some(Duration::from_millis(1500)), started: Some(Time(1)), ..Process::default() };
        let text = kubelet("a\"b", "v1", two().last().unwrap(), process);
        for line in [
            "kubelet_node_name{node=\"a\\\"b\"} 1",
            "kubelet_running_containers{container_state=\"running\"} 2",
            "kubelet_running_pods 2",
            "kubernetes_build_info{git_version=\"v1\"} 1",
            "process_cpu_seconds_total 1.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        assert!(!text.contains("process_resident_memory_bytes"), "{text}");
    }

    #[test]
    fn probes_are_counted_by_result() {
        let count = ProbeCount {
            uid: "u".into(),
            namespace: "ns".into(),
            pod: "p".into(),
            container: "c".into(),
            kind: ProbeKind::Readiness,
            successful: 3,
            failed: 0,
        };
        let labels = "container=\"c\",namespace=\"ns\",pod=\"p\",pod_uid=\"u\",probe_type=\"Readiness\"";
        let text = probes(&[count]);
        assert!(text.ends_with(&format!("prober_probe_total{{{labels},result=\"successful\"}} 3\n")), "{text}");
        assert!(!text.contains("failed"), "what never happened has no line: {text}");
    }
}
