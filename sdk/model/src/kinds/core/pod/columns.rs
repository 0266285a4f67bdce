//! What `kubectl get pods` shows.

use serde_json::Value;

use crate::Time;
use crate::kinds::fields::{is_true, list, text};
use crate::kinds::table::{col, name, or_none, wide};
use crate::kinds::{Column, age, duration, table};

pub(super) fn columns() -> Vec<Column> {
    table::columns(
        &[
            col("Ready", "string", "The aggregate readiness state of this pod for accepting traffic."),
            col("Status", "string", "The aggregate status of the containers in this pod."),
            col(
                "Restarts",
                "string",
                "The number of times the containers in this pod have been restarted and when the last container in this pod \
                 has restarted.",
            ),
        ],
        &[
            wide("IP", "string", "The IP address of the pod."),
            wide("Node", "string", "The node on which the pod runs."),
            wide("Nominated Node", "string", "The node that preemption has made room on for the pod."),
            wide("Readiness Gates", "string", "How many of the pod's readiness gates are open."),
        ],
    )
}

pub(super) fn cells(pod: &Value, now: Time) -> Vec<Value> {
    let (spec, status) = (&pod["spec"], &pod["status"]);
    let seen = Summary::of(pod);
    let restarts = match seen.last {
        Some(at) if seen.restarts != 0 => format!("{} ({} ago)", seen.restarts, duration::human(now.since(at))),
        _ => seen.restarts.to_string(),
    };
    let ip = list(status, "podIPs").first().map_or_else(|| text(status, "podIP"), |i| text(i, "ip"));
    let gates = list(spec, "readinessGates");
    let open = gates.iter().filter(|g| condition(status, text(g, "conditionType")));
    vec![
        name(pod),
        format!("{}/{}", seen.ready, seen.total).into(),
        seen.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(ip),
        or_none(text(spec, "nodeName")),
        or_none(text(status, "nominatedNodeName")),
        if gates.is_empty() { "<none>".into() } else { format!("{}/{}", open.count(), gates.len()).into() },
    ]
}

fn condition(status: &Value, kind: &str) -> bool {
    list(status, "conditions").iter().any(|c| text(c, "type") == kind && c["status"] == "True")
}

struct Summary {
    ready: usize,
    total: usize,
    reason: String,
    restarts: i64,
    last: Option<Time>,
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let (spec, status) = (&pod["spec"], &pod["status"]);
        let phase = text(status, "phase");
        let mut reason = if text(status, "reason").is_empty() { phase } else { text(status, "reason") }.to_string();
        let gated = |c: &Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
        if list(status, "conditions").iter().any(gated) {
            reason = "SchedulingGated".into();
        }
        let inits = list(spec, "initContainers");
        let sidecar = |name: &Value| inits.iter().any(|c| c["name"] == *name && c["restartPolicy"] == "Always");
        let total = list(spec, "containers").len() + inits.iter().filter(|c| c["restartPolicy"] == "Always").count();
        let mut out = Summary { ready: 0, total, reason: String::new(), restarts: 0, last: None };
        // Restarts of sidecars count for the pod's whole life, those of other init containers only while they run.
        let (mut sidecar_restarts, mut sidecar_last) = (0, None);

        let mut initializing = false;
        for (i, c) in list(status, "initContainerStatuses").iter().enumerate() {
            out.count(c);
            let restartable = sidecar(&c["name"]);
            if restartable {
                sidecar_restarts += restarts(c);
                sidecar_last = sidecar_last.max(ended(c));
            }
            let (waiting, terminated) = (&c["state"]["waiting"], &c["state"]["terminated"]);
            if terminated.is_object() && terminated["exitCode"].as_i64().unwrap_or(0) == 0 {
                continue;
            }
            if restartable && is_true(c, "started") {
                out.ready += usize::from(is_true(c, "ready"));
                continue;
            }
            let why = if terminated.is_object() {
                how_it_ended(terminated)
            } else if !matches!(text(waiting, "reason"), "" | "PodInitializing") {
                text(waiting, "reason").into()
            } else {
                format!("{i}/{}", inits.len())
            };
            reason = format!("Init:{why}");
            initializing = true;
            break;
        }

        if !initializing || condition(status, "Initialized") {
            out.restarts = sidecar_restarts;
            out.last = sidecar_last;
            let mut running = false;
            for c in list(status, "containerStatuses").iter().rev() {
                out.count(c);
                let state = &c["state"];
                if !text(&state["waiting"], "reason").is_empty() {
                    reason = text(&state["waiting"], "reason").into();
                } else if state["terminated"].is_object() {
                    reason = how_it_ended(&state["terminated"]);
                } else if is_true(c, "ready") && state["running"].is_object() {
                    running = true;
                    out.ready += 1;
                }
            }
            if reason == "Completed" && running {
                reason = if condition(status, "Ready") { "Running" } else { "NotReady" }.into();
            }
        }

        if !pod["metadata"]["deletionTimestamp"].is_null() {
            if text(status, "reason") == "NodeLost" {
                reason = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                reason = "Terminating".into();
            }
        }
        out.reason = reason;
        out
    }

    fn count(&mut self, container: &Value) {
        self.restarts += restarts(container);
        self.last = self.last.max(ended(container));
    }
}

fn restarts(container: &Value) -> i64 {
    container["restartCount"].as_i64().unwrap_or(0)
}

/// When the container ended before it was last restarted.
fn ended(container: &Value) -> Option<Time> {
    container["lastState"]["terminated"]["finishedAt"].as_str().and_then(Time::parse)
}

fn how_it_ended(terminated: &Value) -> String {
    match (text(terminated, "reason"), terminated["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.into(),
    }
}
