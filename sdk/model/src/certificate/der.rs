//! DER (X.690), as much of it as a certificate takes.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const NULL: u8 = 0x05;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;

/// A primitive of the context's own meaning, `[n] IMPLICIT`.
pub(super) const fn context(n: u8) -> u8 {
    0x80 | n
}

/// One that holds others, `[n] EXPLICIT`.
pub(super) const fn explicit(n: u8) -> u8 {
    0xa0 | n
}

/// Tag, length, content.
pub(super) fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..=127 => out.push(n as u8),
        n => {
            let bytes = n.to_be_bytes();
            let significant = &bytes[n.leading_zeros() as usize / 8..];
            out.push(0x80 | significant.len() as u8);
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

/// A SEQUENCE of what is encoded already.
pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    tlv(SEQUENCE, &parts.concat())
}

/// An INTEGER that is not negative, from its bytes, the most significant first.
pub(super) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let mut content = bytes[zeros..].to_vec();
    if content.first().is_none_or(|b| b & 0x80 != 0) {
        content.insert(0, 0);
    }
    tlv(INTEGER, &content)
}

/// A BIT STRING of named bits, the first one the most significant: without the zeros at its end.
pub(super) fn named_bits(bits: u16) -> Vec<u8> {
    let used = u16::BITS - bits.trailing_zeros().min(u16::BITS);
    let bytes = used.div_ceil(8);
    let mut content = vec![(bytes * 8 - used) as u8];
    content.extend_from_slice(&bits.to_be_bytes()[..bytes as usize]);
    tlv(BIT_STRING, &content)
}

/// A BIT STRING of whole bytes.
pub(super) fn bytes(content: &[u8]) -> Vec<u8> {
    tlv(BIT_STRING, &[&[0], content].concat())
}

/// An OBJECT IDENTIFIER of at least two arcs.
pub(super) fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = Vec::new();
    let first = arcs.iter().take(2).fold(0, |sum, arc| sum * 40 + arc);
    for arc in std::iter::once(first).chain(arcs.iter().skip(2).copied()) {
        let digits = (64 - arc.leading_zeros()).div_ceil(7).max(1);
        for i in (0..digits).rev() {
            let more = if i > 0 { 0x80 } else { 0 };
            content.push((arc >> (7 * i)) as u8 & 0x7f | more);
        }
    }
    tlv(OID, &content)
}

/// A PrintableString where the text is one, else a UTF8String, as Go chooses.
pub(super) fn text(text: &str) -> Vec<u8> {
    let printable = text.bytes().all(|b| b.is_ascii_alphanumeric() || b" '()+,-./:=?".contains(&b));
    tlv(if printable { PRINTABLE_STRING } else { UTF8_STRING }, text.as_bytes())
}
