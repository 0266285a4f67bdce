//! Who writes an object that is kept and acts on nothing is told so.

use copepod_model::Status;
use copepod_model::kinds::apiregistration::api_service;
use copepod_model::kinds::networking::service_cidr;
use serde_json::Value;

use super::{Operation, Review};

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    if review.operation == Operation::Delete || !review.whole() {
        return Ok(());
    }
    let why = match &*review.key.resource {
        "mutatingwebhookconfigurations.admissionregistration.k8s.io"
        | "validatingwebhookconfigurations.admissionregistration.k8s.io" => "admission webhooks are not called",
        "validatingadmissionpolicies.admissionregistration.k8s.io"
        | "validatingadmissionpolicybindings.admissionregistration.k8s.io" => "admission policies are not evaluated",
        api_service::RESOURCE if object["spec"]["service"].is_object() => {
            "requests are not handed on to other API servers"
        }
        service_cidr::RESOURCE if &*review.key.name != service_cidr::DEFAULT => {
            "Services get their addresses from the ServiceCIDR \"kubernetes\" alone"
        }
        _ => return Ok(()),
    };
    review.effects.warnings.push(format!("{why}: {} is kept and has no effect", review.kind.kind));
    Ok(())
}
