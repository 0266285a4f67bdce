//! Floor 0: what the API's objects are. The schema table and what it drives (JSON ⇄ protobuf, strict validation,
//! normalising, strategic merge, OpenAPI), the registry of kinds, object metadata, selectors, quantities, patches and
//! `Status`. It never reads a clock, draws randomness or does I/O: whatever varies is an argument.
#![deny(clippy::iter_over_hash_type)]

pub mod bootstrap_token;
pub mod certificate;
pub mod facts;
pub mod gateway;
mod go_duration;
pub mod join_token;
pub mod key;
pub mod kinds;
pub mod networks;
pub mod object;
pub mod placement;
pub mod pod_log;
pub mod pod_resources;
pub mod quantity;
pub mod quota;
pub mod request;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod yaml;

pub use key::Key;
pub use object::{Meta, Object, OwnerReference};
pub use request::{ApiRequest, UserInfo, Verb};
pub use status::{FieldError, Status};
pub use time::Time;
