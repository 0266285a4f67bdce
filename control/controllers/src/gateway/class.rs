//! GatewayClasses of the cluster's own.

use copepod_machine::Plan;
use copepod_model::gateway::{class_doubt, class_is_ours};
use copepod_model::{Object, Time};
use serde_json::{Value, json};

use super::{Said, conditions};
use crate::support::status_patch;

/// What is supported besides the core (`sigs.k8s.io/gateway-api/pkg/features`), in the order of names.
const FEATURES: &[&str] = &[
    "GRPCRoute",
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteDestinationPortMatching",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteRetry",
    "HTTPRouteRetryBackendTimeout",
    "HTTPRouteRetryConnectionError",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
    "TCPRoute",
    "TLSRoute",
    "TLSRouteModeMixed",
    "TLSRouteModeTerminate",
];

pub(super) fn reconcile(class: &Object, now: Time, plan: &mut Plan) {
    if !class_is_ours(class) {
        return;
    }
    let value = class.value();
    let accepted = Said::unless("Accepted", class_doubt(class));
    let said = [accepted, Said::yes("SupportedVersion", "SupportedVersion")];
    let features: Vec<Value> = FEATURES.iter().map(|name| json!({ "name": name })).collect();
    let wanted = [
        ("conditions", conditions(&value["status"]["conditions"], &[], &said, class.meta.generation, now)),
        ("supportedFeatures", features.into()),
    ];
    if let Some(patch) = status_patch(class, &value, wanted) {
        plan.push(patch, "the class is this cluster's own");
    }
}
