//! The pod spec, which Pods and every kind with a pod template share: defaults, rules, and what may change.

mod container;
mod defaults;
mod env;
mod ephemeral;
mod handler;
mod qos;
mod resize;
mod resources;
mod restart;
mod scheduling;
mod security;
mod update;
mod validate;
mod volumes;

pub use defaults::{default_pod, default_template};
pub use ephemeral::{only_ephemeral_containers, validate_ephemeral_update};
pub(crate) use handler::port;
pub use qos::qos_class;
pub use resize::{only_resources, validate_resize};
pub use resources::validate as validate_resources;
pub use restart::periods;
pub use scheduling::{node_selector, tolerations as validate_tolerations};
pub use update::{validate_annotations_update, validate_update};
pub use validate::{validate_pod_annotations, validate_pod_spec, validate_template};

use serde_json::Value;

use crate::kinds::fields::{list, text};

/// The three lists of containers, in the order in which they are validated.
pub const CONTAINER_LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// Every container of a pod spec.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINER_LISTS.iter().flat_map(|name| list(spec, name))
}

/// Whether a spec has the claim among its volumes: by its name, or as the own claim of the pod of that name.
pub fn uses_claim(spec: &Value, pod: &str, claim: &str) -> bool {
    list(spec, "volumes").iter().any(|v| {
        let own = v["ephemeral"].is_object() && format!("{pod}-{}", text(v, "name")) == claim;
        own || v["persistentVolumeClaim"]["claimName"] == claim
    })
}

/// Names and images of the regular containers, as `-o wide` shows them.
pub fn layout(spec: &Value) -> (String, String) {
    let join = |what: &str| {
        list(spec, "containers").iter().map(|c| c[what].as_str().unwrap_or_default()).collect::<Vec<_>>().join(",")
    };
    (join("name"), join("image"))
}
