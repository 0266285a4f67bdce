//! The HTTP server in front of a service, for those who come with plain bytes.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;

use super::{ConnInfo, HttpService, ServiceError};
use crate::body::{Body, full, incoming};
use crate::protocol::{self, Handle, Limits};
use crate::stream::Stream;

struct Front {
    service: Arc<dyn HttpService>,
    info: ConnInfo,
}

impl Handle for Front {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let mut request = request.map(incoming);
        request.extensions_mut().insert(self.info);
        to_origin_form(&mut request);
        self.service.handle(request).await.unwrap_or_else(|error| {
            let (status, text) = match error {
                ServiceError::Stopped(_) => (StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n"),
                ServiceError::Failed(error) => {
                    tracing::debug!(%error, "a pod's HTTP service failed");
                    (StatusCode::INTERNAL_SERVER_ERROR, "internal server error\n")
                }
            };
            let mut response = Response::new(full(text));
            *response.status_mut() = status;
            response
        })
    }
}

/// Serves one connection until its client is done, or the pod is detached.
pub(crate) async fn serve(stream: Stream, service: Arc<dyn HttpService>, info: ConnInfo) {
    let front = Arc::new(Front { service, info });
    if let Err(error) = protocol::serve(stream, front, &Limits::default(), std::future::pending()).await {
        tracing::debug!(%error, peer = %info.peer, "HTTP connection");
    }
}

/// The target without scheme and authority, which move to the `Host` header if there is none.
pub(crate) fn to_origin_form<B>(request: &mut Request<B>) {
    if request.uri().authority().is_none() {
        return;
    }
    let parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority
        && !request.headers().contains_key(http::header::HOST)
        && let Ok(host) = http::HeaderValue::from_str(without_user(authority.as_str()))
    {
        request.headers_mut().insert(http::header::HOST, host);
    }
    *request.uri_mut() = match parts.path_and_query {
        Some(path) => http::Uri::from(path),
        None => http::Uri::from_static("/"),
    };
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}
