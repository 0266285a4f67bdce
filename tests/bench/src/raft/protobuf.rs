//! As much of protobuf as etcd's messages take here: varints and bytes (https://protobuf.dev/programming-guides/encoding).

use hyper::body::Bytes;

/// A field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Wire type 0.
    Number(u64),
    /// Wire type 2.
    Bytes(Bytes),
}

/// Why a message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("malformed protobuf")
    }
}

impl std::error::Error for Malformed {}

/// Appends a field of bytes.
pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, (u64::from(field) << 3) | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field that is a number or a bool.
pub fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(out, u64::from(field) << 3);
    put_varint(out, number);
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// The fields of a message by number, in the order in which they come.
pub fn fields(message: &Bytes) -> Result<Vec<(u64, Value)>, Malformed> {
    let (mut rest, mut out) = (message.clone(), Vec::new());
    while !rest.is_empty() {
        let tag = varint(&mut rest)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut rest)?),
            1 => Value::Number(fixed::<8>(&mut rest)?),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).map_err(|_| Malformed)?;
                if length > rest.len() {
                    return Err(Malformed);
                }
                Value::Bytes(rest.split_to(length))
            }
            5 => Value::Number(fixed::<4>(&mut rest)?),
            _ => return Err(Malformed),
        };
        out.push((tag >> 3, value));
    }
    Ok(out)
}

fn varint(rest: &mut Bytes) -> Result<u64, Malformed> {
    let mut number = 0;
    for (at, byte) in rest.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let _ = rest.split_to(at + 1);
            return Ok(number);
        }
    }
    Err(Malformed)
}

fn fixed<const N: usize>(rest: &mut Bytes) -> Result<u64, Malformed> {
    if rest.len() < N {
        return Err(Malformed);
    }
    Ok(rest.split_to(N).iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
}

/// The last number of this field, 0 if there is none.
pub fn number(fields: &[(u64, Value)], field: u64) -> u64 {
    let found = fields.iter().rev().find(|(n, _)| *n == field);
    found.map_or(0, |(_, v)| if let Value::Number(n) = v { *n } else { 0 })
}

/// The last bytes of this field.
pub fn bytes(fields: &[(u64, Value)], field: u64) -> Option<Bytes> {
    let found = fields.iter().rev().find(|(n, _)| *n == field);
    found.and_then(|(_, v)| if let Value::Bytes(b) = v { Some(b.clone()) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut out = Vec::new();
        put_bytes(&mut out, 2, &[7; 300]);
        put_number(&mut out, 16, u64::MAX);
        assert_eq!(out[..3], [0x12, 0xac, 0x02]);
        assert_eq!(out[303..306], [0x80, 0x01, 0xff]);
        let read = fields(&out.into()).unwrap();
        assert_eq!(read, [(2, Value::Bytes(vec![7; 300].into())), (16, Value::Number(u64::MAX))]);
        assert_eq!((number(&read, 16), number(&read, 3)), (u64::MAX, 0));
        assert_eq!(bytes(&read, 2).map(|b| b.len()), Some(300));
    }

    #[test]
    fn fixed_numbers_are_little_endian() {
        let read = fields(&Bytes::from_static(&[0x0d, 1, 2, 0, 0, 0x11, 3, 0, 0, 0, 0, 0, 0, 1])).unwrap();
        assert_eq!(read, [(1, Value::Number(0x201)), (2, Value::Number(0x0100_0000_0000_0003))]);
    }

    #[test]
    fn what_breaks_off_is_malformed() {
        for bad in [&[0x80][..], &[0x0a, 5, 1], &[0x08], &[0x0b, 0], &[0x0d, 1, 2], &[0xff; 11]] {
            assert_eq!(fields(&Bytes::copy_from_slice(bad)), Err(Malformed), "{bad:?}");
        }
    }
}
