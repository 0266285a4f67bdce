//! HTTP/2 with prior knowledge (h2c).

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::sleep;

use super::idle::Activity;
use super::{Handle, Io, Limits, Match};
use crate::http::BoxError;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How often a silent client is asked whether it is still there, and how long it has to answer.
const PING: Duration = Duration::from_secs(20);

pub(super) fn matches(first: &[u8]) -> Match {
    let n = first.len().min(PREFACE.len());
    match (first[..n] == PREFACE[..n], n == PREFACE.len()) {
        (true, true) => Match::Yes,
        (true, false) => Match::Unclear,
        _ => Match::No,
    }
}

pub(super) async fn serve<I: Io, H: Handle>(
    io: I,
    handle: Arc<H>,
    limits: &Limits,
    mut shutdown: Pin<&mut (impl Future<Output = ()> + Send)>,
) -> Result<(), BoxError> {
    let activity = Arc::new(Activity::default());
    let service = service_fn(|request| {
        let (handle, running) = (handle.clone(), activity.begin());
        async move {
            let response = handle.handle(request).await;
            Ok::<_, Infallible>(response.map(|body| running.until_end_of(body)))
        }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX));
    let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(io), service));
    loop {
        let before = activity.count();
        tokio::select! {
            done = connection.as_mut() => return Ok(done?),
            () = shutdown.as_mut() => break,
            () = sleep(limits.header_timeout) => {
                if activity.is_idle_since(before) {
                    break;
                }
            }
        }
    }
    connection.as_mut().graceful_shutdown();
    // A client that ignores the GOAWAY loses its connection.
    tokio::select! {
        done = connection.as_mut() => Ok(done?),
        () = activity.stays_idle_for(limits.header_timeout) => Ok(()),
    }
}
