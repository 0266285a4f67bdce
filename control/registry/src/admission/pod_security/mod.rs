//! PodSecurity: the Pod Security Standards (KEP-2579). A namespace's labels say which level its pods must have (`enforce`) and
//! of what lack a client is warned (`warn`), at which version of the standards. What lacks by `audit` is counted, like the rest, and
//! nothing else: there is no audit log. Upstream asks less of pods with users of their own (`hostUsers: false`); no runtime here gives them any, so nothing is allowed for it.

mod baseline;
mod checks;
mod restricted;

use std::collections::{BTreeMap, BTreeSet};

use copepod_model::{FieldError, Object, Status};
use serde_json::Value;

use super::{Operation, Review};
use crate::call::Part;
use crate::value::{list, text};

const PREFIX: &str = "pod-security.kubernetes.io/";
/// The newest version of the standards that is known here.
const NEWEST: u32 = 35;
/// How many pods of a namespace are looked at when its labels change.
const PODS: usize = 3000;
/// What is looked into for the pods that it will make, and where they are described.
const CONTROLLERS: [(&str, &str); 8] = [
    ("cronjobs.batch", "/spec/jobTemplate/spec/template"),
    ("daemonsets.apps", "/spec/template"),
    ("deployments.apps", "/spec/template"),
    ("jobs.batch", "/spec/template"),
    ("podtemplates", "/template"),
    ("replicasets.apps", "/spec/template"),
    ("replicationcontrollers", "/spec/template"),
    ("statefulsets.apps", "/spec/template"),
];

/// How much pods may do, the least strict first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// A level at a version: the minor number, none for the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Standard {
    level: Level,
    minor: Option<u32>,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// What a standard had to say of a pod, or of the pods to come: the labels of upstream's `pod_security_evaluations_total`. Of the
/// modes `audit` and `warn`, and of controllers, only what lacks is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// `allow` or `deny`.
    pub decision: &'static str,
    /// `privileged`, `baseline` or `restricted`.
    pub level: &'static str,
    /// `latest`, `v1.30`, or `future` for one that is not known yet.
    pub version: String,
    /// `enforce`, `audit` or `warn`.
    pub mode: &'static str,
    /// `create` or `update`.
    pub operation: &'static str,
    /// `pod` or `controller`.
    pub resource: &'static str,
    /// Such as `ephemeralcontainers`; empty for none.
    pub subresource: &'static str,
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let level = self.level.name();
        match self.minor {
            Some(minor) => write!(f, "{level}:v1.{minor}"),
            None => write!(f, "{level}:latest"),
        }
    }
}

/// What a namespace's labels say, as far as something is done about it.
struct Policy {
    enforce: Standard,
    audit: Standard,
    warn: Standard,
}

/// Reads the labels; a label that cannot be read counts as strict for `enforce`, and not at all for the others.
fn policy<'a>(label: impl Fn(&str) -> Option<&'a str>) -> (Policy, Vec<FieldError>) {
    let mut errors = Vec::new();
    let mut invalid = |mode: &str, value: &str, why: &str| {
        errors.push(FieldError::invalid(format!("metadata.labels[{PREFIX}{mode}]"), value, why));
    };
    let mut standard = |mode: &str, fallback: Level| {
        let mut out = Standard { level: Level::Privileged, minor: None };
        match label(mode) {
            None | Some("privileged") => {}
            Some("baseline") => out.level = Level::Baseline,
            Some("restricted") => out.level = Level::Restricted,
            Some(other) => {
                out.level = fallback;
                invalid(mode, other, "must be one of privileged, baseline, restricted");
            }
        }
        let versioned = format!("{mode}-version");
        if let Some(version) = label(&versioned).filter(|v| *v != "latest") {
            out.minor = version
                .strip_prefix("v1.")
                .filter(|m| *m == "0" || !m.starts_with('0'))
                .and_then(|m| m.bytes().all(|b| b.is_ascii_digit()).then(|| m.parse().ok()).flatten());
            if out.minor.is_none() {
                invalid(&versioned, version, "must be \"latest\" or \"v1.x\"");
            }
        }
        out
    };
    let enforce = standard("enforce", Level::Restricted);
    let audit = standard("audit", Level::Privileged);
    let mut warn = standard("warn", Level::Privileged);
    // Whoever enforces is warned of what will not run, although the objects that lead to it are let in.
    let readable = matches!(label("enforce"), Some("privileged" | "baseline" | "restricted"));
    if label("warn").is_none() && readable && enforce.level > warn.level {
        warn.level = enforce.level;
        if label("warn-version").is_none() {
            warn.minor = enforce.minor;
        }
    }
    (Policy { enforce, audit, warn }, errors)
}

fn of_labels(labels: &Value) -> (Policy, Vec<FieldError>) {
    policy(|mode| labels[format!("{PREFIX}{mode}")].as_str())
}

