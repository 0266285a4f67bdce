//! Large answers, compressed for who can read that.

use std::io::Write as _;

use bytes::Bytes;
use copepod_client::{Body, body};
use copepod_model::Status;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;

/// Answers of more bytes are compressed: kube-apiserver's `defaultGzipThresholdBytes`.
const THRESHOLD: u64 = 128 * 1024;

/// Whether a client can read gzip. Weights are not looked at, as upstream.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let encodings = headers.get(header::ACCEPT_ENCODING).and_then(|v| v.to_str().ok()).unwrap_or_default();
    encodings.split(',').any(|encoding| encoding.trim() == "gzip")
}

/// A whole answer, compressed if it is large.
pub(super) async fn compressed(response: Response<Body>) -> Result<Response<Body>, Status> {
    if response.body().size_hint().exact().is_none_or(|length| length <= THRESHOLD) {
        return Ok(response);
    }
    let (mut parts, whole) = response.into_parts();
    let content = whole.collect().await.map_err(Status::internal)?.to_bytes();
    // A list of many megabytes takes longer than the others whom a thread serves should wait: it is compressed on one of those
    // that may block.
    let small = tokio::task::spawn_blocking(move || gzip(&content)).await;
    let small = small.map_err(Status::internal)?.map_err(Status::internal)?;
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    Ok(Response::from_parts(parts, body(small)))
}

/// At upstream's level 1, which takes the least time and makes little more bytes of JSON than the others do.
fn gzip(content: &[u8]) -> std::io::Result<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(content.len() / 4), Compression::fast());
    encoder.write_all(content)?;
    encoder.finish().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::super::respond;
    use super::*;

    #[test]
    fn gzip_is_accepted_where_it_is_named() {
        for (value, want) in [
            ("gzip", true),
            ("deflate, gzip, br", true),
            ("br,gzip", true),
            ("", false),
            ("*", false),
            ("xgzip", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(accepted(&headers), want, "{value}");
        }
        assert!(!accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn large_answers_are_compressed_and_others_are_not() {
        let large = usize::try_from(THRESHOLD).unwrap() + 1;
        for (length, want) in [(0, false), (large - 1, false), (large, true), (8 * large, true)] {
            let content: Vec<u8> = (0..length).map(|i| b"0123456789abcdef"[i % 16]).collect();
            let answer = respond::bytes(201, "application/json", content.clone().into());
            let answer = compressed(answer).await.unwrap();
            assert_eq!(answer.status(), 201);
            assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
            let [encoding, vary] = [header::CONTENT_ENCODING, header::VARY].map(|h| answer.headers().get(h).cloned());
            let found = answer.into_body().collect().await.unwrap().to_bytes();
            if !want {
                assert_eq!((encoding, vary), (None, None), "{length}");
                assert!(found == content, "{length}");
                continue;
            }
            assert_eq!(encoding.unwrap(), "gzip");
            assert_eq!(vary.unwrap(), "Accept-Encoding");
            assert!(found.len() < length / 10, "{length}: {}", found.len());
            let mut read = Vec::new();
            flate2::read::GzDecoder::new(&*found).read_to_end(&mut read).unwrap();
            assert!(read == content, "{length}");
        }
    }
}
