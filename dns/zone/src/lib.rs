//! The cluster's DNS zone as a pure function of Services and EndpointSlices (Kubernetes DNS-based service discovery,
//! schema 1.1.0): [`Zone::lookup`] answers a question, [`Zone::answer`] does so on the wire and in short, [`search`] says
//! which questions a pod's name stands for.

#![deny(clippy::iter_over_hash_type)]

mod apex;
mod compiled;
mod pod;
mod question;
mod quick;
mod record;
mod reply;
mod reverse;
mod search;
mod service;
mod zone;

pub use question::{Edns, HEADER, Question, Reading};
pub use quick::{LARGEST_UDP, Room, SMALLEST_UDP, udp_room};
pub use record::{Answer, Data, Record, RecordType, Records, SOA_EXPIRE, SOA_REFRESH, SOA_RETRY};
pub use reply::{Reply, ask, reply};
pub use search::{NDOTS, search};
pub use zone::{Config, Zone};
