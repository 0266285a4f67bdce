//! Access modes of volumes and claims.

use serde_json::Value;

use crate::FieldError;
use crate::kinds::fields::{Path, list};

/// The modes in upstream's order of showing, with what `kubectl get` calls them.
const MODES: [(&str, &str); 4] =
    [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
const SORTED: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// Rules of `accessModes`, of which there must be one; `why` says so.
pub(super) fn validate(path: Path<'_>, spec: &Value, why: &str, errors: &mut Vec<FieldError>) {
    let path = path.child("accessModes");
    let modes: Vec<&str> = list(spec, "accessModes").iter().filter_map(Value::as_str).collect();
    if modes.is_empty() {
        errors.push(FieldError::required(path, why));
    }
    for mode in modes.iter().filter(|m| !SORTED.contains(m)) {
        errors.push(FieldError::not_supported(path, *mode, &SORTED));
    }
    let alone = "ReadWriteOncePod";
    if modes.contains(&alone) && modes.iter().any(|m| *m != alone && SORTED.contains(m)) {
        errors.push(FieldError::forbidden(path, "may not use ReadWriteOncePod with other access modes"));
    }
}

/// As `kubectl get` shows them.
pub(super) fn short(parent: &Value) -> String {
    let modes = list(parent, "accessModes");
    let shown = MODES.iter().filter(|(mode, _)| modes.iter().any(|m| m == mode));
    shown.map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}
