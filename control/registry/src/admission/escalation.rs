//! RBAC's own rule: nobody grants what they do not have, unless they may `escalate` or `bind`.

use copepod_model::Status;
use serde_json::Value;

use super::{Operation, Review};
use crate::rbac::rules::{RoleRef, Rule, missing};
use crate::rbac::{self, Attributes};
use crate::value::text;

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    if review.kind.group != rbac::GROUP || review.operation == Operation::Delete || review.user.in_group(rbac::MASTERS)
    {
        return Ok(());
    }
    match review.kind.kind {
        "Role" | "ClusterRole" => role(review, object),
        "RoleBinding" | "ClusterRoleBinding" => binding(review, object),
        _ => Ok(()),
    }
}

fn role(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let changed = |field: &str| review.old.is_none_or(|old| old[field] != object[field]);
    if !changed("rules") && !changed("aggregationRule") {
        return Ok(());
    }
    let attributes = Attributes {
        user: review.user,
        verb: "escalate",
        group: rbac::GROUP,
        resource: review.kind.plural,
        subresource: "",
        namespace: &review.key.namespace,
        name: &review.key.name,
        path: None,
    };
    if rbac::authorize(review.view, &attributes).allowed {
        return Ok(());
    }
    if !object["aggregationRule"].is_null() && changed("aggregationRule") {
        // Whoever selects roles by label is given whatever they will hold.
        let everything = [Rule::everything(), Rule::every_path()];
        return confirm(review, &everything);
    }
    confirm(review, &Rule::all(&object["rules"]))
}

fn binding(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    let changed = |field: &str| review.old.is_none_or(|old| old[field] != object[field]);
    if !changed("subjects") && !changed("roleRef") {
        return Ok(());
    }
    let reference = &object["roleRef"];
    let role = RoleRef { cluster: text(reference, "kind") == "ClusterRole", name: text(reference, "name").into() };
    let attributes = Attributes {
        user: review.user,
        verb: "bind",
        group: rbac::GROUP,
        resource: if role.cluster { "clusterroles" } else { "roles" },
        subresource: "",
        namespace: &review.key.namespace,
        name: &role.name,
        path: None,
    };
    if rbac::authorize(review.view, &attributes).allowed {
        return Ok(());
    }
    match rbac::rules_of(review.view, &role, &review.key.namespace) {
        Some(rules) => confirm(review, &rules),
        None => Err(Status::not_found(role.resource(), &role.name)),
    }
}

/// Says no unless the user holds every one of `wanted`.
fn confirm(review: &Review<'_>, wanted: &[Rule]) -> Result<(), Status> {
    let held = rbac::rules_for(review.view, review.user, &review.key.namespace);
    let missing = missing(&held, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let groups = review.user.groups.iter().map(|g| format!("{g:?}")).collect::<Vec<_>>().join(" ");
    let rules = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    Err(review.forbid(&format!(
        "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{rules}",
        review.user.name
    )))
}
