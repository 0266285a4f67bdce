//! Files named by their content.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
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

    /// Copies a module into the store: digest, size, and whether it was there before.
    pub(crate) fn import(&self, path: &Path, limit: u64) -> io::Result<(String, u64, bool)> {
        let from = File::open(path)?;
        if !from.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
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
