//! Probes of one running container: when the next is due and what their answers add up to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::effect::{ProbeHow, ProbeKind};

/// A probe and its answers so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    pub how: ProbeHow,
    pub timeout: Duration,
    /// Grace of the stop that a failure causes, where the probe has its own.
    pub grace: Option<Duration>,
    initial_delay: Duration,
    period: Duration,
    success_threshold: u32,
    failure_threshold: u32,
    successes: u32,
    failures: u32,
    /// The result that stands, once a threshold was reached.
    outcome: Option<bool>,
    next_at: Option<Time>,
    in_flight: bool,
}

/// All probes of a container's current attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Probes(BTreeMap<ProbeKind, Run>);

impl Probes {
    /// The probes that a container declares, ports resolved. `Err` says what cannot be probed.
    pub fn of(pod: &Pod, container: &Container, ip: IpAddr) -> Result<Probes, String> {
        let declared = [
            (ProbeKind::Startup, &container.startup_probe, "startup"),
            (ProbeKind::Readiness, &container.readiness_probe, "readiness"),
            (ProbeKind::Liveness, &container.liveness_probe, "liveness"),
        ];
        let mut runs = BTreeMap::new();
        for (kind, probe, name) in declared {
            let Some(probe) = probe else { continue };
            let how = how(probe, container, ip).map_err(|e| format!("{name} probe: {e}"))?;
            let seconds = |n: Option<i32>, default: u64| {
                n.and_then(|n| u64::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default)
            };
            let annotation = format!("copepod.dev/{}.{name}.periodMilliseconds", container.name);
            let millis =
                pod.metadata.annotations.as_ref().and_then(|a| a.get(&annotation)).and_then(|v| v.parse::<u64>().ok());
            let period = match millis.filter(|ms| *ms > 0) {
                Some(ms) => Duration::from_millis(ms),
                None => Duration::from_secs(seconds(probe.period_seconds, 10)),
            };
            let threshold = |n: Option<i32>, default: u32| {
                n.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(default)
            };
            let grace = probe.termination_grace_period_seconds.and_then(|s| u64::try_from(s).ok());
            runs.insert(
                kind,
                Run {
                    how,
                    timeout: Duration::from_secs(seconds(probe.timeout_seconds, 1)),
                    grace: grace.map(Duration::from_secs),
                    initial_delay: Duration::from_secs(seconds(probe.initial_delay_seconds, 0)),
                    period,
                    success_threshold: threshold(probe.success_threshold, 1),
                    failure_threshold: threshold(probe.failure_threshold, 3),
                    successes: 0,
                    failures: 0,
                    outcome: None,
                    next_at: None,
                    in_flight: false,
                },
            );
        }
        Ok(Probes(runs))
    }

    /// The container runs since `at`.
    pub fn start(&mut self, at: Time) {
        for run in self.0.values_mut() {
            run.next_at = Some(at + run.initial_delay);
        }
    }

    /// Counts an answer; `false` for one that nobody waits for.
    pub fn answer(&mut self, kind: ProbeKind, ok: bool, at: Time) -> bool {
        let Some(run) = self.0.get_mut(&kind).filter(|r| r.in_flight) else { return false };
        run.in_flight = false;
        run.next_at = run.next_at.map(|next| next.max(at));
        let (count, threshold) = if ok {
            run.failures = 0;
            run.successes = run.successes.saturating_add(1);
            (run.successes, run.success_threshold)
        } else {
            run.successes = 0;
            run.failures = run.failures.saturating_add(1);
            (run.failures, run.failure_threshold)
        };
        if count >= threshold {
            run.outcome = Some(ok);
        }
        if kind == ProbeKind::Startup && run.outcome == Some(true) {
            // It has done its work, and the others begin now where their delay has passed.
            run.next_at = None;
        }
        true
    }

    /// Whether there is no startup probe or it has passed.
    pub fn startup_passed(&self) -> bool {
        self.0.get(&ProbeKind::Startup).is_none_or(|r| r.outcome == Some(true))
    }

    /// Whether there is no readiness probe or its last outcome is success.
    pub fn ready(&self) -> bool {
        self.0.get(&ProbeKind::Readiness).is_none_or(|r| r.outcome == Some(true))
    }

    /// The probe that says the container must be restarted, if one does.
    pub fn fatal(&self) -> Option<(ProbeKind, &Run)> {
        let failed = |kind| self.0.get(&kind).filter(|r| r.outcome == Some(false)).map(|r| (kind, r));
        failed(ProbeKind::Startup).or_else(|| failed(ProbeKind::Liveness))
    }

    /// Takes the probes that are due, and when to look again if none of them is answered before.
    pub fn due(&mut self, now: Time) -> (Vec<(ProbeKind, ProbeHow, Duration)>, Option<Time>) {
        let held = !self.startup_passed();
        let mut due = Vec::new();
        let mut wake = None;
        for (kind, run) in &mut self.0 {
            let Some(next) = run.next_at.filter(|_| !run.in_flight && (!held || *kind == ProbeKind::Startup)) else {
                continue;
            };
            if next > now {
                wake = Some(wake.map_or(next, |w: Time| w.min(next)));
                continue;
            }
            run.in_flight = true;
            run.next_at = Some(now + run.period);
            due.push((*kind, run.how.clone(), run.timeout));
        }
        (due, wake)
    }
}

