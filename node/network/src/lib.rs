//! The virtual pod network of one node: pod addresses, Services' virtual addresses and names in memory, the way out to
//! the host, and the ingress. Where something goes is decided by `copepod-node-routes` and `copepod-dns-zone`; this
//! crate moves the bytes. No file descriptor and no task belongs to an idle pod.

mod access;
mod body;
mod connect;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod hold;
mod host;
mod http;
mod ingress;
mod listener;
mod load;
mod namespace;
mod network;
mod pod;
mod policy;
mod protocol;
mod resolve;
mod splice;
mod stream;
mod stub;
mod sync;
mod tracker;
mod transparent;
mod tunnel;
mod udp;

pub use access::{HostAccess, HostAccessError, Range};
pub use body::{Body, empty, full};
pub use connect::{Conn, Source};
pub use copepod_node_routes::PodPort;
pub use error::{HttpError, NetError};
pub use host::{Beneficiary, HostListeners, HostPortFailure};
pub use http::tls::client_config;
pub use http::{BoxError, ConnInfo, HttpOptions, HttpService, ServeGuard, ServiceError};
pub use ingress::{AccessLog, AccessLogTo, Certificate, Certificates, Ingress, IngressConfig, certificate};
pub use listener::Listener;
pub use network::{Network, NetworkConfig};
pub use pod::{Identity, Interface, PodHandle};
pub use resolve::{Dns, HostResolver, NameServer, Upstream};
pub use stream::Stream;
pub use tunnel::{TunnelConfig, TunnelTiming};
pub use udp::{Datagram, UdpSocket};
