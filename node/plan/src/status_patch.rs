//! When a pod's status has to be written, and the strategic merge patch that turns one pod status into another.

use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map, Value, json};

use crate::conditions::RESIZE;

/// The status that was written last, and what the API made of it. What the API made of it, such as another spelling of a
/// quantity, is no reason to write it again. What somebody else has made of it since then is: the node controller says
/// that the pods of a node that it does not hear are not ready, and nobody but the agent says that they are again
/// (the kubelet's `needsReconcile`).
#[derive(Clone, Debug, Default)]
pub struct Written(Option<(u64, u64)>);

impl Written {
    /// The patch that is due where the API has `have` and the agent wants `want`, if one is; with the number that
    /// [`Written::wrote`] takes.
    pub fn due(&self, have: &Value, want: &Value) -> Option<(Value, u64)> {
        let number = digest(want);
        if self.0 == Some((number, digest(have))) {
            return None;
        }
        Some((status_patch(have, want)?, number))
    }

    /// The patch of this number was taken, and the status is `made` now.
    pub fn wrote(&mut self, number: u64, made: &Value) {
        self.0 = Some((number, digest(made)));
    }
}

fn digest(status: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.to_string().hash(&mut hasher);
    hasher.finish()
}

/// What has to change in `have` so that it becomes `want`; `None` if nothing. Conditions are merged by type, and those of
/// others are not touched; of the agent's own, those of a resize go when it is over.
pub fn status_patch(have: &Value, want: &Value) -> Option<Value> {
    let mut patch = Map::new();
    let empty = Map::new();
    let (have, want) = (have.as_object().unwrap_or(&empty), want.as_object().unwrap_or(&empty));
    for (field, value) in want {
        let before = have.get(field).unwrap_or(&Value::Null);
        if before == value {
            continue;
        }
        match field.as_str() {
            "conditions" => {
                let changed = conditions(before, value);
                if !changed.is_empty() {
                    patch.insert(field.clone(), changed.into());
                }
            }
            // Lists that merge by key: what is there must go first.
            "podIPs" | "hostIPs" if !before.is_null() => {
                let mut list = vec![json!({"$patch": "replace"})];
                list.extend(value.as_array().into_iter().flatten().cloned());
                patch.insert(field.clone(), list.into());
            }
            _ => drop(patch.insert(field.clone(), value.clone())),
        }
    }
    for field in have.keys().filter(|f| !want.contains_key(*f)) {
        patch.insert(field.clone(), Value::Null);
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

fn conditions(have: &Value, want: &Value) -> Vec<Value> {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let have = list(have);
    let mut changed = Vec::new();
    for mut c in list(want) {
        let before = have.iter().find(|b| b["type"] == c["type"]);
        if before == Some(&c) {
            continue;
        }
        // What the new one leaves out has to be taken out.
        for field in before.and_then(|b| b.as_object()).into_iter().flat_map(|b| b.keys()) {
            if c.get(field).is_none() {
                c[field] = Value::Null;
            }
        }
        changed.push(c);
    }
    for gone in have.iter().filter(|c| RESIZE.iter().any(|kind| c["type"] == *kind)) {
        if !list(want).iter().any(|c| c["type"] == gone["type"]) {
            changed.push(json!({"$patch": "delete", "type": gone["type"]}));
        }
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_has_said_is_said_again_and_what_the_api_has_spelled_is_not() {
        let ready = |status: &str| json!({"memory": "1Gi", "conditions": [{"type": "Ready", "status": status}]});
        let (none, mut want) = (json!({}), ready("True"));
        want["memory"] = "1024Mi".into();
        let mut written = Written::default();
        let (patch, number) = written.due(&none, &want).unwrap();
        assert_eq!(patch, want);
        written.wrote(number, &ready("True"));
        assert_eq!(written.due(&ready("True"), &want), None, "the API's own spelling");
        // The node controller has not heard of the node; the agent wants what it has always wanted.
        let (patch, number) = written.due(&ready("False"), &want).unwrap();
        assert_eq!(patch["conditions"], want["conditions"]);
        written.wrote(number, &ready("True"));
        assert_eq!(written.due(&ready("True"), &want), None);
        assert!(written.due(&ready("True"), &ready("False")).is_some(), "another wish");
    }

    #[test]
    fn only_what_differs_is_sent() {
        let have = json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1"}], "conditions": [
            {"type": "Ready", "status": "False", "reason": "no", "message": "m"}, {"type": "Own", "status": "True"}, {"type": "A", "status": "True"}]});
        let want = json!({"phase": "Running", "podIPs": [{"ip": "2"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "A", "status": "True"}]});
        assert_eq!(
            status_patch(&have, &want),
            Some(json!({"phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}))
        );
        assert_eq!(status_patch(&want, &want), None);
        assert_eq!(
            status_patch(&Value::Null, &json!({"podIPs": [{"ip": "1"}]})),
            Some(json!({"podIPs": [{"ip": "1"}]}))
        );
        // A condition of someone else is no difference of ours.
        assert_eq!(
            status_patch(
                &have,
                &json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1"}], "conditions": [{"type": "A", "status": "True"}]})
            ),
            None
        );
    }
}
