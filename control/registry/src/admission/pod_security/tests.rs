use super::*;
use serde_json::json;

fn found(level: Level, minor: Option<u32>, spec: Value) -> String {
    checks::details(&checks::violations(Standard { level, minor }, &json!({"metadata": {}, "spec": spec})))
}

/// A pod that has everything that `restricted` asks for.
fn good() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut spec = good();
    let (parent, leaf) = pointer.rsplit_once('/').unwrap();
    spec.pointer_mut(parent).unwrap()[leaf] = value;
    spec
}

#[test]
fn each_check_of_baseline_finds_what_upstream_finds() {
    let context = "/containers/0/securityContext";
    let c = |field: &str, v: Value| with(&format!("{context}/{field}"), v);
    for (spec, want) in [
        (good(), ""),
        (with("/hostNetwork", json!(true)), "host namespaces (hostNetwork=true)"),
        (
            c("capabilities", json!({"drop": ["ALL"], "add": ["SYS_ADMIN", "NET_RAW"]})),
            "non-default capabilities (container \"a\" must not include \"NET_RAW\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            with(
                "/volumes",
                json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "hostPath": {"path": "/"}}]),
            ),
            "hostPath volumes (volumes \"v\", \"w\")",
        ),
        (
            with("/containers/0/ports", json!([{"hostPort": 80}, {"hostPort": 443}, {"hostPort": 0}])),
            "hostPort (container \"a\" uses hostPorts 443, 80)",
        ),
        (
            with("/containers/0/livenessProbe", json!({"httpGet": {"host": "10.0.0.1"}})),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (c("privileged", json!(true)), "privileged (container \"a\" must not set securityContext.privileged=true)"),
        (
            c("procMount", json!("Unmasked")),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            c("appArmorProfile", json!({"type": "Unconfined"})),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            with("/securityContext/seLinuxOptions", json!({"type": "spc_t", "user": "u"})),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            with("/securityContext/seccompProfile", json!({"type": "Unconfined"})),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            with("/securityContext/sysctls", json!([{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}])),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            with("/securityContext/windowsOptions", json!({"hostProcess": true})),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        assert_eq!(found(Level::Baseline, None, spec.clone()), want, "{spec}");
        assert_eq!(found(Level::Privileged, None, spec), "");
    }
}

#[test]
fn each_check_of_restricted_finds_what_upstream_finds() {
    let context = "/containers/0/securityContext";
    let c = |field: &str, v: Value| with(&format!("{context}/{field}"), v);
    for (spec, want) in [
        (good(), ""),
        (
            c("allowPrivilegeEscalation", json!(true)),
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            c("capabilities", json!({"add": ["CHOWN"]})),
            "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; container \"a\" \
             must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            with("/volumes", json!([{"name": "v", "nfs": {}}, {"name": "w", "hostPath": {}}])),
            "restricted volume types (volumes \"v\", \"w\" use restricted volume types \"hostPath\", \"nfs\")",
        ),
        (
            with("/securityContext/runAsNonRoot", json!(false)),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (
            with("/securityContext/runAsNonRoot", Value::Null),
            "runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true)",
        ),
        (c("runAsUser", json!(0)), "runAsUser=0 (container \"a\" must not set runAsUser=0)"),
        (
            with("/securityContext/seccompProfile", Value::Null),
            "seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")",
        ),
        (
            json!({"containers": [{"name": "a"}, {"name": "b"}]}),
            "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
             securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
             securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
             securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ] {
        assert_eq!(found(Level::Restricted, None, spec.clone()), want, "{spec}");
    }
}

#[test]
fn older_versions_ask_for_less() {
    let bare = json!({"containers": [{"name": "a"}]});
    for (minor, want) in [
        (7, "runAsNonRoot != true"),
        (18, "allowPrivilegeEscalation != false, runAsNonRoot != true"),
        (21, "allowPrivilegeEscalation != false, runAsNonRoot != true, seccompProfile"),
        (99, "allowPrivilegeEscalation != false, unrestricted capabilities, runAsNonRoot != true, seccompProfile"),
    ] {
        let standard = Standard { level: Level::Restricted, minor: Some(minor) };
        let pod = json!({ "spec": bare });
        assert_eq!(checks::reasons(&checks::violations(standard, &pod)), want, "v1.{minor}");
    }
    let sysctl = with("/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem"}]));
    assert_eq!(found(Level::Baseline, Some(31), sysctl.clone()), "forbidden sysctls (net.ipv4.tcp_rmem)");
    assert_eq!(found(Level::Baseline, Some(32), sysctl), "");
    let probe = with("/containers/0/livenessProbe", json!({"httpGet": {"host": "h"}}));
    assert_eq!(found(Level::Baseline, Some(33), probe), "");
    // Users of its own are a wish that no runtime fulfils.
    let mut own = with("/containers/0/securityContext/procMount", json!("Unmasked"));
    own["securityContext"] = json!({"runAsNonRoot": false, "runAsUser": 0});
    let mut wished = own.clone();
    wished["hostUsers"] = false.into();
    for (level, reasons) in [
        (Level::Baseline, &["procMount ("][..]),
        (Level::Restricted, &["procMount (", "runAsNonRoot != true (", "runAsUser=0 ("]),
    ] {
        let told = found(level, None, wished.clone());
        assert!(reasons.iter().all(|r| told.contains(r)), "{told}");
        assert_eq!(told, found(level, None, own.clone()));
    }
    let old =
        json!({"metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}, "spec": bare});
    let standard = Standard { level: Level::Baseline, minor: Some(18) };
    assert_eq!(
        checks::details(&checks::violations(standard, &old)),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
}

#[test]
fn labels_say_the_policy() {
    let read = |pairs: &[(&str, &str)]| {
        let labels: Value = pairs.iter().map(|(k, v)| (format!("{PREFIX}{k}"), Value::from(*v))).collect();
        let (policy, errors) = of_labels(&labels);
        let errors = errors.iter().map(|e| format!(" {e}")).collect::<String>();
        format!("{} {}{errors}", policy.enforce, policy.warn)
    };
    for (labels, want) in [
        (&[][..], "privileged:latest privileged:latest"),
        (&[("enforce", "baseline")], "baseline:latest baseline:latest"),
        (&[("enforce", "baseline"), ("enforce-version", "v1.30")], "baseline:v1.30 baseline:v1.30"),
        (&[("enforce", "baseline"), ("warn", "restricted")], "baseline:latest restricted:latest"),
        (&[("enforce", "restricted"), ("warn", "privileged")], "restricted:latest privileged:latest"),
        (
            &[("enforce", "strict")],
            "restricted:latest privileged:latest metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": \
             must be one of privileged, baseline, restricted",
        ),
        (
            &[("warn-version", "1.30")],
            "privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \
             \"1.30\": must be \"latest\" or \"v1.x\"",
        ),
        (
            &[("audit-version", "v1.030")],
            "privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \
             \"v1.030\": must be \"latest\" or \"v1.x\"",
        ),
    ] {
        assert_eq!(read(labels), want, "{labels:?}");
    }
}
