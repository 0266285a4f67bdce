//! Floor 2: consensus as a machine. Ticks, proposals and messages go in; what must be made durable, what must be sent
//! and what is committed comes out. It touches no disk, no socket and no clock; one member or five, it is the same.
//!
//! The driver's loop, in this order (tikv raft's contract, where the reasons are):
//!
//! ```text
//! while let Some(work) = machine.work() {
//!     send(work.messages)                 // a leader's, which need not wait for the disk
//!     persist(work.hard_state(), work.entries())   // one durable commit
//!     let done = machine.persisted(work)
//!     send(done.messages)                 // those that promise what was persisted
//!     apply(done.committed); machine.applied(last)
//! }
//! ```
//!
//! The applied index must never be made durable ahead of the commit index: see [`Machine::hard_state`].
#![deny(clippy::iter_over_hash_type)]

mod log;
mod machine;
pub mod record;
pub mod rules;

pub use log::Position;
pub use machine::{Committed, Done, Error, Machine, Options, Progress, Restored, What, Work};
/// How messages go between members: raft's own protobuf form.
pub use protobuf::Message as Wire;
pub use raft::ReadState;
pub use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType,
    Snapshot, SnapshotMetadata,
};
