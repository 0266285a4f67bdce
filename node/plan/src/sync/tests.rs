use super::*;
use crate::effect::{Observation, ProbeHow, PullRequest};
use crate::refs::{Lookup, ServiceRecord};
use crate::vanish;
use serde_json::{Value, json};

mod ephemeral;
mod exec;
mod resize;
mod sim;

struct Known(bool);
impl Refs for Known {
    fn config_map(&self, _: &str, name: &str, _: Time) -> Lookup {
        match name {
            "unknown" => Lookup::Unknown,
            _ if self.0 => Lookup::Found(Arc::new([("k".to_string(), b"v".to_vec())].into())),
            _ => Lookup::Missing,
        }
    }
    fn secret(&self, _: &str, _: &str, _: Time) -> Lookup {
        Lookup::Missing
    }
    fn services(&self, _: &str) -> Vec<ServiceRecord> {
        Vec::new()
    }
}

/// A pod under test, with the clock in the tester's hand.
struct Bench {
    pod: Pod,
    observed: Observed,
    now: Time,
    refs: Known,
    last: PodPlan,
}

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        for c in spec[list].as_array_mut().into_iter().flatten() {
            c["image"] = "img:1".into();
        }
    }
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": spec,
    }))
    .unwrap()
}

#[test]
fn a_host_port_that_is_taken_is_an_event_and_no_more() {
    let ports = json!([{"containerPort": 80, "hostPort": 8080}]);
    let mut b = Bench::new(json!({"containers": [{"name": "c", "ports": ports}]}));
    let attached = b.last.effects.iter().find_map(|e| match e {
        Effect::AttachPod(pod) => Some(pod.host_ports.iter().map(|p| (p.port, p.to)).collect::<Vec<_>>()),
        _ => None,
    });
    assert_eq!(attached, Some(vec![(8080, 80)]));
    let failed = |uid: &str| Observation::HostPortFailed { uid: uid.into(), port: 8080, error: "bind: no".into() };
    b.see(failed("another"));
    assert!(b.last.events.is_empty());
    b.see(failed("u"));
    let event = &b.last.events[0];
    assert_eq!(
        (event.reason, event.message.as_str()),
        ("FailedCreatePodSandBox", "cannot open hostport 8080: bind: no")
    );
    assert_eq!(b.image(), "start c.0");
}

/// The id of a pull without credentials and with the default policy.
fn asked(image: &str) -> u64 {
    PullRequest { image: image.into(), always: false, never: false, credentials: vec![] }.id()
}

impl Bench {
    fn new(spec: Value) -> Bench {
        let (pod, now) = (pod(spec), Time::from_secs(1000));
        let observed = Observed::adopt(&pod, "10.244.0.5".parse().unwrap(), now);
        let mut b = Bench { pod, observed, now, refs: Known(true), last: PodPlan::default() };
        b.plan();
        b
    }
    fn plan(&mut self) -> String {
        self.last = plan(&self.pod, &mut self.observed, &self.refs, &NodeFacts::example(), self.now);
        self.line()
    }
    /// The effects in one line.
    fn line(&self) -> String {
        let name = |e: &Effect| match e {
            Effect::PullImage(r) => format!("pull {}", r.image),
            Effect::ReportImages { .. } | Effect::RemoveImages { .. } => "images".into(),
            Effect::AttachPod(p) => format!("attach {}", p.ip),
            Effect::Start { id, .. } => format!("start {}.{}", id.container, id.attempt),
            Effect::Resize { id, memory_limit, cpu_limit_millis, cpu_request_millis } => {
                let (memory, cpu) = (memory_limit.unwrap_or(0), cpu_limit_millis.unwrap_or(0));
                format!("resize {}.{} {memory} {cpu} {cpu_request_millis}", id.container, id.attempt)
            }
            Effect::Stop { id, grace } => format!("stop {}.{} {grace:?}", id.container, id.attempt),
            Effect::MountVolume { name, .. } => format!("mount {name}"),
            Effect::KeepPods(_) => "keep".into(),
            Effect::DetachPod { .. } => "detach".into(),
            Effect::RemoveLogs { .. } => "remove logs".into(),
            Effect::RemovePod { .. } => "remove".into(),
            Effect::Measure | Effect::MeasureStorage => "measure".into(),
            Effect::Hook { id, kind, how, .. } => {
                let how = match how {
                    HookHow::Sleep(d) => format!("sleep {d:?}"),
                    HookHow::Act(ProbeHow::Http { path, .. }) => path.clone(),
                    HookHow::Act(other) => format!("{other:?}"),
                };
                format!("{kind:?} {}.{} {how}", id.container, id.attempt)
            }
            Effect::Probe { id, kind, how, .. } => {
                let port = match how {
                    ProbeHow::Http { port, .. } | ProbeHow::Tcp { port, .. } | ProbeHow::Grpc { port, .. } => port,
                    ProbeHow::Exec { .. } => &0,
                };
                format!("probe {}.{} {kind:?} {port}", id.container, id.attempt)
            }
        };
        self.last.effects.iter().map(name).collect::<Vec<_>>().join("; ")
    }
    fn after(&mut self, ms: u64) -> String {
        self.now = self.now + Duration::from_millis(ms);
        self.plan()
    }
    fn see(&mut self, o: Observation) -> String {
        self.observed.observe(&o, self.now);
        self.plan()
    }
    fn image(&mut self) -> String {
        let request = asked("img:1");
        self.observed.observe(
            &Observation::ImagePulled { request, size: 5, took: Duration::ZERO, waited: Duration::ZERO },
            self.now,
        );
        self.see(Observation::ImageReady { request, digest: "sha256:1".into() })
    }
    fn id(&self, c: &str, attempt: u32) -> ContainerId {
        ContainerId { pod_uid: "u".into(), container: c.into(), attempt }
    }
    fn started(&mut self, c: &str, attempt: u32) -> String {
        self.see(Observation::Started { id: self.id(c, attempt), at: self.now })
    }
    fn exited(&mut self, c: &str, attempt: u32, code: i32) -> String {
        let reason = if code == 0 { "Completed" } else { "Error" };
        self.see(Observation::Exited {
            id: self.id(c, attempt),
            code,
            reason: reason.into(),
            message: "m".into(),
            at: self.now,
        })
    }
    fn probed(&mut self, kind: ProbeKind, result: Result<(), String>) -> String {
        self.see(Observation::Probed { id: self.id("c", 0), kind, result, at: self.now })
    }
    fn phase(&self) -> &str {
        self.last.status.phase.as_deref().unwrap()
    }
    /// `waiting Reason`, `running` or `terminated Reason code`, with restarts and readiness.
    fn state(&self, list: &str, i: usize) -> String {
        let v = serde_json::to_value(&self.last.status).unwrap();
        let c = &v[list][i];
        let (s, text) = (&c["state"], |v: &Value| v.as_str().unwrap_or("-").to_string());
        let state = if s["waiting"].is_object() {
            format!("waiting {}", text(&s["waiting"]["reason"]))
        } else if s["running"].is_object() {
            "running".into()
        } else {
            format!("terminated {} {}", text(&s["terminated"]["reason"]), s["terminated"]["exitCode"])
        };
        format!("{state} {}{}", c["restartCount"], if c["ready"] == true { " ready" } else { "" })
    }
    fn main(&self) -> String {
        self.state("containerStatuses", 0)
    }
    fn condition(&self, kind: &str) -> String {
        let c = self.last.status.conditions.iter().flatten().find(|c| c.type_ == kind).unwrap();
        format!("{} {}", c.status, c.reason.as_deref().unwrap_or("-"))
    }
    fn events(&self) -> Vec<String> {
        self.last.events.iter().map(|e| format!("{}: {}", e.reason, e.message)).collect()
    }
    fn delete(&mut self, grace: u64) -> String {
        let at = crate::when::stamp(self.now + Duration::from_secs(grace));
        self.pod.metadata.deletion_timestamp = Some(at);
        self.pod.metadata.deletion_grace_period_seconds = Some(grace as i64);
        self.plan()
    }
}

