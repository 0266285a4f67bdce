//! Every verb as a client sees it.

mod admission;
mod certificates;
mod create;
mod delete;
mod ephemeral;
mod events;
mod eviction;
mod images;
mod limits;
mod managed_fields;
mod managers;
mod patch;
mod properties;
mod read;
mod resize;
mod services;
mod update;
mod versions;
