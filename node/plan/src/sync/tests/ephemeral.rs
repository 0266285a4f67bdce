//! Ephemeral containers in a pod that runs.

use super::*;

fn running(spec: Value) -> Bench {
    let mut b = Bench::new(spec);
    b.image();
    b.started("c", 0);
    b
}

fn add(b: &mut Bench, list: Value) -> String {
    b.pod.spec.as_mut().unwrap().ephemeral_containers = serde_json::from_value(list).unwrap();
    b.plan()
}

fn ephemeral(b: &Bench) -> String {
    b.state("ephemeralContainerStatuses", 0)
}

#[test]
fn they_run_once_and_judge_nothing() {
    let mut b = running(json!({"containers": [{"name": "c"}]}));
    assert_eq!(add(&mut b, json!([{"name": "d", "image": "img:1", "stdin": true, "tty": true}])), "pull img:1");
    assert_eq!((b.phase(), ephemeral(&b).as_str()), ("Running", "waiting ContainerCreating 0"));
    assert_eq!(b.condition("Ready"), "True -");
    assert_eq!(b.image(), "start d.0");
    let Some(Effect::Start { spec, .. }) = b.last.effects.first() else { panic!("it starts") };
    assert!(spec.stdin && spec.tty);
    b.started("d", 0);
    assert_eq!(b.last.events[0].field_path.as_deref(), Some("spec.ephemeralContainers{d}"));
    assert_eq!((ephemeral(&b).as_str(), b.main().as_str()), ("running 0", "running 0 ready"));

    let adopted = Observed::adopt(&pod_with_status(&b), "10.244.0.5".parse().unwrap(), b.now);
    assert_eq!(b.exited("d", 0, 1), "");
    assert_eq!(ephemeral(&b), "terminated Error 1 0");
    assert_eq!((b.phase(), b.condition("Ready").as_str(), b.last.wake_at), ("Running", "True -", None));
    assert_eq!(b.after(600_000), "", "it is never started again");

    // An agent that comes back has lost it, and starts only the others anew.
    b.observed = adopted;
    assert_eq!(b.plan(), "attach 10.244.0.5; pull img:1");
    assert_eq!(ephemeral(&b), "terminated Unknown 255 0");
    assert_eq!(b.image(), "start c.1");
}

fn pod_with_status(b: &Bench) -> Pod {
    Pod { status: Some(b.last.status.clone()), ..b.pod.clone() }
}

#[test]
fn they_die_with_the_pod() {
    let mut b = running(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    add(&mut b, json!([{"name": "d", "image": "img:1"}]));
    b.image();
    b.started("d", 0);
    assert_eq!(b.exited("c", 0, 0), "stop d.0 30s");
    assert_eq!(b.exited("d", 0, 143), "detach");
    assert_eq!((b.phase(), ephemeral(&b).as_str()), ("Succeeded", "terminated Error 143 0"));

    let mut b = running(json!({"containers": [{"name": "c"}]}));
    add(&mut b, json!([{"name": "d", "image": "img:1"}]));
    b.image();
    b.started("d", 0);
    assert_eq!(b.delete(30), "stop c.0 30s; stop d.0 30s");
    b.exited("c", 0, 0);
    assert_eq!(b.exited("d", 0, 143), "remove");
}

#[test]
fn one_that_waits_for_its_volume_holds_nobody_back() {
    let mut b = running(json!({"volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "livenessProbe": {"tcpSocket": {"port": 1}, "failureThreshold": 1}}]}));
    let mounts = json!([{"name": "v", "mountPath": "/v"}]);
    assert_eq!(add(&mut b, json!([{"name": "d", "image": "img:1", "volumeMounts": mounts}])), "mount v");
    let stop = b.probed(ProbeKind::Liveness, Err("no".into()));
    assert_eq!(stop, "stop c.0 30s");
    let mounted = Observation::VolumeMounted { uid: "u".into(), name: "v".into(), result: Ok("/host/v".into()) };
    assert_eq!(b.see(mounted), "pull img:1");
    assert_eq!(b.image(), "start d.0");
    let Some(Effect::Start { spec, .. }) = b.last.effects.first() else { panic!("it starts") };
    assert_eq!(spec.mounts[0].path, "/v");
}
