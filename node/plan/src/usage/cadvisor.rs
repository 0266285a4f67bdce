//! `/metrics/cadvisor`: cAdvisor's names and labels, for dashboards that were made for them. What is not measured is left out.

use std::collections::BTreeMap;
use std::time::Duration;

use copepod_model::Time;

use super::Reading;
use super::prometheus::Text;

/// The host under the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processors.
    pub cores: u64,
    /// Memory in bytes.
    pub memory: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// `uname -r`.
    pub kernel: String,
    /// The distribution's name.
    pub os: String,
}

/// Images by UID of the pod and name of the container.
pub type ImagesOf = BTreeMap<(String, String), String>;

/// What one control group would be elsewhere: the node, a pod, a container.
#[derive(Default)]
struct Group<'a> {
    container: &'a str,
    id: String,
    image: &'a str,
    name: String,
    namespace: &'a str,
    pod: &'a str,
    cpu: Option<Duration>,
    memory: Option<u64>,
    /// Of pods and containers, all of whose memory is anonymous.
    resident: Option<u64>,
    started: Option<Time>,
}

/// `/metrics/cadvisor`.
pub fn cadvisor(machine: &Machine, now: &Reading, images: &ImagesOf) -> String {
    let groups = groups(now, images);
    let (mut text, at) = (Text::default(), Some(now.at));
    let name = "cadvisor_version_info";
    let help = "A metric with a constant '1' value labeled by kernel version and OS version.";
    text.family(name, "gauge", help);
    text.sample(name, &[("kernelVersion", machine.kernel.as_str()), ("osVersion", machine.os.as_str())], 1, None);

    let name = "container_cpu_usage_seconds_total";
    text.family(name, "counter", "Cumulative cpu time consumed in seconds.");
    for (g, cpu) in groups.iter().filter_map(|g| Some((g, g.cpu?))) {
        let all = [("container", g.container), ("cpu", "total"), ("id", g.id.as_str()), ("image", g.image)];
        let labels = all.into_iter().chain(g.tail());
        text.sample(name, &labels.collect::<Vec<_>>(), cpu.as_secs_f64(), at);
    }
    let mut family = |name: &str, help: &str, value: &dyn Fn(&Group<'_>) -> Option<f64>| {
        text.family(name, "gauge", help);
        for (g, value) in groups.iter().filter_map(|g| Some((g, value(g)?))) {
            let all = [("container", g.container), ("id", g.id.as_str()), ("image", g.image)];
            text.sample(name, &all.into_iter().chain(g.tail()).collect::<Vec<_>>(), value, at);
        }
    };
    let seconds = |t: Time| Duration::from_nanos(t.0).as_secs_f64();
    let last = now.at.secs() as f64;
    family("container_last_seen", "Last time a container was seen by the exporter", &|_| Some(last));
    family("container_memory_rss", "Size of RSS in bytes.", &|g| Some(g.resident? as f64));
    let help = "Current memory usage in bytes, including all memory regardless of when it was accessed";
    family("container_memory_usage_bytes", help, &|g| Some(g.memory? as f64));
    family("container_memory_working_set_bytes", "Current working set in bytes.", &|g| Some(g.memory? as f64));
    let failed = now.node.cpu.is_none() || now.node.memory.is_none();
    let help = "Start time of the container since unix epoch in seconds.";
    family("container_start_time_seconds", help, &|g| Some(seconds(g.started?)));
    let help = "1 if there was an error while getting container metrics, 0 otherwise";
    text.single("container_scrape_error", "gauge", help, u8::from(failed));

    // The host's id is all that there is for the system's.
    let id = machine.machine_id.as_str();
    let labels = [("boot_id", machine.boot_id.as_str()), ("machine_id", id), ("system_uuid", id)];
    text.family("machine_cpu_cores", "gauge", "Number of logical CPU cores.");
    text.sample("machine_cpu_cores", &labels, machine.cores, None);
    text.family("machine_memory_bytes", "gauge", "Amount of memory installed on the machine.");
    text.sample("machine_memory_bytes", &labels, machine.memory, None);
    text.0
}

