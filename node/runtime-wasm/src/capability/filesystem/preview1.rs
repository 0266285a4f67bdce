//! Preview 1: wasmtime-wasi's, with what is open counted, and what is written to volumes in memory. Only a few functions make
//! descriptors, close them or write.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Weak};

use wasmtime::{Caller, Extern, Linker};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi::filesystem::Descriptor;
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as p1, WasiSnapshotPreview1 as _};
use wiggle::{GuestMemory, GuestPtr};

use super::open::Open;
use super::volume::{Full, Volume, Writing};
use crate::host::Preview1Host;

const MODULE: &str = "wasi_snapshot_preview1";
/// `errno` for too many open files.
const MFILE: i32 = 33;
/// For a volume that is full.
const NOSPC: i32 = 51;
/// For what cannot be moved from one volume to another.
const XDEV: i32 = 75;

/// What an instance has open, by its descriptors.
pub(crate) type Table = HashMap<u32, Open>;

/// Links all of preview 1.
pub(crate) fn add_to_linker(linker: &mut Linker<Preview1Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p1::add_to_linker_async(linker, |host: &mut Preview1Host| host.called())?;
    linker.allow_shadowing(true);
    linker.func_wrap_async(MODULE, "path_open", |mut caller, args: PathOpen| {
        Box::new(async move { path_open(&mut caller, args).await })
    })?;
    linker.func_wrap_async(MODULE, "path_link", |mut caller, args: PathLink| {
        Box::new(async move { path_link(&mut caller, args).await })
    })?;
    linker.func_wrap_async(MODULE, "path_rename", |mut caller, args: PathRename| {
        Box::new(async move { path_rename(&mut caller, args).await })
    })?;
    linker.func_wrap_async(MODULE, "fd_close", |mut caller, (fd,): (i32,)| {
        Box::new(async move { fd_close(&mut caller, fd).await })
    })?;
    linker.func_wrap_async(MODULE, "fd_renumber", |mut caller, (from, to): (i32, i32)| {
        Box::new(async move { fd_renumber(&mut caller, from, to).await })
    })?;
    linker.func_wrap_async(MODULE, "fd_write", |mut caller, args: Write| {
        Box::new(async move { fd_write(&mut caller, args).await })
    })?;
    linker.func_wrap_async(MODULE, "fd_pwrite", |mut caller, args: WriteAt| {
        Box::new(async move { fd_pwrite(&mut caller, args).await })
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

type Calling<'a> = Caller<'a, Preview1Host>;
type PathOpen = (i32, i32, i32, i32, i32, i64, i64, i32, i32);
type PathLink = (i32, i32, i32, i32, i32, i32, i32);
type PathRename = (i32, i32, i32, i32, i32, i32);
type Write = (i32, i32, i32, i32);
type WriteAt = (i32, i32, i32, i64, i32);

async fn fd_close(caller: &mut Calling<'_>, fd: i32) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let errno = p1::fd_close(host.called(), &mut memory, fd).await?;
    if errno == 0 {
        host.open.remove(&fd.cast_unsigned());
    }
    Ok(errno)
}

async fn fd_renumber(caller: &mut Calling<'_>, from: i32, to: i32) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let errno = p1::fd_renumber(host.called(), &mut memory, from, to).await?;
    if errno == 0 && from != to {
        let moved = host.open.remove(&from.cast_unsigned());
        host.open.remove(&to.cast_unsigned());
        host.open.extend(moved.map(|open| (to.cast_unsigned(), open)));
    }
    Ok(errno)
}

async fn fd_write(caller: &mut Calling<'_>, (fd, data, count, answer): Write) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let write = written(host, &memory, fd, (data, count));
    let Ok(_writing) = room(write, None).await else { return Ok(NOSPC) };
    p1::fd_write(host.called(), &mut memory, fd, data, count, answer).await
}

async fn fd_pwrite(caller: &mut Calling<'_>, (fd, data, count, at, answer): WriteAt) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let write = written(host, &memory, fd, (data, count));
    let Ok(_writing) = room(write, Some(at.cast_unsigned())).await else { return Ok(NOSPC) };
    p1::fd_pwrite(host.called(), &mut memory, fd, data, count, at, answer).await
}

async fn path_link(caller: &mut Calling<'_>, args: PathLink) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let (dir, flags, path, length, to, new, new_length) = args;
    if !beside(host, dir, to) {
        return Ok(XDEV);
    }
    p1::path_link(host.called(), &mut memory, dir, flags, path, length, to, new, new_length).await
}

async fn path_rename(caller: &mut Calling<'_>, args: PathRename) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let (dir, path, length, to, new, new_length) = args;
    if !beside(host, dir, to) {
        return Ok(XDEV);
    }
    p1::path_rename(host.called(), &mut memory, dir, path, length, to, new, new_length).await
}

async fn path_open(caller: &mut Calling<'_>, args: PathOpen) -> wasmtime::Result<i32> {
    let (mut memory, host) = parts(caller)?;
    let Some(counted) = host.container.files.take() else { return Ok(MFILE) };
    let (dir, lookup, path, length, open, rights, inherited, flags, answer) = args;
    let wasi = host.called();
    let errno =
        p1::path_open(wasi, &mut memory, dir, lookup, path, length, open, rights, inherited, flags, answer).await?;
    if errno == 0 {
        let fd = memory.read(GuestPtr::<u32>::new(answer.cast_unsigned()))?;
        let volume = host.open.get(&dir.cast_unsigned()).and_then(|dir| dir.volume.clone());
        let opened = if host.container.preopens.any_in_memory() { unknown(&mut host.wasi) } else { None };
        if let (Some(volume), Some(file)) = (&volume, &opened) {
            volume.opened(file);
        }
        let file = opened.map_or_else(Weak::new, |opened| Arc::downgrade(&opened));
        host.open.insert(fd, Open { _counted: Some(Arc::new(counted)), volume, file });
    }
    Ok(errno)
}

/// The file that was opened just now: the only one of which nobody has heard.
fn unknown(wasi: &mut WasiP1Ctx) -> Option<Arc<File>> {
    wasi.ctx().table.iter_mut().find_map(|entry| match entry.downcast_ref::<Descriptor>()? {
        Descriptor::File(opened) if Arc::weak_count(&opened.file) == 0 => Some(opened.file.clone()),
        _ => None,
    })
}

/// A volume in memory, a file in it, and how many bytes are to be written there.
type Written = (Arc<Volume>, Arc<File>, usize);

/// What a write is about, if it is to a volume in memory.
fn written(host: &Preview1Host, memory: &GuestMemory<'_>, fd: i32, (data, count): (i32, i32)) -> Option<Written> {
    let open = host.open.get(&fd.cast_unsigned())?;
    let (volume, file) = (open.volume.clone()?, open.file.upgrade()?);
    // The first part that is not empty is what is written.
    let word = |at: u32| memory.read(GuestPtr::<u32>::new(data.cast_unsigned().checked_add(at)?)).ok();
    let lengths = (0..count.cast_unsigned()).map_while(|part| word(part.checked_mul(8)?.checked_add(4)?));
    let length = lengths.into_iter().find(|length| *length > 0).unwrap_or(0);
    Some((volume, file, length as usize))
}

/// Takes room for a write.
async fn room(written: Option<Written>, offset: Option<u64>) -> Result<Option<Writing>, Full> {
    let Some((volume, file, length)) = written else { return Ok(None) };
    volume.write(file, offset, length).await.map(Some)
}

/// Whether something can be moved or linked from one directory to another.
fn beside(host: &Preview1Host, one: i32, other: i32) -> bool {
    Open::beside(host.open.get(&one.cast_unsigned()), host.open.get(&other.cast_unsigned()))
}

/// What wasmtime-wasi's functions work on.
fn parts<'a>(caller: &'a mut Calling<'_>) -> wasmtime::Result<(GuestMemory<'a>, &'a mut Preview1Host)> {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
        return Err(wasmtime::Error::msg("missing required memory export"));
    };
    let fuel = wasmtime::AsContextMut::as_context_mut(caller).hostcall_fuel();
    let (memory, host) = memory.data_and_store_mut(caller);
    host.wasi.set_hostcall_fuel(fuel);
    Ok((GuestMemory::Unshared(memory), host))
}