#[test]
fn a_pod_comes_up_and_runs() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    assert_eq!(b.line(), "attach 10.244.0.5; pull img:1");
    assert_eq!((b.phase(), b.main().as_str()), ("Pending", "waiting ContainerCreating 0"));
    assert_eq!(b.condition("Ready"), "False ContainersNotReady");
    assert_eq!(b.plan(), "", "nothing is asked twice");
    assert_eq!(b.image(), "start c.0");
    assert_eq!(b.started("c", 0), "");
    assert_eq!((b.phase(), b.main().as_str()), ("Running", "running 0 ready"));
    assert_eq!(b.events(), ["Created: Container created", "Started: Container started"]);
    assert_eq!((b.condition("Ready"), b.condition("PodReadyToStartContainers")), ("True -".into(), "True -".into()));
    assert_eq!(b.last.wake_at, None, "a running pod without probes needs no timer");
    let before = b.last.status.clone();
    assert_eq!(b.after(60_000), "");
    assert_eq!(b.last.status, before, "status changes only when something has changed");
}

#[test]
fn a_start_that_is_under_way_is_no_news() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    let before = b.last.status.clone();
    assert_eq!(b.image(), "start c.0");
    assert_eq!(b.last.status, before, "nothing to write down");
    b.started("c", 0);
    let ids: Vec<&str> = b.last.status.container_statuses.iter().flatten().map(|c| c.image_id.as_str()).collect();
    assert_eq!(ids, ["img@sha256:1"]);
}

#[test]
fn crashes_back_off_from_milliseconds() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    let mut waits = Vec::new();
    for attempt in 0..4 {
        assert_eq!(b.exited("c", attempt, 1), "");
        assert_eq!(b.main(), format!("waiting CrashLoopBackOff {attempt}"));
        assert_eq!(b.phase(), "Running");
        let wait = b.last.wake_at.unwrap().since(b.now).as_millis() as u64;
        waits.push(wait);
        assert_eq!(b.after(wait), format!("start c.{}", attempt + 1));
        b.started("c", attempt + 1);
    }
    assert_eq!(waits, [10, 20, 40, 80]);
    let last = b.last.status.container_statuses.as_ref().unwrap()[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!(
        (last.exit_code, last.message.as_deref(), last.container_id.as_deref()),
        (1, Some("m"), Some("wasm://u.c.3"))
    );
    b.after(600_000);
    b.exited("c", 4, 1);
    assert_eq!(b.last.wake_at.unwrap().since(b.now).as_millis(), 10, "ten good minutes are forgiven");
    let v = serde_json::to_value(&b.last.status).unwrap();
    let text = &v["containerStatuses"][0]["state"]["waiting"]["message"];
    assert_eq!(text, "back-off 10ms restarting failed container=c pod=p_d(u)");
}

