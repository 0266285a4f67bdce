//! Binding: says on which node a pod is to run. It is written and never stored; `pods/NAME/binding` takes the same.

use crate::kinds::{Kind, Plain};

/// Its GroupResource.
pub const RESOURCE: &str = "bindings";

/// The kind.
pub fn kind() -> Kind {
    Kind { verbs: &["create"], ..Kind::new(super::V1, "Binding", (RESOURCE, "binding"), Plain) }
}