fn how(probe: &Probe, container: &Container, ip: IpAddr) -> Result<ProbeHow, String> {
    let host = |h: &Option<String>| h.clone().filter(|h| !h.is_empty()).unwrap_or_else(|| ip.to_string());
    if let Some(http) = &probe.http_get {
        let path = http.path.clone().unwrap_or_default();
        return Ok(ProbeHow::Http {
            host: host(&http.host),
            port: port(&http.port, container)?,
            path: if path.starts_with('/') { path } else { format!("/{path}") },
            headers: http.http_headers.iter().flatten().map(|h| (h.name.clone(), h.value.clone())).collect(),
            https: http.scheme.as_deref().is_some_and(|s| s.eq_ignore_ascii_case("https")),
        });
    }
    if let Some(tcp) = &probe.tcp_socket {
        return Ok(ProbeHow::Tcp { host: host(&tcp.host), port: port(&tcp.port, container)? });
    }
    Err(match (&probe.exec, &probe.grpc) {
        (Some(_), _) => "exec is not supported yet".into(),
        (_, Some(_)) => "grpc is not supported yet".into(),
        _ => "missing probe handler".into(),
    })
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => i64::from(*n),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            match (named, name.parse()) {
                (Some(p), _) => i64::from(p.container_port),
                (None, Ok(n)) => n,
                _ => return Err(format!("couldn't find port: {name}")),
            }
        }
    };
    u16::try_from(number).ok().filter(|n| *n > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn probes(container: serde_json::Value, annotations: serde_json::Value) -> Result<Probes, String> {
        let mut c = container;
        c["name"] = "c".into();
        let pod: Pod =
            serde_json::from_value(json!({"metadata": {"annotations": annotations}, "spec": {"containers": [c]}}))
                .unwrap();
        Probes::of(&pod, &pod.spec.as_ref().unwrap().containers[0], "10.244.0.5".parse().unwrap())
    }

    #[test]
    fn named_ports_hosts_and_paths_are_resolved() {
        let p = probes(
            json!({"ports": [{"name": "web", "containerPort": 8080}], "readinessProbe": {"httpGet": {"path": "x", "port": "web"}}}),
            json!({}),
        )
        .unwrap();
        let want =
            ProbeHow::Http { host: "10.244.0.5".into(), port: 8080, path: "/x".into(), headers: vec![], https: false };
        assert_eq!(p.0[&ProbeKind::Readiness].how, want);
        let e = probes(json!({"livenessProbe": {"tcpSocket": {"port": "nope"}}}), json!({})).unwrap_err();
        assert_eq!(e, "liveness probe: couldn't find port: nope");
        assert!(probes(json!({"livenessProbe": {"exec": {"command": ["x"]}}}), json!({})).is_err());
    }

    #[test]
    fn thresholds_delay_and_period_decide() {
        let mut p = probes(
            json!({"readinessProbe": {"tcpSocket": {"port": 1}, "initialDelaySeconds": 2, "successThreshold": 2, "failureThreshold": 2}}),
            json!({"copepod.dev/c.readiness.periodMilliseconds": "250"}),
        )
        .unwrap();
        let t = Time::from_secs(100);
        p.start(t);
        assert_eq!(p.due(t), (vec![], Some(Time::from_secs(102))));
        let mut now = Time::from_secs(102);
        let mut seen = Vec::new();
        for ok in [true, true, false, true, false, false, true, true] {
            assert_eq!(p.due(now).0.len(), 1, "at {now:?}");
            assert_eq!(p.due(now).0.len(), 0, "in flight at {now:?}");
            assert!(p.answer(ProbeKind::Readiness, ok, now));
            assert!(!p.answer(ProbeKind::Readiness, ok, now), "an answer counts once");
            seen.push(p.ready());
            now = now + Duration::from_millis(250);
        }
        assert_eq!(seen, [false, true, true, true, true, false, false, true]);
    }

    #[test]
    fn the_startup_probe_holds_the_others_back() {
        let mut p = probes(
            json!({"startupProbe": {"tcpSocket": {"port": 1}}, "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 1}}),
            json!({}),
        )
        .unwrap();
        let t = Time::from_secs(100);
        p.start(t);
        let kinds = |p: &mut Probes, now| p.due(now).0.iter().map(|d| d.0).collect::<Vec<_>>();
        assert_eq!(kinds(&mut p, t), [ProbeKind::Startup]);
        p.answer(ProbeKind::Startup, true, t);
        assert_eq!(kinds(&mut p, t), [ProbeKind::Liveness]);
        p.answer(ProbeKind::Liveness, false, t);
        assert_eq!(p.fatal().map(|f| f.0), Some(ProbeKind::Liveness));
        assert_eq!(
            kinds(&mut p, t + Duration::from_secs(60)),
            [ProbeKind::Liveness],
            "startup probes end with success"
        );
    }
}
