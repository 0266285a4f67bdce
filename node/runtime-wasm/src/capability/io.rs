//! `wasi:io`: wasmtime-wasi's, on the instance's table.

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::io;

use crate::host::Host;

struct Table;
impl HasData for Table {
    type Data<'a> = &'a mut ResourceTable;
}

fn table(host: &mut Host) -> &mut ResourceTable {
    host.called();
    &mut host.table
}

pub(super) fn error(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    io::error::add_to_linker::<Host, Table>(linker, table)
}

pub(super) fn poll(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    io::poll::add_to_linker::<Host, Table>(linker, table)
}

pub(super) fn streams(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    io::streams::add_to_linker::<Host, Table>(linker, table)
}