#[test]
fn a_probes_own_grace_counts_before_the_pods() {
    for (name, kind) in [("livenessProbe", ProbeKind::Liveness), ("startupProbe", ProbeKind::Startup)] {
        for (own, stop) in [(json!(3), "stop c.0 3s"), (json!(null), "stop c.0 7s")] {
            let mut c = json!({"name": "c"});
            c[name] = json!({"tcpSocket": {"port": 1}, "failureThreshold": 1, "terminationGracePeriodSeconds": own});
            let mut b = Bench::new(json!({"terminationGracePeriodSeconds": 7, "containers": [c]}));
            b.image();
            b.started("c", 0);
            assert_eq!(b.probed(kind, Err("x".into())), stop, "{name}");
            let quicker = if own.is_null() { "stop c.0 2s" } else { "" };
            assert_eq!((b.after(1000), b.delete(2).as_str()), (String::new(), quicker), "a deletion only shortens it");
        }
    }
}

#[test]
fn restarts_by_probe_of_what_had_served_do_not_add_up() {
    let waits = |readiness: bool, ran: u64, by_probe: bool| {
        let mut c = json!({"name": "c", "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 1}});
        if readiness {
            c["readinessProbe"] = json!({"tcpSocket": {"port": 1}});
        }
        let mut b = Bench::new(json!({"containers": [c]}));
        b.image();
        let mut waits = Vec::new();
        for attempt in 0..10 {
            b.started("c", attempt);
            b.after(ran);
            if by_probe {
                let (id, kind, at) = (b.id("c", attempt), ProbeKind::Liveness, b.now);
                let failed = Observation::Probed { id, kind, result: Err("no".into()), at };
                assert_eq!(b.see(failed), format!("stop c.{attempt} 30s"));
            }
            b.exited("c", attempt, 137);
            let wait = b.last.wake_at.unwrap().since(b.now).as_millis() as u64;
            waits.push(wait);
            assert_eq!(b.after(wait), format!("start c.{}", attempt + 1));
        }
        waits
    };
    let growing: Vec<u64> = (0..10).map(|n| 10 << n).collect();
    assert_eq!(waits(false, 1000, true), [10; 10]);
    assert_eq!(waits(false, 999, true), growing, "its probe fails almost at once");
    assert_eq!(waits(true, 1000, true), growing, "it has never been ready");
    assert_eq!(waits(false, 1000, false), growing, "it ends by itself");
}

#[test]
fn the_messages_of_a_pod_share_what_there_is() {
    for (containers, kept) in [(json!([{"name": "c"}]), 12 << 10), (json!([{"name": "c"}, {"name": "d"}]), 6 << 10)] {
        let mut b = Bench::new(json!({"restartPolicy": "Never", "containers": containers}));
        b.image();
        b.started("c", 0);
        let (id, at) = (b.id("c", 0), b.now);
        b.see(Observation::Exited { id, code: 0, reason: "Completed".into(), message: "m".repeat(20_000), at });
        let state = b.last.status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap();
        assert_eq!(state.terminated.unwrap().message.unwrap().len(), kept);
    }
}

#[test]
fn restart_policies_decide_the_end() {
    for (policy, code, phase, state) in [
        ("Never", 0, "Succeeded", "terminated Completed 0 0"),
        ("Never", 3, "Failed", "terminated Error 3 0"),
        ("OnFailure", 0, "Succeeded", "terminated Completed 0 0"),
        ("OnFailure", 1, "Running", "waiting CrashLoopBackOff 0"),
        ("Always", 0, "Running", "waiting CrashLoopBackOff 0"),
    ] {
        let mut b = Bench::new(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        b.image();
        b.started("c", 0);
        let effects = b.exited("c", 0, code);
        assert_eq!((b.phase(), b.main().as_str()), (phase, state), "{policy} {code}");
        assert_eq!(effects, if phase == "Running" { "" } else { "detach" }, "{policy} {code}");
        assert_eq!(b.last.wake_at.is_some(), phase == "Running");
    }
}

#[test]
fn container_restart_rules_override_the_policy() {
    let rule = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": rule}]});
    for (code, phase) in [(42, "Running"), (1, "Failed")] {
        let mut b = Bench::new(spec.clone());
        b.image();
        b.started("c", 0);
        b.exited("c", 0, code);
        assert_eq!(b.phase(), phase);
    }
}

#[test]
fn init_containers_run_one_after_the_other() {
    let mut b = Bench::new(json!({"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "c"}]}));
    assert_eq!(b.main(), "waiting PodInitializing 0");
    assert_eq!(b.condition("Initialized"), "False ContainersNotInitialized");
    assert_eq!(b.image(), "start i.0");
    b.started("i", 0);
    assert_eq!(b.exited("i", 0, 1), "", "a failed init container is tried again");
    assert_eq!(b.state("initContainerStatuses", 0), "waiting CrashLoopBackOff 0");
    assert_eq!(b.after(10), "start i.1");
    b.started("i", 1);
    assert_eq!(b.exited("i", 1, 0), "pull img:1");
    assert_eq!(b.image(), "start j.0");
    b.started("j", 0);
    assert_eq!(b.exited("j", 0, 0), "pull img:1");
    assert_eq!(b.condition("Initialized"), "True -");
    assert_eq!(b.image(), "start c.0");
    b.started("c", 0);
    assert_eq!((b.phase(), b.state("initContainerStatuses", 1)), ("Running", "terminated Completed 0 0 ready".into()));

    let mut b =
        Bench::new(json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    b.image();
    b.started("i", 0);
    assert_eq!(b.exited("i", 0, 1), "detach");
    assert_eq!((b.phase(), b.main().as_str()), ("Failed", "waiting PodInitializing 0"));
}

#[test]
fn sidecars_start_before_and_end_after() {
    let side = json!({"name": "s", "restartPolicy": "Always"});
    let mut b = Bench::new(json!({"restartPolicy": "Never", "initContainers": [side], "containers": [{"name": "c"}]}));
    assert_eq!(b.image(), "start s.0");
    assert_eq!(b.started("s", 0), "pull img:1");
    assert_eq!(b.image(), "start c.0");
    b.started("c", 0);
    assert_eq!(b.exited("c", 0, 0), "stop s.0 30s");
    assert_eq!(b.phase(), "Running");
    assert_eq!(b.exited("s", 0, 137), "detach");
    assert_eq!(b.phase(), "Succeeded");
}

#[test]
fn pulls_back_off_in_the_kubelets_words() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    let fail = |b: &mut Bench| {
        b.see(Observation::ImageFailed {
            request: asked("img:1"),
            reason: "ErrImagePull".into(),
            message: "no such thing".into(),
        })
    };
    fail(&mut b);
    assert_eq!(b.main(), "waiting ErrImagePull 0");
    assert_eq!(b.events(), ["Failed: Failed to pull image \"img:1\": no such thing", "Failed: Error: ErrImagePull"]);
    assert_eq!(b.after(3000), "");
    assert_eq!(b.main(), "waiting ImagePullBackOff 0");
    assert_eq!(b.events(), ["BackOff: Back-off pulling image \"img:1\"", "Failed: Error: ImagePullBackOff"]);
    assert_eq!(b.after(7000), "pull img:1");
    fail(&mut b);
    assert_eq!(b.after(19_999), "");
    assert_eq!(b.after(1), "pull img:1");
    assert_eq!(b.image(), "start c.0");
}

#[test]
fn a_long_pull_says_how_far_it_is() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    let request = asked("img:1");
    let said =
        |b: &Bench| b.last.status.container_statuses.as_ref().unwrap()[0].state.clone().unwrap().waiting.unwrap();
    b.see(Observation::ImageProgress { request, done: 12_900_000, total: 80 << 20 });
    assert_eq!(b.main(), "waiting ContainerCreating 0");
    assert_eq!(b.events(), ["Pulling: Pulling image \"img:1\": 12 of 80 MiB"]);
    assert_eq!(said(&b).message.as_deref(), Some("pulling: 12 of 80 MiB"));
    b.see(Observation::ImageProgress { request, done: 2 << 20, total: 9 << 20 });
    assert_eq!(said(&b).message.as_deref(), Some("pulling: 2048 of 9216 KiB"));
    assert_eq!(b.events().len(), 0, "so soon it is no event");
    b.see(Observation::ImageProgress { request: asked("other"), done: 1, total: 1 });
    assert_eq!(said(&b).message.as_deref(), Some("pulling: 2048 of 9216 KiB"), "that is another's");
    b.see(Observation::ImageFailed { request, reason: "ErrImagePull".into(), message: "gone".into() });
    b.after(10_000);
    b.see(Observation::ImageProgress { request, done: 1, total: 1 << 20 });
    let why = said(&b).message.unwrap();
    assert!(why.starts_with("Back-off pulling image"), "what went wrong before is worth more: {why}");
    assert_eq!(b.image(), "start c.0");
    assert_eq!(said(&b).message, None);
}

#[test]
fn a_long_pull_has_few_events() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    let request = asked("img:1");
    let mut told = Vec::new();
    for seconds in (5..=600).step_by(5) {
        b.after(5000);
        b.see(Observation::ImageProgress { request, done: seconds << 20, total: 600 << 20 });
        told.extend(b.events().iter().map(|e| e.rsplit_once(": ").unwrap().1.to_string()));
    }
    assert_eq!(told, [5, 10, 20, 40, 80, 160, 320].map(|n| format!("{n} of 600 MiB")));
}

#[test]
fn a_pull_is_told_as_the_kubelet_tells_it() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    let request = asked("img:1");
    b.see(Observation::ImagePulling { request });
    assert_eq!(b.events(), ["Pulling: Pulling image \"img:1\""]);
    let (took, waited) = (Duration::from_millis(1200), Duration::from_millis(1300));
    b.see(Observation::ImagePulled { request, size: 5, took, waited });
    assert_eq!(
        b.events(),
        ["Pulled: Successfully pulled image \"img:1\" in 1.2s (1.3s including waiting). Image size: 5 bytes."]
    );
    // It is here and lacks something of the host: no pull error, and no second pull before the back-off.
    let message = "imports a:b/c@1.0.0, which this host does not have".to_string();
    b.see(Observation::ImageFailed { request, reason: "CreateContainerError".into(), message: message.clone() });
    assert_eq!(b.events(), [format!("Failed: Error: {message}")]);
    b.after(5000);
    assert_eq!(b.main(), "waiting CreateContainerError 0");
    let waiting = serde_json::to_value(&b.last.status).unwrap();
    assert_eq!(waiting["containerStatuses"][0]["state"]["waiting"]["message"], message);
    assert_eq!(b.after(5000), "pull img:1");
    b.see(Observation::ImageFailed { request, reason: "RegistryUnavailable".into(), message: "m".into() });
    b.after(3000);
    assert_eq!(b.main(), "waiting ImagePullBackOff 0");
    // What somebody else asked for is not ours.
    b.see(Observation::ImageReady { request: request ^ 1, digest: "sha256:9".into() });
    assert_eq!(b.main(), "waiting ImagePullBackOff 0");
}

#[test]
fn pull_secrets_are_fetched_and_what_they_say_goes_along() {
    let config = json!({"auths": {"r.io": {"username": "me", "password": "p"}}}).to_string();
    struct Secrets(Lookup);
    impl Refs for Secrets {
        fn config_map(&self, _: &str, _: &str, _: Time) -> Lookup {
            Lookup::Missing
        }
        fn secret(&self, _: &str, name: &str, _: Time) -> Lookup {
            if name == "gone" { Lookup::Missing } else { self.0.clone() }
        }
        fn services(&self, _: &str) -> Vec<ServiceRecord> {
            Vec::new()
        }
    }
    let mut pod = pod(json!({"imagePullSecrets": [{"name": "gone"}, {"name": "s"}],
        "containers": [{"name": "c", "imagePullPolicy": "Always"}]}));
    pod.spec.as_mut().unwrap().containers[0].image = Some("r.io/a:1".into());
    let now = Time::from_secs(1000);
    let mut observed = Observed::adopt(&pod, "10.244.0.5".parse().unwrap(), now);
    let first = plan(&pod, &mut observed, &Secrets(Lookup::Unknown), &NodeFacts::example(), now);
    assert_eq!(first.fetch.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["s"]);
    assert!(!first.effects.iter().any(|e| matches!(e, Effect::PullImage(_))), "it waits for them");
    let values = [(".dockerconfigjson".to_string(), config.into_bytes())].into();
    let second = plan(&pod, &mut observed, &Secrets(Lookup::Found(Arc::new(values))), &NodeFacts::example(), now);
    let Some(Effect::PullImage(request)) = second.effects.last() else { panic!("{:?}", second.effects) };
    assert_eq!((request.always, request.credentials.len()), (true, 1));
    assert_eq!(request.credentials[0].username, "me");
    assert_eq!(
        second.events[0].message,
        "Unable to retrieve some image pull secrets (gone); attempting to pull the image may not succeed."
    );
    assert_ne!(request.id(), asked("r.io/a:1"), "others do not share it");
}

#[test]
fn a_missing_config_map_holds_the_container_until_it_appears() {
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]);
    let mut b = Bench::new(json!({"containers": [{"name": "c", "env": env}]}));
    b.refs = Known(false);
    assert_eq!(b.image(), "");
    assert_eq!(b.main(), "waiting CreateContainerConfigError 0");
    assert_eq!(b.events()[1], "Failed: Error: configmap \"m\" not found");
    assert_eq!(b.after(2000), "");
    assert!(b.events().is_empty(), "said once");
    b.refs = Known(true);
    assert_eq!(b.after(2000), "start c.0");

    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "unknown", "key": "k"}}}]);
    let mut b = Bench::new(json!({"containers": [{"name": "c", "env": env}]}));
    assert_eq!((b.image().as_str(), b.last.fetch.len(), b.last.wake_at), ("", 1, None));
    assert_eq!(b.main(), "waiting ContainerCreating 0");
}

