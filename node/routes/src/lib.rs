//! Where a stream or a request goes: Services, EndpointSlices, Ingresses and Gateways with their routes become one immutable [`RouteTable`] that the
//! data plane asks at connect time. It decides and never connects: no clock, no randomness (the caller brings a
//! sequence number), no I/O.

#![deny(clippy::iter_over_hash_type)]

mod affinity;
mod balance;
mod by_host;
pub mod cors;
mod flows;
mod gateway;
mod host;
mod hosts;
mod http;
mod ingress;
mod neighbours;
mod policy;
mod rule;
mod service;
mod table;
mod treatment;

pub use affinity::Affinity;
pub use balance::{Balancer, Choice, mix};
pub use flows::{Flow, FlowKey, Flows};
pub use gateway::GatewayObjects;
pub use host::{HostAddr, HostPort, HostPorts, PodPort, PodPorts};
pub use http::{Backend, BackendPort, External, TlsSecret};
pub use neighbours::{Claim, DATA_PORT, Neighbour, Neighbours, SourcePod, Verdict, Whose};
pub use policy::{Party, Policies};
pub use rule::{Asked, Door, Found, Greeting, HttpRule, Treatment, Weighted, is_among};
pub use service::{Endpoint, H2C, Protocol, ServiceKey, ServicePort, Side};
pub use table::{Config, RouteTable};
pub use treatment::{Before, edited, location};
