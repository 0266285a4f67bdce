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
    (policy, 0..3usize, 1..3usize, probe.clone(), probe, prop_oneof![Just(Value::Null), Just(json!(120))]).prop_map(
        |(policy, inits, mains, readiness, liveness, deadline)| {
            let inits: Vec<Value> = (0..inits).map(|i| json!({"name": format!("i{i}")})).collect();
            let main = |i| json!({"name": format!("c{i}"), "readinessProbe": readiness, "livenessProbe": liveness});
            let mains: Vec<Value> = (0..mains).map(main).collect();
            json!({"restartPolicy": policy, "initContainers": inits, "containers": mains, "activeDeadlineSeconds": deadline})
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
    past: Vec<Observation>,
}

impl Plane {
    fn take(&mut self, spec: &Value, plan: &PodPlan, deleting: bool) {
        for e in &plan.effects {
            match e {
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
                        let allowed = match spec["restartPolicy"].as_str() {
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
            Effect::PullImage { image, .. } if code == 1 => {
                Some(Observation::ImageFailed { image, reason: "ErrImagePull".into(), message: "no".into() })
            }
            Effect::PullImage { image, .. } => {
                Some(Observation::ImageReady { image, digest: "sha256:1".into(), size: 1, took: Duration::ZERO })
            }
            Effect::Start { id, .. } if code == 2 => self.end(&id, 128, now),
            Effect::Start { id, .. } => {
                *self.alive.get_mut(&id)? = true;
                Some(Observation::Started { id, at: now })
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
        let calm = std::iter::repeat_n(calm, 60).flatten();
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
                    for (id, up) in plane.alive.clone() {
                        if up {
                            plane.end(&id, 255, now);
                        } else {
                            plane.alive.remove(&id);
                            plane.attempts.remove(&id);
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
            if let Some(wake) = plan.wake_at {
                prop_assert!(wake > now, "asks to be woken in the past, after {:?}", before);
            }
            if i > count + 200 {
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
