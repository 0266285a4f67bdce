//! The wire format of protobuf.

use super::DecodeError;

const TRUNCATED: DecodeError = DecodeError::Protobuf("unexpected EOF");
const WRONG: DecodeError = DecodeError::Protobuf("proto: wrong wireType");

/// Reads fields from a message.
pub(super) struct Reader<'a>(pub &'a [u8]);

/// The value of a field as it stands in the message.
#[derive(Clone, Copy)]
pub(super) enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Reader<'a> {
    /// The next field's number and value.
    pub fn next(&mut self) -> Result<Option<(u32, Raw<'a>)>, DecodeError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let tag = u32::try_from(key >> 3).ok().filter(|t| *t > 0).ok_or(DecodeError::Protobuf("proto: illegal tag"))?;
        let value = match key & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => {
                let (head, rest) = self.0.split_first_chunk::<8>().ok_or(TRUNCATED)?;
                self.0 = rest;
                Raw::Fixed64(u64::from_le_bytes(*head))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| TRUNCATED)?;
                let (head, rest) = self.0.split_at_checked(length).ok_or(TRUNCATED)?;
                self.0 = rest;
                Raw::Bytes(head)
            }
            5 => {
                self.0 = self.0.get(4..).ok_or(TRUNCATED)?;
                Raw::Fixed32
            }
            // Groups are not used by Kubernetes.
            _ => return Err(DecodeError::Protobuf("proto: illegal wireType")),
        };
        Ok(Some((tag, value)))
    }

    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (i, byte) in self.0.iter().enumerate().take(10) {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < 10 { TRUNCATED } else { DecodeError::Protobuf("proto: integer overflow") })
    }
}

impl<'a> Raw<'a> {
    pub fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Raw::Bytes(b) => Ok(b),
            _ => Err(WRONG),
        }
    }
    pub fn varint(self) -> Result<u64, DecodeError> {
        match self {
            Raw::Varint(n) => Ok(n),
            _ => Err(WRONG),
        }
    }
    pub fn double(self) -> Result<f64, DecodeError> {
        match self {
            Raw::Fixed64(n) => Ok(f64::from_bits(n)),
            _ => Err(WRONG),
        }
    }
}

pub(in crate::schema) fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(in crate::schema) fn varint_field(out: &mut Vec<u8>, tag: u32, n: u64) {
    varint(out, u64::from(tag) << 3);
    varint(out, n);
}

pub(in crate::schema) fn double_field(out: &mut Vec<u8>, tag: u32, n: f64) {
    varint(out, u64::from(tag) << 3 | 1);
    out.extend_from_slice(&n.to_bits().to_le_bytes());
}

pub(in crate::schema) fn bytes_field(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    varint(out, u64::from(tag) << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(in crate::schema) fn text_field(out: &mut Vec<u8>, tag: u32, text: &str) {
    bytes_field(out, tag, text.as_bytes());
}

/// Writes a nested message in place: one byte is kept for its length, and the message moves if that needs more.
pub(in crate::schema) fn nested<E>(
    out: &mut Vec<u8>,
    tag: u32,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    varint(out, u64::from(tag) << 3 | 2);
    let at = out.len();
    out.push(0);
    write(out)?;
    let length = out.len() - at - 1;
    if length < 0x80 {
        out[at] = length as u8;
        return Ok(());
    }
    let mut prefix = Vec::with_capacity(5);
    varint(&mut prefix, length as u64);
    out.splice(at..at + 1, prefix);
    Ok(())
}
