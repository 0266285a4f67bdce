//! HTTP inside the network: a service that is a function, and the client that calls it or dials.

mod balanced;
pub(crate) mod client;
pub(crate) mod names;
pub(crate) mod pool;
pub(crate) mod server;
pub(crate) mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Request, Response};

use crate::body::Body;
use crate::pod::PodHandle;
pub(crate) use balanced::Balanced;

/// Any error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Something that answers HTTP requests, such as a pod of a `wasi:http` component.
///
/// A request comes with its target in origin form (`/path?query`), a `Host` header, and [`ConnInfo`] among its
/// extensions.
#[async_trait]
pub trait HttpService: Send + Sync + 'static {
    /// Answers one request. Dropping the future means that the client has gone.
    async fn handle(&self, request: Request<Body>) -> Result<Response<Body>, ServiceError>;
}

/// Why a service has not answered.
#[derive(Debug)]
pub enum ServiceError {
    /// It takes no requests any more. This one comes back as it was, and may be sent to another endpoint.
    Stopped(Box<Request<Body>>),
    /// It has failed.
    Failed(BoxError),
}

impl From<BoxError> for ServiceError {
    fn from(error: BoxError) -> ServiceError {
        ServiceError::Failed(error)
    }
}

/// Which addresses a request travelled between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnInfo {
    /// The server's.
    pub local: SocketAddr,
    /// The client's.
    pub peer: SocketAddr,
}

/// How patient a request is, and whether it is encrypted.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// For the connection, TLS included.
    pub connect_timeout: Duration,
    /// For the response to begin.
    pub first_byte_timeout: Duration,
    /// Between pieces of the response's body.
    pub between_bytes_timeout: Duration,
    /// https.
    pub tls: bool,
    /// HTTP/2 in clear text with prior knowledge, whether or not a Service says so.
    pub h2c: bool,
}

impl Default for HttpOptions {
    fn default() -> Self {
        HttpOptions {
            connect_timeout: Duration::from_secs(30),
            first_byte_timeout: Duration::from_secs(600),
            between_bytes_timeout: Duration::from_secs(600),
            tls: false,
            h2c: false,
        }
    }
}

/// Keeps a service bound; dropping it frees the port.
pub struct ServeGuard {
    pub(crate) pod: Arc<PodHandle>,
    pub(crate) port: u16,
    pub(crate) service: Arc<dyn HttpService>,
}

impl ServeGuard {
    /// The port that is served: the one asked for, or a free one if that was 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for ServeGuard {
    fn drop(&mut self) {
        self.pod.unbind_http(&self.service);
    }
}
