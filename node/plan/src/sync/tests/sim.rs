//! Random pods under a data plane that answers late, wrongly and out of order: what must never happen, and that it ends.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// What happens next.
#[derive(Clone, Debug)]
enum Step {
    /// The data plane answers one of the open effects, chosen by the number; containers exit with this code if they must.
    Answer(usize, i32),
    /// A running container ends by itself.
    Exit(usize, i32),
    /// An old answer comes again.
    Stale,
    /// Time passes.
    Pass(u64),
    /// The user deletes the pod.
    Delete,
    /// The agent is replaced.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (any::<usize>(), 0..3i32).prop_map(|(n, c)| Step::Answer(n, c)),
        4 => (any::<usize>(), 0..3i32).prop_map(|(n, c)| Step::Exit(n, c)),
        1 => Just(Step::Stale),
        6 => (0..60_000u64).prop_map(Step::Pass),
        1 => Just(Step::Delete),
        1 => Just(Step::Restart),
    ]
}

fn spec() -> impl Strategy<Value = Value> {
    let policy = prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")];
    let probe = prop_oneof![
        Just(Value::Null),
        Just(json!({"tcpSocket": {"port": 80}, "failureThreshold": 1, "periodSeconds": 1}))
    ];
    let inits = proptest::collection::vec(0..8u8, 0..4);
    let deadline = prop_oneof![Just(Value::Null), Just(json!(120))];
    (policy, inits, 1..3usize, probe.clone(), probe, deadline, 0..32u8).prop_map(
        |(policy, inits, mains, readiness, liveness, deadline, hooks)| {
            let hook = |with: bool| if with { json!({"sleep": {"seconds": 3}}) } else { Value::Null };
            let lifecycle = |bits: u8| json!({"postStart": hook(bits & 1 != 0), "preStop": hook(bits & 2 != 0)});
            let init = |(i, bits): (usize, &u8)| match bits & 4 {
                0 => json!({"name": format!("i{i}")}),
                _ => json!({"name": format!("s{i}"), "restartPolicy": "Always", "lifecycle": lifecycle(*bits), "startupProbe": readiness}),
            };
            let inits: Vec<Value> = inits.iter().enumerate().map(init).collect();
            let main = |i: usize| {
                json!({"name": format!("c{i}"), "readinessProbe": readiness, "livenessProbe": liveness,
                    "lifecycle": lifecycle(hooks >> (2 * i) & 3)})
            };
            let mains: Vec<Value> = (0..mains).map(main).collect();
            let ephemeral = if hooks & 16 == 0 { json!([]) } else { json!([{"name": "e0"}]) };
            json!({"ephemeralContainers": ephemeral, "restartPolicy": policy, "initContainers": inits, "containers": mains, "activeDeadlineSeconds": deadline})
        },
    )
}

/// The data plane's side: what is open and what runs.
#[derive(Default)]
struct Plane {
    open: Vec<Effect>,
    alive: BTreeMap<ContainerId, bool>,
    ended: BTreeMap<String, BTreeMap<u32, i32>>,
    attempts: BTreeSet<ContainerId>,
    hooks: BTreeSet<(ContainerId, bool)>,
    stopped_alone: BTreeSet<ContainerId>,
    past: Vec<Observation>,
}

