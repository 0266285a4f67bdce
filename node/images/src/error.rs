//! Why an image cannot be had, in Kubernetes' reasons.

use std::io;

use http::StatusCode;
use serde::Deserialize;

/// What a container's waiting state shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PullError {
    /// `InvalidImageName`, `ErrImageNeverPull`, `RegistryUnavailable` or `ErrImagePull`.
    pub reason: &'static str,
    /// For people, with the registry's own words.
    pub message: String,
}

impl PullError {
    pub(crate) fn invalid(image: &str, why: &str) -> PullError {
        let message =
            format!("Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {why}");
        PullError { reason: "InvalidImageName", message }
    }

    pub(crate) fn never(image: &str) -> PullError {
        let message = format!("Container image {image:?} is not present with pull policy of Never");
        PullError { reason: "ErrImageNeverPull", message }
    }

    /// It is present, but was pulled with credentials that are not the pod's (KEP-2535).
    pub(crate) fn not_yours(image: &str) -> PullError {
        let message = format!(
            "Container image {image:?} is present, but the pod has none of the credentials that it was pulled with and its pull policy is Never"
        );
        PullError { reason: "ErrImageNeverPull", message }
    }

    pub(crate) fn pull(image: &str, why: String) -> PullError {
        PullError { reason: "ErrImagePull", message: format!("failed to pull image {image:?}: {why}") }
    }

    pub(crate) fn unavailable(image: &str, why: &str) -> PullError {
        let message = format!("image pull failed for {image} because the registry is unavailable: {why}");
        PullError { reason: "RegistryUnavailable", message }
    }

    pub(crate) fn store(image: &str, why: &io::Error) -> PullError {
        PullError::pull(image, format!("the content store failed: {why}"))
    }
}

/// The errors of a registry (OCI distribution, "Error Codes").
#[derive(Deserialize)]
struct Envelope {
    errors: Vec<One>,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What a registry said, without the wrapping.
pub(crate) fn words(status: StatusCode, body: &[u8]) -> String {
    if let Ok(envelope) = serde_json::from_slice::<Envelope>(body)
        && !envelope.errors.is_empty()
    {
        let one = |e: &One| match (e.message.as_str(), e.code.as_str()) {
            ("", code) => code.to_string(),
            (message, "") => message.to_string(),
            (message, code) => format!("{message} ({code})"),
        };
        return envelope.errors.iter().map(one).collect::<Vec<_>>().join("; ").chars().take(1000).collect();
    }
    let text: String = String::from_utf8_lossy(body).trim().chars().take(300).collect();
    match text.is_empty() {
        true => format!("the registry answered {status}"),
        false => format!("the registry answered {}: {text}", status.as_u16()),
    }
}
