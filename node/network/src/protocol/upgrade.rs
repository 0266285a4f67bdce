//! HTTP upgrades (WebSocket and the like): after the 101 a proxy only carries bytes.

use http::{HeaderMap, Request, Response, header};
use hyper::upgrade::{OnUpgrade, on};
use hyper_util::rt::TokioIo;
use tokio::runtime::Handle;

/// The protocol that a client asks to change to.
pub(crate) fn wanted(headers: &HeaderMap) -> Option<http::HeaderValue> {
    let named = |v: &http::HeaderValue| {
        v.to_str().is_ok_and(|v| v.split(',').any(|t| t.trim().eq_ignore_ascii_case("upgrade")))
    };
    let asks = headers.get_all(header::CONNECTION).iter().any(named);
    headers.get(header::UPGRADE).filter(|_| asks).cloned()
}

/// The client's half of an upgrade, taken before its request goes on.
pub(crate) fn take<B>(request: &mut Request<B>) -> OnUpgrade {
    on(request)
}

/// Carries bytes both ways between client and server once both have changed protocol.
pub(crate) fn splice<B>(runtime: &Handle, client: OnUpgrade, response: &mut Response<B>) {
    let server = on(response);
    runtime.spawn(async move {
        let (Ok(client), Ok(server)) = (client.await, server.await) else { return };
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(server)).await;
    });
}
