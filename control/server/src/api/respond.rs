//! Answers as HTTP.

use bytes::Bytes;
use copepod_client::{Body, body};
use copepod_model::Status;
use copepod_model::schema::Schema;
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::Value;

use super::negotiate::{self, Encoding, Endpoint};

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

/// An answer in an encoding that the value's kind has.
pub fn encoded(code: u16, value: &Value, encoding: Encoding) -> Result<Response<Body>, Status> {
    let content: Bytes = match encoding {
        Encoding::Json => value.to_string().into(),
        Encoding::Yaml => yaml_serde::to_string(value).map_err(Status::internal)?.into(),
        Encoding::Protobuf => Schema::builtin().encode_protobuf(value).map_err(Status::internal)?.into(),
    };
    Ok(bytes(code, encoding.media_type(), content))
}

/// What a client accepts; of several headers the first counts, as upstream.
pub fn accept_of(headers: &HeaderMap) -> String {
    headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default().into()
}

/// An error in JSON, for who does not negotiate.
pub fn status(status: &Status) -> Response<Body> {
    after(status, json(status.code, &status.to_json()))
}

/// An error as a client accepts it; who accepts nothing gets it in indented JSON.
pub fn refusal(status: &Status, accept: &str) -> Response<Body> {
    let value = status.to_json();
    let negotiated = negotiate::accept(accept, Endpoint::PLAIN);
    let answer = negotiated.and_then(|accepted| encoded(status.code, &value, accepted.encoding));
    let answer = answer.unwrap_or_else(|_| {
        let text = serde_json::to_string_pretty(&value).unwrap_or_default();
        bytes(status.code, "application/json", text.into())
    });
    after(status, answer)
}

/// An error's answer with the headers that it asks for.
fn after(status: &Status, mut response: Response<Body>) -> Response<Body> {
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
