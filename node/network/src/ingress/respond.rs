//! Failures become responses here and nowhere else.

use std::io::ErrorKind;

use http::{HeaderValue, Response, StatusCode, header};

use crate::body::{Body, empty, full};
use crate::error::{HttpError, NetError};

/// Why a request was not proxied.
#[derive(Debug)]
pub(super) enum Refusal {
    /// No rule matches and there is no default backend.
    NoRule,
    /// The rule's Service does not exist or has no ready endpoint.
    NoEndpoint,
    /// The rule names no backend that may be used.
    NoBackend,
    /// The rule asks for what cannot be done.
    Broken,
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

/// How the content type of gRPC begins.
pub(super) const GRPC: &[u8] = b"application/grpc";

/// The same for a client that speaks gRPC: a response of trailers only, with its codes.
pub(super) fn respond_grpc(refusal: &Refusal) -> Response<Body> {
    let status = status(refusal);
    let code = match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "12",
        StatusCode::PAYLOAD_TOO_LARGE => "8",
        StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => "4",
        StatusCode::BAD_REQUEST => "13",
        _ => "14",
    };
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    let message = HeaderValue::from_static(status.canonical_reason().unwrap_or(""));
    headers.insert("grpc-message", message);
    response
}

fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::NoRule => StatusCode::NOT_FOUND,
        Refusal::NoBackend | Refusal::Broken => StatusCode::INTERNAL_SERVER_ERROR,
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
    }
}

pub(super) fn respond(refusal: &Refusal) -> Response<Body> {
    let status = status(refusal);
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
