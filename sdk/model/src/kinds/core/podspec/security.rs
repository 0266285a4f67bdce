//! Rules of security contexts, of the pod and of its containers.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::FieldError;
use crate::kinds::core::volume_sources::relative;
use crate::kinds::fields::{Path, is_true, list, one_of, text, within};

const MAX_ID: i64 = u32::MAX as i64;
/// How long the name of a sysctl may be, in bytes, and what it looks like.
const SYSCTL: usize = 253;
const SYSCTL_FORM: &str = "^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
/// What shares a namespace with the host, and how the sysctls of that namespace begin.
const NAMESPACED: [(&str, &[&str]); 2] =
    [("hostNetwork", &["net."]), ("hostIPC", &["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."])];

/// Rules of a container's `securityContext`. `host_users` is whether its users are those of the host.
pub(super) fn container(path: Path<'_>, context: &Value, host_users: bool, errors: &mut Vec<FieldError>) {
    within(path.child("runAsUser"), &context["runAsUser"], 0, MAX_ID, errors);
    within(path.child("runAsGroup"), &context["runAsGroup"], 0, MAX_ID, errors);
    if let Some(mount) = context["procMount"].as_str() {
        one_of(path.child("procMount"), mount, &["Default", "Unmasked"], errors);
        if host_users && mount == "Unmasked" {
            let why = "`hostUsers` must be false to use `Unmasked`";
            errors.push(FieldError::invalid(path.child("procMount"), mount, why));
        }
    }
    if context["allowPrivilegeEscalation"] == false {
        let why = |what| format!("cannot set `allowPrivilegeEscalation` to false and `{what}` to true");
        if is_true(context, "privileged") {
            errors.push(FieldError::invalid(path, context.clone(), why("privileged")));
        }
        if list(&context["capabilities"], "add").iter().any(|c| c == "CAP_SYS_ADMIN") {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(path, context.clone(), why));
        }
    }
    profiles(path, context, errors);
}

/// Rules of a pod's `securityContext`, and of what the pod shares with the host.
pub(super) fn pod(of: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let (path, context) = (of.child("securityContext"), &spec["securityContext"]);
    for id in ["runAsUser", "runAsGroup", "fsGroup"] {
        within(path.child(id), &context[id], 0, MAX_ID, errors);
    }
    for (i, g) in list(context, "supplementalGroups").iter().enumerate() {
        let path = path.child("supplementalGroups");
        within(path.index(i), g, 0, MAX_ID, errors);
    }
    if let Some(policy) = context["fsGroupChangePolicy"].as_str() {
        one_of(path.child("fsGroupChangePolicy"), policy, &["Always", "OnRootMismatch"], errors);
    }
    if let Some(policy) = context["supplementalGroupsPolicy"].as_str() {
        one_of(path.child("supplementalGroupsPolicy"), policy, &["Merge", "Strict"], errors);
    }
    if is_true(spec, "shareProcessNamespace") && is_true(spec, "hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(path.child("shareProcessNamespace"), true, why));
    }
    if let Some(policy) = context["seLinuxChangePolicy"].as_str() {
        one_of(path.child("seLinuxChangePolicy"), policy, &["MountOption", "Recursive"], errors);
    }
    sysctls(path.child("sysctls"), spec, errors);
    profiles(path, context, errors);
    if spec["hostUsers"] == false {
        for (shared, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
            if is_true(spec, shared) {
                errors.push(FieldError::forbidden(of.child(shown), "when `pod.Spec.HostUsers` is false"));
            }
        }
    }
}

fn sysctls(path: Path<'_>, spec: &Value, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for (i, s) in list(&spec["securityContext"], "sysctls").iter().enumerate() {
        let path = path.index(i);
        let (name, at) = (text(s, "name"), path.child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(at, ""));
        } else if !is_sysctl(name) {
            let why = format!("must have at most {SYSCTL} characters and match regex {SYSCTL_FORM}");
            errors.push(FieldError::invalid(at, name, why));
        } else if !seen.insert(name) {
            errors.push(FieldError::duplicate(at, name));
        }
        // Either separator may come first, and decides.
        let dotted = if name.find(['.', '/']).is_some_and(|i| name[i..].starts_with('/')) {
            name.replace('.', "\u{0}").replace('/', ".")
        } else {
            name.to_string()
        };
        for (shared, prefixes) in NAMESPACED {
            if is_true(spec, shared) && prefixes.iter().any(|p| dotted.starts_with(p)) {
                errors.push(FieldError::invalid(at, name, format!("may not be specified when '{shared}' is true")));
            }
        }
    }
}

/// Words of lower-case letters, digits, dashes and underscores between dots or slashes.
fn is_sysctl(name: &str) -> bool {
    let edge = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let word =
        |w: &str| w.starts_with(edge) && w.ends_with(edge) && w.chars().all(|c| edge(c) || matches!(c, '-' | '_'));
    name.len() <= SYSCTL && name.split(['.', '/']).all(word)
}

fn profiles(path: Path<'_>, context: &Value, errors: &mut Vec<FieldError>) {
    for name in ["seccompProfile", "appArmorProfile"] {
        let profile = &context[name];
        if !profile.is_object() {
            continue;
        }
        let path = path.child(name);
        let (kind, file, at) = (text(profile, "type"), &profile["localhostProfile"], path.child("localhostProfile"));
        let seccomp = name == "seccompProfile";
        let what = if seccomp { "seccomp" } else { "AppArmor" };
        match kind {
            "" => {
                let why = format!("type is required when {name} is set");
                errors.push(FieldError::required(path.child("type"), why));
            }
            kind => one_of(path.child("type"), kind, &["Localhost", "RuntimeDefault", "Unconfined"], errors),
        }
        match (kind, file.as_str()) {
            ("Localhost", None) => {
                errors.push(FieldError::required(at, format!("must be set when {what} type is Localhost")));
            }
            ("Localhost", Some(file)) if seccomp => relative(at, file, errors),
            ("Localhost", Some(file)) => app_armor(at, file, errors),
            ("RuntimeDefault" | "Unconfined", Some(_)) => {
                let shown = if seccomp { profile } else { file }.clone();
                errors.push(FieldError::invalid(at, shown, format!("can only be set when {what} type is Localhost")));
            }
            _ => {}
        }
    }
}

fn app_armor(path: Path<'_>, profile: &str, errors: &mut Vec<FieldError>) {
    const LONGEST: usize = 4095;
    if profile.trim() != profile {
        errors.push(FieldError::invalid(path, profile, "must not be padded with whitespace"));
    } else if profile.is_empty() {
        errors.push(FieldError::required(path, "must be set when AppArmor type is Localhost"));
    }
    if profile.len() > LONGEST {
        errors.push(FieldError::too_long(path, LONGEST));
    }
}
