//! A disk in memory that can lose power: what was not synced is lost, wholly or in parts.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex};

use copepod_machine::{Ids, SeededIds};
use redb::StorageBackend;

use crate::store::Backends;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// Several files on one disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Bytes>,
    /// Operations left until the power fails.
    until_crash: Option<u64>,
    crashed: bool,
    fail_syncs: Option<io::ErrorKind>,
    /// How often it was exchanged.
    changed: u64,
    /// Syncs of this file wait while it is held; how many do.
    held: Option<String>,
    arrived: u64,
}

#[derive(Clone, Debug, Default)]
struct Bytes {
    /// As reads see it.
    current: Vec<u8>,
    /// As a power failure leaves it.
    durable: Vec<u8>,
    /// What was done since the last sync.
    pending: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Len(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Len(len) => to.resize(*len, 0),
            Change::Write(at, data) => {
                if to.len() < at + data.len() {
                    to.resize(at + data.len(), 0);
                }
                to[*at..at + data.len()].copy_from_slice(data);
            }
        }
    }
}

/// Random numbers from a seed.
pub(crate) fn draw(ids: &mut SeededIds, below: u64) -> u64 {
    let mut b = [0; 8];
    ids.fill(&mut b);
    u64::from_le_bytes(b) % below.max(1)
}

impl Disk {
    /// The power fails after this many more operations.
    pub(crate) fn crash_after(&self, operations: u64) {
        self.0.state.lock().unwrap().until_crash = Some(operations);
    }

    /// Whether the power has failed.
    pub(crate) fn has_crashed(&self) -> bool {
        self.0.state.lock().unwrap().crashed
    }

    /// From now on every sync fails, and what it should have made durable stays as it was.
    pub(crate) fn fail_syncs(&self) {
        self.fail_syncs_as(io::ErrorKind::Other);
    }

    /// Likewise, with this answer.
    pub(crate) fn fail_syncs_as(&self, kind: io::ErrorKind) {
        self.0.state.lock().unwrap().fail_syncs = Some(kind);
    }

    /// Syncs work again.
    pub(crate) fn mend_syncs(&self) {
        self.0.state.lock().unwrap().fail_syncs = None;
    }

    /// Another disk is in its place, with nothing on it: what is open is open on the old one, which is gone.
    pub(crate) fn exchange(&self) {
        let mut state = self.0.state.lock().unwrap();
        let changed = state.changed + 1;
        *state = State { changed, ..State::default() };
    }

    /// From now on every sync of this file waits for [`Disk::release`].
    pub(crate) fn hold(&self, name: &str) {
        let mut state = self.0.state.lock().unwrap();
        state.held = Some(name.into());
        state.arrived = 0;
    }

    /// Waits until a sync is held.
    pub(crate) fn wait_for_sync(&self) {
        let state = self.0.state.lock().unwrap();
        drop(self.0.changed.wait_while(state, |s| s.arrived == 0).unwrap());
    }

    pub(crate) fn release(&self) {
        self.0.state.lock().unwrap().held = None;
        self.0.changed.notify_all();
    }

    /// The disk when the power is back. With `tear`, each sector that was written and not synced is there or not, as
    /// the disk had got to it; without, none is.
    pub(crate) fn reboot(&self, tear: Option<&mut SeededIds>) -> Disk {
        let mut files = self.0.state.lock().unwrap().files.clone();
        if let Some(ids) = tear {
            for file in files.values_mut() {
                for change in std::mem::take(&mut file.pending) {
                    match change {
                        Change::Len(_) => {
                            if draw(ids, 2) == 0 {
                                change.apply(&mut file.durable);
                            }
                        }
                        Change::Write(at, data) => {
                            let mut from = 0;
                            while from < data.len() {
                                let to = data.len().min(((at + from) / SECTOR + 1) * SECTOR - at);
                                if draw(ids, 2) == 0 {
                                    Change::Write(at + from, data[from..to].to_vec()).apply(&mut file.durable);
                                }
                                from = to;
                            }
                        }
                    }
                }
            }
        }
        for file in files.values_mut() {
            file.pending.clear();
            file.current = file.durable.clone();
        }
        let disk = Disk::default();
        disk.0.state.lock().unwrap().files = files;
        disk
    }

    /// The contents of a file, as they are now.
    pub(crate) fn contents(&self, name: &str) -> Vec<u8> {
        self.0.state.lock().unwrap().files.get(name).map(|f| f.current.clone()).unwrap_or_default()
    }

    pub(crate) fn put(&self, name: &str, contents: Vec<u8>) {
        let file = Bytes { durable: contents.clone(), current: contents, pending: Vec::new() };
        self.0.state.lock().unwrap().files.insert(name.into(), file);
    }
}

impl Backends for Disk {
    fn exists(&self, name: &str) -> io::Result<bool> {
        Ok(!self.contents(name).is_empty())
    }
    fn open(&self, name: &str) -> io::Result<Box<dyn StorageBackend>> {
        let mut state = self.0.state.lock().unwrap();
        state.files.entry(name.into()).or_default();
        Ok(Box::new(Open { disk: self.0.clone(), name: name.into(), of: state.changed }))
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.state.lock().unwrap().files.remove(name);
        Ok(())
    }
    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(self.contents(name).len() as u64)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.operation(|s| {
            let file = s.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
            s.files.insert(to.into(), file);
            Ok(())
        })
    }
    fn copy(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.operation(|s| {
            let current = s.files.get(from).ok_or(io::ErrorKind::NotFound)?.current.clone();
            s.files.insert(to.into(), Bytes { durable: current.clone(), current, pending: Vec::new() });
            Ok(())
        })
    }
}

impl Shared {
    fn operation<T>(&self, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.state.lock().unwrap();
        if let Some(left) = &mut state.until_crash {
            match left.checked_sub(1) {
                Some(n) => *left = n,
                None => state.crashed = true,
            }
        }
        if state.crashed {
            return Err(io::Error::other("the power failed"));
        }
        f(&mut state)
    }
}

#[derive(Debug)]
struct Open {
    disk: Arc<Shared>,
    name: String,
    /// Which disk it was opened on.
    of: u64,
}

impl Open {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        self.disk.operation(|s| if s.changed == self.of { f(s) } else { Err(io::ErrorKind::NotFound.into()) })
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.with(|s| {
            let file = s.files.entry(self.name.clone()).or_default();
            change.apply(&mut file.current);
            file.pending.push(change);
            Ok(())
        })
    }
}

impl StorageBackend for Open {
    fn len(&self) -> io::Result<u64> {
        self.with(|s| Ok(s.files[&self.name].current.len() as u64))
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|s| {
            let at = offset as usize;
            let bytes = s.files[&self.name].current.get(at..at + out.len());
            out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len as usize))
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset as usize, data.to_vec()))
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state.lock().unwrap();
        if state.held.as_ref() == Some(&self.name) {
            state.arrived += 1;
            self.disk.changed.notify_all();
            state = self.disk.changed.wait_while(state, |s| s.held.as_ref() == Some(&self.name)).unwrap();
        }
        drop(state);
        self.with(|s| {
            if let Some(kind) = s.fail_syncs {
                return Err(io::Error::new(kind, "the disk is broken"));
            }
            let file = s.files.entry(self.name.clone()).or_default();
            for change in std::mem::take(&mut file.pending) {
                change.apply(&mut file.durable);
            }
            Ok(())
        })
    }
}
