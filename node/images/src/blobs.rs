//! Files named by their content.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use copepod_model::Time;
use sha2::{Digest, Sha256};

/// How every WebAssembly module and component begins.
const MAGIC: &[u8; 4] = b"\0asm";

pub(crate) struct Blobs {
    dir: PathBuf,
    tmp: PathBuf,
    next: AtomicU64,
}

/// A file that is being written; removed unless it is kept.
pub(crate) struct Draft {
    path: PathBuf,
    file: Option<File>,
}

impl Draft {
    pub(crate) fn take_file(&mut self) -> io::Result<File> {
        self.file.take().ok_or_else(|| io::Error::other("the draft's file is in use"))
    }
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // gone already if it was kept
    }
}

impl Blobs {
    pub(crate) fn open(root: &Path) -> io::Result<Blobs> {
        let (dir, tmp) = (root.join("blobs").join("sha256"), root.join("tmp"));
        fs::create_dir_all(&dir)?;
        match fs::remove_dir_all(&tmp) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => fs::create_dir_all(&tmp)?,
        }
        Ok(Blobs { dir, tmp, next: AtomicU64::new(0) })
    }

    /// Where a digest's bytes are or would be. Only well-formed digests become paths.
    pub(crate) fn path(&self, digest: &str) -> io::Result<PathBuf> {
        let hex = digest.strip_prefix("sha256:").filter(|h| h.len() == 64);
        match hex.filter(|h| h.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))) {
            Some(hex) => Ok(self.dir.join(hex)),
            None => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a sha256 digest: {digest:?}"))),
        }
    }

    /// The size of what the store holds for a digest.
    pub(crate) fn size(&self, digest: &str) -> Option<u64> {
        fs::metadata(self.path(digest).ok()?).ok().map(|m| m.len())
    }

    /// Every module: digest, size in bytes, and when it was used last as far as the disk knows.
    pub(crate) fn all(&self) -> io::Result<Vec<(String, u64, Time)>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
            if self.path(&digest).is_err() {
                continue;
            }
            // It may be removed meanwhile.
            let Ok(meta) = entry.metadata() else { continue };
            let used = meta.modified().ok().and_then(|m| m.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
            out.push((digest, meta.len(), Time(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX))));
        }
        out.sort();
        Ok(out)
    }

    /// Sets a file's time. What is not there any more needs none.
    pub(crate) fn touch(&self, digest: &str, at: Time) {
        let Ok(path) = self.path(digest) else { return };
        if let Ok(file) = File::options().write(true).open(path) {
            let _ = file.set_modified(UNIX_EPOCH + Duration::from_nanos(at.0));
        }
    }

    /// Deletes a module: its size.
    pub(crate) fn remove(&self, digest: &str) -> io::Result<u64> {
        let path = self.path(digest)?;
        let size = self.size(digest).unwrap_or(0);
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(size),
        }
    }

    /// A new file under `tmp`.
    pub(crate) fn draft(&self) -> io::Result<Draft> {
        let path = self.tmp.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        Ok(Draft { path, file: Some(file) })
    }

    /// Keeps a complete draft under the digest of its bytes, which the caller has computed while writing them.
    pub(crate) fn keep(&self, draft: Draft, digest: &str) -> io::Result<()> {
        let to = self.path(digest)?;
        let file = File::open(&draft.path)?;
        file.sync_all()?;
        fs::rename(&draft.path, &to)?;
        sync_dir(&self.dir)
    }

    /// Copies a module into the store: digest, size, and whether it was there before. A file that is still what it was, by
    /// the digest that it had, is read and not copied: every pod that starts from it comes by here.
    pub(crate) fn import(&self, path: &Path, limit: u64, before: Option<&str>) -> io::Result<(String, u64, bool)> {
        let mut from = File::open(path)?;
        let about = from.metadata()?;
        if !about.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let size = about.len();
        if let Some(digest) = before
            && size <= limit
            && self.size(digest) == Some(size)
        {
            if sum(&mut from, size)? == digest {
                return Ok((digest.into(), size, true));
            }
            from.rewind()?;
        }
        self.add(from, limit)
    }

    /// Reads a module to its end into the store.
    pub(crate) fn add(&self, from: impl Read, limit: u64) -> io::Result<(String, u64, bool)> {
        let mut draft = self.draft()?;
        let mut file = draft.take_file()?;
        let (mut hash, mut size, mut from) = (Sha256::new(), 0u64, from);
        let mut buffer = vec![0; 64 << 10];
        let mut head = Vec::new();
        loop {
            let n = match from.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            size += n as u64;
            if size > limit {
                return Err(too_large(limit));
            }
            if head.len() < MAGIC.len() {
                head.extend_from_slice(&buffer[..n.min(MAGIC.len())]);
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n])?;
        }
        wasm(&head)?;
        let digest = hex(hash);
        let present = self.size(&digest) == Some(size);
        if !present {
            self.keep(draft, &digest)?;
        }
        Ok((digest, size, present))
    }

    /// The bytes of a digest, verified; what does not match is removed.
    pub(crate) fn read(&self, digest: &str) -> io::Result<Bytes> {
        let path = self.path(digest)?;
        let bytes = fs::read(&path)?;
        if hex(Sha256::new_with_prefix(&bytes)) != digest {
            fs::remove_file(&path)?;
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged; removed", path.display())));
        }
        Ok(bytes.into())
    }
}

/// A file that hashes what it takes and stops at its limit.
pub(crate) struct Sink {
    file: tokio::fs::File,
    hash: Sha256,
    head: Vec<u8>,
    size: u64,
    limit: u64,
}

impl Sink {
    pub(crate) fn new(file: File, limit: u64) -> Sink {
        Sink { file: tokio::fs::File::from_std(file), hash: Sha256::new(), head: Vec::new(), size: 0, limit }
    }

    /// How much it has taken, in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The first bytes.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size + bytes.len() as u64 > self.limit {
            return Err(too_large(self.limit));
        }
        tokio::io::AsyncWriteExt::write_all(&mut self.file, bytes).await?;
        self.hash.update(bytes);
        let more = MAGIC.len().saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..more]);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Everything is in the file: the digest of it.
    pub(crate) async fn finish(&mut self) -> io::Result<String> {
        tokio::io::AsyncWriteExt::flush(&mut self.file).await?;
        Ok(hex(std::mem::take(&mut self.hash)))
    }
}

/// The digest of the next `size` bytes, or of those that there are.
fn sum(from: &mut impl Read, size: u64) -> io::Result<String> {
    let mut from = from.take(size);
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 << 10]);
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(hex(hash)),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// `sha256:…` of what was hashed.
pub(crate) fn hex(hash: Sha256) -> String {
    use std::fmt::Write;
    let mut out = String::from("sha256:");
    for byte in hash.finalize() {
        let _ = write!(out, "{byte:02x}"); // writing to a String cannot fail
    }
    out
}

pub(crate) fn too_large(limit: u64) -> io::Error {
    io::Error::other(format!("larger than the limit of {limit} bytes"))
}

/// Checks a module's first bytes.
pub(crate) fn wasm(head: &[u8]) -> io::Result<()> {
    if head.starts_with(MAGIC) { Ok(()) } else { Err(io::Error::other("not a WebAssembly module or component")) }
}

/// Replaces a small file at once: readers, and a restart after a crash, see the old bytes or the new ones.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let tmp = path.with_extension("new");
    let mut file = File::create(&tmp)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&tmp, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

/// A rename is on disk only once its folder is.
fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
