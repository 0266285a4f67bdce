//! Job.

use serde_json::Value;

use super::{SPEC, V1, job_spec, job_status};
use crate::kinds::core::podspec;
use crate::kinds::fields::{Fields, Path, ensure, fill, fill_absent, immutable, items_mut, spec_mut, text};
use crate::kinds::table::{col, columns, name, selector};
use crate::kinds::{Column, Kind, Strategy, age, duration, metadata, names, since, workload};
use crate::selector::LabelSelector;
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind { categories: &["all"], status: true, generation: true, ..Kind::new(V1, "Job", ("jobs", "job"), Job) }
}

/// Labels that tell a Job's pods, each under its name of today and its old one.
const JOB_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const CONTROLLER_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];

struct Job;

impl Strategy for Job {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        let absent = |spec: &Fields, name: &str| spec.get(name).is_none_or(Value::is_null);
        if absent(spec, "completions") && absent(spec, "parallelism") {
            fill_absent(spec, "completions", || 1.into());
        }
        fill_absent(spec, "parallelism", || 1.into());
        let per_index = !absent(spec, "backoffLimitPerIndex");
        fill_absent(spec, "backoffLimit", || if per_index { i32::MAX.into() } else { 6.into() });
        fill_absent(spec, "completionMode", || "NonIndexed".into());
        fill_absent(spec, "suspend", || false.into());
        fill_absent(spec, "manualSelector", || false.into());
        let judges = !absent(spec, "podFailurePolicy");
        let replacement = if judges { "Failed" } else { "TerminatingOrFailed" };
        fill_absent(spec, "podReplacementPolicy", || replacement.into());
        if let Some(policy) = spec.get_mut("podFailurePolicy").and_then(Value::as_object_mut) {
            for rule in items_mut(policy, "rules") {
                for pattern in items_mut(rule, "onPodConditions") {
                    fill(pattern, "status", "True");
                }
            }
        }
        workload::default_template(spec);
        label_as_template(object);
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        generated_selector(object, errors);
        job_spec::validate(SPEC, spec, errors);
        let chosen = &spec["selector"];
        if chosen.is_null() {
            errors.push(FieldError::required(SPEC.child("selector"), ""));
        } else {
            metadata::validate_selector(SPEC.child("selector"), chosen, errors);
        }
        workload::matches_template(SPEC.child("template"), chosen, &spec["template"], errors);
        let completions = spec["completions"].as_i64().filter(|n| *n > 0 && job_spec::is_indexed(spec));
        if let Some(completions) = completions {
            let name = text(&object["metadata"], "name");
            let host = format!("{name}-{}", completions - 1);
            if !name.is_empty() && names::label(&host).is_err() {
                let why = format!("will not able to create pod with invalid DNS label: {host}");
                errors.push(FieldError::invalid("metadata.name", name, why));
            }
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        let (spec, before) = (&new["spec"], &old["spec"]);
        completions(spec, before, errors);
        immutable(SPEC.child("selector"), &spec["selector"], &before["selector"], errors);
        template(new, old, errors);
        for name in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
            immutable(SPEC.child(name), &spec[name], &before[name], errors);
        }
    }

    fn validate_status(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        job_status::validate(new, old, errors);
    }

    fn prepare_create(&self, object: &mut Value) {
        // Labels that defaulting took from the template grow with the template's.
        let meta = &object["metadata"]["labels"];
        let from_template = meta.is_null() || *meta == object["spec"]["template"]["metadata"]["labels"];
        if object["spec"]["manualSelector"] != true {
            generate_selector(object);
        }
        if from_template {
            if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
                meta.remove("labels");
            }
            label_as_template(object);
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.successful"]
    }

    fn field(&self, object: &Value, _: &str) -> String {
        object["status"]["succeeded"].as_i64().unwrap_or(0).to_string()
    }

    fn orphans(&self) -> bool {
        true
    }

    fn orphans_warning(&self) -> Option<&'static str> {
        Some(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
             propagationPolicy=Orphan to suppress this warning",
        )
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Status", "string", "Status of the job."),
                col("Completions", "string", "Number of pods that have succeeded."),
                col("Duration", "string", "Time required to complete the job."),
            ],
            &workload::LAYOUT,
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let (names, images) = podspec::layout(&spec["template"]["spec"]);
        let succeeded = status["succeeded"].as_i64().unwrap_or(0);
        let parallelism = spec["parallelism"].as_i64().unwrap_or(0);
        let completions = match spec["completions"].as_i64() {
            Some(n) => format!("{succeeded}/{n}"),
            None if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            None => format!("{succeeded}/1"),
        };
        let time = |name: &str| status[name].as_str().and_then(Time::parse);
        let took = match (time("startTime"), time("completionTime")) {
            (None, _) => Value::from(""),
            (Some(_), None) => since(&status["startTime"], now),
            (Some(start), Some(end)) => duration::human(end.since(start)).into(),
        };
        let is = |condition: &str| job_status::is_true(o, condition);
        let shown = match () {
            () if is("Complete") => "Complete",
            () if is("Failed") => "Failed",
            () if o["metadata"]["deletionTimestamp"].is_string() => "Terminating",
            () if is("Suspended") => "Suspended",
            () if is("FailureTarget") => "FailureTarget",
            () => "Running",
        };
        vec![
            name(o),
            shown.into(),
            completions.into(),
            took,
            age(o, now),
            names.into(),
            images.into(),
            selector(&spec["selector"]),
        ]
    }
}

