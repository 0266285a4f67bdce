//! Why an image cannot be had, in Kubernetes' reasons.

use std::io;

use oci_client::errors::OciDistributionError;

/// What a container's waiting state shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PullError {
    /// `InvalidImageName`, `ErrImageNeverPull` or `ErrImagePull`.
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

    pub(crate) fn pull(image: &str, why: String) -> PullError {
        PullError { reason: "ErrImagePull", message: format!("failed to pull image {image:?}: {why}") }
    }

    pub(crate) fn store(image: &str, why: &io::Error) -> PullError {
        PullError::pull(image, format!("the content store failed: {why}"))
    }

    pub(crate) fn registry(image: &str, why: OciDistributionError) -> PullError {
        PullError::pull(image, words(why))
    }
}

/// What a registry said, without the wrapping.
fn words(error: OciDistributionError) -> String {
    match error {
        OciDistributionError::RegistryError { envelope, .. } if !envelope.errors.is_empty() => {
            let one = |e: oci_client::errors::OciError| {
                let code =
                    serde_json::to_value(&e.code).ok().and_then(|c| c.as_str().map(String::from)).unwrap_or_default();
                match (e.message.as_str(), code.as_str()) {
                    ("", code) => code.to_string(),
                    (message, "") => message.to_string(),
                    (message, code) => format!("{message} ({code})"),
                }
            };
            envelope.errors.into_iter().map(one).collect::<Vec<_>>().join("; ")
        }
        OciDistributionError::ServerError { code, message, .. } => {
            let message: String = message.trim().chars().take(300).collect();
            format!("the registry answered {code}: {message}")
        }
        OciDistributionError::UnauthorizedError { .. } => "pull access denied: not authorized (UNAUTHORIZED)".into(),
        // reqwest's own text stops at "error sending request"; the cause says what is wrong.
        other => {
            let mut text = other.to_string();
            let mut cause = std::error::Error::source(&other);
            while let Some(c) = cause {
                let more = c.to_string();
                if !text.contains(&more) {
                    text = format!("{text}: {more}");
                }
                cause = c.source();
            }
            text
        }
    }
}
