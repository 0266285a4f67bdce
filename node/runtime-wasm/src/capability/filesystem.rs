//! `wasi:filesystem`: wasmtime-wasi's. A container has no preopened directory yet, so there is nothing to open.

use wasmtime::component::Linker;
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem;

use crate::host::Host;

pub(super) fn preopens(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    filesystem::preopens::add_to_linker::<Host, WasiFilesystem>(linker, Host::filesystem)
}

pub(super) fn types(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    filesystem::types::add_to_linker::<Host, WasiFilesystem>(linker, Host::filesystem)
}
