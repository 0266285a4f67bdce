//! How raft's own values lie on disk: a format version, a CRC32, and their protobuf form.

/// What can be recorded: raft's own protobuf messages.
pub use protobuf::Message as Record;

const VERSION: u8 = 1;
const HEADER: usize = 5;

/// Why a record cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It ends too early.
    #[error("the record ends too early")]
    Truncated,
    /// Written by a later release.
    #[error("record version {0} is not known to this release")]
    Version(u8),
    /// The checksum does not match: the record is damaged.
    #[error("the checksum does not match")]
    Checksum,
    /// The checksum matches, the contents make no sense.
    #[error("the record is not the protobuf message that it should be")]
    Malformed,
}

/// Encodes `value` (an [`crate::Entry`], [`crate::HardState`] or [`crate::ConfState`]) for the key `id`, which the
/// checksum covers, so that a record in the wrong place is found.
pub fn seal<M: Record>(id: u64, value: &M) -> Vec<u8> {
    // Encoding prost messages into a Vec cannot fail.
    let body = value.write_to_bytes().unwrap_or_default();
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.push(VERSION);
    out.extend_from_slice(&checksum(id, &body).to_le_bytes());
    out.extend_from_slice(&body);
    out
}

/// Decodes what [`seal`] made for the key `id`.
pub fn unseal<M: Record>(id: u64, bytes: &[u8]) -> Result<M, RecordError> {
    let (header, body) = bytes.split_at_checked(HEADER).ok_or(RecordError::Truncated)?;
    if header[0] != VERSION {
        return Err(RecordError::Version(header[0]));
    }
    if header[1..] != checksum(id, body).to_le_bytes() {
        return Err(RecordError::Checksum);
    }
    let mut value = M::new();
    value.merge_from_bytes(body).map_err(|_| RecordError::Malformed)?;
    Ok(value)
}

fn checksum(id: u64, body: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&[VERSION]);
    h.update(&id.to_le_bytes());
    h.update(body);
    h.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Entry;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_survive_and_damage_is_found(
            index in any::<u64>(),
            term in any::<u64>(),
            data in proptest::collection::vec(any::<u8>(), 0..100),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let entry = Entry { index, term, data, ..Entry::default() };
            let mut bytes = seal(index, &entry);
            prop_assert_eq!(unseal::<Entry>(index, &bytes), Ok(entry));
            prop_assert_eq!(unseal::<Entry>(index ^ 1, &bytes), Err(RecordError::Checksum));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(unseal::<Entry>(index, &bytes).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(unseal::<Entry>(1, &bytes).is_err());
        }
    }
}
