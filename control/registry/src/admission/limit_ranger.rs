//! LimitRanger: a namespace's LimitRanges give containers their requests and limits, and say how much is too little or too
//! much.

use copepod_model::Status;
use copepod_model::kinds::core::podspec;
use copepod_model::pod_resources::{self, Amounts, amounts};
use copepod_model::quantity::Quantity;
use serde_json::Value;

use super::{Operation, Review};
use crate::value::{self, list, text};

const RANGES: &str = "limitranges";
/// Where a pod says what it was given.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const CLAIM: &str = "PersistentVolumeClaim";

pub(super) fn mutate(review: &mut Review<'_>, pod: &mut Value) -> Result<(), Status> {
    if !review.creates("pods") {
        return Ok(());
    }
    let ranges: Vec<Value> = review.view.list(RANGES, Some(&review.key.namespace)).map(|r| r.value()).collect();
    let mut changed = false;
    for range in &ranges {
        changed |= give(pod, range);
    }
    if changed && pod["status"].is_object() {
        pod["status"]["qosClass"] = podspec::qos_class(&pod["spec"]).into();
    }
    Ok(())
}

/// Gives containers what the range's last item of type Container has by default, where they say nothing. Whether any took it.
fn give(pod: &mut Value, range: &Value) -> bool {
    let mut notes = Vec::new();
    let items: Vec<&Value> = list(&range["spec"], "limits").iter().filter(|i| i["type"] == "Container").collect();
    for (kind, words) in [("containers", "container"), ("initContainers", "init container")] {
        let all = pod.get_mut("spec").and_then(|s| s.get_mut(kind)).and_then(Value::as_array_mut);
        for container in all.into_iter().flatten().filter(|c| c.is_object()) {
            let name = text(container, "name").to_string();
            for (from, to, what) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
                let mut set: Vec<String> = Vec::new();
                // Of several items the later ones prevail, as upstream's do.
                for (resource, amount) in items.iter().rev().flat_map(|i| i[from].as_object().into_iter().flatten()) {
                    if container["resources"][to].get(resource).is_none() {
                        let resources = value::child(container, "resources");
                        let to = resources.entry(to).or_insert_with(|| Value::Object(Default::default()));
                        value::object(to).insert(resource.clone(), amount.clone());
                        set.push(resource.clone());
                    }
                }
                if !set.is_empty() {
                    set.sort();
                    notes.push(format!("{} {what} for {words} {name}", set.join(", ")));
                }
            }
        }
    }
    if notes.is_empty() {
        return false;
    }
    let note = format!("LimitRanger plugin set: {}", notes.join("; "));
    value::child(&mut pod["metadata"], "annotations").insert(ANNOTATION.into(), note.into());
    true
}

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    let claims = &*review.key.resource == "persistentvolumeclaims" && review.whole();
    let claims = claims && review.operation != Operation::Delete && object["metadata"]["deletionTimestamp"].is_null();
    if !claims && !review.creates("pods") && !review.resizes() {
        return Ok(());
    }
    for range in review.view.list(RANGES, Some(&review.key.namespace)) {
        let range = range.value();
        let wrong = if claims { claim(&range, object) } else { pod(&range, object) };
        match wrong.as_slice() {
            [] => {}
            [one] => return Err(review.forbid(one)),
            many => return Err(review.forbid(&format!("[{}]", many.join(", ")))),
        }
    }
    Ok(())
}

/// What is wrong with a pod, in upstream's words.
fn pod(range: &Value, pod: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let spec = &pod["spec"];
    for item in list(&range["spec"], "limits") {
        match text(item, "type") {
            "Container" => {
                for c in ["containers", "initContainers"].iter().flat_map(|l| list(spec, l)) {
                    let of = |which: &str| amounts(&c["resources"][which]);
                    check(item, "Container", &of("requests"), &of("limits"), &mut wrong);
                }
            }
            "Pod" => {
                let of = |which: &str| pod_resources::of_containers(spec, which);
                check(item, "Pod", &of("requests"), &of("limits"), &mut wrong);
            }
            _ => {}
        }
    }
    wrong
}

fn check(item: &Value, kind: &str, requests: &Amounts, limits: &Amounts, wrong: &mut Vec<String>) {
    let zero = Quantity::default();
    let mut say = |why: String| {
        // As upstream's aggregate, which says nothing twice.
        if !wrong.contains(&why) {
            wrong.push(why);
        }
    };
    for (k, min) in amounts(&item["min"]) {
        let limit = limits.get(&k).filter(|l| **l < min);
        match (requests.get(&k), limit) {
            (None, _) => say(format!("minimum {k} usage per {kind} is {min}.  No request is specified")),
            (Some(r), _) if *r < min => say(format!("minimum {k} usage per {kind} is {min}, but request is {r}")),
            (_, Some(l)) => say(format!("minimum {k} usage per {kind} is {min}, but limit is {l}")),
            _ => {}
        }
    }
    for (k, max) in amounts(&item["max"]) {
        let request = requests.get(&k).filter(|r| **r > max);
        match (limits.get(&k), request) {
            (None, _) => say(format!("maximum {k} usage per {kind} is {max}.  No limit is specified")),
            (Some(l), _) if *l > max => say(format!("maximum {k} usage per {kind} is {max}, but limit is {l}")),
            (_, Some(r)) => say(format!("maximum {k} usage per {kind} is {max}, but request is {r}")),
            _ => {}
        }
    }
    for (k, most) in amounts(&item["maxLimitRequestRatio"]) {
        let some = |of: &Amounts| of.get(&k).copied().filter(|q| *q != zero);
        let start = format!("{k} max limit to request ratio per {kind} is {most}, but");
        match (some(requests), some(limits)) {
            (None, _) => say(format!("{start} no request is specified or request is 0")),
            (_, None) => say(format!("{start} no limit is specified or limit is 0")),
            (Some(r), Some(l)) => {
                // Upstream compares floats, and prints them.
                let ratio = l.millis() as f64 / r.millis() as f64;
                if ratio * 1000.0 > most.millis() as f64 {
                    say(format!("{start} provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}

/// What is wrong with a claim: what it requests counts, and nothing else.
fn claim(range: &Value, claim: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    for item in list(&range["spec"], "limits").iter().filter(|i| i["type"] == CLAIM) {
        for (k, min) in amounts(&item["min"]) {
            match requests.get(&k) {
                None => wrong.push(format!("minimum {k} usage per {CLAIM} is {min}.  No request is specified")),
                Some(r) if *r < min => {
                    wrong.push(format!("minimum {k} usage per {CLAIM} is {min}, but request is {r}"))
                }
                _ => {}
            }
        }
        for (k, max) in amounts(&item["max"]) {
            match requests.get(&k) {
                None => wrong.push(format!("maximum {k} usage per {CLAIM} is {max}.  No request is specified")),
                Some(r) if *r > max => {
                    wrong.push(format!("maximum {k} usage per {CLAIM} is {max}, but request is {r}"))
                }
                _ => {}
            }
        }
    }
    wrong
}
