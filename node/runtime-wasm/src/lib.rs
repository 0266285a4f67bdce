//! Floor 3a: containers that are WebAssembly, on wasmtime.
//!
//! A [`Runtime`] compiles modules once per digest ([`Runtime::compile`]) and starts containers from them
//! ([`Runtime::start`]). What a module exports decides how it runs: a `wasi:http` component is served, a fresh instance
//! per request, through its container's [`HttpHandler`]; a `wasi:cli` component or a preview 1 command runs to its end.
//! Everything that a guest says to the outside goes through two traits given at the start: its pod's [`PodNetwork`] and
//! its [`LogSink`]. This crate opens no socket and no log file.
//!
//! Guests run on threads of their own at lower priority, and give way to each other at every tick of the epoch.

mod artifacts;
mod audit;
mod capability;
mod compile;
mod container;
mod counted;
mod cpu;
mod engine;
mod exit;
mod exports;
#[doc(hidden)]
pub mod fuzzing;
mod guest;
mod handler;
mod host;
mod lograte;
mod logs;
mod memory;
mod module;
mod net;
mod process;
mod response;
mod reuse;
mod runtime;
mod shares;
mod threads;
mod ticker;

pub use compile::CompileError;
pub use container::{Container, Exec, Usage};
pub use cpu::Throttling;
pub use engine::Capacity;
pub use exit::{Exit, Reason};
pub use handler::{HandlerError, HttpHandler};
pub use logs::{LogSink, LogStream};
pub use module::{Kind, Module};
pub use net::{Body, HttpError, HttpTimeouts, NetConn, NetError, NetListener, NetStream, NetUdp, PodNetwork};
pub use process::{Output, Process, Stdin};
pub use runtime::{Runtime, RuntimeConfig, RuntimeError, StartError};

#[cfg(test)]
mod tests;
