//! Where a stream or a request goes: Services, EndpointSlices and Ingresses become one immutable [`RouteTable`] that the
//! data plane asks at connect time. It decides and never connects: no clock, no randomness (the caller brings a
//! sequence number), no I/O.

#![deny(clippy::iter_over_hash_type)]

mod affinity;
mod balance;
mod flows;
mod host;
mod http;
mod ingress;
mod neighbours;
mod policy;
mod service;
mod table;

pub use affinity::Affinity;
pub use balance::{Balancer, Choice};
pub use flows::{Flow, FlowKey, Flows};
pub use host::{HostAddr, HostPort, HostPorts, PodPort, PodPorts};
pub use http::{Backend, BackendPort, External, TlsSecret};
pub use neighbours::{Claim, DATA_PORT, Neighbour, Neighbours, SourcePod, Verdict, Whose};
pub use policy::{Party, Policies};
pub use service::{Endpoint, H2C, Protocol, ServiceKey, ServicePort, Side};
pub use table::{Config, RouteTable};
