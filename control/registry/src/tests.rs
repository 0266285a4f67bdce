//! Every verb as a client sees it.

mod create;
mod delete;
mod ephemeral;
mod eviction;
mod images;
mod patch;
mod properties;
mod read;
mod services;
mod update;
mod versions;
