//! The core group, `v1`.

pub mod config_map;
pub mod endpoints;
pub mod event;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod podspec;
pub mod replication_controller;
pub mod secret;
pub mod service;
pub mod service_account;

/// Group and version.
const V1: (&str, &str) = ("", "v1");
