//! Real guests: the committed examples, and modules in WAT.

mod commands;
mod compile;
mod contract;
mod files;
mod fixture;
mod http;
mod memnet;
mod sockets;
