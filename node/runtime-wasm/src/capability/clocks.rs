//! `wasi:clocks`: wasmtime-wasi's, on the host's clocks.

use wasmtime::component::Linker;
use wasmtime_wasi::clocks::{WasiClocks, WasiClocksView as _};
use wasmtime_wasi::p2::bindings::clocks;

use crate::host::Host;

pub(super) fn monotonic_clock(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    clocks::monotonic_clock::add_to_linker::<Host, WasiClocks>(linker, Host::clocks)
}

pub(super) fn wall_clock(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    clocks::wall_clock::add_to_linker::<Host, WasiClocks>(linker, Host::clocks)
}