impl Group<'_> {
    fn tail(&self) -> [(&str, &str); 3] {
        [("name", self.name.as_str()), ("namespace", self.namespace), ("pod", self.pod)]
    }
}

fn groups<'a>(now: &'a Reading, images: &'a ImagesOf) -> Vec<Group<'a>> {
    let mut out = vec![Group { id: "/".into(), cpu: now.node.cpu, memory: now.node.memory, ..Group::default() }];
    for p in &now.pods {
        let id = format!("/kubepods/pod{}", p.uid);
        let common = || Group { namespace: &p.namespace, pod: &p.name, ..Group::default() };
        for c in &p.containers {
            let name = format!("{}.{}.{}", p.uid, c.name, c.attempt);
            out.push(Group {
                container: &c.name,
                id: format!("{id}/{name}"),
                image: images.get(&(p.uid.to_string(), c.name.to_string())).map_or("", String::as_str),
                name,
                cpu: Some(c.cpu),
                memory: Some(c.memory),
                resident: Some(c.memory),
                started: Some(c.started),
                ..common()
            });
        }
        let (cpu, memory) = (Some(p.cpu()), Some(p.memory()));
        out.push(Group { id, cpu, memory, resident: memory, started: Some(p.since), ..common() });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::two;
    use super::*;

    #[test]
    fn the_node_its_pods_and_containers_have_cadvisors_names() {
        let machine = Machine {
            cores: 2,
            memory: 4096,
            boot_id: "b".into(),
            machine_id: "m".into(),
            kernel: "6.1".into(),
            os: "Debian".into(),
        };
        let images = [(("uid-web".to_string(), "c".to_string()), "file://web.wasm".to_string())].into();
        let text = cadvisor(&machine, two().last().unwrap(), &images);
        let web = "id=\"/kubepods/poduid-web/uid-web.c.0\",image=\"file://web.wasm\",name=\"uid-web.c.0\",namespace=\"ns\",pod=\"web\"";
        let cpu = web.replacen("id=", "cpu=\"total\",id=", 1);
        let pod = "container=\"\",id=\"/kubepods/poduid-web\",image=\"\",name=\"\",namespace=\"ns\",pod=\"web\"";
        let host = "boot_id=\"b\",machine_id=\"m\",system_uuid=\"m\"";
        for line in [
            "cadvisor_version_info{kernelVersion=\"6.1\",osVersion=\"Debian\"} 1",
            "# TYPE container_cpu_usage_seconds_total counter",
            &format!("container_cpu_usage_seconds_total{{container=\"c\",{cpu}}} 6 1010000"),
            "container_cpu_usage_seconds_total{container=\"\",cpu=\"total\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"} 60 1010000",
            &format!("container_last_seen{{container=\"c\",{web}}} 1010 1010000"),
            &format!("container_memory_rss{{container=\"c\",{web}}} 5242880 1010000"),
            &format!("container_memory_usage_bytes{{container=\"c\",{web}}} 5242880 1010000"),
            &format!("container_memory_working_set_bytes{{{pod}}} 5242880 1010000"),
            &format!("container_start_time_seconds{{container=\"c\",{web}}} 900 1010000"),
            &format!("container_start_time_seconds{{{pod}}} 100 1010000"),
            "container_scrape_error 0",
            &format!("machine_cpu_cores{{{host}}} 2"),
            &format!("machine_memory_bytes{{{host}}} 4096"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
        let root = text.lines().filter(|l| l.contains("id=\"/\"") && l.starts_with("container_memory_rss")).count();
        assert_eq!(root, 0, "what the host holds is not all anonymous");
        let blind = cadvisor(&machine, &Reading::default(), &ImagesOf::new());
        assert!(blind.contains("container_scrape_error 1\n") && !blind.contains("\ncontainer_cpu"), "{blind}");
    }
}
