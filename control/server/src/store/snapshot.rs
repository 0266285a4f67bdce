//! A whole state as one stream of bytes: what is saved as a backup, and what a member that is far behind is sent.
//!
//! ```text
//! header   magic[16] format:u32 length:u32 crc:u32 { index:u64 term:u64 revision:u64 objects:u64 members }
//! chunk*   1:u8 length:u32 crc:u32 { (resource:u32 namespace:u32 name:u32 body:u32 revision:u64, the four texts)* }
//! trailer  2:u8 chunks:u64 objects:u64 bytes:u64 sha256[32]
//! ```
//!
//! Numbers are little-endian. A header's checksum covers everything after the magic, a chunk's its number (from 1 on)
//! and its rows, the trailer's digest every byte before it. `members` is a raft record ([`copepod_consensus::record`]).
//! Objects come in key order; Secret values are in it as they are on disk: sealed. The layout of the header up to its
//! length is for ever, so that any release can say that a later one wrote it.

use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use copepod_consensus::ConfState;
use copepod_consensus::record::{seal, unseal};
use copepod_model::{Key, Object};
use copepod_state::Tables;
use ring::digest::{Context, SHA256, SHA256_OUTPUT_LEN};

/// The format that [`write`] writes.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 16] = b"copepod snapshot";
/// Format, length and checksum.
const HEADER_HEAD: usize = 12;
/// Four numbers and no members.
const HEADER_LEAST: usize = 32;
const HEADER_MOST: usize = 1 << 20;
const CHUNK: u8 = 1;
const TRAILER: u8 = 2;
/// A chunk is closed once it has this many bytes.
const CHUNK_BYTES: usize = 1 << 20;
/// A chunk has as many more as its last row, which is below this.
const CHUNK_MOST: usize = 64 << 20;
/// Four lengths and a revision.
const ROW_HEAD: usize = 24;

/// What a snapshot says about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// The raft index up to which it has everything.
    pub index: u64,
    /// The term of the entry there.
    pub term: u64,
    /// The members as of that index.
    pub members: ConfState,
    /// The revision of the last change.
    pub revision: u64,
    /// How many objects there are.
    pub objects: u64,
}

/// Why bytes are not a snapshot that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is something else.
    #[error("it is not a copepod snapshot")]
    Foreign,
    /// A later release wrote it.
    #[error("it was written by a later release (snapshot format {found}, this one knows {})", FORMAT)]
    Newer {
        /// Its format.
        found: u32,
    },
    /// It ends too early.
    #[error("it is cut off")]
    Truncated,
    /// What precedes the first chunk is damaged.
    #[error("its header is damaged: {0}")]
    Header(&'static str),
    /// A chunk is damaged.
    #[error("chunk {number} is damaged: {what}")]
    Chunk {
        /// From 1 on.
        number: u64,
        /// What was found.
        what: &'static str,
    },
    /// It has not what it says it has.
    #[error("its counts differ: {found} {what} instead of {said}")]
    Counts {
        /// Of what.
        what: &'static str,
        /// What it says.
        said: u64,
        /// What there is.
        found: u64,
    },
    /// Each part is whole, and all of it is not what was written.
    #[error("its checksum does not match")]
    Checksum,
    /// It cannot be read.
    #[error(transparent)]
    Io(io::Error),
}

