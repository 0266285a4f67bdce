//! TCPRoute.

use super::route::StreamRoute;
use super::{Outline, structure};
use crate::kinds::Kind;

/// The kind.
pub fn kind() -> Kind {
    super::kind("TCPRoute", ("tcproutes", "tcproute"), StreamRoute { outline: &OUTLINE })
}

static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1", "TCPRoute"));
