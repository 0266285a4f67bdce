//! Questions about Endpoints.

use copepod_model::Object;

/// The Endpoints.
pub(crate) const ENDPOINTS: &str = "endpoints";

/// Whether they are only the record of a leader election, which has nothing to do with a Service.
pub(crate) fn is_lock(endpoints: &Object) -> bool {
    endpoints.meta.annotations.contains_key("control-plane.alpha.kubernetes.io/leader")
}
