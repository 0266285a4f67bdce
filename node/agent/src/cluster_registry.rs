//! The cluster's own registry, asked through the API as the node.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use copepod_client::Client;
use copepod_images::{Chunks, ClusterRegistry, Origin};
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::BodyDataStream;

/// The registry that images know as `host`.
pub(crate) fn at(host: String, client: Client) -> ClusterRegistry {
    ClusterRegistry { host, origin: Arc::new(ViaApi(client)) }
}

struct ViaApi(Client);

#[async_trait]
impl Origin for ViaApi {
    async fn request(&self, method: Method, path: &str, headers: HeaderMap) -> io::Result<Response<Chunks>> {
        let mut request = Request::builder().method(method).uri(path).body(Bytes::new()).map_err(io::Error::other)?;
        *request.headers_mut() = headers;
        let answer = self.0.raw(request).await.map_err(|status| io::Error::other(status.message))?;
        Ok(answer.map(|body| BodyDataStream::new(body).boxed()))
    }
}
