//! The group `autoscaling`: stored as `v2`, served as `v1`, too.

pub mod horizontal_pod_autoscaler;
mod metrics;
mod v1;

/// Group and version.
const V2: (&str, &str) = ("autoscaling", "v2");
