//! The group `batch`.

pub mod cron_job;
pub mod job;
mod job_spec;
mod job_status;
pub mod schedule;
mod success_policy;
mod time_zone;

use super::fields::Path;

/// Group and version.
const V1: (&str, &str) = ("batch", "v1");
const SPEC: Path<'static> = Path::root("spec");