#[test]
fn probes_gate_readiness_and_liveness_restarts() {
    let mut b = Bench::new(json!({"terminationGracePeriodSeconds": 7, "containers": [{"name": "c",
        "readinessProbe": {"tcpSocket": {"port": 80}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"port": 81}, "periodSeconds": 1, "failureThreshold": 2, "initialDelaySeconds": 5}}]}));
    b.image();
    assert_eq!(b.started("c", 0), "probe c.0 Readiness 80");
    assert_eq!((b.main().as_str(), b.condition("Ready")), ("running 0", "False ContainersNotReady".into()));
    b.probed(ProbeKind::Readiness, Ok(()));
    assert_eq!((b.main().as_str(), b.condition("Ready")), ("running 0 ready", "True -".into()));
    assert_eq!(b.after(5000), "probe c.0 Readiness 80; probe c.0 Liveness 81");
    b.probed(ProbeKind::Readiness, Ok(()));
    b.probed(ProbeKind::Liveness, Err("HTTP probe failed with statuscode: 500".into()));
    assert_eq!(b.events(), ["Unhealthy: Liveness probe failed: HTTP probe failed with statuscode: 500"]);
    b.after(1000);
    assert_eq!(b.probed(ProbeKind::Liveness, Err("x".into())), "stop c.0 7s");
    assert_eq!(b.events()[1], "Killing: Container c failed liveness probe, will be restarted");
    assert_eq!(b.exited("c", 0, 137), "");
    assert_eq!(b.after(10), "start c.1");
    b.started("c", 1);
    assert_eq!((b.main().as_str(), b.phase()), ("running 1", "Running"));
}

