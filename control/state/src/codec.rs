//! The binary form of a [`Txn`], as the log carries it: a format version, a CRC32 of everything after it, and the parts
//! in order. The format is for ever: a later one gets another version byte, and this one stays readable.

use bytes::Bytes;
use copepod_model::Key;

use crate::wire::{Reader, put_bytes, put_varint, unzigzag, zigzag};
use crate::{Op, Require, Txn};

/// The version that [`encode`] writes: one that the release before this one reads already, since servers of both are in one
/// group while they are upgraded, and either may lead.
pub const WRITES: u8 = 1;
/// The latest version that [`decode`] reads, which has all before it.
pub const READS: u8 = 1;
/// Version byte and CRC32.
const HEADER: usize = 5;

/// Why bytes are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Truncated,
    /// Written by a later release.
    #[error("format version {0} is not known to this release")]
    Version(u8),
    /// The checksum does not match: the bytes are damaged.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum matches, the contents make no sense.
    #[error("{0}")]
    Malformed(&'static str),
}

/// Encodes a transaction.
pub fn encode(txn: &Txn) -> Vec<u8> {
    let bodies: usize = txn.ops.iter().map(|o| if let Op::Put { body, .. } = o { body.len() } else { 0 }).sum();
    let mut out = Vec::with_capacity(HEADER + 64 + bodies + 96 * (txn.ops.len() + txn.require.len()));
    out.extend_from_slice(&[WRITES, 0, 0, 0, 0]);
    match txn.fence {
        None => out.push(0),
        Some(term) => {
            out.push(1);
            put_varint(&mut out, term);
        }
    }
    put_varint(&mut out, txn.require.len() as u64);
    for r in &txn.require {
        put_require(&mut out, r);
    }
    put_varint(&mut out, txn.ops.len() as u64);
    for op in &txn.ops {
        put_op(&mut out, op);
    }
    let crc = crc32fast::hash(&out[HEADER..]);
    out[1..HEADER].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes what [`encode`] made. Anything else is an error, never a panic.
pub fn decode(bytes: &[u8]) -> Result<Txn, CodecError> {
    let mut r = Reader::new(bytes);
    match r.u8()? {
        1..=READS => {}
        other => return Err(CodecError::Version(other)),
    }
    let crc = r.u32()?;
    if crc32fast::hash(&bytes[HEADER..]) != crc {
        return Err(CodecError::Checksum);
    }
    let fence = if flag(&mut r)? { Some(r.varint()?) } else { None };
    let n = r.varint()?;
    // A count says nothing about memory: each item takes at least a byte of what is there.
    let mut require = Vec::with_capacity(r.remaining().min(n as usize).min(1024));
    for _ in 0..n {
        require.push(get_require(&mut r)?);
    }
    let n = r.varint()?;
    let mut ops = Vec::with_capacity(r.remaining().min(n as usize).min(1024));
    for _ in 0..n {
        ops.push(get_op(&mut r)?);
    }
    if r.remaining() > 0 {
        return Err(CodecError::Malformed("bytes after the end"));
    }
    Ok(Txn { fence, require, ops })
}

fn put_key(out: &mut Vec<u8>, key: &Key) {
    for part in [&key.resource, &key.namespace, &key.name] {
        put_bytes(out, part.as_bytes());
    }
}

fn get_key(r: &mut Reader<'_>) -> Result<Key, CodecError> {
    Ok(Key::new(r.text()?, r.text()?, r.text()?))
}

fn flag(r: &mut Reader<'_>) -> Result<bool, CodecError> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(CodecError::Malformed("a flag is neither 0 nor 1")),
    }
}

fn put_require(out: &mut Vec<u8>, require: &Require) {
    match require {
        Require::Absent(key) => {
            out.push(0);
            put_key(out, key);
        }
        Require::At(key, revision) => {
            out.push(1);
            put_key(out, key);
            put_varint(out, *revision);
        }
        Require::Exists(key) => {
            out.push(2);
            put_key(out, key);
        }
        Require::PrefixEmpty { resource, namespace } => {
            out.push(3);
            put_bytes(out, resource.as_bytes());
            out.push(u8::from(namespace.is_some()));
            if let Some(ns) = namespace {
                put_bytes(out, ns.as_bytes());
            }
        }
    }
}

