//! HTTP/1.0 and HTTP/1.1, with upgrades.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{Handle, Io, Limits, Match};
use crate::http::BoxError;

/// What hyper allows by itself, with room on the stack for as many.
const DEFAULT_HEADERS: usize = 100;

/// Whatever nobody else claims: hyper answers what is no HTTP with 400.
pub(super) fn matches(_: &[u8]) -> Match {
    Match::Yes
}

pub(super) async fn serve<I: Io, H: Handle>(
    io: I,
    handle: Arc<H>,
    limits: &Limits,
    mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<(), BoxError> {
    let service = service_fn(|request| {
        let handle = handle.clone();
        async move { Ok::<_, Infallible>(handle.handle(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_header_size(limits.max_header_bytes);
    if limits.max_headers != DEFAULT_HEADERS {
        builder.max_headers(limits.max_headers);
    }
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service).with_upgrades());
    tokio::select! {
        done = connection.as_mut() => return Ok(done?),
        () = shutdown.as_mut() => connection.as_mut().graceful_shutdown(),
    }
    Ok(connection.await?)
}
