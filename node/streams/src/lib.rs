//! Floor 2: the wire of `kubectl exec`, `attach`, `cp` and `port-forward` as pure values: SPDY/3.1 frames, the channels of
//! Kubernetes' WebSocket protocols, what a command's end looks like, a terminal's line discipline, and where a proxied request
//! goes. No socket, no task.

#![deny(clippy::iter_over_hash_type)]

pub mod channel;
pub mod proxy;
pub mod spdy;
pub mod status;
pub mod tty;