#[test]
fn readiness_gates_hold_the_pod_but_not_its_containers() {
    let mut b = Bench::new(json!({"readinessGates": [{"conditionType": "g"}], "containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    assert_eq!(
        (b.condition("ContainersReady"), b.condition("Ready")),
        ("True -".into(), "False ReadinessGatesNotReady".into())
    );
    b.pod.status = serde_json::from_value(json!({"conditions": [{"type": "g", "status": "True"}]})).unwrap();
    b.plan();
    assert_eq!((b.condition("g"), b.condition("Ready")), ("True -".into(), "True -".into()));
}

#[test]
fn deletion_stops_with_what_is_left_of_the_grace_then_removes() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    assert_eq!(b.delete(30), "stop c.0 30s");
    assert_eq!(b.events(), ["Killing: Stopping container c"]);
    assert_eq!((b.plan().as_str(), b.last.remove), ("", false));
    b.now = b.now + Duration::from_secs(4);
    assert_eq!(b.delete(1), "stop c.0 1s", "a shorter grace counts");
    assert_eq!((b.exited("c", 0, 0).as_str(), b.last.remove), ("remove", true));
    assert_eq!((b.phase(), b.main().as_str()), ("Succeeded", "terminated Completed 0 0"));
    assert_eq!((b.plan().as_str(), b.last.remove, b.last.wake_at), ("", true, None));
}

#[test]
fn an_unanswered_stop_is_repeated_without_grace() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    b.delete(1);
    assert_eq!(b.last.wake_at, Some(b.now + Duration::from_secs(6)));
    assert_eq!(b.after(6000), "stop c.0 0ns");
    assert_eq!(b.after(1), "");
}

