//! Names with their records as they go out: made once when a Service changes, copied for each answer.

use std::net::IpAddr;
use std::sync::Arc;

use crate::question::LONGEST_NAME;
use crate::record::{Answer, Data, Record, RecordType, Records};
use crate::zone::Zone;

/// Sets that are longer are made when they are asked for: they are cut for most clients, and take room.
const LONGEST_SET: usize = 1152;
/// Where a message's question begins, as the name that a record points at.
const QUESTION: [u8; 2] = [0xC0, 0x0C];

/// The records of one name.
#[derive(Debug)]
pub(crate) struct Compiled {
    sets: Box<[Set]>,
    /// Another name answers for all types but CNAME.
    alias: bool,
}

/// The records of one type.
#[derive(Debug)]
pub(crate) struct Set {
    rtype: u16,
    /// Records in the answer section.
    pub answers: u16,
    /// Records in the additional section.
    pub additional: u16,
    /// The bytes of one answer, where all are alike and take turns; otherwise 0.
    pub each: usize,
    /// Answers and additional records in a message whose question is this name; without them they are made when they are
    /// asked for.
    pub bytes: Option<Box<[u8]>>,
}

/// What a name has of a type.
pub(crate) enum Had<'a> {
    Set(&'a Set, &'a [u8]),
    Nothing,
    /// To be looked up.
    Unknown,
}

impl Compiled {
    pub(crate) fn get(&self, rtype: u16) -> Had<'_> {
        match self.sets.iter().find(|s| s.rtype == rtype) {
            Some(set) => set.bytes.as_deref().map_or(Had::Unknown, |bytes| Had::Set(set, bytes)),
            None if self.alias => Had::Unknown,
            None => Had::Nothing,
        }
    }
}

/// The number of a type.
pub(crate) fn number(rtype: RecordType) -> u16 {
    match rtype {
        RecordType::A => 1,
        RecordType::Ns => 2,
        RecordType::Cname => 5,
        RecordType::Soa => 6,
        RecordType::Ptr => 12,
        RecordType::Txt => 16,
        RecordType::Aaaa => 28,
        RecordType::Srv => 33,
        RecordType::Any => 255,
        RecordType::Other(other) => other,
    }
}

/// `name` with the records that `zone` has of it, which are of no other types than these.
pub(crate) fn compile(zone: &Zone, name: &str, types: &[RecordType]) -> Option<(Arc<[u8]>, Arc<Compiled>)> {
    let wire = name_to_wire(name)?;
    if types.is_empty() && zone.lookup(name, RecordType::Any) != Answer::NoData {
        return None;
    }
    let (mut sets, mut alias) = (Vec::new(), false);
    for rtype in types {
        match zone.lookup(name, *rtype) {
            Answer::Records(records) => sets.push(set(*rtype, &wire, &records)),
            Answer::NoData => {}
            Answer::External(_) => alias = true,
            Answer::NxDomain | Answer::NotOurs => return None,
        }
    }
    Some((wire.into(), Arc::new(Compiled { sets: sets.into(), alias })))
}

fn set(rtype: RecordType, name: &[u8], records: &Records) -> Set {
    let each = match rtype {
        RecordType::A => 16,
        RecordType::Aaaa => 28,
        _ => 0,
    };
    let count = |records: &[Record]| u16::try_from(records.len()).unwrap_or(u16::MAX);
    // The serial number changes with every change of the zone.
    let bytes = (rtype != RecordType::Soa).then(|| encode(name, records)).flatten();
    Set {
        rtype: number(rtype),
        answers: count(&records.answers),
        additional: count(&records.additional),
        each,
        bytes: bytes.map(Vec::into_boxed_slice),
    }
}

/// Records as they follow a question of `name`; none if they are too long.
fn encode(name: &[u8], records: &Records) -> Option<Vec<u8>> {
    let start = crate::question::HEADER + name.len() + 4;
    let mut out = Vec::new();
    // Where targets are, for their addresses to point at.
    let mut targets: Vec<(&str, usize)> = Vec::new();
    for record in &records.answers {
        if let Data::Srv { target, .. } = &record.data {
            // Behind owner, type, class, TTL, length, priority, weight and port.
            targets.push((target, start + out.len() + 18));
        }
        emit(&mut out, &QUESTION, records.ttl, &record.data)?;
        if out.len() > LONGEST_SET {
            return None;
        }
    }
    for record in &records.additional {
        let at = targets.iter().find(|(target, _)| *target == record.name).map(|(_, at)| *at)?;
        let pointer = (0xC000 | u16::try_from(at).ok()?).to_be_bytes();
        emit(&mut out, &pointer, records.ttl, &record.data)?;
        if out.len() > LONGEST_SET {
            return None;
        }
    }
    Some(out)
}

fn emit(out: &mut Vec<u8>, owner: &[u8], ttl: u32, data: &Data) -> Option<()> {
    out.extend(owner);
    out.extend(number(data.record_type()).to_be_bytes());
    out.extend(1u16.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    let length = out.len();
    out.extend([0; 2]);
    match data {
        Data::A(ip) => out.extend(ip.octets()),
        Data::Aaaa(ip) => out.extend(ip.octets()),
        Data::Cname(target) | Data::Ns(target) | Data::Ptr(target) => out.extend(name_to_wire(target)?),
        Data::Txt(text) => {
            out.push(u8::try_from(text.len()).ok()?);
            out.extend(text.as_bytes());
        }
        Data::Srv { priority, weight, port, target } => {
            [priority, weight, port].iter().for_each(|n| out.extend(n.to_be_bytes()));
            // Not compressed (RFC 2782).
            out.extend(name_to_wire(target)?);
        }
        Data::Soa { .. } => return None,
    }
    let n = u16::try_from(out.len() - length - 2).ok()?;
    out[length..length + 2].copy_from_slice(&n.to_be_bytes());
    Some(())
}

/// An absolute name without its final dot, on the wire. Not every text is a name.
pub(crate) fn name_to_wire(name: &str) -> Option<Vec<u8>> {
    let mut wire = Vec::with_capacity(name.len() + 2);
    for label in name.split('.').filter(|_| !name.is_empty()) {
        if label.is_empty() || label.len() > 63 {
            return None;
        }
        wire.push(u8::try_from(label.len()).ok()?);
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    (wire.len() <= LONGEST_NAME).then_some(wire)
}

/// The name below `in-addr.arpa` or `ip6.arpa` that stands for an address.
pub(crate) fn reverse_name(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let bits = ip.to_bits();
            let nibbles: String = (0..32).map(|n| format!("{:x}.", (bits >> (4 * n)) & 15)).collect();
            format!("{nibbles}ip6.arpa")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_on_the_wire() {
        assert_eq!(name_to_wire("a.bc").unwrap(), b"\x01a\x02bc\x00");
        assert_eq!(name_to_wire("").unwrap(), b"\x00");
        let long = "x".repeat(64);
        let many = vec!["x".repeat(63); 4].join(".");
        for bad in [".", "a..b", "a.", &long, &many] {
            assert_eq!(name_to_wire(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_addresses() {
        assert_eq!(reverse_name([10, 96, 0, 7].into()), "7.0.96.10.in-addr.arpa");
        let v6 = reverse_name("fd00::8".parse().unwrap());
        assert!(v6.starts_with("8.0.0.") && v6.ends_with(".0.0.d.f.ip6.arpa"), "{v6}");
    }
}
