//! The checks that the level `restricted` has besides those of `baseline`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::Pod;
use super::baseline::{self, bad_seccomp, confines, seccomp_set};
use super::checks::{Violation, containers, plural, quoted, setters, violation};
use crate::value::{list, text, texts};

/// The types of volumes that pods may have.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// The other types, as far as they have a name here.
const OTHER_VOLUMES: [&str; 21] = [
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "hostPath",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];
/// Since when what Windows does not have is not asked of pods for Windows.
const WINDOWS: u32 = 25;

pub(super) fn privilege_escalation(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 8 || (minor >= WINDOWS && pod.is_windows()) {
        return None;
    }
    let may = |c: &Value| c["securityContext"]["allowPrivilegeEscalation"] != false;
    let names: Vec<&str> = pod.containers().filter(|(_, c)| may(c)).map(|(name, _)| name).collect();
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    violation("allowPrivilegeEscalation != false", detail)
}

pub(super) fn capabilities(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 22 || (minor >= WINDOWS && pod.is_windows()) {
        return None;
    }
    let (mut keeping, mut adding, mut added) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (name, c) in pod.containers() {
        let capabilities = &c["securityContext"]["capabilities"];
        if !texts(capabilities, "drop").any(|d| d == "ALL") {
            keeping.push(name);
        }
        let own: Vec<&str> = texts(capabilities, "add").filter(|a| *a != "NET_BIND_SERVICE").collect();
        if !own.is_empty() {
            adding.push(name);
            added.extend(own);
        }
    }
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        let added = quoted(added);
        details.push(format!("{} must not include {added} in securityContext.capabilities.add", containers(&adding)));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

pub(super) fn proc_mount(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 35 { None } else { baseline::proc_mount(pod, minor) }
}

pub(super) fn volumes(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let has = |v: &Value, types: &[&'static str]| types.iter().copied().find(|t| v[*t].is_object());
    let bad: Vec<&Value> = list(pod.spec, "volumes").iter().filter(|v| has(v, &VOLUMES).is_none()).collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|v| text(v, "name")).collect();
    let types: BTreeSet<&str> = bad.iter().map(|v| has(v, &OTHER_VOLUMES).unwrap_or("unknown")).collect();
    let (word, verb) = (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let kind = plural("restricted volume type", "restricted volume types", types.len());
    let names = quoted(names);
    violation("restricted volume types", format!("{word} {names} {verb} {kind} {}", quoted(types)))
}

pub(super) fn run_as_non_root(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let said = |context: &Value| context["runAsNonRoot"].as_bool();
    let of_pod = said(&pod.spec["securityContext"]);
    let of = |wanted: Option<bool>| -> Vec<&str> {
        pod.containers().filter(|(_, c)| said(&c["securityContext"]) == wanted).map(|(name, _)| name).collect()
    };
    let who = setters(of_pod == Some(false), &of(Some(false)));
    if !who.is_empty() {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = of(None);
    if of_pod == Some(true) || silent.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)))
}

pub(super) fn run_as_user(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 23 {
        return None;
    }
    let root = |context: &Value| context["runAsUser"] == 0;
    let names: Vec<&str> =
        pod.containers().filter(|(_, c)| root(&c["securityContext"])).map(|(name, _)| name).collect();
    let who = setters(root(&pod.spec["securityContext"]), &names);
    if who.is_empty() { None } else { violation("runAsUser=0", format!("{who} must not set runAsUser=0")) }
}

pub(super) fn seccomp(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor < 19 || (minor >= WINDOWS && pod.is_windows()) {
        return None;
    }
    let bad = bad_seccomp(pod);
    if !bad.0.is_empty() {
        return seccomp_set(&bad);
    }
    let set = |context: &Value| context["seccompProfile"].is_object();
    let of_pod = &pod.spec["securityContext"];
    if set(of_pod) && confines(text(&of_pod["seccompProfile"], "type")) {
        return None;
    }
    let silent: Vec<&str> =
        pod.containers().filter(|(_, c)| !set(&c["securityContext"])).map(|(name, _)| name).collect();
    if silent.is_empty() {
        return None;
    }
    let silent = containers(&silent);
    let detail =
        format!("pod or {silent} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"");
    violation("seccompProfile", detail)
}