#[test]
fn the_deadline_fails_the_pod_once_it_has_stopped() {
    let mut b = Bench::new(json!({"activeDeadlineSeconds": 5, "containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    assert_eq!(b.last.wake_at, Some(Time::from_secs(1005)));
    assert_eq!(b.after(5000), "stop c.0 30s");
    assert_eq!(b.phase(), "Running");
    b.exited("c", 0, 137);
    assert_eq!((b.phase(), b.last.status.reason.as_deref()), ("Failed", Some("DeadlineExceeded")));
    assert_eq!(b.main(), "terminated Error 137 0");
}

#[test]
fn another_image_replaces_the_container() {
    let mut b = Bench::new(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    b.pod.spec.as_mut().unwrap().containers[0].image = Some("img:2".into());
    assert_eq!(b.plan(), "stop c.0 30s");
    assert_eq!(b.exited("c", 0, 137), "pull img:2");
    let ready = Observation::ImageReady { request: asked("img:2"), digest: "sha256:2".into() };
    assert_eq!(b.see(ready), "start c.1");
}

#[test]
fn an_agent_that_comes_back_counts_on() {
    let mut b = Bench::new(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    b.image();
    b.started("i", 0);
    b.exited("i", 0, 0);
    b.image();
    b.started("c", 0);
    b.exited("c", 0, 1);
    b.after(10);
    b.started("c", 1);
    b.pod.status = Some(b.last.status.clone());
    b.observed = Observed::adopt(&b.pod, "10.244.0.5".parse().unwrap(), b.now);
    assert_eq!(b.plan(), "attach 10.244.0.5; pull img:1", "init containers run again, as after a reboot");
    assert_eq!(b.main(), "waiting CrashLoopBackOff 1");
    assert_eq!(b.image(), "start i.1");
    b.started("i", 1);
    assert_eq!(b.exited("i", 1, 0), "pull img:1");
    assert_eq!(b.image(), "start c.2");
    b.started("c", 2);
    let c = &b.last.status.container_statuses.as_ref().unwrap()[0];
    let last = c.last_state.as_ref().unwrap().terminated.as_ref().unwrap();
    assert_eq!((c.restart_count, last.exit_code, last.reason.as_deref()), (2, 255, Some("Unknown")));

    let mut done = Bench::new(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    done.image();
    done.started("c", 0);
    done.exited("c", 0, 0);
    let status = done.last.status.clone();
    done.pod.status = Some(status.clone());
    done.observed = Observed::adopt(&done.pod, "10.244.0.5".parse().unwrap(), done.now);
    assert_eq!(done.after(1_000_000), "");
    assert_eq!(done.last.status, status, "what is over stays as it was");
}

#[test]
fn a_pod_whose_object_is_gone_ends_at_once() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    let (effects, done) = vanish(&mut b.observed, b.now);
    assert_eq!((effects.len(), done), (1, false));
    assert_eq!(vanish(&mut b.observed, b.now), (vec![], false));
    let id = b.id("c", 0);
    b.observed.observe(
        &Observation::Exited { id, code: 137, reason: "Error".into(), message: String::new(), at: b.now },
        b.now,
    );
    let (effects, done) = vanish(&mut b.observed, b.now);
    assert_eq!((effects, done), (vec![Effect::RemovePod { uid: "u".into() }], true));
}

#[test]
fn sidecars_start_first_and_end_last_the_last_one_first() {
    let mut b = Bench::new(json!({
        "initContainers": [
            {"name": "s1", "restartPolicy": "Always", "startupProbe": {"tcpSocket": {"port": 1}}},
            {"name": "i"},
            {"name": "s2", "restartPolicy": "Always"}],
        "containers": [{"name": "c"}]}));
    assert_eq!(b.image(), "start s1.0");
    assert_eq!(b.started("s1", 0), "probe s1.0 Startup 1", "its startup probe gates the next");
    let id = b.id("s1", 0);
    let passed = Observation::Probed { id, kind: ProbeKind::Startup, result: Ok(()), at: b.now };
    assert_eq!(b.see(passed), "pull img:1");
    assert_eq!(b.image(), "start i.0");
    b.started("i", 0);
    assert_eq!(b.exited("s1", 0, 1), "", "a sidecar that ends while another init container runs …");
    assert_eq!(b.after(10), "start s1.1", "… is restarted");
    assert_eq!(b.started("s1", 1), "probe s1.1 Startup 1");
    assert_eq!(b.exited("i", 0, 0), "");
    let id = b.id("s1", 1);
    let passed = Observation::Probed { id, kind: ProbeKind::Startup, result: Ok(()), at: b.now };
    assert_eq!(b.see(passed), "pull img:1");
    assert_eq!(b.image(), "start s2.0");
    assert_eq!(b.started("s2", 0), "pull img:1");
    assert_eq!(b.image(), "start c.0");
    b.started("c", 0);
    assert_eq!((b.phase(), b.condition("Ready")), ("Running", "True -".into()));
    b.exited("s2", 0, 1);
    assert_eq!(b.condition("Ready"), "False ContainersNotReady");
    assert_eq!(b.after(10), "start s2.1");
    b.started("s2", 1);
    b.now = Time::from_secs(1001);
    assert_eq!(b.delete(30), "stop c.0 30s");
    b.now = b.now + Duration::from_secs(5);
    assert_eq!(b.exited("c", 0, 0), "stop s2.1 25s");
    b.now = b.now + Duration::from_secs(24);
    assert_eq!(b.exited("s2", 1, 0), "stop s1.1 2s", "everyone gets a last moment");
    assert_eq!((b.exited("s1", 1, 0).as_str(), b.last.remove), ("remove", true));
}

#[test]
fn sidecars_end_when_the_work_is_done_and_do_not_judge_it() {
    let mut b = Bench::new(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "c"}]}));
    b.image();
    b.started("s", 0);
    b.image();
    b.started("c", 0);
    assert_eq!(b.exited("c", 0, 0), "stop s.0 30s");
    assert_eq!(b.events(), ["Killing: Stopping container s"]);
    assert_eq!(b.phase(), "Running");
    b.exited("s", 0, 137);
    assert_eq!((b.phase(), b.line().as_str()), ("Succeeded", "detach"));
    assert_eq!(b.state("initContainerStatuses", 0), "terminated Error 137 0");

    let mut b = Bench::new(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "s", "restartPolicy": "Always"}, {"name": "i"}], "containers": [{"name": "c"}]}));
    b.image();
    b.started("s", 0);
    b.image();
    b.started("i", 0);
    assert_eq!(b.exited("i", 0, 1), "stop s.0 30s", "a failed init container takes the sidecars down");
    b.exited("s", 0, 0);
    assert_eq!(b.phase(), "Failed");
}

