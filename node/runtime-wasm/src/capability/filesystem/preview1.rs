//! Preview 1: wasmtime-wasi's, with what is open counted. Only a few functions make descriptors and close them.

use std::collections::HashMap;

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as p1, WasiSnapshotPreview1 as _};
use wiggle::{GuestMemory, GuestPtr};

use super::open::OpenFile;
use crate::host::Preview1Host;

const MODULE: &str = "wasi_snapshot_preview1";
/// `errno` for too many open files.
const MFILE: i32 = 33;

/// The files that an instance has open, by their descriptors.
pub(crate) type Open = HashMap<u32, OpenFile>;

/// Links all of preview 1.
pub(crate) fn add_to_linker(linker: &mut Linker<Preview1Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |host: &mut Preview1Host| host.called())?;
    linker.allow_shadowing(true);
    linker.func_wrap_async(MODULE, "path_open", |mut caller, args: PathOpen| {
        Box::new(async move { path_open(&mut caller, args).await })
    })?;
    linker.func_wrap_async(MODULE, "fd_close", |mut caller, (fd,): (i32,)| {
        Box::new(async move {
            let (mut memory, host) = parts(&mut caller)?;
            let errno = p1::fd_close(host.called(), &mut memory, fd).await?;
            if errno == 0 {
                host.open.remove(&fd.cast_unsigned());
            }
            Ok(errno)
        })
    })?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller, (from, to): (i32, i32)| {
        Box::new(async move {
            let (mut memory, host) = parts(&mut caller)?;
            let errno = p1::fd_renumber(host.called(), &mut memory, from, to).await?;
            if errno == 0 && from != to {
                let moved = host.open.remove(&from.cast_unsigned());
                host.open.remove(&to.cast_unsigned());
                host.open.extend(moved.map(|file| (to.cast_unsigned(), file)));
            }
            Ok(errno)
        })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

type PathOpen = (i32, i32, i32, i32, i32, i64, i64, i32, i32);

async fn path_open(caller: &mut Caller<'_, Preview1Host>, args: PathOpen) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let Some(file) = host.container.files.take() else { return Ok(MFILE) };
    let (dir, lookup, path, length, open, rights, inherited, flags, answer) = args;
    let wasi = host.called();
    let errno =
        p1::path_open(wasi, &mut memory, dir, lookup, path, length, open, rights, inherited, flags, answer).await?;
    if errno == 0 {
        let fd = memory.read(GuestPtr::<u32>::new(answer.cast_unsigned()))?;
        host.open.insert(fd, file);
    }
    Ok(errno)
}

/// What wasmtime-wasi's functions work on.
fn parts<'a>(caller: &'a mut Caller<'_, Preview1Host>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Preview1Host)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("missing required memory export"));
    };
    let fuel = wasmtime::AsContext::as_context(caller).hostcall_fuel();
    let (memory, host) = memory.data_and_store_mut(caller);
    host.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(memory), host))
}