/// Writes a state. `meta` must describe `tables`; anything else is `InvalidInput`. Beyond the tables one chunk is held.
pub fn write(meta: &Meta, tables: &Tables, out: &mut dyn Write) -> io::Result<()> {
    let invalid = |what: String| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    if (meta.revision, meta.objects) != (tables.revision(), tables.len() as u64) {
        return invalid("the snapshot's metadata is of other objects".into());
    }
    let mut out = Output { inner: out, sum: Context::new(&SHA256), bytes: 0 };
    out.put(MAGIC)?;
    let mut header = Vec::new();
    for n in [meta.index, meta.term, meta.revision, meta.objects] {
        header.extend_from_slice(&n.to_le_bytes());
    }
    header.extend_from_slice(&seal(0, &meta.members));
    if header.len() > HEADER_MOST {
        return invalid("there are too many members for a snapshot".into());
    }
    let head = [FORMAT, header.len() as u32].map(u32::to_le_bytes).concat();
    out.put(&head)?;
    out.put(&header_sum(&head, &header).to_le_bytes())?;
    out.put(&header)?;

    let mut chunks = 0u64;
    let mut rows: Vec<u8> = Vec::new();
    let mut objects = tables.all().peekable();
    while let Some(o) = objects.next() {
        let parts = [o.key.resource.as_bytes(), o.key.namespace.as_bytes(), o.key.name.as_bytes(), &o.body[..]];
        let row = ROW_HEAD + parts.iter().map(|p| p.len()).sum::<usize>();
        if row > CHUNK_MOST - CHUNK_BYTES {
            return invalid(format!("object {} is too large for a snapshot", o.key));
        }
        for part in parts {
            rows.extend_from_slice(&(part.len() as u32).to_le_bytes());
        }
        rows.extend_from_slice(&o.revision.to_le_bytes());
        parts.iter().for_each(|p| rows.extend_from_slice(p));
        if rows.len() >= CHUNK_BYTES || objects.peek().is_none() {
            chunks += 1;
            out.put(&[CHUNK])?;
            out.put(&(rows.len() as u32).to_le_bytes())?;
            out.put(&chunk_sum(chunks, &rows).to_le_bytes())?;
            out.put(&rows)?;
            rows.clear();
        }
    }
    let bytes = out.bytes;
    out.put(&[TRAILER])?;
    out.put(&[chunks, meta.objects, bytes].map(u64::to_le_bytes).concat())?;
    let Output { inner, sum, .. } = out;
    inner.write_all(sum.finish().as_ref())?;
    inner.flush()
}

/// Reads and verifies a state. Leaves `input` right behind it. Beyond the tables one chunk is held.
pub fn read(input: &mut dyn Read) -> Result<(Meta, Tables), SnapshotError> {
    let mut tables = Tables::default();
    let meta = scan(input, &mut |key, revision, body| {
        let key = tables.shared_key(&key);
        tables.put(Arc::new(Object::decode(key, revision, Bytes::copy_from_slice(body))));
    })?;
    tables.set_revision(meta.revision);
    Ok((meta, tables))
}

/// Verifies a state without keeping it. Leaves `input` right behind it. One chunk is held.
pub fn verify(input: &mut dyn Read) -> Result<Meta, SnapshotError> {
    scan(input, &mut |_, _, _| {})
}

/// Hands over every object: key, revision and body.
fn scan(input: &mut dyn Read, take: &mut dyn FnMut(Key, u64, &[u8])) -> Result<Meta, SnapshotError> {
    let mut input = Input { inner: input, sum: Context::new(&SHA256), bytes: 0 };
    let meta = input.header()?;
    let mut rows = Rows { newest: meta.revision, last: None, count: 0 };
    let mut chunk = Vec::new();
    let mut chunks = 0u64;
    loop {
        let before = input.bytes;
        match input.array::<1>()?[0] {
            CHUNK => {
                chunks += 1;
                input.chunk(chunks, &mut chunk)?;
                rows.take(&chunk, take).map_err(|what| SnapshotError::Chunk { number: chunks, what })?;
            }
            TRAILER => {
                input.trailer(chunks, rows.count, before)?;
                break;
            }
            _ => return Err(SnapshotError::Chunk { number: chunks + 1, what: "it does not begin as one" }),
        }
    }
    if rows.count != meta.objects {
        return Err(SnapshotError::Counts { what: "objects", said: meta.objects, found: rows.count });
    }
    Ok(meta)
}

