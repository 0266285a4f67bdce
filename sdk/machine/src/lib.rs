//! Floor 1: the shapes that every decider shares. A decider reads a [`View`], is given `now`, and returns a [`Plan`]
//! whose steps carry their reasons; a shell keeps the [`WorkQueue`], executes the plan and calls again.
#![deny(clippy::iter_over_hash_type)]

mod backoff;
mod correlator;
mod plan;
mod queue;
mod view;

pub use backoff::Backoff;
pub use copepod_model::Time;
pub use correlator::{Correlated, Correlator};
pub use plan::{Action, EventType, Plan, Step};
pub use queue::WorkQueue;
pub use view::{Ids, SeededIds, View};
