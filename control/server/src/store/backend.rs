//! Where the two databases keep their bytes: files, or what a test puts in their place.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::PathBuf;

use redb::StorageBackend;
use redb::backends::FileBackend;

/// Opens the storage of a database by its file name.
pub trait Backends: Send + Sync + 'static {
    /// Whether there is one that is not empty.
    fn exists(&self, name: &str) -> io::Result<bool>;
    /// Opens it; creates it when there is none.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>>;
    /// Removes it, if there is one.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// How many bytes it has.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Puts `from` in the place of `to`, at once and durably. Neither is open.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Copies, durably; at every moment `to` is whole, or what it was before. Neither is open.
    fn copy(&self, from: &str, to: &str) -> io::Result<()>;
}

/// Files in a folder.
#[derive(Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Files in `dir`, which exists.
    pub fn new(dir: impl Into<PathBuf>) -> Files {
        Files { dir: dir.into() }
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

impl Backends for Files {
    fn exists(&self, name: &str) -> io::Result<bool> {
        match fs::metadata(self.dir.join(name)) {
            Ok(m) => Ok(m.len() > 0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.dir.join(name))?;
        // A file's name is durable only with its folder.
        self.sync_dir()?;
        let backend = FileBackend::new(file).map_err(|e| io::Error::other(e.to_string()))?;
        Ok(Box::new(backend))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => self.sync_dir(),
        }
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.dir.join(name))?.len())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))?;
        self.sync_dir()
    }

    fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        let new = format!("{to}.copy");
        let mut source = File::open(self.dir.join(from))?;
        let mut file = File::create(self.dir.join(&new))?;
        io::copy(&mut source, &mut file)?;
        file.sync_all()?;
        self.rename(&new, to)
    }
}
