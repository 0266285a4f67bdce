//! What the host holds for an instance behind its handles: headers, bodies, sockets. Counted every so many calls, so that
//! it costs little and nobody gets far beyond a limit.

use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::body::{HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{
    HostIncomingRequest, HostIncomingResponse, HostOutgoingRequest, HostOutgoingResponse,
};

use crate::capability::sockets::TcpSocket;

/// Calls between two counts, at least.
const CALLS: usize = 256;
/// A resource by itself: its entry in the table, its box and its list of children.
const ENTRY: u64 = 192;
/// One header: its places in the map, and two allocations.
const HEADER: u64 = 128;
/// A body: what is read ahead, or waits to be sent.
const BODY: u64 = 32 << 10;

/// When to count.
#[derive(Default)]
pub(crate) struct Audit {
    calls: usize,
    /// The next count is due at this many calls: no more often than there are entries to look at.
    due: usize,
}

impl Audit {
    pub(crate) fn is_due(&mut self) -> bool {
        self.calls += 1;
        self.calls >= self.due.max(CALLS)
    }

    /// Bytes that are held, about.
    pub(crate) fn count(&mut self, table: &mut ResourceTable) -> u64 {
        let (mut entries, mut bytes) = (0, 0);
        for resource in table.iter_mut() {
            entries += 1;
            bytes += ENTRY + weight(resource);
        }
        *self = Audit { calls: 0, due: entries };
        bytes
    }
}

fn weight(resource: &dyn std::any::Any) -> u64 {
    if let Some(fields) = resource.downcast_ref::<FieldMap>() {
        headers(fields)
    } else if let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() {
        headers(&request.headers) + BODY
    } else if let Some(response) = resource.downcast_ref::<HostOutgoingResponse>() {
        headers(&response.headers) + BODY
    } else if let Some(response) = resource.downcast_ref::<HostIncomingResponse>() {
        headers(&response.headers) + BODY
    } else if resource.is::<HostIncomingRequest>()
        || resource.is::<HostIncomingBody>()
        || resource.is::<HostOutgoingBody>()
    {
        BODY
    } else if let Some(socket) = resource.downcast_ref::<TcpSocket>() {
        socket.buffered()
    } else {
        0
    }
}

fn headers(map: &http::HeaderMap) -> u64 {
    map.iter().map(|(name, value)| HEADER + (name.as_str().len() + value.len()) as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_and_handles_weigh() {
        let mut table = ResourceTable::new();
        let mut audit = Audit::default();
        assert_eq!(audit.count(&mut table), 0);
        let mut map = http::HeaderMap::new();
        map.insert("name", "x".repeat(1000).parse().unwrap());
        struct Hooks;
        impl wasmtime_wasi_http::WasiHttpHooks for Hooks {
            fn send_request(
                &mut self,
                _: http::Request<wasmtime_wasi_http::WasiBody>,
                _: Option<wasmtime_wasi_http::RequestOptions>,
                _: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
            ) -> crate::capability::http::Sending {
                unreachable!("nothing is sent")
            }
        }
        table.push(FieldMap::new_immutable(&mut Hooks, map)).unwrap();
        table.push(1u8).unwrap();
        assert_eq!(audit.count(&mut table), 2 * ENTRY + HEADER + 1004);
        assert!((1..CALLS).all(|_| !audit.is_due()) && audit.is_due());
    }
}
