//! Answers as HTTP.

use bytes::Bytes;
use copepod_client::{Body, body};
use copepod_model::Status;
use http::{Response, StatusCode, header};
use serde_json::Value;

/// An answer of bytes.
pub fn bytes(code: u16, media: &str, content: Bytes) -> Response<Body> {
    let mut response = Response::new(body(content));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media = media.parse().unwrap_or(header::HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-cache, private"));
    response
}

/// An answer of JSON.
pub fn json(code: u16, value: &Value) -> Response<Body> {
    bytes(code, "application/json", value.to_string().into())
}

/// An answer of plain text.
pub fn text(code: u16, content: impl Into<Bytes>) -> Response<Body> {
    bytes(code, "text/plain; charset=utf-8", content.into())
}

/// An error: where every [`Status`] becomes HTTP.
pub fn status(status: &Status) -> Response<Body> {
    let mut response = json(status.code, &status.to_json());
    let retry = status.details.as_ref().map_or(0, |d| d.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, retry.into());
    }
    response
}

/// An answer with an ETag, or 304 if the client has it already.
pub fn tagged(content: Bytes, media: &str, if_none_match: &str) -> Response<Body> {
    let digest = ring::digest::digest(&ring::digest::SHA256, &content);
    let tag: String = digest.as_ref().iter().take(16).map(|b| format!("{b:02X}")).collect();
    let tag = format!("\"{tag}\"");
    let mut response = if if_none_match.split(',').any(|t| t.trim() == tag) {
        let mut r = bytes(304, media, Bytes::new());
        r.headers_mut().remove(header::CONTENT_TYPE);
        r
    } else {
        bytes(200, media, content)
    };
    if let Ok(tag) = tag.parse() {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response.headers_mut().insert(header::VARY, header::HeaderValue::from_static("Accept"));
    response
}

/// The answer to a HEAD: hyper leaves the body away over HTTP/1, but not over HTTP/2, where clients take it for an error.
pub fn without_body(response: &mut Response<Body>) {
    use hyper::body::Body as _;
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = body(Bytes::new());
}

/// Adds `Warning` headers (RFC 7234 §5.5, code 299).
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for w in warnings {
        let text: String = w.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = text.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = header::HeaderValue::from_bytes(format!("299 - \"{text}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