impl Plane {
    fn take(&mut self, spec: &Value, plan: &PodPlan, deleting: bool) {
        for e in &plan.effects {
            match e {
                Effect::Stop { id, grace } => {
                    let sidecars = || spec["initContainers"].as_array().into_iter().flatten();
                    let place = sidecars().position(|c| c["name"] == *id.container);
                    // A sidecar ends after those that it serves, unless time is short or it is to be restarted alone.
                    if let (Some(place), true) = (place.filter(|_| id.container.starts_with('s')), deleting) {
                        let later = |c: &str| {
                            c.starts_with('c')
                                || c.starts_with('s')
                                    && sidecars().position(|s| s["name"] == *c).is_some_and(|p| p > place)
                        };
                        let served = self.alive.keys().any(|a| later(&a.container));
                        assert!(
                            !served || *grace <= Duration::from_secs(2) || self.stopped_alone.contains(id),
                            "{id:?} is stopped with {grace:?} before {:?}",
                            self.alive
                        );
                    }
                    if !deleting {
                        self.stopped_alone.insert(id.clone());
                    }
                    self.open.push(e.clone());
                }
                Effect::Hook { id, kind, .. } => {
                    assert!(self.alive.get(id) == Some(&true), "{kind:?} of {id:?}, which does not run");
                    assert!(
                        self.hooks.insert((id.clone(), *kind == HookKind::PreStop)),
                        "{kind:?} of {id:?} runs twice"
                    );
                    self.open.push(e.clone());
                }
                Effect::Start { id, .. } => {
                    assert!(!deleting, "{id:?} starts in a pod that is being deleted");
                    assert!(self.attempts.insert(id.clone()), "{id:?} starts twice");
                    assert!(
                        !self.alive.keys().any(|a| a.container == id.container),
                        "{id:?} starts beside another attempt"
                    );
                    if let Some(code) = self.ended.get(&*id.container).and_then(|e| e.last_key_value()).map(|(_, c)| *c)
                    {
                        let init = id.container.starts_with('i');
                        let allowed = id.container.starts_with('s')
                            || !id.container.starts_with('e')
                                && match spec["restartPolicy"].as_str() {
                                    Some("Never") => code == 255 && init,
                                    Some("OnFailure") => code != 0 || init,
                                    _ => true,
                                };
                        assert!(allowed, "{id:?} starts after exit code {code} under {}", spec["restartPolicy"]);
                    }
                    self.alive.insert(id.clone(), false);
                    self.open.push(e.clone());
                }
                Effect::AttachPod(_) | Effect::DetachPod { .. } | Effect::RemovePod { .. } => {
                    if !matches!(e, Effect::AttachPod(_)) {
                        assert!(self.alive.is_empty(), "{e:?} while {:?}", self.alive);
                    }
                }
                _ => self.open.push(e.clone()),
            }
        }
    }

    fn end(&mut self, id: &ContainerId, code: i32, now: Time) -> Option<Observation> {
        self.alive.remove(id)?;
        self.ended.entry(id.container.to_string()).or_default().insert(id.attempt, code);
        let reason = if code == 0 { "Completed" } else { "Error" };
        Some(Observation::Exited { id: id.clone(), code, reason: reason.into(), message: String::new(), at: now })
    }

