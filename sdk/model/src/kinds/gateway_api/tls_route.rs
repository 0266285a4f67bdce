//! TLSRoute.

use super::route::StreamRoute;
use super::{Outline, structure};
use crate::kinds::Kind;

/// The kind.
pub fn kind() -> Kind {
    super::kind("TLSRoute", ("tlsroutes", "tlsroute"), StreamRoute { outline: &OUTLINE })
}

static OUTLINE: Outline = Outline::new(|| structure("gateway.networking.k8s.io/v1", "TLSRoute"));
