//! CronJob.

use serde_json::Value;

use super::schedule::Schedule;
use super::{SPEC, V1, job_spec, time_zone};
use crate::kinds::core::podspec;
use crate::kinds::fields::{ensure, fill, fill_absent, list, nonnegative, required_one_of, spec_mut, text};
use crate::kinds::table::{col, columns, name, selector};
use crate::kinds::{Column, Kind, Strategy, age, since, workload};
use crate::{FieldError, Time};

/// The kind.
pub fn kind() -> Kind {
    Kind {
        short_names: &["cj"],
        categories: &["all"],
        status: true,
        generation: true,
        ..Kind::new(V1, "CronJob", ("cronjobs", "cronjob"), CronJob)
    }
}

/// Longest name, so that those of the Jobs have room for a time.
const NAME: usize = 52;

struct CronJob;

impl Strategy for CronJob {
    fn default(&self, object: &mut Value) {
        let Some(spec) = spec_mut(object) else { return };
        fill(spec, "concurrencyPolicy", "Allow");
        fill_absent(spec, "suspend", || false.into());
        fill_absent(spec, "successfulJobsHistoryLimit", || 3.into());
        fill_absent(spec, "failedJobsHistoryLimit", || 1.into());
        if let Some(job) = ensure(spec, "jobTemplate").and_then(|t| ensure(t, "spec")) {
            workload::default_template(job);
        }
    }

    fn validate(&self, object: &Value, errors: &mut Vec<FieldError>) {
        let spec = &object["spec"];
        let schedule = text(spec, "schedule");
        if schedule.is_empty() {
            errors.push(FieldError::required(SPEC.child("schedule"), ""));
        } else if let Err(why) = Schedule::parse(schedule) {
            errors.push(FieldError::invalid(SPEC.child("schedule"), schedule, why));
        }
        nonnegative(SPEC.child("startingDeadlineSeconds"), &spec["startingDeadlineSeconds"], errors);
        let policy = text(spec, "concurrencyPolicy");
        required_one_of(SPEC.child("concurrencyPolicy"), policy, &["Allow", "Forbid", "Replace"], errors);
        let (path, job) = (SPEC.child("jobTemplate"), &spec["jobTemplate"]["spec"]);
        let path = path.child("spec");
        job_spec::validate(path, job, errors);
        if !job["selector"].is_null() {
            let why = "`selector` will be auto-generated";
            errors.push(FieldError::invalid(path.child("selector"), job["selector"].clone(), why));
        }
        if job["manualSelector"] == true {
            errors.push(FieldError::not_supported(path.child("manualSelector"), true, &["nil", "false"]));
        }
        for limit in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
            nonnegative(SPEC.child(limit), &spec[limit], errors);
        }
    }

    fn validate_create(&self, object: &Value, errors: &mut Vec<FieldError>) {
        zones(object, None, errors);
        let given = text(&object["metadata"], "name");
        if given.len() > NAME {
            let why = "must be no more than 52 characters";
            errors.push(FieldError::invalid("metadata.name", given, why));
        }
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
        zones(new, Some(old), errors);
    }

    fn columns(&self) -> Vec<Column> {
        columns(
            &[
                col("Schedule", "string", "The schedule in Cron format."),
                col("Timezone", "string", "The time zone of the schedule."),
                col("Suspend", "boolean", "Whether further Jobs wait."),
                col("Active", "integer", "Number of Jobs that run."),
                col("Last Schedule", "string", "When a Job was last started by the schedule."),
            ],
            &workload::LAYOUT,
        )
    }

    fn cells(&self, o: &Value, now: Time) -> Vec<Value> {
        let (spec, status) = (&o["spec"], &o["status"]);
        let job = &spec["jobTemplate"]["spec"];
        let (names, images) = podspec::layout(&job["template"]["spec"]);
        let last = match &status["lastScheduleTime"] {
            Value::Null => "<none>".into(),
            time => since(time, now),
        };
        let suspended = match &spec["suspend"] {
            Value::Bool(true) => "True",
            Value::Bool(false) => "False",
            _ => "<unset>",
        };
        vec![
            name(o),
            text(spec, "schedule").into(),
            spec["timeZone"].as_str().unwrap_or("<none>").into(),
            suspended.into(),
            list(status, "active").len().into(),
            last,
            age(o, now),
            names.into(),
            images.into(),
            selector(&job["selector"]),
        ]
    }
}

/// The time zone has a field of its own. One in the schedule, which old objects may have, may stay.
fn zones(new: &Value, old: Option<&Value>, errors: &mut Vec<FieldError>) {
    let spec = &new["spec"];
    let (schedule, zone) = (text(spec, "schedule"), &spec["timeZone"]);
    let had = old.is_some_and(|o| text(&o["spec"], "schedule").contains("TZ"));
    if schedule.contains("TZ") && (!had || !zone.is_null()) {
        let why = if had {
            "cannot use both timeZone field and TZ or CRON_TZ in schedule"
        } else {
            "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
        };
        errors.push(FieldError::invalid(SPEC.child("schedule"), schedule, why));
    }
    if old.is_none_or(|o| o["spec"]["timeZone"] != *zone)
        && let Some(given) = zone.as_str()
        && let Some(why) = time_zone::problem(given)
    {
        errors.push(FieldError::invalid(SPEC.child("timeZone"), given, why));
    }
}