/// A Job without labels has its template's.
fn label_as_template(job: &mut Value) {
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    if labels.as_object().is_none_or(Fields::is_empty) {
        return;
    }
    if let Some(meta) = job.as_object_mut().and_then(|o| ensure(o, "metadata"))
        && meta.get("labels").and_then(Value::as_object).is_none_or(Fields::is_empty)
    {
        meta.insert("labels".into(), labels);
    }
}

/// Gives the template labels that no other Job's pods have, and selects by them. What a template has of them already
/// stays, for validation to refuse where it is wrong.
fn generate_selector(job: &mut Value) {
    let own = |v: &Value| Value::from(v.as_str().unwrap_or_default());
    let (job_name, uid) = (own(&job["metadata"]["name"]), own(&job["metadata"]["uid"]));
    let Some(spec) = job.as_object_mut().and_then(|o| ensure(o, "spec")) else { return };
    let labels = ensure(spec, "template").and_then(|t| ensure(t, "metadata")).and_then(|m| ensure(m, "labels"));
    let Some(labels) = labels else { return };
    for (pair, value) in [(JOB_NAME, job_name), (CONTROLLER_UID, uid.clone())] {
        for name in pair {
            labels.entry(name).or_insert_with(|| value.clone());
        }
    }
    if let Some(chosen) = ensure(spec, "selector").and_then(|s| ensure(s, "matchLabels")) {
        chosen.entry(CONTROLLER_UID[0]).or_insert(uid);
    }
}

fn generated_selector(job: &Value, errors: &mut Vec<FieldError>) {
    let (spec, meta) = (&job["spec"], &job["metadata"]);
    if spec["manualSelector"] == true || spec["selector"].is_null() {
        return;
    }
    if text(meta, "uid").is_empty() {
        errors.push(FieldError::required("metadata.uid", ""));
    }
    let labels = &spec["template"]["metadata"]["labels"];
    // The old names come first.
    let wanted = |i: usize| [(CONTROLLER_UID[i], text(meta, "uid")), (JOB_NAME[i], text(meta, "name"))];
    let wanted = [wanted(1), wanted(0)].concat();
    for (label, want) in &wanted {
        let path = Path::root("spec.template.metadata.labels");
        match labels[*label].as_str() {
            Some(given) if given == *want => {}
            Some(_) => errors.push(FieldError::invalid(path.key(label), labels.clone(), format!("must be '{want}'"))),
            None => errors.push(FieldError::required(path.key(label), format!("must be '{want}'"))),
        }
    }
    let expected = |k: &str| wanted.iter().find(|(label, _)| *label == k).map(|(_, v)| *v);
    if LabelSelector::from_json(&spec["selector"]).is_ok_and(|s| !s.matches_with(expected)) {
        let why = "`selector` not auto-generated";
        errors.push(FieldError::invalid(SPEC.child("selector"), spec["selector"].clone(), why));
    }
}

