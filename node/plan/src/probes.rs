//! Probes of one running container: when the next is due and what their answers add up to.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use copepod_model::Time;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::effect::{ProbeHow, ProbeKind};
use crate::handler;

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

/// What an answer has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nobody waits for it.
    Stale,
    /// It was counted; what stands is as it was.
    Counted,
    /// A threshold was reached: another outcome stands.
    Turned,
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
            let how = handler::probe(probe, container, ip).map_err(|e| format!("{name} probe: {e}"))?;
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

    /// Counts an answer.
    pub fn answer(&mut self, kind: ProbeKind, ok: bool, at: Time) -> Answer {
        let Some(run) = self.0.get_mut(&kind).filter(|r| r.in_flight) else { return Answer::Stale };
        let before = run.outcome;
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
        if run.outcome == before { Answer::Counted } else { Answer::Turned }
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

    /// Takes the probes that are due, and when to look again if none of them is answered before. A container that is on
    /// its way out is probed for `readiness` only.
    pub fn due(&mut self, now: Time, ending: bool) -> (Vec<(ProbeKind, ProbeHow, Duration)>, Option<Time>) {
        let held = !self.startup_passed();
        let mut due = Vec::new();
        let mut wake = None;
        for (kind, run) in &mut self.0 {
            let wanted = match (held, ending) {
                (true, true) => false,
                (true, false) => *kind == ProbeKind::Startup,
                (false, true) => *kind == ProbeKind::Readiness,
                (false, false) => true,
            };
            let Some(next) = run.next_at.filter(|_| !run.in_flight && wanted) else {
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
        let exec = json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}],
            "livenessProbe": {"exec": {"command": ["test", "-f", "/$(A)/$(B)/$(C)"]}}});
        let want = ProbeHow::Exec { command: vec!["test".into(), "-f".into(), "/1//$(C)".into()] };
        assert_eq!(probes(exec, json!({})).unwrap().0[&ProbeKind::Liveness].how, want);
    }

    #[test]
    fn every_field_is_taken() {
        let seconds = Duration::from_secs;
        let read = |probe: serde_json::Value| {
            let p = probes(json!({"livenessProbe": probe}), json!({})).unwrap();
            let run = p.0[&ProbeKind::Liveness].clone();
            (run.how, run.timeout, run.grace)
        };
        let headers = json!([{"name": "X-A", "value": "1"}, {"name": "X-A", "value": "2"}]);
        let http = json!({"httpGet": {"port": 8443, "host": "web.example", "scheme": "HTTPS", "httpHeaders": headers},
            "timeoutSeconds": 4, "terminationGracePeriodSeconds": 6});
        let headers = ["1", "2"].map(|v| ("X-A".to_string(), v.to_string())).to_vec();
        let how = ProbeHow::Http { host: "web.example".into(), port: 8443, path: "/".into(), headers, https: true };
        assert_eq!(read(http), (how, seconds(4), Some(seconds(6))));
        let tcp = json!({"tcpSocket": {"port": 80, "host": "192.0.2.1"}, "timeoutSeconds": 2});
        assert_eq!(read(tcp), (ProbeHow::Tcp { host: "192.0.2.1".into(), port: 80 }, seconds(2), None));
        let how = ProbeHow::Grpc { host: "10.244.0.5".into(), port: 50051, service: "shop".into() };
        let grpc = json!({"grpc": {"port": 50051, "service": "shop"}});
        assert_eq!(read(grpc), (how, seconds(1), None));
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
        assert_eq!(p.due(t, false), (vec![], Some(Time::from_secs(102))));
        let mut now = Time::from_secs(102);
        let mut seen = Vec::new();
        for ok in [true, true, false, true, false, false, true, true] {
            assert_eq!(p.due(now, false).0.len(), 1, "at {now:?}");
            assert_eq!(p.due(now, false).0.len(), 0, "in flight at {now:?}");
            assert_ne!(p.answer(ProbeKind::Readiness, ok, now), Answer::Stale);
            assert_eq!(p.answer(ProbeKind::Readiness, ok, now), Answer::Stale, "an answer counts once");
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
        let kinds = |p: &mut Probes, now| p.due(now, false).0.iter().map(|d| d.0).collect::<Vec<_>>();
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
