//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who may say what of a request for a certificate depends
//! on the signer that it is for, and nobody asks the API's signer for a group that may do everything.

use copepod_model::Status;
use copepod_model::certificate::{SERVERS, signer};
use copepod_model::kinds::certificates::certificate_signing_request as csr;
use serde_json::Value;

use super::{Operation, Review};
use crate::call::Part;
use crate::rbac::{Attributes, MASTERS, authorize};

pub(super) fn validate(review: &mut Review<'_>, object: &Value) -> Result<(), Status> {
    if &*review.key.resource != csr::RESOURCE {
        return Ok(());
    }
    match (review.operation, review.part, review.old) {
        (Operation::Create, Part::Whole, _) => subject(review, object),
        (Operation::Update, Part::Other(csr::APPROVAL), Some(old)) => may(review, old, "approve"),
        (Operation::Update, Part::Status, Some(old)) => {
            let written = |field: &str| object["status"][field] != old["status"][field];
            if written("certificate") || written("conditions") { may(review, old, "sign") } else { Ok(()) }
        }
        _ => Ok(()),
    }
}

/// Whether the user may do this with what is for the signer, or for all signers of its domain.
fn may(review: &Review<'_>, old: &Value, verb: &str) -> Result<(), Status> {
    let name = csr::signer_name(old);
    let domain = format!("{}/*", name.split('/').next().unwrap_or_default());
    let allowed = |name: &str| {
        let (group, resource, subresource, namespace) = (csr::GROUP, "signers", "", "");
        let attributes =
            Attributes { user: review.user, verb, group, resource, subresource, namespace, name, path: None };
        authorize(review.view, &attributes).allowed
    };
    if allowed(name) || allowed(&domain) {
        return Ok(());
    }
    Err(review.forbid(&format!("user not permitted to {verb} requests with signerName {name:?}")))
}

fn subject(review: &Review<'_>, object: &Value) -> Result<(), Status> {
    if csr::signer_name(object) != signer::API_CLIENT {
        return Ok(());
    }
    let request = csr::request(object).map_err(|why| review.forbid(&format!("failed to parse CSR: {why}")))?;
    match request.subject.organizations().find(|o| [MASTERS, SERVERS].contains(o)) {
        Some(group) => {
            Err(review.forbid(&format!("use of {} signer with {group} group is not allowed", signer::API_CLIENT)))
        }
        None => Ok(()),
    }
}