#[test]
fn a_post_start_hook_holds_the_status_and_the_others_back() {
    let hook = json!({"postStart": {"httpGet": {"port": 80, "path": "/hi"}}});
    let mut b = Bench::new(json!({"containers": [
        {"name": "c", "lifecycle": hook, "readinessProbe": {"tcpSocket": {"port": 1}}}, {"name": "d"}]}));
    assert_eq!(b.image(), "start c.0");
    assert_eq!(b.started("c", 0), "PostStart c.0 /hi");
    assert_eq!(b.events(), ["Created: Container created", "Started: Container started"]);
    assert_eq!((b.phase(), b.main().as_str()), ("Pending", "waiting ContainerCreating 0"));
    assert_eq!(b.plan(), "");
    let done = Observation::Hooked { id: b.id("c", 0), kind: HookKind::PostStart, result: Ok(()), at: b.now };
    assert_eq!(b.see(done.clone()), "start d.0; probe c.0 Readiness 1");
    assert_eq!(b.main(), "running 0");
    assert_eq!(b.see(done), "", "a late answer changes nothing");
}

#[test]
fn a_failed_post_start_hook_kills_the_container() {
    let hook = json!({"postStart": {"tcpSocket": {"port": "nope"}}, "preStop": {"sleep": {"seconds": 5}}});
    let mut b = Bench::new(json!({"containers": [{"name": "c", "lifecycle": hook}]}));
    b.image();
    assert_eq!(b.started("c", 0), "PreStop c.0 sleep 5s");
    assert_eq!(b.events()[2..], ["FailedPostStartHook: PostStartHook failed", "Killing: FailedPostStartHook"]);
    assert_eq!(b.main(), "waiting PostStartHookError 0");
    b.now = b.now + Duration::from_secs(5);
    let done = Observation::Hooked { id: b.id("c", 0), kind: HookKind::PreStop, result: Ok(()), at: b.now };
    assert_eq!(b.see(done), "stop c.0 25s");
    b.exited("c", 0, 137);
    assert_eq!(b.main(), "waiting CrashLoopBackOff 0");
    assert_eq!(b.after(10), "start c.1");
}

#[test]
fn pre_stop_hooks_count_within_the_grace() {
    let spec = json!({"containers": [{"name": "c", "lifecycle": {"preStop": {"sleep": {"seconds": 60}}},
        "readinessProbe": {"tcpSocket": {"port": 1}, "periodSeconds": 5}, "livenessProbe": {"tcpSocket": {"port": 1}}}]});
    let up = || {
        let mut b = Bench::new(spec.clone());
        b.image();
        b.started("c", 0);
        b.probed(ProbeKind::Liveness, Ok(()));
        b.probed(ProbeKind::Readiness, Ok(()));
        b
    };
    let mut b = up();
    assert_eq!(b.delete(30), "PreStop c.0 sleep 1m".replace("1m", "60s"));
    assert_eq!(b.main(), "running 0 ready", "it serves while it is asked to prepare");
    assert_eq!(b.after(5000), "probe c.0 Readiness 1", "and is probed for readiness alone");
    assert_eq!(b.probed(ProbeKind::Readiness, Ok(())), "");
    assert_eq!(b.after(25_000), "stop c.0 2s", "the hook has used up the grace");
    assert_eq!((b.exited("c", 0, 137).as_str(), b.last.remove), ("remove", true));

    let mut b = up();
    b.delete(30);
    let failed = Observation::Hooked { id: b.id("c", 0), kind: HookKind::PreStop, result: Err("x".into()), at: b.now };
    assert_eq!(b.see(failed), "stop c.0 30s");
    assert_eq!(b.events(), ["FailedPreStopHook: PreStopHook failed"]);

    let mut b = up();
    assert_eq!(b.delete(0), "stop c.0 0ns", "without grace there is no hook");

    let mut b = up();
    b.delete(30);
    assert_eq!(b.delete(10), "", "a shorter grace counts for the hook too");
    assert_eq!(b.after(10_000), "stop c.0 2s; probe c.0 Readiness 1".replace("; probe c.0 Readiness 1", ""));
}