fn header_sum(head: &[u8], header: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(head);
    h.update(header);
    h.finalize()
}

fn chunk_sum(number: u64, rows: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&number.to_le_bytes());
    h.update(rows);
    h.finalize()
}

/// What is known of the rows so far.
struct Rows {
    newest: u64,
    last: Option<Key>,
    count: u64,
}

impl Rows {
    /// The rows of a chunk whose checksum is right: only another program could have made them wrong.
    fn take(&mut self, mut rows: &[u8], take: &mut dyn FnMut(Key, u64, &[u8])) -> Result<(), &'static str> {
        let cut = "a row is cut off";
        while !rows.is_empty() {
            let (head, rest) = rows.split_at_checked(ROW_HEAD).ok_or(cut)?;
            let (lengths, revision) = head.split_at(ROW_HEAD - 8);
            let revision = revision.try_into().map(u64::from_le_bytes).map_err(|_| cut)?;
            rows = rest;
            let mut parts = [&[][..]; 4];
            for (part, length) in parts.iter_mut().zip(lengths.chunks_exact(4)) {
                let length = length.try_into().map(u32::from_le_bytes).map_err(|_| cut)?;
                (*part, rows) = rows.split_at_checked(length as usize).ok_or(cut)?;
            }
            let [resource, namespace, name, body] = parts;
            let text = |bytes| std::str::from_utf8(bytes).map_err(|_| "a key is no text");
            let key = Key::new(text(resource)?, text(namespace)?, text(name)?);
            if revision > self.newest {
                return Err("an object is newer than the snapshot");
            }
            if self.last.as_ref().is_some_and(|last| *last >= key) {
                return Err("its objects are not in order");
            }
            self.last = Some(key.clone());
            self.count += 1;
            take(key, revision, body);
        }
        Ok(())
    }
}

struct Output<'a> {
    inner: &'a mut dyn Write,
    sum: Context,
    bytes: u64,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.sum.update(bytes);
        self.bytes += bytes.len() as u64;
        self.inner.write_all(bytes)
    }
}

struct Input<'a> {
    inner: &'a mut dyn Read,
    sum: Context,
    bytes: u64,
}

impl Input<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(failed)?;
        self.sum.update(&bytes);
        self.bytes += N as u64;
        Ok(bytes)
    }

    /// Fills `to` with this many bytes. What is claimed and not there costs no memory.
    fn fill(&mut self, length: usize, to: &mut Vec<u8>) -> Result<(), SnapshotError> {
        to.clear();
        Read::take(&mut *self.inner, length as u64).read_to_end(to).map_err(failed)?;
        if to.len() < length {
            return Err(SnapshotError::Truncated);
        }
        self.sum.update(to);
        self.bytes += length as u64;
        Ok(())
    }

    fn header(&mut self) -> Result<Meta, SnapshotError> {
        let mut magic = Vec::new();
        match self.fill(MAGIC.len(), &mut magic) {
            Err(SnapshotError::Truncated) if !MAGIC.starts_with(&magic) => return Err(SnapshotError::Foreign),
            other => other?,
        }
        if magic != MAGIC {
            return Err(SnapshotError::Foreign);
        }
        let head = self.array::<HEADER_HEAD>()?;
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let (format, length, crc) = (number(0), number(4) as usize, number(8));
        if length > HEADER_MOST {
            return Err(SnapshotError::Header("it is too long"));
        }
        let mut header = Vec::new();
        self.fill(length, &mut header)?;
        if header_sum(&head[..8], &header) != crc {
            return Err(SnapshotError::Header("its checksum does not match"));
        }
        if format > FORMAT {
            return Err(SnapshotError::Newer { found: format });
        }
        if format == 0 || length < HEADER_LEAST {
            return Err(SnapshotError::Header("it makes no sense"));
        }
        let (numbers, members) = header.split_at(HEADER_LEAST);
        let number = |i: usize| numbers[i * 8..].first_chunk().copied().map(u64::from_le_bytes).unwrap_or_default();
        let members = unseal(0, members).map_err(|_| SnapshotError::Header("its members make no sense"))?;
        Ok(Meta { index: number(0), term: number(1), revision: number(2), objects: number(3), members })
    }

    fn chunk(&mut self, number: u64, rows: &mut Vec<u8>) -> Result<(), SnapshotError> {
        let damaged = |what| Err(SnapshotError::Chunk { number, what });
        let length = u32::from_le_bytes(self.array()?) as usize;
        let crc = u32::from_le_bytes(self.array()?);
        if length == 0 || length > CHUNK_MOST {
            return damaged("its length is impossible");
        }
        self.fill(length, rows)?;
        if chunk_sum(number, rows) == crc { Ok(()) } else { damaged("its checksum does not match") }
    }

    /// What follows the tag, compared with what was read; `bytes` is how many there were before the tag.
    fn trailer(&mut self, chunks: u64, objects: u64, bytes: u64) -> Result<(), SnapshotError> {
        for (what, found) in [("chunks", chunks), ("objects", objects), ("bytes", bytes)] {
            let said = u64::from_le_bytes(self.array()?);
            if said != found {
                return Err(SnapshotError::Counts { what, said, found });
            }
        }
        let sum = self.sum.clone().finish();
        let said = self.array::<SHA256_OUTPUT_LEN>()?;
        if sum.as_ref() == said { Ok(()) } else { Err(SnapshotError::Checksum) }
    }
}

