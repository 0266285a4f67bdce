//! The store's files. Each becomes visible complete and on disk, or not at all.
//!
//! ```text
//! DIR/blobs/<hex>     content of blobs and manifests, by SHA-256
//! DIR/uploads/<id>    an upload under way, or what comes from another server
//! ```
//!
//! Which repository has what is in [`super::index`].

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::path::Digest;

/// Content that nothing refers to is kept this long, since a push sends blobs before what refers to them.
const ORPHANS: Duration = Duration::from_secs(24 * 3600);
/// An upload that nobody has added to for this long is given up.
const IDLE: Duration = Duration::from_secs(3600);

pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    pub(super) fn open(dir: PathBuf) -> io::Result<Files> {
        for sub in ["blobs", "uploads"] {
            fs::create_dir_all(dir.join(sub))?;
        }
        Ok(Files { dir })
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join("blobs").join(digest.hex())
    }

    /// Where an earlier release kept its repositories.
    pub(super) fn repositories(&self) -> PathBuf {
        self.dir.join("repositories")
    }

    /// Keeps a complete file, whose digest the caller has computed.
    pub(super) fn keep(&self, file: &Path, digest: &Digest) -> io::Result<()> {
        File::open(file)?.sync_all()?;
        fs::rename(file, self.blob(digest))?;
        sync_dir(&self.dir.join("blobs"))
    }

    /// Removes content.
    pub(super) fn remove(&self, digest: &Digest) -> io::Result<()> {
        remove(&self.blob(digest))
    }

    /// A new file for an upload.
    pub(super) fn upload(&self, id: &str) -> PathBuf {
        self.dir.join("uploads").join(id)
    }

    /// How many uploads are under way.
    pub(super) fn uploads(&self) -> io::Result<usize> {
        Ok(fs::read_dir(self.dir.join("uploads"))?.count())
    }

    /// Removes uploads that were given up.
    pub(super) fn give_up(&self, now: SystemTime) -> io::Result<()> {
        for name in names(&self.dir.join("uploads"))? {
            let path = self.upload(&name);
            if is_old(&path, now, IDLE) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Likewise, and content that is not among what repositories have.
    pub(super) fn sweep(&self, now: SystemTime, kept: &BTreeSet<Digest>) -> io::Result<()> {
        self.give_up(now)?;
        for digest in names(&self.dir.join("blobs"))?.iter().filter_map(|hex| Digest::of_hex(hex)) {
            if !kept.contains(&digest) && is_old(&self.blob(&digest), now, ORPHANS) {
                self.remove(&digest)?;
            }
        }
        Ok(())
    }
}

fn is_old(path: &Path, now: SystemTime, age: Duration) -> bool {
    let modified = fs::metadata(path).and_then(|m| m.modified()).ok();
    modified.and_then(|m| now.duration_since(m).ok()).is_some_and(|d| d > age)
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The names in a folder, in order; none if there is no folder.
pub(super) fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut out = Vec::new();
    for entry in entries {
        out.extend(entry?.file_name().into_string().ok());
    }
    out.sort();
    Ok(out)
}
