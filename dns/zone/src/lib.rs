//! The cluster's DNS zone as a pure function of Services and EndpointSlices (Kubernetes DNS-based service discovery,
//! schema 1.1.0): [`Zone::lookup`] answers a question, [`search`] says which questions a pod's name stands for.

#![deny(clippy::iter_over_hash_type)]

mod apex;
mod pod;
mod record;
mod reverse;
mod search;
mod service;
mod zone;

pub use record::{Answer, Data, Record, RecordType, Records};
pub use search::{NDOTS, search};
pub use zone::{Config, Zone};