fn failed(e: io::Error) -> SnapshotError {
    if e.kind() == io::ErrorKind::UnexpectedEof { SnapshotError::Truncated } else { SnapshotError::Io(e) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state(rows: Vec<(String, String, Vec<u8>)>, revision: u64) -> (Meta, Tables) {
        let mut tables = Tables::default();
        for (i, (namespace, name, body)) in rows.into_iter().enumerate() {
            let key = Key::new(if i % 2 == 0 { "pods" } else { "_ips" }, namespace, name);
            tables.put(Arc::new(Object::decode(key, (i as u64).min(revision), body.into())));
        }
        tables.set_revision(revision);
        let members = ConfState { voters: vec![1, 2], learners: vec![7], ..ConfState::default() };
        let objects = tables.len() as u64;
        (Meta { index: 12, term: 3, members, revision, objects }, tables)
    }

    fn written(meta: &Meta, tables: &Tables) -> Vec<u8> {
        let mut out = Vec::new();
        write(meta, tables, &mut out).unwrap();
        out
    }

    fn rows(tables: &Tables) -> Vec<(Key, u64, Bytes)> {
        tables.all().map(|o| (o.key.clone(), o.revision, o.body.clone())).collect()
    }

    fn some() -> impl Strategy<Value = (Meta, Tables)> {
        let row = ("[a-z]{0,4}", "\\PC{1,8}", proptest::collection::vec(any::<u8>(), 0..200));
        (proptest::collection::vec(row, 0..12), any::<u64>()).prop_map(|(rows, revision)| state(rows, revision))
    }

    proptest! {
        #[test]
        fn a_state_survives((meta, tables) in some(), behind in any::<u8>()) {
            let mut bytes = written(&meta, &tables);
            bytes.push(behind);
            let mut input = bytes.as_slice();
            let (got, read) = read(&mut input).unwrap();
            prop_assert_eq!(&got, &meta);
            prop_assert_eq!(read.revision(), tables.revision());
            prop_assert_eq!(rows(&read), rows(&tables));
            prop_assert_eq!(input, &[behind][..]);
            prop_assert_eq!(verify(&mut bytes.as_slice()).unwrap(), got);
        }

        #[test]
        fn what_is_cut_off_is_an_error((meta, tables) in some(), at in any::<prop::sample::Index>()) {
            let bytes = written(&meta, &tables);
            let result = read(&mut &bytes[..at.index(bytes.len())]);
            prop_assert!(matches!(result, Err(SnapshotError::Truncated)), "{result:?}");
        }

        #[test]
        fn a_flipped_bit_is_an_error((meta, tables) in some(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = written(&meta, &tables);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(read(&mut bytes.as_slice()).is_err());
        }

        #[test]
        fn garbage_behind_the_magic_does_not_panic(garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&MAGIC[..], &garbage].concat();
            prop_assert!(read(&mut bytes.as_slice()).is_err());
        }
    }

    /// Three objects of 700 kB: the second one closes a chunk.
    fn large() -> (Meta, Tables) {
        state((0..3).map(|i| ("d".into(), format!("n{i}"), vec![i; 700_000])).collect(), 9)
    }

    #[test]
    fn a_large_state_comes_in_chunks_and_a_damaged_one_is_named() {
        let (meta, tables) = large();
        let mut bytes = written(&meta, &tables);
        assert_eq!(rows(&read(&mut bytes.as_slice()).unwrap().1), rows(&tables));
        let first = MAGIC.len() + HEADER_HEAD + HEADER_LEAST + seal(0, &meta.members).len();
        let said = u32::from_le_bytes(bytes[first + 1..first + 5].try_into().unwrap()) as usize;
        assert!((CHUNK_BYTES..2 * CHUNK_BYTES).contains(&said), "{said}");
        let second = first + 9 + said;
        assert_eq!(bytes[second], CHUNK);
        bytes[second + 100] ^= 1;
        let error = read(&mut bytes.as_slice()).unwrap_err().to_string();
        assert_eq!(error, "chunk 2 is damaged: its checksum does not match");
    }

    #[test]
    fn chunks_in_another_order_are_an_error() {
        let (meta, tables) = large();
        let bytes = written(&meta, &tables);
        let first = MAGIC.len() + HEADER_HEAD + HEADER_LEAST + seal(0, &meta.members).len();
        let said = u32::from_le_bytes(bytes[first + 1..first + 5].try_into().unwrap()) as usize;
        let (second, end) = (first + 9 + said, bytes.len() - 25 - SHA256_OUTPUT_LEN);
        let swapped = [&bytes[..first], &bytes[second..end], &bytes[first..second], &bytes[end..]].concat();
        assert!(matches!(read(&mut swapped.as_slice()), Err(SnapshotError::Chunk { number: 1, .. })));
        let missing = [&bytes[..second], &bytes[end..]].concat();
        let result = read(&mut missing.as_slice());
        assert!(matches!(result, Err(SnapshotError::Counts { what: "chunks", said: 2, found: 1 })), "{result:?}");
    }

    #[test]
    fn something_else_and_a_later_format_are_named() {
        for foreign in [&b"SQLite format 3\0 and more"[..], b"x"] {
            assert!(matches!(read(&mut &*foreign), Err(SnapshotError::Foreign)));
        }
        let (meta, tables) = state(vec![], 1);
        let mut bytes = written(&meta, &tables);
        let mut head = [2u32.to_le_bytes(), bytes[20..24].try_into().unwrap()].concat();
        let header = &bytes[MAGIC.len() + HEADER_HEAD..bytes.len() - 25 - SHA256_OUTPUT_LEN];
        head.extend_from_slice(&header_sum(&head, header).to_le_bytes());
        bytes[MAGIC.len()..MAGIC.len() + HEADER_HEAD].copy_from_slice(&head);
        assert!(matches!(read(&mut bytes.as_slice()), Err(SnapshotError::Newer { found: 2 })));
    }

    #[test]
    fn metadata_of_other_objects_is_refused() {
        let (meta, tables) = state(vec![], 1);
        let wrong = Meta { objects: 1, ..meta };
        assert_eq!(write(&wrong, &tables, &mut io::sink()).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
