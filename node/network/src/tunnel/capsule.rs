//! Datagrams on a stream: DATAGRAM capsules (RFC 9297, section 3.5), whose payload is the datagram as it is.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The type of the capsules.
const DATAGRAM: u64 = 0x00;
/// Longest capsule: what UDP can carry. Others are not sent by anybody.
const LONGEST: u64 = 65_507;

/// A capsule that is too long.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong;

/// A datagram as a capsule.
pub(crate) fn encode(datagram: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(datagram.len() + 5);
    out.put_u8(DATAGRAM as u8);
    // Variable-length integers (RFC 9000, section 16); a datagram's length fits four bytes at most.
    match datagram.len() {
        n @ 0..=0x3f => out.put_u8(n as u8),
        n @ 0x40..=0x3fff => out.put_u16(0x4000 | n as u16),
        n => out.put_u32(0x8000_0000 | n as u32),
    }
    out.put_slice(datagram);
    out.freeze()
}

/// Takes capsules apart as their bytes come.
#[derive(Default)]
pub(crate) struct Capsules(BytesMut);

impl Capsules {
    /// Takes bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// The next datagram that is complete. Capsules of other types are passed over, as the RFC wants it.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, TooLong> {
        loop {
            let mut head = &self.0[..];
            let (Some(kind), Some(length)) = (integer(&mut head), integer(&mut head)) else { return Ok(None) };
            if length > LONGEST {
                return Err(TooLong);
            }
            // Bounded by the check above.
            let (skip, length) = (self.0.len() - head.len(), length as usize);
            if head.len() < length {
                return Ok(None);
            }
            self.0.advance(skip);
            let payload = self.0.split_to(length);
            if kind == DATAGRAM {
                return Ok(Some(payload.freeze()));
            }
        }
    }
}

/// A variable-length integer, if it is complete.
fn integer(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1usize << (first >> 6);
    if bytes.len() < length {
        return None;
    }
    let value = bytes[1..length].iter().fold(u64::from(first & 0x3f), |value, b| value << 8 | u64::from(*b));
    bytes.advance(length);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_out_as_they_went_in_however_they_are_cut() {
        let all: Vec<Vec<u8>> =
            [0, 1, 63, 64, 16_383, 16_384, 65_507].map(|n: usize| (0..n).map(|i| i as u8).collect()).into();
        let mut bytes: Vec<u8> = all.iter().flat_map(|d| encode(d).to_vec()).collect();
        // An unknown type in eight bytes, of three bytes.
        bytes.extend([0xc0, 0, 0, 0, 0, 0, 0, 0x17, 3, 1, 2, 3]);
        bytes.extend(encode(b"last"));
        for cut in [1, 7, 1000, bytes.len()] {
            let (mut capsules, mut got) = (Capsules::default(), Vec::new());
            for piece in bytes.chunks(cut) {
                capsules.feed(piece);
                while let Some(datagram) = capsules.next().unwrap() {
                    got.push(datagram.to_vec());
                }
            }
            let mut want = all.clone();
            want.push(b"last".to_vec());
            assert!(got == want, "in pieces of {cut}");
        }
    }

    #[test]
    fn a_capsule_has_a_longest_length() {
        let mut capsules = Capsules::default();
        capsules.feed(&[0, 0x80, 0, 0xff, 0xe4]);
        assert_eq!(capsules.next(), Err(TooLong));
        let mut capsules = Capsules::default();
        capsules.feed(&[0, 0x80, 0, 0xff, 0xe3]);
        assert_eq!(capsules.next(), Ok(None));
    }
}
