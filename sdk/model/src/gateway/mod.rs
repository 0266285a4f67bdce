//! Gateway API, as far as the controllers (who write status) and the nodes (who forward requests) must judge alike: what Gateways
//! and routes say, which listeners are served, and which routes are attached to them.
//!
//! Source: the Go documentation of `sigs.k8s.io/gateway-api/apis/v1`, level 1.6.

mod attach;
mod filter;
mod grant;
mod hosts;
mod judge;
mod listener;
mod route;

#[cfg(test)]
mod tests;

pub use attach::{Attached, Refusal, attach};
pub use filter::{Cors, Filter, HeaderEdit, Mirror, PathEdit, Redirect, Rewrite};
pub use grant::Grants;
pub use hosts::{intersection, matches as host_matches};
pub use judge::{Doubt, JudgedGateway, JudgedListener, class_doubt, class_is_ours, judge};
pub use listener::{CertificateRef, GatewayFacts, Layer, Listener, Speech};
pub use route::{BackendRef, Match, Parent, PathMatch, Problem, Reference, Retry, RouteFacts, Rule, ValueMatch};

use crate::Object;

/// The group.
pub const GROUP: &str = "gateway.networking.k8s.io";
/// The GatewayClass that a new cluster has.
pub const GATEWAY_CLASS: &str = "copepod";
/// `spec.controllerName` of the GatewayClasses that are the cluster's own.
pub const GATEWAY_CONTROLLER: &str = "copepod.dev/gateway-controller";

/// The resources.
pub const GATEWAY_CLASSES: &str = "gatewayclasses.gateway.networking.k8s.io";
/// The resources.
pub const GATEWAYS: &str = "gateways.gateway.networking.k8s.io";
/// The resources.
pub const HTTP_ROUTES: &str = "httproutes.gateway.networking.k8s.io";
/// The resources.
pub const GRPC_ROUTES: &str = "grpcroutes.gateway.networking.k8s.io";
/// The resources.
pub const TLS_ROUTES: &str = "tlsroutes.gateway.networking.k8s.io";
/// The resources.
pub const TCP_ROUTES: &str = "tcproutes.gateway.networking.k8s.io";
/// The resources.
pub const REFERENCE_GRANTS: &str = "referencegrants.gateway.networking.k8s.io";

/// The kinds of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteKind {
    /// HTTPRoute.
    Http,
    /// GRPCRoute.
    Grpc,
    /// TLSRoute.
    Tls,
    /// TCPRoute.
    Tcp,
}

impl RouteKind {
    /// All.
    pub const ALL: [RouteKind; 4] = [RouteKind::Http, RouteKind::Grpc, RouteKind::Tls, RouteKind::Tcp];

    /// `HTTPRoute`, `GRPCRoute` …
    pub fn name(self) -> &'static str {
        match self {
            RouteKind::Http => "HTTPRoute",
            RouteKind::Grpc => "GRPCRoute",
            RouteKind::Tls => "TLSRoute",
            RouteKind::Tcp => "TCPRoute",
        }
    }

    /// Its resource.
    pub fn resource(self) -> &'static str {
        match self {
            RouteKind::Http => HTTP_ROUTES,
            RouteKind::Grpc => GRPC_ROUTES,
            RouteKind::Tls => TLS_ROUTES,
            RouteKind::Tcp => TCP_ROUTES,
        }
    }

    /// The kind of a stored route.
    pub fn of(object: &Object) -> RouteKind {
        let its = |kind: &RouteKind| kind.resource() == &*object.key.resource;
        RouteKind::ALL.into_iter().find(its).unwrap_or(RouteKind::Http)
    }

    /// Whether it leads streams and not requests.
    pub fn is_of_streams(self) -> bool {
        matches!(self, RouteKind::Tls | RouteKind::Tcp)
    }
}

/// The order in which objects have their say: the oldest first, then by namespace and name.
pub fn age(o: &Object) -> (Option<crate::Time>, &str, &str) {
    (o.meta.created(), o.namespace(), o.name())
}
