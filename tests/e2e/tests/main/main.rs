//! End to end, with real clients, against the real binary.

mod api;
mod clients;
mod examples;
mod faults;
mod gateway;
mod images;
mod joining;
mod kubectl;
mod kubelet;
mod network;
mod no_loss;
mod pod_life;
mod pods;
mod pressure;
mod registry;
mod snapshot;
mod streams;
mod three_machines;
mod top;
mod up;
mod volumes;
mod websocket;
