//! What stands between a database and its bytes: it counts the syncs, and keeps a second copy of redb's header.
//!
//! redb commits with one sync: its header names two states, and where the newer one is not whole the older one is taken,
//! since a power failure leaves just that of a commit that nobody was told of. A damaged bit in the header, or in a page of
//! the last commit, looks the same, and an acknowledged write would be gone without a word. So a checked copy of the header
//! lies beside it in the first page, of which redb uses 320 bytes: both are written at once, a damaged one is mended by the
//! other. The copy also says which commit is known to be durable, and a database that would go back behind that one is
//! refused. (What a power failure leaves may know it of the commit before only: the note follows the sync, and has none of
//! its own, which would cost each commit as much again.) Files without the copy get it with their next commit.

use std::io;
use std::ops::{Bound, Range};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend};

/// Of redb's file format: its header, the byte in it whose lowest bit says which slot is valid, the slots' first
/// transaction number and how far apart they are.
const HEADER: usize = 320;
const GOD_BYTE: usize = 9;
const TRANSACTION: usize = 64 + 104;
const SLOT: usize = 128;
const PAGE: u64 = 4096;
/// Where the copy is: in a sector of its own.
const COPY: usize = 1024;
const MAGIC: [u8; 8] = *b"copephd1";
const RECORD: usize = MAGIC.len() + HEADER + 8 + 4;

type Header = [u8; HEADER];

/// What the copy says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    header: Header,
    /// The last transaction that is known to be durable.
    durable: u64,
}

