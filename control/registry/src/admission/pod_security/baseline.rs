//! The checks of the level `baseline`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Pod;
use super::checks::{Violation, containers, plural, quoted, setters, violation};
use crate::value::{list, text, texts};

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
/// What containers may add.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// What pods may set, and since which version.
const SYSCTLS: [(&str, u32); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
];
const SE_LINUX: [(&str, u32); 5] =
    [("", 0), ("container_t", 0), ("container_init_t", 0), ("container_kvm_t", 0), ("container_engine_t", 31)];

pub(super) fn app_armor(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let mut is_bad = |context: &Value| {
        let kind = text(&context["appArmorProfile"], "type");
        let wrong = context["appArmorProfile"].is_object() && !matches!(kind, "RuntimeDefault" | "Localhost");
        if wrong {
            bad.insert(kind.to_string());
        }
        wrong
    };
    let of_pod = is_bad(&pod.spec["securityContext"]);
    let names: Vec<&str> =
        pod.containers().filter(|(_, c)| is_bad(&c["securityContext"])).map(|(name, _)| name).collect();
    let mut who = setters(of_pod, &names);
    let fine = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let annotations: BTreeSet<String> = pod
        .annotations()
        .filter(|(k, v)| k.starts_with(APP_ARMOR) && !fine(v))
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect();
    if !annotations.is_empty() {
        if !who.is_empty() {
            who.push_str(" and ");
        }
        who.push_str(plural("annotation", "annotations", annotations.len()));
    }
    if who.is_empty() {
        return None;
    }
    let values: Vec<&str> = bad.iter().chain(&annotations).map(String::as_str).collect();
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    violation(reason, format!("{who} must not set AppArmor profile type to {}", quoted(values.iter().copied())))
}

pub(super) fn capabilities(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let mut bad = BTreeSet::new();
    let mut adds = |c: &'_ Value| -> bool {
        let added: Vec<String> = texts(&c["securityContext"]["capabilities"], "add")
            .filter(|a| !CAPABILITIES.contains(a))
            .map(String::from)
            .collect();
        let some = !added.is_empty();
        bad.extend(added);
        some
    };
    let names: Vec<&str> = pod.containers().filter(|(_, c)| adds(c)).map(|(name, _)| name).collect();
    if names.is_empty() {
        return None;
    }
    let bad = quoted(bad.iter().map(String::as_str));
    let detail = format!("{} must not include {bad} in securityContext.capabilities.add", containers(&names));
    violation("non-default capabilities", detail)
}

pub(super) fn host_namespaces(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|f| pod.spec[*f] == true);
    let shared: Vec<String> = shared.map(|f| format!("{f}=true")).collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

pub(super) fn host_path(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let volumes = list(pod.spec, "volumes").iter().filter(|v| v["hostPath"].is_object());
    let names: Vec<&str> = volumes.map(|v| text(v, "name")).collect();
    if names.is_empty() {
        return None;
    }
    let word = plural("volume", "volumes", names.len());
    violation("hostPath volumes", format!("{word} {}", quoted(names.iter().copied())))
}

pub(super) fn host_ports(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let mut uses = |c: &Value| {
        let own = list(c, "ports").iter().filter_map(|p| p["hostPort"].as_u64()).filter(|p| *p != 0);
        let own: Vec<String> = own.map(|p| p.to_string()).collect();
        let some = !own.is_empty();
        ports.extend(own);
        some
    };
    let names: Vec<&str> = pod.containers().filter(|(_, c)| uses(c)).map(|(name, _)| name).collect();
    if names.is_empty() {
        return None;
    }
    let verb = plural("uses", "use", names.len());
    let word = plural("hostPort", "hostPorts", ports.len());
    let ports = ports.into_iter().collect::<Vec<_>>().join(", ");
    violation("hostPort", format!("{} {verb} {word} {ports}", containers(&names)))
}

pub(super) fn probe_hosts(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 34 {
        return None;
    }
    let (mut names, mut hosts) = (BTreeSet::new(), BTreeSet::new());
    for (name, c) in pod.containers() {
        let hooks = [&c["lifecycle"]["postStart"], &c["lifecycle"]["preStop"]];
        let probes = [&c["livenessProbe"], &c["readinessProbe"], &c["startupProbe"]];
        for handler in probes.into_iter().chain(hooks) {
            let of = [text(&handler["httpGet"], "host"), text(&handler["tcpSocket"], "host")];
            for host in of.into_iter().filter(|h| !h.is_empty()) {
                names.insert(name);
                hosts.insert(host);
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    let names: Vec<&str> = names.into_iter().collect();
    let verb = plural("uses", "use", names.len());
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let hosts = quoted(hosts.iter().copied());
    violation("probe or lifecycle host", format!("{} {verb} {word} {hosts}", containers(&names)))
}

pub(super) fn privileged(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let names: Vec<&str> =
        pod.containers().filter(|(_, c)| c["securityContext"]["privileged"] == true).map(|(name, _)| name).collect();
    if names.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&names)))
}

