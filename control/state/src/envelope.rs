//! What surrounds a stored value on disk: version, flags, CRC32 and revision. The checksum covers the key too, so that a
//! value under the wrong key is found.

use copepod_model::Key;

use crate::CodecError;
use crate::wire::Reader;

const VERSION: u8 = 1;
/// Version, flags, CRC32, revision.
const HEADER: usize = 14;

/// Wraps the body of `key`, last changed at `revision`.
pub fn encode(key: &Key, revision: u64, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + body.len());
    out.extend_from_slice(&[VERSION, 0]);
    out.extend_from_slice(&checksum(key, 0, revision, body).to_le_bytes());
    out.extend_from_slice(&revision.to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// The revision and the body that [`encode`] wrapped.
pub fn decode<'a>(key: &Key, bytes: &'a [u8]) -> Result<(u64, &'a [u8]), CodecError> {
    let mut r = Reader::new(bytes);
    match r.u8()? {
        VERSION => {}
        other => return Err(CodecError::Version(other)),
    }
    let (flags, crc, revision) = (r.u8()?, r.u32()?, r.u64()?);
    let body = r.take(r.remaining())?;
    if checksum(key, flags, revision, body) != crc {
        return Err(CodecError::Checksum);
    }
    // Reserved: a later release may compress. An unknown flag changes what the body means.
    if flags != 0 {
        return Err(CodecError::Malformed("unknown flags"));
    }
    Ok((revision, body))
}

fn checksum(key: &Key, flags: u8, revision: u64, body: &[u8]) -> u32 {
    let mut h = crc32fast::Hasher::new();
    h.update(&[VERSION, flags]);
    h.update(&revision.to_le_bytes());
    for part in [&key.resource, &key.namespace, &key.name] {
        h.update(&(part.len() as u64).to_le_bytes());
        h.update(part.as_bytes());
    }
    h.update(body);
    h.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn values_survive_and_damage_is_found(
            revision in any::<u64>(),
            body in proptest::collection::vec(any::<u8>(), 0..200),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let key = Key::new("pods", "d", "a");
            let mut bytes = encode(&key, revision, &body);
            prop_assert_eq!(decode(&key, &bytes), Ok((revision, body.as_slice())));
            prop_assert_eq!(decode(&Key::new("pods", "d", "b"), &bytes), Err(CodecError::Checksum));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&key, &bytes).is_err());
        }

        #[test]
        fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert!(decode(&Key::new("pods", "d", "a"), &bytes).is_err());
        }
    }
}
