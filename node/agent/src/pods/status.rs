//! The strategic merge patch that turns one pod status into another.

use serde_json::{Map, Value, json};

/// What has to change in `have` so that it becomes `want`; `None` if nothing. Conditions are merged by type, and those of
/// others are not touched.
pub(crate) fn diff(have: &Value, want: &Value) -> Option<Value> {
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
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_sent() {
        let have = json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1"}], "conditions": [
            {"type": "Ready", "status": "False", "reason": "no", "message": "m"}, {"type": "Own", "status": "True"}, {"type": "A", "status": "True"}]});
        let want = json!({"phase": "Running", "podIPs": [{"ip": "2"}], "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "A", "status": "True"}]});
        assert_eq!(
            diff(&have, &want),
            Some(json!({"phase": "Running", "reason": null, "podIPs": [{"$patch": "replace"}, {"ip": "2"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null}]}))
        );
        assert_eq!(diff(&want, &want), None);
        assert_eq!(diff(&Value::Null, &json!({"podIPs": [{"ip": "1"}]})), Some(json!({"podIPs": [{"ip": "1"}]})));
        // A condition of someone else is no difference of ours.
        assert_eq!(
            diff(
                &have,
                &json!({"phase": "Pending", "reason": "x", "podIPs": [{"ip": "1"}], "conditions": [{"type": "A", "status": "True"}]})
            ),
            None
        );
    }
}
