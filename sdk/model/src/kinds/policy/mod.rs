//! The group `policy`.

pub mod pod_disruption_budget;

/// Group and version.
const V1: (&str, &str) = ("policy", "v1");
