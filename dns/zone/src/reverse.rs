//! Names of addresses: Services' virtual addresses and the endpoints of headless Services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::record::{Answer, Data, Record, RecordType, select};
use crate::zone::Zone;

/// Answers for names below `in-addr.arpa` and `ip6.arpa`; passes on any other.
pub(crate) fn lookup(zone: &Zone, name: &str, rtype: RecordType) -> Option<Answer> {
    let ip = match (name.strip_suffix(".in-addr.arpa"), name.strip_suffix(".ip6.arpa")) {
        (Some(labels), _) => v4(labels).map(IpAddr::V4),
        (_, Some(labels)) => v6(labels).map(IpAddr::V6),
        _ => return None,
    };
    let Some(ip) = ip else { return Some(Answer::NotOurs) };
    let Some(targets) = zone.reverse.get(&ip) else {
        let inside = zone.config.networks.iter().any(|(network, bits)| contains(*network, *bits, ip));
        return Some(if inside { Answer::NxDomain } else { Answer::NotOurs });
    };
    let record = |target: &std::sync::Arc<str>| Record { name: name.into(), data: Data::Ptr(target.to_string()) };
    Some(select(targets.iter().map(record).collect(), rtype, zone.config.ttl))
}

fn v4(labels: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = labels.split('.');
    for octet in octets.iter_mut().rev() {
        *octet = parts.next()?.parse().ok()?;
    }
    parts.next().is_none().then(|| octets.into())
}

fn v6(labels: &str) -> Option<Ipv6Addr> {
    let mut bits = 0u128;
    let mut parts = labels.split('.');
    for shift in 0..32 {
        let nibble = parts.next().filter(|p| p.len() == 1)?;
        bits |= u128::from(u8::from_str_radix(nibble, 16).ok()?) << (4 * shift);
    }
    parts.next().is_none().then(|| bits.into())
}

fn contains(network: IpAddr, bits: u8, ip: IpAddr) -> bool {
    match (network, ip) {
        (IpAddr::V4(n), IpAddr::V4(i)) => {
            let shift = 32u32.saturating_sub(bits.into());
            (u64::from(n.to_bits()) >> shift) == (u64::from(i.to_bits()) >> shift)
        }
        (IpAddr::V6(n), IpAddr::V6(i)) => {
            let shift = 128u32.saturating_sub(bits.into());
            n.to_bits().checked_shr(shift) == i.to_bits().checked_shr(shift)
        }
        _ => false,
    }
}
