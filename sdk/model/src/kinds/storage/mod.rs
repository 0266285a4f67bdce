//! The group `storage.k8s.io`, `v1`.

pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod storage_class;
pub mod volume_attachment;
pub mod volume_attributes_class;

/// Group and version.
const V1: (&str, &str) = ("storage.k8s.io", "v1");
