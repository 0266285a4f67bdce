//! The short way from a question to its answer: bytes to bytes, without a copy of the question or an allocation. It gives
//! the answers of [`Zone::lookup`], or none where they need more than copying.

use crate::compiled::{Had, Set};
use crate::question::{CD, Edns, HEADER, LONGEST_NAME, Question, RD, TYPE_OPT};
use crate::record::{SOA_EXPIRE, SOA_REFRESH, SOA_RETRY};
use crate::zone::Zone;

/// A response that is authoritative.
const QR_AA: u16 = 0x8400;
/// Recursion available.
const RA: u16 = 0x0080;
const NXDOMAIN: u16 = 3;
/// What UDP payloads may have without EDNS, in bytes (RFC 1035, 4.2.1).
pub const SMALLEST_UDP: usize = 512;
/// The largest UDP payload that is sure not to be fragmented on its way; we offer it and send no more.
pub const LARGEST_UDP: u16 = 1232;

/// How an answer may be.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    /// The longest message, in bytes. An answer never exceeds it.
    pub bytes: usize,
    /// Whether the client may ask for names outside the zone, which answers tell.
    pub recursion: bool,
}

/// How many bytes an answer over UDP may have.
pub fn udp_room(payload: Option<u16>) -> usize {
    payload.map_or(SMALLEST_UDP, |p| usize::from(p.min(LARGEST_UDP)).max(SMALLEST_UDP))
}

impl Zone {
    /// Writes the answer to `question` into `out`, which is emptied first; false if it takes the long way.
    pub fn answer(&self, question: &Question<'_>, room: Room, out: &mut Vec<u8>) -> bool {
        out.clear();
        // A domain that is no name has no short way.
        if self.wire_domain().len() <= 1 {
            return false;
        }
        let asked = question.name();
        let mut lower = [0; LONGEST_NAME];
        let name = &mut lower[..asked.len()];
        name.copy_from_slice(asked);
        // Lengths of labels are below the letters.
        name.make_ascii_lowercase();
        let name = &*name;
        let (set, code) = match self.compiled(name) {
            Some(compiled) => match compiled.get(question.rtype) {
                Had::Set(set, bytes) => (Some((set, bytes)), 0),
                Had::Nothing => (None, 0),
                Had::Unknown => return false,
            },
            None => match self.exists(name) {
                Some(true) => (None, 0),
                Some(false) => (None, NXDOMAIN),
                None => return false,
            },
        };
        let recursion = if room.recursion { RA } else { 0 };
        let flags = QR_AA | (question.flags & (RD | CD)) | recursion | code;
        let (answers, additional) = set.map_or((0, 0), |(s, _)| (s.answers, s.additional));
        let edns = u16::from(question.edns.is_some());
        for n in [question.id, flags, 1, answers, u16::from(set.is_none()), additional + edns] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        out.extend_from_slice(question.section);
        match set {
            Some((set, bytes)) => emit(set, bytes, question.id, out),
            None => self.deny(name, out),
        }
        if let Some(edns) = question.edns {
            opt(edns, out);
        }
        out.len() <= room.bytes
    }

    /// Whether a name that has no records exists, as far as that is known from the name.
    fn exists(&self, name: &[u8]) -> Option<bool> {
        let end = self.below_domain(name)?;
        let below = &name[..end];
        // The last two labels say what kind of a name it is.
        let (mut at, mut labels, mut first, mut last) = (0, 0, &below[..0], &below[..0]);
        while at < below.len() {
            let length = usize::from(below[at]);
            let label = below.get(at + 1..at + 1 + length)?;
            if labels == 0 {
                first = label;
            }
            (last, labels, at) = (label, labels + 1, at + 1 + length);
        }
        match (last, labels) {
            // Any address is a name there.
            (b"pod", _) => None,
            (b"svc", 2) => std::str::from_utf8(first).ok().map(|namespace| self.has_namespace(namespace)),
            _ => Some(false),
        }
    }

    /// Where in a name, in lower case, the zone's domain begins.
    fn below_domain(&self, name: &[u8]) -> Option<usize> {
        let domain = self.wire_domain();
        let at = name.len().checked_sub(domain.len()).filter(|at| name[*at..] == *domain)?;
        // At the border of a label, not inside one.
        let mut label = 0;
        while label < at {
            label += 1 + usize::from(name[label]);
        }
        (label == at).then_some(at)
    }

    /// The SOA record that goes with a negative answer.
    fn deny(&self, name: &[u8], out: &mut Vec<u8>) {
        let pointer = |at: usize| (0xC000 | (at & 0x3FFF) as u16).to_be_bytes();
        let domain = match self.below_domain(name) {
            Some(at) => {
                let domain = pointer(HEADER + at);
                out.extend_from_slice(&domain);
                domain
            }
            None => {
                let domain = pointer(out.len());
                out.extend_from_slice(self.wire_domain());
                domain
            }
        };
        out.extend_from_slice(&[0, 6, 0, 1]);
        out.extend_from_slice(&self.ttl().to_be_bytes());
        let length = out.len();
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(b"\x02ns\x03dns");
        out.extend_from_slice(&domain);
        out.extend_from_slice(b"\x0Ahostmaster");
        out.extend_from_slice(&domain);
        for n in [self.serial, SOA_REFRESH, SOA_RETRY, SOA_EXPIRE, self.ttl()] {
            out.extend_from_slice(&n.to_be_bytes());
        }
        let n = (out.len() - length - 2) as u16;
        out[length..length + 2].copy_from_slice(&n.to_be_bytes());
    }
}

/// The set's records; addresses take turns by the number of the question.
fn emit(set: &Set, bytes: &[u8], turn: u16, out: &mut Vec<u8>) {
    let first = turn.checked_rem(set.answers).map_or(0, |n| usize::from(n) * set.each);
    out.extend_from_slice(&bytes[first..]);
    out.extend_from_slice(&bytes[..first]);
}

fn opt(edns: Edns, out: &mut Vec<u8>) {
    out.push(0);
    for n in [TYPE_OPT, LARGEST_UDP, 0, if edns.dnssec_ok { 0x8000 } else { 0 }, 0] {
        out.extend_from_slice(&n.to_be_bytes());
    }
}

#[cfg(test)]
mod tests;
