//! ResourceQuota: what a new object costs is added to the `status.used` of each quota that it falls under, in the same
//! transaction, on the condition that the quota is still as it was read. So no two clients can spend the same rest: whoever
//! comes second decides again. The controller `resource_quota` takes back what deleted objects no longer cost.

use std::collections::BTreeSet;

use copepod_model::pod_resources::{Amounts, add, amounts};
use copepod_model::quantity::Quantity;
use copepod_model::{Object, Status, object, quota};
use copepod_state::{Op, Require};
use serde_json::{Value, json};

use super::{Operation, Review};
use crate::value::{self, text};

const QUOTAS: &str = "resourcequotas";

pub(super) fn validate(review: &mut Review<'_>, new: &Value) -> Result<(), Status> {
    let resource = &*review.key.resource;
    let handled = match review.operation {
        Operation::Create => review.whole(),
        Operation::Update => review.resizes() || review.whole() && quota::updates_cost(resource),
        Operation::Delete => false,
    };
    if !handled || review.key.namespace.is_empty() || !quota::counts(resource) {
        return Ok(());
    }
    let mut interesting = Vec::new();
    for stored in review.view.list(QUOTAS, Some(&review.key.namespace)) {
        let quota = stored.value();
        if let Some(names) = concerned(review, &quota, new)? {
            interesting.push((stored, quota, names));
        }
    }
    if interesting.is_empty() {
        return Ok(());
    }
    let cost = quota::usage(resource, new, review.now);
    let negative: Vec<&str> = cost.iter().filter(|(_, q)| q.is_negative()).map(|(k, _)| k.as_str()).collect();
    if !negative.is_empty() {
        return Err(review.forbid(&format!("quota usage is negative for resource(s): {}", negative.join(","))));
    }
    for (stored, quota, names) in interesting {
        // An update costs what it adds, if the object was in the quota before.
        let before = review.old.filter(|old| quota::in_scopes(&quota["spec"], resource, old));
        let before = before.map(|old| quota::usage(resource, old, review.now)).unwrap_or_default();
        let zero = Quantity::default();
        let added = |(k, q): (&String, &Quantity)| {
            let more = *q - before.get(k).copied().unwrap_or_default();
            (names.contains(k) && more > zero).then(|| (k.clone(), more))
        };
        let wanted: Amounts = cost.iter().filter_map(added).collect();
        if !wanted.is_empty() {
            charge(review, &stored, quota, &wanted)?;
        }
    }
    Ok(())
}

/// The names that the quota limits and that depend on the object, if it falls under the quota at all.
fn concerned(review: &Review<'_>, quota: &Value, new: &Value) -> Result<Option<BTreeSet<String>>, Status> {
    let resource = &*review.key.resource;
    let hard = quota["status"]["hard"].as_object();
    let names: BTreeSet<String> =
        hard.into_iter().flatten().map(|(k, _)| k.clone()).filter(|k| quota::tracks(resource, k)).collect();
    if names.is_empty() || !quota::in_scopes(&quota["spec"], resource, new) {
        return Ok(None);
    }
    let quota_name = text(&quota["metadata"], "name");
    let listed: Vec<&str> = names.iter().map(String::as_str).collect();
    if resource == "pods"
        && let Some(why) = quota::unsaid(new, &listed)
    {
        return Err(review.forbid(&format!("failed quota: {quota_name}: {why}")));
    }
    if listed.iter().any(|k| quota["status"]["used"].get(*k).is_none()) {
        let why = format!("status unknown for quota: {quota_name}, resources: {}", listed.join(","));
        return Err(review.forbid(&why));
    }
    Ok(Some(names))
}

fn charge(review: &mut Review<'_>, stored: &Object, mut quota: Value, wanted: &Amounts) -> Result<(), Status> {
    let (hard, mut used) = (amounts(&quota["status"]["hard"]), amounts(&quota["status"]["used"]));
    let before = used.clone();
    add(&mut used, wanted);
    let exceeded: Vec<&String> = wanted.keys().filter(|k| hard.get(*k).is_some_and(|max| used[*k] > *max)).collect();
    if !exceeded.is_empty() {
        let show = |of: &Amounts| {
            let all = exceeded.iter().filter_map(|k| Some(format!("{k}={}", of.get(*k)?)));
            all.collect::<Vec<_>>().join(",")
        };
        return Err(review.forbid(&format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            stored.name(),
            show(wanted),
            show(&before),
            show(&hard)
        )));
    }
    let used: serde_json::Map<String, Value> = used.iter().map(|(k, q)| (k.clone(), json!(q.to_string()))).collect();
    value::child(&mut quota, "status").insert("used".into(), used.into());
    review.effects.require.push(Require::At(stored.key.clone(), stored.revision));
    review.effects.ops.push(Op::Put { key: stored.key.clone(), body: object::encode(&quota), revised: true });
    review.effects.contended = true;
    Ok(())
}
