//! `wasi:filesystem/types`: wasmtime-wasi's, with what is open counted.

use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{self, WasiFilesystemView as _};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable, StreamError, StreamResult,
};

use super::open::Open;
use super::volume::{Volume, Writing};
use super::{View, view};
use crate::host::Host;

struct Types;
impl HasData for Types {
    type Data<'a> = View<'a>;
}

pub(in crate::capability) fn types(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    types::add_to_linker::<Host, Types>(linker, view)
}

impl View<'_> {
    fn open(&self, descriptor: &Resource<Descriptor>) -> Open {
        self.0.open.get(&descriptor.rep()).cloned().unwrap_or_default()
    }

    /// The file that is open, and its volume, if that is in memory.
    fn in_memory(&self, descriptor: &Resource<Descriptor>) -> Option<(Arc<Volume>, Arc<File>)> {
        let volume = self.0.open.get(&descriptor.rep())?.volume.clone()?;
        match self.0.table.get(descriptor).ok()? {
            filesystem::Descriptor::File(file) => Some((volume, file.file.clone())),
            filesystem::Descriptor::Dir(_) => None,
        }
    }

    /// Whether something can be moved or linked from one directory to another.
    fn beside(&self, one: &Resource<Descriptor>, other: &Resource<Descriptor>) -> FsResult<()> {
        match Open::beside(self.0.open.get(&one.rep()), self.0.open.get(&other.rep())) {
            true => Ok(()),
            false => Err(ErrorCode::CrossDevice.into()),
        }
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.0.filesystem().convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        self.0.filesystem().filesystem_error_code(error)
    }
}

/// Methods that are wasmtime-wasi's as they are.
macro_rules! theirs {
    ($($name:ident($($arg:ident: $of:ty),*) -> $answer:ty;)*) => {
        $(async fn $name(&mut self, $($arg: $of),*) -> $answer {
            self.0.filesystem().$name($($arg),*).await
        })*
    };
}

