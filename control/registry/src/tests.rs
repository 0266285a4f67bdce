//! Every verb as a client sees it.

mod admission;
mod create;
mod delete;
mod ephemeral;
mod eviction;
mod images;
mod limits;
mod patch;
mod properties;
mod read;
mod services;
mod update;
mod versions;
