//! `MatchResources`: what a policy or a binding is about.

use serde_json::Value;

use super::{MATCH_POLICIES, rules};
use crate::FieldError;
use crate::kinds::fields::{Fields, Path, check, ensure, fill_absent, items_mut, list, one_of};
use crate::kinds::metadata::validate_selector;
use crate::kinds::names;

const RULES: [&str; 2] = ["resourceRules", "excludeResourceRules"];

/// Its defaults.
pub(super) fn default(matches: &mut Fields) {
    fill_absent(matches, "matchPolicy", || "Equivalent".into());
    ensure(matches, "namespaceSelector");
    ensure(matches, "objectSelector");
    for field in RULES {
        items_mut(matches, field).for_each(rules::default);
    }
}

/// Its rules.
pub(super) fn validate(path: Path<'_>, matches: &Value, errors: &mut Vec<FieldError>) {
    let at = path.child("matchPolicy");
    match matches["matchPolicy"].as_str() {
        None => errors.push(FieldError::required(at, "")),
        Some(policy) => one_of(at, policy, &MATCH_POLICIES, errors),
    }
    for field in ["namespaceSelector", "objectSelector"] {
        if matches[field].is_null() {
            errors.push(FieldError::required(path.child(field), ""));
        }
        validate_selector(path.child(field), &matches[field], errors);
    }
    for field in RULES {
        for (i, rule) in list(matches, field).iter().enumerate() {
            let path = path.child(field);
            let path = path.index(i);
            let named = list(rule, "resourceNames");
            for (j, name) in named.iter().enumerate() {
                let at = path.child("resourceNames");
                check(at.index(j), name.as_str().unwrap_or_default(), names::path_segment, errors);
                if named[..j].contains(name) {
                    errors.push(FieldError::duplicate(at.index(j), name.clone()));
                }
            }
            rules::validate(path, rule, errors);
        }
    }
}