fn of_namespace(namespace: &Object) -> Policy {
    policy(|mode| namespace.meta.labels.get(format!("{PREFIX}{mode}").as_str()).map(|v| &**v)).0
}

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    let resource = &*review.key.resource;
    if review.operation == Operation::Delete {
        return Ok(());
    }
    let template = CONTROLLERS.iter().find(|(r, _)| *r == resource).map(|(_, at)| *at);
    match (resource, review.part, template) {
        ("namespaces", Part::Whole, _) => namespace(review, object),
        ("pods", Part::Whole | Part::Other("ephemeralcontainers" | "resize"), _) => pod(review, object),
        (_, Part::Whole, Some(at)) => {
            if let (Some(policy), Some(template)) = (effective(review), object.pointer(at)) {
                audit(review, &policy, template);
                warn(review, &policy, template);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The policy of the object's namespace.
fn effective(review: &Review<'_>) -> Option<Policy> {
    let namespace = review.view.get("namespaces", "", &review.key.namespace)?;
    Some(of_namespace(&namespace))
}

fn pod(review: &mut Review<'_>, pod: &Value) -> Result<(), Status> {
    let Some(policy) = effective(review) else { return Ok(()) };
    if review.old.is_some_and(|old| !significant(pod, old)) {
        return Ok(());
    }
    let violations = checks::violations(policy.enforce, pod);
    count(review, "enforce", policy.enforce, violations.is_empty());
    audit(review, &policy, pod);
    if !violations.is_empty() {
        let why = format!("violates PodSecurity {:?}: {}", policy.enforce.to_string(), checks::details(&violations));
        return Err(review.forbid(&why));
    }
    warn(review, &policy, pod);
    Ok(())
}

fn audit(review: &mut Review<'_>, policy: &Policy, pod: &Value) {
    if !checks::violations(policy.audit, pod).is_empty() {
        count(review, "audit", policy.audit, false);
    }
}

fn warn(review: &mut Review<'_>, policy: &Policy, pod: &Value) {
    let violations = checks::violations(policy.warn, pod);
    if !violations.is_empty() {
        count(review, "warn", policy.warn, false);
        let why = format!("would violate PodSecurity {:?}: {}", policy.warn.to_string(), checks::details(&violations));
        review.effects.warnings.push(why);
    }
}

fn count(review: &mut Review<'_>, mode: &'static str, standard: Standard, allowed: bool) {
    let version = match standard.minor {
        None => "latest".into(),
        // That level has always asked for nothing.
        _ if standard.level == Level::Privileged => "latest".into(),
        Some(minor) if minor > NEWEST => "future".into(),
        Some(minor) => format!("v1.{minor}"),
    };
    let evaluation = Evaluation {
        decision: if allowed { "allow" } else { "deny" },
        level: standard.level.name(),
        version,
        mode,
        operation: if review.operation == Operation::Create { "create" } else { "update" },
        resource: if &*review.key.resource == "pods" { "pod" } else { "controller" },
        subresource: review.part.name(),
    };
    review.evaluations.push(evaluation);
}

/// Whether a change of a pod may change what it is allowed to do: what may change at all is images and ephemeral containers.
fn significant(new: &Value, old: &Value) -> bool {
    ["containers", "initContainers", "ephemeralContainers"].iter().any(|kind| {
        let (n, o) = (list(&new["spec"], kind), list(&old["spec"], kind));
        let had = |c: &Value| o.iter().find(|o| o["name"] == c["name"]);
        let changed = n.iter().any(|c| had(c).is_none_or(|h| h["image"] != c["image"]));
        changed || (*kind != "ephemeralContainers" && n.len() != o.len())
    })
}

fn namespace(review: &mut Review<'_>, namespace: &Value) -> Result<(), Status> {
    let (new, errors) = of_labels(&namespace["metadata"]["labels"]);
    let old = review.old.map(|old| of_labels(&old["metadata"]["labels"]));
    let known = old.as_ref().is_some_and(|(_, had)| *had == errors);
    if !errors.is_empty() && !known {
        return Err(Status::invalid("", "Namespace", &review.key.name, &errors));
    }
    let Some((old, _)) = old else { return Ok(()) };
    let relaxed = new.enforce.minor == old.enforce.minor && new.enforce.level <= old.enforce.level;
    if new.enforce == old.enforce || new.enforce.level == Level::Privileged || relaxed {
        return Ok(());
    }
    let warnings = existing(review, new.enforce);
    review.effects.warnings.extend(warnings);
    Ok(())
}

/// What there is to say about the pods that a namespace has when it enforces a stricter standard.
fn existing(review: &Review<'_>, enforce: Standard) -> Vec<String> {
    let namespace = &*review.key.name;
    // One pod of each controller comes before the others that are like it.
    let (mut first, mut rest, mut seen) = (Vec::new(), Vec::new(), BTreeSet::new());
    for pod in review.view.list("pods", Some(namespace)) {
        match pod.meta.controller().map(|c| c.uid.clone()) {
            Some(uid) if !seen.insert(uid.clone()) => rest.push(pod),
            _ => first.push(pod),
        }
    }
    let total = first.len() + rest.len();
    // By the reasons: the first pod's name, and how many there are.
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in first.into_iter().chain(rest).take(PODS) {
        let reasons = checks::reasons(&checks::violations(enforce, &pod.value()));
        if !reasons.is_empty() {
            let (name, count) = found.entry(reasons).or_insert_with(|| (pod.name().into(), 0));
            *count += 1;
            if pod.name() < name.as_str() {
                *name = pod.name().into();
            }
        }
    }
    let mut out = Vec::new();
    if total > PODS {
        out.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        out.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
            enforce.to_string()
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    out.extend(lines);
    out
}

/// What the checks look at.
struct Pod<'a> {
    meta: &'a Value,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// Every container with its name, init containers first.
    fn containers(&self) -> impl Iterator<Item = (&'a str, &'a Value)> + use<'a> {
        copepod_model::kinds::core::podspec::containers(self.spec).map(|c| (text(c, "name"), c))
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a String, &'a str)> + use<'a> {
        let all = self.meta["annotations"].as_object().into_iter().flatten();
        all.map(|(k, v)| (k, v.as_str().unwrap_or_default()))
    }

    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }
}

#[cfg(test)]
mod tests;
