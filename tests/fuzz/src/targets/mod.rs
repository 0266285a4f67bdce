//! All targets: one file each, and one line here.

mod apply;
mod artifact;
mod capsule;
mod certificate;
mod certificate_request;
mod client_hello;
mod create;
mod cron_schedule;
mod dns_answer;
mod dns_question;
mod duration;
mod field_selector;
mod http_request;
mod image_layer;
mod image_manifest;
mod image_reference;
mod join_token;
mod json;
mod json_patch;
mod kubeconfig;
mod label_selector;
mod log_line;
mod managed_fields;
mod merge_patch;
mod protobuf;
mod quantity;
mod raft_frame;
mod snapshot;
mod spdy;
mod strategic_merge_patch;
mod time;
mod transaction;
mod tunnel_head;
mod websocket;
mod yaml;

use crate::Target;

/// All of them.
pub const TARGETS: &[&Target] = &[
    &apply::TARGET,
    &artifact::TARGET,
    &capsule::TARGET,
    &certificate::TARGET,
    &certificate_request::TARGET,
    &client_hello::TARGET,
    &create::TARGET,
    &cron_schedule::TARGET,
    &dns_answer::TARGET,
    &dns_question::TARGET,
    &duration::TARGET,
    &field_selector::TARGET,
    &http_request::TARGET,
    &image_layer::TARGET,
    &image_manifest::TARGET,
    &image_reference::TARGET,
    &join_token::TARGET,
    &json::TARGET,
    &json_patch::TARGET,
    &kubeconfig::TARGET,
    &label_selector::TARGET,
    &log_line::TARGET,
    &managed_fields::TARGET,
    &merge_patch::TARGET,
    &protobuf::TARGET,
    &quantity::TARGET,
    &raft_frame::TARGET,
    &snapshot::TARGET,
    &spdy::TARGET,
    &strategic_merge_patch::TARGET,
    &time::TARGET,
    &transaction::TARGET,
    &tunnel_head::TARGET,
    &websocket::TARGET,
    &yaml::TARGET,
];