impl Record {
    fn encode(&self) -> [u8; RECORD] {
        let mut out = [0; RECORD];
        out[..8].copy_from_slice(&MAGIC);
        out[8..8 + HEADER].copy_from_slice(&self.header);
        out[8 + HEADER..RECORD - 4].copy_from_slice(&self.durable.to_le_bytes());
        let sum = crc32fast::hash(&out[..RECORD - 4]);
        out[RECORD - 4..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// None if it is none, or damaged.
    fn decode(bytes: &[u8; RECORD]) -> Option<Record> {
        let (body, sum) = bytes.split_at(RECORD - 4);
        if body[..8] != MAGIC || sum != crc32fast::hash(body).to_le_bytes() {
            return None;
        }
        let header = body[8..8 + HEADER].try_into().ok()?;
        Some(Record { header, durable: u64::from_le_bytes(body[8 + HEADER..].try_into().ok()?) })
    }
}

/// The transaction that a header says is the last.
fn transaction(header: &Header) -> u64 {
    let at = TRANSACTION + SLOT * usize::from(header[GOD_BYTE] & 1);
    u64::from_le_bytes(std::array::from_fn(|i| header[at + i]))
}

/// A database's bytes. Made by [`Guard::open`] for each opening.
#[derive(Debug)]
pub(super) struct Guard {
    inner: Box<dyn StorageBackend>,
    syncs: Arc<AtomicU64>,
    /// redb has looked at its last commit. Before, it makes one durable that it may leave again.
    opened: Arc<AtomicBool>,
    /// As it was written last; none before the first header.
    record: Mutex<Option<Record>>,
}

impl Guard {
    /// Mends the header, or its copy. `syncs` counts what is made durable: how many writes share one sync is what group
    /// commit is about.
    pub(super) fn open(inner: Box<dyn StorageBackend>, syncs: Arc<AtomicU64>) -> io::Result<Guard> {
        let mut record = None;
        if inner.len()? >= PAGE {
            let mut bytes = [0; COPY + RECORD];
            inner.read(0, &mut bytes)?;
            record = Record::decode(&std::array::from_fn(|i| bytes[COPY + i]));
            // Where both are whole and differ, a power failure has kept one of two writes. The copy is as good: if it is
            // the older one, nobody was told of the newer, and if it is the newer one, redb looks whether its pages are there.
            if let Some(record) = &record
                && bytes[..HEADER] != record.header
            {
                inner.write(0, &record.header)?;
                inner.sync_data()?;
            }
        }
        Ok(Guard { inner, syncs, opened: Arc::default(), record: Mutex::new(record) })
    }

    /// Opens the database, or makes a new one.
    pub(super) fn database(self) -> Result<Database, DatabaseError> {
        let opened = self.opened.clone();
        let db = Builder::new().set_cache_size(8 << 20).create_with_backend(self)?;
        opened.store(true, Ordering::Relaxed);
        Ok(db)
    }

    /// Writes a header and its copy at once.
    fn write_header(&self, header: Header) -> io::Result<()> {
        let mut last = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        let durable = last.as_ref().map_or(0, |r| r.durable);
        if transaction(&header) < durable {
            let what = format!("commit {durable} was acknowledged and is damaged");
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        let record = Record { header, durable };
        let mut bytes = [0; COPY + RECORD];
        bytes[..HEADER].copy_from_slice(&header);
        bytes[COPY..].copy_from_slice(&record.encode());
        self.inner.write(0, &bytes)?;
        *last = Some(record);
        Ok(())
    }
}

fn overlaps(offset: u64, len: usize, range: Range<u64>) -> bool {
    offset < range.end && range.start < offset + len as u64
}

impl StorageBackend for Guard {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        let at = |r: &Option<Record>| r.as_ref().map(|r| transaction(&r.header));
        let before = at(&self.record.lock().unwrap_or_else(PoisonError::into_inner));
        self.inner.sync_data()?;
        let mut last = self.record.lock().unwrap_or_else(PoisonError::into_inner);
        if self.opened.load(Ordering::Relaxed)
            && let Some(record) = last.as_mut()
            && let Some(durable) = before
            && record.durable < durable
        {
            record.durable = durable;
            self.inner.write(COPY as u64, &record.encode())?;
        }
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match Header::try_from(data) {
            Ok(header) if offset == 0 => self.write_header(header),
            // Not redb as it is known here: no copy is better than one that is not true.
            _ if overlaps(offset, data.len(), 0..PAGE) => {
                *self.record.lock().unwrap_or_else(PoisonError::into_inner) = None;
                self.inner.write(COPY as u64, &[0; RECORD])?;
                self.inner.write(offset, data)
            }
            _ => self.inner.write(offset, data),
        }
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Backends as _;
    use crate::store::tests::disk::Disk;

    const FILE: &str = "f";

    fn open(disk: &Disk) -> Guard {
        Guard::open(disk.open(FILE).unwrap(), Arc::default()).unwrap()
    }

    /// A header whose valid slot has this transaction.
    fn header(transaction: u64) -> Header {
        let mut out = [7; HEADER];
        out[GOD_BYTE] = (transaction % 2) as u8;
        let at = TRANSACTION + SLOT * (transaction % 2) as usize;
        out[at..at + 8].copy_from_slice(&transaction.to_le_bytes());
        out
    }

    fn found(guard: &Guard) -> Header {
        let mut out = [0; HEADER];
        guard.read(0, &mut out).unwrap();
        out
    }

    #[test]
    fn a_header_and_its_copy_mend_each_other() {
        let disk = Disk::default();
        let guard = open(&disk);
        guard.set_len(2 * PAGE).unwrap();
        guard.write(0, &header(4)).unwrap();
        guard.sync_data().unwrap();
        let good = disk.contents(FILE);
        for at in [0, GOD_BYTE, TRANSACTION, HEADER - 1, COPY, COPY + 100, COPY + RECORD - 1] {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            disk.put(FILE, bytes);
            let guard = open(&disk);
            assert_eq!(found(&guard), header(4), "{at}");
            guard.write(0, &header(5)).unwrap();
            assert_eq!(found(&open(&disk)), header(5));
        }
        // A file of before has none.
        let mut bytes = good.clone();
        bytes[COPY..COPY + RECORD].fill(0);
        disk.put(FILE, bytes);
        assert_eq!(found(&open(&disk)), header(4));
    }

    #[test]
    fn what_is_durable_is_never_left_for_an_older_state() {
        let disk = Disk::default();
        let guard = open(&disk);
        guard.set_len(2 * PAGE).unwrap();
        guard.write(0, &header(5)).unwrap();
        guard.sync_data().unwrap();
        // A repair finds 5 wanting.
        guard.write(0, &header(4)).unwrap();
        guard.opened.store(true, Ordering::Relaxed);
        guard.sync_data().unwrap();
        guard.write(0, &header(5)).unwrap();
        // Nobody was told of 5.
        guard.write(0, &header(4)).unwrap();
        assert_eq!(guard.write(0, &header(3)).unwrap_err().kind(), io::ErrorKind::InvalidData);
        // The next opening knows it, too.
        let error = open(&disk).write(0, &header(3)).unwrap_err();
        assert_eq!(error.to_string(), "commit 4 was acknowledged and is damaged");
        assert_eq!(found(&open(&disk)), header(4));
    }

    #[test]
    fn other_writes_to_the_first_page_leave_no_copy_that_is_not_true() {
        let disk = Disk::default();
        let guard = open(&disk);
        guard.set_len(2 * PAGE).unwrap();
        guard.write(0, &header(4)).unwrap();
        guard.write(100, &[1; 8]).unwrap();
        let now = found(&guard);
        assert_ne!(now, header(4));
        assert_eq!(found(&open(&disk)), now);
        guard.write(PAGE, &[1; 8]).unwrap();
    }
}
