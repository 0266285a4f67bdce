//! Files that are read and never written: what a database writes when it is opened (a repair, a mark that it is open)
//! lies over them in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use redb::StorageBackend;

use super::Backends;

const PAGE: usize = 4096;

/// The files of a folder.
#[derive(Debug)]
pub(super) struct Overlays {
    dir: PathBuf,
}

impl Overlays {
    /// Over the files in `dir`.
    pub(super) fn new(dir: impl Into<PathBuf>) -> Overlays {
        Overlays { dir: dir.into() }
    }
}

impl Backends for Overlays {
    fn exists(&self, name: &str) -> io::Result<bool> {
        match self.len(name) {
            Ok(len) => Ok(len > 0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// What was written to one that was opened before is forgotten.
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let file = match File::open(self.dir.join(name)) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let len = file.as_ref().map_or(Ok(0), |f| f.metadata().map(|m| m.len()))?;
        Ok(Box::new(Overlay { file, over: Mutex::new(Over { len, base: len, pages: BTreeMap::new() }) }))
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(std::fs::metadata(self.dir.join(name))?.len())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn copy(&self, _: &str, _: &str) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

#[derive(Debug)]
struct Overlay {
    file: Option<File>,
    over: Mutex<Over>,
}

#[derive(Debug)]
struct Over {
    len: u64,
    /// Up to here the file still shows.
    base: u64,
    /// Pages that were written, by number.
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Overlay {
    fn with<T>(&self, f: impl FnOnce(&mut Over) -> io::Result<T>) -> io::Result<T> {
        f(&mut self.over.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A page of the file, with zeros where it has none.
    fn page(&self, number: u64, base: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE];
        let at = number * PAGE as u64;
        let there = base.saturating_sub(at).min(PAGE as u64) as usize;
        if let Some(file) = self.file.as_ref().filter(|_| there > 0) {
            file.read_exact_at(&mut page[..there], at)?;
        }
        Ok(page)
    }
}

/// The parts of `length` bytes from `offset` on: page, place in the page, place in the bytes, how many.
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize, usize)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == length {
            return None;
        }
        let at = offset + done as u64;
        let inside = (at % PAGE as u64) as usize;
        let part = (at / PAGE as u64, inside, done, (PAGE - inside).min(length - done));
        done += part.3;
        Some(part)
    })
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        self.with(|over| Ok(over.len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|over| {
            if offset.checked_add(out.len() as u64).is_none_or(|end| end > over.len) {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for (number, inside, done, length) in parts(offset, out.len()) {
                let to = &mut out[done..done + length];
                match over.pages.get(&number) {
                    Some(page) => to.copy_from_slice(&page[inside..inside + length]),
                    None => to.copy_from_slice(&self.page(number, over.base)?[inside..inside + length]),
                }
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|over| {
            if len < over.len {
                over.base = over.base.min(len);
                let (last, inside) = (len / PAGE as u64, (len % PAGE as u64) as usize);
                over.pages.retain(|number, _| *number <= last);
                if let Some(page) = over.pages.get_mut(&last) {
                    page[inside..].fill(0);
                }
            }
            over.len = len;
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with(|over| {
            for (number, inside, done, length) in parts(offset, data.len()) {
                if !over.pages.contains_key(&number) {
                    let page = self.page(number, over.base)?;
                    over.pages.insert(number, page);
                }
                if let Some(page) = over.pages.get_mut(&number) {
                    page[inside..inside + length].copy_from_slice(&data[done..done + length]);
                }
            }
            over.len = over.len.max(offset + data.len() as u64);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Len(u64),
        Write(u64, Vec<u8>),
    }

    fn step() -> impl Strategy<Value = Step> {
        let at = 0..4 * PAGE as u64;
        prop_oneof![
            at.clone().prop_map(Step::Len),
            (at, proptest::collection::vec(any::<u8>(), 1..2 * PAGE)).prop_map(|(at, data)| Step::Write(at, data)),
        ]
    }

    proptest! {
        #[test]
        fn it_reads_as_a_file_would_and_the_file_stays(
            size in 0..3 * PAGE,
            steps in proptest::collection::vec(step(), 0..8),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let before: Vec<u8> = (0..size).map(|i| (i % 251) as u8 + 1).collect();
            std::fs::write(dir.path().join("f"), &before).unwrap();
            let overlay = Overlays::new(dir.path()).open("f").unwrap();
            let mut expected = before.clone();
            for step in steps {
                match step {
                    Step::Len(len) => {
                        overlay.set_len(len).unwrap();
                        expected.resize(len as usize, 0);
                    }
                    Step::Write(at, data) => {
                        overlay.write(at, &data).unwrap();
                        let end = at as usize + data.len();
                        expected.resize(expected.len().max(end), 0);
                        expected[at as usize..end].copy_from_slice(&data);
                    }
                }
                prop_assert_eq!(overlay.len().unwrap(), expected.len() as u64);
                let mut all = vec![0; expected.len()];
                overlay.read(0, &mut all).unwrap();
                prop_assert!(all == expected);
            }
            prop_assert!(overlay.read(1, &mut vec![0; expected.len()]).is_err());
            prop_assert!(std::fs::read(dir.path().join("f")).unwrap() == before);
        }
    }

    #[test]
    fn nothing_else_can_be_done_to_the_files() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f"), "x").unwrap();
        let files = Overlays::new(dir.path());
        assert!(files.exists("f").unwrap() && !files.exists("g").unwrap());
        assert!(files.remove("f").is_err() && files.rename("f", "g").is_err() && files.copy("f", "g").is_err());
        assert!(!files.exists("g").unwrap() && files.exists("f").unwrap());
    }
}
