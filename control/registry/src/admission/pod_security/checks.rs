//! Which checks a standard has, and what their findings sound like.

use serde_json::Value;

use super::{Level, NEWEST, Pod, Standard, baseline, restricted};

/// What one check finds: a reason in short, and the details.
pub(super) struct Violation {
    reason: &'static str,
    detail: String,
}

/// A finding.
pub(super) fn violation(reason: &'static str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason, detail: detail.into() })
}

/// A check at a version of the standards.
pub(super) type Check = fn(&Pod<'_>, u32) -> Option<Violation>;

/// The checks of `baseline` in the order of upstream's ids, and since which version a check of `restricted` stands for them.
const BASELINE: [(Check, Option<u32>); 12] = [
    (baseline::app_armor, None),
    (baseline::capabilities, Some(22)),
    (baseline::host_namespaces, None),
    (baseline::host_path, Some(0)),
    (baseline::host_ports, None),
    (baseline::probe_hosts, None),
    (baseline::privileged, None),
    (baseline::proc_mount, Some(35)),
    (baseline::se_linux, None),
    (baseline::seccomp, Some(19)),
    (baseline::sysctls, None),
    (baseline::windows_host_process, None),
];
const RESTRICTED: [Check; 7] = [
    restricted::privilege_escalation,
    restricted::capabilities,
    restricted::proc_mount,
    restricted::volumes,
    restricted::run_as_non_root,
    restricted::run_as_user,
    restricted::seccomp,
];

/// What of a pod, or of a template of one, a standard does not allow.
pub(super) fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    if standard.level == Level::Privileged {
        return Vec::new();
    }
    let minor = standard.minor.unwrap_or(NEWEST).min(NEWEST);
    let pod = Pod { meta: &pod["metadata"], spec: &pod["spec"] };
    let restricted = standard.level == Level::Restricted;
    let stands = |since: &Option<u32>| !restricted || since.is_none_or(|since| minor < since);
    let baseline = BASELINE.iter().filter(|(_, since)| stands(since)).map(|(check, _)| check);
    let more = RESTRICTED.iter().filter(|_| restricted);
    baseline.chain(more).filter_map(|check| check(&pod, minor)).collect()
}

/// The findings with their details.
pub(super) fn details(all: &[Violation]) -> String {
    let one = |v: &Violation| match v.detail.as_str() {
        "" => v.reason.to_string(),
        detail => format!("{} ({detail})", v.reason),
    };
    all.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The findings without details.
pub(super) fn reasons(all: &[Violation]) -> String {
    all.iter().map(|v| v.reason).collect::<Vec<_>>().join(", ")
}

/// `"a", "b"`.
pub(super) fn quoted<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    items.into_iter().map(|i| format!("\"{i}\"")).collect::<Vec<_>>().join(", ")
}

/// A word for one or for many.
pub(super) fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"` or `containers "a", "b"`.
pub(super) fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names.iter().copied()))
}

/// `pod and container "a"`: who has set something that is not allowed; empty if nobody has.
pub(super) fn setters(pod: bool, names: &[&str]) -> String {
    match (pod, names) {
        (true, []) => "pod".into(),
        (true, names) => format!("pod and {}", containers(names)),
        (false, []) => String::new(),
        (false, names) => containers(names),
    }
}
