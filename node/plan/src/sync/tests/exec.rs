//! Commands as probes and lifecycle hooks.

use super::*;

fn how(words: &str) -> ProbeHow {
    ProbeHow::Exec { command: words.split(' ').map(String::from).collect() }
}

#[test]
fn commands_probe_and_hook() {
    let exec = |words: &str| json!({"exec": {"command": words.split(' ').collect::<Vec<_>>()}});
    let mut live = exec("test -f /ok");
    live["failureThreshold"] = 1.into();
    live["timeoutSeconds"] = 3.into();
    let lifecycle = json!({"postStart": exec("mkdir /x"), "preStop": exec("rm /x")});
    let mut b = Bench::new(json!({"containers": [{"name": "c", "livenessProbe": live, "lifecycle": lifecycle}]}));
    b.image();
    assert_eq!(b.started("c", 0), format!("PostStart c.0 {:?}", how("mkdir /x")));
    let done = Observation::Hooked { id: b.id("c", 0), kind: HookKind::PostStart, result: Ok(()), at: b.now };
    assert_eq!(b.see(done), "probe c.0 Liveness 0");
    let Some(Effect::Probe { how: asked, timeout, .. }) = b.last.effects.first() else { panic!("it probes") };
    assert_eq!((asked, *timeout), (&how("test -f /ok"), Duration::from_secs(3)));

    let stop = b.probed(ProbeKind::Liveness, Err("no such file".into()));
    assert_eq!(stop, format!("PreStop c.0 {:?}", how("rm /x")));
    assert_eq!(
        b.events(),
        [
            "Unhealthy: Liveness probe failed: no such file",
            "Killing: Container c failed liveness probe, will be restarted"
        ]
    );
    let why = Err("Exec lifecycle hook ([rm /x]) …".into());
    let failed = Observation::Hooked { id: b.id("c", 0), kind: HookKind::PreStop, result: why, at: b.now };
    assert_eq!(b.see(failed), "stop c.0 30s");
    assert_eq!(b.events(), ["FailedPreStopHook: PreStopHook failed"]);
}