impl HostDescriptor for View<'_> {
    async fn open_at(
        &mut self,
        dir: Resource<Descriptor>,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        // There is no code for too many open files; Rust's libraries and C's say of this one that a quota is exceeded.
        let file = self.0.container.files.take().ok_or(ErrorCode::Quota)?;
        let volume = self.open(&dir).volume;
        let opened = self.0.filesystem().open_at(dir, path_flags, path, open_flags, flags).await?;
        let open = Open { _counted: Some(Arc::new(file)), volume, ..Open::default() };
        self.0.open.insert(opened.rep(), open);
        if let Some((volume, file)) = self.in_memory(&opened) {
            volume.opened(&file);
        }
        Ok(opened)
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        let handle = descriptor.rep();
        HostDescriptor::drop(&mut self.0.filesystem(), descriptor)?;
        self.0.open.remove(&handle);
        Ok(())
    }

    fn read_via_stream(&mut self, file: Resource<Descriptor>, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        let open = self.open(&file);
        let stream = self.0.filesystem().read_via_stream(file, offset)?;
        let stream = self.0.table.delete(stream)?;
        Ok(self.0.table.push(Box::new(Of { stream, _open: open }) as DynInputStream)?)
    }

    async fn write(&mut self, file: Resource<Descriptor>, data: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let writing = match self.in_memory(&file) {
            Some((volume, file)) => {
                let room = volume.write(file, Some(offset), data.len()).await;
                Some(room.map_err(|_| ErrorCode::InsufficientSpace)?)
            }
            None => None,
        };
        let written = self.0.filesystem().write(file, data, offset).await;
        drop(writing);
        written
    }

    async fn link_at(
        &mut self,
        dir: Resource<Descriptor>,
        flags: PathFlags,
        path: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        self.beside(&dir, &to)?;
        self.0.filesystem().link_at(dir, flags, path, to, new).await
    }

    async fn rename_at(
        &mut self,
        dir: Resource<Descriptor>,
        path: String,
        to: Resource<Descriptor>,
        new: String,
    ) -> FsResult<()> {
        self.beside(&dir, &to)?;
        self.0.filesystem().rename_at(dir, path, to, new).await
    }

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (open, memory) = (self.open(&file), self.in_memory(&file));
        let stream = self.0.filesystem().write_via_stream(file, offset)?;
        self.output(stream, open, memory)
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let (open, memory) = (self.open(&file), self.in_memory(&file));
        let stream = self.0.filesystem().append_via_stream(file)?;
        self.output(stream, open, memory)
    }

    theirs! {
        advise(file: Resource<Descriptor>, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()>;
        sync_data(file: Resource<Descriptor>) -> FsResult<()>;
        get_flags(file: Resource<Descriptor>) -> FsResult<DescriptorFlags>;
        get_type(file: Resource<Descriptor>) -> FsResult<DescriptorType>;
        set_size(file: Resource<Descriptor>, size: Filesize) -> FsResult<()>;
        set_times(file: Resource<Descriptor>, access: NewTimestamp, change: NewTimestamp) -> FsResult<()>;
        read(file: Resource<Descriptor>, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        read_directory(dir: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>>;
        sync(file: Resource<Descriptor>) -> FsResult<()>;
        create_directory_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        stat(file: Resource<Descriptor>) -> FsResult<DescriptorStat>;
        stat_at(dir: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        set_times_at(
            dir: Resource<Descriptor>, flags: PathFlags, path: String, access: NewTimestamp, change: NewTimestamp
        ) -> FsResult<()>;
        readlink_at(dir: Resource<Descriptor>, path: String) -> FsResult<String>;
        remove_directory_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        symlink_at(dir: Resource<Descriptor>, to: String, path: String) -> FsResult<()>;
        unlink_file_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        is_same_object(one: Resource<Descriptor>, other: Resource<Descriptor>) -> wasmtime::Result<bool>;
        metadata_hash(file: Resource<Descriptor>) -> FsResult<MetadataHashValue>;
        metadata_hash_at(dir: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<MetadataHashValue>;
    }
}

impl View<'_> {
    fn output(
        &mut self,
        stream: Resource<DynOutputStream>,
        open: Open,
        memory: Option<(Arc<Volume>, Arc<File>)>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = Of { stream: self.0.table.delete(stream)?, _open: open };
        let stream: DynOutputStream = match memory {
            Some((volume, file)) => Box::new(ToMemory { stream, volume, file, writing: None, looked: false }),
            None => Box::new(stream),
        };
        Ok(self.0.table.push(stream)?)
    }
}

impl HostDirectoryEntryStream for View<'_> {
    theirs! {
        read_directory_entry(stream: Resource<DirectoryEntryStream>) -> FsResult<Option<DirectoryEntry>>;
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.0.filesystem(), stream)
    }
}

/// A stream of a file, which it keeps open after its descriptor is dropped.
struct Of<S> {
    stream: S,
    _open: Open,
}

#[async_trait]
impl<S: Pollable> Pollable for Of<S> {
    async fn ready(&mut self) {
        self.stream.ready().await;
    }
}

#[async_trait]
impl InputStream for Of<DynInputStream> {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.stream.blocking_read(size).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

#[async_trait]
impl OutputStream for Of<DynOutputStream> {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.stream.check_write()
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.stream.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
    }
}

/// A stream to a file of a volume in memory: it takes what there is room for.
struct ToMemory {
    stream: Of<DynOutputStream>,
    volume: Arc<Volume>,
    file: Arc<File>,
    /// The write that is under way.
    writing: Option<Writing>,
    /// Whether it was looked for room since the last write.
    looked: bool,
}

/// There is no room.
fn full() -> StreamError {
    StreamError::LastOperationFailed(io::Error::from(rustix::io::Errno::NOSPC).into())
}

#[async_trait]
impl Pollable for ToMemory {
    async fn ready(&mut self) {
        self.stream.ready().await;
        if self.volume.room() == 0 && !self.looked {
            self.volume.wait().await;
            self.looked = true;
        }
    }
}

#[async_trait]
impl OutputStream for ToMemory {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.looked = false;
        self.writing = Some(self.volume.try_write(&self.file, None, bytes.len()).ok_or_else(full)?);
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.stream.flush()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        let ready = self.stream.check_write();
        if !matches!(ready, Ok(0)) {
            self.writing = None;
        }
        match ready? {
            0 => Ok(0),
            ready => match self.volume.room() {
                0 if std::mem::take(&mut self.looked) => Err(full()),
                // Whoever waits until it is ready makes it look.
                room => Ok(ready.min(usize::try_from(room).unwrap_or(usize::MAX))),
            },
        }
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.writing = None;
        let room = self.volume.write(self.file.clone(), None, bytes.len()).await;
        let _writing = room.map_err(|_| full())?;
        self.stream.blocking_write_and_flush(bytes).await
    }

    async fn cancel(&mut self) {
        self.stream.cancel().await;
        self.writing = None;
    }
}
