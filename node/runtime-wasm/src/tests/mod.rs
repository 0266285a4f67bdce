//! Real guests: the committed examples, and modules in WAT.

mod commands;
mod compile;
mod contract;
mod files;
mod fixture;
mod hostile;
mod http;
mod memnet;
mod reuse;
mod sockets;