    fn answer(&mut self, n: usize, code: i32, now: Time) -> Option<Observation> {
        if self.open.is_empty() {
            return None;
        }
        let e = self.open.remove(n % self.open.len());
        match e {
            Effect::PullImage(r) if code == 1 => {
                let reason = "ErrImagePull".into();
                Some(Observation::ImageFailed { request: r.id(), reason, message: "no".into() })
            }
            Effect::PullImage(r) => Some(Observation::ImageReady { request: r.id(), digest: "sha256:1".into() }),
            Effect::Start { id, .. } if code == 2 => self.end(&id, 128, now),
            Effect::Start { id, .. } => {
                *self.alive.get_mut(&id)? = true;
                Some(Observation::Started { id, at: now })
            }
            Effect::Hook { id, kind, .. } => {
                let result = if code == 1 { Err("no".into()) } else { Ok(()) };
                Some(Observation::Hooked { id, kind, result, at: now })
            }
            Effect::Stop { id, .. } => self.end(&id, if code == 0 { 0 } else { 137 }, now),
            Effect::Probe { id, kind, .. } => {
                let result = if code == 0 { Ok(()) } else { Err("no".into()) };
                Some(Observation::Probed { id, kind, result, at: now })
            }
            _ => None,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_data_plane_says(spec in spec(), steps in proptest::collection::vec(step(), 0..120)) {
        let mut pod = pod(spec.clone());
        let ip = "10.244.0.5".parse().unwrap();
        let mut now = Time::from_secs(1000);
        let mut observed = Observed::adopt(&pod, ip, now);
        let mut plane = Plane::default();
        let (node, refs) = (NodeFacts::example(), Known(true));
        let mut deleting = false;
        // Chaos, then a data plane that behaves, until nothing happens any more.
        let calm = [Step::Answer(0, 0), Step::Answer(0, 0), Step::Answer(0, 0), Step::Pass(301_000)];
        let calm = std::iter::repeat_n(calm, 100).flatten();
        let count = steps.len();
        for (i, step) in steps.into_iter().chain(calm).enumerate() {
            let seen = match step {
                Step::Answer(n, code) => plane.answer(n, code, now),
                Step::Exit(n, code) => {
                    let running: Vec<ContainerId> = plane.alive.iter().filter(|(_, up)| **up).map(|(id, _)| id.clone()).collect();
                    running.get(n % running.len().max(1)).and_then(|id| plane.end(id, code, now))
                }
                Step::Stale => plane.past.last().cloned(),
                Step::Pass(ms) => {
                    now = now + Duration::from_millis(ms);
                    None
                }
                Step::Delete => {
                    deleting = true;
                    pod.metadata.deletion_timestamp.get_or_insert(crate::when::stamp(now + Duration::from_secs(30)));
                    None
                }
                Step::Restart => {
                    // All that ran is lost, and so is what was open; of what was only asked to start nobody knows.
                    let status = serde_json::to_value(&pod.status).unwrap();
                    let shown = |name: &str| {
                        let lists = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
                        let mut all = lists.iter().flat_map(|l| status[*l].as_array().into_iter().flatten());
                        all.any(|c| c["name"] == *name && c["state"]["running"].is_object())
                    };
                    for id in plane.alive.keys().cloned().collect::<Vec<_>>() {
                        if shown(&id.container) {
                            plane.end(&id, 255, now);
                        } else {
                            plane.alive.remove(&id);
                            plane.attempts.remove(&id);
                            plane.hooks.retain(|(hooked, _)| *hooked != id);
                        }
                    }
                    plane.open.clear();
                    observed = Observed::adopt(&pod, ip, now);
                    None
                }
            };
            if let Some(o) = seen {
                observed.observe(&o, now);
                plane.past.push(o);
            }
            let before = observed.clone();
            let plan = super::plan(&pod, &mut observed, &refs, &node, now);
            plane.take(&spec, &plan, deleting);
            let again = super::plan(&pod, &mut observed, &refs, &node, now);
            prop_assert!(again.effects.is_empty() && again.events.is_empty(), "a second plan at once asks for {:?}", again.effects);
            prop_assert_eq!(&again.status, &plan.status);
            let old = pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
            let new = plan.status.phase.clone().unwrap_or_default();
            prop_assert!(!matches!(old.as_str(), "Succeeded" | "Failed") || old == new, "{} became {}", old, new);
            for wake in plan.wake_at.into_iter().chain(plan.probe_at) {
                prop_assert!(wake > now, "asks to be woken in the past, after {:?}", before);
            }
            if i > count + 320 {
                prop_assert_eq!(pod.status.as_ref(), Some(&plan.status), "still changes");
            }
            pod.status = Some(plan.status);
        }
        // Quiet: no effects are open, and only probes and back-offs wait for time.
        prop_assert!(plane.open.is_empty() || plane.open.iter().all(|e| matches!(e, Effect::Probe { .. })), "open: {:?}", plane.open);
        if deleting {
            prop_assert!(super::plan(&pod, &mut observed, &refs, &node, now).remove, "not removed: {:?}", observed);
            prop_assert!(plane.alive.is_empty());
        }
    }
}
