//! Rules of security contexts, of the pod and of its containers.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, is_true, list, one_of, text, within};

const MAX_ID: i64 = u32::MAX as i64;

/// Rules of a container's `securityContext`.
pub(super) fn container(path: Path<'_>, context: &Value, errors: &mut Vec<FieldError>) {
    within(path.child("runAsUser"), &context["runAsUser"], 0, MAX_ID, errors);
    within(path.child("runAsGroup"), &context["runAsGroup"], 0, MAX_ID, errors);
    if let Some(mount) = context["procMount"].as_str() {
        one_of(path.child("procMount"), mount, &["Default", "Unmasked"], errors);
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

/// Rules of a pod's `securityContext`.
pub(super) fn pod(path: Path<'_>, context: &Value, errors: &mut Vec<FieldError>) {
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
    for (i, s) in list(context, "sysctls").iter().enumerate() {
        let path = path.child("sysctls");
        let path = path.index(i);
        if text(s, "name").is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        }
    }
    profiles(path, context, errors);
}

fn profiles(path: Path<'_>, context: &Value, errors: &mut Vec<FieldError>) {
    for name in ["seccompProfile", "appArmorProfile"] {
        let profile = &context[name];
        if !profile.is_object() {
            continue;
        }
        let path = path.child(name);
        match (text(profile, "type"), text(profile, "localhostProfile").is_empty()) {
            ("Localhost", true) => {
                let why = if name == "seccompProfile" {
                    "must be set when seccomp type is Localhost"
                } else {
                    "must be set when AppArmor type is Localhost"
                };
                errors.push(FieldError::required(path.child("localhostProfile"), why));
            }
            ("Localhost", false) | ("RuntimeDefault" | "Unconfined", true) => {}
            ("RuntimeDefault" | "Unconfined", false) => errors.push(FieldError::invalid(
                path.child("localhostProfile"),
                profile["localhostProfile"].clone(),
                "can only be set when type is Localhost",
            )),
            ("", _) => errors.push(FieldError::required(path.child("type"), "type is required when profile is set")),
            (other, _) => one_of(path.child("type"), other, &["Localhost", "RuntimeDefault", "Unconfined"], errors),
        }
    }
}
