//! `wasi:random`: wasmtime-wasi's, seeded by the system for each instance that asks.

use wasmtime::component::Linker;
use wasmtime_wasi::p2::bindings::random as bindings;
use wasmtime_wasi::random::{WasiRandom, WasiRandomView as _};

use crate::host::Host;

pub(super) fn random(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bindings::random::add_to_linker::<Host, WasiRandom>(linker, Host::random)
}

pub(super) fn insecure(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bindings::insecure::add_to_linker::<Host, WasiRandom>(linker, Host::random)
}

pub(super) fn insecure_seed(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    bindings::insecure_seed::add_to_linker::<Host, WasiRandom>(linker, Host::random)
}