/// The completions of an Indexed Job may change along with its parallelism.
fn completions(spec: &Value, before: &Value, errors: &mut Vec<FieldError>) {
    let path = SPEC.child("completions");
    let (new, old) = (&spec["completions"], &before["completions"]);
    if !job_spec::is_indexed(spec) {
        immutable(path, new, old, errors);
    } else if new != old && !new.is_null() && *new != spec["parallelism"] {
        let why = "can only be modified in tandem with spec.parallelism";
        errors.push(FieldError::invalid(path, new.clone(), why));
    }
}

/// The template is immutable, but for where its pods may run as long as the Job is suspended and has never started.
fn template(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let (template, before) = (&new["spec"]["template"], &old["spec"]["template"]);
    let path: Path<'_> = SPEC.child("template");
    if template == before {
        return;
    }
    let waiting = old["spec"]["suspend"] == true && old["status"]["startTime"].is_null();
    if !waiting || directed(template) != directed(before) {
        errors.push(FieldError::invalid(path, template.clone(), "field is immutable"));
    }
}

/// A template without what directs its pods to nodes.
fn directed(template: &Value) -> Value {
    let mut out = template.clone();
    if let Some(meta) = out.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.retain(|k, v| !matches!(k.as_str(), "labels" | "annotations") && !v.is_null());
    }
    if out["metadata"].as_object().is_some_and(Fields::is_empty)
        && let Some(out) = out.as_object_mut()
    {
        out.remove("metadata");
    }
    if let Some(pod) = out.get_mut("spec").and_then(Value::as_object_mut) {
        for name in ["nodeSelector", "tolerations", "schedulingGates"] {
            pod.remove(name);
        }
        if let Some(affinity) = pod.get_mut("affinity").and_then(Value::as_object_mut) {
            affinity.remove("nodeAffinity");
            if affinity.is_empty() {
                pod.remove("affinity");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn created(spec: Value) -> Value {
        let mut job = json!({"metadata": {"name": "pi", "uid": "u1"}, "spec": spec});
        Job.default(&mut job);
        Job.prepare_create(&mut job);
        job
    }

    fn errors(job: &Value) -> Vec<String> {
        let mut errors = Vec::new();
        Job.validate(job, &mut errors);
        errors.iter().map(ToString::to_string).collect()
    }

    fn pod(labels: Value) -> Value {
        json!({"metadata": {"labels": labels},
            "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i:1"}]}})
    }

    #[test]
    fn a_job_selects_by_labels_of_its_own() {
        let job = created(json!({"template": pod(json!({"app": "x"}))}));
        let all = json!({"app": "x", "batch.kubernetes.io/job-name": "pi", "job-name": "pi",
            "batch.kubernetes.io/controller-uid": "u1", "controller-uid": "u1"});
        assert_eq!(job["spec"]["template"]["metadata"]["labels"], all);
        assert_eq!(job["metadata"]["labels"], all);
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}}));
        assert_eq!(errors(&job), Vec::<String>::new());
        // Labels of the Job's own stay alone.
        let mut own = json!({"metadata": {"name": "pi", "uid": "u1", "labels": {"a": "b"}}, "spec": {"template": pod(json!({}))}});
        Job.default(&mut own);
        Job.prepare_create(&mut own);
        assert_eq!(own["metadata"]["labels"], json!({"a": "b"}));
    }

    #[test]
    fn labels_that_only_the_server_gives_are_refused() {
        let job = created(json!({"template": pod(json!({"job-name": "other"}))}));
        assert_eq!(job["spec"]["selector"], json!({"matchLabels": {"batch.kubernetes.io/controller-uid": "u1"}}));
        assert_eq!(
            errors(&job),
            ["spec.template.metadata.labels[job-name]: Invalid value: {\"batch.kubernetes.io/controller-uid\":\"u1\",\
              \"batch.kubernetes.io/job-name\":\"pi\",\"controller-uid\":\"u1\",\"job-name\":\"other\"}: must be 'pi'"]
        );
        let mut job = created(json!({"template": pod(json!({}))}));
        job["spec"]["template"]["metadata"]["labels"].as_object_mut().unwrap().remove("controller-uid");
        assert_eq!(errors(&job), ["spec.template.metadata.labels[controller-uid]: Required value: must be 'u1'"]);
        let selected = json!({"matchLabels": {"app": "x"}});
        let job = created(json!({"selector": selected, "template": pod(json!({"app": "x"}))}));
        let all = errors(&job);
        assert!(all.iter().any(|e| e.contains("`selector` not auto-generated")), "{all:?}");
        let manual =
            created(json!({"manualSelector": true, "selector": selected, "template": pod(json!({"app": "x"}))}));
        assert_eq!(errors(&manual), Vec::<String>::new());
        assert_eq!(manual["spec"]["template"]["metadata"]["labels"], json!({"app": "x"}));
    }

    #[test]
    fn a_suspended_job_that_never_started_may_go_elsewhere() {
        let old = created(json!({"suspend": true, "template": pod(json!({}))}));
        let mut new = old.clone();
        new["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        let errors = |new: &Value, old: &Value| {
            let mut errors = Vec::new();
            Job.validate_update(new, old, &mut errors);
            errors.iter().map(|e| e.field.clone()).collect::<Vec<_>>()
        };
        assert!(errors(&new, &old).is_empty());
        new["spec"]["template"]["spec"]["containers"][0]["image"] = "j:1".into();
        assert_eq!(errors(&new, &old), ["spec.template"]);
        let mut running = old.clone();
        running["spec"]["suspend"] = false.into();
        let mut moved = running.clone();
        moved["spec"]["template"]["spec"]["nodeSelector"] = json!({"disk": "ssd"});
        assert_eq!(errors(&moved, &running), ["spec.template"]);
    }

    #[test]
    fn the_end_of_a_job_is_final() {
        let at = |conditions: Value, end: Value| {
            json!({"spec": {}, "status": {"startTime": "2026-01-01T00:00:00Z", "completionTime": end,
                "conditions": conditions}})
        };
        let is = |kind: &str| json!({"type": kind, "status": "True"});
        let errors = |new: &Value, old: &Value| {
            let mut errors = Vec::new();
            Job.validate_status(new, old, &mut errors);
            errors.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let running = at(json!([]), Value::Null);
        let met = at(json!([is("SuccessCriteriaMet"), is("Complete")]), "2026-01-01T00:01:00Z".into());
        assert_eq!(errors(&met, &running), Vec::<String>::new());
        assert_eq!(
            errors(&at(json!([is("Complete")]), Value::Null), &running),
            [
                "status.completionTime: Required value: completionTime is required for Complete jobs",
                "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true \
                 condition",
            ]
        );
        assert_eq!(
            errors(&running, &met),
            [
                "status.conditions: Invalid value: cannot disable the terminal Complete=True condition",
                "status.conditions: Invalid value: cannot disable the SuccessCriteriaMet=True condition",
            ]
        );
        let failed = at(json!([is("Failed")]), Value::Null);
        assert_eq!(
            errors(&failed, &running),
            [
                "status.conditions: Invalid value: cannot set Failed=True condition without the FailureTarget=true condition"
            ]
        );
    }
}
