//! Bodies on their way in and out: a request's body that outlives its handler, and JSON for people.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use copepod_client::Body;
use http::{HeaderMap, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use serde_json::Value;

/// How much of a refused request is read.
const DRAINED: usize = 24 * 1024 * 1024;
/// For how long.
const PATIENCE: Duration = Duration::from_secs(5);

/// Marks an answer that is a pod's: no byte of it changes, and its request may still be on the way.
#[derive(Clone, Copy, Debug)]
pub struct Foreign;

/// A request's body that lives until the answer is sent. Dropping it before would reset an HTTP/2 stream whose client
/// is still sending: that client would never see why it was refused.
#[derive(Clone)]
pub struct Held(Arc<Mutex<Incoming>>);

impl Held {
    /// Holds a body.
    pub fn new(body: Incoming) -> Held {
        Held(Arc::new(Mutex::new(body)))
    }

    /// Reads what nobody has read and forgets it: some clients look for an answer only after they have sent everything.
    pub async fn drain(&mut self) {
        let mut left = DRAINED;
        let all = async {
            while left > 0 && !self.is_end_stream() {
                let Some(Ok(frame)) = self.frame().await else { return };
                left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            }
        };
        // Whoever sends more, or more slowly, gets the answer in the middle of it.
        let _ = tokio::time::timeout(PATIENCE, all).await;
    }

    /// An answer that keeps this body alive.
    pub fn until_sent(self, response: Response<Body>) -> Response<Body> {
        response.map(|body| Answer { body, _request: self }.boxed())
    }
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(cx).map_err(std::io::Error::other)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

/// An answer's body beside the request's.
struct Answer {
    body: Body,
    _request: Held,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Whether JSON should be indented: the query's `pretty`, else for browsers and the like, as upstream.
pub fn wants_pretty(query: &str, headers: &HeaderMap) -> bool {
    let asked = query.split('&').find_map(|p| p.strip_prefix("pretty=")).filter(|v| !v.is_empty());
    if let Some(asked) = asked {
        return matches!(asked, "1" | "t" | "T" | "true" | "TRUE" | "True");
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    ["curl", "Wget", "Mozilla/5.0"].iter().any(|p| agent.starts_with(p))
}

/// Indents an answer of JSON; others, and those that are streamed, stay as they are.
pub async fn pretty(response: Response<Body>) -> Response<Body> {
    let json = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == "application/json");
    if !json || response.body().size_hint().exact().is_none_or(|n| n == 0) {
        return response;
    }
    let (head, body) = response.into_parts();
    let bytes = match body.collect().await {
        Ok(whole) => whole.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let text = serde_json::from_slice::<Value>(&bytes).and_then(|v| serde_json::to_string_pretty(&v));
    Response::from_parts(head, copepod_client::body(text.map_or(bytes, |t| Bytes::from(t + "\n"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_get_indented_json() {
        for (query, agent, want) in [
            ("", "kubectl/v1.35", false),
            ("", "curl/8.1", true),
            ("pretty=false", "curl/8.1", false),
            ("limit=5&pretty=true", "kubectl/v1.35", true),
            ("prettyx=true", "", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, agent.parse().unwrap());
            assert_eq!(wants_pretty(query, &headers), want, "{query} {agent}");
        }
    }

    #[tokio::test]
    async fn only_json_is_indented() {
        for (media, body, want) in
            [("application/json", "{\"a\":1}", "{\n  \"a\": 1\n}\n"), ("text/plain", "{\"a\":1}", "{\"a\":1}")]
        {
            let answer = pretty(super::super::respond::bytes(200, media, Bytes::from(body))).await;
            assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), want);
        }
    }
}
