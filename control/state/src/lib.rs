//! Floor 2: the replicated state machine. A [`Txn`] goes in, changes come out; every change has its own revision. It
//! knows no kinds, reads no clock, calls nobody, and is the same on every member.
#![deny(clippy::iter_over_hash_type)]

mod apply;
mod change;
pub mod codec;
pub mod envelope;
pub mod quota;
pub mod seat;
mod tables;
pub mod txn;
mod watch;
mod window;
mod wire;

pub use apply::apply;
pub use change::Change;
pub use codec::CodecError;
pub use seat::Seat;
pub use tables::Tables;
pub use txn::{Op, Outcome, Require, Txn};
pub use watch::{Interest, WatchIndex};
pub use window::{Compacted, Window, WindowLimits};
