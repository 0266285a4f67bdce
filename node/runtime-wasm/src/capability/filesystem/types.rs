//! `wasi:filesystem/types`: wasmtime-wasi's, with what is open counted.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::WasiFilesystemView as _;
use wasmtime_wasi::p2::bindings::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream,
    ErrorCode, Filesize, Host as _, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags,
    PathFlags,
};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, FsError, FsResult, InputStream, OutputStream, Pollable, StreamResult,
};

use super::open::OpenFile;
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
    /// What keeps a descriptor counted; nothing does for those of mounts, which all instances share.
    fn open(&self, descriptor: &Resource<Descriptor>) -> Option<Arc<OpenFile>> {
        self.0.open.get(&descriptor.rep()).cloned()
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
        let opened = self.0.filesystem().open_at(dir, path_flags, path, open_flags, flags).await?;
        self.0.open.insert(opened.rep(), Arc::new(file));
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

    fn write_via_stream(
        &mut self,
        file: Resource<Descriptor>,
        offset: Filesize,
    ) -> FsResult<Resource<DynOutputStream>> {
        let open = self.open(&file);
        let stream = self.0.filesystem().write_via_stream(file, offset)?;
        self.output(stream, open)
    }

    fn append_via_stream(&mut self, file: Resource<Descriptor>) -> FsResult<Resource<DynOutputStream>> {
        let open = self.open(&file);
        let stream = self.0.filesystem().append_via_stream(file)?;
        self.output(stream, open)
    }

    theirs! {
        advise(file: Resource<Descriptor>, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()>;
        sync_data(file: Resource<Descriptor>) -> FsResult<()>;
        get_flags(file: Resource<Descriptor>) -> FsResult<DescriptorFlags>;
        get_type(file: Resource<Descriptor>) -> FsResult<DescriptorType>;
        set_size(file: Resource<Descriptor>, size: Filesize) -> FsResult<()>;
        set_times(file: Resource<Descriptor>, access: NewTimestamp, change: NewTimestamp) -> FsResult<()>;
        read(file: Resource<Descriptor>, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)>;
        write(file: Resource<Descriptor>, data: Vec<u8>, offset: Filesize) -> FsResult<Filesize>;
        read_directory(dir: Resource<Descriptor>) -> FsResult<Resource<DirectoryEntryStream>>;
        sync(file: Resource<Descriptor>) -> FsResult<()>;
        create_directory_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        stat(file: Resource<Descriptor>) -> FsResult<DescriptorStat>;
        stat_at(dir: Resource<Descriptor>, flags: PathFlags, path: String) -> FsResult<DescriptorStat>;
        set_times_at(
            dir: Resource<Descriptor>, flags: PathFlags, path: String, access: NewTimestamp, change: NewTimestamp
        ) -> FsResult<()>;
        link_at(
            dir: Resource<Descriptor>, flags: PathFlags, path: String, to: Resource<Descriptor>, new: String
        ) -> FsResult<()>;
        readlink_at(dir: Resource<Descriptor>, path: String) -> FsResult<String>;
        remove_directory_at(dir: Resource<Descriptor>, path: String) -> FsResult<()>;
        rename_at(dir: Resource<Descriptor>, path: String, to: Resource<Descriptor>, new: String) -> FsResult<()>;
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
        open: Option<Arc<OpenFile>>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.0.table.delete(stream)?;
        Ok(self.0.table.push(Box::new(Of { stream, _open: open }) as DynOutputStream)?)
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
    _open: Option<Arc<OpenFile>>,
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
