//! The group `apiregistration.k8s.io`, `v1`. The objects are served and kept; requests are not handed on to other servers.

pub mod api_service;

/// Group and version.
const V1: (&str, &str) = ("apiregistration.k8s.io", "v1");
