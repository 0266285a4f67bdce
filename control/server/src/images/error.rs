//! Errors as the registry's clients read them (OCI distribution 1.1, "Error Codes").

use std::io;

use copepod_client::Body;
use copepod_model::Status;
use http::{Response, header};
use serde_json::json;

use crate::store::ProposeError;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OciError {
    /// HTTP status.
    pub status: u16,
    /// Such as `MANIFEST_UNKNOWN`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl OciError {
    pub(super) fn new(status: u16, code: &'static str, message: impl Into<String>) -> OciError {
        OciError { status, code, message: message.into() }
    }

    pub(super) fn no_blob(digest: &impl std::fmt::Display) -> OciError {
        OciError::new(404, "BLOB_UNKNOWN", format!("blob unknown to registry: {digest}"))
    }

    pub(super) fn no_manifest(what: &impl std::fmt::Display) -> OciError {
        OciError::new(404, "MANIFEST_UNKNOWN", format!("manifest unknown: {what}"))
    }

    /// The answer.
    pub(super) fn response(&self) -> Response<Body> {
        let body = json!({"errors": [{"code": self.code, "message": self.message}]});
        let mut response = crate::api::respond::json(self.status, &body);
        if self.status == 401 {
            // Tokens are the password of any user: `docker login -u token -p $(kubectl create token …)`.
            let basic = header::HeaderValue::from_static("Basic realm=\"copepod\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
        }
        response
    }
}

impl From<io::Error> for OciError {
    fn from(e: io::Error) -> OciError {
        tracing::warn!("the image store: {e}");
        OciError::new(500, "UNKNOWN", format!("the store failed: {e}"))
    }
}

impl From<ProposeError> for OciError {
    fn from(e: ProposeError) -> OciError {
        let status = match e {
            ProposeError::NoSpace => 500,
            ProposeError::Unknown(_) => 504,
            _ => 503,
        };
        OciError::new(status, "UNKNOWN", e.to_string())
    }
}

impl From<Status> for OciError {
    fn from(status: Status) -> OciError {
        match status.code {
            401 => OciError::new(401, "UNAUTHORIZED", "authentication required"),
            403 => OciError::new(403, "DENIED", status.message),
            code => OciError::new(code, "UNKNOWN", status.message),
        }
    }
}
