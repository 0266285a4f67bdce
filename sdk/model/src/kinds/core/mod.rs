//! The core group, `v1`.

mod access_modes;
pub mod binding;
pub mod component_status;
pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod pod_template;
pub mod podspec;
pub mod replication_controller;
pub(super) mod resource_names;
pub mod resource_quota;
pub mod secret;
pub mod service;
pub mod service_account;
mod volume_sources;

/// Group and version.
const V1: (&str, &str) = ("", "v1");
/// Verbs of a `proxy` subresource.
const PROXY: &[&str] = &["create", "delete", "get", "patch", "update"];
