//! Failures become responses here and nowhere else.

use std::io::ErrorKind;

use http::{HeaderValue, Response, StatusCode, header};

use crate::body::{Body, full};
use crate::error::{HttpError, NetError};

/// Why a request was not proxied.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No Ingress rule matches and there is no default backend.
    NoRule,
    /// The rule's Service does not exist or has no ready endpoint.
    NoEndpoint,
    /// The request is malformed.
    BadRequest,
    /// The method is none that a gateway carries.
    Method,
    /// The body is longer than the limit.
    TooLarge,
    /// The request goes round in a circle.
    Loop,
    /// An endpoint was tried.
    Failed(HttpError),
}

pub(super) fn respond(refusal: &Refusal) -> Response<Body> {
    let status = match refusal {
        Refusal::NoRule => StatusCode::NOT_FOUND,
        Refusal::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
        Refusal::Loop => StatusCode::LOOP_DETECTED,
        Refusal::BadRequest => StatusCode::BAD_REQUEST,
        Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::TooLarge | Refusal::Failed(HttpError::RequestBody(ErrorKind::FileTooLarge)) => {
            StatusCode::PAYLOAD_TOO_LARGE
        }
        Refusal::Failed(HttpError::RequestBody(ErrorKind::TimedOut)) => StatusCode::REQUEST_TIMEOUT,
        Refusal::Failed(HttpError::RequestBody(_)) => StatusCode::BAD_REQUEST,
        Refusal::Failed(HttpError::ResponseTimeout | HttpError::Connect(NetError::Timeout)) => {
            StatusCode::GATEWAY_TIMEOUT
        }
        Refusal::Failed(_) => StatusCode::BAD_GATEWAY,
    };
    let text = match refusal {
        Refusal::NoRule => "default backend - 404".to_string(),
        _ => format!("{} {}\n", status.as_u16(), status.canonical_reason().unwrap_or("")),
    };
    let mut response = Response::new(full(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
