//! The group `networking.k8s.io`.

pub mod ingress;
pub mod ingress_class;
pub mod ip_address;
pub mod network_policy;
pub mod service_cidr;

/// Group and version.
const V1: (&str, &str) = ("networking.k8s.io", "v1");
