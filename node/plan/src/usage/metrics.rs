//! `metrics.k8s.io/v1beta1`: NodeMetrics and PodMetrics, without the metadata that only the API's objects have.

use std::time::Duration;

use copepod_model::quantity::Quantity;
use serde_json::{Value, json};

use super::{Rate, Samples};
use crate::text::go_duration;

/// The API group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub const VERSION: &str = "v1beta1";
/// Both.
pub const API_VERSION: &str = "metrics.k8s.io/v1beta1";

/// What the node uses; `None` until there are two readings.
pub fn node_metrics(samples: &Samples, name: &str) -> Option<Value> {
    let (last, rate) = (samples.last()?, samples.node_rate()?);
    Some(json!({
        "metadata": {"name": name}, "timestamp": last.at.rfc3339(), "window": window(rate.window),
        "usage": usage(rate, last.node.memory?),
    }))
}

/// What pods use, of those that `wanted` (namespace, name) lets through. A pod is told of when all of its containers that
/// run have been measured over a window, as by metrics-server.
pub fn pod_metrics(samples: &Samples, wanted: impl Fn(&str, &str) -> bool) -> Vec<Value> {
    let Some(last) = samples.last() else { return Vec::new() };
    let metrics = |pod: &super::PodReading| {
        let mut shortest: Option<Duration> = None;
        let mut containers = Vec::with_capacity(pod.containers.len());
        for c in &pod.containers {
            let rate = samples.rate(pod, c)?;
            shortest = shortest.into_iter().chain([rate.window]).min();
            containers.push(json!({"name": &*c.name, "usage": usage(rate, c.memory)}));
        }
        Some(json!({
            "metadata": {"namespace": &*pod.namespace, "name": &*pod.name},
            "timestamp": last.at.rfc3339(), "window": window(shortest?), "containers": containers,
        }))
    };
    last.pods.iter().filter(|p| wanted(&p.namespace, &p.name)).filter_map(metrics).collect()
}

fn usage(rate: Rate, memory: u64) -> Value {
    let whole = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    json!({
        "cpu": Quantity::from_nanos(whole(rate.nano_cores)).to_string(),
        "memory": Quantity::from_bytes(whole(memory)).to_string(),
    })
}

/// `metav1.Duration`, to the millisecond: what is finer says nothing.
fn window(d: Duration) -> String {
    go_duration(if d >= Duration::from_secs(1) { d - Duration::from_nanos(d.as_nanos() as u64 % 1_000_000) } else { d })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{MI, container, pod, reading, two};
    use super::*;

    #[test]
    fn pods_are_told_of_once_they_are_measured() {
        let all = pod_metrics(&two(), |_, _| true);
        let web = json!({
            "metadata": {"namespace": "ns", "name": "web"}, "timestamp": "1970-01-01T00:16:50Z", "window": "10s",
            "containers": [{"name": "c", "usage": {"cpu": "500m", "memory": "5Mi"}}],
        });
        assert_eq!(all, [web], "and not the one that has just come");
        assert!(pod_metrics(&two(), |ns, name| (ns, name) == ("ns", "other")).is_empty());
        assert!(pod_metrics(&Samples::default(), |_, _| true).is_empty());
    }

    #[test]
    fn a_pod_with_a_container_that_is_not_measured_waits() {
        let mut samples = Samples::default();
        samples.push(reading(1000, 0, vec![pod("p", vec![container("a", 0, 900, 0, MI)])]));
        let both = vec![container("a", 0, 900, 1, MI), container("b", 0, 1001, 1, MI)];
        samples.push(reading(1003, 0, vec![pod("p", both)]));
        assert!(pod_metrics(&samples, |_, _| true).is_empty());
    }

    #[test]
    fn quantities_are_exact_and_windows_are_not() {
        let mut samples = Samples::default();
        samples.push(reading(0, 0, vec![]));
        samples.push(reading(3, 1, vec![]));
        let node = node_metrics(&samples, "n").unwrap();
        assert_eq!(node["usage"], json!({"cpu": "333333n", "memory": "512Mi"}));
        assert_eq!((&node["metadata"], &node["window"]), (&json!({"name": "n"}), &json!("3s")));
        assert_eq!(window(Duration::from_nanos(15_012_345_678)), "15.012s");
        assert_eq!(node_metrics(&Samples::default(), "n"), None);
    }
}
