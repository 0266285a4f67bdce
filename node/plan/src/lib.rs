//! Floor 2: what a node's agent decides. Pod × observed × now → effects, status and events, as plain values.
//!
//! [`plan`] says in one value everything that is about to happen to a pod; [`Observed`] is what the data plane has told so
//! far and what was asked of it. The agent only carries effects to the data plane and status to the API.
#![deny(clippy::iter_over_hash_type)]

pub mod access;
mod admission;
mod args;
mod conditions;
mod descriptors;
mod dns;
pub mod effect;
mod env;
mod ephemeral;
pub mod eviction;
pub mod exec;
mod handler;
mod host_port;
mod image_gc;
mod keyring;
mod launch;
mod limits;
mod local_storage;
mod logs;
mod memory;
pub mod message;
pub mod node;
mod observed;
mod probes;
mod pull;
mod refs;
mod resize;
mod restart;
mod static_pod;
mod status;
mod status_patch;
mod stop;
mod sync;
mod text;
mod timer_wheel;
pub mod usage;
mod volumes;
mod when;

pub use admission::{Claim, Refusal, admit};
pub use descriptors::Descriptors;
pub use dns::{NameServer, PodDns};
pub use effect::{
    ContainerId, ContainerSpec, Credential, Disk, Effect, HookHow, HookKind, ImageUse, Limits, Mount, Observation,
    PodIdentity, ProbeHow, ProbeKind, PullRequest, TerminationMessage, VolumeContent, VolumeFile,
};
pub use host_port::{HostPort, balancer_failed, host_ports};
pub use image_gc::{ImageGc, ImageGcPolicy, collect, listed, shortage};
pub use local_storage::{PodStorage, StorageLimits, StorageUse};
pub use logs::log_attempt;
pub use node::NodeFacts;
pub use observed::{Observed, PodEvent, Termination};
pub use refs::{Lookup, Reference, Refs, ServicePort, ServiceRecord};
pub use resize::claim;
pub use static_pod::{MIRROR, MirrorStep, StaticOrigin, mirror_step, static_pod};
pub use status::comes_up;
pub use status_patch::{Written, status_patch};
pub use stop::vanish;
pub use sync::{PodPlan, plan};
pub use timer_wheel::TimerWheel;
pub use volumes::{Token, TokenKey};
pub use when::{micro, stamp};
