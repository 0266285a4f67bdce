//! `wasi:http`: wasmtime's types, and outgoing requests through the pod's network.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};

use http::uri::Scheme;
use http::{Request, Response};
use wasmtime::component::Linker;
use wasmtime_wasi_http::p2::bindings;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttp, WasiHttpCtxView,
    WasiHttpHooks, WasiHttpView,
};

use crate::counted::Counter;
use crate::host::Host;
use crate::net::{HttpError, HttpTimeouts, PodNetwork};
use crate::response;

/// How an instance sends requests.
pub(crate) struct Outgoing {
    net: Arc<dyn PodNetwork>,
    sockets: Arc<Counter>,
}

impl Outgoing {
    pub(crate) fn new(net: Arc<dyn PodNetwork>, sockets: Arc<Counter>) -> Self {
        Outgoing { net, sockets }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        self.called();
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

/// What a guest may write into a body at once.
const BODY_CHUNK: usize = 64 << 10;

/// Asked for with every request, so made once.
static FORBIDDEN: LazyLock<ForbiddenHeaderFilter> =
    LazyLock::new(|| Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name)));

/// What drives a connection beside its response; the network does that itself.
pub(crate) type Sending = Box<dyn Future<Output = Result<(Response<WasiBody>, Driver), Error>> + Send>;
type Driver = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Outgoing {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        FORBIDDEN.clone()
    }

    /// Little waits in the host: a body is as fast as its reader.
    fn p2_outgoing_body_buffer_chunks(&mut self) -> usize {
        1
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Driver,
    ) -> Sending {
        let net = self.net.clone();
        let Some(permit) = self.sockets.take() else {
            let error = Error::InternalError(Some("the pod has too many sockets".to_owned()));
            return Box::new(async move { Err(error) });
        };
        let options = options.unwrap_or_default();
        let timeouts = HttpTimeouts {
            connect: options.connect_timeout,
            first_byte: options.first_byte_timeout,
            between_bytes: options.between_bytes_timeout,
        };
        Box::new(async move {
            let tls = request.uri().scheme() == Some(&Scheme::HTTPS);
            let failed = Arc::new(AtomicBool::new(false));
            let request = request.map(|body| response::from_guest(body, failed));
            let response = net.send_http(request, timeouts, tls).await.map_err(error_code)?;
            // It counts as long as its body may come.
            Ok((response.map(|body| response::into_guest_with(body, permit)), Box::new(async { Ok(()) }) as Driver))
        })
    }
}

fn error_code(error: HttpError) -> Error {
    match error {
        HttpError::NameUnresolvable => Error::DnsError { rcode: Some("NXDOMAIN".to_owned()), info_code: None },
        HttpError::NameTimeout => Error::DnsTimeout,
        HttpError::DestinationUnavailable => Error::DestinationUnavailable,
        HttpError::DestinationProhibited => Error::DestinationIpProhibited,
        HttpError::DestinationUnroutable => Error::DestinationIpUnroutable,
        HttpError::ConnectionRefused => Error::ConnectionRefused,
        HttpError::ConnectionTerminated => Error::ConnectionTerminated,
        HttpError::ConnectionTimeout => Error::ConnectionTimeout,
        HttpError::ReadTimeout => Error::ConnectionReadTimeout,
        HttpError::Tls(why) => Error::TlsAlertReceived { alert_id: None, alert_message: Some(why) },
        HttpError::Certificate => Error::TlsCertificateError,
        HttpError::RequestDenied => Error::HttpRequestDenied,
        HttpError::InvalidUri => Error::HttpRequestUriInvalid,
        HttpError::Loop => Error::LoopDetected,
        HttpError::Protocol => Error::HttpProtocolError,
        HttpError::Other(why) => Error::InternalError(Some(why)),
    }
}

pub(super) fn outgoing_handler(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bindings::http::outgoing_handler::add_to_linker::<Host, WasiHttp>(linker, Host::http)
}

pub(super) fn types(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let options = bindings::LinkOptions::default();
    bindings::http::types::add_to_linker::<Host, WasiHttp>(linker, &(&options).into(), Host::http)
}