pub(super) fn proc_mount(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let mount = |c: &'_ Value| c["securityContext"]["procMount"].as_str().filter(|m| *m != "Default").map(String::from);
    let bad: Vec<(&str, String)> = pod.containers().filter_map(|(name, c)| Some((name, mount(c)?))).collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
    let types: BTreeSet<&str> = bad.iter().map(|(_, m)| m.as_str()).collect();
    let detail = format!("{} must not set securityContext.procMount to {}", containers(&names), quoted(types));
    violation("procMount", detail)
}

pub(super) fn se_linux(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let mut is_bad = |context: &Value| {
        let options = &context["seLinuxOptions"];
        if !options.is_object() {
            return false;
        }
        let kind = text(options, "type");
        let known = SE_LINUX.iter().any(|(t, since)| *t == kind && minor >= *since);
        if !known {
            types.insert(kind.to_string());
        }
        let (with_user, with_role) = (!text(options, "user").is_empty(), !text(options, "role").is_empty());
        user |= with_user;
        role |= with_role;
        !known || with_user || with_role
    };
    let of_pod = is_bad(&pod.spec["securityContext"]);
    let names: Vec<&str> =
        pod.containers().filter(|(_, c)| is_bad(&c["securityContext"])).map(|(name, _)| name).collect();
    let who = setters(of_pod, &names);
    if who.is_empty() {
        return None;
    }
    let mut data = Vec::new();
    if !types.is_empty() {
        let word = plural("type", "types", types.len());
        data.push(format!("{word} {}", quoted(types.iter().map(String::as_str))));
    }
    if user {
        data.push("user may not be set".into());
    }
    if role {
        data.push("role may not be set".into());
    }
    violation("seLinuxOptions", format!("{who} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

/// Whether a seccomp profile is one that confines.
pub(super) fn confines(kind: &str) -> bool {
    matches!(kind, "Localhost" | "RuntimeDefault")
}

pub(super) fn seccomp(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 19 {
        return seccomp_annotations(pod);
    }
    let bad = bad_seccomp(pod);
    (!bad.0.is_empty()).then(|| seccomp_set(&bad)).flatten()
}

/// Who sets a seccomp profile that does not confine, and which.
pub(super) fn bad_seccomp(pod: &Pod<'_>) -> (String, BTreeSet<String>) {
    let mut bad = BTreeSet::new();
    let mut is_bad = |context: &Value| {
        let profile = &context["seccompProfile"];
        let wrong = profile.is_object() && !confines(text(profile, "type"));
        if wrong {
            bad.insert(text(profile, "type").to_string());
        }
        wrong
    };
    let of_pod = is_bad(&pod.spec["securityContext"]);
    let names: Vec<&str> =
        pod.containers().filter(|(_, c)| is_bad(&c["securityContext"])).map(|(name, _)| name).collect();
    (setters(of_pod, &names), bad)
}

/// The finding about that.
pub(super) fn seccomp_set((who, values): &(String, BTreeSet<String>)) -> Option<Violation> {
    let values = quoted(values.iter().map(String::as_str));
    violation("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to {values}"))
}

fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let fine = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let names: BTreeSet<String> = pod.containers().map(|(name, _)| format!("{SECCOMP_CONTAINER}{name}")).collect();
    let bad: BTreeSet<String> = pod
        .annotations()
        .filter(|(k, v)| (*k == SECCOMP_POD || names.contains(*k)) && !fine(v))
        .map(|(k, v)| format!("{k}={v:?}"))
        .collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", bad.len());
    violation("seccompProfile", format!("forbidden {word} {}", bad.into_iter().collect::<Vec<_>>().join(", ")))
}

pub(super) fn sysctls(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let known = |name: &str| SYSCTLS.iter().any(|(s, since)| *s == name && minor >= *since);
    let set = list(&pod.spec["securityContext"], "sysctls").iter().map(|s| text(s, "name"));
    let bad: Vec<&str> = set.filter(|name| !known(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

pub(super) fn windows_host_process(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let is_host = |context: &Value| context["windowsOptions"]["hostProcess"] == true;
    let names: Vec<&str> =
        pod.containers().filter(|(_, c)| is_host(&c["securityContext"])).map(|(name, _)| name).collect();
    let who = setters(is_host(&pod.spec["securityContext"]), &names);
    if who.is_empty() {
        return None;
    }
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}