#[test]
fn probes_that_change_nothing_need_no_plan() {
    let mut b = Bench::new(json!({"containers": [{"name": "c", "readinessProbe": {"tcpSocket": {"port": 1}}}]}));
    b.image();
    b.started("c", 0);
    assert_eq!(b.probed(ProbeKind::Readiness, Ok(())), "");
    assert_eq!((b.last.wake_at, b.last.probe_at), (None, Some(b.now + Duration::from_secs(10))));
    for _ in 0..3 {
        b.now = b.now + Duration::from_secs(10);
        let (effects, _) = b.observed.probe(b.now);
        assert_eq!(effects.len(), 1);
        let id = b.id("c", 0);
        let ok = Observation::Probed { id, kind: ProbeKind::Readiness, result: Ok(()), at: b.now };
        assert!(!b.observed.observe(&ok, b.now), "it says what the last one said");
    }
    let before = b.last.status.clone();
    assert_eq!((b.plan(), &b.last.status), (String::new(), &before));
    b.now = b.now + Duration::from_secs(10);
    b.observed.probe(b.now);
    let id = b.id("c", 0);
    let bad = Observation::Probed { id, kind: ProbeKind::Readiness, result: Err("x".into()), at: b.now };
    assert!(b.observed.observe(&bad, b.now), "a failure is an event");
    assert_eq!(b.observed.probe_counts().collect::<Vec<_>>(), [("c", ProbeKind::Readiness, 4, 1)]);
}

#[test]
fn restart_rules_overrule_the_policy() {
    let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
    let mut b = Bench::new(json!({"restartPolicy": "Never",
        "containers": [{"name": "c", "restartPolicy": "Never", "restartPolicyRules": rules}]}));
    b.image();
    b.started("c", 0);
    b.exited("c", 0, 42);
    assert_eq!((b.main().as_str(), b.after(10).as_str()), ("waiting CrashLoopBackOff 0", "start c.1"));
    b.started("c", 1);
    b.exited("c", 1, 1);
    assert_eq!((b.phase(), b.main().as_str()), ("Failed", "terminated Error 1 1"));
}

#[test]
fn containers_wait_for_their_volumes() {
    let mut b = Bench::new(json!({"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}],
        "containers": [{"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}));
    assert_eq!(b.line(), "attach 10.244.0.5; mount v");
    assert_eq!((b.phase(), b.main().as_str()), ("Pending", "waiting ContainerCreating 0"));
    let mounted = Observation::VolumeMounted { uid: "u".into(), name: "v".into(), result: Ok("/host/v".into()) };
    assert_eq!(b.see(mounted), "pull img:1");
    assert_eq!(b.image(), "start c.0");
    let Some(Effect::Start { spec, .. }) = b.last.effects.first() else { panic!("it starts") };
    assert_eq!(spec.mounts[0].host, std::path::Path::new("/host/v"));
    b.started("c", 0);
    let usage = |bytes| Observation::VolumeUsage { uid: "u".into(), name: "v".into(), bytes };
    assert_eq!(b.see(usage(1 << 20)), "");
    assert_eq!(b.see(usage((1 << 20) + 1)), "stop c.0 1s");
    assert_eq!(b.events()[0], "Evicted: Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". ");
    assert_eq!(b.exited("c", 0, 137), "detach");
    assert_eq!((b.phase(), b.last.status.reason.as_deref()), ("Failed", Some("Evicted")));
}

#[test]
fn a_pod_that_holds_more_of_the_disk_than_it_may_is_evicted() {
    let mut b = Bench::new(json!({"containers": [
        {"name": "c", "resources": {"limits": {"ephemeral-storage": "1Mi"}}}, {"name": "d"}]}));
    let limits = b.last.effects.iter().find_map(|e| match e {
        Effect::AttachPod(pod) => Some(pod.storage.clone()),
        _ => None,
    });
    assert_eq!(limits.map(|l| (l.pod, l.containers["c"])), Some((Some(1 << 20), 1 << 20)));
    b.image();
    b.started("c", 0);
    b.started("d", 0);
    let used = |volumes| crate::StorageUse { volumes, logs: [("d".into(), 1 << 19)].into() };
    let usage = |uid: &str, volumes| Observation::StorageUsage { uid: uid.into(), used: used(volumes) };
    assert!(!b.observed.observe(&usage("another", 1 << 30), b.now));
    assert_eq!(b.see(usage("u", 1 << 19)), "");
    assert_eq!(b.see(usage("u", (1 << 19) + 1)), "stop c.0 1s; stop d.0 1s");
    assert!(!b.observed.observe(&usage("u", (1 << 19) + 1), b.now), "the same again is no news");
    let why = "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ";
    assert_eq!(b.events()[0], format!("Evicted: {why}"));
    b.exited("c", 0, 137);
    assert_eq!(b.exited("d", 0, 137), "detach");
    let status = &b.last.status;
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("Evicted"), Some(why)));
}

#[test]
fn an_evicted_pod_is_stopped_at_once_and_has_failed() {
    let mut b = Bench::new(json!({"containers": [{"name": "c"}]}));
    b.image();
    b.started("c", 0);
    b.observed.evict("The node was low on resource: memory. ".into());
    assert_eq!(b.plan(), "stop c.0 1s");
    assert!(b.observed.is_leaving());
    assert_eq!(b.exited("c", 0, 137), "detach");
    assert!(!b.observed.is_leaving());
    let status = &b.last.status;
    let reason = (status.phase.as_deref(), status.reason.as_deref(), status.message.as_deref());
    assert_eq!(reason, (Some("Failed"), Some("Evicted"), Some("The node was low on resource: memory. ")));
    let target = status.conditions.iter().flatten().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(target.reason.as_deref(), Some("TerminationByKubelet"));
    // Nothing runs of one that is refused before it has begun.
    let mut refused = Bench::new(json!({"containers": [{"name": "c"}]}));
    refused.observed.evict("no".into());
    assert_eq!(refused.plan(), "detach");
    assert_eq!(refused.last.status.phase.as_deref(), Some("Failed"));
}