fn get_require(r: &mut Reader<'_>) -> Result<Require, CodecError> {
    Ok(match r.u8()? {
        0 => Require::Absent(get_key(r)?),
        1 => Require::At(get_key(r)?, r.varint()?),
        2 => Require::Exists(get_key(r)?),
        3 => {
            let resource = r.text()?.to_string();
            let namespace = if flag(r)? { Some(r.text()?.to_string()) } else { None };
            Require::PrefixEmpty { resource, namespace }
        }
        _ => return Err(CodecError::Malformed("unknown precondition")),
    })
}

fn put_op(out: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Put { key, body, revised } => {
            out.push(0);
            put_key(out, key);
            out.push(u8::from(*revised));
            put_bytes(out, body);
        }
        Op::Delete { key } => {
            out.push(1);
            put_key(out, key);
        }
        Op::CheckedAdd { key, delta, max } => {
            out.push(2);
            put_key(out, key);
            put_varint(out, zigzag(*delta));
            put_varint(out, zigzag(*max));
        }
    }
}

fn get_op(r: &mut Reader<'_>) -> Result<Op, CodecError> {
    Ok(match r.u8()? {
        0 => {
            let key = get_key(r)?;
            let revised = flag(r)?;
            Op::Put { key, body: Bytes::copy_from_slice(r.bytes()?), revised }
        }
        1 => Op::Delete { key: get_key(r)? },
        2 => Op::CheckedAdd { key: get_key(r)?, delta: unzigzag(r.varint()?), max: unzigzag(r.varint()?) },
        _ => return Err(CodecError::Malformed("unknown operation")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Key> {
        ("[a-z.]{0,12}", "[a-z-]{0,8}", "\\PC{0,12}").prop_map(|(r, ns, n)| Key::new(r, ns, n))
    }

    fn txn() -> impl Strategy<Value = Txn> {
        let require = prop_oneof![
            key().prop_map(Require::Absent),
            (key(), any::<u64>()).prop_map(|(k, r)| Require::At(k, r)),
            key().prop_map(Require::Exists),
            ("[a-z.]{0,9}", proptest::option::of("[a-z]{0,5}"))
                .prop_map(|(resource, namespace)| Require::PrefixEmpty { resource, namespace }),
        ];
        let op = prop_oneof![
            (key(), proptest::collection::vec(any::<u8>(), 0..300), any::<bool>())
                .prop_map(|(key, body, revised)| Op::Put { key, body: body.into(), revised }),
            key().prop_map(|key| Op::Delete { key }),
            (key(), any::<i64>(), any::<i64>()).prop_map(|(key, delta, max)| Op::CheckedAdd { key, delta, max }),
        ];
        (
            proptest::option::of(any::<u64>()),
            proptest::collection::vec(require, 0..6),
            proptest::collection::vec(op, 0..6),
        )
            .prop_map(|(fence, require, ops)| Txn { fence, require, ops })
    }

    /// Gives garbage a correct header, so that it gets past the checksum.
    fn sealed(mut garbage: Vec<u8>) -> Vec<u8> {
        let mut out = vec![WRITES];
        out.extend(crc32fast::hash(&garbage).to_le_bytes());
        out.append(&mut garbage);
        out
    }

    #[test]
    fn what_is_written_is_read_and_what_comes_later_is_refused() {
        let mut bytes = encode(&Txn::default());
        assert!(bytes[0] == WRITES && (1..=READS).contains(&WRITES));
        for version in [0, READS + 1, u8::MAX] {
            bytes[0] = version;
            assert_eq!(decode(&bytes), Err(CodecError::Version(version)));
        }
    }

    proptest! {
        #[test]
        fn every_transaction_survives(t in txn()) {
            prop_assert_eq!(decode(&encode(&t)), Ok(t));
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn garbage_with_a_good_checksum_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(t) = decode(&sealed(bytes)) {
                prop_assert_eq!(decode(&encode(&t)), Ok(t));
            }
        }

        #[test]
        fn one_flipped_bit_is_found(t in txn(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = encode(&t);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }

        #[test]
        fn a_shorter_one_is_an_error(t in txn(), at in any::<prop::sample::Index>()) {
            let bytes = encode(&t);
            prop_assert!(decode(&bytes[..at.index(bytes.len())]).is_err());
        }
    }

    #[test]
    fn a_huge_count_allocates_nothing() {
        let mut body = vec![0];
        put_varint(&mut body, u64::MAX);
        assert_eq!(decode(&sealed(body)), Err(CodecError::Truncated));
    }

    #[test]
    fn a_later_version_is_named() {
        assert_eq!(decode(&[2, 0, 0, 0, 0]), Err(CodecError::Version(2)));
    }
}
